"""The Hessian of a cost as a metric of the parameters, where it is positive definite."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh, lapack

from gnmanifold.errors import IndefiniteError, NonFiniteError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import check_loss
from gnmanifold.models import Model
from gnmanifold.validation import first_nonfinite


@dataclass(frozen=True)
class HessianMetric(Metric):
    """The metric G = ∇²(g∘f) = Jᵀ∇²g J + Σ_i ∇g_i ∇²f_i of a loss g: its gradient flow is Newton's.

    It serves descent and flows only, on p x p matrices, where it is positive definite.
    Raises ArgumentError for what is no loss; at a point where it is not definite, IndefiniteError.
    N. Boumal, When the Hessian is a proxy for its Gauss-Newton approximation, 2026.
    """

    loss: Loss

    def __post_init__(self) -> None:
        check_loss(self.loss)

    @property
    def immersed(self) -> bool:
        return False

    def check(self, model: Model) -> None:
        check_loss(self.loss, model)

    def at(self, lin: Linearization) -> LocalMetric:
        return HessianTensor(lin, self.loss)


@dataclass(frozen=True, eq=False)
class HessianTensor(LocalMetric):
    """The Hessian of g∘f at a point, factored by Cholesky when first solved with."""

    lin: Linearization
    loss: Loss

    @cached_property
    def matrix(self) -> Float[np.ndarray, "p p"]:
        """Hessian of the cost."""
        lin = self.lin
        with np.errstate(all="ignore"):
            root = self.loss.hessian_root(lin.psi, lin.jacobian)
            matrix = root.T @ root
        if first_nonfinite(matrix) is not None:
            raise NonFiniteError(
                "the Hessian of the cost is not finite at these parameters: start elsewhere"
            )
        return matrix + lin.hessian_matrix(self.loss.gradient(lin.psi))

    @cached_property
    def _scale(self) -> Float[np.ndarray, " p"]:
        """Square roots of the diagonal, the units of the parameters."""
        diagonal = np.diag(self.matrix)
        if not np.all(diagonal > 0):
            raise IndefiniteError(float(np.min(diagonal)), "an entry of its diagonal")
        return np.sqrt(diagonal)

    @cached_property
    def _triangle(self) -> Float[np.ndarray, "p p"]:
        """Cholesky factor of the Hessian scaled to a unit diagonal."""
        self.lin.counts.factorizations += 1
        scaled = self.matrix / np.outer(self._scale, self._scale)
        triangle, failed = lapack.dpotrf(scaled, lower=1)
        reciprocal = (
            0.0 if failed else lapack.dpocon(triangle, np.linalg.norm(scaled, 1), uplo="L")[0]
        )
        if reciprocal <= len(scaled) * np.finfo(float).eps:
            smallest = float(eigvalsh(scaled, subset_by_index=(0, 0))[0])
            raise IndefiniteError(smallest, "its smallest eigenvalue, with a unit diagonal,")
        return triangle

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        self._triangle  # noqa: B018 - an indefinite matrix is no metric
        return self.matrix @ a

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        solution, _ = lapack.dpotrs(self._triangle, (c.T / self._scale).T, lower=1)
        return (solution.T / self._scale).T
