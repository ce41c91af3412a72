"""Metrics A(ψ) of the output space at a point, that of a loss's Hessian or the Euclidean one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import NonFiniteError
from gnmanifold.losses import Loss
from gnmanifold.validation import first_nonfinite

Columns = Float[np.ndarray, " n *k"]


class EuclideanOutputs:
    """The metric A = I of the outputs, whose third derivative T is zero."""

    flat = True

    def root(self, columns: Columns) -> Float[np.ndarray, " m *k"]:
        """Product S C of a root of A, SᵀS = A, with a vector or the columns of a matrix."""
        return columns

    def root_transpose(self, r: np.ndarray) -> Float[np.ndarray, " n"]:
        """Product Sᵀr."""
        return r

    def product(self, u: np.ndarray) -> Float[np.ndarray, " n"]:
        """Product A u."""
        return u

    def solve(self, z: Columns) -> Columns:
        """Solution of A u = z, one of several where A is singular."""
        return z

    def third(self, u: np.ndarray, columns: Columns) -> Columns:
        """Third derivative T[u, C] of the function whose Hessian A is, by columns."""
        return np.zeros_like(columns)


@dataclass(frozen=True, eq=False)
class LossOutputs:
    """The metric A = ∇²g(ψ) of the outputs and T = ∂³g(ψ)."""

    loss: Loss
    psi: Float[np.ndarray, " n"]
    flat = False

    def root(self, columns: Columns) -> Float[np.ndarray, " m *k"]:
        """Product with a root of the Hessian; raises NonFiniteError where that overflows."""
        with np.errstate(all="ignore"):
            rooted = self.loss.hessian_root(self.psi, columns)
        if first_nonfinite(rooted) is not None and first_nonfinite(columns) is None:
            raise NonFiniteError(
                "the Hessian of the loss that makes the metric is not finite at predictions of "
                f"size {np.linalg.norm(self.psi):.3g}: shorten the steps or start elsewhere"
            )
        return rooted

    def root_transpose(self, r: np.ndarray) -> Float[np.ndarray, " n"]:
        """Product with the transpose of that root."""
        return self.loss.hessian_root_transpose(self.psi, r)

    def product(self, u: np.ndarray) -> Float[np.ndarray, " n"]:
        """Product with the Hessian."""
        return self.loss.hessian_product(self.psi, u)

    def solve(self, z: Columns) -> Columns:
        """Solution with the Hessian."""
        return self.loss.hessian_solve(self.psi, z)

    def third(self, u: np.ndarray, columns: Columns) -> Columns:
        """Third derivative of the loss."""
        return self.loss.third_product(self.psi, u, columns)


OutputMetric = EuclideanOutputs | LossOutputs
EUCLIDEAN = EuclideanOutputs()
