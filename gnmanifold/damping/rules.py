"""Damping of Levenberg-Marquardt steps: rules that say how λ follows the success of a step.

A rule is a frozen value; what changes during a run is the `Damping` that it hands from step to
step. The damped step solves min |J a + r|² + λ |D a|² for a scaling D of the parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import ArgumentError
from gnmanifold.factorization import Factor
from gnmanifold.validation import fraction, nonnegative, positive

_LARGEST, _SMALLEST = 1e150, 1e-150  # of λ, which is squared nowhere but multiplied
_ROOT_STEPS = 10
_RADIUS_ERROR = 0.1  # relative error of |D a| = Δ that is good enough


@dataclass(frozen=True)
class Damping:
    """The damping λ of the next step, what a rejection multiplies it by, and a trust radius."""

    value: float
    growth: float = 2.0
    radius: float = np.inf


UNDAMPED = Damping(0.0)


class Subproblem(Protocol):
    """A linear least-squares problem that can be solved with any damping."""

    @property
    def scaling(self) -> Float[np.ndarray, " p"]:
        """Scaling D of the parameters."""

    def damped(self, lam: float) -> Factor:
        """Factor of the root [B; sqrt(λ) D]."""

    def step(self, factor: Factor) -> Float[np.ndarray, " p"]:
        """Minimiser of the damped problem."""


class DampingRule(ABC):
    """A rule for λ: where it starts, and what becomes of it after a step."""

    @abstractmethod
    def start(self, size: float) -> Damping:
        """Damping of the first step, from parameters of scaled length |D w| = size."""

    @abstractmethod
    def accepted(self, damping: Damping, ratio: float, length: float) -> Damping:
        """Damping after a step of scaled length |D a| with that gain ratio was taken."""

    @abstractmethod
    def rejected(self, damping: Damping, length: float) -> Damping:
        """Damping after a step was refused."""

    @property
    def adaptive(self) -> bool:
        """Whether a refused step can be tried again with another damping."""
        return True

    def solve(self, problem: Subproblem, damping: Damping) -> tuple[Damping, Factor, np.ndarray]:
        """Damping that the rule asks for in this problem, its factor, and the damped step."""
        factor = problem.damped(damping.value)
        return damping, factor, problem.step(factor)


@dataclass(frozen=True)
class ConstantLambda(DampingRule):
    """A constant λ, with which every finite step is taken: descent in the metric JᵀJ + λ D²."""

    lam: float

    def __post_init__(self) -> None:
        nonnegative("lam", self.lam)

    @property
    def adaptive(self) -> bool:
        return False

    def start(self, size: float) -> Damping:
        return Damping(self.lam)

    def accepted(self, damping: Damping, ratio: float, length: float) -> Damping:
        return damping

    def rejected(self, damping: Damping, length: float) -> Damping:
        return damping


@dataclass(frozen=True)
class DelayedGratification(DampingRule):
    """Raise λ by a small factor after a failure and lower it by a larger one after a success.

    M. K. Transtrum and J. P. Sethna, arXiv 1201.5885.
    """

    initial: float = 1.0
    raising: float = 2.0
    lowering: float = 3.0

    def __post_init__(self) -> None:
        positive("initial", self.initial)
        _above_one("raising", self.raising)
        _above_one("lowering", self.lowering)

    def start(self, size: float) -> Damping:
        return Damping(self.initial)

    def accepted(self, damping: Damping, ratio: float, length: float) -> Damping:
        return replace(damping, value=_bounded(damping.value / self.lowering))

    def rejected(self, damping: Damping, length: float) -> Damping:
        return replace(damping, value=_bounded(damping.value * self.raising))


@dataclass(frozen=True)
class Marquardt(DelayedGratification):
    """Divide λ by ten after a success, multiply it by ten after a failure.

    D. W. Marquardt, J. SIAM 11 (1963).
    """

    initial: float = 1e-2
    raising: float = 10.0
    lowering: float = 10.0


@dataclass(frozen=True)
class Nielsen(DampingRule):
    """Multiply λ by max(1/3, 1 - (2 ratio - 1)³) after a success, by 2, 4, 8, … in failures.

    H. B. Nielsen, Damping parameter in Marquardt's method, IMM-REP-1999-05.
    """

    initial: float = 1.0

    def __post_init__(self) -> None:
        positive("initial", self.initial)

    def start(self, size: float) -> Damping:
        return Damping(self.initial)

    def accepted(self, damping: Damping, ratio: float, length: float) -> Damping:
        factor = max(1 / 3, 1 - (2 * min(ratio, 2.0) - 1) ** 3)
        return Damping(_bounded(damping.value * factor))

    def rejected(self, damping: Damping, length: float) -> Damping:
        return Damping(_bounded(damping.value * damping.growth), growth=2 * damping.growth)


@dataclass(frozen=True)
class TrustRadius(DampingRule):
    """The λ with which the step has the length |D a| = Δ of a trust region, zero where it is short.

    The radius starts at `factor` |D w|, or `factor` where that is zero, and follows the gain ratio.
    J. J. Moré, The Levenberg-Marquardt algorithm: implementation and theory, 1978.
    """

    factor: float = 100.0
    shrinking: float = 0.25

    def __post_init__(self) -> None:
        positive("factor", self.factor)
        fraction("shrinking", self.shrinking)

    def start(self, size: float) -> Damping:
        return Damping(0.0, radius=self.factor * (size if 0 < size < np.inf else 1.0))

    def accepted(self, damping: Damping, ratio: float, length: float) -> Damping:
        if ratio > 0.75 or (damping.value == 0 and ratio >= 0.25):
            return replace(damping, radius=2 * length)
        return damping if ratio > 0.25 else replace(damping, radius=0.5 * damping.radius)

    def rejected(self, damping: Damping, length: float) -> Damping:
        return replace(damping, radius=self.shrinking * min(damping.radius, length))

    def solve(self, problem: Subproblem, damping: Damping) -> tuple[Damping, Factor, np.ndarray]:
        D, radius = problem.scaling, damping.radius
        factor = problem.damped(0.0)
        a = problem.step(factor)
        length = float(np.linalg.norm(D * a))
        lam = low = 0.0
        for _ in range(_ROOT_STEPS):
            if abs(length - radius) <= _RADIUS_ERROR * radius or (lam == 0 and length <= radius):
                break
            # Newton's method on 1/|D a(λ)| = 1/Δ, which is nearly linear in λ
            slope = float((D**2 * a) @ factor.solve(D**2 * a)) / length**2
            if length > radius:
                low = lam
            lam = max(lam + (length / radius - 1) / slope, low, _SMALLEST)
            factor = problem.damped(lam)
            a = problem.step(factor)
            length = float(np.linalg.norm(D * a))
        return replace(damping, value=lam), factor, a


def _bounded(lam: float) -> float:
    return float(min(max(lam, _SMALLEST), _LARGEST))


def _above_one(name: str, value: float) -> None:
    if positive(name, value) <= 1:
        raise ArgumentError(f"{name} must be above 1, got {value!r}")
