"""Damped steps that a rule for λ accepts or refuses, for methods without a factorization."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.damping import UNDAMPED, Damping, DampingRule, Nielsen, TrustRadius
from gnmanifold.errors import ArgumentError, GnmanifoldError
from gnmanifold.linearization import Linearization
from gnmanifold.metrics.products import gauss_newton_product
from gnmanifold.optimizers.base import Optimizer, State, StopReason
from gnmanifold.optimizers.descent import covector
from gnmanifold.optimizers.line_search import finite_point
from gnmanifold.optimizers.linear_model import EPS
from gnmanifold.problems import require_composite

_ACCEPTED = 1e-4  # gain ratio above which a step is taken
_HIDDEN = 10.0  # rounding errors of the cost below which no decrease is to be seen


@dataclass(frozen=True, eq=False)
class DampedState(State):
    """A state with the damping, how the last step went, and what the method remembers."""

    damping: Damping = UNDAMPED
    ratio: float = np.nan
    accepted: bool = True
    memory: Any = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    end: StopReason | None = None

    def record(self) -> dict[str, Any]:
        own = {"damping": self.damping.value, "ratio": self.ratio, "accepted": self.accepted}
        return {**super().record(), **own, **self.notes}


@dataclass(frozen=True, eq=False)
class Proposal:
    """A step of the parameters, the decrease of the cost that its model predicts, and the rest.

    `memory` is what the method remembers if the step is refused, `taken` if it is accepted.
    """

    velocity: Float[np.ndarray, " p"]
    predicted: float
    memory: Any = None
    taken: Any = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    trial: tuple[Any, float] | None = None  # where the step leads and the cost there, if known


class DampedDescent(Optimizer):
    """Steps proposed with a damping λ, taken where the cost falls enough of what was predicted.

    `damping` is a rule of gnmanifold.damping that needs no factorization: ConstantLambda, which
    takes every finite step, Nielsen, Marquardt or DelayedGratification. λ is in units of the
    curvature of the cost by the parameters. A subclass writes `_propose`.
    Raises ArgumentError for another kind of rule or problem.
    """

    def __init__(self, damping: DampingRule | None = None, **limits: Any) -> None:
        super().__init__(**limits)
        self.damping = Nielsen() if damping is None else damping
        if not isinstance(self.damping, DampingRule) or isinstance(self.damping, TrustRadius):
            raise ArgumentError(
                f"damping must be a rule such as Nielsen() or ConstantLambda(1.0), other than "
                f"TrustRadius, which needs factorizations; got {damping!r}"
            )

    def _parameters(self) -> dict[str, Any]:
        return {"damping": self.damping}

    @abstractmethod
    def _propose(self, problem: Any, lin: Linearization, state: DampedState) -> Proposal:
        """Step from a state."""

    def _start(self, problem: Any, point: Any) -> DampedState:
        require_composite(problem, type(self).__name__)
        state = super()._start(problem, point)
        size = float(np.linalg.norm(problem.manifold.at(point).lin.w))
        return DampedState(**vars(state), damping=self.damping.start(size))

    def _step(self, problem: Any, state: State) -> DampedState:
        assert isinstance(state, DampedState)
        local = problem.manifold.at(state.point)
        proposal = self._propose(problem, local.lin, state)
        tangent = problem.manifold.tangent(local, proposal.velocity)
        length = float(np.linalg.norm(proposal.velocity))
        state = replace(state, iteration=state.iteration + 1, notes=proposal.notes)
        candidate, cost = proposal.trial or self._try(problem, state.point, tangent)
        ratio = (state.cost - cost) / proposal.predicted if proposal.predicted > 0 else -np.inf
        if np.isfinite(cost) and (ratio > _ACCEPTED or not self.damping.adaptive):
            moved = replace(
                state,
                point=candidate,
                cost=cost,
                step_size=length,
                ratio=float(ratio),
                accepted=True,
                memory=proposal.taken,
                damping=self.damping.accepted(state.damping, float(ratio), length),
            )
            there = self._at(problem, moved)
            if not there.failure or cost == 0 or not self.damping.adaptive:
                return there
        return self._refused(problem, state, local.lin, proposal, float(ratio))

    def _refused(
        self,
        problem: Any,
        state: DampedState,
        lin: Linearization,
        proposal: Proposal,
        ratio: float,
    ) -> DampedState:
        """The same point with more damping, or the end where a step cannot help."""
        step, after = (
            np.abs(proposal.velocity),
            replace(state, accepted=False, ratio=ratio, memory=proposal.memory),
        )
        if not self.damping.adaptive:
            return replace(after, end=StopReason.OVERFLOW)
        hidden = 0 <= proposal.predicted <= EPS * abs(state.cost)
        if hidden or np.all(step <= EPS * np.abs(lin.w)):
            rounding = _cauchy_decrease(problem, lin) <= _HIDDEN * _noise(problem, lin)
            return replace(after, end=StopReason.ROUNDING if rounding else StopReason.REFUSED)
        length = float(np.linalg.norm(proposal.velocity))
        return replace(after, damping=self.damping.rejected(state.damping, length))

    def _try(self, problem: Any, point: Any, tangent: Any) -> tuple[Any, float]:
        """Candidate and its cost, an infinite one where the retraction does not reach."""
        try:
            candidate = problem.manifold.retraction(point, tangent)
        except GnmanifoldError:
            return point, np.inf
        return candidate, float(problem.cost(candidate)) if finite_point(candidate) else np.inf

    def _stop(self, state: State, clock: Any) -> StopReason | None:
        assert isinstance(state, DampedState)
        return state.end or super()._stop(state, clock)


def _cauchy_decrease(problem: Any, lin: Linearization) -> float:
    """Decrease of the cost that a step along the gradient promises in the Gauss-Newton model."""
    slope = covector(problem, lin)
    size = float(np.linalg.norm(slope))
    if size == 0:
        return 0.0
    unit = slope / size
    curvature = float(unit @ gauss_newton_product(lin, problem.loss, unit))
    return 0.5 * size * (size / curvature) if curvature > 0 else np.inf


def _noise(problem: Any, lin: Linearization) -> float:
    """Rounding error of the cost, from its own size and that of the predictions."""
    z = problem.loss.gradient(lin.psi)
    moved = float(np.linalg.norm(z) * np.linalg.norm(lin.psi))
    return EPS * (abs(float(problem.loss.value(lin.psi))) + moved)
