"""The identities that every manifold must satisfy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymanopt.manifolds.manifold import RiemannianSubmanifold

from gnmanifold.checks.vectors import IDENTITY, distance, random_ambient, random_tangent
from gnmanifold.validation import RandomState, as_generator


@dataclass(frozen=True)
class ManifoldCheck:
    """Outcome of a manifold check, an error and a tolerance for each property; true if all hold.

    `skipped` names the properties whose methods the manifold does not implement.
    """

    name: str
    errors: dict[str, float]
    tolerances: dict[str, float]
    skipped: tuple[str, ...]

    @property
    def failures(self) -> dict[str, float]:
        """Properties that do not hold, with their errors."""
        return {
            name: error
            for name, error in self.errors.items()
            if not error <= self.tolerances[name]  # so that NaN fails
        }

    @property
    def verdict(self) -> bool:
        """Whether every property holds."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.verdict

    def __str__(self) -> str:
        lines = [f"{self.name}: {'passed' if self else 'FAILED'}"]
        for name, error in self.errors.items():
            mark = "FAIL" if name in self.failures else "ok"
            limit = self.tolerances[name]
            lines.append(f"  {mark:4s} {name:50s} {error:.1e} (at most {limit:.0e})")
        lines += [f"  --   {name:50s} not implemented" for name in self.skipped]
        return "\n".join(lines)


def check_manifold(manifold: Any, point: Any = None, *, rng: RandomState = 0) -> ManifoldCheck:
    """Check the identities that every pymanopt manifold must satisfy, at a point.

    Inner product symmetric and positive, projection idempotent and self-adjoint, vectors of the
    manifold tangent, transport into the right space, R(0) = x, gradients consistent, and exp, log
    and dist consistent where they exist. A method that is not there is listed as skipped.
    """
    generator = as_generator(rng)
    point = manifold.random_point() if point is None else point
    case = _Case(manifold, point, generator)
    errors: dict[str, float] = {}
    tolerances: dict[str, float] = {}
    skipped: list[str] = []
    for name, (measure, tolerance) in _CONTRACT.items():
        try:
            errors[name] = float(measure(case))
            tolerances[name] = tolerance
        except NotImplementedError:
            skipped.append(name)
    return ManifoldCheck(str(manifold), errors, tolerances, tuple(skipped))


class _Case:
    """A manifold, a point and three tangent vectors for the contract below."""

    def __init__(self, manifold: Any, point: Any, rng: np.random.Generator) -> None:
        self.manifold, self.point = manifold, point
        self.u, self.v = (random_tangent(manifold, point, rng) for _ in range(2))
        self._rng = rng

    def ambient(self) -> np.ndarray:
        """A random vector of the ambient space, for manifolds whose vectors are arrays."""
        return random_ambient(self.manifold, self.point, self._rng)

    def projected(self, vector: Any) -> Any:
        """Projection of a vector that is tangent already, through the ambient space."""
        return self.manifold.projection(self.point, self.embedded(vector))

    def embedded(self, vector: Any) -> Any:
        """Tangent vector in the ambient space, where some manifolds hold it otherwise."""
        return self.manifold.embedding(self.point, vector)

    def inner(self, a: Any, b: Any) -> float:
        return float(self.manifold.inner_product(self.point, a, b))

    def length(self, a: Any) -> float:
        return float(self.manifold.norm(self.point, a))

    def relative(self, difference: Any, reference: Any) -> float:
        return self.length(difference) / max(self.length(reference), 1e-300)


def _symmetry(case: _Case) -> float:
    size = case.length(case.u) * case.length(case.v)
    return abs(case.inner(case.u, case.v) - case.inner(case.v, case.u)) / size


def _positivity(case: _Case) -> float:
    return 0.0 if case.inner(case.u, case.u) > 0 else 1.0


def _norm_agrees(case: _Case) -> float:
    return abs(case.length(case.u) ** 2 / case.inner(case.u, case.u) - 1)


def _idempotence(case: _Case) -> float:
    return case.relative(case.projected(case.u) - case.u, case.u)


def _self_adjoint_projection(case: _Case) -> float:
    if not isinstance(case.manifold, RiemannianSubmanifold):
        raise NotImplementedError
    a, b = case.ambient(), case.ambient()
    images = [case.embedded(case.manifold.projection(case.point, vector)) for vector in (a, b)]
    difference = np.real(np.vdot(images[0], b) - np.vdot(a, images[1]))
    return float(abs(difference) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _tangent_space(case: _Case) -> float:
    kept = case.manifold.to_tangent_space(case.point, case.u)
    return case.relative(kept - case.u, case.u)


def _random_tangent(case: _Case) -> float:
    vector = case.manifold.random_tangent_vector(case.point)
    return case.relative(case.projected(vector) - vector, vector)


def _zero(case: _Case) -> float:
    return case.length(case.manifold.zero_vector(case.point))


def _retraction_of_zero(case: _Case) -> float:
    stayed = case.manifold.retraction(case.point, case.manifold.zero_vector(case.point))
    size = np.linalg.norm(case.point) if isinstance(case.point, np.ndarray) else 1.0
    return distance(case.manifold, stayed, case.point) / max(float(size), 1.0)


def _transport_tangent(case: _Case) -> float:
    # a small step, since the unit of length means nothing to a manifold
    target = case.manifold.retraction(case.point, 1e-3 * case.u / case.length(case.u))
    moved = case.manifold.transport(case.point, target, case.v)
    kept = case.manifold.to_tangent_space(target, moved)
    size = case.manifold.norm(target, moved)
    return float(case.manifold.norm(target, kept - moved) / size)


def _transport_to_itself(case: _Case) -> float:
    return case.relative(case.manifold.transport(case.point, case.point, case.v) - case.v, case.v)


def _gradient_conversion(case: _Case) -> float:
    covector = case.ambient()
    gradient = case.manifold.euclidean_to_riemannian_gradient(case.point, covector)
    slope = float(np.real(np.vdot(covector, case.embedded(case.u))))
    size = case.length(gradient) * case.length(case.u) + abs(slope)
    return abs(case.inner(gradient, case.u) - slope) / size


def _exp_log(case: _Case) -> float:
    case.manifold.log(case.point, case.point)  # not implemented: no need to find an end point
    step = 0.1 * case.u / case.length(case.u)
    end = case.manifold.exp(case.point, step)
    return case.relative(case.manifold.log(case.point, end) - step, step)


def _log_dist(case: _Case) -> float:
    case.manifold.dist(case.point, case.point)
    end = case.manifold.exp(case.point, 0.1 * case.u / case.length(case.u))
    return abs(float(case.manifold.dist(case.point, end)) / 0.1 - 1)


_CONTRACT: dict[str, tuple[Callable[[_Case], float], float]] = {
    "inner product is symmetric": (_symmetry, IDENTITY),
    "inner product is positive": (_positivity, 0.0),
    "norm is that of the inner product": (_norm_agrees, IDENTITY),
    "projection is idempotent": (_idempotence, IDENTITY),
    "projection is self-adjoint": (_self_adjoint_projection, IDENTITY),
    "to_tangent_space keeps tangent vectors": (_tangent_space, IDENTITY),
    "random_tangent_vector is tangent": (_random_tangent, IDENTITY),
    "zero_vector has length zero": (_zero, 0.0),
    "retraction of zero stays": (_retraction_of_zero, IDENTITY),
    "transport ends in the tangent space": (_transport_tangent, IDENTITY),
    "transport to the same point is the identity": (_transport_to_itself, IDENTITY),
    "Riemannian gradient represents the differential": (_gradient_conversion, IDENTITY),
    "log inverts exp": (_exp_log, 1e-8),
    "dist is the length of log": (_log_dist, 1e-8),
}
