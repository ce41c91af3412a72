"""Certificates: which theorem holds at a start, with all of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.errors import ArgumentError
from gnmanifold.flows import Trajectory
from gnmanifold.theory.constants import Constant
from gnmanifold.theory.hypotheses import HOLDS, Hypothesis, hypothesis_table, plain, table
from gnmanifold.theory.rates import exponential_envelope, geometric_envelope

_ROUNDING = 1e-6  # relative error of an integrator that is no violation
_RESOLUTION = 1e-12  # of the costs


@dataclass(frozen=True, eq=False)
class Certificate:
    """A theorem with its hypotheses checked at a start; true if all of them hold.

    `threshold` is what `alpha` has to reach, `paper_threshold` the paper's own, None where it has
    none. What would follow: the gap, the cost above `infimum`, stays below `gap` e^-`rate` t, in
    discrete time below `gap` times `contraction` to the power k after k steps of `step`; |w - w0|
    stays below `radius`, within `path_bound`; λ_min(Df Dfᵀ), of DfᵀDf for p <= n, above
    `eigenvalue_floor`; and what `further` says. `infimum` is None where only the lowest cost seen
    can serve. `inputs` tell where numbers come from. With an estimated L it is not true: see
    `conditional`.
    """

    theorem: str
    hypotheses: tuple[Hypothesis, ...]
    inputs: Mapping[str, Constant]
    alpha: float
    threshold: float
    paper_threshold: float | None
    gap: float
    rate: float
    radius: float
    path_bound: float
    eigenvalue_floor: float
    infimum: float | None
    step: float | None = None
    contraction: float | None = None
    further: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(bool(h) for h in self.hypotheses)

    @property
    def conditional(self) -> bool:
        """Whether every hypothesis holds if L is at most `lipschitz_limit`, L being an estimate."""
        return not bool(self) and not self.failures

    @property
    def failures(self) -> tuple[Hypothesis, ...]:
        """Hypotheses that fail."""
        return tuple(h for h in self.hypotheses if not h.satisfied)

    @property
    def lipschitz_limit(self) -> float | None:
        """Largest L for which all hypotheses hold, None unless it was estimated."""
        limits = [h.lipschitz_limit for h in self.hypotheses if h.lipschitz_limit is not None]
        return min(limits, default=None)

    @property
    def discrete(self) -> bool:
        """Whether it is about steps and not about a flow."""
        return self.step is not None

    @property
    def verdict(self) -> str:
        """Either "holds", or "holds if L <= ...", or which hypotheses fail."""
        if self.failures:
            return "fails: " + "; ".join(h.name for h in self.failures)
        return HOLDS if self else f"holds if L <= {self.lipschitz_limit:.4g}"

    @property
    def conclusions(self) -> tuple[str, ...]:
        """What follows, nothing if a hypothesis fails; under the condition of the verdict."""
        if self.failures:
            return ()
        gap = "cost - its infimum on the surface"
        if self.infimum is not None:
            gap = f"cost - {self.infimum:.6g}" if self.infimum else "cost"
        decay = f"e^(-{self.rate:.4g} t)"
        if self.step is not None:
            decay = f"{self.contraction:.6g}^k after k steps of {self.step:.4g}"
        path = f"|w - w0| <= {self.path_bound:.4g}, inside of the radius {self.radius:.4g}"
        return f"{gap} <= {self.gap:.4g} {decay}", path, *self.further

    def envelope(self, t: ArrayLike) -> Float[np.ndarray, "*T"]:
        """Bound of the gap at times t, or after t steps in discrete time.

        It is what the theorem claims: a bound only where the hypotheses hold.
        """
        if self.contraction is not None:
            return geometric_envelope(self.gap, self.contraction)(t)
        return exponential_envelope(self.gap, self.rate)(t)

    def clock(self, trajectory: Trajectory) -> Float[np.ndarray, " T"]:
        """Times of a trajectory, or numbers of steps in discrete time.

        Raises ArgumentError in discrete time unless it was made by Euler's method.
        """
        if self.step is None:
            return trajectory.times
        if trajectory.method != "euler":
            raise ArgumentError(
                f"the certificate is for steps of {self.step:.6g}, the trajectory was made by "
                f'{trajectory.method!r}: integrate with method="euler", step=certificate.step'
            )
        return trajectory.times / self.step

    def gaps(self, trajectory: Trajectory) -> Float[np.ndarray, " T"]:
        """Costs of a trajectory above the infimum, or above the lowest of them if that is None."""
        lowest = float(np.min(trajectory.costs)) if self.infimum is None else self.infimum
        return trajectory.costs - lowest

    def monitor(self, trajectory: Trajectory) -> tuple[Hypothesis, ...]:
        """Compare a measured trajectory with what the theorem promises.

        λ_min where it was recorded, the distance from the start, and the gap relative to the
        envelope, up to 1e-6 of it and 1e-12 of the largest cost, which integrators do not resolve.
        """
        envelope, gaps = self.envelope(self.clock(trajectory)), self.gaps(trajectory)
        noise = _RESOLUTION * np.max(np.abs(trajectory.costs))
        excess = float(np.max(gaps / (envelope + noise)))
        smallest = trajectory.smallest_eigenvalues
        rows = []
        if np.any(np.isfinite(smallest)):
            lowest = float(np.nanmin(smallest))
            rows.append(Hypothesis("λ_min along the path", ">=", self.eigenvalue_floor, lowest))
        farthest = float(np.max(trajectory.distances))
        rows.append(Hypothesis("|w - w0| along the path", "<=", self.radius, farthest))
        rows.append(Hypothesis("gap over envelope", "<=", 1 + _ROUNDING, excess))
        return tuple(rows)

    def plot(self, trajectory: Trajectory, axes: Any = None) -> Any:
        """Draw the envelope over the measured gap of a trajectory, on log axes."""
        from gnmanifold.plotting import plot_envelope

        return plot_envelope(self, trajectory, axes)

    def __str__(self) -> str:
        parts = [f"{self.theorem}: {self.verdict}", hypothesis_table(self.hypotheses)]
        rows = [["input", "value", "source", ""]]
        rows += [[name, f"{c.value:.6g}", c.source, c.origin] for name, c in self.inputs.items()]
        parts += [table(rows), self._thresholds()]
        if self.conclusions:
            head = "It follows:"
            if self.conditional:  # the numbers are those of the estimate
                head = f"If L <= {self.inputs['L'].value:.4g}, as estimated:"
            parts.append("\n".join([head, *(f"- {line}" for line in self.conclusions)]))
        parts += [f"Note: {note}." for note in self.notes]
        return "\n\n".join(parts)

    def _thresholds(self) -> str:
        own = f"α = {self.alpha:.6g}, threshold {self.threshold:.6g}"
        if self.paper_threshold is None:
            return own
        return f"{own}, the paper's {self.paper_threshold:.6g}"

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON's types; numbers that are not finite are None."""
        names: tuple[str, ...] = (
            "theorem",
            "verdict",
            "alpha",
            "threshold",
            "paper_threshold",
            "gap",
            "rate",
        )
        names += ("radius", "path_bound", "eigenvalue_floor", "infimum", "step", "contraction")
        names += ("lipschitz_limit",)
        return {
            **{name: plain(getattr(self, name)) for name in names},
            "holds": bool(self),
            "hypotheses": [h.to_dict() for h in self.hypotheses],
            "inputs": {
                name: {"value": plain(c.value), "source": c.source, "origin": c.origin}
                for name, c in self.inputs.items()
            },
            "conclusions": list(self.conclusions),
            "notes": list(self.notes),
        }
