"""Damping of the Gauss-Newton metric: schedules for ρ in (1-ρ) JᵀAJ + ρ α² I along a run.

A schedule is a frozen value that says ρ at a point; `start` gives the schedule of a run that starts
at one. All but the constant ones follow the kernel K = Df Dfᵀ (n, n) of the unscaled model, with
Φ = αf and J = αDf: ρ = s/(1 + s) for a multiple s of an eigenvalue. Where p < n the kernel is
singular and ρ = 0, the undamped method.
S. Cayci, arXiv 2412.14031v5, (14), (16), (17).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnmanifold.errors import ArgumentError
from gnmanifold.factorization import smallest_singular_value
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.validation import fraction, one_of, positive, unit_interval

Condition = Callable[[Linearization, Loss], bool]


class DampingSchedule(ABC):
    """A rule for the damping ρ in [0, 1] of Gauss-Newton steps and flows."""

    @abstractmethod
    def rho(self, lin: Linearization, loss: Loss) -> float:
        """Damping ρ at a point."""

    def start(self, lin: Linearization, loss: Loss) -> DampingSchedule:
        """Schedule of a run that starts at a point."""
        return self


@dataclass(frozen=True)
class Constant(DampingSchedule):
    """A constant ρ: 0 is Gauss-Newton, 1 gradient descent on f scaled by 1/α².

    Raises ArgumentError unless 0 <= value <= 1.
    """

    value: float

    def __post_init__(self) -> None:
        unit_interval("rho", self.value)

    def rho(self, lin: Linearization, loss: Loss) -> float:
        return float(self.value)


@dataclass(frozen=True)
class Adaptive(DampingSchedule):
    """The damping ρ = s/(1 + s) with s = κ λ_min(K), (14): the rate does not depend on λ_min(K).

    The cost above the minimum decays at least like exp(-2νt/(1+κ)) for α above the threshold.
    Raises ArgumentError unless kappa > 0.
    """

    kappa: float = 1.0

    def __post_init__(self) -> None:
        positive("kappa", self.kappa)

    def rho(self, lin: Linearization, loss: Loss) -> float:
        return _bounded(self.kappa * kernel_eigenvalue(lin))


@dataclass(frozen=True)
class DataBased(Adaptive):
    """The damping of `Adaptive` at the start of the run, kept constant.

    Asked at a point without a start it is that of `Adaptive`.
    """

    def start(self, lin: Linearization, loss: Loss) -> DampingSchedule:
        return Constant(self.rho(lin, loss))


@dataclass(frozen=True)
class CurvatureAware(DampingSchedule):
    """The damping of generalized Gauss-Newton, A = ∇²g <= μ I: ρ = s/(1 + s), (16) and (17).

    `kind` "kernel" is (16), s = κ μ λ_min(K), with rate 2ν/(μ(1+κ)) everywhere; "curvature" is
    (17), s = κ λ_min(A^½ K A^½), with rate 2/(1+κ) near the minimum whatever ν and μ.
    Raises ArgumentError for other kinds, unless kappa > 0, and where (16) meets a loss without
    bound μ.
    """

    kind: str = "kernel"
    kappa: float = 1.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("kernel", "curvature"))
        positive("kappa", self.kappa)

    def start(self, lin: Linearization, loss: Loss) -> DampingSchedule:
        self._bound(loss)
        return self

    def rho(self, lin: Linearization, loss: Loss) -> float:
        if self.kind == "kernel":
            return _bounded(self.kappa * self._bound(loss) * kernel_eigenvalue(lin))
        return _bounded(self.kappa * kernel_eigenvalue(lin, loss))

    def _bound(self, loss: Loss) -> float:
        if self.kind == "kernel" and not np.isfinite(loss.mu):
            raise ArgumentError(
                f'{loss!r} has curvature without bound: take CurvatureAware("curvature")'
            )
        return loss.mu


@dataclass(frozen=True)
class Switch(DampingSchedule):
    """One schedule, and from some neighbourhood of the minimum on another one.

    `when` is a function of the linearization and the loss that is true in the neighbourhood, or a
    number q in (0, 1) for |∇g| <= q |∇g| of the start. It looks at the point alone: a run that
    leaves the neighbourhood has the first schedule again.
    Raises ArgumentError for other arguments, and for a number asked without a start.
    """

    first: DampingSchedule
    then: DampingSchedule
    when: float | Condition = 0.1
    threshold: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", as_schedule(self.first))
        object.__setattr__(self, "then", as_schedule(self.then))
        if not callable(self.when):
            fraction("when", self.when)

    def start(self, lin: Linearization, loss: Loss) -> DampingSchedule:
        first, then = self.first.start(lin, loss), self.then.start(lin, loss)
        threshold = None if callable(self.when) else self.when * _slope(lin, loss)
        return replace(self, first=first, then=then, threshold=threshold)

    def rho(self, lin: Linearization, loss: Loss) -> float:
        return (self.then if self.inside(lin, loss) else self.first).rho(lin, loss)

    def inside(self, lin: Linearization, loss: Loss) -> bool:
        """Whether the point lies in the neighbourhood."""
        if callable(self.when):
            return bool(self.when(lin, loss))
        if self.threshold is None:
            raise ArgumentError("this Switch compares with a start: call start(lin, loss) first")
        return _slope(lin, loss) <= self.threshold


def kernel_eigenvalue(lin: Linearization, loss: Loss | None = None) -> float:
    """Smallest eigenvalue of K = J Jᵀ/α², or of A^½ K A^½ with A = ∇²g; zero where p < n."""
    if lin.model.num_parameters < lin.model.num_outputs:
        return 0.0
    if loss is None:
        smallest = lin.smallest_singular_value
    else:
        smallest = smallest_singular_value(loss.hessian_root(lin.psi, lin.jacobian))
    return (smallest / lin.model.scale) ** 2


def as_schedule(value: Any) -> DampingSchedule:
    """Return a schedule, that of a number being constant, or raise ArgumentError."""
    if isinstance(value, DampingSchedule):
        return value
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return Constant(float(value))
    raise ArgumentError(
        f"damping must be a number in [0, 1] or a schedule such as Adaptive(1.0), got {value!r}"
    )


def _bounded(s: float) -> float:
    return float(s / (1 + s)) if np.isfinite(s) else 1.0


def _slope(lin: Linearization, loss: Loss) -> float:
    return float(np.linalg.norm(loss.gradient(lin.psi)))
