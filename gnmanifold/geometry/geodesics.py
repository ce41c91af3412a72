"""Geodesics of an immersed metric, and retractions that agree with them to some order."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from gnmanifold.errors import GeodesicError
from gnmanifold.linearization import Linearization
from gnmanifold.metrics import LocalMetric, Metric

_TOLERANCE = 1e-12
_MAX_EVALUATIONS = 1500  # a geodesic that takes more is stuck at the edge of the domain


def exponential(
    metric: Metric, local: LocalMetric, a: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """Parameters reached at time one by the geodesic w'' = -Γ(w', w') with w'(0) = a.

    Integrated by SciPy's DOP853 with relative tolerance 1e-12, or the accuracy of the model's
    second derivatives where that is less, in at most 1500 evaluations.
    Raises NotAnImmersionError for a metric without connection, GeodesicError, RankDeficientError
    or NonFiniteError where the geodesic leaves the domain of the model.
    do Carmo, Riemannian Geometry, ch. 3.
    """
    p = a.size
    lin = local.lin

    evaluations = iter(range(_MAX_EVALUATIONS))

    def acceleration(time: float, state: np.ndarray) -> np.ndarray:
        if next(evaluations, None) is None:
            raise GeodesicError(_stuck(time, f"{_MAX_EVALUATIONS} evaluations did not suffice"))
        w, velocity = state[:p].copy(), state[p:]
        here = metric.at(Linearization(lin.model, w, counts=lin.counts, solver=lin.solver))
        return np.concatenate([velocity, -here.christoffel(velocity, velocity)])

    size = max(float(np.linalg.norm(lin.w)), float(np.linalg.norm(a)), np.finfo(float).tiny)
    tolerance = max(_TOLERANCE, lin.model.second_order_accuracy)
    solution = solve_ivp(
        acceleration,
        (0.0, 1.0),
        np.concatenate([lin.w, a]),
        method="DOP853",
        rtol=tolerance,
        atol=tolerance * size,
    )
    if not solution.success:
        raise GeodesicError(_stuck(solution.t[-1], solution.message))
    return np.asarray(solution.y[:p, -1])


def _stuck(time: float, why: str) -> str:
    return (
        f"the geodesic could not be followed beyond time {time:.4g} of 1 ({why}): "
        "the tangent vector is too long for the domain of the model; shorten it, or take "
        "retraction='second_order'"
    )


def first_order(_: Metric, local: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """The retraction w + a, which makes unit-step descent exactly Gauss-Newton."""
    return local.lin.w + a


def second_order(_: Metric, local: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
    """The retraction w + a - ½ Γ(a, a), which agrees with the geodesic to second order.

    The added term is the geodesic acceleration of M. K. Transtrum and J. P. Sethna,
    arXiv 1201.5885.
    """
    return local.lin.w + a - 0.5 * local.christoffel(a, a)


Retraction = Callable[[Metric, LocalMetric, np.ndarray], np.ndarray]

RETRACTIONS: dict[str, Retraction] = {
    "first_order": first_order,
    "second_order": second_order,
    "exponential": exponential,
}
