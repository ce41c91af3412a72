"""Line searches for pymanopt's solvers and ours, starting from the full step α = 1.

pymanopt's own start from a step of unit length, which ignores that Gauss-Newton knows its length,
accept NaN costs and return NaN at a minimizer. These are frozen values, safe to copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gnmanifold.errors import GnmanifoldError
from gnmanifold.validation import fraction, positive, positive_int


@runtime_checkable
class LineSearch(Protocol):
    """What pymanopt's SteepestDescent and ConjugateGradient ask of a line searcher."""

    def search(
        self, objective: Any, manifold: Any, x: Any, d: Any, f0: float, df0: float
    ) -> tuple[float, Any]:
        """Return (α |d|, the point that α d leads to) from x along d, or (0, x) if refused."""


@dataclass(frozen=True)
class ConstantStep:
    """Take the step α d with constant α; refuse it where the cost becomes NaN or infinite.

    Raises ArgumentError unless alpha > 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)

    def search(
        self, objective: Any, manifold: Any, x: Any, d: Any, f0: float, df0: float
    ) -> tuple[float, Any]:
        length = float(manifold.norm(x, d))
        if not (0 < length < np.inf):
            return 0.0, x
        candidate, cost = _trial(objective, manifold, x, self.alpha * d)
        return (self.alpha * length, candidate) if np.isfinite(cost) else (0.0, x)


@dataclass(frozen=True)
class UnitStep(ConstantStep):
    """Take the full step d: with SteepestDescent on the Gauss-Newton metric, plain Gauss-Newton."""

    alpha: float = field(default=1.0, init=False, repr=False)


@dataclass(frozen=True)
class BackTracking:
    """Shrink α from 1 until h(α d) <= h + c α <grad h, d>, refusing costs that are not finite.

    `contraction` multiplies α after a refusal, `sufficient_decrease` is c; after `max_trials`
    refusals the point stays. Raises ArgumentError for numbers out of range.
    Nocedal and Wright, Numerical Optimization, algorithm 3.1.
    """

    contraction: float = 0.5
    sufficient_decrease: float = 1e-4
    max_trials: int = 30

    def __post_init__(self) -> None:
        for name in ("contraction", "sufficient_decrease"):
            fraction(name, getattr(self, name))
        positive_int("max_trials", self.max_trials)

    def search(
        self, objective: Any, manifold: Any, x: Any, d: Any, f0: float, df0: float
    ) -> tuple[float, Any]:
        length = float(manifold.norm(x, d))
        alpha = 1.0
        for _ in range(self.max_trials if 0 < length < np.inf else 0):
            candidate, cost = _trial(objective, manifold, x, alpha * d)
            if np.isfinite(cost) and cost <= f0 + self.sufficient_decrease * alpha * min(df0, 0.0):
                return alpha * length, candidate
            alpha *= self.contraction
        return 0.0, x


def _trial(objective: Any, manifold: Any, x: Any, step: Any) -> tuple[Any, float]:
    """Point that a step leads to and its cost; an infinite one where the retraction fails."""
    try:
        candidate = manifold.retraction(x, step)
    except GnmanifoldError:  # a geodesic that ends, a Jacobian that loses rank on the way
        return x, np.inf
    return (candidate, objective(candidate)) if finite_point(candidate) else (x, np.inf)


def finite_point(point: Any) -> bool:
    """Whether the parameters of a point, or its entries, are finite; True for other kinds."""
    values = getattr(point, "parameters", point)
    return not isinstance(values, np.ndarray) or bool(np.all(np.isfinite(values)))
