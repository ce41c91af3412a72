"""Riemannian metrics on parameters, G = weight JᵀJ + diag(δ), given by their square root.

| metric                                   | weight | δ          | induced by                      |
|------------------------------------------|--------|------------|---------------------------------|
| EuclideanMetric()                        | 0      | 1          | w                               |
| GaussNewtonMetric(ρ), α = model.scale    | 1 - ρ  | ρ α²       | (sqrt(1-ρ) f(w), sqrt(ρ) α w)   |
| LevenbergMarquardtMetric(λ)              | 1      | λ          | (f(w), sqrt(λ) w)               |
| LevenbergMarquardtMetric(λ, "marquardt") | 1      | λ diag JᵀJ | no fixed immersion              |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import NotAnImmersionError, UnderdeterminedError
from gnmanifold.factorization import Factor, Root
from gnmanifold.linearization import Linearization
from gnmanifold.models import Model
from gnmanifold.validation import nonnegative, one_of, unit_interval

_SMALLEST_SCALING = 1e-14  # of the largest squared column norm: keeps useless parameters still


class Metric(ABC):
    """A rule that gives a metric tensor at every linearization, a small frozen value.

    `immersed` tells whether a fixed immersion induces it, so that it has Christoffel symbols;
    `undamped` whether it needs a Jacobian of full column rank.
    """

    @property
    @abstractmethod
    def weight(self) -> float:
        """Factor of JᵀJ in the metric."""

    @property
    def immersed(self) -> bool:
        """Whether a fixed immersion induces the metric."""
        return True

    @property
    def undamped(self) -> bool:
        """Whether the metric is degenerate where the Jacobian has not full column rank."""
        return False

    @abstractmethod
    def at(self, lin: Linearization) -> LocalMetric:
        """Metric tensor at a point."""

    def check(self, model: Model) -> None:
        """Raise UnderdeterminedError where the metric is degenerate at every point of a model."""
        if self.undamped and model.num_parameters > model.num_outputs:
            raise UnderdeterminedError(
                f"{self} is degenerate with p = {model.num_parameters} parameters and only "
                f"n = {model.num_outputs} outputs: take a damping > 0"
            )


@dataclass(frozen=True)
class EuclideanMetric(Metric):
    """The metric <a, b> = aᵀb of the parameters themselves: descent in it is gradient descent."""

    @property
    def weight(self) -> float:
        return 0.0

    def at(self, lin: Linearization) -> LocalMetric:
        return LocalMetric(lin, self.weight, np.ones(lin.model.num_parameters))


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
        return LocalMetric(lin, self.weight, _constant(lin, self.damping * lin.model.scale**2))

    @property
    def undamped(self) -> bool:
        return self.damping == 0


@dataclass(frozen=True)
class LevenbergMarquardtMetric(Metric):
    """The metric G = JᵀJ + λ D with λ = `damping` and D = I, or D = diag(JᵀJ) for "marquardt".

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
    def weight(self) -> float:
        return 1.0

    @property
    def immersed(self) -> bool:
        return self.scaling is None or self.damping == 0

    def at(self, lin: Linearization) -> LocalMetric:
        if self.immersed:
            return LocalMetric(lin, self.weight, _constant(lin, self.damping))
        squares = np.einsum("ij,ij->j", lin.jacobian, lin.jacobian)
        floor = _SMALLEST_SCALING * float(np.max(squares, initial=0.0))
        diagonal = self.damping * np.maximum(squares, floor)
        return LocalMetric(lin, self.weight, diagonal, immersed=False)

    @property
    def undamped(self) -> bool:
        return self.damping == 0


@dataclass(frozen=True, eq=False)
class LocalMetric:
    """A metric tensor G = weight JᵀJ + diag(δ) at a point, with one factorization of its root.

    Velocities a, b and covectors c of the parameters have shape (p,), output covectors z (n,).
    """

    lin: Linearization
    weight: float
    diagonal: Float[np.ndarray, " p"] | None
    immersed: bool = True

    @cached_property
    def factor(self) -> Factor:
        """Factor of the root [sqrt(weight) J; diag(δ)^½]; raises RankDeficientError."""
        if self.weight == 1.0 and self.diagonal is None:
            return self.lin.factor
        matrix = self.lin.jacobian if self.weight == 1.0 else self._stretch * self.lin.jacobian
        diagonal = None if self.diagonal is None else np.sqrt(self.diagonal)
        factor = self.lin.factorize(Root(matrix, diagonal))
        return factor.require_full_rank("increase the damping of the metric")

    @property
    def _stretch(self) -> float:
        return float(np.sqrt(self.weight))

    def inner_product(self, a: np.ndarray, b: np.ndarray) -> np.float64:
        """Inner product aᵀG b."""
        bottom = 0.0 if self.diagonal is None else (self.diagonal * a) @ b
        if self.weight == 0:
            return np.float64(bottom)
        image = self.lin.push(a)
        return np.float64(self.weight * (image @ (image if b is a else self.lin.push(b))) + bottom)

    def length(self, a: np.ndarray) -> np.float64:
        """Length sqrt(aᵀG a) of a velocity."""
        return np.sqrt(self.inner_product(a, a))

    def receive(self, source: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Least-squares solution b of B b = B' a, for the root B here and B' at `source`."""
        if self.weight == 0:
            return a
        top = self._stretch * source.lin.push(a)
        if self.diagonal is None or source.diagonal is None:
            return self.factor.lstsq(top)
        bottom = np.sqrt(source.diagonal) * a
        return self.factor.lstsq(np.concatenate([top, bottom]))

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Covector G a."""
        bottom = 0.0 if self.diagonal is None else self.diagonal * a
        if self.weight == 0:
            return np.asarray(bottom)
        return self.weight * self.lin.pull_covector(self.lin.push(a)) + bottom

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity G⁻¹c."""
        if self.weight == 0:
            assert self.diagonal is not None
            return c / self.diagonal
        return self.factor.solve(c)

    def gradient(self, z: np.ndarray) -> Float[np.ndarray, " p"]:
        """Velocity G⁻¹Jᵀz: the Riemannian gradient of g∘f where z = ∇g."""
        if self.weight == 0:
            return self.raise_index(self.lin.pull_covector(z))
        # Jᵀz = Bᵀ[z/sqrt(weight); 0]: least squares, not normal equations.
        return self.factor.lstsq(z / self._stretch)

    def normal(self, z: np.ndarray, gradient: np.ndarray | None = None) -> Float[np.ndarray, " n"]:
        """Covector z - weight J G⁻¹Jᵀz that meets D²f in the Riemannian Hessian.

        It is the part of z normal to f(B) for the undamped metric and z itself for the Euclidean.
        `gradient` is G⁻¹Jᵀz where that is known.
        """
        self.require_immersion()
        if self.weight == 0:
            return z
        return z - self.weight * self.lin.push(self.gradient(z) if gradient is None else gradient)

    def christoffel(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " p"]:
        """Christoffel contraction Γ(a, b) = weight G⁻¹Jᵀ D²f[a, b].

        Raises NotAnImmersionError for a metric that no fixed immersion induces.
        """
        self.require_immersion()
        if self.weight == 0:
            return np.zeros_like(a)
        return self.gradient(self.weight * self.lin.second_derivative(a, b))

    def require_immersion(self) -> None:
        """Raise NotAnImmersionError for a metric that has no connection here."""
        if not self.immersed:
            raise NotAnImmersionError(
                "this metric is induced by no fixed immersion and has no Christoffel symbols here: "
                "use it with first-order retraction and first-order solvers, or take scaling=None"
            )


def _constant(lin: Linearization, value: float) -> np.ndarray | None:
    return np.full(lin.model.num_parameters, value) if value > 0 else None
