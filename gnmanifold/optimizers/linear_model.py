"""The linear least-squares problem that a point of a composite problem stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from gnmanifold.factorization import Factor, Root
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The model ½|S J a + r|² of a cost g(f(w + a)), with SᵀS = ∇²g and Sᵀr = ∇g.

    `scaling` D gives |D a| for the damped problem ½|S J a + r|² + λ/2 |D a|². A loss with
    constant curvature c I has S = sqrt(c) I, and c is left out: S = I and r = ∇g/c.
    """

    lin: Linearization
    loss: Loss
    scaling: Float[np.ndarray, " p"]

    @cached_property
    def matrix(self) -> Float[np.ndarray, "m p"]:
        """Matrix S J."""
        return self.rooted(self.lin.jacobian)

    @cached_property
    def residual(self) -> Float[np.ndarray, " m"]:
        """Residual r."""
        psi = self.lin.psi
        if self.loss.isotropic is not None:
            return self.loss.gradient(psi) / self.loss.isotropic
        return self.loss.root_residual(psi)

    @property
    def weight(self) -> float:
        """Constant c that was left out."""
        return 1.0 if self.loss.isotropic is None else self.loss.isotropic

    def rooted(self, columns: np.ndarray) -> np.ndarray:
        """Product S C with output vectors."""
        if self.loss.isotropic is not None:
            return columns
        return self.loss.hessian_root(self.lin.psi, columns)

    @cached_property
    def undamped(self) -> Factor:
        """Factor of S J, of full rank or not."""
        if self.loss.isotropic is not None:
            return self.lin.least_squares
        return self.lin.factorize(Root(self.matrix))

    def damped(self, lam: float) -> Factor:
        """Factor of [S J; sqrt(λ) D]."""
        if lam == 0:
            return self.undamped
        return self.lin.factorize(Root(self.matrix, np.sqrt(lam) * self.scaling))

    def step(self, factor: Factor) -> Float[np.ndarray, " p"]:
        """Minimiser of the problem with that factor."""
        return -factor.lstsq(self.residual)

    def acceleration(self, factor: Factor, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity -(B⁺)(S D²f[a, a]), the second derivative of the geodesic with velocity a."""
        return -factor.lstsq(self.rooted(self.lin.second_derivative(a, a)))
