"""Gauss-Newton and natural gradient: undamped, or damped by a schedule, with a line search."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular

from gnmanifold.damping import Constant, DampingSchedule
from gnmanifold.damping.schedules import as_schedule
from gnmanifold.errors import GnmanifoldError, NonFiniteError
from gnmanifold.factorization import column_norms
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import GeneralizedGaussNewtonMetric
from gnmanifold.optimizers.descent import DescentState, ModelDescent
from gnmanifold.optimizers.line_search import LineSearch
from gnmanifold.optimizers.linear_model import EPS, LinearModel
from gnmanifold.problems import require_composite
from gnmanifold.validation import first_nonfinite, one_of

SOLUTIONS = ("minimum_norm", "basic")


class GaussNewton(ModelDescent):
    """The Gauss-Newton method: a = argmin |S J a + r|, w <- R_w(α a), with SᵀS = ∇²g, Sᵀr = ∇g.

    The step does not depend on the metric of the manifold, which gives the gradient norm and the
    retraction. A constant weight of the loss cancels. For a squared error it is unit-step
    Riemannian gradient descent on f(B), and with the default UnitStep and a first-order retraction
    it is the loop of `lstsq` steps. Full steps can overshoot: `line_searcher=BackTracking()` makes
    the cost decrease, and a run that ends above its start says so and returns its best point.
    Where J has not full column rank, p > n included, the step is the least-squares solution of
    minimum norm, or with `solution="basic"` one with as many entries as the rank has, from a QR
    factorization with pivoting; the log says the rank, and the manifold's own metric must stand
    that (a damped or the Euclidean one does).
    `damping` is ρ or a schedule of gnmanifold.damping: the step is then
    -[(1-ρ) JᵀAJ + ρ α² I]⁻¹Jᵀ∇g with A = ∇²g, α = model.scale, and with ConstantStep(dt) Euler's
    method for its flow.
    Other keywords: max_time, max_iterations, min_gradient_norm, min_step_size,
    max_cost_evaluations, stop, progress, verbosity and log_verbosity.
    Raises ArgumentError for another kind of problem, line search, damping or solution.
    Nocedal and Wright, Numerical Optimization, section 10.3; S. Cayci, arXiv 2412.14031v5, (6).
    """

    _notes = MappingProxyType({"damping": None, "rank": None})
    _flat = (
        "the loss has no curvature above rounding at these predictions; start closer to the data "
        "or take GradientDescent"
    )

    def __init__(
        self,
        line_searcher: LineSearch | None = None,
        *,
        damping: DampingSchedule | float | None = None,
        solution: str = "minimum_norm",
        **limits: Any,
    ) -> None:
        super().__init__(line_searcher, **limits)
        self.damping = Constant(0.0) if damping is None else as_schedule(damping)
        self.solution = one_of("solution", solution, SOLUTIONS)

    def _parameters(self) -> dict[str, Any]:
        return {**super()._parameters(), "damping": self.damping, "solution": self.solution}

    def _curvature(self, loss: Loss) -> Loss:
        """Loss whose Hessian stands between the Jacobians."""
        return loss

    def _remembered(self, problem: Any, state: DescentState) -> Any:
        lin = problem.manifold.at(state.point).lin
        return self.damping.start(lin, problem.loss), self._curvature(problem.loss)

    def _start(self, problem: Any, point: Any) -> DescentState:
        require_composite(problem, type(self).__name__)
        problem.manifold.at(point).lin.jacobian  # noqa: B018 - see _at
        return super()._start(problem, point)

    def _at(self, problem: Any, state: Any) -> Any:
        try:  # the step needs J, and a gradient with J costs less than one without
            problem.manifold.at(state.point).lin.jacobian  # noqa: B018
        except GnmanifoldError as error:
            return replace(state, gradient_norm=np.nan, failure=str(error))
        return super()._at(problem, state)

    def _velocity(
        self, problem: Any, lin: Linearization, state: DescentState
    ) -> tuple[np.ndarray, DescentState]:
        schedule, curvature = state.memory
        rho = schedule.rho(lin, problem.loss)
        if rho == 0:
            velocity, rank = gauss_newton_velocity(lin, problem.loss, curvature, self.solution)
            return velocity, replace(state, notes={"damping": rho, "rank": rank})
        local = GeneralizedGaussNewtonMetric(curvature, rho).at(lin)
        velocity = -local.gradient(problem.loss.gradient(lin.psi))
        return velocity, replace(state, notes={"damping": rho, "rank": lin.model.num_parameters})


class NaturalGradient(GaussNewton):
    """The natural gradient method: -(JᵀF J)⁺Jᵀ∇g with the Fisher information F of the loss.

    For exponential families in natural parameters, and so for SquaredError, Logistic, Softmax and
    Poisson, it is the generalized Gauss-Newton method; for PseudoHuber F is a constant. Arguments
    and errors are those of GaussNewton, with an ArgumentError for losses that are no likelihood.
    S. Amari, Neural Comp. 10 (1998); J. Martens, New insights on the natural gradient, 2020.
    """

    def _curvature(self, loss: Loss) -> Loss:
        return loss.information


def gauss_newton_velocity(
    lin: Linearization,
    loss: Loss,
    curvature: Loss | None = None,
    solution: str = "minimum_norm",
) -> tuple[np.ndarray, int]:
    """Gauss-Newton velocity -(JᵀAJ)⁺Jᵀ∇g (p,) with A = ∇²g, and the rank that it was found with.

    A is the Hessian of `curvature` where that is given.
    """
    model = LinearModel(lin, loss, np.ones(lin.model.num_parameters), curvature)
    if solution == "basic":
        return basic_solution(model.matrix, -model.residual)
    return model.step(model.undamped), model.undamped.rank


def basic_solution(matrix: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """Least-squares solution with at most rank nonzero entries, and the rank.

    Pivots and rank are those of the matrix with columns of unit length; where several would do,
    as for a single row, the longest column is taken.

    Golub and Van Loan, Matrix Computations, section 5.5.7.
    """
    if first_nonfinite(matrix) is not None:
        raise NonFiniteError("the Jacobian is not finite here: bound the steps or start elsewhere")
    scale = column_norms(matrix)
    scale /= 1 + np.sqrt(EPS) * scale / np.max(scale)
    Q, R, order = qr(matrix / scale, mode="economic", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diag(R))
    rank = int(np.sum(diagonal > max(matrix.shape) * EPS * diagonal[0]))
    solution = np.zeros(matrix.shape[1])
    solution[order[:rank]] = solve_triangular(R[:rank, :rank], Q[:, :rank].T @ b)
    return solution / scale, rank
