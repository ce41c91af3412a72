"""pymanopt's Riemannian trust regions, mended for metrics in which the Hessian is the identity."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pymanopt.optimizers import TrustRegions as HostTrustRegions

from gnmanifold.errors import ArgumentError, GnmanifoldError, NonFiniteError
from gnmanifold.optimizers.base import Callback, Optimizer, Result, State, StopReason
from gnmanifold.optimizers.line_search import finite_point
from gnmanifold.problems import require_composite
from gnmanifold.validation import nonnegative, one_of, positive, positive_int

HESSIANS = ("riemannian", "gauss_newton")


@dataclass(frozen=True, eq=False)
class TrustRegionState(State):
    """A state with the trust region and how its last model step went."""

    radius: float = np.inf
    max_radius: float = np.inf
    rho: float = np.nan
    accepted: bool = True
    inner_iterations: int = 0
    inner_stop: str = ""

    def record(self) -> dict[str, Any]:
        extra = ("radius", "rho", "accepted", "inner_iterations", "inner_stop")
        return {**super().record(), **{name: getattr(self, name) for name in extra}}


class TrustRegions(Optimizer, HostTrustRegions):
    """Riemannian trust regions with truncated conjugate gradients, for any pymanopt problem.

    pymanopt's own takes a second inner iteration after the first one solved the model, which is
    0/0 where the Hessian is the identity in the metric, as for Gauss-Newton on a linear model;
    this one stops there. It logs every iteration with the radius, the ratio ρ of the actual to
    the predicted decrease, and why the inner iteration stopped. Radii come from the problem: the
    first one is the length of the Cauchy step at the start (an eighth of the manifold's typical
    distance where the curvature is not positive), the largest one the larger of eight times that
    and the typical distance. pymanopt's `maxinner`, `Delta_bar`, `Delta0` of `run` set them.
    `hessian` "gauss_newton" takes for a CompositeProblem G⁻¹JᵀAJ, A = ∇²g, in place of the exact
    Riemannian Hessian: never indefinite, and without second derivatives. In the Gauss-Newton metric
    it is the identity, and the region only shortens the Gauss-Newton step; in the Euclidean metric
    it is a Levenberg-Marquardt method.
    Raises ArgumentError for radii that are not positive and settings out of range.
    Absil, Baker and Gallivan, Found. Comput. Math. 7 (2007); Conn, Gould and Toint, ch. 17.4.
    """

    def __init__(
        self,
        *,
        kappa: float = 0.1,
        theta: float = 1.0,
        rho_prime: float = 0.1,
        rho_regularization: float = 1e3,
        hessian: str = "riemannian",
        **limits: Any,
    ) -> None:
        super().__init__(**limits)
        self.hessian = one_of("hessian", hessian, HESSIANS)
        self.kappa, self.theta = positive("kappa", kappa), positive("theta", theta)
        self.rho_prime = positive("rho_prime", rho_prime)
        if rho_prime >= 0.25:
            raise ArgumentError(f"rho_prime must be below 1/4, where radii shrink, got {rho_prime}")
        self.rho_regularization = positive("rho_regularization", rho_regularization)
        self._radii: tuple[float | None, float | None] = (None, None)
        self._max_inner: int | None = None
        # no least number of inner iterations: a second one after an exact first one is 0/0
        self._min_inner = 0

    def run(
        self,
        problem: Any,
        *,
        initial_point: Any = None,
        callback: Callback | None = None,
        mininner: int = 0,
        maxinner: int | None = None,
        Delta_bar: float | None = None,
        Delta0: float | None = None,
    ) -> Result:
        """Minimise the cost of a problem; pymanopt's keywords set radii and inner iterations."""
        configured = copy(self)
        configured._radii = (
            Delta0 if Delta0 is None else positive("Delta0", Delta0),
            Delta_bar if Delta_bar is None else positive("Delta_bar", Delta_bar),
        )
        configured._min_inner = int(nonnegative("mininner", mininner))
        configured._max_inner = maxinner if maxinner is None else positive_int("maxinner", maxinner)
        return Optimizer.run(configured, problem, initial_point=initial_point, callback=callback)

    def _parameters(self) -> dict[str, Any]:
        names = ("kappa", "theta", "rho_prime", "rho_regularization", "hessian")
        return {name: getattr(self, name) for name in names}

    def _start(self, problem: Any, point: Any) -> TrustRegionState:
        if self.hessian == "gauss_newton":
            require_composite(problem, 'TrustRegions(hessian="gauss_newton")')
        state = super()._start(problem, point)
        first, largest = self._radii
        typical = _typical_distance(problem.manifold)
        if first is None:
            cauchy = None if largest else _cauchy_length(self._posed(problem), state)
            first = largest / 8 if largest else cauchy or typical / 8
        largest = max(8 * first, typical) if largest is None else largest
        return TrustRegionState(**vars(state), radius=min(first, largest), max_radius=largest)

    def _step(self, problem: Any, state: State) -> TrustRegionState:
        assert isinstance(state, TrustRegionState)
        manifold, point, gradient = problem.manifold, state.point, state.gradient
        step, image, last, stop = self._truncated_conjugate_gradient(
            self._posed(problem),
            point,
            gradient,
            manifold.zero_vector(point),
            state.radius,
            self.theta,
            self.kappa,
            self._min_inner,
            manifold.dim if self._max_inner is None else self._max_inner,
        )
        candidate, cost = self._try(problem, point, step)
        linear = manifold.inner_product(point, gradient, step)
        predicted = -linear - 0.5 * manifold.inner_product(point, step, image)
        rho = self._ratio(state.cost, cost, predicted)
        accepted = rho > self.rho_prime
        tried = replace(
            state,
            iteration=state.iteration + 1,
            radius=self._radius(state, rho, stop),
            rho=rho,
            accepted=bool(accepted),
            inner_iterations=last + 1,
            inner_stop=self.TCG_STOP_REASONS[stop],
        )
        if not accepted:
            return tried
        length = float(manifold.norm(point, step))
        moved = replace(tried, point=candidate, cost=cost, step_size=length)
        there = self._at(problem, moved)
        if not there.failure or cost == 0:  # a perfect fit ends the run, tangent space or not
            return there
        # No tangent space there: the region was too large.
        return replace(tried, accepted=False, rho=-np.inf, radius=min(tried.radius, length) / 4)

    def _posed(self, problem: Any) -> Any:
        """The problem with the Hessian to use."""
        return problem if self.hessian == "riemannian" else _GaussNewtonModel(problem)

    def _try(self, problem: Any, point: Any, step: Any) -> tuple[Any, float]:
        """Candidate and its cost; an infinite one where the retraction does not reach."""
        try:
            candidate = problem.manifold.retraction(point, step)
        except GnmanifoldError:
            return point, np.inf
        return candidate, problem.cost(candidate) if finite_point(candidate) else np.inf

    def _stop(self, state: State, clock: Any) -> StopReason | None:
        reason = super()._stop(state, clock)
        shrunk = isinstance(state, TrustRegionState) and state.radius < self._min_step_size
        return StopReason.RADIUS if reason is None and shrunk else reason

    def _ratio(self, old: float, new: float, predicted: float) -> float:
        """Actual over predicted decrease, both shifted by rounding; -inf where it is worthless."""
        shift = max(1.0, abs(old)) * np.spacing(1.0) * self.rho_regularization
        if not np.isfinite(new) or not predicted + shift > 0:
            return -np.inf
        return float((old - new + shift) / (predicted + shift))

    def _radius(self, state: TrustRegionState, rho: float, stop: int) -> float:
        if rho < 0.25:
            return state.radius / 4
        if rho > 0.75 and stop in (self.NEGATIVE_CURVATURE, self.EXCEEDED_TR):
            return min(2 * state.radius, state.max_radius)
        return state.radius


@dataclass(frozen=True)
class _GaussNewtonModel:
    """What truncated conjugate gradients ask of a problem, with the Gauss-Newton Hessian."""

    problem: Any

    @property
    def manifold(self) -> Any:
        return self.problem.manifold

    @property
    def preconditioner(self) -> Any:
        return self.problem.preconditioner

    def riemannian_hessian(self, point: Any, tangent_vector: Any) -> np.ndarray:
        return self.problem.gauss_newton_hessian(point, tangent_vector)


def _cauchy_length(problem: Any, state: State) -> float | None:
    """Length |g|³/<g, Hg> of the step to the minimum along the gradient, None if there is none."""
    try:
        image = problem.riemannian_hessian(state.point, state.gradient)
    except NonFiniteError:  # an overflow
        return None
    curvature = float(problem.manifold.inner_product(state.point, state.gradient, image))
    if not 0 < curvature < np.inf:
        return None
    length = state.gradient_norm * (state.gradient_norm / np.sqrt(curvature)) ** 2
    return length if 0 < length < np.inf else None


def _typical_distance(manifold: Any) -> float:
    try:
        return float(manifold.typical_dist)
    except NotImplementedError:
        return float(np.sqrt(manifold.dim))
