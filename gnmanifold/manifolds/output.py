"""The prediction surface f(B) of a model as a Riemannian submanifold of R^n."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from pymanopt.manifolds.manifold import RiemannianSubmanifold

from gnmanifold.errors import ForeignPointError, UnderdeterminedError
from gnmanifold.manifolds.geometric import GeometricManifold, lengthened
from gnmanifold.manifolds.point import OutputPoint
from gnmanifold.metrics import GaussNewtonMetric, InducedMetric, LocalMetric, Metric
from gnmanifold.models import Model
from gnmanifold.validation import RandomState, as_vector

Vector = Float[np.ndarray, " n"]


class OutputManifold(GeometricManifold, RiemannianSubmanifold):
    """The surface f(B) in R^n of the predictions of a model, with the Euclidean metric.

    Points are predictions ψ = f(w) made by `point(w)`, tangent vectors are u = J a in R^n. A step
    along u moves the parameters by a = J⁺u and `retraction` says how: "first_order" w + a, with
    which unit-step descent is Gauss-Newton, "second_order" w + a - ½Γ(a, a), or "exponential".
    `logarithm` is "geodesic" or, for solvers that take thousands of them, "first_order". B is the
    ball of radius `radius` around `center` in the parameters, all of R^p without them: exp refuses
    to leave it and the retraction warns. `typical_dist` is a length that TrustRegions scales its
    radii by, `rng` seeds random points.
    Raises UnderdeterminedError for models with p > n, ForeignPointError for points of another
    model, RankDeficientError where J loses rank.
    S. Cayci, arXiv 2412.14031v5, section 4.

    >>> import autograd.numpy as anp
    >>> import gnmanifold as gn
    >>> circle = gn.AutogradModel(lambda w: anp.array([anp.cos(w[0]), anp.sin(w[0])]), 1)
    >>> surface = gn.OutputManifold(circle)
    >>> quarter = surface.dist(surface.point([0.0]), surface.point([1.5]))
    >>> print(f"{quarter:.6f}, and straight {np.linalg.norm(circle([0.0]) - circle([1.5])):.6f}")
    1.500000, and straight 1.363278
    """

    def __init__(
        self,
        model: Model,
        *,
        retraction: str = "first_order",
        logarithm: str = "geodesic",
        center: ArrayLike | None = None,
        radius: float | None = None,
        typical_dist: float | None = None,
        rng: RandomState = 0,
    ) -> None:
        GeometricManifold.__init__(
            self,
            model,
            GaussNewtonMetric(),
            retraction=retraction,
            logarithm=logarithm,
            center=center,
            radius=radius,
            typical_dist=typical_dist,
            rng=rng,
        )
        RiemannianSubmanifold.__init__(
            self, f"prediction surface f(B) in R^{model.num_outputs}", model.num_parameters
        )

    def _check_model(self, model: Model, metric: Metric) -> None:
        n, p = model.num_outputs, model.num_parameters
        if p > n:
            raise UnderdeterminedError(
                f"with p = {p} parameters and n = {n} outputs the predictions f(B) are an open set "
                "of R^n and no surface: use ParameterManifold with GaussNewtonMetric(damping=...)"
            )

    def point(self, w: ArrayLike) -> OutputPoint:
        """Point f(w) of the surface for parameters w (p,); raises NonFiniteError, ShapeError."""
        w, psi = self._start(w)
        return OutputPoint(psi, w, self.model.identity)

    def as_point(self, start: ArrayLike) -> OutputPoint:
        """Point of the surface from a point or from parameters."""
        return start if isinstance(start, OutputPoint) else self.point(start)

    def at(self, point: OutputPoint) -> LocalMetric:
        """Linearization and metric at a point, remembered for the next call."""
        w = self._parameters(point)
        return self._remember(w, np.asarray(point))

    def predictions(self, point: OutputPoint) -> Vector:
        """Predictions ψ of a point as a plain array."""
        self._parameters(point)
        return np.asarray(point)

    def inner_product(self, point: Any, tangent_vector_a: Any, tangent_vector_b: Any) -> np.float64:
        self._parameters(point)
        return np.float64(self._vector(tangent_vector_a) @ self._vector(tangent_vector_b))

    def norm(self, point: Any, tangent_vector: Any) -> np.float64:
        self._parameters(point)
        return lengthened(self._vector(tangent_vector), np.linalg.norm)

    def projection(self, point: Any, vector: Any) -> Vector:
        return self.at(point).lin.project(self._vector(vector))

    to_tangent_space = projection

    def zero_vector(self, point: Any) -> Vector:
        return np.zeros(self.model.num_outputs)

    def random_point(self) -> OutputPoint:
        return self.point(self._random_parameters())

    def random_tangent_vector(self, point: Any) -> Vector:
        vector = self.projection(point, self._rng.standard_normal(self.model.num_outputs))
        return vector / np.linalg.norm(vector)

    def weingarten(self, point: Any, tangent_vector: Any, normal_vector: Any) -> Vector:
        """Weingarten map J S_ν J⁺u of u along ν, with <J S_ν J⁺u, v> = ν · II(u, v)."""
        lin = self.at(point).lin
        a = self.velocity(self.at(point), tangent_vector)
        return lin.lift(lin.weighted_hessian(self._vector(normal_vector), a))

    def transport(self, point_a: Any, point_b: Any, tangent_vector_a: Any) -> Vector:
        """Vector transport by projection onto the tangent space at `point_b`."""
        self._parameters(point_a)
        return self.projection(point_b, tangent_vector_a)

    def tangent(self, local: LocalMetric, velocity: np.ndarray) -> Vector:
        """Tangent vector J a of a velocity a."""
        return local.lin.push(velocity)

    def velocity(self, local: LocalMetric, tangent_vector: ArrayLike) -> np.ndarray:
        """Velocity J⁺u of a tangent vector, shape (p,)."""
        return local.lin.pull(self._vector(tangent_vector))

    def composite_hessian(
        self,
        local: LocalMetric,
        normal: np.ndarray,
        gradient: np.ndarray,
        loss_hessian: Any,
        tangent_vector: Any,
    ) -> Vector:
        """Riemannian Hessian P ∇²g u + J S_ν J⁺u of a loss of the predictions."""
        u, lin = self._vector(tangent_vector), local.lin
        bent = lin.weighted_hessian(normal, lin.pull(u))
        # lift, and not the push of the parameters' Hessian, whose G⁻¹ squares the condition
        return lin.project(loss_hessian(u)) + lin.lift(bent)

    def _form(self, local: InducedMetric, form: np.ndarray) -> Float[np.ndarray, "n n"]:
        """Bilinear form of velocities as one of output vectors, zero on normal ones."""
        tangents = local.lin.jacobian @ local.frame
        return tangents @ (local.frame.T @ form @ local.frame) @ tangents.T

    def trial(self, w: np.ndarray) -> OutputPoint:
        return OutputPoint(self._predict(w), w, self.model.identity)

    def _vector(self, value: ArrayLike) -> Vector:
        return as_vector("tangent_vector", value, self.model.num_outputs, finite=False)

    def _parameters(self, point: Any) -> np.ndarray:
        if not isinstance(point, OutputPoint) or point.parameters is None:
            raise ForeignPointError(
                f"a point of the prediction surface must be made by manifold.point(w), as in "
                f"run(problem, initial_point=manifold.point(w)); got an array of shape "
                f"{np.shape(point)} that remembers no parameters"
            )
        if point.origin != self.model.identity:
            raise ForeignPointError(
                "the point was made by a manifold with another model: "
                "make it again with manifold.point(point.parameters)"
            )
        return point.parameters
