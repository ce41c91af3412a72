"""The Riemannian logarithm by shooting, with the differential of the exponential map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import GeodesicError
from gnmanifold.geometry.curvature import jacobi_operators
from gnmanifold.geometry.geodesics import OFF_DOMAIN, TOLERANCE, Geodesic, integrate, neighbour
from gnmanifold.metrics import InducedMetric, Metric

_NEWTON_STEPS = 15
_HALVINGS = 6
_FAST = 0.05  # reduction of the error by a step below which the differential is kept for the next
_CONVERGED = 1e-11  # of the distance
_NEAR = 1e-3  # of the distance, for the stages of a continuation
_SHORTEST_STAGE = 1 / 32
_EVALUATIONS = 30000  # of a logarithm in all
_ROUGH = 1e-5  # relative accuracy of the differential that Newton's method needs


def exponential_differential(
    geodesic: Geodesic,
    directions: Float[np.ndarray, "p k"] | None = None,
    tolerance: float = TOLERANCE,
    budget: Iterator[int] | None = None,
) -> Float[np.ndarray, "p k"]:
    """Differential of a -> exp_w(a) in some directions, in all p parameters by default.

    Its columns are Jacobi fields Y at time one with Y(0) = 0 and Y'(0) a direction, from one
    integration of the variational equation Y' = Z - Γ(v, Y), Z' = -R(Y, v)v - Γ(v, Z) along the
    geodesic, 2pk unknowns. By the Gauss equation R takes second derivatives of f only, where
    coordinates would take third.
    do Carmo, Riemannian Geometry, ch. 5, prop. 2.7.
    """
    E = np.eye(geodesic.velocity.size) if directions is None else directions
    shape = (len(E), 2, E.shape[1])

    def derivative(t: float, state: np.ndarray) -> np.ndarray:
        fields = state.reshape(shape)
        Y, Z = fields[:, 0], fields[:, 1]
        w, v = geodesic.state(t)
        turn, force = jacobi_operators(neighbour(geodesic.metric, geodesic.start, w), v)
        return np.stack([Z - turn @ Y, -force @ Y - turn @ Z], axis=1).ravel()

    start = np.stack([np.zeros(E.shape), E], axis=1)
    units = np.max(np.abs(E), axis=1)  # of each parameter: they can differ by orders of magnitude
    scale = np.broadcast_to(units[:, None, None], shape).ravel()
    solution = integrate(
        geodesic.start, derivative, start.ravel(), (0.0, 1.0), scale, tolerance, budget
    )
    return solution.y[:, -1].reshape(shape)[:, 0]


def logarithm(
    metric: Metric, local: InducedMetric, w: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Velocity a of a geodesic with exp(a) = w: the shortest one inside the injectivity radius.

    Newton's method on exp(a) = w from a = w - w(0) with the exact differential of the exponential
    map, each step halved until the error decreases; where that fails, by continuation along the
    straight line of parameters. 2p² unknowns are integrated for a differential.
    Raises GeodesicError where no geodesic is found in 30000 evaluations, RankDeficientError or
    NonFiniteError where `local` or the metric at w is bad.
    do Carmo, Riemannian Geometry, ch. 3; L. Noakes, J. Austral. Math. Soc. A 65 (1998).
    """
    origin = local.lin.w
    if np.array_equal(origin, w):
        return np.zeros_like(w)
    there = neighbour(metric, local, w)
    for end in (local, there):
        end.require_regular()  # an error here is not about the way between
    shooting = _Shooting(metric, local, iter(range(_EVALUATIONS)))
    reached, stage = 0.0, 1.0
    a = w - origin
    while reached < 1:
        fraction = min(reached + stage, 1.0)
        stop = (
            there if fraction == 1 else neighbour(metric, local, origin + fraction * (w - origin))
        )
        guess = a * (fraction / reached if reached else fraction)
        try:
            a = shooting.hit(stop, guess, underway=fraction < 1)
        except OFF_DOMAIN as error:
            stage /= 2
            if stage < _SHORTEST_STAGE:
                reason = str(error).partition(":")[0]
                raise GeodesicError(
                    f"no geodesic was found beyond {reached:.0%} of the way to the other point "
                    f"({reason}): the points are too far apart for this surface, or it has a hole "
                    "or an edge between them; take points closer together"
                ) from error
            continue
        reached = fraction
    return a


@dataclass(frozen=True, eq=False)
class _Shot:
    """A geodesic and where its end misses the target."""

    geodesic: Geodesic
    miss: np.ndarray
    error: float


@dataclass(frozen=True, eq=False)
class _Shooting:
    """Newton's method for geodesics from `local` that end at a target."""

    metric: Metric
    local: InducedMetric
    budget: Iterator[int]

    def hit(self, target: InducedMetric, guess: np.ndarray, underway: bool) -> np.ndarray:
        """Velocity of a geodesic to the target, coarser where `underway`; GeodesicError if none."""
        target.require_regular()
        w, origin = target.lin.w, self.local.lin.w
        distance = float(target.length(w - origin))
        rounding = 1e-13 * float(target.length(np.abs(w) + np.abs(origin)))
        accuracy = 10 * self.local.lin.model.second_order_accuracy
        enough = max(_NEAR if underway else _CONVERGED, accuracy) * distance + rounding
        now, differential = self._shoot(target, guess), None
        for _ in range(_NEWTON_STEPS):
            if now.error <= enough:
                break
            fresh = differential is None
            if differential is None:
                differential = exponential_differential(
                    now.geodesic, self.local.frame, _ROUGH, self.budget
                )
            after = self._decrease(target, now, self._step(target, differential, now.miss))
            if after is None and fresh:
                break
            if after is None or after.error > _FAST * now.error:
                differential = None
            now = now if after is None else after
        if now.error > 100 * enough:
            raise GeodesicError(
                f"shooting did not converge: its geodesic ends at distance {now.error:.2g} from "
                f"the other point, which is {distance:.2g} away"
            )
        return now.geodesic.velocity.copy()

    def _shoot(self, target: InducedMetric, a: np.ndarray) -> _Shot:
        geodesic = Geodesic(self.metric, self.local, a, self.budget)
        miss = geodesic.state(1.0)[0] - target.lin.w
        return _Shot(geodesic, miss, float(target.length(miss)))

    def _step(
        self, target: InducedMetric, differential: np.ndarray, miss: np.ndarray
    ) -> np.ndarray:
        """Newton step, solved in orthonormal frames at both ends and so without units."""
        there = np.linalg.solve(target.frame, np.column_stack([differential, miss]))
        return self.local.frame @ np.linalg.lstsq(there[:, :-1], there[:, -1], rcond=None)[0]

    def _decrease(self, target: InducedMetric, now: _Shot, step: np.ndarray) -> _Shot | None:
        """First shot along the step that comes closer, or None."""
        factor = 1.0
        for _ in range(_HALVINGS):
            try:
                after = self._shoot(target, now.geodesic.velocity - factor * step)
            except OFF_DOMAIN:
                after = None
            if after is not None and after.error < now.error:
                return after
            factor /= 2
        return None
