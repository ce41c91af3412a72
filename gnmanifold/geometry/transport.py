"""Parallel transport along geodesics and polylines, and its approximation by ladders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from gnmanifold.geometry.geodesics import Geodesic, exponential, integrate, neighbour
from gnmanifold.geometry.logarithm import logarithm
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


def ladder(
    metric: Metric, local: InducedMetric, a: np.ndarray, u: np.ndarray, kind: str, steps: int
) -> Float[np.ndarray, " p"]:
    """Transport a velocity along the geodesic with velocity a by ladders of exp and log.

    Each rung of the pole ladder reflects exp(u) through the midpoint of its step, exact in
    symmetric spaces; Schild's ladder closes a geodesic parallelogram. The vector is shortened to
    |a|/steps², so that the error of either is of second order in 1/steps.
    N. Guigui and X. Pennec, Found. Comput. Math. 22 (2022).
    """
    rung, size, length = _RUNGS[kind], local.length(u), local.length(a)
    if size == 0 or length == 0:
        return u.copy()
    factor = length / (steps**2 * size)
    geodesic = Geodesic(metric, local, a)
    stops = [geodesic.state(t)[0] for t in np.linspace(0, 1, 2 * steps + 1)]
    u = factor * u
    for i in range(steps):
        start, middle, end = (neighbour(metric, local, w) for w in stops[2 * i : 2 * i + 3])
        u = rung(metric, start, middle, end, u)
    return u / factor


def _pole(
    metric: Metric, start: InducedMetric, middle: InducedMetric, end: InducedMetric, u: np.ndarray
) -> np.ndarray:
    tip = exponential(metric, start, u)
    reflected = exponential(metric, middle, -logarithm(metric, middle, tip))
    return -logarithm(metric, end, reflected)


def _schild(
    metric: Metric, start: InducedMetric, _: InducedMetric, end: InducedMetric, u: np.ndarray
) -> np.ndarray:
    tip = neighbour(metric, start, exponential(metric, start, u))
    middle = exponential(metric, tip, 0.5 * logarithm(metric, tip, end.lin.w))
    opposite = exponential(metric, start, 2 * logarithm(metric, start, middle))
    return logarithm(metric, end, opposite)


_RUNGS = {"pole": _pole, "schild": _schild}
LADDERS = tuple(_RUNGS)
