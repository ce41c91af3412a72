"""Riemannian BFGS with limited or unlimited memory, on any pymanopt manifold with a transport."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from gnmanifold.optimizers.descent import Descent, DescentState
from gnmanifold.optimizers.line_search import BackTracking, LineSearch
from gnmanifold.validation import positive_int

_CURVED = 1e-10  # cosine of s and y from which a pair is trusted


@dataclass(frozen=True, eq=False)
class Pair:
    """A step s and the change y of the gradient along it, at the present point; ρ = 1/<s, y>."""

    s: Any
    y: Any
    rho: float


@dataclass(frozen=True, eq=False)
class QuasiNewtonMemory:
    """Pairs, oldest first, the initial inverse Hessian γ I, and the last direction searched."""

    pairs: tuple[Pair, ...] = ()
    gamma: float = 1.0
    direction: Any = None


class LBFGS(Descent):
    """Riemannian L-BFGS: d = -H grad h, H of the inverse updates by the last `memory` pairs.

    After a step s = α d the pairs (s, y), y = grad h(x₊) - T(grad h(x)), are carried along by the
    manifold's transport T; a pair whose <s, y> is not positive is left out, which keeps H positive
    definite after any line search. The initial H is <s, y>/<y, y> I of the last pair. In the
    Gauss-Newton metric the unit matrix is a good H already, so that it starts with a Gauss-Newton
    step. For any pymanopt problem; the default line search is BackTracking().
    Raises ArgumentError unless memory is a positive integer.
    Huang, Gallivan and Absil, SIAM J. Optim. 25 (2015); Nocedal and Wright, algorithm 7.4.
    """

    _notes = MappingProxyType({"pairs": 0})

    def __init__(
        self, line_searcher: LineSearch | None = None, *, memory: int = 10, **limits: Any
    ) -> None:
        super().__init__(BackTracking() if line_searcher is None else line_searcher, **limits)
        self.memory: int | None = positive_int("memory", memory)

    def _parameters(self) -> dict[str, Any]:
        return {**super()._parameters(), "memory": self.memory}

    def _remembered(self, problem: Any, state: DescentState) -> QuasiNewtonMemory:
        return QuasiNewtonMemory()

    def _direction(self, problem: Any, state: DescentState) -> tuple[Any, DescentState]:
        manifold, x, memory = problem.manifold, state.point, state.memory
        direction = _two_loops(manifold, x, memory, -state.gradient)
        if not manifold.inner_product(x, state.gradient, direction) < 0:  # rounding got the better
            memory, direction = QuasiNewtonMemory(), -state.gradient
        memory = replace(memory, direction=direction)
        return direction, replace(state, memory=memory, notes={"pairs": len(memory.pairs)})

    def _moved(self, problem: Any, before: DescentState, after: DescentState) -> DescentState:
        manifold, x, z, memory = problem.manifold, before.point, after.point, after.memory

        def carried(vector: Any) -> Any:
            return manifold.transport(x, z, vector)

        alpha = after.step_size / float(manifold.norm(x, memory.direction))
        s, y = carried(alpha * memory.direction), after.gradient - carried(before.gradient)
        product = float(manifold.inner_product(z, s, y))
        lengths = float(manifold.norm(z, s)), float(manifold.norm(z, y))
        pairs = tuple(replace(pair, s=carried(pair.s), y=carried(pair.y)) for pair in memory.pairs)
        gamma = memory.gamma
        if product > _CURVED * lengths[0] * lengths[1]:
            gamma = self._gamma(memory, product / lengths[1] ** 2)
            pairs = (*pairs, Pair(s, y, 1 / product))
        kept = pairs if self.memory is None else pairs[-self.memory :]
        return replace(after, memory=QuasiNewtonMemory(kept, gamma))

    def _gamma(self, memory: QuasiNewtonMemory, latest: float) -> float:
        return latest


class BFGS(LBFGS):
    """Riemannian BFGS: LBFGS that keeps all pairs and the initial H of the first of them.

    That is the matrix method with the transported inverse Hessian, without a matrix: a step costs
    one transport and two inner products for each pair kept.
    Huang, Gallivan and Absil, SIAM J. Optim. 25 (2015).
    """

    def __init__(self, line_searcher: LineSearch | None = None, **limits: Any) -> None:
        super().__init__(line_searcher, **limits)
        self.memory = None

    def _gamma(self, memory: QuasiNewtonMemory, latest: float) -> float:
        return memory.gamma if memory.pairs else latest


def _two_loops(manifold: Any, x: Any, memory: QuasiNewtonMemory, vector: Any) -> Any:
    """Product of the inverse Hessian approximation with a tangent vector."""
    weights = []
    for pair in reversed(memory.pairs):
        weight = pair.rho * float(manifold.inner_product(x, pair.s, vector))
        vector = vector - weight * pair.y
        weights.append(weight)
    vector = memory.gamma * vector
    for pair, weight in zip(memory.pairs, reversed(weights), strict=True):
        other = pair.rho * float(manifold.inner_product(x, pair.y, vector))
        vector = vector + (weight - other) * pair.s
    return vector
