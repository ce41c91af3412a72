"""The geometry that both manifolds share: geodesics, transport and curvature."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError, GeodesicError, LeftBallWarning, NonFiniteError
from gnmanifold.geometry import curvature, geodesics, hessian, second_form, transport
from gnmanifold.geometry.logarithm import logarithm
from gnmanifold.losses import Loss
from gnmanifold.manifolds.ball import make_ball
from gnmanifold.manifolds.memory import ModelManifold
from gnmanifold.metrics import InducedMetric, LocalMetric, Metric
from gnmanifold.metrics.family import check_loss
from gnmanifold.metrics.induced import induced
from gnmanifold.models import Model
from gnmanifold.validation import (
    RandomState,
    as_generator,
    as_vector,
    finite,
    first_nonfinite,
    one_of,
    positive,
    positive_int,
)

Tangent = Float[np.ndarray, " _"]

_SMALL, _LARGE = 1e-120, 1e120  # sizes whose squares are safe
LOGARITHMS = ("geodesic", "first_order")


class Geodesic:
    """A geodesic of a manifold: `geodesic(t)` is a point, `geodesic.velocity(t)` its velocity.

    Any time can be asked for; the geodesic is followed that far when it is, and not twice.
    """

    def __init__(self, manifold: GeometricManifold, flow: geodesics.Geodesic) -> None:
        self._manifold, self._flow = manifold, flow
        # how far it was looked at, and when it leaves the ball within that
        self._exits = {True: (0.0, np.inf), False: (0.0, np.inf)}

    def __call__(self, t: float) -> Any:
        """Point at time t; raises GeodesicError and the like beyond the domain or the ball."""
        w = self.parameters(t)
        looked, exit_time = self._exits[t >= 0]
        if abs(t) > looked:
            looked = self._flow.reach(t)
            velocity = np.sign(t) * self._flow.velocity
            exit_time = self._manifold._exit(self._flow.start, velocity, looked)
            self._exits[t >= 0] = looked, exit_time
        self._manifold._require_inside(abs(t), exit_time)
        return self._manifold.trial(w)

    def parameters(self, t: float) -> np.ndarray:
        """Parameters w(t), shape (p,)."""
        return self._flow.state(finite("t", t))[0]

    def velocity(self, t: float) -> Tangent:
        """Tangent vector at the point of time t."""
        w, velocity = self._flow.state(finite("t", t))
        local = geodesics.neighbour(self._flow.metric, self._flow.start, w)
        return self._manifold.tangent(local, velocity)


class GeometricManifold(ModelManifold):
    """Geodesics, transport and curvature of a model's metric, point first as in pymanopt.

    The subclasses say how tangent vectors stand for parameter velocities; everything here is
    computed on those. A ball B of parameters is given by `center` and `radius`.
    Distances are those of the immersion: equal predictions at different parameters are different
    points. Methods raise NotAnImmersionError for metrics without connection, RankDeficientError
    where the metric degenerates, NonFiniteError where the model does and ArgumentError for bad
    vectors.
    """

    def __init__(
        self,
        model: Model,
        metric: Metric,
        *,
        retraction: str,
        logarithm: str,
        center: ArrayLike | None,
        radius: float | None,
        typical_dist: float | None,
        rng: RandomState,
    ) -> None:
        super().__init__(model, metric, retraction, typical_dist, rng)
        self.logarithm_name = one_of("logarithm", logarithm, LOGARITHMS)
        self.ball = make_ball(model, center, radius)
        self.departures = 0

    @abstractmethod
    def at(self, point: Any) -> LocalMetric:
        """Linearization and metric at a point."""

    @abstractmethod
    def tangent(self, local: LocalMetric, velocity: np.ndarray) -> Tangent:
        """Tangent vector of a parameter velocity."""

    @abstractmethod
    def velocity(self, local: LocalMetric, tangent_vector: ArrayLike) -> np.ndarray:
        """Parameter velocity (p,) of a tangent vector."""

    @abstractmethod
    def norm(self, point: Any, tangent_vector: Any) -> np.float64:
        """Length of a tangent vector."""

    @abstractmethod
    def _parameters(self, point: Any) -> np.ndarray: ...

    @abstractmethod
    def trial(self, w: np.ndarray) -> Any:
        """Point for parameters whose predictions need not be finite, for solvers to try."""

    @abstractmethod
    def _form(self, local: InducedMetric, form: np.ndarray) -> np.ndarray: ...

    def _random_parameters(self) -> np.ndarray:
        return super()._random_parameters() if self.ball is None else self.ball.draw(self._rng)

    def contains(self, point: Any) -> bool:
        """Whether a point lies in f(B): |w - center| < radius; always without a ball."""
        w = self._parameters(point)
        return bool(np.all(np.isfinite(w))) if self.ball is None else self.ball.contains(w)

    def exit_time(self, point: Any, tangent_vector: Any, until: float = 1.0) -> float:
        """Time at which the geodesic with that velocity leaves B, or infinity by `until`.

        Raises ArgumentError without a ball or outside it, GeodesicError where the geodesic ends.
        """
        if self.ball is None:
            raise ArgumentError("there is no ball to leave: make the manifold with radius=R")
        if not self.contains(point):
            raise ArgumentError("the point lies outside the ball already")
        local, a = self._local(point, tangent_vector)
        positive("until", until)
        return geodesics.exit_time(self.metric, local, a, self.ball.excess, until)

    def retraction(self, point: Any, tangent_vector: Any) -> Any:
        """Point reached from `point` along a tangent vector by the retraction of the manifold.

        The first one that leaves the ball warns, LeftBallWarning; `departures` counts them all.
        """
        local = self.at(point)
        w = self._retract(local, self.velocity(local, tangent_vector))
        if self.ball is not None and not self.ball.contains(w):
            self._report_departure(self.ball.distance(w), self.ball.radius)
        return self.trial(w)

    def exp(self, point: Any, tangent_vector: Any) -> Any:
        """Point reached at time one along the geodesic with that velocity.

        Raises GeodesicError where the geodesic leaves the domain, or the ball, before that.
        """
        local, a = self._local(point, tangent_vector)
        self._require_inside(1.0, self._exit(local, a, 1.0))
        return self.trial(geodesics.exponential(self.metric, local, a))

    def geodesic(self, point: Any, tangent_vector: Any) -> Geodesic:
        """Geodesic through a point with that velocity, a function of time."""
        local, a = self._local(point, tangent_vector)
        return Geodesic(self, geodesics.Geodesic(self.metric, local, a))

    def geodesic_between(self, point_a: Any, point_b: Any) -> Geodesic:
        """Geodesic segment from `point_a` at time zero to `point_b` at time one."""
        return self.geodesic(point_a, self._shooting(point_a, point_b))

    def log(self, point_a: Any, point_b: Any) -> Tangent:
        """Velocity of a geodesic from `point_a` that is at `point_b` at time one.

        The shortest one within the injectivity radius. With logarithm="first_order" it is the
        direction w_b - w_a, the inverse of the first-order retraction. Raises GeodesicError where
        no geodesic is found.
        """
        if self.logarithm_name == "geodesic":
            return self._shooting(point_a, point_b)
        difference = self._parameters(point_b) - self._parameters(point_a)
        return self.tangent(self.at(point_a), difference)

    def dist(self, point_a: Any, point_b: Any) -> np.float64:
        """Distance |log|, the length of the geodesic."""
        return np.float64(self.norm(point_a, self.log(point_a, point_b)))

    def pair_mean(self, point_a: Any, point_b: Any) -> Any:
        """Point half way along the geodesic, or along w_b - w_a with logarithm="first_order"."""
        if self.logarithm_name == "geodesic":
            return self.exp(point_a, 0.5 * self._shooting(point_a, point_b))
        return self.trial(0.5 * (self._parameters(point_a) + self._parameters(point_b)))

    def parallel_transport(
        self,
        point: Any,
        tangent_vector: Any,
        transported: Any,
        *,
        method: str = "ode",
        steps: int = 10,
    ) -> Tangent:
        """Transport a vector along the geodesic with velocity `tangent_vector`, from time 0 to 1.

        `method` is "ode", accurate to the tolerance of the geodesic, or "pole" or "schild" for
        ladders of `steps` rungs made of geodesics and logarithms, with an error ~ 1/steps².
        """
        one_of("method", method, ("ode", *transport.LADDERS))
        positive_int("steps", steps)
        local, a, u = self._pair(point, tangent_vector, transported)
        if method == "ode":
            w, _, moved = transport.parallel_transport(self.metric, local, a, u)
        else:
            w = geodesics.exponential(self.metric, local, a)
            moved = transport.ladder(self.metric, local, a, u, method, steps)
        return self.tangent(geodesics.neighbour(self.metric, local, w), moved)

    def transport_along(self, points: Sequence[Any], tangent_vector: Any) -> Tangent:
        """Parallel transport from the first point to the last along a polyline of parameters.

        The pieces are straight in the parameters; a polygon of geodesics is transported round by
        `parallel_transport` along each `log`.
        """
        stops = [self._finite_parameters(point) for point in points]
        if not stops:
            raise ArgumentError("a polyline needs at least one point")
        local, u = self._local(points[0], tangent_vector)
        moved = transport.transport_along(self.metric, local, stops[1:], u)
        return self.tangent(geodesics.neighbour(self.metric, local, stops[-1]), moved)

    def christoffel(self, point: Any, u: Any, v: Any) -> Tangent:
        """Christoffel contraction Γ(u, v) of the parameters, as a tangent vector."""
        local, a, b = self._pair(point, u, v)
        return self.tangent(local, local.christoffel(a, b))

    def second_fundamental_form(self, point: Any, u: Any, v: Any) -> Float[np.ndarray, " m"]:
        """Second fundamental form II(u, v), a normal vector.

        In R^n for an undamped Gauss-Newton metric. Other metrics have it in R^(n+p), or in the
        coordinates of the root of the loss, where the Euclidean inner product is the ambient one.
        """
        return second_form.second_fundamental_form(*self._pair(point, u, v))

    def weingarten(self, point: Any, tangent_vector: Any, normal_vector: Any) -> Tangent:
        """Weingarten map S_ν u with <S_ν u, v> = ν · II(u, v), for ν in the coordinates of II."""
        local, a = self._local(point, tangent_vector)
        size = second_form.second_fundamental_form(local, a, a).size
        nu = as_vector("normal_vector", normal_vector, size, finite=False)
        return self.tangent(local, second_form.weingarten(local, local.output_part(nu), a))

    def second_fundamental_form_norm(
        self, point: Any, *, restarts: int = 20, rng: RandomState = 0
    ) -> np.float64:
        """Largest |II(u, v)| over unit vectors, by alternating maximisation from random starts."""
        local = induced(self.at(point))
        restarts = positive_int("restarts", restarts)
        return np.float64(second_form.form_norm(local, as_generator(rng), restarts)[0])

    def sectional_curvature(self, point: Any, u: Any, v: Any) -> np.float64:
        """Sectional curvature of the plane of u and v; ArgumentError where they are parallel."""
        return curvature.sectional_curvature(*self._pair(point, u, v))

    def ricci_curvature(self, point: Any, u: Any, v: Any) -> np.float64:
        """Ricci curvature Ric(u, v), the sum of K over the planes through a unit vector u = v."""
        return curvature.ricci_curvature(*self._pair(point, u, v))

    def scalar_curvature(self, point: Any) -> np.float64:
        """Scalar curvature, the trace of the Ricci curvature: 2K for a surface."""
        return curvature.scalar_curvature(induced(self.at(point)))

    def mean_curvature(self, point: Any) -> Float[np.ndarray, " m"]:
        """Mean curvature vector, the trace Σ_i II(e_i, e_i) not divided by the dimension."""
        return curvature.mean_curvature(induced(self.at(point)))

    def riemannian_hessian_matrix(self, point: Any, loss: Loss) -> np.ndarray:
        """Matrix M of the Riemannian Hessian of g∘f, <Hess u, v> = uᵀM v; symmetric.

        (n, n) in output vectors, where it is the operator too, (p, p) in parameter velocities.
        """
        check_loss(loss, self.model)
        local = induced(self.at(point))
        return self._form(local, hessian.hessian_form(local, loss))

    def riemannian_hessian_eigenvalues(self, point: Any, loss: Loss) -> Float[np.ndarray, " p"]:
        """Eigenvalues of the Riemannian Hessian of g∘f, increasing; the same on both manifolds."""
        check_loss(loss, self.model)
        local = induced(self.at(point))
        form = local.frame.T @ hessian.hessian_form(local, loss) @ local.frame
        return np.linalg.eigvalsh(0.5 * (form + form.T))

    def _shooting(self, point_a: Any, point_b: Any) -> Tangent:
        target = self._finite_parameters(point_b)
        local = induced(self.at(point_a))
        return self.tangent(local, logarithm(self.metric, local, target))

    def _local(self, point: Any, tangent_vector: Any) -> tuple[InducedMetric, np.ndarray]:
        local = induced(self.at(point))
        return local, self._finite_velocity(local, tangent_vector)

    def _pair(self, point: Any, u: Any, v: Any) -> tuple[InducedMetric, np.ndarray, np.ndarray]:
        local, a = self._local(point, u)
        return local, a, a if v is u else self._finite_velocity(local, v)

    def _finite_velocity(self, local: LocalMetric, tangent_vector: Any) -> np.ndarray:
        index = first_nonfinite(np.asarray(tangent_vector, dtype=float))
        if index is not None:
            raise NonFiniteError(f"tangent_vector must be finite, but its entry {index} is not")
        return self.velocity(local, tangent_vector)

    def _finite_parameters(self, point: Any) -> np.ndarray:
        return as_vector("point", self._parameters(point))

    def _exit(self, local: InducedMetric, a: np.ndarray, until: float) -> float:
        """Time at which a geodesic leaves the ball, infinity without one or by `until`."""
        if self.ball is None:
            return np.inf
        if not self.ball.contains(local.lin.w):
            return 0.0
        return geodesics.exit_time(self.metric, local, a, self.ball.excess, until)

    def _require_inside(self, time: float, exit_time: float) -> None:
        """Raise GeodesicError at a time when a geodesic has left the ball."""
        if self.ball is not None and time >= exit_time:
            raise GeodesicError(
                f"the geodesic leaves the ball of radius {self.ball.radius:.4g} at time "
                f"{exit_time:.4g}: exit_time(point, tangent_vector) says when"
            )

    def _report_departure(self, distance: float, radius: float) -> None:
        self.departures += 1
        if self.departures == 1:
            warnings.warn(
                f"a retraction left the ball of radius {radius:.4g}: |w - center| = "
                f"{distance:.4g}; further ones are counted in `departures` without a word",
                LeftBallWarning,
                stacklevel=3,
            )


def lengthened(vector: np.ndarray, length: Callable[[np.ndarray], Any]) -> np.float64:
    """Length of a vector; squares that overflow or underflow are avoided where they would."""
    size = float(np.max(np.abs(vector), initial=0.0))
    if size == 0 or not np.isfinite(size) or _SMALL < size < _LARGE:
        return np.float64(length(vector))
    return np.float64(size * length(vector / size))
