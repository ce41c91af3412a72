"""The interface of a loss, a convex function of the predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.validation import as_matrix, as_vector


class Loss(ABC):
    """A convex function g: R^n -> R of the predictions ψ, with ν I <= ∇²g <= μ I.

    `nu` and `mu` are those constants over all of R^n, and `isotropic` is c where ∇²g = c I
    everywhere, else None.
    """

    num_outputs: int
    nu: float = 0.0
    mu: float = np.inf
    isotropic: float | None = None

    @abstractmethod
    def value(self, psi: ArrayLike) -> np.float64:
        """Value g(ψ)."""

    @abstractmethod
    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        """Gradient ∇g(ψ), shape (n,)."""

    @abstractmethod
    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        """Product ∇²g(ψ) u, shape (n,)."""

    @abstractmethod
    def third_product(
        self, psi: ArrayLike, u: ArrayLike, v: ArrayLike
    ) -> Float[np.ndarray, " n *k"]:
        """Third derivative ∂³g(ψ)[u, v, ·], for v of shape (n,) or for the columns of (n, k)."""

    def hessian_root(self, psi: ArrayLike, columns: np.ndarray) -> np.ndarray:
        """Product S C of a root S of the Hessian, SᵀS = ∇²g(ψ), with columns C (n,) or (n, k)."""
        return self._root(self._vector("psi", psi), columns, 0.0)

    def hessian_root_transpose(self, psi: ArrayLike, r: np.ndarray) -> Float[np.ndarray, " n"]:
        """Product Sᵀr with the transpose of the root of `hessian_root`."""
        return self._transpose(self._vector("psi", psi), r, 0.0)

    def root_residual(self, psi: ArrayLike) -> np.ndarray:
        """Vector r with Sᵀ r = ∇g(ψ), so that Gauss-Newton minimises |S J a + r| over a."""
        psi = self._vector("psi", psi)
        return self._residual(psi, self.gradient(psi), 0.0)

    def hessian_solve(self, psi: ArrayLike, x: ArrayLike) -> Float[np.ndarray, " n *k"]:
        """Solution u of ∇²g(ψ) u = x, one of several where the Hessian is singular.

        For x of shape (n,) or for the columns of (n, k).
        """
        return self._solve(self._vector("psi", psi), self._columns("x", x), 0.0)

    @property
    def information(self) -> Loss:
        """Loss whose Hessian is the Fisher information of ψ under the likelihood e^-g.

        The loss itself for an exponential family in its natural parameters.
        Raises ArgumentError for a loss that is no likelihood.
        """
        return self

    @property
    def reach(self) -> float:
        """Distance |∇g(0)|/μ (μ = 1 where unbounded) that predictions have to travel from zero."""
        slope = float(np.linalg.norm(self.gradient(np.zeros(self.num_outputs))))
        return slope / self.mu if np.isfinite(self.mu) else slope

    @abstractmethod
    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        """Product with a root of ∇²g(ψ) + shift I."""

    @abstractmethod
    def _transpose(self, psi: np.ndarray, r: np.ndarray, shift: float) -> np.ndarray:
        """Product with the transpose of the root of `_root`."""

    @abstractmethod
    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        """Vector that the transpose of the root of `_root` maps to `gradient`."""

    @abstractmethod
    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        """Solution with ∇²g(ψ) + shift I."""

    def _columns(self, name: str, value: ArrayLike) -> np.ndarray:
        if np.ndim(value) != 2:
            return self._vector(name, value)
        return as_matrix(name, value, (self.num_outputs, np.shape(value)[1]), finite=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.num_outputs})"

    def _vector(self, name: str, value: ArrayLike) -> np.ndarray:
        return as_vector(name, value, self.num_outputs, finite=False)


def divide(x: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Rows of x over the curvatures, zero where those underflowed: nothing to solve for there."""
    return np.divide(x, curvature, out=np.zeros_like(x), where=curvature > 0)


def bounded(
    name: str, targets: np.ndarray, low: float, high: float, remedy: str = ""
) -> np.ndarray:
    """Return targets that all lie in [low, high], or raise an ArgumentError naming the first."""
    outside = np.flatnonzero((targets < low) | (targets > high))
    if outside.size:
        index = int(outside[0])
        raise ArgumentError(
            f"{name} must lie in [{low:g}, {high:g}], but {name}[{index}] is {targets[index]:g}"
            f"{remedy}"
        )
    return targets
