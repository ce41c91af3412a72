"""Profile likelihood of a least-squares fit: how the cost rises as one parameter is moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from gnmanifold.errors import ArgumentError, NonFiniteError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import SquaredError
from gnmanifold.manifolds import ParameterManifold
from gnmanifold.metrics import EuclideanMetric
from gnmanifold.models import Fixed, Model
from gnmanifold.optimizers import LevenbergMarquardt
from gnmanifold.problems import CompositeProblem
from gnmanifold.validation import positive, positive_int

_EXPANSION, _EXPANSIONS = 1.6, 60
_FAR = 1e6  # standard errors; a limit beyond comes from the rounding of large terms that cancel
_EDGE = 1e-3  # of a standard error: how near the edge of a domain is looked for an end
_REACH = 4.0  # times the linear interval: how far a profile without end is drawn
_BETTER = 1e-9  # relative decrease of the cost that makes the fit no minimum


@dataclass(frozen=True, eq=False)
class Profile:
    """The signed root τ of the rise of the cost as a parameter moves, the others refitted.

    τ(w_i) = ±sqrt(2 (h(w_i) - h(ŵ)))/s is a straight line through zero with slope 1/se for a
    linear model. `interval` are the values with |τ| = `quantile`, infinite where the cost never
    rises that far in the domain of the model. `values` and `tau` (k,) are the curve, `parameters`
    (k, p) the refitted ones.
    """

    name: str
    estimate: float
    standard_error: float
    quantile: float
    interval: tuple[float, float]
    values: Float[np.ndarray, " k"]
    tau: Float[np.ndarray, " k"]
    parameters: Float[np.ndarray, "k p"]

    @property
    def linear(self) -> tuple[float, float]:
        """The linear interval for comparison."""
        width = self.quantile * self.standard_error
        return self.estimate - width, self.estimate + width


@dataclass(eq=False)
class _Refits:
    """Refits of the other parameters of a model with one of them fixed."""

    model: Model
    y: np.ndarray
    w: np.ndarray
    index: int
    scale: float
    cost: float
    known: dict[float, tuple[float, np.ndarray]]

    def tau(self, value: float) -> float:
        """Signed root of the rise of the cost; raises ArgumentError where the cost falls."""
        if value not in self.known:
            self.known[value] = self._refit(value)
        return self.known[value][0]

    def _refit(self, value: float) -> tuple[float, np.ndarray]:
        near = min(self.known, key=lambda known: abs(known - value))
        w = self.known[near][1].copy()
        w[self.index] = value
        if len(w) > 1:
            others = np.delete(np.arange(len(w)), self.index)
            w[others] = self._others(value, w[others])
        with np.errstate(all="ignore"):
            cost = float(SquaredError(self.y).value(self.model(w)))
        if not np.isfinite(cost):
            raise NonFiniteError(f"the model is not finite with parameter {self.index} at {value}")
        if cost < self.cost * (1 - _BETTER):
            raise ArgumentError(
                f"the fit is no minimum: with parameter {self.index} at {value:.6g} the cost is "
                f"{cost:.6g}, below {self.cost:.6g}; fit again from {w.tolist()}"
            )
        rise = max(cost - self.cost, 0.0)
        return np.sign(value - self.w[self.index]) * np.sqrt(2 * rise) / self.scale, w

    def _others(self, value: float, start: np.ndarray) -> np.ndarray:
        held = Fixed(self.model, {self.index: value})
        problem = CompositeProblem(ParameterManifold(held, EuclideanMetric()), SquaredError(self.y))
        solver = LevenbergMarquardt(verbosity=0, log_verbosity=0, max_iterations=500)
        return np.asarray(solver.run(problem, initial_point=start).point)


def profile(
    model: Model,
    y: Float[np.ndarray, " n"],
    w: Float[np.ndarray, " p"],
    index: int,
    *,
    scale: float,
    quantile: float,
    points: int = 12,
    name: str | None = None,
) -> Profile:
    """Profile of parameter `index` of a least-squares fit w (p,) to data y (n,).

    `scale` is the residual standard deviation s, `quantile` the one of Student's t that the
    interval is for. Each point is a fit of the p - 1 other parameters, from the last one.
    Raises ArgumentError for numbers out of range, and where a refit finds a lower cost: then the
    fit is no minimum. An end a million standard errors away counts as infinite.
    D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications, ch. 6.
    """
    positive("scale", scale)
    positive("quantile", quantile)
    positive_int("points", points)
    w = np.array(w, dtype=float)
    if not 0 <= index < len(w):
        raise ArgumentError(f"index must be one of the {len(w)} parameters, got {index!r}")
    cost = float(SquaredError(y).value(model(w)))
    refits = _Refits(model, np.asarray(y), w, index, scale, cost, {float(w[index]): (0.0, w)})
    unit = np.zeros(len(w))
    unit[index] = 1.0
    error = scale * float(np.sqrt(unit @ Linearization(model, w).factor.solve(unit)))
    ends = [_end(refits, float(w[index]), side * quantile, error) for side in (-1.0, 1.0)]
    reach = _REACH * quantile * error
    reached = [
        end if np.isfinite(end) else _shown(refits, float(w[index]), side, reach)
        for side, end in zip((-1.0, 1.0), ends, strict=True)
    ]
    values = np.union1d(np.linspace(float(reached[0]), float(reached[1]), points), w[index])
    tau = np.array([refits.tau(float(value)) for value in values])
    return Profile(
        f"w{index}" if name is None else name,
        float(w[index]),
        error,
        float(quantile),
        (ends[0], ends[1]),
        values,
        tau,
        np.array([refits.known[float(value)][1] for value in values]),
    )


def _end(refits: _Refits, estimate: float, target: float, error: float) -> float:
    """Value at which τ reaches the target, infinite where it does not in the model's domain."""

    def excess(value: float) -> float:
        return refits.tau(value) - target

    side, step, inner = np.sign(target), abs(target) * error, estimate
    outside: float | None = None
    for _ in range(_EXPANSIONS):
        outer = estimate + side * step if outside is None else 0.5 * (inner + outside)
        at_edge = outside is not None and abs(outside - inner) <= _EDGE * error
        if at_edge or abs(outer - estimate) > _FAR * error:
            break
        try:
            reached = side * excess(float(outer)) >= 0
        except NonFiniteError:  # outside of the model's domain
            outside = float(outer)
            continue
        if reached:
            low, high = sorted((inner, float(outer)))
            return float(brentq(excess, low, high, xtol=1e-10 * error, rtol=1e-12))
        inner, step = float(outer), step * _EXPANSION
    return float(side * np.inf)


def _shown(refits: _Refits, estimate: float, side: float, reach: float) -> float:
    """Last value on a side, within reach, that a refit is known at."""
    known = [v for v in refits.known if 0 <= side * (v - estimate) <= reach]
    return max(known, key=lambda value: abs(value - estimate))
