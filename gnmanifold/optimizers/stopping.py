"""Stopping criteria beside the limits of every optimizer, to be combined with | and &."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gnmanifold.errors import ArgumentError
from gnmanifold.validation import finite, fraction, nonnegative, positive_int


@dataclass(frozen=True)
class Record:
    """What the criteria know of a past iteration: cost and norm of the gradient."""

    cost: float
    gradient_norm: float


class Criterion(ABC):
    """A rule that ends a run, such as `CostBelow(1e-8) | Stagnation(1e-6)`."""

    @abstractmethod
    def met(self, state: Any, history: Sequence[Record]) -> str:
        """Why the run ends at this state, whose record is the last of the history; "" to go on."""

    def __or__(self, other: Criterion) -> Criterion:
        return AnyOf((self, _criterion(other)))

    def __and__(self, other: Criterion) -> Criterion:
        return AllOf((self, _criterion(other)))


@dataclass(frozen=True)
class AnyOf(Criterion):
    """Ends the run where one of the criteria does."""

    criteria: tuple[Criterion, ...]

    def met(self, state: Any, history: Sequence[Record]) -> str:
        return next(filter(None, (each.met(state, history) for each in self.criteria)), "")


@dataclass(frozen=True)
class AllOf(Criterion):
    """Ends the run where all of the criteria do."""

    criteria: tuple[Criterion, ...]

    def met(self, state: Any, history: Sequence[Record]) -> str:
        reasons = [each.met(state, history) for each in self.criteria]
        return " and ".join(reasons) if all(reasons) else ""


@dataclass(frozen=True)
class CostBelow(Criterion):
    """Ends the run where the cost is at most `value`."""

    value: float

    def __post_init__(self) -> None:
        finite("value", self.value)

    def met(self, state: Any, history: Sequence[Record]) -> str:
        return f"the cost is at most {self.value:g}" if state.cost <= self.value else ""


@dataclass(frozen=True)
class GradientReduced(Criterion):
    """Ends the run where the norm of the gradient is `factor` times that at the start, or less."""

    factor: float = 1e-6

    def __post_init__(self) -> None:
        fraction("factor", self.factor)

    def met(self, state: Any, history: Sequence[Record]) -> str:
        reduced = state.gradient_norm <= self.factor * history[0].gradient_norm
        return f"the gradient norm is {self.factor:g} of the start's or less" if reduced else ""


@dataclass(frozen=True)
class Stagnation(Criterion):
    """Ends the run where some iterations together lowered the cost by `tolerance` |cost| or less.

    Refused steps count as iterations: for trust regions and damped methods take more of them.
    """

    tolerance: float = 1e-8
    iterations: int = 10

    def __post_init__(self) -> None:
        nonnegative("tolerance", self.tolerance)
        positive_int("iterations", self.iterations)

    def met(self, state: Any, history: Sequence[Record]) -> str:
        if len(history) <= self.iterations:
            return ""
        before = min(record.cost for record in history[: -self.iterations])
        now = min(record.cost for record in history[-self.iterations :])
        if before - now > self.tolerance * abs(before):
            return ""
        return f"{self.iterations} iterations lowered the cost by {self.tolerance:g} of it or less"


@dataclass(frozen=True)
class When(Criterion):
    """Ends the run where a function of the state is true, and says `sentence`."""

    condition: Callable[[Any], bool]
    sentence: str

    def met(self, state: Any, history: Sequence[Record]) -> str:
        return self.sentence if self.condition(state) else ""


def _criterion(value: Any) -> Criterion:
    if not isinstance(value, Criterion):
        raise ArgumentError(f"expected a stopping criterion such as CostBelow(1e-8), got {value!r}")
    return value
