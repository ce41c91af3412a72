"""The parameter space R^p with a metric of the Gauss-Newton family."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from pymanopt.manifolds.manifold import Manifold

from gnmanifold.errors import ForeignPointError
from gnmanifold.geometry.hessian import connection_term, riemannian_hessian
from gnmanifold.manifolds.geometric import GeometricManifold, lengthened
from gnmanifold.manifolds.point import OutputPoint
from gnmanifold.metrics import GaussNewtonMetric, InducedMetric, LocalMetric, Metric
from gnmanifold.metrics.induced import induced
from gnmanifold.models import Model
from gnmanifold.validation import RandomState, as_vector

Vector = Float[np.ndarray, " p"]


class ParameterManifold(GeometricManifold, Manifold):
    """The parameters R^p of a model with a metric G(w), such as the Gauss-Newton metric JᵀJ.

    Points w and tangent vectors a have shape (p,). With GaussNewtonMetric() it is isometric to
    OutputManifold through a -> J a. `retraction` is "first_order" w + a, with which unit-step
    descent is Gauss-Newton, "second_order" w + a - ½Γ(a, a), or "exponential"; `logarithm`,
    `center`, `radius`, `typical_dist` and `rng` are as for OutputManifold.
    Raises UnderdeterminedError for an undamped metric with p > n, RankDeficientError where the
    metric degenerates, NotAnImmersionError where a metric without connection would need one.
    S. Cayci, arXiv 2412.14031v5, (6), (7).

    >>> import gnmanifold as gn
    >>> model = gn.CallableModel(lambda w: np.exp(w), num_parameters=2)
    >>> manifold = gn.ParameterManifold(model, gn.GaussNewtonMetric())
    >>> print(f"{manifold.norm(np.zeros(2), np.array([3.0, 4.0])):.4f}")
    5.0000
    """

    def __init__(
        self,
        model: Model,
        metric: Metric | None = None,
        *,
        retraction: str = "first_order",
        logarithm: str = "geodesic",
        center: ArrayLike | None = None,
        radius: float | None = None,
        typical_dist: float | None = None,
        rng: RandomState = 0,
    ) -> None:
        metric = GaussNewtonMetric() if metric is None else metric
        GeometricManifold.__init__(
            self,
            model,
            metric,
            retraction=retraction,
            logarithm=logarithm,
            center=center,
            radius=radius,
            typical_dist=typical_dist,
            rng=rng,
        )
        Manifold.__init__(self, f"R^{model.num_parameters} with {metric}", model.num_parameters)

    def point(self, w: ArrayLike) -> Vector:
        """Checked copy of parameters w (p,); raises NonFiniteError, ShapeError."""
        return self._start(w)[0].copy()

    def as_point(self, start: ArrayLike) -> Vector:
        """Checked parameters from parameters or from a point of the prediction surface."""
        if not isinstance(start, OutputPoint):
            return self.point(start)
        if start.parameters is None or start.origin != self.model.identity:
            raise ForeignPointError(
                "the point belongs to another model: pass its parameters if that is what you mean"
            )
        return self.point(start.parameters)

    def at(self, point: ArrayLike) -> LocalMetric:
        """Linearization and metric at a point, remembered for the next call."""
        return self._remember(self._parameters(point))

    def predictions(self, point: ArrayLike) -> Float[np.ndarray, " n"]:
        """Predictions f(w), finite or not."""
        return self._predict(self._parameters(point))

    def inner_product(self, point: Any, tangent_vector_a: Any, tangent_vector_b: Any) -> np.float64:
        a = self._vector(tangent_vector_a)
        b = a if tangent_vector_b is tangent_vector_a else self._vector(tangent_vector_b)
        return self._recall(self._parameters(point)).inner_product(a, b)

    def norm(self, point: Any, tangent_vector: Any) -> np.float64:
        a = self._vector(tangent_vector)
        return lengthened(a, lambda unit: np.sqrt(self.inner_product(point, unit, unit)))

    def projection(self, point: Any, vector: Any) -> Vector:
        return self._vector(vector)

    to_tangent_space = projection

    def zero_vector(self, point: Any) -> Vector:
        return np.zeros(self.model.num_parameters)

    def random_point(self) -> Vector:
        return self.point(self._random_parameters())

    def random_tangent_vector(self, point: Any) -> Vector:
        vector = self._rng.standard_normal(self.model.num_parameters)
        return vector / self.at(point).length(vector)

    def euclidean_to_riemannian_gradient(self, point: Any, euclidean_gradient: Any) -> Vector:
        return self.at(point).raise_index(self._vector(euclidean_gradient))

    def euclidean_to_riemannian_hessian(
        self, point: Any, euclidean_gradient: Any, euclidean_hessian: Any, tangent_vector: Any
    ) -> Vector:
        """Riemannian Hessian G⁻¹(∇²h a - ∇h · Γ(a, ·)) of a cost h of the parameters."""
        local = induced(self.at(point))
        covector = self._vector(euclidean_gradient)
        turned = connection_term(local, covector, self._vector(tangent_vector))
        return local.raise_index(self._vector(euclidean_hessian) - turned)

    def transport(self, point_a: Any, point_b: Any, tangent_vector_a: Any) -> Vector:
        """Vector transport: push at `point_a`, project and pull at `point_b`.

        It is the least-squares solution of B(w_b) x = B(w_a) a with the root B of the metric.
        """
        source = self._recall(self._parameters(point_a))
        return self.at(point_b).receive(source, self._vector(tangent_vector_a))

    def tangent(self, local: LocalMetric, velocity: np.ndarray) -> Vector:
        """Tangent vector of a velocity: itself, in an array of its own."""
        return velocity.copy()

    def velocity(self, local: LocalMetric, tangent_vector: ArrayLike) -> Vector:
        """Velocity of a tangent vector: itself."""
        return self._vector(tangent_vector)

    def composite_hessian(
        self,
        local: LocalMetric,
        normal: np.ndarray,
        gradient: np.ndarray,
        loss_hessian: Any,
        tangent_vector: Any,
    ) -> Vector:
        """Riemannian Hessian of a loss of the predictions."""
        a = self._vector(tangent_vector)
        curvature = loss_hessian(local.lin.push(a))
        return riemannian_hessian(induced(local), normal, gradient, curvature, a)

    def _form(self, local: InducedMetric, form: np.ndarray) -> Float[np.ndarray, "p p"]:
        return form

    def trial(self, w: np.ndarray) -> Vector:
        return w

    def _vector(self, value: ArrayLike) -> Vector:
        return as_vector("tangent_vector", value, self.model.num_parameters, finite=False)

    def _parameters(self, point: ArrayLike) -> np.ndarray:
        if isinstance(point, OutputPoint):
            raise ForeignPointError(
                "points of ParameterManifold are parameters, got predictions: use point.parameters"
            )
        return as_vector("point", point, self.model.num_parameters, finite=False)
