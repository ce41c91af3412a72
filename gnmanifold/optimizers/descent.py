"""Descent: a direction, a line search, a retraction, and what the methods carry along."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.errors import ArgumentError
from gnmanifold.linearization import Linearization
from gnmanifold.optimizers.base import Optimizer, State
from gnmanifold.optimizers.line_search import ConstantStep, LineSearch, UnitStep
from gnmanifold.problems import require_composite

_RETREATS = 8  # quarterings of a step that leads where there is no gradient
_FLAT = "the step is zero where the gradient is not: {}"


@dataclass(frozen=True, eq=False)
class DescentState(State):
    """A state with what the method remembers, and what it notes of its last step for the log."""

    memory: Any = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {**super().record(), **self.notes}


class Descent(Optimizer):
    """Steps R_x(α d) along a direction d, with α from a line search.

    A subclass writes `_direction`, and `_moved` where it learns from a step that was taken.
    Raises ArgumentError for what is no line search.
    """

    _notes: Mapping[str, Any] = MappingProxyType({})  # what is logged of the start

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

    def _start(self, problem: Any, point: Any) -> DescentState:
        state = DescentState(**vars(super()._start(problem, point)), notes=self._notes)
        return replace(state, memory=self._remembered(problem, state))

    def _remembered(self, problem: Any, state: DescentState) -> Any:
        """What the method remembers at the start."""
        return None

    @abstractmethod
    def _direction(self, problem: Any, state: DescentState) -> tuple[Any, DescentState]:
        """Tangent vector to search along, and the state with what was noted on the way."""

    def _moved(self, problem: Any, before: DescentState, after: DescentState) -> DescentState:
        """State at the new point, with its gradient, that remembers the step there."""
        return after

    def _step(self, problem: Any, state: State) -> DescentState:
        assert isinstance(state, DescentState)
        direction, noted = self._direction(problem, state)
        noted = replace(noted, iteration=state.iteration + 1)
        if noted.failure:
            return noted
        for _ in range(1 if isinstance(self.line_searcher, ConstantStep) else _RETREATS):
            after = self._searched(problem, noted, direction)
            if not after.failure or after.cost == 0:
                break
            direction = 0.25 * direction  # no tangent space there: not so far
        if after.failure and after.cost != 0:  # a perfect fit ends the run, any other stays
            return replace(noted, failure=after.failure)
        return after if after.failure or not after.step_size else self._moved(problem, state, after)

    def _searched(self, problem: Any, noted: DescentState, direction: Any) -> DescentState:
        """State where the line search leads, with its gradient or the reason why it has none."""
        manifold, last = problem.manifold, _LastCost(problem.cost)
        slope = float(manifold.inner_product(noted.point, noted.gradient, direction))
        step_size, point = self.line_searcher.search(
            last, manifold, noted.point, direction, noted.cost, slope
        )
        if not step_size:
            return replace(noted, step_size=step_size)
        return self._at(
            problem, replace(noted, point=point, cost=last.at(point), step_size=step_size)
        )


@dataclass
class _LastCost:
    """A cost that remembers where it was asked for last."""

    cost: Any
    point: Any = None
    value: float = np.nan

    def __call__(self, point: Any) -> float:
        self.point, self.value = point, self.cost(point)
        return self.value

    def at(self, point: Any) -> float:
        """Cost at a point, known where that is the last one."""
        return self.value if point is self.point else self.cost(point)


class ModelDescent(Descent):
    """Descent along a velocity of the parameters, made from the model and the loss.

    The velocity does not depend on the metric of the manifold, which gives the gradient norm and
    the retraction. Raises ArgumentError for problems that are no CompositeProblem.
    """

    _flat = "no curvature above rounding is left at these predictions; start closer to the data"

    def _start(self, problem: Any, point: Any) -> DescentState:
        require_composite(problem, type(self).__name__)
        return super()._start(problem, point)

    @abstractmethod
    def _velocity(
        self, problem: Any, lin: Linearization, state: DescentState
    ) -> tuple[Float[np.ndarray, " p"], DescentState]:
        """Velocity of the parameters, and the state with what was noted on the way."""

    def _direction(self, problem: Any, state: DescentState) -> tuple[Any, DescentState]:
        local = problem.manifold.at(state.point)
        velocity, noted = self._velocity(problem, local.lin, state)
        if not velocity.any():
            return velocity, replace(noted, failure=_FLAT.format(self._flat))
        return problem.manifold.tangent(local, velocity), noted


def covector(problem: Any, lin: Linearization) -> Float[np.ndarray, " p"]:
    """Derivative Jᵀ∇g of the cost by the parameters."""
    return lin.pull_covector(problem.loss.gradient(lin.psi))
