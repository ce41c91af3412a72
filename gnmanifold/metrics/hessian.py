"""The Hessian of a cost as a metric of the parameters, where it is positive definite."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigvalsh

from gnmanifold.errors import IndefiniteError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.family import check_loss
from gnmanifold.models import Model


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
        root = self.loss.hessian_root(lin.psi, lin.jacobian)
        return root.T @ root + lin.hessian_matrix(self.loss.gradient(lin.psi))

    @cached_property
    def _factor(self) -> Any:
        self.lin.counts.factorizations += 1
        try:
            return cho_factor(self.matrix, lower=True)
        except LinAlgError:
            smallest = float(eigvalsh(self.matrix, subset_by_index=(0, 0))[0])
            raise IndefiniteError(smallest) from None

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        self._factor  # noqa: B018 - an indefinite matrix is no metric
        return self.matrix @ a

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        return cho_solve(self._factor, c)
