"""The Riemannian logarithm by shooting, with the differential of the exponential map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import GeodesicError, NonFiniteError, RankDeficientError
from gnmanifold.geometry.curvature import jacobi_operators
from gnmanifold.geometry.geodesics import TOLERANCE, Geodesic, integrate, neighbour
from gnmanifold.metrics import InducedMetric, Metric

_NEWTON_STEPS = 15
_HALVINGS = 6
_FAST = 0.05  # reduction of the error by a step below which the differential is kept for the next
_CONVERGED = 1e-11  # of the distance
_NEAR = 1e-3  # of the distance, for the stages of a continuation
_ACCEPTED = 1e-9  # of the distance, where rounding allows no less
_SHORTEST_STAGE = 1 / 32
_INTEGRATIONS = 60  # after which a continuation that fails is not refined further
_ROUGH = 1e-5  # relative accuracy of the differential that Newton's method needs

_OFF_DOMAIN = (GeodesicError, NonFiniteError, RankDeficientError)


def exponential_differential(
    geodesic: Geodesic, tolerance: float = TOLERANCE
) -> Float[np.ndarray, "p p"]:
    """Differential of a -> exp_w(a), the p x p matrix that maps changes of a to those of exp_w(a).

    Its columns are Jacobi fields Y at time one with Y(0) = 0 and Y'(0) = e_j, from one integration
    of the variational equation Y' = Z - Γ(v, Y), Z' = -R(Y, v)v - Γ(v, Z) along the geodesic. By
    the Gauss equation R takes second derivatives of f only, where coordinates would take third.
    do Carmo, Riemannian Geometry, ch. 5, prop. 2.7.
    """
    p = geodesic.velocity.size

    def derivative(t: float, state: np.ndarray) -> np.ndarray:
        fields = state.reshape(p, 2, p)
        Y, Z = fields[:, 0], fields[:, 1]
        w, v = geodesic.state(t)
        turn, force = jacobi_operators(neighbour(geodesic.metric, geodesic.start, w), v)
        return np.stack([Z - turn @ Y, -force @ Y - turn @ Z], axis=1).ravel()

    start = np.stack([np.zeros((p, p)), np.eye(p)], axis=1).ravel()
    solution = integrate(geodesic.start, derivative, start, (0.0, 1.0), 1.0, tolerance)
    return solution.y[:, -1].reshape(p, 2, p)[:, 0]


def logarithm(
    metric: Metric, local: InducedMetric, w: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Velocity a of a geodesic with exp(a) = w: the shortest one inside the injectivity radius.

    Newton's method on exp(a) = w from a = w - w(0) with the exact differential of the exponential
    map, each step halved until the error decreases; where that fails, by continuation along the
    straight line of parameters.
    Raises GeodesicError where no geodesic is found, RankDeficientError or NonFiniteError where
    `local` or the metric at w is bad.
    do Carmo, Riemannian Geometry, ch. 3; L. Noakes, J. Austral. Math. Soc. A 65 (1998).
    """
    origin = local.lin.w
    if np.array_equal(origin, w):
        return np.zeros_like(w)
    for end in (local, neighbour(metric, local, w)):
        end.require_regular()  # an error here is not about the way between
    counts = local.lin.counts
    last = counts.integrations + _INTEGRATIONS
    reached, stage, a = 0.0, 1.0, None
    while reached < 1:
        target = min(reached + stage, 1.0)
        guess = target * (w - origin) if a is None else a * (target / reached)
        try:
            stop = w if target == 1 else origin + target * (w - origin)
            a = _shoot(metric, local, stop, guess, underway=target < 1)
        except _OFF_DOMAIN as error:
            stage /= 2
            if stage < _SHORTEST_STAGE or counts.integrations > last:
                reason = str(error).partition(":")[0]
                raise GeodesicError(
                    f"no geodesic was found beyond {reached:.0%} of the way to the other point "
                    f"({reason}): the points are too far apart for this surface, or it has a hole "
                    "or an edge between them; take points closer together"
                ) from error
            continue
        reached = target
    assert a is not None
    return a


@dataclass(frozen=True, eq=False)
class _Shot:
    """A geodesic and where its end misses the target."""

    geodesic: Geodesic
    miss: np.ndarray
    error: float


def _shoot(
    metric: Metric, local: InducedMetric, w: np.ndarray, guess: np.ndarray, underway: bool
) -> np.ndarray:
    """Velocity of a geodesic from `local` to w by Newton's method, coarser where `underway`."""
    target = neighbour(metric, local, w)
    target.require_regular()

    def shot(a: np.ndarray) -> _Shot:
        geodesic = Geodesic(metric, local, a)
        miss = geodesic.state(1.0)[0] - w
        return _Shot(geodesic, miss, float(target.length(miss)))

    now = shot(guess)
    scale = float(target.length(w - local.lin.w))
    rounding = 1e-13 * float(target.length(np.abs(w) + np.abs(local.lin.w)))
    differential = None
    for _ in range(_NEWTON_STEPS):
        if now.error <= (_NEAR if underway else _CONVERGED) * scale + rounding:
            break
        fresh = differential is None
        if differential is None:
            differential = exponential_differential(now.geodesic, _ROUGH)
        step = np.linalg.lstsq(differential, now.miss, rcond=None)[0]
        after = _decrease(shot, now, step)
        if after is None and fresh:
            break
        if after is None or after.error > _FAST * now.error:
            differential = None
        now = now if after is None else after
    if now.error > (_NEAR if underway else _ACCEPTED) * scale + 100 * rounding:
        raise GeodesicError(
            f"shooting did not converge: its geodesic ends at distance {now.error:.2g} from the "
            f"other point, which is {scale:.2g} away"
        )
    return now.geodesic.velocity


def _decrease(shot: Callable[[np.ndarray], _Shot], now: _Shot, step: np.ndarray) -> _Shot | None:
    """First shot along the step that comes closer, or None."""
    factor = 1.0
    for _ in range(_HALVINGS):
        try:
            after = shot(now.geodesic.velocity - factor * step)
        except _OFF_DOMAIN:
            after = None
        if after is not None and after.error < now.error:
            return after
        factor /= 2
    return None
