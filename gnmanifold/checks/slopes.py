"""Slope tests of gradients, Hessians and retractions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pymanopt.manifolds.manifold import RiemannianSubmanifold

from gnmanifold.checks.vectors import IDENTITY, distance, random_tangent
from gnmanifold.errors import ArgumentError
from gnmanifold.validation import RandomState, as_generator

_STEPS = np.logspace(-9, 0, 91)
_DECADES = 1.4  # of the step: the shortest stretch that a slope is trusted from
_STRAIGHT = 0.01  # rms deviation of log10 of the error from a line that counts as straight
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SlopeCheck:
    """Outcome of a slope test: the error of a model of order k - 1 must vanish like t^k.

    `slope` is fitted on the straight stretch of log error against log t with the smallest t,
    `window` gives its indices. It is infinite where the errors are rounding (the model is exact),
    and NaN where rounding hides the term under test as well, which is no pass.
    `identities` holds relative errors of what must vanish beside. True when the slope is at
    least `expected` minus `tolerance` and the identities hold to 1e-10.
    """

    name: str
    slope: float
    expected: float
    tolerance: float
    steps: np.ndarray
    errors: np.ndarray
    window: tuple[int, int]
    identities: dict[str, float] = field(default_factory=dict)
    hint: str = ""

    @property
    def verdict(self) -> bool:
        """Whether the check passed."""
        steep = self.slope >= self.expected - self.tolerance
        return bool(steep and all(error <= IDENTITY for error in self.identities.values()))

    def __bool__(self) -> bool:
        return self.verdict

    def __str__(self) -> str:
        parts = [f"slope {self.slope:.3f}, expected {self.expected:g} ± {self.tolerance:g}"]
        parts += [f"{name} {error:.1e}" for name, error in self.identities.items()]
        outcome = "passed" if self else f"FAILED ({self._reason()})"
        return f"{self.name}: {outcome}: " + "; ".join(parts)

    def _reason(self) -> str:
        broken = [name for name, error in self.identities.items() if not error <= IDENTITY]
        if np.isnan(self.slope):
            return "nothing to see: the differences of the cost are below its rounding"
        if self.slope < self.expected - self.tolerance:
            return self.hint
        return (
            f"{' and '.join(broken)} above {IDENTITY:.0e} with a right slope: the parts of the "
            "derivative disagree, as they do where it comes from differences"
        )


def check_gradient(
    problem: Any, point: Any = None, tangent_vector: Any = None, *, rng: RandomState = 0
) -> SlopeCheck:
    """Check the Riemannian gradient: |h(R(tv)) - h - t <grad h, v>| must vanish like t².

    Also that the gradient is tangent. Without a point or a vector a random one is taken; `rng`
    seeds the vector. Boumal, An Introduction to Optimization on Smooth Manifolds, section 4.8.

    >>> import gnmanifold as gn
    >>> model = gn.CallableModel(lambda w: np.sin(w), num_parameters=3)
    >>> problem = gn.CompositeProblem(gn.ParameterManifold(model), gn.SquaredError(np.ones(3)))
    >>> check = check_gradient(problem, np.zeros(3), rng=0)
    >>> bool(check), round(check.slope)
    (True, 2)
    """
    point, v = _point_and_vector(problem.manifold, point, tangent_vector, rng)
    gradient = problem.riemannian_gradient(point)
    slope = problem.manifold.inner_product(point, gradient, v)
    errors, noise, hidden = _taylor_errors(problem, point, v, (slope,))
    return _slope_check(
        "gradient",
        errors,
        noise,
        expected=2.0,
        tolerance=0.05,
        hidden=hidden,
        identities=_tangency(problem.manifold, point, gradient),
        hint="the gradient is not that of the cost, or not a tangent vector",
    )


def check_hessian(
    problem: Any, point: Any = None, tangent_vector: Any = None, *, rng: RandomState = 0
) -> SlopeCheck:
    """Check the Riemannian Hessian: |h(R(tv)) - h - t <grad h, v> - t²/2 <Hess v, v>| ~ t³.

    Also that the Hessian is symmetric, linear and tangent. Away from critical points this needs a
    second-order retraction: with a first-order one a right Hessian has slope 2.
    Boumal, An Introduction to Optimization on Smooth Manifolds, section 6.8.
    """
    manifold = problem.manifold
    point, v = _point_and_vector(manifold, point, tangent_vector, rng)
    slope = manifold.inner_product(point, problem.riemannian_gradient(point), v)
    image = problem.riemannian_hessian(point, v)
    curvature = manifold.inner_product(point, image, v)
    errors, noise, hidden = _taylor_errors(problem, point, v, (slope, 0.5 * curvature))
    return _slope_check(
        "Hessian",
        errors,
        noise,
        expected=3.0,
        tolerance=0.1,
        hidden=hidden,
        identities={
            **_hessian_identities(problem, point, v, image, rng),
            **_tangency(manifold, point, image),
        },
        hint="the Hessian is wrong, or the retraction of the manifold is not of second order, "
        "which alone gives slope 2: make the manifold with retraction='second_order'",
    )


def check_retraction(
    manifold: Any,
    point: Any = None,
    tangent_vector: Any = None,
    *,
    order: int = 1,
    rng: RandomState = 0,
) -> SlopeCheck:
    """Check that a retraction agrees with the exponential map: distance ~ t^(order + 1).

    The reference is the manifold's `exp`; where it has none, a Riemannian submanifold is checked
    by the tangential part of R(tv) - x - tv for order 2 and by all of it for order 1.
    Raises ArgumentError for another order or a manifold that allows neither.
    """
    if order not in (1, 2):
        raise ArgumentError(f"order must be 1 or 2, got {order!r}")
    point, v = _point_and_vector(manifold, point, tangent_vector, rng)
    steps = np.logspace(-2.6, -0.6, 13)
    exp = _exponential(manifold, point, v, float(steps[-1]))
    errors = np.array([_deviation(manifold, point, t, v, order, exp) for t in steps])
    # Rounding of points, and of an exponential map that is integrated to a relative 1e-12.
    size = float(np.linalg.norm(point)) if isinstance(point, np.ndarray) else 1.0
    noise = 100 * _EPS * size + 1e-11 * steps * float(manifold.norm(point, v))
    return _slope_check(
        "retraction",
        errors,
        noise,
        expected=order + 1.0,
        tolerance=0.1,
        steps=steps,
        hint=f"the retraction is not of order {order}",
    )


def _point_and_vector(manifold: Any, point: Any, vector: Any, rng: RandomState) -> tuple[Any, Any]:
    if point is None and vector is not None:
        raise ArgumentError("a tangent vector needs the point that it is tangent at: pass both")
    if point is None:
        point = manifold.random_point()
    elif hasattr(manifold, "as_point"):  # the package's manifolds take parameters too
        point = manifold.as_point(point)
    if vector is None:
        vector = random_tangent(manifold, point, as_generator(rng))
    return point, vector


def _taylor_errors(
    problem: Any, point: Any, v: Any, coefficients: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Errors of the Taylor polynomial along the retraction, rounding, and if that hides its end."""
    start = float(problem.cost(point))
    retraction = problem.manifold.retraction
    values = np.array([float(problem.cost(retraction(point, t * v))) for t in _STEPS])
    model = start + sum(c * _STEPS ** (k + 1) for k, c in enumerate(coefficients))
    noise = 100 * _EPS * (abs(start) + np.abs(np.nan_to_num(values, posinf=np.inf)))
    hidden = 0 < abs(coefficients[-1]) <= np.max(noise)
    return np.abs(values - model), noise, bool(hidden)


def _slope_check(
    name: str,
    errors: np.ndarray,
    noise: np.ndarray,
    expected: float,
    tolerance: float,
    hint: str,
    steps: np.ndarray = _STEPS,
    hidden: bool = False,
    identities: dict[str, float] | None = None,
) -> SlopeCheck:
    slope, window = _fit_slope(steps, errors, noise)
    if hidden and np.isinf(slope):
        slope = np.nan  # the model is not exact: neither its last term nor an error was seen
    return SlopeCheck(
        name, slope, expected, tolerance, steps, errors, window, identities or {}, hint
    )


def _fit_slope(
    steps: np.ndarray, errors: np.ndarray, noise: np.ndarray
) -> tuple[float, tuple[int, int]]:
    """Slope on the first straight window above the noise, or on the straightest there is."""
    clear = np.isfinite(errors) & (errors > noise)
    if not clear.any():
        return (np.inf if np.all(np.isfinite(errors)) else 0.0), (0, len(steps))
    x, y = np.log10(steps), np.log10(np.where(clear, errors, 1.0))
    width = 1 + round(_DECADES * (len(x) - 1) / (x[-1] - x[0]))
    best = (np.inf, 0.0, 0)
    for first in range(len(x) - width + 1):
        part = slice(first, first + width)
        if not clear[part].all():
            continue
        coefficients, (residual,), *_ = np.polyfit(x[part], y[part], 1, full=True)
        deviation = float(np.sqrt(residual / width))
        if deviation < best[0]:
            best = (deviation, float(coefficients[0]), first)
        if deviation < _STRAIGHT:
            break
    deviation, slope, first = best
    if np.isinf(deviation):
        # Too few errors rise above rounding for a slope: the model is exact to rounding there.
        return (np.inf if _mostly_noise(errors, noise) else 0.0), (0, len(steps))
    return slope, (first, first + width)


def _mostly_noise(errors: np.ndarray, noise: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(errors)) and np.mean(errors > noise) < 0.2)


def _tangency(manifold: Any, point: Any, vector: Any) -> dict[str, float]:
    try:
        kept = manifold.to_tangent_space(point, vector)
    except NotImplementedError:
        return {}
    size = float(manifold.norm(point, vector))
    difference = vector - kept
    if isinstance(difference, np.ndarray):  # a manifold's own norm may see tangent parts alone
        error = float(np.linalg.norm(difference) / np.linalg.norm(vector)) if size > 0 else 0.0
        return {"tangency": error}
    error = float(manifold.norm(point, difference))
    return {"tangency": error / size if size > 0 else error}


def _hessian_identities(
    problem: Any, point: Any, v: Any, image: Any, rng: RandomState
) -> dict[str, float]:
    manifold = problem.manifold
    generator = as_generator(rng)
    u = random_tangent(manifold, point, generator) + random_tangent(manifold, point, generator)
    other = problem.riemannian_hessian(point, u)
    size = float(manifold.norm(point, image) + manifold.norm(point, other))
    left, right = manifold.inner_product(point, other, v), manifold.inner_product(point, image, u)
    mixed = problem.riemannian_hessian(point, 2 * u - 3 * v) - (2 * other - 3 * image)
    scale = size if size > 0 else 1.0
    return {
        "symmetry": abs(float(left - right)) / scale,
        "linearity": float(manifold.norm(point, mixed)) / scale,
    }


def _exponential(manifold: Any, point: Any, v: Any, longest: float) -> Callable[[float], Any]:
    """Function t -> exp(t v), read off a single geodesic where the manifold has those."""
    if not hasattr(manifold, "geodesic"):
        return lambda t: manifold.exp(point, t * v)
    geodesic = manifold.geodesic(point, longest * v)
    return lambda t: geodesic(t / longest)


def _deviation(
    manifold: Any, point: Any, t: float, v: Any, order: int, exp: Callable[[float], Any]
) -> float:
    step = t * v
    reached = manifold.retraction(point, step)
    try:
        return distance(manifold, exp(t), reached)
    except NotImplementedError:
        pass
    if not isinstance(manifold, RiemannianSubmanifold) or not isinstance(reached, np.ndarray):
        raise ArgumentError(
            f"{manifold} has no exponential map and is no submanifold of arrays: "
            "there is nothing to compare its retraction with"
        )
    difference = np.asarray(reached) - np.asarray(point) - np.asarray(step)
    if order == 2:
        difference = manifold.projection(point, difference)
    return float(np.linalg.norm(difference))
