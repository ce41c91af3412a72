"""Newton's method, and the same with the small and negative eigenvalues filtered out."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, lsmr

from gnmanifold.errors import ArgumentError, NonFiniteError
from gnmanifold.geometry.hessian import hessian_form
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import FilteredHessianMetric
from gnmanifold.metrics.filtered import check_filter
from gnmanifold.metrics.hessian import HessianTensor
from gnmanifold.metrics.induced import induced
from gnmanifold.metrics.products import hessian_product
from gnmanifold.optimizers.descent import DescentState, ModelDescent, covector
from gnmanifold.optimizers.line_search import LineSearch
from gnmanifold.optimizers.linear_model import EPS
from gnmanifold.validation import first_nonfinite, one_of, positive_int

HESSIANS = ("parameters", "riemannian")
_TOLERANCE = 1e-3
_DENSE = 64  # parameters up to which a p x p matrix is formed whatever n
_BACKWARD = 1e-10  # backward error of the linear system where no matrix is formed


class Newton(ModelDescent):
    """Newton's method: the step -H⁻¹Jᵀ∇g with the Hessian H of the cost, w <- R_w(α a).

    `hessian` "parameters" is H = ∇²(g∘f), whatever the metric: unit-step descent in HessianMetric
    where that is one. "riemannian" is the Riemannian Hessian in the metric of the manifold, such as
    JᵀAJ + Σ_i (P⊥∇g)_i ∇²f_i on f(B). Plain Newton steps go to the nearest critical point, saddles
    included; the log counts the negative eigenvalues. `saddle_free=True` takes |H|, whose
    eigenvalues are the absolute ones, in parameters scaled to a unit diagonal: then every
    step descends and BackTracking() has an effect. Singular Hessians get a step of least norm in
    those units. With p > n, above 64 parameters, no p x p matrix is formed: SciPy's LSMR finds the
    least-squares solution of least norm by products, in at most `max_inner` iterations, and the log
    has the relative residual that is left in place of the count; `saddle_free` and "riemannian" do
    need the matrix.
    Raises ArgumentError for another kind of problem or settings, saddle_free or riemannian with
    p > n above 64 parameters, NotAnImmersionError for "riemannian" in a metric without connection.
    Nocedal and Wright, ch. 3; Dauphin et al., arXiv 1406.2572 (saddle_free).
    """

    _notes = MappingProxyType({"negative": None, "residual": None})
    _flat = "the Hessian has no eigenvalue above rounding along it; start elsewhere"

    def __init__(
        self,
        line_searcher: LineSearch | None = None,
        *,
        hessian: str = "parameters",
        saddle_free: bool = False,
        max_inner: int = 1000,
        **limits: Any,
    ) -> None:
        super().__init__(line_searcher, **limits)
        self.hessian = one_of("hessian", hessian, HESSIANS)
        self.saddle_free = bool(saddle_free)
        self.max_inner = positive_int("max_inner", max_inner)

    def _parameters(self) -> dict[str, Any]:
        names = ("hessian", "saddle_free", "max_inner")
        return {**super()._parameters(), **{name: getattr(self, name) for name in names}}

    def _velocity(
        self, problem: Any, lin: Linearization, state: DescentState
    ) -> tuple[np.ndarray, DescentState]:
        slope = covector(problem, lin)
        if _is_wide(lin):
            step, residual = _krylov_solve(lin, problem.loss, slope, self.max_inner)
            return -step, replace(state, notes={"negative": None, "residual": residual})
        if self.hessian == "parameters":
            matrix = HessianTensor(lin, problem.loss).matrix
            frame = np.diag(1 / _units(np.abs(np.diag(matrix))))
        else:
            local = induced(problem.manifold.at(state.point))
            matrix, frame = hessian_form(local, problem.loss), local.frame
        lin.counts.factorizations += 1
        velocity, negative = _solve(matrix, frame, slope, self.saddle_free)
        return -velocity, replace(state, notes={"negative": negative, "residual": 0.0})

    def _remembered(self, problem: Any, state: DescentState) -> None:
        lin = problem.manifold.at(state.point).lin
        if _is_wide(lin) and (self.saddle_free or self.hessian == "riemannian"):
            raise ArgumentError(
                "saddle_free and hessian='riemannian' form p x p matrices and are for p <= n: with "
                f"p = {lin.model.num_parameters}, n = {lin.model.num_outputs} take plain Newton(), "
                "or FilteredNewton"
            )


class FilteredNewton(ModelDescent):
    """Newton's method with the k largest eigenvalues of the Hessian: -Σ_{i<=k} u_i u_iᵀJᵀ∇g/λ_i.

    `rank` or `tolerance` say which eigenvalues are kept, as in FilteredHessianMetric: only positive
    ones, above 1e-3 of the largest without either, so that every direction descends; full steps can
    overshoot, which BackTracking() prevents. Near a manifold of minima of codimension k the step is
    the Gauss-Newton step of least norm up to terms of the order of the distance to it, where
    Newton's own is erratic. Products with the Hessian are all that it takes: on a manifold with
    EuclideanMetric no n x p matrix is formed.
    Raises ArgumentError where both rank and tolerance are given.
    N. Boumal, When the Hessian is a proxy for its Gauss-Newton approximation, 2026.
    """

    _notes = MappingProxyType({"kept": None})
    _flat = "the kept eigenvectors are orthogonal to it; keep more eigenvalues"

    def __init__(
        self,
        line_searcher: LineSearch | None = None,
        *,
        rank: int | None = None,
        tolerance: float | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(line_searcher, **limits)
        if rank is None and tolerance is None:
            tolerance = _TOLERANCE
        self.rank, self.tolerance = rank, tolerance
        check_filter(rank, tolerance)

    def _parameters(self) -> dict[str, Any]:
        return {**super()._parameters(), "rank": self.rank, "tolerance": self.tolerance}

    def _remembered(self, problem: Any, state: DescentState) -> FilteredHessianMetric:
        metric = FilteredHessianMetric(problem.loss, self.rank, self.tolerance)
        metric.check(problem.model)
        return metric

    def _velocity(
        self, problem: Any, lin: Linearization, state: DescentState
    ) -> tuple[np.ndarray, DescentState]:
        tensor = state.memory.at(lin)
        velocity = -tensor.raise_index(covector(problem, lin))
        return velocity, replace(state, notes={"kept": len(tensor.spectrum[0])})


def _solve(
    matrix: np.ndarray, frame: np.ndarray, slope: np.ndarray, absolute: bool
) -> tuple[Float[np.ndarray, " p"], int]:
    """Solution of the symmetric system in a frame, and the number of negative eigenvalues."""
    with np.errstate(all="ignore"):
        turned = frame.T @ matrix @ frame
    if first_nonfinite(turned) is not None:
        raise NonFiniteError("the Hessian of the cost is not finite here: start elsewhere")
    values, vectors = np.linalg.eigh(0.5 * (turned + turned.T))
    floor = len(values) * EPS * float(np.max(np.abs(values)))
    kept = np.abs(values) > floor
    divisors = np.abs(values[kept]) if absolute else values[kept]
    coordinates = vectors[:, kept].T @ (frame.T @ slope)
    return frame @ (vectors[:, kept] @ (coordinates / divisors)), int(np.sum(values < -floor))


def _is_wide(lin: Linearization) -> bool:
    return lin.model.num_parameters > max(lin.model.num_outputs, _DENSE)


def _krylov_solve(
    lin: Linearization, loss: Loss, slope: np.ndarray, max_inner: int
) -> tuple[Float[np.ndarray, " p"], float]:
    """Least-squares solution of H a = slope of least norm, by products, and relative residual."""
    p = lin.model.num_parameters

    def product(a: np.ndarray) -> np.ndarray:
        return hessian_product(lin, loss, a.ravel())

    operator = LinearOperator((p, p), matvec=product, rmatvec=product)
    size = float(np.linalg.norm(slope))
    if size == 0:
        return np.zeros(p), 0.0
    solution, _, _, residual, *_ = lsmr(
        operator, slope / size, atol=_BACKWARD, btol=_BACKWARD, conlim=0, maxiter=max_inner
    )
    return size * solution, float(residual)


def _units(diagonal: np.ndarray) -> np.ndarray:
    """Square roots of the diagonal, one where it is zero or rounding."""
    floor = EPS * float(np.max(diagonal, initial=0.0))
    return np.sqrt(np.where(diagonal > floor, diagonal, max(floor, np.finfo(float).tiny)))
