"""Geodesic convexity of a cost on f(B), measured: at points, along curves and over regions.

The Riemannian Hessian has two terms, Jᵀ∇²g J of the loss and Σ_i ξ_i ∇²f_i of the surface, ξ the
part of ∇g normal to it: <II(a, a), ∇g>. The loss alone is convex; what spoils convexity is the
surface, and a scale α takes it down like 1/α.
S. Cayci, arXiv 2412.14031v5, Theorem 22; N. Boumal, An Introduction to Optimization on Smooth
Manifolds, ch. 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.diagnostics import lanczos
from gnmanifold.diagnostics.lanczos import GivenMetric
from gnmanifold.diagnostics.spectrum import riemannian_product
from gnmanifold.errors import ArgumentError
from gnmanifold.geometry.hessian import hessian_form
from gnmanifold.metrics.induced import induced
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import positive, positive_int

_DENSE = 600  # parameters up to which Hessians are matrices


@dataclass(frozen=True, eq=False)
class HessianTerms:
    """The Riemannian Hessian of a cost at a point, and what the loss and the surface add to it.

    `eigenvalues` (p,) increasing, relative to the metric; `worst` (p,) is the unit velocity of the
    smallest one, to which the loss contributes `loss_part` and the surface `surface_part`.
    `loss_range` and `surface_range` are the extreme eigenvalues of the two terms alone.
    """

    eigenvalues: Float[np.ndarray, " p"]
    worst: Float[np.ndarray, " p"]
    loss_part: float
    surface_part: float
    loss_range: tuple[float, float]
    surface_range: tuple[float, float]

    @property
    def convex(self) -> bool:
        """Whether the Hessian is positive semidefinite, to rounding."""
        return bool(self.eigenvalues[0] >= -1e-12 * np.max(np.abs(self.eigenvalues)))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "smallest": float(self.eigenvalues[0]),
            "largest": float(self.eigenvalues[-1]),
            "loss_part": self.loss_part,
            "surface_part": self.surface_part,
            "cause": self.cause,
        }

    @property
    def cause(self) -> str:
        """Which term makes the Hessian indefinite, "" where it is not."""
        if self.convex:
            return ""
        return "surface" if self.surface_part < min(self.loss_part, 0.0) else "loss"


def hessian_terms(problem: CompositeProblem, point: Any) -> HessianTerms:
    """Riemannian Hessian at a point by its terms, in an orthonormal frame of the metric.

    The term of the loss is Jᵀ∇²g J, less what the curvature of a loss's own metric turns in it; the
    rest is the surface's. Raises NotAnImmersionError in metrics without connection,
    RankDeficientError where the metric degenerates.
    """
    require_composite(problem, "hessian_terms")
    local = induced(problem.manifold.at(point))
    lin, loss, E = local.lin, problem.loss, local.frame
    surface = E.T @ lin.hessian_matrix(local.normal(loss.gradient(lin.psi))) @ E
    surface = 0.5 * (surface + surface.T)
    whole = E.T @ hessian_form(local, loss) @ E
    whole = 0.5 * (whole + whole.T)
    values, vectors = np.linalg.eigh(whole)
    v = vectors[:, 0]
    bent = float(v @ surface @ v)
    return HessianTerms(
        values,
        E @ v,
        float(values[0]) - bent,
        bent,
        _ends(np.linalg.eigvalsh(whole - surface)),
        _ends(np.linalg.eigvalsh(surface)),
    )


def extreme_eigenvalues(problem: CompositeProblem, point: Any) -> tuple[float, float]:
    """Smallest and largest eigenvalue of the Riemannian Hessian relative to the metric.

    By Lanczos' method on Hessian-vector products above 600 parameters. Errors as hessian_terms.
    """
    require_composite(problem, "extreme_eigenvalues")
    local = induced(problem.manifold.at(point))
    p = local.lin.model.num_parameters
    if p <= _DENSE:
        E = local.frame
        return _ends(np.linalg.eigvalsh(E.T @ hessian_form(local, problem.loss) @ E))
    metric = GivenMetric(local.lower, local.raise_index)
    product = riemannian_product(local, problem.loss, metric)
    start = np.random.default_rng(0)
    found = lanczos.extreme_eigenvalues(product, p, 1, start, metric=metric)
    return found.smallest, found.largest


@dataclass(frozen=True, eq=False)
class CurveProfile:
    """A cost along a curve: its values, its second derivative, and the convexity inequality.

    `second` is <Hess h γ', γ'>, the second derivative of the cost where the curve is a geodesic;
    `excess` is the largest value of h(γ(t)) - (1-t) h(γ(0)) - t h(γ(1)), positive where the
    inequality of convexity fails.
    """

    times: Float[np.ndarray, " T"]
    costs: Float[np.ndarray, " T"]
    second: Float[np.ndarray, " T"]
    length: float

    @property
    def excess(self) -> float:
        """By how much the cost rises above its chord."""
        share = self.times / self.times[-1]
        chord = (1 - share) * self.costs[0] + share * self.costs[-1]
        return float(np.max(self.costs - chord))

    @property
    def modulus(self) -> float:
        """Smallest second derivative for unit speed: strong convexity along the curve."""
        return float(np.min(self.second)) / self.length**2


def along_geodesic(
    problem: CompositeProblem, point: Any, tangent_vector: Any, samples: int = 33
) -> CurveProfile:
    """Cost along the geodesic with that velocity, from time 0 to 1.

    Raises GeodesicError where it ends before, ArgumentError for a velocity of zero.
    """
    require_composite(problem, "along_geodesic")
    positive_int("samples", samples)
    manifold = problem.manifold
    length = float(manifold.norm(point, tangent_vector))
    positive("the length of tangent_vector", length)
    geodesic = manifold.geodesic(point, tangent_vector)
    times = np.linspace(0, 1, max(samples, 2))
    geodesic(1.0)  # in one go
    costs, second = [], []
    for t in times:
        there, velocity = geodesic(t), geodesic.velocity(t)
        costs.append(float(problem.cost(there)))
        image = problem.riemannian_hessian(there, velocity)
        second.append(float(manifold.inner_product(there, velocity, image)))
    return CurveProfile(times, np.array(costs), np.array(second), length)


@dataclass(frozen=True, eq=False)
class PathProfile:
    """Extreme eigenvalues of the Riemannian Hessian along a path of parameters, and their causes.

    `smallest`, `largest` (T,); `loss_part` and `surface_part` (T,) add up to the smallest.
    """

    smallest: Float[np.ndarray, " T"]
    largest: Float[np.ndarray, " T"]
    loss_part: Float[np.ndarray, " T"]
    surface_part: Float[np.ndarray, " T"]

    @property
    def first_indefinite(self) -> int | None:
        """Index of the first point where the Hessian is indefinite, None if there is none."""
        bad = np.flatnonzero(self.smallest < -1e-12 * np.abs(self.largest))
        return int(bad[0]) if bad.size else None


def along_path(
    problem: CompositeProblem, parameters: Sequence[np.ndarray] | Float[np.ndarray, "T p"]
) -> PathProfile:
    """Terms of the Riemannian Hessian at each point of a path, such as those of a flow."""
    require_composite(problem, "along_path")
    terms = [hessian_terms(problem, problem.manifold.as_point(w)) for w in parameters]
    if not terms:
        raise ArgumentError("a path needs at least one point")
    return PathProfile(
        np.array([each.eigenvalues[0] for each in terms]),
        np.array([each.eigenvalues[-1] for each in terms]),
        np.array([each.loss_part for each in terms]),
        np.array([each.surface_part for each in terms]),
    )


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[-1])
