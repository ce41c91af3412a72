"""K-FAC: natural gradient steps of a network with a Kronecker-factored Fisher metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.damping import DampingRule
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import KroneckerFactoredMetric
from gnmanifold.metrics.kronecker import SPLITS, KroneckerBlock, KroneckerTensor, kronecker_blocks
from gnmanifold.optimizers.damped import DampedDescent, DampedState, Proposal
from gnmanifold.optimizers.descent import covector
from gnmanifold.validation import one_of, unit_interval


@dataclass(frozen=True, eq=False)
class KFACMemory:
    """Averaged blocks, whether this point's are in them, how many were averaged, the last step."""

    blocks: Sequence[KroneckerBlock] = ()
    current: bool = False
    count: int = 0
    step: Float[np.ndarray, " p"] | None = None


class KFAC(DampedDescent):
    """K-FAC: steps along (F_K + λI)⁻¹Jᵀ∇g, F_K the Kronecker-factored Fisher metric of a network.

    The factors are those of KroneckerFactoredMetric, exact at each point, or with `averaging` in
    (0, 1] exponential averages along the run, of which the k-th keeps min(1 - 1/k, averaging) of
    the past; `split` is how λ is shared between them. With `rescaling` the step is the combination
    of that direction and, with `momentum`, the last step that minimises the quadratic model with
    the exact Fisher matrix and λ, at the price of one `jvp` each; without, it is taken as it is.
    Neither n x p nor p x p matrices are formed on a manifold with EuclideanMetric. `damping` is a
    rule for λ, Nielsen() by default.
    Raises ArgumentError for models that are no networks, other problems and settings out of range.
    J. Martens and R. Grosse, arXiv 1503.05671.
    """

    def __init__(
        self,
        damping: DampingRule | None = None,
        *,
        averaging: float = 0.0,
        split: str = "factored",
        rescaling: bool = True,
        momentum: bool = True,
        **limits: Any,
    ) -> None:
        super().__init__(damping, **limits)
        self.averaging = unit_interval("averaging", averaging)
        self.split = one_of("split", split, SPLITS)
        self.rescaling, self.momentum = bool(rescaling), bool(momentum)

    def _parameters(self) -> dict[str, Any]:
        names = ("averaging", "split", "rescaling", "momentum")
        return {**super()._parameters(), **{name: getattr(self, name) for name in names}}

    def _start(self, problem: Any, point: Any) -> DampedState:
        state = super()._start(problem, point)
        KroneckerFactoredMetric(problem.loss).check(problem.model)
        return DampedState(**{**vars(state), "memory": KFACMemory()})

    def _propose(self, problem: Any, lin: Linearization, state: DampedState) -> Proposal:
        curvature = problem.loss.information
        memory = self._updated(state.memory, lin, curvature)
        lam, slope = state.damping.value, covector(problem, lin)
        tensor = KroneckerTensor(lin, memory.blocks, lam, self.split)
        directions = [-tensor.raise_index(slope)]
        if self.rescaling and self.momentum and memory.step is not None:
            directions.append(memory.step)
        step, predicted = _combined(lin, curvature, slope, lam, directions, self.rescaling)
        taken = KFACMemory(memory.blocks, False, memory.count, step)
        return Proposal(step, predicted, memory=memory, taken=taken)

    def _updated(self, memory: KFACMemory, lin: Linearization, curvature: Loss) -> KFACMemory:
        """Memory whose blocks hold those of this point."""
        if memory.current:
            return memory
        blocks, count = kronecker_blocks(lin, curvature), memory.count + 1
        share = min(1 - 1 / count, self.averaging)
        if share > 0:
            pairs = zip(blocks, memory.blocks, strict=True)
            blocks = [new.mixed(old, share) for new, old in pairs]
        return KFACMemory(blocks, True, count, memory.step)


def _combined(
    lin: Linearization,
    curvature: Loss,
    slope: np.ndarray,
    lam: float,
    directions: list[np.ndarray],
    rescaling: bool,
) -> tuple[Float[np.ndarray, " p"], float]:
    """Best combination of the directions in the exact damped model, and the decrease it predicts.

    Without `rescaling` it is their sum.
    """
    images = [curvature.hessian_root(lin.psi, lin.push(a)) for a in directions]
    D, U = np.column_stack(directions), np.column_stack(images)
    fisher = U.T @ U
    coefficients = np.ones(len(directions))
    if rescaling:
        damped = fisher + lam * D.T @ D
        scale = np.sqrt(np.maximum(np.diag(damped), np.finfo(float).tiny))
        system = damped / np.outer(scale, scale)
        coefficients = -np.linalg.lstsq(system, D.T @ slope / scale, rcond=1e-12)[0] / scale
    step = D @ coefficients
    return step, -float(slope @ step) - 0.5 * float(coefficients @ fisher @ coefficients)
