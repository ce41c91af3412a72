"""Riemannian metrics on parameters, G = weight JᵀJ + diag(δ), given by their square root.

| metric                                   | weight | δ          | induced by                      |
|------------------------------------------|--------|------------|---------------------------------|
| EuclideanMetric()                        | 0      | 1          | w                               |
| GaussNewtonMetric(ρ), α = model.scale    | 1 - ρ  | ρ α²       | (sqrt(1-ρ) f(w), sqrt(ρ) α w)   |
| LevenbergMarquardtMetric(λ)              | 1      | λ          | (f(w), sqrt(λ) w)               |
| LevenbergMarquardtMetric(λ, "marquardt") | 1      | λ diag JᵀJ | no fixed immersion              |

GeneralizedGaussNewtonMetric(g, ρ) has weight and δ of GaussNewtonMetric(ρ) and ∇²g between the
Jacobians, FisherMetric(g, ρ) the Fisher information of the likelihood e^-g.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gnmanifold.errors import ArgumentError, ShapeError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics.ambient import LossOutputs
from gnmanifold.metrics.base import LocalMetric, Metric
from gnmanifold.metrics.induced import InducedMetric
from gnmanifold.models import Model
from gnmanifold.validation import nonnegative, one_of, unit_interval

_SMALLEST_SCALING = 1e-14  # of the largest squared column norm: keeps useless parameters still


@dataclass(frozen=True)
class EuclideanMetric(Metric):
    """The metric <a, b> = aᵀb of the parameters themselves: descent in it is gradient descent."""

    @property
    def weight(self) -> float:
        return 0.0

    def at(self, lin: Linearization) -> LocalMetric:
        return InducedMetric(lin, self.weight, np.ones(lin.model.num_parameters))


@dataclass(frozen=True)
class GaussNewtonMetric(Metric):
    """The damped Gauss-Newton metric G = (1-ρ) JᵀJ + ρ α² I with ρ = `damping`, α = model.scale.

    With ρ = 0 it is the pullback of the Euclidean metric of the predictions: unit-step descent in
    it with first-order retraction is Gauss-Newton. With constant ρ its gradient flow is (6).
    Raises ArgumentError unless 0 <= damping <= 1.
    S. Cayci, arXiv 2412.14031v5, (6), (7).
    """

    damping: float = 0.0

    def __post_init__(self) -> None:
        unit_interval("damping", self.damping)

    @property
    def weight(self) -> float:
        return 1.0 - self.damping

    def at(self, lin: Linearization) -> LocalMetric:
        return InducedMetric(lin, self.weight, _constant(lin, self.damping, lin.model.scale**2))

    @property
    def undamped(self) -> bool:
        return self.damping == 0


@dataclass(frozen=True)
class LevenbergMarquardtMetric(Metric):
    """The metric G = JᵀJ + λ D² with λ = `damping` and D² = I, or diag(JᵀJ) for "marquardt".

    Unit-step descent in it is a Levenberg-Marquardt step. Marquardt's scaling changes from point
    to point, so that no immersion induces it: it serves descent only.
    Raises ArgumentError for a negative damping or an unknown scaling.
    D. W. Marquardt, J. SIAM 11 (1963).
    """

    damping: float = 0.0
    scaling: str | None = None

    def __post_init__(self) -> None:
        nonnegative("damping", self.damping)
        if self.scaling is not None:
            one_of("scaling", self.scaling, ("marquardt",))

    @property
    def immersed(self) -> bool:
        return self.scaling is None or self.damping == 0

    def at(self, lin: Linearization) -> LocalMetric:
        if self.immersed:
            return InducedMetric(lin, self.weight, _constant(lin, self.damping))
        squares = np.einsum("ij,ij->j", lin.jacobian, lin.jacobian)
        floor = _SMALLEST_SCALING * float(np.max(squares, initial=0.0))
        diagonal = self.damping * np.maximum(squares, floor)
        return InducedMetric(lin, self.weight, diagonal, immersed=False)

    @property
    def undamped(self) -> bool:
        return self.damping == 0


@dataclass(frozen=True)
class GeneralizedGaussNewtonMetric(Metric):
    """The metric G = (1-ρ) Jᵀ∇²g(ψ) J + ρ α² I of a loss g, with ρ = `damping`, α = model.scale.

    Unit-step descent in it, undamped, is the generalized Gauss-Newton method. It is the pullback of
    the Hessian metric ∇²g of the outputs, which is curved unless g is quadratic: the third
    derivatives of g enter the connection and the curvature.
    Raises ArgumentError for what is no loss or unless 0 <= damping <= 1, ShapeError for a model
    with another number of outputs.
    H. Shima, The Geometry of Hessian Structures, ch. 2; N. N. Schraudolph, Neural Comp. 14 (2002).
    """

    loss: Loss
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_loss(self.loss)
        unit_interval("damping", self.damping)

    @property
    def weight(self) -> float:
        return 1.0 - self.damping

    @property
    def undamped(self) -> bool:
        return self.damping == 0

    @property
    def _outputs(self) -> Loss:
        return self.loss

    def check(self, model: Model) -> None:
        super().check(model)
        check_loss(self.loss, model)

    def at(self, lin: Linearization) -> LocalMetric:
        diagonal = _constant(lin, self.damping, lin.model.scale**2)
        constant = self._outputs.isotropic
        if self.weight == 0 or constant is not None:
            return InducedMetric(lin, self.weight * (constant or 0.0), diagonal)
        outputs = LossOutputs(self._outputs, lin.psi)
        return InducedMetric(lin, self.weight, diagonal, outputs=outputs)


@dataclass(frozen=True)
class FisherMetric(GeneralizedGaussNewtonMetric):
    """The metric G = (1-ρ) JᵀF(ψ) J + ρ α² I with the Fisher information F of the likelihood e^-g.

    For exponential families in natural parameters, which Logistic, Softmax, Poisson and
    SquaredError (with weight 1/σ²) are, F = ∇²g; for PseudoHuber, a location family, F is constant.
    Raises ArgumentError for a loss that is no likelihood.
    S. Amari, Natural gradient works efficiently in learning, Neural Comp. 10 (1998).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._outputs  # noqa: B018 - raises for what is no likelihood

    @cached_property
    def _outputs(self) -> Loss:
        return self.loss.information


def check_loss(loss: Any, model: Model | None = None) -> None:
    """Raise ArgumentError for what is no loss, ShapeError for one that does not fit a model."""
    if not isinstance(loss, Loss):
        raise ArgumentError(f"loss must be a gnmanifold loss, got {type(loss).__name__}")
    if model is not None and loss.num_outputs != model.num_outputs:
        raise ShapeError(
            f"the loss of the metric has {loss.num_outputs} targets, the model "
            f"{model.num_outputs} outputs: they must be as many"
        )


def _constant(lin: Linearization, damping: float, factor: float = 1.0) -> np.ndarray | None:
    """Diagonal damping · factor, None without damping."""
    if damping == 0:
        return None
    if damping * factor == 0:
        raise ArgumentError(f"the damping {damping:g} times scale² underflows: rescale the model")
    return np.full(lin.model.num_parameters, damping * factor)
