"""Hessian-free optimisation: damped Gauss-Newton steps by conjugate gradients on products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.damping import DampingRule
from gnmanifold.linearization import Linearization
from gnmanifold.metrics.products import gauss_newton_product
from gnmanifold.optimizers.damped import DampedDescent, DampedState, Proposal
from gnmanifold.optimizers.descent import covector
from gnmanifold.optimizers.linear_model import EPS
from gnmanifold.validation import nonnegative, positive_int, unit_interval

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
    lowered the model by less than k · `relative_progress` of it, k = max(10, a tenth of all), at
    `max_inner`, or where the residual is rounding; with relative_progress=0 it solves the system
    exactly and the step is a Levenberg-Marquardt step. With `backtracking` the last of the kept
    iterates before the cost itself rises is taken. `damping` is a rule for λ, Nielsen() by default.
    Raises ArgumentError for another kind of problem or settings out of range.
    J. Martens, Deep learning via Hessian-free optimization, ICML 2010.
    """

    def __init__(
        self,
        damping: DampingRule | None = None,
        *,
        relative_progress: float = 5e-4,
        max_inner: int = 250,
        decay: float = 0.95,
        backtracking: bool = True,
        **limits: Any,
    ) -> None:
        super().__init__(damping, **limits)
        self.relative_progress = nonnegative("relative_progress", relative_progress)
        self.max_inner = positive_int("max_inner", max_inner)
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
        chosen = self._backtracked(problem, state, kept) if self.backtracking else kept[-1]
        undamped = -chosen.value + 0.5 * lam * float(chosen.x @ chosen.x)
        last = kept[-1].x
        return Proposal(
            chosen.x, undamped, memory=last, taken=last, notes={"inner": kept[-1].number}
        )

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
            if solved or iterate.number >= self.max_inner or self._slow(values):
                break
        return kept if kept and kept[-1] is iterate else [*kept, iterate]

    def _slow(self, values: list[float]) -> bool:
        gap = max(_GAP, len(values) // 10)
        if self.relative_progress == 0 or len(values) <= gap or values[-1] >= 0:
            return False
        return values[-1 - gap] - values[-1] < -gap * self.relative_progress * values[-1]

    def _backtracked(self, problem: Any, state: DampedState, kept: list[Iterate]) -> Iterate:
        """The last kept iterate whose predecessor has no lower cost."""
        chosen, cost = kept[-1], self._cost(problem, state, kept[-1])
        for iterate in reversed(kept[:-1]):
            lower = self._cost(problem, state, iterate)
            if np.isfinite(cost) and not lower < cost:
                break
            chosen, cost = iterate, lower
        return chosen

    def _cost(self, problem: Any, state: DampedState, iterate: Iterate) -> float:
        local = problem.manifold.at(state.point)
        return self._try(problem, state.point, problem.manifold.tangent(local, iterate.x))[1]


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray], b: np.ndarray, x: np.ndarray
) -> Iterator[Iterate]:
    """Iterates of the method of conjugate gradients for B x = b, until a direction is flat.

    Nocedal and Wright, Numerical Optimization, algorithm 5.2.
    """
    r = b - product(x) if x.any() else b
    d, squares, number = r, float(r @ r), 0
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
