"""Least squares with a square root B of a metric G = BᵀB, factored once and solved often.

The root is B = [M; diag(d)] with M (m, p) and an optional diagonal d (p,). Its factor offers four
operations, each numerically right in one place:

    lstsq(u)    B⁺u                    project(x)  B B⁺ x
    lift(c)     B (BᵀB)⁻¹ c            solve(c)    (BᵀB)⁻¹ c

Each takes a vector or the columns of a matrix. A root that is not taller than wide is handled
through its transpose, in m x m arithmetic.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh, lapack, svd, svdvals
from scipy.linalg.blas import dsyrk

from gnmanifold.errors import NonFiniteError, RankDeficientError
from gnmanifold.validation import first_nonfinite

_EPS = float(np.finfo(np.float64).eps)
# One refinement step squares the relative error cond² eps of a Cholesky solve; below this
# condition the square is under cond eps, which is what QR achieves.
_CHOLESKY_CONDITION = 1e5
_GRAM_ACCURATE = 1e-9  # eigenvalue, in units of the trace, that still has half of its digits


@dataclass(frozen=True, eq=False)
class Root:
    """The square root B = [M; diag(d)] of a metric, d None where there is no diagonal."""

    matrix: Float[np.ndarray, "m p"]
    diagonal: Float[np.ndarray, " p"] | None = None

    def dense(self) -> np.ndarray:
        """B as one array."""
        if self.diagonal is None:
            return self.matrix
        return np.vstack([self.matrix, np.diag(self.diagonal)])

    def matvec(self, a: np.ndarray) -> np.ndarray:
        """Product B a."""
        top = self.matrix @ a
        return top if self.diagonal is None else np.concatenate([top, _rows(self.diagonal, a)])

    def rmatvec(self, u: np.ndarray) -> np.ndarray:
        """Product Bᵀu; a u of length m stands for [u; 0]."""
        rows = len(self.matrix)
        result = self.matrix.T @ u[:rows]
        if self.diagonal is not None and len(u) > rows:
            result += _rows(self.diagonal, u[rows:])
        return result


class Factor(ABC):
    """Least squares with a factored root; the seam where another solver fits in.

    `rank` is the numerical rank, judged after scaling the columns to unit length (the rows where
    the root is wide); `lstsq` gives the minimum-norm solution where that is not full.
    """

    rank: int
    full_rank: int
    zero_columns: np.ndarray = np.empty(0, dtype=int)

    @property
    @abstractmethod
    def singular_values(self) -> Float[np.ndarray, " r"]:
        """Singular values of the scaled root, decreasing."""

    @abstractmethod
    def lstsq(self, u: np.ndarray) -> np.ndarray:
        """Least-squares solution B⁺u (p,); a u of length m stands for [u; 0]."""

    @abstractmethod
    def lift(self, c: np.ndarray) -> np.ndarray:
        """Minimum-norm solution B (BᵀB)⁻¹ c of Bᵀx = c."""

    @abstractmethod
    def solve(self, c: np.ndarray) -> np.ndarray:
        """Solution (BᵀB)⁻¹ c (p,)."""

    @abstractmethod
    def project(self, x: np.ndarray) -> np.ndarray:
        """Orthogonal projection B B⁺ x onto the range of the root."""

    @property
    def condition(self) -> float:
        """Ratio of the largest to the smallest singular value of the scaled root."""
        values = self.singular_values
        return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")

    def require_full_rank(self, remedy: str) -> "Factor":
        """Return self, or raise a RankDeficientError that ends with `remedy`."""
        if self.rank < self.full_rank:
            smallest = self.singular_values[-min(3, self.full_rank) :]
            if len(self.zero_columns):
                listed = ", ".join(str(int(i)) for i in self.zero_columns[:5])
                remedy = f"no output depends on parameter {listed}; {remedy}"
            raise RankDeficientError(self.rank, self.full_rank, smallest, remedy)
        return self


def factorize(root: Root) -> Factor:
    """Factor a root: Cholesky with refinement where well conditioned, else QR, else an SVD.

    Cholesky is used when the 1-norm condition estimate of the column-scaled triangular factor is
    at most 1e5; a Cholesky factorization that merely succeeds proves nothing, it does at 1e12 too.
    Numerically rank-deficient roots get a truncated singular value decomposition.
    Raises NonFiniteError when the root has a NaN or infinity.
    """
    index = first_nonfinite(root.matrix)
    if index is not None:
        row, column = np.unravel_index(index, root.matrix.shape)
        raise NonFiniteError(
            f"the Jacobian is not finite: derivative of output {row} by parameter {column}"
        )
    rows, columns = root.matrix.shape
    if rows < columns:
        if root.diagonal is None:
            return _TransposedFactor(root)
        if np.all(root.diagonal > 0):
            return _KernelFactor(root)
    return _cholesky(root) or _orthogonal(root)


class _CholeskyFactor(Factor):
    """Cholesky of the column-scaled Gram matrix, every solve refined once with the root."""

    def __init__(self, root: Root, triangle: np.ndarray, scale: np.ndarray) -> None:
        self._root, self._triangle, self._scale = root, triangle, scale
        self.rank = self.full_rank = len(scale)

    @cached_property
    def singular_values(self) -> Float[np.ndarray, " r"]:
        return svdvals(np.triu(self._triangle), check_finite=False)

    def lstsq(self, u: np.ndarray) -> np.ndarray:
        root = self._root
        a = self._gram(root.rmatvec(u))
        image = root.matvec(a)
        residual = -image
        residual[: len(u)] += u
        return a + self._gram(root.rmatvec(residual))

    def lift(self, c: np.ndarray) -> np.ndarray:
        root = self._root
        x = root.matvec(self._gram(c))
        return x + root.matvec(self._gram(c - root.rmatvec(x)))

    def solve(self, c: np.ndarray) -> np.ndarray:
        a = self._gram(c)
        return a + self._gram(c - self._root.rmatvec(self._root.matvec(a)))

    def project(self, x: np.ndarray) -> np.ndarray:
        return self._root.matvec(self.lstsq(x))

    def _gram(self, c: np.ndarray) -> np.ndarray:
        solution, _ = lapack.dpotrs(self._triangle, _rows(1 / self._scale, c))
        return _rows(1 / self._scale, solution)


class _QRFactor(Factor):
    """Householder QR of the root."""

    def __init__(self, reflectors: np.ndarray, tau: np.ndarray) -> None:
        self._reflectors, self._tau = reflectors, tau
        self._length, self.full_rank = reflectors.shape
        self._triangle = np.asfortranarray(np.triu(reflectors[: self.full_rank]))
        self.scale = column_norms(self._triangle)
        self.rank = _rank(self._triangle / self.scale, max(reflectors.shape))

    @cached_property
    def singular_values(self) -> Float[np.ndarray, " r"]:
        return svdvals(self._triangle / self.scale, check_finite=False)

    def lstsq(self, u: np.ndarray) -> np.ndarray:
        return self._back(self._rotate(u, "T")[: self.full_rank], 0)

    def lift(self, c: np.ndarray) -> np.ndarray:
        return self._rotate(self._back(c, 1), "N")

    def solve(self, c: np.ndarray) -> np.ndarray:
        return self._back(self._back(c, 1), 0)

    def project(self, x: np.ndarray) -> np.ndarray:
        return self._rotate(self._rotate(x, "T")[: self.full_rank], "N")

    def _back(self, c: np.ndarray, transposed: int) -> np.ndarray:
        solution, _ = lapack.dtrtrs(self._triangle, c, trans=transposed)
        return np.asarray(solution)

    def _rotate(self, vector: np.ndarray, transposed: str) -> np.ndarray:
        columns = vector.reshape(len(vector), -1)
        padded = np.zeros((self._length, columns.shape[1]), order="F")
        padded[: len(columns)] = columns
        lwork = 32 * columns.shape[1]  # a block for each column
        rotated, _, _ = lapack.dormqr(
            "L", transposed, self._reflectors, self._tau, padded, lwork, overwrite_c=1
        )
        return np.asarray(rotated).reshape(self._length, *vector.shape[1:])


class _TruncatedFactor(Factor):
    """A rank-deficient root B = U C, from the singular values of the column-scaled root.

    U (m, r) spans the range that is above rounding once the columns have unit length; T = C⁺
    (p, r) gives the minimum-norm solution. Where the columns differ so much in length that C has
    lost it (condition above 1e8), T gives the solution of minimum norm in the scaled parameters.
    """

    def __init__(self, root: Root, rank: int) -> None:
        matrix = root.dense()
        scale = column_norms(matrix)
        U, s, Vt = svd(matrix / scale, full_matrices=False, check_finite=False)
        self.rank, self.full_rank = rank, min(matrix.shape)
        self.zero_columns = np.flatnonzero(~matrix.any(axis=0))
        self._values = s
        self._U = U[:, :rank]
        V, s = Vt[:rank].T, s[:rank]
        C = (s[:, None] * V.T) * scale
        values = svdvals(C, check_finite=False) if rank else np.ones(1)
        lost = values[-1] < 1e-8 * values[0]
        self._T = (V / s) / scale[:, None] if lost else np.linalg.pinv(C, rcond=0.0)

    @property
    def singular_values(self) -> Float[np.ndarray, " r"]:
        return self._values

    def lstsq(self, u: np.ndarray) -> np.ndarray:
        return self._T @ (self._U[: len(u)].T @ u)

    def lift(self, c: np.ndarray) -> np.ndarray:
        return self._U @ (self._T.T @ c)

    def solve(self, c: np.ndarray) -> np.ndarray:
        return self._T @ (self._T.T @ c)

    def project(self, x: np.ndarray) -> np.ndarray:
        return self._U @ (self._U.T @ x)


class _TransposedFactor(Factor):
    """Minimum-norm solutions with a wide root, from the factor of its transpose."""

    def __init__(self, root: Root) -> None:
        self._root, self._tall = root, factorize(Root(root.matrix.T))
        self.rank, self.full_rank = self._tall.rank, self._tall.full_rank

    @property
    def singular_values(self) -> Float[np.ndarray, " r"]:
        return self._tall.singular_values

    def lstsq(self, u: np.ndarray) -> np.ndarray:
        return self._tall.lift(u)

    def lift(self, c: np.ndarray) -> np.ndarray:
        return self._tall.lstsq(c)

    def solve(self, c: np.ndarray) -> np.ndarray:
        return self._tall.lift(self._tall.lstsq(c))

    def project(self, x: np.ndarray) -> np.ndarray:
        return x.copy() if self.rank == self.full_rank else self._root.matvec(self.lstsq(x))


class _KernelFactor(Factor):
    """A damped wide root in m x m arithmetic, never p x p.

    With N = M diag(d)⁻¹ the kernel I + N Nᵀ is the Gram matrix of the tall root [Nᵀ; I], whose
    factor gives everything: the damped solution is diag(d)⁻¹ Nᵀ (I + N Nᵀ)⁻¹ u.
    """

    def __init__(self, root: Root) -> None:
        assert root.diagonal is not None
        rows, self._parameters = root.matrix.shape
        self._root, self._diagonal = root, root.diagonal
        with np.errstate(over="ignore"):
            self._scaled = root.matrix / self._diagonal
        self._tall = factorize(Root(self._scaled.T, np.ones(rows)))
        self.full_rank = self._parameters
        tolerance = max(self._scaled.shape) * _EPS
        # Damping below rounding is none: then the root is deficient as a tall one would be.
        damped = np.linalg.norm(self._scaled) * tolerance < 1
        values = None if damped else self.singular_values
        self.rank = (
            self.full_rank if values is None else int(np.sum(values > tolerance * values[0]))
        )

    @cached_property
    def singular_values(self) -> Float[np.ndarray, " r"]:
        """Singular values of [N; I], ones where the parameters outnumber the outputs."""
        values = np.hypot(1.0, svdvals(self._scaled, check_finite=False))
        return np.concatenate([values, np.ones(self._parameters - len(values))])

    def lstsq(self, u: np.ndarray) -> np.ndarray:
        rows = len(self._root.matrix)
        a = _rows(1 / self._diagonal, self._tall.lift(u[:rows])[: self._parameters])
        return a if len(u) == rows else a + self.solve(_rows(self._diagonal, u[rows:]))

    def lift(self, c: np.ndarray) -> np.ndarray:
        return self._root.matvec(self.solve(c))

    def solve(self, c: np.ndarray) -> np.ndarray:
        scaled = _rows(1 / self._diagonal, c)
        removed = self._tall.project(scaled)[: self._parameters]
        return _rows(1 / self._diagonal, scaled - removed)

    def project(self, x: np.ndarray) -> np.ndarray:
        return self._root.matvec(self.lstsq(x))


def smallest_singular_value(matrix: Float[np.ndarray, "m p"]) -> float:
    """Last of the min(m, p) singular values; raises NonFiniteError."""
    with np.errstate(over="ignore", invalid="ignore"):
        gram = dsyrk(1.0, matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    if first_nonfinite(gram) is not None:  # or its squares are not
        if first_nonfinite(matrix) is not None:
            raise NonFiniteError("a Jacobian whose singular values were asked for is not finite")
        return float(svdvals(matrix, check_finite=False)[-1])
    smallest = eigvalsh(gram, lower=False, subset_by_index=(0, 0), check_finite=False)[0]
    # the Gram matrix knows squares to eps of the largest: below that ask the matrix itself
    if smallest > _GRAM_ACCURATE * np.trace(gram):
        return float(np.sqrt(smallest))
    return float(svdvals(matrix, check_finite=False)[-1])


def _rows(factors: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Vector, or each column of a matrix, with its entries multiplied by `factors`."""
    return (factors * columns.T).T


def _cholesky(root: Root) -> Factor | None:
    """Cholesky factor if the column-scaled condition estimate allows it, else None."""
    # dsyrk wants Fortran order; the transpose of a C-ordered M is that without a copy.
    with np.errstate(over="ignore"):
        gram = dsyrk(1.0, root.matrix.T)
        if root.diagonal is not None:
            gram[np.diag_indices_from(gram)] += root.diagonal**2
    squares = np.diag(gram).copy()
    if not np.all((squares > 1e-280) & (squares < 1e280)):
        return None
    scale = np.sqrt(squares)
    gram /= scale
    gram /= scale[:, None]
    triangle, failed = lapack.dpotrf(gram, overwrite_a=1, clean=0)
    if failed:
        return None
    reciprocal, _ = lapack.dtrcon(triangle)
    if reciprocal * _CHOLESKY_CONDITION < 1:
        return None
    return _CholeskyFactor(root, triangle, scale)


def _orthogonal(root: Root) -> Factor:
    """QR factor, or the truncated SVD where the root is rank deficient."""
    reflectors, tau, _, _ = lapack.dgeqrf(root.dense(), lwork=64 * root.matrix.shape[1])
    factor = _QRFactor(reflectors, tau)
    if factor.rank == factor.full_rank:
        return factor
    return _TruncatedFactor(root, factor.rank)


def _rank(triangle: np.ndarray, size: int) -> int:
    """Numerical rank of a column-scaled triangle with tolerance size · eps."""
    reciprocal, _ = lapack.dtrcon(np.asfortranarray(triangle))
    # The estimate of the 1-norm condition is within 10 of it, and that within p of the 2-norm's.
    if reciprocal > 10 * len(triangle) * size * _EPS:
        return len(triangle)
    values = svdvals(triangle, check_finite=False)
    return int(np.sum(values > size * _EPS * values[0]))


def column_norms(matrix: np.ndarray) -> np.ndarray:
    """Lengths of the columns, however large or small; one where a column is zero."""
    largest = np.max(np.abs(matrix), axis=0)
    safe = np.where(largest > 0, largest, 1.0)
    norms = safe * np.linalg.norm(matrix / safe, axis=0)
    return np.where(largest > 0, norms, 1.0)
