"""The Polyak-Łojasiewicz ratio |grad h|²/(2(h - h_min)), along a run and over a region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, GnmanifoldError
from gnmanifold.flows import Trajectory
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import RandomState, as_generator, finite, positive, positive_int

_ROUNDING = 1e-12  # gap relative to the largest cost that is left out


@dataclass(frozen=True, eq=False)
class PolyakLojasiewicz:
    """Ratios |grad h|²/(2(h - h_min)) at the points of a run, or at samples of a region.

    `smallest` is the largest μ with the Polyak-Łojasiewicz inequality |grad h|² >= 2μ(h - h_min)
    at these points, attained at index `where`. It bounds that of the region from above. `ratios`
    (T,) are NaN where the gap is rounding or the gradient does not exist; `positions` (T,) are
    times, iterations, or distances from the centre, `parameters` (T, p) the points. `minimum` is
    h_min; where it was `estimated`, by the lowest cost seen, the ratios near it are too large.
    B. T. Polyak, 1963; H. Karimi, J. Nutini and M. Schmidt, ECML 2016.
    """

    ratios: Float[np.ndarray, " T"]
    positions: Float[np.ndarray, " T"]
    parameters: Float[np.ndarray, "T p"]
    minimum: float
    estimated: bool

    @property
    def where(self) -> int:
        """Index of the smallest ratio."""
        return int(np.nanargmin(self.ratios))

    @property
    def smallest(self) -> float:
        """Smallest ratio μ."""
        return float(self.ratios[self.where])

    @property
    def rate(self) -> float:
        """Rate 2μ of h - h_min along the gradient flow that μ implies."""
        return 2 * self.smallest

    @property
    def skipped(self) -> int:
        """Number of points without a ratio."""
        return int(np.isnan(self.ratios).sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        names = ("smallest", "rate", "where", "skipped", "minimum", "estimated")
        return {
            **{name: getattr(self, name) for name in names},
            "position": float(self.positions[self.where]),
        }

    def __str__(self) -> str:
        seen = " (the lowest cost seen)" if self.estimated else ""
        return (
            f"Polyak-Łojasiewicz: ratio >= {self.smallest:.6g} at {len(self.ratios) - self.skipped}"
            f" points, smallest at {self.positions[self.where]:.4g}; h_min = {self.minimum:.6g}"
            f"{seen}; rate of the flow >= {self.rate:.6g} there"
        )


def polyak_lojasiewicz_along(run: Any, *, minimum: float | None = None) -> PolyakLojasiewicz:
    """Ratio along a Trajectory, or along the log of an optimizer's result.

    The gradient is measured as the run did: in the metric of its manifold, with its schedule for a
    damped flow. `minimum` is h_min, the lowest cost of the run without it.
    Raises ArgumentError for a run without log, or that has no point above the minimum.
    """
    if isinstance(run, Trajectory):
        norms, costs = run.gradient_norms, run.costs
        return _ratios(run.times, run.parameters, costs, norms, minimum)
    rows = (getattr(run, "log", None) or {}).get("iterations")
    if not rows or "gradient_norm" not in rows:
        raise ArgumentError(
            "run must be a Trajectory, or an optimizer's result with a log (log_verbosity=1), "
            f"got {type(run).__name__}"
        )
    parameters = np.array([getattr(point, "parameters", point) for point in rows["point"]])
    iterations, costs, norms = (
        np.array(rows[name], dtype=float) for name in ("iteration", "cost", "gradient_norm")
    )
    return _ratios(iterations, parameters, costs, norms, minimum)


def polyak_lojasiewicz_over(
    problem: CompositeProblem,
    center: ArrayLike,
    radius: float,
    *,
    minimum: float | None = None,
    samples: int = 256,
    rng: RandomState = 0,
) -> PolyakLojasiewicz:
    """Ratio at the centre and at random points of the ball |w - center| < radius of parameters.

    In the metric of the problem's manifold. Directions and distances are uniform, so that the
    inside is covered too. `minimum` is h_min, the lowest cost of the samples without it; points
    where the metric degenerates have no ratio.
    Raises ArgumentError for another kind of problem, or where no sample lies above the minimum.
    """
    require_composite(problem, "polyak_lojasiewicz_over")
    positive("radius", radius)
    manifold = problem.manifold
    middle = np.array(manifold.at(manifold.as_point(center)).lin.w)
    number = positive_int("samples", samples)
    points = [middle, *_ball(middle, radius, number, as_generator(rng))]
    costs, norms = np.transpose([_at(problem, w) for w in points])
    distances = np.linalg.norm(np.array(points) - middle, axis=1)
    return _ratios(distances, np.array(points), costs, norms, minimum)


def _ball(
    middle: np.ndarray, radius: float, samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    for _ in range(samples):
        direction = rng.standard_normal(middle.size)
        yield middle + radius * rng.random() * direction / np.linalg.norm(direction)


def _at(problem: CompositeProblem, w: np.ndarray) -> tuple[float, float]:
    """Cost and gradient norm at some parameters, NaN where they do not exist."""
    try:
        point = problem.manifold.as_point(w)
        cost = float(problem.cost(point))
        gradient = problem.riemannian_gradient(point)
        return cost, float(problem.manifold.norm(point, gradient))
    except GnmanifoldError:
        return np.nan, np.nan


def _ratios(
    positions: np.ndarray,
    parameters: np.ndarray,
    costs: np.ndarray,
    norms: np.ndarray,
    minimum: float | None,
) -> PolyakLojasiewicz:
    lowest = float(np.nanmin(costs)) if np.any(np.isfinite(costs)) else np.nan
    least = lowest if minimum is None else finite("minimum", minimum)
    if lowest < least - _ROUNDING * abs(least):
        raise ArgumentError(f"minimum = {least:.6g} is above a cost that was seen, {lowest:.6g}")
    gaps = costs - least
    rounding = _ROUNDING * max(abs(least), float(np.nanmax(np.abs(costs), initial=0.0)) * _ROUNDING)
    usable = np.isfinite(costs) & np.isfinite(norms) & (gaps > rounding)
    if not usable.any():
        raise ArgumentError("no point has a finite gradient and a cost above the minimum")
    ratios = np.full(len(costs), np.nan)
    ratios[usable] = norms[usable] ** 2 / (2 * gaps[usable])
    return PolyakLojasiewicz(ratios, positions, parameters, least, minimum is None)
