"""Sloppiness: stiff and sloppy directions of a model, and the boundaries of its surface.

M. K. Transtrum, B. B. Machta and J. P. Sethna, Phys. Rev. Lett. 104, 060201 (2010) and Phys. Rev. E
83, 036701 (2011); M. K. Transtrum and P. Qiu, Phys. Rev. Lett. 113, 098701 (2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gnmanifold.diagnostics.nonlinearity import parameter_names
from gnmanifold.errors import ArgumentError, GeodesicError, NonFiniteError, RankDeficientError
from gnmanifold.geometry.geodesics import integrate, neighbour
from gnmanifold.linearization import Linearization
from gnmanifold.manifolds import ParameterManifold
from gnmanifold.metrics.induced import induced
from gnmanifold.models import Model
from gnmanifold.models.base import as_model
from gnmanifold.validation import as_vector, one_of, positive, positive_int

_OFF = (GeodesicError, NonFiniteError, RankDeficientError)
_FOLDING = 0.4  # ratio of ways between equal growths that tells a fold
_DIVERGED = 50.0  # growth of a velocity that says that a boundary is near
_INVOLVED = 0.1  # share of the largest component of a velocity that runs off with it
_TOLERANCE = 1e-9
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Sloppiness:
    """Eigenvalues λ of JᵀJ, decreasing, and its eigenvectors in columns, stiff ones first.

    In the logarithms of the parameters where that was asked for. `widths` are 1/sqrt(λ), how far
    the predictions let a parameter combination move for a change of length one.
    """

    eigenvalues: Float[np.ndarray, " p"]
    directions: Float[np.ndarray, "p p"]
    names: tuple[str, ...]

    @property
    def widths(self) -> Float[np.ndarray, " p"]:
        """How far each direction moves for predictions that change by a length of one."""
        with np.errstate(divide="ignore"):
            return 1 / np.sqrt(self.eigenvalues)

    @property
    def decades(self) -> float:
        """Powers of ten between the largest and the smallest eigenvalue."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.log10(self.eigenvalues[0] / self.eigenvalues[-1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "eigenvalues": self.eigenvalues.tolist(),
            "decades": self.decades,
            "least_determined": dict(zip(self.names, self.sloppy()[:, 0].tolist(), strict=True)),
        }

    def stiff(self, count: int = 1) -> Float[np.ndarray, "p k"]:
        """Directions that the predictions determine best."""
        return self.directions[:, : positive_int("count", count)]

    def sloppy(self, count: int = 1) -> Float[np.ndarray, "p k"]:
        """Directions that the predictions determine worst."""
        return self.directions[:, ::-1][:, : positive_int("count", count)]

    def __str__(self) -> str:
        lines = [f"eigenvalues of JᵀJ span {self.decades:.1f} decades; combinations of parameters:"]
        for value, direction in zip(self.eigenvalues, self.directions.T, strict=True):
            order = np.argsort(-np.abs(direction))[:4]
            terms = " ".join(f"{direction[i]:+.2f} {self.names[i]}" for i in order)
            lines.append(f"  {value:10.3e}  {terms}")
        return "\n".join(lines)


def sloppiness(
    model: Model,
    w: Float[np.ndarray, " p"],
    *,
    logarithmic: bool = False,
    names: Sequence[str] | None = None,
) -> Sloppiness:
    """Eigenvalues and eigenvectors of JᵀJ, or of DJᵀJD with D = diag(w) in logarithms.

    From singular values of J, so that small eigenvalues are accurate. Raises ArgumentError for
    `logarithmic` with a parameter that is zero.
    """
    w = as_vector("w", w, as_model("model", model).num_parameters)
    J = Linearization(model, w).jacobian
    if logarithmic:
        for i, value in enumerate(w):
            positive(f"|w[{i}]|", abs(value))
        J = J * w
    _, s, Vt = np.linalg.svd(J, full_matrices=True)
    values = np.zeros(len(w))
    values[: len(s)] = s**2
    return Sloppiness(values, Vt.T, parameter_names(names, len(w)))


@dataclass(frozen=True, eq=False)
class Boundary:
    """A geodesic that was followed towards the boundary of a prediction surface.

    `reached` tells whether its velocity in parameters diverged, by `growth`, within `length`, its
    length in predictions. `parameters` (p,) is where it was left, `velocity` (p,) its unit velocity
    of parameters there; `moving` names the parameters with the largest velocities there and their
    signs. They run off, and their limit reduces the model by one parameter, unless the surface has
    a `fold` at finite parameters, where the Jacobian loses rank along them. `limits` are those that
    run off. `times` (T,) and `path` (T, p) are the way.
    """

    reached: bool
    fold: bool
    growth: float
    length: float
    parameters: Float[np.ndarray, " p"]
    velocity: Float[np.ndarray, " p"]
    moving: dict[str, int]
    times: Float[np.ndarray, " T"]
    path: Float[np.ndarray, "T p"]

    @property
    def limits(self) -> dict[str, int]:
        """Parameters that run off, with their signs; none at a fold."""
        return {} if self.fold else self.moving

    def __str__(self) -> str:
        if not self.reached:
            return (
                f"No boundary within a length of {self.length:.4g}: the velocity of the parameters "
                f"grew by {self.growth:.3g}."
            )
        moving = ", ".join(f"{name} {'+' if s > 0 else '-'}" for name, s in self.moving.items())
        if self.fold:
            return (
                f"Fold at a length of {self.length:.4g}, at finite parameters: the Jacobian loses "
                f"rank along {moving}. Equal or dependent parameters give a model with one less."
            )
        return (
            f"Boundary at a length of {self.length:.4g}: the parameters that run off there are "
            f"{moving}. Their limit gives a model with one parameter less."
        )


def follow_to_boundary(
    model: Model,
    w: Float[np.ndarray, " p"],
    *,
    direction: Float[np.ndarray, " p"] | None = None,
    sign: str = "away",
    max_length: float = 1e3,
    names: Sequence[str] | None = None,
) -> Boundary:
    """Follow the geodesic along the sloppiest direction until its parameters run off.

    One step of the manifold boundary approximation: near a boundary of f(B) the Jacobian loses rank
    in one direction, and the velocity of the parameters along a geodesic of unit speed diverges
    along it. `direction` (p,) is the sloppiest one without it. `sign` "away" turns it such that
    the parameters speed up, "same" leaves it. The geodesic ends at a growth of the velocity by 50,
    where the integration can go no further, or at `max_length`.
    Raises RankDeficientError where the start is on a boundary already.
    M. K. Transtrum and P. Qiu, Phys. Rev. Lett. 113, 098701 (2014).
    """
    one_of("sign", sign, ("away", "same"))
    positive("max_length", max_length)
    manifold = ParameterManifold(as_model("model", model))
    w = manifold.point(w)
    a = (
        sloppiness(model, w).sloppy()[:, 0]
        if direction is None
        else as_vector("direction", direction, len(w))
    )
    if not np.any(a):
        raise ArgumentError("direction must not be zero")
    a = a / float(manifold.norm(w, a))
    if sign == "away":
        acceleration = -manifold.christoffel(w, a, a)
        a = a if a @ acceleration >= 0 else -a
    times, path, velocities = _followed(manifold, w, a, max_length)
    speeds = np.linalg.norm(velocities, axis=1)
    growth, last = float(speeds[-1] / speeds[0]), velocities[-1]
    labels = parameter_names(names, len(w))
    running = np.abs(last) >= _INVOLVED * np.max(np.abs(last))
    reached = growth >= 0.99 * _DIVERGED
    moving = {labels[i]: int(np.sign(last[i])) for i in np.flatnonzero(running)} if reached else {}
    fold = reached and _folds(path, speeds)
    return Boundary(
        reached,
        fold,
        growth,
        float(times[-1]),
        path[-1],
        last / speeds[-1],
        moving,
        times,
        path,
    )


def _folds(path: np.ndarray, speeds: np.ndarray) -> bool:
    """Whether the speed diverges within a finite way in the parameters, as 1/(s* - s).

    Between growths by the same factor the way then shrinks by it; it does not where parameters run
    off, whose speed grows like a power or an exponential of the way.
    """
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    grown = np.maximum.accumulate(speeds / speeds[0])
    marks = np.interp([1.0, np.sqrt(grown[-1]), grown[-1]], grown, way)
    return bool(marks[2] - marks[1] < _FOLDING * (marks[1] - marks[0]))


def _followed(
    manifold: ParameterManifold, w: np.ndarray, a: np.ndarray, max_length: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, parameters and velocities along a geodesic until it has sped up, or ends."""
    start = induced(manifold.at(w))
    first = float(np.linalg.norm(a))

    def derivative(_: float, state: np.ndarray) -> np.ndarray:
        point, velocity = np.split(state, 2)
        local = neighbour(manifold.metric, start, point)
        return np.concatenate([velocity, -local.christoffel(velocity, velocity)])

    def sped_up(_: float, state: np.ndarray) -> float:
        return float(np.linalg.norm(np.split(state, 2)[1])) / first - _DIVERGED

    sped_up.terminal = True  # type: ignore[attr-defined]
    size = max(float(np.max(np.abs(w))), first)
    for length in max_length * 0.5 ** np.arange(_HALVINGS):  # shorter where the domain ends first
        try:
            found = integrate(
                start,
                derivative,
                np.concatenate([w, a]),
                (0.0, float(length)),
                size,
                _TOLERANCE,
                events=sped_up,
            )
        except _OFF:
            continue
        points, velocities = np.split(found.y.T, 2, axis=1)
        return found.t, points, velocities
    return np.zeros(1), w[None, :], a[None, :]
