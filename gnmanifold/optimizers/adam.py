"""Adam, as a baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.linearization import Linearization
from gnmanifold.optimizers.descent import DescentState, ModelDescent, covector
from gnmanifold.optimizers.line_search import ConstantStep
from gnmanifold.validation import below_one, positive


class Adam(ModelDescent):
    """Adam on the parameters: w <- R_w(-η m̂/(sqrt(v̂) + ε)), with running means m and v.

    m and v are exponential means, with shares `beta1` and `beta2` of the past, of Jᵀ∇g and of its
    squares by entries, m̂ and v̂ the same over 1 - β^k; η is `step`, ε `epsilon`. It does not
    depend on the metric of the manifold and changes with the coordinates of the parameters.
    Raises ArgumentError for another kind of problem or settings out of range.
    Kingma and Ba, arXiv 1412.6980.
    """

    _flat = "the squares of the gradient overflow; rescale the model"

    def __init__(
        self,
        step: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **limits: Any,
    ) -> None:
        super().__init__(ConstantStep(step), **limits)
        self.beta1, self.beta2 = below_one("beta1", beta1), below_one("beta2", beta2)
        self.epsilon = positive("epsilon", epsilon)

    def _parameters(self) -> dict[str, Any]:
        names = ("beta1", "beta2", "epsilon")
        return {**super()._parameters(), **{name: getattr(self, name) for name in names}}

    def _remembered(self, problem: Any, state: DescentState) -> tuple[np.ndarray, np.ndarray]:
        zero = np.zeros(problem.model.num_parameters)
        return zero, zero

    def _velocity(
        self, problem: Any, lin: Linearization, state: DescentState
    ) -> tuple[Float[np.ndarray, " p"], DescentState]:
        slope, (mean, square), k = covector(problem, lin), state.memory, state.iteration + 1
        mean = self.beta1 * mean + (1 - self.beta1) * slope
        with np.errstate(over="ignore"):
            square = self.beta2 * square + (1 - self.beta2) * slope**2
        corrected = np.sqrt(square / (1 - self.beta2**k)) + self.epsilon
        velocity = -(mean / (1 - self.beta1**k)) / corrected
        return velocity, replace(state, memory=(mean, square))
