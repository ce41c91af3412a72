"""Geodesic convexity of a cost over a sublevel set or a ball, by samples along geodesics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from gnmanifold.diagnostics.convexity import HessianTerms, extreme_eigenvalues, hessian_terms
from gnmanifold.errors import ArgumentError, GeodesicError, NonFiniteError, RankDeficientError
from gnmanifold.metrics.induced import induced
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import RandomState, as_generator, finite, positive, positive_int

OFF = (GeodesicError, NonFiniteError, RankDeficientError)
_GROWTH = 1.5  # of the time to which a geodesic is followed, until it has left the region
_FOLLOWED = 24
_DESCENTS = 3  # sampled points from which worse ones are sought
_SHRINK = 0.7


@dataclass(frozen=True, eq=False)
class RegionConvexity:
    """What samples say of the convexity of a cost over a region around a centre.

    `modulus` and `smoothness` are the smallest and largest eigenvalue of the Riemannian Hessian
    found, `negative_share` the share of the sampled points where it is indefinite, `worst` the
    terms at the worst point, `worst_parameters` (p,). The coverage: `samples` points on
    `directions` geodesics, of which `reached` came to the boundary of the region, at distances up
    to `distance` in the metric. Samples bound the truth from one side: the true modulus is at most
    this one. `required` is ν/2 and `allowed` μ + ν/2 of Theorem 22, NaN where the loss has none.
    """

    modulus: float
    smoothness: float
    negative_share: float
    worst: HessianTerms
    worst_parameters: Float[np.ndarray, " p"]
    samples: int
    directions: int
    reached: int
    distance: float
    required: float
    allowed: float

    @property
    def verdict(self) -> str:
        """What the samples say, in a sentence."""
        seen = (
            f"at {self.samples} points on {self.directions} geodesics, {self.reached} of which "
            f"reach the boundary, up to distance {self.distance:.3g}"
        )
        if _negative(self.modulus, self.smoothness):
            return (
                f"Not geodesically convex: the Hessian has the eigenvalue {self.modulus:.3g}, to "
                f"which the loss adds {self.worst.loss_part:.3g} and the surface "
                f"{self.worst.surface_part:.3g} ({seen})."
            )
        between = f"from {self.modulus:.3g} to {self.smoothness:.3g}"
        conclusion = f"No violation found: eigenvalues {between} {seen}"
        if np.isfinite(self.required):
            holds = self.modulus >= self.required and self.smoothness <= self.allowed
            word = "within" if holds else "outside"
            conclusion += f"; {word} Theorem 22's [{self.required:.3g}, {self.allowed:.3g}]"
        return conclusion + "."

    def __str__(self) -> str:
        return self.verdict


@dataclass(frozen=True, eq=False)
class _Region:
    problem: CompositeProblem
    center: Any
    level: float
    radius: float

    def contains(self, point: Any) -> bool:
        w, w0 = _parameters(point), _parameters(self.center)
        if np.linalg.norm(w - w0) > self.radius:
            return False
        cost = self.problem.cost(point)
        return bool(np.isfinite(cost) and cost <= self.level)


def region_convexity(
    problem: CompositeProblem,
    center: Any,
    *,
    level: float | None = None,
    radius: float | None = None,
    directions: int = 16,
    samples: int = 6,
    ascents: int = 30,
    rng: RandomState = 0,
    progress: bool = False,
) -> RegionConvexity:
    """Sample the Riemannian Hessian over {g <= level}, and |w - center| <= radius, about a centre.

    Geodesics leave the centre in `directions` random unit directions, uniform in the metric, and
    are sampled at `samples` points each up to where they leave the region; from the worst points
    found, `ascents` random changes of their directions look for worse ones. The level is that of
    the start of a run, for instance, the centre its end.
    Raises ArgumentError without level and radius, for numbers out of range, and for a centre
    outside the region.
    """
    require_composite(problem, "region_convexity")
    if level is None and radius is None:
        raise ArgumentError("say which region: level=..., radius=..., or both")
    region = _Region(
        problem,
        problem.manifold.as_point(center),
        np.inf if level is None else finite("level", level),
        np.inf if radius is None else positive("radius", radius),
    )
    if not region.contains(region.center):
        raise ArgumentError("the centre lies outside the region: its cost is above the level")
    counts = {"directions": directions, "samples": samples, "ascents": ascents}
    for name, number in counts.items():
        positive_int(name, number)
    generator = as_generator(rng)
    found = [_sample(region, region.center, np.zeros_like(_parameters(region.center)))]
    reached = 0
    for _ in tqdm(range(directions), disable=not progress, desc="geodesics"):
        unit = _unit_velocity(region, generator)
        geodesic, end, left = _followed(region, unit)
        reached += left
        times = end * np.arange(1, samples + 1) / samples
        found += [_sample(region, geodesic(t), t * unit) for t in times]
    kept = [each for each in found if each is not None]
    samples = len(kept)
    kept += _search(region, kept, ascents, generator)
    return _summary(region, kept, samples, directions, reached)


@dataclass(frozen=True, eq=False)
class _Sample:
    """A point reached from the centre with some velocity, and the extreme eigenvalues there."""

    velocity: np.ndarray
    parameters: np.ndarray
    smallest: float
    largest: float


def _sample(region: _Region, point: Any, velocity: np.ndarray) -> _Sample | None:
    """Sample at a point, None where that is outside of the region."""
    try:
        if not region.contains(point):
            return None
        smallest, largest = extreme_eigenvalues(region.problem, point)
    except OFF:
        return None
    return _Sample(velocity, _parameters(point), smallest, largest)


def _shot(region: _Region, velocity: np.ndarray) -> _Sample | None:
    """Sample at the end of the geodesic with that velocity, None where there is none."""
    manifold = region.problem.manifold
    try:
        tangent = manifold.tangent(manifold.at(region.center), velocity)
        point = manifold.exp(region.center, tangent)
    except OFF:
        return None
    return _sample(region, point, velocity)


def _unit_velocity(region: _Region, rng: np.random.Generator) -> np.ndarray:
    local = induced(region.problem.manifold.at(region.center))
    direction = local.frame @ rng.standard_normal(len(_parameters(region.center)))
    return direction / local.length(direction)


def _followed(region: _Region, unit: np.ndarray) -> tuple[Any, float, bool]:
    """Geodesic, the time up to which it stays in the region, to 5 %, and whether it leaves it."""
    manifold = region.problem.manifold
    geodesic = manifold.geodesic(region.center, manifold.tangent(manifold.at(region.center), unit))
    inside, t = 0.0, 1e-3 * float(manifold.typical_dist)
    left: bool | None = False
    for _ in range(_FOLLOWED):
        left = _outside(region, geodesic, t)
        if left is not False:
            break
        inside, t = t, _GROWTH * t
    else:
        return geodesic, inside, False
    while left and t - inside > 0.05 * t:  # one that ended is not followed any closer
        middle = 0.5 * (t + inside)
        there = _outside(region, geodesic, middle)
        inside, t, left = (middle, t, left) if there is False else (inside, middle, there)
    return geodesic, inside, left is True


def _outside(region: _Region, geodesic: Any, t: float) -> bool | None:
    """Whether a geodesic has left the region, None where it has ended before."""
    try:
        return not region.contains(geodesic(t))
    except OFF:
        return None


def _negative(smallest: float, largest: float) -> bool:
    """Whether an eigenvalue is negative beyond rounding."""
    return smallest < -1e-12 * max(abs(smallest), abs(largest))


def _search(
    region: _Region, kept: list[_Sample], ascents: int, rng: np.random.Generator
) -> list[_Sample]:
    """Worse points than the worst samples, by random changes of their velocities."""
    found = []
    local = induced(region.problem.manifold.at(region.center))
    for start in sorted(kept, key=lambda each: each.smallest)[:_DESCENTS]:
        best, spread = start, 0.5
        for _ in range(ascents):
            size = float(local.length(best.velocity)) or 1.0
            noise = local.frame @ rng.standard_normal(len(best.velocity))
            step = spread * size / np.sqrt(len(noise)) * noise
            tried = _shot(region, best.velocity + step)
            better = tried is not None and tried.smallest < best.smallest
            best, spread = (tried, spread) if better and tried else (best, _SHRINK * spread)
        found.append(best)
    return found


def _summary(
    region: _Region, kept: list[_Sample], samples: int, directions: int, reached: int
) -> RegionConvexity:
    problem = region.problem
    worst = min(kept, key=lambda each: each.smallest)
    local = problem.manifold.at(region.center)
    nu, mu = problem.loss.nu, problem.loss.mu
    known = nu > 0 and np.isfinite(mu)
    indefinite = [_negative(each.smallest, each.largest) for each in kept]
    return RegionConvexity(
        modulus=worst.smallest,
        smoothness=max(each.largest for each in kept),
        negative_share=float(np.mean(indefinite)),
        worst=hessian_terms(problem, problem.manifold.as_point(worst.parameters)),
        worst_parameters=worst.parameters,
        samples=samples,
        directions=directions,
        reached=reached,
        distance=max(float(local.length(each.velocity)) for each in kept),
        required=0.5 * nu if known else np.nan,
        allowed=mu + 0.5 * nu if known else np.nan,
    )


def _parameters(point: Any) -> np.ndarray:
    return np.asarray(getattr(point, "parameters", point))
