"""What a flow has passed: records, and the parameters at any time between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from gnmanifold.errors import ArgumentError
from gnmanifold.linearization import Evaluations
from gnmanifold.validation import as_vector, positive

FINISHED = "Finished: t_final reached."


@dataclass(frozen=True, eq=False)
class Piece:
    """A step of an integrator, with the displacement from the start in between."""

    begin: float
    end: float
    start: np.ndarray
    moved: Callable[[float], Any]

    def value(self, t: float) -> Any:
        """Parameters at time t."""
        return self.start + self.moved(t)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A flow at T recorded times, in one row each.

    `parameters` (T, p), `outputs` ψ (T, n), `costs` g(ψ), `distances` |w - w(0)|, `gradient_norms`
    of the Riemannian gradient, `smallest_eigenvalues` λ_min of DfᵀDf, or of Df Dfᵀ for p > n, with
    Df = J/α (NaN where they were not asked for), and `damping` ρ (NaN without a schedule).
    `stability_limit` is what Euler's step has to stay below, at the start; `end` says why the flow
    ends, `evaluations` what it took.
    """

    times: Float[np.ndarray, " T"]
    parameters: Float[np.ndarray, "T p"]
    outputs: Float[np.ndarray, "T n"]
    costs: Float[np.ndarray, " T"]
    distances: Float[np.ndarray, " T"]
    gradient_norms: Float[np.ndarray, " T"]
    smallest_eigenvalues: Float[np.ndarray, " T"]
    damping: Float[np.ndarray, " T"]
    method: str
    stability_limit: float
    end: str
    evaluations: Evaluations
    pieces: Sequence[Piece] = field(default=(), repr=False)

    @property
    def finished(self) -> bool:
        """Whether the flow was followed to its last time."""
        return self.end == FINISHED

    def at(self, t: float) -> Float[np.ndarray, " p"]:
        """Parameters w(t), by the integrator's interpolation, or linear between records.

        Euler's method is linear in between. Raises ArgumentError outside of the recorded times.
        """
        last = float(self.times[-1])
        if not 0 <= t <= last:
            raise ArgumentError(f"the flow was followed from t = 0 to {last:.6g}, got t = {t!r}")
        for begin, end, value in self._segments():
            if begin <= t <= end:
                return value(t)
        return self.parameters[-1].copy()

    def exit_time(self, radius: float, center: ArrayLike | None = None) -> float:
        """First time with |w(t) - center| >= radius, infinity where that is not reached.

        `center` is w(0) without it. Excursions between two steps of a Runge-Kutta method, or two
        records of Euler's, are not seen.
        Raises ArgumentError unless radius > 0.
        """
        positive("radius", radius)
        size = self.parameters.shape[1]
        middle = self.parameters[0] if center is None else as_vector("center", center, size)
        if np.linalg.norm(self.parameters[0] - middle) >= radius:
            return 0.0
        for begin, end, value in self._segments():
            if np.linalg.norm(value(end) - middle) >= radius:
                return _crossing(value, begin, end, middle, radius)
        return np.inf

    def _segments(self) -> Iterator[tuple[float, float, Callable[[float], np.ndarray]]]:
        if self.pieces:
            yield from ((piece.begin, piece.end, piece.value) for piece in self.pieces)
            return
        for i, (begin, end) in enumerate(pairwise(self.times)):
            yield float(begin), float(end), self._line(i, float(begin), float(end))

    def _line(self, i: int, begin: float, end: float) -> Callable[[float], np.ndarray]:
        first, last = self.parameters[i], self.parameters[i + 1]
        return lambda t: first + (t - begin) / (end - begin) * (last - first)

    def __repr__(self) -> str:
        return (
            f"Trajectory({self.method!r}, {len(self.times)} records to t = {self.times[-1]:.6g}, "
            f"cost {self.costs[0]:.6g} to {self.costs[-1]:.6g}, end={self.end!r})"
        )


def _crossing(
    value: Callable[[float], Any], begin: float, end: float, middle: np.ndarray, radius: float
) -> float:
    def excess(t: float) -> float:
        return float(np.linalg.norm(value(t) - middle)) - radius

    # a crossing within rounding of the beginning belongs to the step before
    return begin if excess(begin) >= 0 else float(brentq(excess, begin, end))
