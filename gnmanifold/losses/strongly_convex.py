"""Losses made strongly convex."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.losses.base import Loss
from gnmanifold.validation import nonnegative


class StronglyConvex(Loss):
    """The loss g(ψ) + ν/2 |ψ|², strongly convex with modulus ν for any convex g.

    Raises ArgumentError unless nu >= 0. S. Cayci, arXiv 2412.14031v5, (4).
    """

    def __init__(self, loss: Loss, nu: float) -> None:
        if not isinstance(loss, Loss):
            raise ArgumentError(f"loss must be a gnmanifold loss, got {type(loss).__name__}")
        self.loss = loss
        self.added = nonnegative("nu", nu)
        self.num_outputs = loss.num_outputs
        self.nu = loss.nu + self.added
        self.mu = loss.mu + self.added
        self.isotropic = None if loss.isotropic is None else loss.isotropic + self.added

    def value(self, psi: ArrayLike) -> np.float64:
        psi = self._vector("psi", psi)
        return np.float64(self.loss.value(psi) + 0.5 * self.added * (psi @ psi))

    def gradient(self, psi: ArrayLike) -> Float[np.ndarray, " n"]:
        psi = self._vector("psi", psi)
        return self.loss.gradient(psi) + self.added * psi

    def hessian_product(self, psi: ArrayLike, u: ArrayLike) -> Float[np.ndarray, " n"]:
        return self.loss.hessian_product(psi, u) + self.added * self._vector("u", u)

    def third_product(
        self, psi: ArrayLike, u: ArrayLike, v: ArrayLike
    ) -> Float[np.ndarray, " n *k"]:
        return self.loss.third_product(psi, u, v)

    @property
    def information(self) -> Loss:
        """None: the added term is a prior and no likelihood."""
        raise ArgumentError("StronglyConvex is no likelihood: take the Fisher metric of its loss")

    def _root(self, psi: np.ndarray, columns: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._root(psi, columns, shift + self.added)

    def _transpose(self, psi: np.ndarray, r: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._transpose(psi, r, shift + self.added)

    def _solve(self, psi: np.ndarray, x: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._solve(psi, x, shift + self.added)

    def _residual(self, psi: np.ndarray, gradient: np.ndarray, shift: float) -> np.ndarray:
        return self.loss._residual(psi, gradient, shift + self.added)
