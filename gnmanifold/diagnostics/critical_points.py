"""What kind of critical point a point is, and whether the minima near it form a manifold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.diagnostics.lanczos import EPS, Inertia
from gnmanifold.errors import ArgumentError, GnmanifoldError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import RandomState, as_generator, as_vector, fraction

_LARGEST = 2000  # parameters of a dense Hessian
_FAR = 0.05  # how far to look along the null directions, relative to 1 + |w|
_DIRECTIONS = 8  # null directions to look along, both ways
_NEWTON, _HALVINGS = 30, 20  # steps to minimise again, and halvings of each

NOT_CRITICAL = "not critical"


@dataclass(frozen=True, eq=False)
class CriticalPoint:
    """Kind of a critical point of a cost, by the inertia of its Hessian.

    `kind` is "minimum", "saddle", "maximum", "degenerate" (a singular Hessian, all other
    eigenvalues of one sign) or "not critical". `gradient_norm` is |Jᵀ∇g|; `newton_decrement`
    sqrt(gᵀH⁺g), whose square is twice the decrease that a Newton step promises, is None for a
    Hessian with negative eigenvalues. `morse_bott` tells whether the minima near a degenerate point
    form a manifold of the dimension of the Hessian's null space, so that the cost grows
    quadratically away from it; None where it is not asked.
    """

    kind: str
    cost: float
    gradient_norm: float
    newton_decrement: float | None
    inertia: Inertia
    morse_bott: bool | None = None

    @property
    def nullity(self) -> int:
        """Dimension of the null space of the Hessian."""
        return self.inertia.zero

    @property
    def solution_dimension(self) -> int | None:
        """Dimension of the manifold of minima through the point; None where it is not known."""
        if self.kind == "minimum":
            return 0
        return self.nullity if self.morse_bott else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = (
            "kind", "cost", "gradient_norm", "newton_decrement", "morse_bott", "solution_dimension",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "inertia": list(self.inertia)}

    def __str__(self) -> str:
        return _SENTENCES[self.kind](self)


def _degenerate(point: CriticalPoint) -> str:
    if point.inertia.negative:
        return (
            "Degenerate: the cost decreases to second order in "
            f"{_count(point.inertia.negative)} and is flat in {_count(point.nullity)}."
        )
    if point.morse_bott:
        return (
            f"A minimum on a manifold of minima of dimension {point.nullity}, away from which the "
            "cost grows quadratically (Morse-Bott)."
        )
    if point.morse_bott is None:
        return f"Degenerate: the Hessian is singular in {_count(point.nullity)}."
    return (
        f"Degenerate: the Hessian is singular in {_count(point.nullity)}, but the minima nearby do "
        "not form a manifold of that dimension (not Morse-Bott): expect slow convergence."
    )


def _count(directions: int) -> str:
    return f"{directions} direction" + ("" if directions == 1 else "s")


_SENTENCES = {
    NOT_CRITICAL: lambda point: (
        f"Not a critical point: the gradient norm is {point.gradient_norm:.3g}."
    ),
    "minimum": lambda point: "A strict minimum: the Hessian is positive definite.",
    "maximum": lambda point: "A strict maximum: the Hessian is negative definite.",
    "saddle": lambda point: (
        f"A saddle: the cost decreases in {_count(point.inertia.negative)}, grows in "
        f"{_count(point.inertia.positive)} and is flat to second order in {point.inertia.zero}."
    ),
    "degenerate": _degenerate,
}


def classify(
    problem: CompositeProblem,
    point: ArrayLike,
    tolerance: float = 1e-6,
    *,
    units: ArrayLike | None = None,
    rng: RandomState = 0,
) -> CriticalPoint:
    """Kind of a critical point of g∘f, whatever the metric of the manifold.

    Parameters are measured in `units` U (p,): without it their sizes |w_i|, one for those below
    `tolerance`. Eigenvalues of U H U below `tolerance` times the largest are zeros; the point is
    critical where sqrt(gᵀ|H|⁻¹g) is below `tolerance`, as gradients are in the optimizers, or a
    step |H|⁻¹g relative to the parameters, zeros being replaced by that bound. A degenerate point
    with zero residual and J of full row rank has the Morse-Bott property by the implicit function
    theorem; else it is looked at: along null directions, drawn by `rng`, the cost is minimised
    again across them, and cost and nullity have to stay.
    Raises ArgumentError for another kind of problem, p > 2000, units that are not positive or a
    tolerance not in (0, 1).
    R. Bott, Ann. of Math. 60 (1954); Q. Rebjock and N. Boumal, Fast convergence to non-isolated
    minima, Math. Program. 2024; Boyd and Vandenberghe, Convex Optimization, section 9.5.
    """
    require_composite(problem, "classify")
    fraction("tolerance", tolerance)
    p = problem.model.num_parameters
    if p > _LARGEST:
        raise ArgumentError(
            f"classify needs the {p} eigenvalues of a dense Hessian, at most {_LARGEST}: "
            "spectrum(problem, point) gives the extreme ones"
        )
    lin = problem.manifold.at(problem.manifold.as_point(point)).lin
    here = _Quadratic(lin, problem.loss, tolerance, _units(units, lin.w, tolerance))
    kind = _kind(here)
    bott = None
    if kind == "degenerate" and not here.inertia.negative:
        bott = here.submersive or _flat_around(here, as_generator(rng))
    return CriticalPoint(
        kind, here.cost, here.gradient_norm, here.newton_decrement, here.inertia, bott
    )


def _units(units: ArrayLike | None, w: np.ndarray, tolerance: float) -> np.ndarray:
    """Units of the parameters, as given or from their sizes."""
    if units is None:
        sizes = np.abs(w)
        return np.where(sizes > tolerance, sizes, 1.0)
    given = as_vector("units", units, len(w))
    if not np.all(given > 0):
        raise ArgumentError("units must be positive")
    return given


def _kind(here: _Quadratic) -> str:
    negative, zero, positive = here.inertia
    if not here.critical:
        return NOT_CRITICAL
    if negative and positive:
        return "saddle"
    if zero:
        return "degenerate"
    return "maximum" if negative else "minimum"


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """Second-order model of the cost at a point, with the parameters v = w/U in place of w."""

    lin: Linearization
    loss: Loss
    tolerance: float
    units: Float[np.ndarray, " p"]

    @cached_property
    def cost(self) -> float:
        """Cost at the point."""
        return float(self.loss.value(self.lin.psi))

    @cached_property
    def hessian(self) -> Float[np.ndarray, "p p"]:
        """Hessian U H U."""
        root = self.loss.hessian_root(self.lin.psi, self.lin.jacobian)
        bend = self.lin.hessian_matrix(self.loss.gradient(self.lin.psi))
        H = root.T @ root + 0.5 * (bend + bend.T)
        return H * np.outer(self.units, self.units)

    @cached_property
    def gradient(self) -> Float[np.ndarray, " p"]:
        """Gradient U Jᵀ∇g."""
        return self.units * self.lin.pull_covector(self.loss.gradient(self.lin.psi))

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient in the parameters themselves."""
        return float(np.linalg.norm(self.gradient / self.units))

    @cached_property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, increasing, and eigenvectors."""
        values, vectors = np.linalg.eigh(self.hessian)
        return values, vectors

    @property
    def curvature(self) -> float:
        """Largest eigenvalue in size."""
        return float(np.max(np.abs(self.eigen[0])))

    @property
    def floor(self) -> float:
        """Size up to which an eigenvalue counts as zero."""
        rounding = len(self.units) * EPS + self.lin.model.second_order_accuracy
        return max(self.tolerance, rounding) * self.curvature

    @property
    def zero(self) -> np.ndarray:
        """Which eigenvalues count as zero."""
        return np.abs(self.eigen[0]) <= self.floor

    @cached_property
    def inertia(self) -> Inertia:
        """Numbers of negative, zero and positive eigenvalues."""
        rest = self.eigen[0][~self.zero]
        return Inertia(int(np.sum(rest < 0)), int(self.zero.sum()), int(np.sum(rest > 0)))

    @property
    def newton_decrement(self) -> float | None:
        """sqrt(gᵀH⁺g), None for a Hessian with negative eigenvalues."""
        if self.inertia.negative:
            return None
        values, vectors = self.eigen
        g = (vectors.T @ self.gradient)[~self.zero]
        return float(np.sqrt(np.sum(g**2 / values[~self.zero])))

    @property
    def critical(self) -> bool:
        """Whether the gradient is small in |H|⁻¹, or the step to where it vanishes."""
        values, vectors = self.eigen
        g = vectors.T @ self.gradient
        if not g.any():
            return True
        sizes = np.maximum(np.abs(values), self.floor)
        if not sizes.all():  # a gradient without curvature
            return bool(np.linalg.norm(g) <= self.tolerance)
        step = float(np.linalg.norm(g / sizes))
        near = step <= self.tolerance * float(np.linalg.norm(self.lin.w / self.units))
        return near or float(np.sqrt(np.sum(g**2 / sizes))) <= self.tolerance

    @property
    def submersive(self) -> bool:
        """Whether the residual is zero and J has full row rank."""
        residual = np.linalg.norm(self.loss.root_residual(self.lin.psi))
        full = self.lin.rank == self.lin.model.num_outputs
        return bool(full and residual <= self.tolerance)

    def moved(self, step: np.ndarray) -> _Quadratic:
        """The same where a step of v leads."""
        w = self.lin.w + self.units * step
        lin = Linearization(self.lin.model, w, counts=self.lin.counts)
        return _Quadratic(lin, self.loss, self.tolerance, self.units)


def _flat_around(here: _Quadratic, rng: np.random.Generator) -> bool:
    """Whether the minima continue along all null directions that are looked at."""
    across = here.eigen[1][:, ~here.zero]
    for step in _null_steps(here, rng):
        try:
            there = _minimised(here.moved(step), across)
            if not _as_flat(there, here, float(step @ step)):
                return False
        except (GnmanifoldError, np.linalg.LinAlgError):
            return False
    return True


def _null_steps(here: _Quadratic, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Steps along null directions, some of a basis and random ones, both ways."""
    null = here.eigen[1][:, here.zero]
    count = null.shape[1]
    mixed = rng.standard_normal((count, _DIRECTIONS if count > 1 else 0))
    length = _FAR * (1 + float(np.linalg.norm(here.lin.w / here.units)))
    for direction in np.hstack([np.eye(count)[:, :_DIRECTIONS], mixed]).T:
        step = null @ (length * direction / np.linalg.norm(direction))
        yield step
        yield -step


def _minimised(there: _Quadratic, across: np.ndarray) -> _Quadratic:
    """Minimum of the cost over the plane through a point, by Newton's method with halved steps."""
    for _ in range(_NEWTON if across.size else 0):
        curvature = across.T @ there.hessian @ across
        step = -across @ np.linalg.solve(curvature, across.T @ there.gradient)
        trial = next((point for point in _halved(there, step) if point.cost < there.cost), None)
        if trial is None:
            break
        there = trial
    return there


def _halved(there: _Quadratic, step: np.ndarray) -> Iterator[_Quadratic]:
    return (there.moved(0.5**i * step) for i in range(_HALVINGS))


def _as_flat(there: _Quadratic, here: _Quadratic, square: float) -> bool:
    """Whether cost and nullity are those of the first point, to what a step could change."""
    largest = 0.5 * max(here.curvature, there.curvature) * square
    rise = abs(there.cost - here.cost)
    same = there.inertia.zero == here.inertia.zero
    return same and rise <= here.tolerance * largest + 100 * EPS * abs(here.cost)
