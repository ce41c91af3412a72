"""Geodesics of an immersed metric, and retractions that agree with them to some order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.integrate import OdeSolution, solve_ivp
from scipy.optimize import brentq, minimize_scalar

from gnmanifold.errors import GeodesicError, NonFiniteError, RankDeficientError
from gnmanifold.linearization import Linearization
from gnmanifold.metrics import InducedMetric, LocalMetric, Metric
from gnmanifold.metrics.induced import induced
from gnmanifold.validation import frozen

TOLERANCE = 1e-12
_SAMPLES = 17  # of a step, where an excursion out of a ball is looked for
_MAX_EVALUATIONS = 5000  # a geodesic that takes more is stuck at the edge of the domain

State = tuple[np.ndarray, np.ndarray]
OFF_DOMAIN = (GeodesicError, NonFiniteError, RankDeficientError)


def neighbour(metric: Metric, local: LocalMetric, w: np.ndarray) -> InducedMetric:
    """Metric tensor at other parameters of the same model, counted with the same counts."""
    lin = local.lin
    if np.array_equal(w, lin.w):
        return induced(local)
    return induced(metric.at(Linearization(lin.model, w, counts=lin.counts, solver=lin.solver)))


def integrate(
    local: LocalMetric,
    derivative: Callable[[float, np.ndarray], np.ndarray],
    start: np.ndarray,
    span: tuple[float, float],
    scale: float | np.ndarray,
    tolerance: float = TOLERANCE,
    budget: Iterator[int] | None = None,
    **options: Any,
) -> Any:
    """Solution by SciPy's DOP853, counted as one integration.

    The relative tolerance is 1e-12, or the accuracy of the model's second derivatives where that
    is less, the absolute one that times `scale`, a number or one for each unknown. At most 5000
    evaluations are made, and no more than `budget` has left where several integrations share one.
    Raises GeodesicError where the solution could not be followed to the end of the span.
    E. Hairer, S. P. Norsett and G. Wanner, Solving Ordinary Differential Equations I.
    """
    local.lin.counts.integrations += 1
    evaluations = iter(range(_MAX_EVALUATIONS))
    shared = repeat(0) if budget is None else budget

    def counted(time: float, state: np.ndarray) -> np.ndarray:
        if next(evaluations, None) is None or next(shared, None) is None:
            raise GeodesicError(_stuck(time, span, "too many evaluations"))
        with np.errstate(all="ignore"):  # what is not finite raises an error of its own
            return derivative(time, state)

    tolerance = max(tolerance, local.lin.model.second_order_accuracy)
    absolute = tolerance * np.maximum(scale, np.finfo(float).tiny)
    solution = solve_ivp(
        counted, span, start, method="DOP853", rtol=tolerance, atol=absolute, **options
    )
    if not solution.success:
        raise GeodesicError(_stuck(solution.t[-1], span, solution.message))
    return solution


class Geodesic:
    """The geodesic w'' = -Γ(w', w') with w(0) = w, w'(0) = a, followed as far as it is asked for.

    `state(t)` gives parameters and velocity at any time, by integration with dense output.
    Raises GeodesicError, RankDeficientError or NonFiniteError where it leaves the domain.
    do Carmo, Riemannian Geometry, ch. 3.
    """

    def __init__(
        self,
        metric: Metric,
        local: LocalMetric,
        a: Float[np.ndarray, " p"],
        budget: Iterator[int] | None = None,
    ) -> None:
        self.metric, self.start = metric, induced(local)
        self.velocity = frozen(a)
        self._budget = budget
        self._pieces: dict[bool, list[OdeSolution]] = {True: [], False: []}
        self._hasty = {True: True, False: True}  # whether to look ahead of what is asked for

    def state(self, t: float) -> State:
        """Parameters and velocity at time t, each of shape (p,)."""
        pieces = self._pieces[t >= 0]
        while t != 0 and (not pieces or abs(pieces[-1].ts[-1]) < abs(t)):
            pieces.append(self._extend(t, pieces))
        if t == 0:
            return self.start.lin.w.copy(), self.velocity.copy()
        piece = next(piece for piece in pieces if abs(t) <= abs(piece.ts[-1]))
        return _halves(piece(t))

    def reach(self, t: float) -> float:
        """How far the geodesic was followed already in the direction of t."""
        pieces = self._pieces[t >= 0]
        return float(abs(pieces[-1].ts[-1])) if pieces else 0.0

    def _extend(self, t: float, pieces: list[OdeSolution]) -> OdeSolution:
        """Solution from the last known time to t, or a unit of time further where that exists."""
        begin = float(pieces[-1].ts[-1]) if pieces else 0.0
        state = pieces[-1](begin) if pieces else np.concatenate([self.start.lin.w, self.velocity])
        far = begin + np.sign(t)
        if self._hasty[t >= 0] and abs(far) > abs(t):
            try:
                return self._piece(state, begin, far)
            except OFF_DOMAIN:  # between t and a unit of time further
                self._hasty[t >= 0] = False
        return self._piece(state, begin, t)

    def _piece(self, state: np.ndarray, begin: float, end: float) -> OdeSolution:
        solution = integrate(
            self.start,
            equation(self.metric, self.start),
            state,
            (begin, end),
            _scale(self.start, self.velocity),
            budget=self._budget,
            dense_output=True,
        )
        return solution.sol


def equation(metric: Metric, local: LocalMetric) -> Callable[[float, np.ndarray], np.ndarray]:
    """Right-hand side (w', -Γ(w', w')) of the geodesic equation for the state (w, w')."""

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        w, velocity = _halves(state)
        here = neighbour(metric, local, w)
        return np.concatenate([velocity, -here.christoffel(velocity, velocity)])

    return derivative


def exponential(
    metric: Metric, local: LocalMetric, a: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Parameters reached at time one by the geodesic w'' = -Γ(w', w') with w'(0) = a.

    Raises NotAnImmersionError for a metric without connection, GeodesicError, RankDeficientError
    or NonFiniteError where the geodesic leaves the domain of the model.
    do Carmo, Riemannian Geometry, ch. 3.
    """
    local = induced(local)
    start = np.concatenate([local.lin.w, a])
    solution = integrate(local, equation(metric, local), start, (0.0, 1.0), _scale(local, a))
    return _halves(solution.y[:, -1])[0]


def exit_time(
    metric: Metric,
    local: InducedMetric,
    a: Float[np.ndarray, " p"],
    outside: Callable[[np.ndarray], float],
    until: float,
) -> float:
    """First time in (0, until] at which outside(w) rises through zero, or infinity.

    Raises GeodesicError and the like where the geodesic ends before that.
    """

    def event(_: float, state: np.ndarray) -> float:
        return outside(_halves(state)[0])

    event.terminal, event.direction = True, 1.0  # type: ignore[attr-defined]
    solution = integrate(
        local,
        equation(metric, local),
        np.concatenate([local.lin.w, a]),
        (0.0, until),
        _scale(local, a),
        events=event,
        dense_output=True,
    )
    # SciPy sees where the ends of a step differ in sign; an excursion within one is found here
    for begin, end in pairwise(solution.t):
        crossing = _first_root(lambda t: event(t, solution.sol(t)), begin, end)
        if crossing is not None:
            return crossing
    return float(solution.t_events[0][0]) if solution.t_events[0].size else np.inf


def _first_root(function: Callable[[float], float], begin: float, end: float) -> float | None:
    """First zero in an interval of a function that rises through it, or None."""
    times = np.linspace(begin, end, _SAMPLES)
    values = np.array([function(t) for t in times])
    if not np.any(values > 0):
        top = int(np.argmax(values))
        low, high = times[max(top - 1, 0)], times[min(top + 1, _SAMPLES - 1)]
        found = minimize_scalar(lambda t: -function(t), bounds=(low, high), method="bounded")
        times, values = np.array([low, found.x]), np.array([function(low), -found.fun])
    over = np.flatnonzero(values > 0)
    if over.size == 0:
        return None
    first = int(over[0])
    if first == 0:
        return float(times[0])
    return float(brentq(function, times[first - 1], times[first], xtol=1e-14))


def _halves(state: np.ndarray) -> State:
    p = len(state) // 2
    return state[:p].copy(), state[p:].copy()


def _scale(local: InducedMetric, a: np.ndarray) -> float:
    return float(max(np.linalg.norm(local.lin.w), np.linalg.norm(a)))


def _stuck(time: float, span: tuple[float, float], why: str) -> str:
    return (
        f"the geodesic could not be followed beyond time {time:.4g} of {span[1]:g} ({why}): "
        "it comes to an edge of the domain of the model; shorten the tangent vector"
    )


def first_order(_: Metric, local: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """The retraction w + a, which makes unit-step descent exactly Gauss-Newton."""
    return local.lin.w + a


def second_order(_: Metric, local: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """The retraction w + a - ½ Γ(a, a), which agrees with the geodesic to second order.

    The added term is the geodesic acceleration of M. K. Transtrum and J. P. Sethna,
    arXiv 1201.5885.
    """
    return local.lin.w + a - 0.5 * induced(local).christoffel(a, a)


Retraction = Callable[[Metric, LocalMetric, np.ndarray], np.ndarray]

RETRACTIONS: dict[str, Retraction] = {
    "first_order": first_order,
    "second_order": second_order,
    "exponential": exponential,
}
