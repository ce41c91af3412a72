"""Hessian-free optimisation: damped Gauss-Newton steps by conjugate gradients on products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.damping import DampingRule
from gnmanifold.errors import NonFiniteError
from gnmanifold.linearization import Linearization
from gnmanifold.metrics.products import gauss_newton_product
from gnmanifold.optimizers.damped import DampedDescent, DampedState, Proposal
from gnmanifold.optimizers.descent import covector
from gnmanifold.optimizers.linear_model import EPS
from gnmanifold.validation import nonnegative, positive_int, unit_interval

_MAX_INNER = 250
_GAP = 10  # iterations over which the progress of the model is judged
_SPREAD = 1.3  # ratio of the iterations whose steps are kept for backtracking


@dataclass(frozen=True)
class Iterate:
    """A step x of conjugate gradients, its residual, and the model q(x) = ½xᵀBx - bᵀx."""

    number: int
    x: Float[np.ndarray, " p"]
    residual: Float[np.ndarray, " p"]
    value: float


class HessianFree(DampedDescent):
    """Hessian-free optimisation: conjugate gradients on (JᵀAJ + λI) a = -Jᵀ∇g with A = ∇²g.

    A product costs one `jvp` and one `vjp`; on a manifold with EuclideanMetric no n x p matrix is
    formed. The iteration starts from `decay` times the last step and stops after k steps that
    lowered the model by less than k · `relative_progress` of it, k = max(10, a tenth of all), after
    `max_inner`, or where the residual is rounding. With relative_progress=0 and backtracking=False
    it solves the system, and the step is a Levenberg-Marquardt step. `max_inner` is 250, or ten
    times the number of parameters with relative_progress=0. With `backtracking` the last of the
    kept iterates before the cost itself rises is taken. `damping` is a rule for λ, Nielsen() by
    default.
    Raises ArgumentError for another kind of problem or settings out of range.
    J. Martens, Deep learning via Hessian-free optimization, ICML 2010.
    """

    def __init__(
        self,
        damping: DampingRule | None = None,
        *,
        relative_progress: float = 5e-4,
        max_inner: int | None = None,
        decay: float = 0.95,
        backtracking: bool = True,
        **limits: Any,
    ) -> None:
        super().__init__(damping, **limits)
        self.relative_progress = nonnegative("relative_progress", relative_progress)
        self.max_inner = max_inner if max_inner is None else positive_int("max_inner", max_inner)
        self.decay = unit_interval("decay", decay)
        self.backtracking = bool(backtracking)

    def _parameters(self) -> dict[str, Any]:
        names = ("relative_progress", "max_inner", "decay", "backtracking")
        return {**super()._parameters(), **{name: getattr(self, name) for name in names}}

    def _start(self, problem: Any, point: Any) -> DampedState:
        state = super()._start(problem, point)
        start = np.zeros(problem.model.num_parameters)
        return replace(state, memory=start, notes={"inner": 0})

    def _propose(self, problem: Any, lin: Linearization, state: DampedState) -> Proposal:
        lam, b = state.damping.value, -covector(problem, lin)

        def product(a: np.ndarray) -> np.ndarray:
            return gauss_newton_product(lin, problem.loss, a) + lam * a

        kept = self._iterates(product, b, self.decay * state.memory)
        if not kept[-1].value < 0:  # the last step is a worse start than none
            kept = self._iterates(product, b, np.zeros_like(b))
        chosen, trial = kept[-1], None
        if self.backtracking:
            chosen, trial = self._backtracked(problem, state, kept)
        undamped = -chosen.value + 0.5 * lam * float(chosen.x @ chosen.x)
        last, notes = kept[-1].x, {"inner": kept[-1].number}
        return Proposal(chosen.x, undamped, memory=last, taken=last, notes=notes, trial=trial)

    def _iterates(
        self, product: Callable[[np.ndarray], np.ndarray], b: np.ndarray, start: np.ndarray
    ) -> list[Iterate]:
        """Iterates at geometrically growing numbers, and the last one."""
        values: list[float] = []
        kept: list[Iterate] = []
        following = 1.0
        floor = EPS * float(np.linalg.norm(b))
        iterate = Iterate(0, start, b, 0.0)
        for iterate in conjugate_gradients(product, b, start):
            values.append(iterate.value)
            if iterate.number >= following:
                kept.append(iterate)
                following *= _SPREAD
            solved = np.linalg.norm(iterate.residual) <= floor
            if solved or iterate.number >= self._limit(len(b)) or self._slow(values):
                break
        return kept if kept and kept[-1] is iterate else [*kept, iterate]

    def _limit(self, p: int) -> int:
        if self.max_inner is not None:
            return self.max_inner
        return 10 * p if self.relative_progress == 0 else _MAX_INNER

    def _slow(self, values: list[float]) -> bool:
        gap = max(_GAP, len(values) // 10)
        if self.relative_progress == 0 or len(values) <= gap or values[-1] >= 0:
            return False
        return values[-1 - gap] - values[-1] < -gap * self.relative_progress * values[-1]

    def _backtracked(
        self, problem: Any, state: DampedState, kept: list[Iterate]
    ) -> tuple[Iterate, tuple[Any, float]]:
        """The last kept iterate whose predecessor has no lower cost, and where it leads."""
        chosen, there = kept[-1], self._trial(problem, state, kept[-1])
        for iterate in reversed(kept[:-1]):
            if not iterate.value < 0:
                break
            lower = self._trial(problem, state, iterate)
            if np.isfinite(there[1]) and not lower[1] < there[1]:
                break
            chosen, there = iterate, lower
        return chosen, there

    def _trial(self, problem: Any, state: DampedState, iterate: Iterate) -> tuple[Any, float]:
        local = problem.manifold.at(state.point)
        return self._try(problem, state.point, problem.manifold.tangent(local, iterate.x))


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray], b: np.ndarray, x: np.ndarray
) -> Iterator[Iterate]:
    """Iterates of the method of conjugate gradients for B x = b, until a direction is flat.

    Nocedal and Wright, Numerical Optimization, algorithm 5.2.
    """
    r = b - product(x) if x.any() else b
    with np.errstate(over="ignore"):
        d, squares, number = r, float(r @ r), 0
    if not np.isfinite(squares):
        raise NonFiniteError("the gradient is too large to be squared: rescale the model")
    while True:
        yield Iterate(number, x, r, -0.5 * float((b + r) @ x))
        image = product(d)
        curvature = float(d @ image)
        if not curvature > 0:
            return
        x, r = x + squares / curvature * d, r - squares / curvature * image
        before, squares = squares, float(r @ r)
        d = r + squares / before * d
        number += 1
