"""Riemannian gradient descent with momentum, and with sharpness-aware gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gnmanifold.optimizers.descent import Descent, DescentState
from gnmanifold.optimizers.line_search import BackTracking, ConstantStep, LineSearch
from gnmanifold.validation import below_one, positive


class GradientDescent(Descent):
    """Riemannian gradient descent with momentum: d = -grad h + β T(d), x <- R_x(α d).

    T is the manifold's transport, β = `momentum` in [0, 1). In the metric of the manifold it is
    Gauss-Newton on f(B), Levenberg-Marquardt in the metric of that name, plain gradient descent in
    the Euclidean one. With a line search that asks for a decrease, the default BackTracking(), a
    direction that does not descend forgets its momentum.
    Raises ArgumentError for a momentum out of range.
    B. T. Polyak, USSR Comput. Math. 4 (1964).
    """

    def __init__(
        self, line_searcher: LineSearch | None = None, *, momentum: float = 0.0, **limits: Any
    ) -> None:
        super().__init__(BackTracking() if line_searcher is None else line_searcher, **limits)
        self.momentum = below_one("momentum", momentum)

    def _parameters(self) -> dict[str, Any]:
        return {**super()._parameters(), "momentum": self.momentum}

    def _direction(self, problem: Any, state: DescentState) -> tuple[Any, DescentState]:
        direction = -state.gradient
        if state.memory is not None:
            moving = direction + self.momentum * state.memory
            slope = problem.manifold.inner_product(state.point, state.gradient, moving)
            if slope < 0 or isinstance(self.line_searcher, ConstantStep):
                direction = moving
        return direction, replace(state, memory=direction)

    def _moved(self, problem: Any, before: DescentState, after: DescentState) -> DescentState:
        if self.momentum == 0:
            return replace(after, memory=None)
        carried = problem.manifold.transport(before.point, after.point, after.memory)
        return replace(after, memory=carried)


class SharpnessAware(Descent):
    """Sharpness-aware minimisation: d = -T(grad h(x̃)), x̃ = R_x(r grad h/|grad h|), r = `radius`.

    The gradient is taken where the cost has risen most within r, in the metric of the manifold, and
    brought back by its transport T. Each step takes two gradients. Near a minimum the direction
    need not descend: the run then ends with the line search, or takes ConstantStep(step).
    Raises ArgumentError unless radius > 0.
    Foret et al., arXiv 2010.01412.
    """

    def __init__(
        self, line_searcher: LineSearch | None = None, *, radius: float = 0.05, **limits: Any
    ) -> None:
        super().__init__(BackTracking() if line_searcher is None else line_searcher, **limits)
        self.radius = positive("radius", radius)

    def _parameters(self) -> dict[str, Any]:
        return {**super()._parameters(), "radius": self.radius}

    def _direction(self, problem: Any, state: DescentState) -> tuple[Any, DescentState]:
        manifold, x = problem.manifold, state.point
        above = manifold.retraction(x, (self.radius / state.gradient_norm) * state.gradient)
        return -manifold.transport(above, x, problem.riemannian_gradient(above)), state
