"""Gauss-Newton with a line search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnmanifold.errors import ArgumentError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.optimizers.base import Optimizer, State
from gnmanifold.optimizers.line_search import LineSearch, UnitStep
from gnmanifold.optimizers.linear_model import LinearModel
from gnmanifold.problems import CompositeProblem

_FLAT = (
    "the Gauss-Newton step is zero where the gradient is not, as the loss has no curvature above "
    "rounding at these predictions; start closer to the data or take pymanopt's SteepestDescent"
)


@dataclass(frozen=True, eq=False)
class GaussNewtonState(State):
    """A state with the numerical rank of the last linear least-squares problem."""

    rank: int | None = None

    def record(self) -> dict[str, Any]:
        return {**super().record(), "rank": self.rank}


class GaussNewton(Optimizer):
    """The Gauss-Newton method: a = argmin |S J a + r|, w <- R_w(α a), with SᵀS = ∇²g, Sᵀr = ∇g.

    The step is undamped whatever the metric of the manifold, which gives the gradient norm and the
    retraction; damped steps are pymanopt's SteepestDescent in a damped metric. A constant weight of
    the loss cancels. For a squared error it is unit-step Riemannian gradient descent on f(B), and
    with the default UnitStep and a first-order retraction it is the loop of `lstsq` steps. Full
    steps can overshoot: `line_searcher=BackTracking()` makes the cost decrease, and a run that ends
    above its start says so and returns its best point. Where J has not full column rank, p > n
    included, the step is the least-squares solution of minimum norm and the log says the rank; the
    manifold's own metric must stand that (a damped or the Euclidean one does).
    Other keywords: max_time, max_iterations, min_gradient_norm, min_step_size,
    max_cost_evaluations, verbosity and log_verbosity, as in pymanopt.
    Raises ArgumentError for another kind of problem or line search.
    Nocedal and Wright, Numerical Optimization, section 10.3.
    """

    def __init__(self, line_searcher: LineSearch | None = None, **limits: Any) -> None:
        super().__init__(**limits)
        self.line_searcher = UnitStep() if line_searcher is None else line_searcher
        if isinstance(line_searcher, type) or not isinstance(self.line_searcher, LineSearch):
            raise ArgumentError(
                f"line_searcher must be an object with a search method, such as BackTracking(), "
                f"got {line_searcher!r}"
            )

    def _parameters(self) -> dict[str, Any]:
        return {"line_searcher": self.line_searcher}

    def _start(self, problem: Any, point: Any) -> GaussNewtonState:
        if not isinstance(problem, CompositeProblem):
            raise ArgumentError(
                f"GaussNewton needs a CompositeProblem, whose model and loss it linearises, "
                f"as in CompositeProblem(manifold, SquaredError(y)); got {type(problem).__name__}"
            )
        return GaussNewtonState(**vars(super()._start(problem, point)))

    def _step(self, problem: Any, state: State) -> GaussNewtonState:
        assert isinstance(state, GaussNewtonState)
        manifold, loss = problem.manifold, problem.loss
        local = manifold.at(state.point)
        velocity, rank = gauss_newton_velocity(local.lin, loss)
        after = replace(state, iteration=state.iteration + 1, rank=rank)
        if not velocity.any():
            return replace(after, failure=_FLAT)
        slope = loss.gradient(local.lin.psi) @ local.lin.push(velocity)
        step_size, point = self.line_searcher.search(
            problem.cost,
            manifold,
            state.point,
            manifold.tangent(local, velocity),
            state.cost,
            slope,
        )
        after = replace(after, point=point, step_size=step_size)
        return self._at(problem, replace(after, cost=problem.cost(point))) if step_size else after


def gauss_newton_velocity(lin: Linearization, loss: Loss) -> tuple[np.ndarray, int]:
    """Gauss-Newton velocity -(JᵀAJ)⁺Jᵀ∇g (p,) with A = ∇²g, and the rank that it was found with."""
    model = LinearModel(lin, loss, np.ones(lin.model.num_parameters))
    return model.step(model.undamped), model.undamped.rank
