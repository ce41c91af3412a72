"""Metric tensors that an immersion into outputs and parameters induces, with their connection."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from gnmanifold.errors import NotAnImmersionError
from gnmanifold.factorization import Factor, Root
from gnmanifold.linearization import Linearization
from gnmanifold.metrics.ambient import EUCLIDEAN, OutputMetric
from gnmanifold.metrics.base import LocalMetric

_MISSED = 1e-12  # relative part of a covector that a singular loss Hessian cannot represent


@dataclass(frozen=True, eq=False)
class InducedMetric(LocalMetric):
    """A metric tensor G = c JᵀA J + diag(δ) at a point, with one factorization of its root.

    c is `weight`, δ is `diagonal`, A = SᵀS the metric of the outputs. It is induced by
    w -> (f(w), w) from the ambient metric c A on R^n and diag(δ) on R^p, where that is fixed
    (`immersed`). Ambient vectors x (n,) or (n+p,) hold the part in R^n first.
    S. Amari and H. Nagaoka, Methods of Information Geometry; math of A = ∇²g: Hessian metrics.
    """

    lin: Linearization
    weight: float
    diagonal: Float[np.ndarray, " p"] | None = None
    immersed: bool = True
    outputs: OutputMetric = EUCLIDEAN

    @cached_property
    def factor(self) -> Factor:
        """Factor of the root [sqrt(c) S J; diag(δ)^½]; raises RankDeficientError."""
        if self.weight == 1.0 and self.diagonal is None and self.outputs.flat:
            return self.lin.factor
        diagonal = None if self.diagonal is None else np.sqrt(self.diagonal)
        factor = self.lin.factorize(Root(self.isometric(self.lin.jacobian), diagonal))
        return factor.require_full_rank("increase the damping of the metric")

    def require_regular(self) -> None:
        """Raise RankDeficientError where the metric is degenerate."""
        if self.weight != 0:
            self.factor  # noqa: B018 - it is what raises

    @property
    def ambient_dimension(self) -> int:
        """Number of coordinates of a normal vector."""
        size = len(self.outputs.root(np.zeros(self.lin.model.num_outputs)))
        return size if self.diagonal is None else size + self.lin.model.num_parameters

    def isometric(self, columns: np.ndarray) -> np.ndarray:
        """Output vectors as sqrt(c) S C, whose Euclidean inner product is that of c A."""
        rooted = self.outputs.root(columns)
        return rooted if self.weight == 1.0 else np.sqrt(self.weight) * rooted

    def inner_product(self, a: np.ndarray, b: np.ndarray) -> np.float64:
        bottom = 0.0 if self.diagonal is None else (self.diagonal * a) @ b
        if self.weight == 0:
            return np.float64(bottom)
        image = self.isometric(self.lin.push(a))  # S twice: a product with A can be negative
        other = image if b is a else self.isometric(self.lin.push(b))
        return np.float64(image @ other + bottom)

    def receive(self, source: LocalMetric, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Projection of the ambient vector (J a, a) from `source` onto the tangent space here."""
        if self.weight == 0:
            return a
        top = self.isometric(source.lin.push(a))
        if self.diagonal is None:
            return self.factor.lstsq(top)
        return self.factor.lstsq(np.concatenate([top, np.sqrt(self.diagonal) * a]))

    def lower(self, a: np.ndarray) -> Float[np.ndarray, " p"]:
        bottom = 0.0 if self.diagonal is None else self.diagonal * a
        if self.weight == 0:
            return np.asarray(bottom)
        return self.weight * self.lin.pull_covector(self.outputs.product(self.lin.push(a))) + bottom

    def raise_index(self, c: np.ndarray) -> Float[np.ndarray, " p *k"]:
        if self.weight == 0:
            assert self.diagonal is not None
            return (c.T / self.diagonal).T
        return self.factor.solve(c)

    def gradient(self, z: np.ndarray) -> Float[np.ndarray, " p"]:
        if self.weight == 0:
            return self.raise_index(self.lin.pull_covector(z))
        # Jᵀz = Bᵀ[S A⁻¹z/sqrt(c); 0]: least squares, not normal equations.
        u = self.outputs.solve(z)
        a = self.factor.lstsq(self.isometric(u) / self.weight)
        if self.outputs.flat:
            return a
        missed = z - self.outputs.product(u)
        if np.linalg.norm(missed) <= _MISSED * np.linalg.norm(z):
            return a
        return a + self.factor.solve(self.lin.pull_covector(missed))

    def normal(self, z: np.ndarray, gradient: np.ndarray | None = None) -> Float[np.ndarray, " n"]:
        """Covector z - c A J G⁻¹Jᵀz that meets D²f in the Riemannian Hessian.

        It is the part of z normal to f(B) for the undamped metric and z itself for the Euclidean.
        `gradient` is G⁻¹Jᵀz where that is known.
        """
        if self.weight == 0:
            return z
        image = self.lin.push(self.gradient(z) if gradient is None else gradient)
        return z - self.weight * self.outputs.product(image)

    def bend(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " n"]:
        """Covariant second derivative D²f[a, b] + ½A⁻¹T[J a, J b] of f into the outputs."""
        second = self.lin.second_derivative(a, b)
        return second if self.outputs.flat else second + self.skew(a, self.lin.push(b))

    def bends(self, a: np.ndarray) -> Float[np.ndarray, "n p"]:
        """Covariant second derivatives along a and each parameter, in columns."""
        second = self.lin.jacobian_derivative(a)
        return second if self.outputs.flat else second + self.skews(a)

    def skew(self, a: np.ndarray, images: np.ndarray) -> Float[np.ndarray, " n *k"]:
        """Christoffel contraction ½A⁻¹T[J a, U] of the outputs with a vector or with columns."""
        return 0.5 * self.outputs.solve(self.outputs.third(self.lin.push(a), images))

    def skews(self, a: np.ndarray) -> Float[np.ndarray, "n p"]:
        """Christoffel contractions ½A⁻¹T[J a, J e_j] of the outputs for all parameters j."""
        return self.skew(a, self.lin.jacobian)

    def dual_bend(self, u: np.ndarray, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Covector b -> c <u, D²f[a, b] + ½A⁻¹T[J a, J b]>_A for an output vector u (n,)."""
        if self.weight == 0:
            return np.zeros_like(a)
        straight = self.lin.weighted_hessian(self.weight * self.outputs.product(u), a)
        return straight if self.outputs.flat else straight + self.dual_skew(u, a)

    def dual_skew(self, u: np.ndarray, a: np.ndarray) -> Float[np.ndarray, " p"]:
        """Covector b -> c/2 T[u, J a, J b], what the outputs' connection adds."""
        turned = self.outputs.third(u, self.lin.push(a))
        return self.lin.pull_covector(0.5 * self.weight * turned)

    def tangential(self, x: np.ndarray) -> Float[np.ndarray, " p *k"]:
        """Velocity whose image is closest to an output vector (n,), or to each column."""
        return self.factor.lstsq(self.isometric(x))

    def normal_part(self, x: np.ndarray, velocity: np.ndarray) -> Float[np.ndarray, " m *k"]:
        """Ambient vector (x, 0) without its tangential part, whose `velocity` tangential(x) is."""
        top = x - self.lin.jacobian @ velocity
        return top if self.diagonal is None else np.concatenate([top, -velocity])

    def coordinates(self, x: np.ndarray) -> Float[np.ndarray, " m *k"]:
        """Ambient vectors in coordinates whose Euclidean inner product is the ambient metric."""
        n = self.lin.model.num_outputs
        top = self.isometric(x[:n])
        if self.diagonal is None:
            return top
        return np.concatenate([top, (np.sqrt(self.diagonal) * x[n:].T).T])

    def output_part(self, nu: np.ndarray) -> Float[np.ndarray, " n"]:
        """Output vector x with <ν, ·> = c <x, ·>_A on outputs, of ν in those coordinates."""
        if self.weight == 0:
            return np.zeros(self.lin.model.num_outputs)
        rows = len(nu) - (0 if self.diagonal is None else self.lin.model.num_parameters)
        covector = self.outputs.root_transpose(nu[:rows])
        return self.outputs.solve(covector) / np.sqrt(self.weight)

    def christoffel(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " p"]:
        """Christoffel contraction Γ(a, b) = c G⁻¹Jᵀ (A D²f[a, b] + ½T[J a, J b])."""
        return np.zeros_like(a) if self.weight == 0 else self.tangential(self.bend(a, b))

    def christoffels(self, a: np.ndarray) -> Float[np.ndarray, "p p"]:
        """Christoffel contractions of a with each parameter, in columns."""
        if self.weight == 0:
            return np.zeros((a.size, a.size))
        return self.tangential(self.bends(a))

    @cached_property
    def frame(self) -> Float[np.ndarray, "p p"]:
        """Velocities in columns that are orthonormal in the metric, EᵀG E = I."""
        p = self.lin.model.num_parameters
        if self.weight == 0:
            assert self.diagonal is not None
            return np.diag(1 / np.sqrt(self.diagonal))
        self.require_regular()
        diagonal = None if self.diagonal is None else np.sqrt(self.diagonal)
        triangle = np.linalg.qr(Root(self.isometric(self.lin.jacobian), diagonal).dense(), "r")
        return solve_triangular(triangle, np.eye(p))


def induced(local: LocalMetric) -> InducedMetric:
    """Return the metric tensor, or raise NotAnImmersionError where it has no connection here."""
    if isinstance(local, InducedMetric) and local.immersed:
        return local
    raise NotAnImmersionError(
        "this metric is induced by no fixed immersion and has no Christoffel symbols, geodesics, "
        "curvature or Riemannian Hessian here: it serves descent and flows with first-order "
        "retraction; EuclideanMetric, GaussNewtonMetric, LevenbergMarquardtMetric without "
        "scaling, GeneralizedGaussNewtonMetric and FisherMetric have them"
    )
