"""Curvature of a cost at a point: eigenvalues, traces and spectral densities, small p or large."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import svdvals

from gnmanifold.diagnostics.density import Estimate, SpectralDensity, spectral_density, trace
from gnmanifold.diagnostics.lanczos import (
    EPS,
    Eigenvalues,
    GivenMetric,
    Product,
    dense_eigenvalues,
    dense_matrix,
    extreme_eigenvalues,
    metric_of,
)
from gnmanifold.errors import (
    ArgumentError,
    NotAnImmersionError,
    RankDeficientError,
)
from gnmanifold.geometry.hessian import hessian_form
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import InducedMetric, LocalMetric
from gnmanifold.metrics.induced import induced
from gnmanifold.metrics.products import gauss_newton_product, hessian_product
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import RandomState, as_generator, one_of, positive_int

__all__ = [
    "Eigenvalues",
    "Estimate",
    "SpectralDensity",
    "Spectrum",
    "hessian_density",
    "hessian_trace",
    "spectral_density",
    "spectrum",
    "trace",
]

_DENSE = 512  # parameters up to which all eigenvalues are computed
_AFFORDABLE = 2**24  # entries of a Jacobian that is formed to save products
_EACH_END = 6  # eigenvalues at each end without a k
_WHICH = ("hessian", "gauss_newton")
_NAMES = ("gauss_newton", "hessian", "riemannian")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the three curvature matrices of a cost g∘f at a point, side by side.

    `gauss_newton` is JᵀAJ with A = ∇²g, `hessian` ∇²(g∘f) = JᵀAJ + Σ_i ∇g_i ∇²f_i, `riemannian` the
    Riemannian Hessian relative to the metric of the manifold, or None where there is none, for the
    reason `absent`. `filtered` are the largest positive eigenvalues of the Hessian, as many as the
    Gauss-Newton matrix has: what of the Hessian is a proxy for that matrix near a minimum.
    N. Boumal, When the Hessian is a proxy for its Gauss-Newton approximation, 2026.
    """

    gauss_newton: Eigenvalues
    hessian: Eigenvalues
    riemannian: Eigenvalues | None
    absent: str = ""

    @property
    def sharpness(self) -> float:
        """Largest eigenvalue of the Hessian: gradient descent needs steps below 2/sharpness."""
        return self.hessian.largest

    @property
    def filtered(self) -> Float[np.ndarray, " k"]:
        """Eigenvalues of the Hessian that the filter keeps, increasing; of those computed."""
        rank = self.gauss_newton.signs.positive
        largest = self.hessian.values[max(len(self.hessian.values) - rank, 0) :]
        return largest[largest > self.hessian.errors[-1]]

    @property
    def kept(self) -> int:
        """Number of eigenvalues that the filter keeps; a lower bound unless all are computed."""
        return len(self.filtered)

    @property
    def filtered_condition(self) -> float:
        """Condition number of the filtered Hessian, NaN where nothing is kept."""
        return float(self.filtered[-1] / self.filtered[0]) if self.kept else np.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        parts = {name: getattr(self, name) for name in _NAMES}
        return {
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "sharpness": self.sharpness,
            "kept": self.kept,
            "filtered_condition": self.filtered_condition,
            "absent": self.absent,
        }

    def __str__(self) -> str:
        head = f"{'matrix':14s} {'smallest':>11s} {'largest':>11s} {'condition':>10s}  -/0/+"
        lines = [head, "-" * len(head)]
        for name in _NAMES:
            part = getattr(self, name)
            lines.append(f"{name:14s} {self.absent}" if part is None else _row(name, part))
        at_least = "" if self.hessian.complete else "at least "
        lines.append(
            f"filtered Hessian: {at_least}{self.kept} of {self.hessian.size} eigenvalues kept, "
            f"condition {self.filtered_condition:.3g}"
        )
        return "\n".join(lines)


def _row(name: str, part: Eigenvalues) -> str:
    signs = "/".join(map(str, part.signs)) + ("" if part.complete else f" of {part.size}")
    return f"{name:14s} {part.smallest:11.4g} {part.largest:11.4g} {part.condition:10.3g}  {signs}"


def spectrum(
    problem: CompositeProblem,
    point: ArrayLike,
    k: int | None = None,
    *,
    dense: bool | None = None,
    rng: RandomState = 0,
) -> Spectrum:
    """Eigenvalues of the Gauss-Newton matrix, the Hessian and the Riemannian Hessian at a point.

    All of them where `dense`, without it for p <= 512; else the `k` smallest and largest, 6 without
    it, from products: neither n x p nor p x p numbers are held. `rng` seeds the start of Lanczos.
    Raises ArgumentError for another kind of problem or k >= p/2, NonFiniteError.
    """
    require_composite(problem, "spectrum")
    local = problem.manifold.at(problem.manifold.as_point(point))
    p = problem.model.num_parameters
    rng = as_generator(rng)
    if p <= _DENSE if dense is None else dense:
        make: _Maker = _Dense(local, problem.loss)
    else:
        k = min(_EACH_END, (p - 1) // 2) if k is None else positive_int("k", k)
        make = _Extremes(local, problem.loss, k, rng)
    hessian = make.hessian()
    riemannian, absent = _riemannian(make, local, hessian)
    return Spectrum(make.gauss_newton(), hessian, riemannian, absent)


def _riemannian(
    make: _Maker, local: LocalMetric, hessian: Eigenvalues
) -> tuple[Eigenvalues | None, str]:
    """Eigenvalues of the Riemannian Hessian, or the reason why there are none."""
    try:
        metric = induced(local)
        if metric.weight == 0 and metric.diagonal is not None and np.all(metric.diagonal == 1):
            return hessian, ""
        return make.riemannian(metric), ""
    except NotAnImmersionError:
        return None, "none: this metric has no connection"
    except RankDeficientError:
        return None, "none: the metric is degenerate here"
    except ArgumentError as error:
        return None, f"none: {error}"


@dataclass(frozen=True, eq=False)
class _Maker(ABC):
    """How the three sets of eigenvalues are found."""

    local: LocalMetric
    loss: Loss

    @property
    def lin(self) -> Linearization:
        return self.local.lin

    @property
    def p(self) -> int:
        return self.lin.model.num_parameters

    @property
    def accuracy(self) -> float:
        """Relative accuracy of the Hessian where derivatives are differences, else rounding."""
        model = self.lin.model
        return max(model.first_order_accuracy, model.second_order_accuracy)

    @abstractmethod
    def gauss_newton(self) -> Eigenvalues:
        """Eigenvalues of JᵀAJ."""

    @abstractmethod
    def hessian(self) -> Eigenvalues:
        """Eigenvalues of ∇²(g∘f)."""

    @abstractmethod
    def riemannian(self, metric: InducedMetric) -> Eigenvalues:
        """Eigenvalues of the Riemannian Hessian relative to a metric."""


class _Dense(_Maker):
    """All eigenvalues, from p x p matrices."""

    def gauss_newton(self) -> Eigenvalues:
        lin, p = self.lin, self.p
        if lin.model.num_outputs * p > _AFFORDABLE:
            product = curvature_product(lin, self.loss, "gauss_newton")
            return dense_eigenvalues(dense_matrix(product, p), self.accuracy)
        # squares of singular values: what is small has its digits, unlike in JᵀAJ
        sigma = svdvals(self.loss.hessian_root(lin.psi, lin.jacobian))[::-1]
        error = (max(p, len(sigma)) * EPS + lin.model.first_order_accuracy) * sigma[-1]
        values = np.concatenate([np.zeros(p - len(sigma)), sigma**2])
        errors = np.concatenate([np.zeros(p - len(sigma)), error * (2 * sigma + error)])
        return Eigenvalues(values, errors, p)

    def hessian(self) -> Eigenvalues:
        lin, p = self.lin, self.p
        if lin.model.num_outputs * p <= _AFFORDABLE:
            lin.jacobian  # noqa: B018 - the products that follow use it
        flat = dense_matrix(curvature_product(lin, self.loss, "gauss_newton"), p)
        bend = lin.hessian_matrix(self.loss.gradient(lin.psi))
        size = float(np.linalg.norm(flat, 2) + np.linalg.norm(bend, 2))
        return dense_eigenvalues(flat + 0.5 * (bend + bend.T), self.accuracy, size)

    def riemannian(self, metric: InducedMetric) -> Eigenvalues:
        form, frame = hessian_form(metric, self.loss), metric.frame
        # entry by entry, which no scaling of the parameters changes
        size = np.linalg.norm(np.abs(frame.T) @ np.abs(form) @ np.abs(frame), 2)
        relative = frame.T @ form @ frame
        return dense_eigenvalues(0.5 * (relative + relative.T), self.accuracy, float(size))


@dataclass(frozen=True, eq=False)
class _Extremes(_Maker):
    """The k extreme eigenvalues at each end, from products."""

    k: int
    rng: np.random.Generator

    def gauss_newton(self) -> Eigenvalues:
        rows = len(self.loss.root_residual(self.lin.psi))
        if rows <= min(_DENSE, self.p):
            return self._by_kernel(rows)
        product = curvature_product(self.lin, self.loss, "gauss_newton")
        if rows >= self.p:
            return self._extreme(product)
        top = self._extreme(product, ends=("LA",))  # the others are zeros
        zeros = np.zeros(self.k)
        values, errors = (np.concatenate([zeros, part]) for part in (top.values, top.errors))
        return Eigenvalues(values, errors, self.p)

    def _by_kernel(self, rows: int) -> Eigenvalues:
        """All eigenvalues: those of S J JᵀSᵀ, of which there are few, and zeros."""
        kernel = dense_matrix(kernel_product(self.lin, self.loss), rows)
        few = dense_eigenvalues(kernel, self.lin.model.first_order_accuracy)
        values = np.concatenate([np.zeros(self.p - rows), few.values])
        errors = np.concatenate([np.zeros(self.p - rows), few.errors])
        order = np.argsort(values)
        return Eigenvalues(values[order], errors[order], self.p)

    def hessian(self) -> Eigenvalues:
        return self._extreme(curvature_product(self.lin, self.loss, "hessian"))

    def riemannian(self, metric: InducedMetric) -> Eigenvalues:
        given = metric_of(metric.lower)
        return self._extreme(riemannian_product(metric, self.loss, given), metric=given)

    def _extreme(self, product: Product, **options: Any) -> Eigenvalues:
        return extreme_eigenvalues(
            product, self.p, self.k, self.rng, accuracy=self.accuracy, **options
        )


def curvature_product(lin: Linearization, loss: Loss, which: str) -> Product:
    """Product a -> JᵀAJ a for "gauss_newton" or ∇²(g∘f) a for "hessian", without a matrix."""
    product = hessian_product if which == "hessian" else gauss_newton_product
    return lambda a: product(lin, loss, a)


def kernel_product(lin: Linearization, loss: Loss) -> Product:
    """Product u -> S J JᵀSᵀu with the kernel whose nonzero eigenvalues are those of JᵀAJ."""

    def product(u: np.ndarray) -> np.ndarray:
        covector = lin.pull_covector(loss.hessian_root_transpose(lin.psi, u))
        return loss.hessian_root(lin.psi, lin.push(covector))

    return product


def riemannian_product(metric: InducedMetric, loss: Loss, given: GivenMetric) -> Product:
    """Product a -> M a of the Riemannian Hessian's bilinear form, without a matrix.

    `hessian_form` has the formula.
    """
    lin = metric.lin
    z = loss.gradient(lin.psi)
    gradient = given.solve(lin.pull_covector(z))
    normal, image = metric.normal(z, gradient), lin.push(gradient)

    def product(a: np.ndarray) -> np.ndarray:
        result = gauss_newton_product(lin, loss, a) + lin.weighted_hessian(normal, a)
        if metric.weight == 0 or metric.outputs.flat:
            return result
        turned = metric.outputs.third(image, lin.push(a))
        return result - 0.5 * metric.weight * lin.pull_covector(turned)

    return product


def hessian_trace(
    problem: CompositeProblem,
    point: ArrayLike,
    which: str = "hessian",
    *,
    samples: int = 64,
    rng: RandomState = 0,
) -> Estimate:
    """Trace of the Hessian of a cost, or of its Gauss-Newton matrix, from products alone.

    Raises ArgumentError for another kind of problem or an unknown `which`.
    """
    return trace(*_product_at(problem, point, which), samples, rng)


def hessian_density(
    problem: CompositeProblem,
    point: ArrayLike,
    which: str = "hessian",
    *,
    steps: int = 64,
    samples: int = 8,
    rng: RandomState = 0,
) -> SpectralDensity:
    """Spectral density of the Hessian of a cost, or of its Gauss-Newton matrix, from products.

    Raises ArgumentError for another kind of problem or an unknown `which`.
    """
    product, p = _product_at(problem, point, which)
    return spectral_density(product, p, steps=steps, samples=samples, rng=rng)


def _product_at(problem: CompositeProblem, point: ArrayLike, which: str) -> tuple[Product, int]:
    require_composite(problem, "a trace or density of the Hessian")
    lin = problem.manifold.at(problem.manifold.as_point(point)).lin
    product = curvature_product(lin, problem.loss, one_of("which", which, _WHICH))
    return product, problem.model.num_parameters
