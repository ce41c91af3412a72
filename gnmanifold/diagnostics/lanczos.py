"""Eigenvalues of symmetric matrices that are known by their products alone, by Lanczos' method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from gnmanifold.errors import ArgumentError
from gnmanifold.optimizers.hessian_free import conjugate_gradients

Product = Callable[[np.ndarray], np.ndarray]

EPS = float(np.finfo(np.float64).eps)
_BASIS = 40  # vectors that a restarted Lanczos run keeps at least
_RESTARTS = 30
_RITZ = 80  # steps of the plain Lanczos run where the restarted one does not converge
_CONVERGED = 1e-8
_SOLVED = 1e-15  # relative residual of a solve with the metric
_SOLVING = 20000  # steps of it at most
_UNSOLVED = 1e-6  # relative residual that is no solution


class Inertia(NamedTuple):
    """Numbers of negative, zero and positive eigenvalues."""

    negative: int
    zero: int
    positive: int


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Eigenvalues of a symmetric matrix of `size` p, all of them or the extreme ones, increasing.

    Each of `values` (k,) has an eigenvalue within `errors` (k,) of it: the rounding of a dense
    computation, or the norm of the residual of a Lanczos estimate, with what differences of a
    model's derivatives lose. An eigenvalue smaller than its error counts as zero.
    """

    values: Float[np.ndarray, " k"]
    errors: Float[np.ndarray, " k"]
    size: int

    @property
    def complete(self) -> bool:
        """Whether all p eigenvalues are there."""
        return len(self.values) == self.size

    @property
    def smallest(self) -> float:
        """Smallest eigenvalue."""
        return float(self.values[0])

    @property
    def largest(self) -> float:
        """Largest eigenvalue."""
        return float(self.values[-1])

    @property
    def signs(self) -> Inertia:
        """Inertia of the eigenvalues that are there."""
        negative, positive = self.values < -self.errors, self.values > self.errors
        zero = ~(negative | positive)
        return Inertia(int(negative.sum()), int(zero.sum()), int(positive.sum()))

    @property
    def inertia(self) -> Inertia | None:
        """Inertia of the matrix; None unless all eigenvalues are there."""
        return self.signs if self.complete else None

    @property
    def condition(self) -> float:
        """Ratio max|λ| / min|λ|, infinite for a singular matrix.

        NaN where the smallest in size is not known: of an indefinite matrix by its extremes.
        """
        signs, sizes = self.signs, np.abs(self.values)
        if signs.zero:
            return np.inf
        if not self.complete and signs.negative and signs.positive:
            return np.nan
        return float(sizes.max() / sizes.min())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: the extreme eigenvalues, not all of them."""
        return {
            "smallest": self.smallest,
            "largest": self.largest,
            "largest_error": float(self.errors.max()),
            "condition": self.condition,
            "inertia": None if self.inertia is None else list(self.inertia),
            "size": self.size,
            "computed": len(self.values),
        }


class GivenMetric(NamedTuple):
    """A positive definite matrix G by its product a -> G a and its solution c -> G⁻¹c."""

    lower: Product
    solve: Product


def metric_of(lower: Product) -> GivenMetric:
    """Metric known by its products, solved with by conjugate gradients, refined once.

    Solving raises ArgumentError where 10 p + 100 steps, or 20 000, do not reach a residual of 1e-6.
    """

    def solve(c: np.ndarray) -> np.ndarray:
        first = _conjugate(lower, c)
        return first + _conjugate(lower, c - lower(first), float(np.linalg.norm(c)))

    return GivenMetric(lower, solve)


def _conjugate(lower: Product, c: np.ndarray, wanted: float | None = None) -> np.ndarray:
    """Solution of G x = c by conjugate gradients, to a residual relative to `wanted`, |c| first."""
    x, left = np.zeros_like(c), float(np.linalg.norm(c))
    wanted = left if wanted is None else wanted
    if left <= _SOLVED * wanted:
        return x
    for iterate in conjugate_gradients(lower, c, x):
        x, left = iterate.x, float(np.linalg.norm(iterate.residual))
        if left <= _SOLVED * wanted or iterate.number >= min(10 * len(c) + 100, _SOLVING):
            break
    if left > _UNSOLVED * wanted:
        raise ArgumentError(
            "conjugate gradients do not solve with this metric, which is singular or nearly: "
            f"relative residual {left / wanted:.1e} after {iterate.number} steps; damp it"
        )
    return x


def dense_matrix(product: Product, size: int) -> Float[np.ndarray, "p p"]:
    """Symmetric matrix of a product, column by column."""
    matrix = np.column_stack([product(unit) for unit in np.eye(size)])
    return 0.5 * (matrix + matrix.T)


def dense_eigenvalues(
    matrix: np.ndarray, accuracy: float, size: float | None = None
) -> Eigenvalues:
    """All eigenvalues of a matrix with entries of that relative accuracy, and their errors.

    The errors are (p eps + accuracy) times `size`, the norm of what it is the sum of: its own
    without that.
    """
    values = np.linalg.eigvalsh(matrix)
    size = float(np.max(np.abs(values))) if size is None else size
    error = (len(values) * EPS + accuracy) * size
    return Eigenvalues(values, np.full(len(values), error), len(values))


def extreme_eigenvalues(
    product: Product,
    size: int,
    k: int,
    rng: np.random.Generator,
    *,
    metric: GivenMetric | None = None,
    accuracy: float = 0.0,
    ends: tuple[str, ...] = ("SA", "LA"),
) -> Eigenvalues:
    """The k smallest and k largest eigenvalues, relative to a metric where that is given.

    For M x = λ G x with xᵀG x = 1 the error is |M x - λ G x| in the norm of G⁻¹ and `accuracy`
    times the largest. Implicitly restarted Lanczos, p x max(4k, 40) numbers; where that does not
    converge, plain Lanczos, whose estimates have larger errors. That no eigenvalue was missed is
    likely and not proved.
    Raises ArgumentError for k not below p/2.
    B. N. Parlett, The Symmetric Eigenvalue Problem, ch. 4, 13; ARPACK Users' Guide, 1998.
    """
    if not 0 < 2 * k < size:
        raise ArgumentError(f"k must lie between 1 and p/2 = {size / 2:g}, got {k}")
    start = rng.standard_normal(size)
    found = [_one_end(product, start, k, end, metric) for end in ends]
    values, errors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(values)
    largest = float(np.max(np.abs(values)))
    return Eigenvalues(values[order], errors[order] + (accuracy + 4 * EPS) * largest, size)


def _one_end(
    product: Product, start: np.ndarray, k: int, end: str, metric: GivenMetric | None
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues at one end of the spectrum and their errors."""
    size = len(start)
    if not product(start).any():  # of which ARPACK cannot make a start
        return np.zeros(k), np.zeros(k)
    given = {} if metric is None else {"M": _operator(metric.lower, size)}
    if metric is not None:
        given["Minv"] = _operator(metric.solve, size)
    try:
        values, vectors = eigsh(
            _operator(product, size), k=k, which=end, v0=start, ncv=min(size, max(4 * k, _BASIS)),
            maxiter=_RESTARTS, tol=_CONVERGED, **given,
        )  # fmt: skip
    except ArpackError:  # no convergence, or a breakdown
        return _ritz(product, start, k, end, metric)
    return values, np.array(
        [_residual(product, metric, *pair) for pair in zip(values, vectors.T, strict=True)]
    )


def _residual(product: Product, metric: GivenMetric | None, value: float, x: np.ndarray) -> float:
    if metric is None:
        return float(np.linalg.norm(product(x) - value * x))
    r = product(x) - value * metric.lower(x)
    return float(np.sqrt(max(float(r @ metric.solve(r)), 0.0)))


def _operator(product: Product, size: int) -> LinearOperator:
    return LinearOperator((size, size), matvec=lambda a: product(a.ravel()), dtype=np.float64)


def _ritz(
    product: Product, start: np.ndarray, k: int, end: str, metric: GivenMetric | None
) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values at one end, with the norms β|s| of their residuals."""
    alpha, beta, last = lanczos(product, start, min(_RITZ, len(start)), metric)
    values, vectors = eigh_tridiagonal(alpha, beta)
    chosen = slice(0, k) if end == "SA" else slice(max(len(values) - k, 0), len(values))
    return values[chosen], last * np.abs(vectors[-1, chosen])


def lanczos(
    product: Product, start: np.ndarray, steps: int, metric: GivenMetric | None = None
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " k"], float]:
    """Diagonal (m,) and off-diagonal (m-1,) of Lanczos' tridiagonal matrix, and the next β.

    With full reorthogonalisation, which keeps m x p numbers, twice that in a metric. It ends before
    `steps` where the space is invariant, with β = 0.
    Golub and Van Loan, Matrix Computations, section 10.3.
    """
    basis = np.empty((steps, len(start)))
    dual = basis if metric is None else np.empty_like(basis)  # G times the basis
    alpha, beta = np.empty(steps), np.zeros(steps)
    image, size = start, _length(start, metric)
    for j in range(steps):
        basis[j] = image / size
        if metric is not None:
            dual[j] = metric.lower(basis[j])
        covector = product(basis[j])
        alpha[j] = basis[j] @ covector
        image = covector if metric is None else metric.solve(covector)
        for _ in range(2):  # twice is enough
            image = image - basis[: j + 1].T @ (dual[: j + 1] @ image)
        beta[j] = size = _length(image, metric)
        scale = float(np.max(np.abs(alpha[: j + 1])) + np.max(beta[: j + 1]))
        if beta[j] <= 100 * EPS * scale:
            return alpha[: j + 1], beta[:j], 0.0
    return alpha, beta[:-1], float(beta[-1])


def _length(a: np.ndarray, metric: GivenMetric | None) -> float:
    if metric is None:
        return float(np.linalg.norm(a))
    return float(np.sqrt(max(float(a @ metric.lower(a)), 0.0)))
