"""Levenberg and Marquardt's method with geodesic acceleration and an undamped end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.damping import UNDAMPED, Damping, DampingRule, Nielsen
from gnmanifold.errors import ArgumentError, GnmanifoldError, NonFiniteError
from gnmanifold.optimizers.base import Optimizer, State, StopReason
from gnmanifold.optimizers.linear_model import (
    BLIND,
    EPS,
    PERFECT,
    LinearModel,
    cosine,
    differenced,
    newton_step,
    noise,
    reason,
    relative_change,
)
from gnmanifold.problems import require_composite
from gnmanifold.validation import nonnegative, one_of

_ACCEPTED = 1e-4  # gain ratio above which a step is taken
_SETTLED = 1e-13  # relative change of the parameters that ends the undamped steps
_NEARLY = 1e-9  # the same, once the steps no longer shrink
_SHRINKING = 0.9
_UNSEEN = 1e-15  # predicted relative decrease of the cost that its rounding hides
_LEAST = 1e-140  # damping that is none
_RISE = 1e-10  # relative rise of the cost by rounding that an undamped step is forgiven


@dataclass(frozen=True, eq=False)
class LevenbergMarquardtState(State):
    """A state with the damping, the scaling of the parameters, and how the last step went.

    `offset` is |P r|/|r|, the share of the residual that a linear model could still remove;
    `mode` tells whether steps are "damped", or undamped ones, "gauss_newton" or "newton", which are
    tried from an offset `near` on; `shortest` is the shortest of those.
    """

    damping: Damping = UNDAMPED
    scaling: Float[np.ndarray, " p"] | None = None
    ratio: float = np.nan
    accepted: bool = True
    accelerated: bool = False
    offset: float = np.inf
    near: float = 0.0
    mode: str = "damped"
    shortest: float = np.inf
    finishing: bool = False
    end: StopReason | None = None

    def record(self) -> dict[str, Any]:
        extra = ("ratio", "accepted", "accelerated", "offset", "mode")
        values = {name: getattr(self, name) for name in extra}
        return {**super().record(), "damping": self.damping.value, **values}


class LevenbergMarquardt(Optimizer):
    """Levenberg and Marquardt's method: w <- w + a + ½b, a damped step a and its acceleration b.

    a minimises |S J a + r|² + λ|D a|² with SᵀS = A = ∇²g, Sᵀr = ∇g, and
    b = -(JᵀAJ + λD²)⁻¹JᵀA D²f[a, a] bends it along the geodesic: together the second-order
    retraction of descent in the metric JᵀAJ + λD², whatever that of the manifold. A step that bends
    too much, 2|D b| > `acceleration` |D a|, is refused; zero turns the acceleration off. `damping`
    is a rule of gnmanifold.damping for λ; `scaling` "more" takes
    for D the largest column norms of S J so far, "marquardt" the present ones, None ones.
    Once the residual is orthogonal to the surface to a share `offset`, the steps are undamped ones
    of Gauss and Newton, or of Newton where the residual is too large for those, and the run ends
    where they no longer change the parameters: at the accuracy of the arithmetic, not at a
    tolerance. A Jacobian without full rank gets steps of least norm. The gradient norm is
    |D⁻¹Jᵀ∇g|. The limits on it and on step sizes are zero unless they are given.
    Raises ArgumentError for another kind of problem or settings out of range.
    J. J. Moré, 1978; M. K. Transtrum and J. P. Sethna, arXiv 1201.5885.
    """

    def __init__(
        self,
        damping: DampingRule | None = None,
        *,
        scaling: str | None = "more",
        acceleration: float = 0.75,
        offset: float = 1e-3,
        **limits: Any,
    ) -> None:
        quiet = {"min_gradient_norm": 0.0, "min_step_size": 0.0, "max_cost_evaluations": 100_000}
        super().__init__(**{**quiet, "max_iterations": 10_000, **limits})
        self.damping = Nielsen() if damping is None else damping
        if not isinstance(self.damping, DampingRule):
            raise ArgumentError(f"damping must be a rule such as Nielsen(), got {damping!r}")
        self.scaling = (
            scaling if scaling is None else one_of("scaling", scaling, ("more", "marquardt"))
        )
        self.acceleration = nonnegative("acceleration", acceleration)
        self.offset = nonnegative("offset", offset)

    def _parameters(self) -> dict[str, Any]:
        names = ("damping", "scaling", "acceleration", "offset")
        return {name: getattr(self, name) for name in names}

    def _start(self, problem: Any, point: Any) -> LevenbergMarquardtState:
        require_composite(problem, "LevenbergMarquardt")
        cost = problem.cost(point)
        if not np.isfinite(cost):
            raise NonFiniteError(f"the cost at the initial point is {cost}: start elsewhere")
        lin = problem.manifold.at(point).lin
        empty = np.zeros(lin.model.num_parameters)
        state = LevenbergMarquardtState(0, point, cost, empty, np.inf)
        state = self._linearized(problem, state)
        assert state.scaling is not None
        size = float(np.linalg.norm(state.scaling * lin.w))
        return replace(state, damping=self.damping.start(size), near=self.offset)

    def _linearized(self, problem: Any, state: LevenbergMarquardtState) -> LevenbergMarquardtState:
        """State at its point with the gradient and the scaling there; raises NonFiniteError."""
        lin = problem.manifold.at(state.point).lin
        model = LinearModel(lin, problem.loss, np.ones(lin.model.num_parameters))
        scaling = self._scaling(model.matrix, state.scaling)
        gradient = lin.pull_covector(problem.loss.gradient(lin.psi))
        if not np.all(np.isfinite(gradient)):
            raise NonFiniteError("the gradient is not finite")
        norm = float(np.linalg.norm(gradient / scaling))
        return replace(state, gradient=gradient, gradient_norm=norm, scaling=scaling)

    def _scaling(self, matrix: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        if self.scaling is None:
            return np.ones(matrix.shape[1])
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(matrix, axis=0)
        if not np.all(np.isfinite(norms)):
            raise NonFiniteError("the Jacobian is not finite")
        if before is not None and self.scaling == "more":
            norms = np.maximum(norms, before)
        return np.where(norms > 0, norms, 1.0)

    def _step(self, problem: Any, state: State) -> LevenbergMarquardtState:
        assert isinstance(state, LevenbergMarquardtState)
        assert state.scaling is not None
        model = LinearModel(problem.manifold.at(state.point).lin, problem.loss, state.scaling)
        state = replace(state, iteration=state.iteration + 1, accelerated=False)
        if state.mode != "damped":
            return self._polish(problem, state, model)
        damping, factor, a = self.damping.solve(model, state.damping)
        state = replace(state, damping=damping)
        reduced = float(np.linalg.norm(model.matrix @ a))
        # |S J a| <= |P r|, so that most steps are seen to be far from the end without its factor
        if reduced <= self.offset * float(np.linalg.norm(model.residual)):
            polished = self._polish(problem, state, model)
            if polished.mode != "damped" or polished.end is not None:
                return polished
            state = polished
        length = float(np.linalg.norm(state.scaling * a))
        predicted = model.weight * (0.5 * reduced**2 + damping.value * length**2)
        hidden = predicted <= _UNSEEN * abs(state.cost)
        if self.damping.adaptive and hidden and state.accepted and damping.value > _LEAST:
            # a damping that is too strong hides a decrease: less of it
            return replace(state, damping=self.damping.accepted(damping, 1.0, length))
        step = self._bent(model, factor, a, length) if self.acceleration > 0 else a
        if step is None and not self.damping.adaptive:
            step = a
        if step is None:
            return self._refused(state, model, a, length, -np.inf)
        return self._try(problem, state, model, step, length, predicted)

    def _finish(
        self, state: LevenbergMarquardtState, model: LinearModel
    ) -> LevenbergMarquardtState:
        """The end, after one attempt at Newton steps, for which damping and cost are too coarse."""
        if state.finishing:
            return replace(state, end=reason(model))
        return replace(state, finishing=True, mode="newton", near=np.inf, shortest=np.inf)

    def _bent(
        self, model: LinearModel, factor: Any, a: np.ndarray, length: float
    ) -> np.ndarray | None:
        """Step a + ½b, a itself where b cannot be had, or None where the bend is too large."""
        try:
            with np.errstate(all="ignore"):
                b = model.acceleration(factor, a)
        except NonFiniteError:
            return None
        bend = float(np.linalg.norm(model.scaling * b))
        return a + 0.5 * b if 2 * bend <= self.acceleration * length else None

    def _try(
        self,
        problem: Any,
        state: LevenbergMarquardtState,
        model: LinearModel,
        step: np.ndarray,
        length: float,
        predicted: float,
    ) -> LevenbergMarquardtState:
        candidate, cost = _evaluate(problem, model.lin.w + step)
        ratio = (state.cost - cost) / predicted if np.isfinite(cost) and predicted > 0 else -np.inf
        if not np.isfinite(cost) or (self.damping.adaptive and not ratio > _ACCEPTED):
            return self._refused(state, model, step, length, ratio)
        moved = replace(
            state,
            point=candidate,
            cost=cost,
            step_size=length,
            ratio=float(ratio),
            accepted=True,
            accelerated=self.acceleration > 0,
            damping=self.damping.accepted(state.damping, float(ratio), length),
        )
        try:
            return self._linearized(problem, moved)
        except GnmanifoldError:  # no Jacobian there: as good as no value
            return self._refused(state, model, step, length, -np.inf)

    def _refused(
        self,
        state: LevenbergMarquardtState,
        model: LinearModel,
        step: np.ndarray,
        length: float,
        ratio: float,
    ) -> LevenbergMarquardtState:
        """The same point with more damping, or the end where steps no longer change it."""
        after = replace(state, accepted=False, ratio=float(ratio))
        perfect = float(np.linalg.norm(model.residual)) <= PERFECT * noise(model)
        if perfect or relative_change(model, step) <= EPS or not self.damping.adaptive:
            return self._finish(after, model)
        return replace(after, damping=self.damping.rejected(state.damping, length))

    def _polish(
        self, problem: Any, state: LevenbergMarquardtState, model: LinearModel
    ) -> LevenbergMarquardtState:
        """Undamped step near the solution; a damped state where it is far or nothing helps."""
        a = model.step(model.undamped)
        removable = float(np.linalg.norm(model.matrix @ a))
        size = float(np.linalg.norm(model.residual))
        state = replace(state, offset=removable / size if size > 0 else 0.0)
        angle = 0.0 if problem.loss.isotropic is not None else cosine(model)
        if removable <= noise(model) and angle <= BLIND:
            return replace(state, end=StopReason.ORTHOGONAL)
        damped = replace(state, mode="damped", shortest=np.inf)
        if state.offset > state.near or angle > self.offset:
            return damped
        moved = None
        if state.mode != "newton":
            moved = self._undamped(problem, state, model, a, "gauss_newton")
        if moved is None:  # a residual so large that Gauss-Newton goes astray
            step = newton_step(model)
            moved = None if step is None else self._undamped(problem, state, model, step, "newton")
        # where neither helps, the next attempt is made ten times nearer
        return replace(damped, near=0.1 * state.offset) if moved is None else moved

    def _undamped(
        self,
        problem: Any,
        state: LevenbergMarquardtState,
        model: LinearModel,
        step: np.ndarray,
        mode: str,
    ) -> LevenbergMarquardtState | None:
        """State after an undamped step, or None where the cost rises or the steps do not shrink."""
        candidate, cost = _evaluate(problem, model.lin.w + step)
        if not cost <= state.cost + _RISE * abs(state.cost):
            return None
        change, length = relative_change(model, step), float(np.linalg.norm(model.scaling * step))
        shrinks = mode != state.mode or length < _SHRINKING * state.shortest
        rounded = change <= _NEARLY or state.offset <= differenced(model)
        settled = change <= _SETTLED or (rounded and not shrinks)
        if not settled and not shrinks:
            return None
        moved = replace(
            state,
            point=candidate,
            cost=cost,
            step_size=length,
            ratio=np.nan,
            accepted=True,
            mode=mode,
            shortest=length if mode != state.mode else min(length, state.shortest),
            end=StopReason.SETTLED if settled else None,
        )
        try:
            return self._linearized(problem, moved)
        except GnmanifoldError:
            return None

    def _stop(self, state: State, clock: Any) -> StopReason | None:
        assert isinstance(state, LevenbergMarquardtState)
        return state.end or super()._stop(state, clock)


def _evaluate(problem: Any, w: np.ndarray) -> tuple[Any, float]:
    """Point for parameters and its cost, infinite where anything is not finite."""
    try:
        point = problem.manifold.trial(w)
        cost = float(problem.cost(point)) if np.all(np.isfinite(w)) else np.inf
    except ArithmeticError:  # of a function that does not work with arrays
        return None, np.inf
    return point, cost if np.isfinite(cost) else np.inf
