"""Parallel transport along geodesics and polylines, and its approximation by ladders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.geometry.geodesics import integrate, neighbour
from gnmanifold.metrics import InducedMetric, Metric

_FEW = 3  # vectors for which single contractions are cheaper than a derivative of the Jacobian


def parallel_transport(
    metric: Metric, local: InducedMetric, a: Float[np.ndarray, " p"], U: Float[np.ndarray, " p *k"]
) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, " p *k"]]:
    """Transport a vector, or columns, along the geodesic with velocity a from time zero to one.

    Solves U' = -Γ(w', U) with the geodesic; returns the parameters and velocity at the end, and U.
    Integrated like a geodesic, whose errors it raises. do Carmo, Riemannian Geometry, ch. 2.
    """
    p = a.size

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        w, velocity, columns = state[:p].copy(), state[p : 2 * p], state[2 * p :].reshape(U.shape)
        here = neighbour(metric, local, w)
        turned = [-here.christoffel(velocity, velocity), -_turn(here, velocity, columns).ravel()]
        return np.concatenate([velocity, *turned])

    start = np.concatenate([local.lin.w, a, U.ravel()])
    scale = float(max(np.linalg.norm(part) for part in (local.lin.w, a, U)))
    end = integrate(local, derivative, start, (0.0, 1.0), scale).y[:, -1]
    return end[:p].copy(), end[p : 2 * p].copy(), end[2 * p :].reshape(U.shape)


def transport_along(
    metric: Metric,
    local: InducedMetric,
    stops: Sequence[Float[np.ndarray, " p"]],
    U: Float[np.ndarray, " p *k"],
) -> Float[np.ndarray, " p *k"]:
    """Transport a vector, or columns, along straight lines of parameters from stop to stop.

    Solves U' = -Γ(d, U) on w + t d for each segment d, starting where `local` is.
    """
    corners = [local.lin.w, *stops]
    for start, end in pairwise(corners):
        U = _transport_straight(metric, local, start, end - start, U)
    return U


def _transport_straight(
    metric: Metric, local: InducedMetric, w: np.ndarray, d: np.ndarray, U: np.ndarray
) -> np.ndarray:
    def derivative(t: float, state: np.ndarray) -> np.ndarray:
        here = neighbour(metric, local, w + t * d)
        return -_turn(here, d, state.reshape(U.shape)).ravel()

    size = float(np.linalg.norm(U))
    return integrate(local, derivative, U.ravel(), (0.0, 1.0), size).y[:, -1].reshape(U.shape)


def _turn(local: InducedMetric, velocity: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Christoffel contraction of a velocity with a vector or with each column."""
    if columns.ndim == 1:
        return local.christoffel(velocity, columns)
    if columns.shape[1] > _FEW:
        return local.christoffels(velocity) @ columns
    return np.column_stack([local.christoffel(velocity, column) for column in columns.T])


def ladder(manifold: Any, kind: str, points: Sequence[Any], u: Any) -> Any:
    """Transport a tangent vector from point to point by ladders that need only exp and log.

    Each rung of the pole ladder reflects exp(u) through the midpoint of the step: third order in
    the step, exact in symmetric spaces. Schild's ladder closes a geodesic parallelogram: second
    order. `u` is shortened to the square of the step, since the error grows with it.
    N. Guigui and X. Pennec, Found. Comput. Math. 22 (2022).
    """
    rung: Callable[..., Any] = _LADDERS[kind]
    step = float(manifold.dist(points[0], points[1]))
    size = float(manifold.norm(points[0], u))
    if step == 0 or size == 0:
        return u
    factor = step * min(step, 1.0) / size
    u = factor * u
    for start, end in pairwise(points):
        u = rung(manifold, start, end, u)
    return u / factor


def _pole(manifold: Any, start: Any, end: Any, u: Any) -> Any:
    middle = manifold.pair_mean(start, end)
    tip = manifold.exp(start, u)
    reflected = manifold.exp(middle, -manifold.log(middle, tip))
    return -manifold.log(end, reflected)


def _schild(manifold: Any, start: Any, end: Any, u: Any) -> Any:
    tip = manifold.exp(start, u)
    middle = manifold.pair_mean(tip, end)
    opposite = manifold.exp(start, 2 * manifold.log(start, middle))
    return manifold.log(end, opposite)


_LADDERS: dict[str, Callable[..., Any]] = {"pole": _pole, "schild": _schild}
LADDERS = tuple(_LADDERS)
