"""Rates of the flows and steps of a damping schedule, and the envelopes of the cost they give.

A schedule is ρ = s/(1+s) with s in a band: of numbers, or of multiples of λ = λ_min(K_t).
S. Cayci, arXiv 2412.14031v5, Theorems 5, 7, 10 and 25.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.damping import (
    Adaptive,
    Constant,
    CurvatureAware,
    DampingSchedule,
    DataBased,
    Switch,
)
from gnmanifold.damping.schedules import as_schedule
from gnmanifold.theory.thresholds import Setting

Envelope = Callable[[ArrayLike], np.ndarray]


class Band(NamedTuple):
    """Where s = ρ/(1-ρ) lies: between `low` and `high`, times λ if `relative`."""

    low: float
    high: float
    relative: bool

    def ends(self, smallest: float, largest: float) -> tuple[float, float]:
        """Least and greatest s for λ between two numbers."""
        if not self.relative:
            return self.low, self.high
        return self.low * smallest, self.high * largest


def damping_bands(schedule: DampingSchedule | float, setting: Setting) -> list[Band]:
    """Bands of s = ρ/(1-ρ) of a schedule that starts at w0, one for each of its phases.

    λ_min(A^½KA^½) lies between νλ and μλ; a schedule that is not known has any ρ in [0, 1].
    """
    schedule = as_schedule(schedule)
    if isinstance(schedule, Switch):
        phases = (schedule.first, schedule.then)
        return [band for phase in phases for band in damping_bands(phase, setting)]
    if isinstance(schedule, Constant):
        return [_constant(schedule.value / (1 - schedule.value) if schedule.value < 1 else np.inf)]
    if type(schedule) is DataBased:  # 4λ0² is λ_min(K_0)
        return [_constant(schedule.kappa * 4 * setting.lambda0**2)]
    if type(schedule) is Adaptive:  # subclasses may do anything
        return [Band(schedule.kappa, schedule.kappa, relative=True)]
    if type(schedule) is CurvatureAware:
        high = schedule.kappa * setting.mu
        low = high if schedule.kind == "kernel" else schedule.kappa * setting.nu
        return [Band(low, high, relative=True)]
    return [_constant(0.0, np.inf)]


def flow_rate(
    setting: Setting, schedule: DampingSchedule | float, *, generalized: bool = False
) -> float:
    """Rate c with Δ_t <= Δ0 e^-ct for the flow of a schedule, p >= n.

    c = 2νλ0²/((1-ρ)mλ0² + ρ) at the worst ρ of the schedule, with m = 1, and m = μ for
    `generalized` Gauss-Newton. Constant ρ: Theorem 5. Adaptive(κ): 2ν(1 + κλ0²)/(1 + κ), at least
    the 2ν/(1+κ) of Corollary 9. CurvatureAware("kernel", κ), generalized: 2ν(1 + κμλ0²)/(μ(1+κ)).
    """
    m = setting.mu if generalized else 1.0
    return 2 * setting.nu * _slowest(setting, schedule, m)


def discrete_rate(setting: Setting, schedule: DampingSchedule | float) -> tuple[float, float]:
    """Step η = 1/(2μb) and contraction 1 - (ν/2μ)(a/b) of Gauss-Newton steps, p >= n.

    a and b bound h_ρ(x) = x/((1-ρ)x + ρ), a = h_ρ(λ0²) from below and b = h_ρ(Λ²) from above,
    over the values that ρ takes while λ0² <= λ_min(K_k) <= 9λ0², as it is within r0 of w0.
    """
    smallest, largest = setting.lambda0**2, 9 * setting.lambda0**2
    ends = [s for band in damping_bands(schedule, setting) for s in band.ends(smallest, largest)]
    b = max(_gain(setting.ceiling**2, s, 1.0) for s in ends)
    a = _slowest(setting, schedule, 1.0)
    if b == 0:
        return np.inf, 1.0
    return 1 / (2 * setting.mu * b), 1 - setting.nu / (2 * setting.mu) * (a / b)


def exponential_envelope(gap: float, rate: float) -> Envelope:
    """Function t -> Δ0 e^-ct of a time or of an array of times."""
    return lambda t: gap * np.exp(-rate * np.asarray(t, dtype=float))


def geometric_envelope(gap: float, contraction: float) -> Envelope:
    """Function k -> Δ0 q^k of a number of steps or of an array of them."""
    return lambda k: gap * np.asarray(contraction ** np.asarray(k, dtype=float))


def _constant(low: float, high: float | None = None) -> Band:
    return Band(low, low if high is None else high, relative=False)


def _slowest(setting: Setting, schedule: DampingSchedule | float, m: float) -> float:
    """Least λ/((1-ρ)mλ + ρ) over a schedule and λ >= λ0², which grows with λ along each band."""
    x = setting.lambda0**2
    bands = damping_bands(schedule, setting)
    return min(_gain(x, s, m) for band in bands for s in band.ends(x, x))


def _gain(x: float, s: float, m: float) -> float:
    """Value x/((1-ρ)mx + ρ) = x(1+s)/(mx + s), monotone in s."""
    if np.isinf(s):
        return x
    return x * (1 + s) / (m * x + s) if x > 0 else 0.0
