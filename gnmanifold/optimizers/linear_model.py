"""The linear least-squares problem that a point of a composite problem stands for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gnmanifold.factorization import Factor, Root
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.optimizers.base import StopReason

EPS = float(np.finfo(np.float64).eps)
PERFECT = 1e3  # rounding errors of the residual, which nothing is to be expected of
BLIND = 1e-7  # cosine whose square, the relative decrease of the cost to be had, is rounding
_DIFFERENCED = 1e4  # of the accuracy of a Jacobian: what is left of the angles
_SMALL = 1e-8  # relative change of the parameters that a blind cost cannot confirm


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The model ½|S J a + r|² of a cost g(f(w + a)), with SᵀS = ∇²g and Sᵀr = ∇g.

    `scaling` D gives |D a| for the damped problem ½|S J a + r|² + λ/2 |D a|². A loss with
    constant curvature c I has S = sqrt(c) I, and c is left out: S = I and r = ∇g/c. With
    `information`, the Fisher information of the loss, SᵀS is the Hessian of that.
    """

    lin: Linearization
    loss: Loss
    scaling: Float[np.ndarray, " p"]
    information: Loss | None = None

    @cached_property
    def matrix(self) -> Float[np.ndarray, "m p"]:
        """Matrix S J."""
        return self.rooted(self.lin.jacobian)

    @cached_property
    def residual(self) -> Float[np.ndarray, " m"]:
        """Residual r."""
        psi, curvature = self.lin.psi, self.curvature
        if curvature.isotropic is not None:
            return self.loss.gradient(psi) / curvature.isotropic
        return self.loss.root_residual(psi)

    @property
    def weight(self) -> float:
        """Constant c that was left out."""
        return 1.0 if self.curvature.isotropic is None else self.curvature.isotropic

    @property
    def curvature(self) -> Loss:
        """Loss whose Hessian is SᵀS."""
        return self.loss if self.information is None else self.information

    def rooted(self, columns: np.ndarray) -> np.ndarray:
        """Product S C with output vectors."""
        if self.curvature.isotropic is not None:
            return columns
        return self.curvature.hessian_root(self.lin.psi, columns)

    @cached_property
    def undamped(self) -> Factor:
        """Factor of S J, of full rank or not."""
        if self.curvature.isotropic is not None:
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


def newton_step(model: LinearModel) -> Float[np.ndarray, " p"] | None:
    """Step -(Jᵀ∇²g J + Σ_i ∇g_i ∇²f_i)⁻¹Jᵀ∇g, or None where that Hessian is not definite.

    None for p > n too, where the residual can vanish and the p x p matrix could be huge.
    """
    lin, D = model.lin, model.scaling
    if lin.model.num_parameters > lin.model.num_outputs:
        return None
    z = model.loss.gradient(lin.psi)
    H = model.weight * model.matrix.T @ model.matrix + lin.hessian_matrix(z)
    try:
        factor = cho_factor(H / np.outer(D, D), lower=True)
    except (LinAlgError, ValueError):
        return None
    return -cho_solve(factor, lin.pull_covector(z) / D) / D


def noise(model: LinearModel) -> float:
    """Length of the rounding errors of the residual."""
    psi = model.rooted(model.lin.psi)
    return EPS * float(np.linalg.norm(model.residual) + np.linalg.norm(psi))


def cosine(model: LinearModel) -> float:
    """Largest cosine of the angle between ∇g and a column of J, small at a critical point.

    It needs no curvature of the loss, which a saturated one has lost, and no rank of J.
    """
    z, J = model.loss.gradient(model.lin.psi), model.lin.jacobian
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(J, axis=0) * np.linalg.norm(z)
    slopes = np.abs(model.lin.pull_covector(z))
    return float(np.max(slopes[lengths > 0] / lengths[lengths > 0], initial=0.0))


def differenced(model: LinearModel) -> float:
    """Cosine that cannot be told from zero where the Jacobian comes from differences."""
    return _DIFFERENCED * model.lin.model.first_order_accuracy


def relative_change(model: LinearModel, step: np.ndarray) -> float:
    """Largest change of a parameter relative to it, of those whose effect is above rounding."""
    w = np.maximum(np.abs(model.lin.w), np.abs(model.lin.w + step))
    with np.errstate(over="ignore"):
        effects = np.maximum(model.scaling, np.linalg.norm(model.matrix, axis=0)) * np.abs(step)
        seen = (effects > noise(model)) & (w > 0)
        return float(np.max(np.abs(step[seen]) / w[seen], initial=0.0))


def reason(model: LinearModel) -> StopReason:
    """Why no step helps: nothing is left above rounding, or something is wrong."""
    a = model.step(model.undamped)
    removable = float(np.linalg.norm(model.matrix @ a))
    flat = cosine(model) <= max(BLIND, differenced(model))
    if removable <= PERFECT * noise(model) and (flat or model.loss.isotropic is not None):
        return StopReason.ORTHOGONAL
    if flat or (relative_change(model, a) <= _SMALL and model.loss.isotropic is not None):
        return StopReason.ROUNDING
    return StopReason.REFUSED
