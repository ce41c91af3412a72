"""Rates of convergence: measured from a run, and predicted at a critical point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gnmanifold.diagnostics.density import Estimate
from gnmanifold.diagnostics.lanczos import (
    EPS,
    Eigenvalues,
    dense_eigenvalues,
    dense_matrix,
    extreme_eigenvalues,
    metric_of,
)
from gnmanifold.diagnostics.spectrum import curvature_product, kernel_product
from gnmanifold.errors import ArgumentError, RankDeficientError
from gnmanifold.linearization import Linearization
from gnmanifold.losses import Loss
from gnmanifold.metrics import GeneralizedGaussNewtonMetric, InducedMetric
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import RandomState, as_generator, as_vector, positive

_DENSE = 512  # parameters, and outputs for p > n, up to which all eigenvalues are computed
_EACH_END = 3
_TIED = 1e-6  # relative difference of moduli that makes no dominant eigenvalue
_CRITICAL = 1e-4  # share of the residual that the tangent space may have
_NEGLIGIBLE = 1e-4  # residual, relative to the predictions, that counts as this much


@dataclass(frozen=True)
class FittedRate:
    """The rate r of gap ~ C e^-rt fitted to `count` records in a window of times, ± `error`."""

    rate: float
    error: float
    window: tuple[float, float]
    count: int

    def __str__(self) -> str:
        begin, end = self.window
        return f"rate {self.rate:.6g} ± {self.error:.2g} over t = {begin:.4g} to {end:.4g}"


def fitted_rate(
    times: ArrayLike, gaps: ArrayLike, window: tuple[float, float] | None = None
) -> FittedRate:
    """Exponential rate of positive gaps (T,), by least squares on their logarithms.

    Records outside of the `window` of times, or with a gap that is zero, negative or not finite,
    are left out. The standard error is that of the slope, of independent scatter about the line.
    Raises ArgumentError where fewer than three records at different times are left, ShapeError.
    """
    t = as_vector("times", times)
    gap = as_vector("gaps", gaps, len(t), finite=False)
    low, high = (t.min(), t.max()) if window is None else window
    used = (t >= low) & (t <= high) & np.isfinite(gap) & (gap > 0)
    t, logs = t[used], np.log(gap[used])
    if len(np.unique(t)) < 3:
        raise ArgumentError(f"a rate needs three positive gaps in the window, got {len(t)}")
    centred = t - t.mean()
    spread = float(centred @ centred)
    slope = float(centred @ logs) / spread
    left = logs - logs.mean() - slope * centred
    error = float(np.sqrt(left @ left / (len(t) - 2) / spread))
    return FittedRate(-slope, error, (float(t.min()), float(t.max())), len(t))


def contraction_factor(gaps: ArrayLike, window: tuple[int, int] | None = None) -> Estimate:
    """Factor q of gap ~ C q^k over iterations k, and its standard error; above one it grows.

    `window` are the first and last iteration. The cost's gap has the square of the factor of the
    distance. Raises ArgumentError as `fitted_rate` does.
    """
    gap = as_vector("gaps", gaps, finite=False)
    fitted = fitted_rate(np.arange(len(gap)), gap, window)
    factor = float(np.exp(-fitted.rate))
    return Estimate(factor, factor * fitted.error)


@dataclass(frozen=True, eq=False)
class LocalRate:
    """What Gauss-Newton does near a critical point, by the eigenvalues s of the map S there.

    S = G⁻¹Σ_i ξ_i ∇²f_i with G = JᵀAJ and ξ = ∇g, the Weingarten map of the residual. A step of
    size η has the derivative (1-η) I - η S, the flow -(I + S). `eigenvalues` are those of S, all or
    the extreme ones; `flat` is the dimension of the solution manifold for p > n, along which
    nothing moves. `gradient` is the length of the gradient in G, which ought to be zero.
    """

    eigenvalues: Eigenvalues
    step: float
    gradient: float
    flat: int = 0

    @property
    def factors(self) -> Float[np.ndarray, " k"]:
        """Eigenvalues 1 - η - ηs of the derivative of the step."""
        return 1 - self.step * (1 + self.eigenvalues.values)

    @property
    def radius(self) -> float:
        """Spectral radius: the factor by which a step shrinks a small error in the end."""
        return float(np.max(np.abs(self.factors)))

    @property
    def error(self) -> float:
        """Stated error of the radius."""
        return self.step * float(np.max(self.eigenvalues.errors))

    @property
    def dominant(self) -> Float[np.ndarray, " d"]:
        """Eigenvalues of the step of that modulus: one, unless they are tied."""
        sizes = np.abs(self.factors)
        return self.factors[sizes >= (1 - _TIED) * sizes.max()]

    @property
    def smallest(self) -> float:
        """Smallest eigenvalue of S; below -1 the point is no minimum."""
        return self.eigenvalues.smallest

    @property
    def steps_converge(self) -> bool:
        """Whether steps of this size converge from nearby."""
        return self.radius < 1

    @property
    def full_steps_converge(self) -> bool:
        """Whether full steps η = 1 converge from nearby: the spectral radius of S is below 1."""
        return bool(np.max(np.abs(self.eigenvalues.values)) < 1)

    @property
    def flow_converges(self) -> bool:
        """Whether the flow converges from nearby, λ_min(S) > -1: the point is a strict minimum."""
        return self.smallest > -1

    @property
    def flow_rate(self) -> float:
        """Rate 1 + λ_min(S) of the distance along the flow; the cost's is twice that."""
        return 1 + self.smallest

    @property
    def best_step(self) -> float | None:
        """Constant step 2/(2 + s_min + s_max) of the smallest radius; None where none converges."""
        if not self.flow_converges:
            return None
        return 2 / (2 + self.smallest + self.eigenvalues.largest)

    @property
    def best_radius(self) -> float | None:
        """Radius (s_max - s_min)/(2 + s_min + s_max) with the best constant step."""
        eta = self.best_step
        return None if eta is None else 0.5 * eta * (self.eigenvalues.largest - self.smallest)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        names = (
            "step", "radius", "error", "smallest", "steps_converge", "full_steps_converge",
            "flow_converges", "flow_rate", "best_step", "best_radius", "gradient", "flat",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "dominant": self.dominant.tolist()}

    def __str__(self) -> str:
        verb = "converge" if self.steps_converge else "do not converge"
        lines = [
            f"Gauss-Newton steps of size {self.step:g} {verb} from nearby: factor {self.radius:.6g}"
        ]
        flow = "converges" if self.flow_converges else "does not converge"
        lines.append(f"The flow {flow}: rate {self.flow_rate:.6g} of the distance")
        if self.best_step is not None:
            best = f"{self.best_step:.4g}, with factor {self.best_radius:.4g}"
            lines.append(f"The best constant step is {best}")
        if self.flat:
            lines.append(f"All of it across a solution manifold of dimension {self.flat}")
        return "\n".join(lines)


def local_factor(
    problem: CompositeProblem,
    point: ArrayLike,
    *,
    step: float = 1.0,
    dense: bool | None = None,
    tolerance: float = _CRITICAL,
    rng: RandomState = 0,
) -> LocalRate:
    """Local convergence of Gauss-Newton steps w <- w - η (JᵀAJ)⁻¹Jᵀ∇g at a critical point.

    η = `step`, A = ∇²g of the problem's loss; the metric of the manifold does not matter. For
    p > n the residual is zero there, and so is S. Dense for p <= 512, else three eigenvalues at
    each end from products, with solves by conjugate gradients.
    Raises ArgumentError where the tangent space has more than `tolerance` of the residual, so that
    the point is not critical, RankDeficientError where J has not full rank.
    P.-A. Wedin, On the Gauss-Newton method for the nonlinear least-squares problem, 1974;
    H. Ramsin and P.-A. Wedin, BIT 17 (1977).
    """
    require_composite(problem, "local_factor")
    positive("step", step)
    positive("tolerance", tolerance)
    lin, loss = problem.manifold.at(problem.manifold.as_point(point)).lin, problem.loss
    n, p = problem.model.num_outputs, problem.model.num_parameters
    if p > n:
        return _submersion(lin, loss, step, tolerance, as_generator(rng))
    if p <= _DENSE if dense is None else dense:
        values, gradient = _dense(lin, loss, tolerance)
    else:
        values, gradient = _matrix_free(lin, loss, tolerance, as_generator(rng))
    return LocalRate(values, float(step), gradient)


def _dense(lin: Linearization, loss: Loss, tolerance: float) -> tuple[Eigenvalues, float]:
    """Eigenvalues of EᵀΣ_i ξ_i ∇²f_i E in an orthonormal frame E of G, and |grad|."""
    local = GeneralizedGaussNewtonMetric(loss).at(lin)
    assert isinstance(local, InducedMetric)
    local.require_regular()
    z = loss.gradient(lin.psi)
    gradient = float(local.length(local.gradient(z)))
    _require_critical(gradient, lin, loss, tolerance)
    E, bend = local.frame, lin.hessian_matrix(z)
    size = float(np.linalg.norm(np.abs(E.T) @ np.abs(bend) @ np.abs(E), 2))
    form = E.T @ bend @ E
    return dense_eigenvalues(0.5 * (form + form.T), _accuracy(lin), size), gradient


def _matrix_free(
    lin: Linearization, loss: Loss, tolerance: float, rng: np.random.Generator
) -> tuple[Eigenvalues, float]:
    """Extreme eigenvalues of the pencil Σ_i ξ_i ∇²f_i - s G, and |grad|."""
    p, z = lin.model.num_parameters, loss.gradient(lin.psi)
    metric = metric_of(curvature_product(lin, loss, "gauss_newton"))
    covector = lin.pull_covector(z)
    gradient = float(np.sqrt(max(float(covector @ metric.solve(covector)), 0.0)))
    _require_critical(gradient, lin, loss, tolerance)
    k = min(_EACH_END, (p - 1) // 2)

    def bend(a: np.ndarray) -> np.ndarray:
        return lin.weighted_hessian(z, a)

    values = extreme_eigenvalues(bend, p, k, rng, metric=metric, accuracy=_accuracy(lin))
    return values, gradient


def _submersion(
    lin: Linearization, loss: Loss, step: float, tolerance: float, rng: np.random.Generator
) -> LocalRate:
    """Rate across the solution manifold of p > n, where the residual and S are zero."""
    n, p = lin.model.num_outputs, lin.model.num_parameters
    gradient = float(np.linalg.norm(loss.root_residual(lin.psi)))
    _require_critical(gradient, lin, loss, tolerance)
    rows = len(loss.root_residual(lin.psi))
    kernel = kernel_product(lin, loss)
    if rows <= _DENSE:
        found = dense_eigenvalues(dense_matrix(kernel, rows), lin.model.first_order_accuracy)
    else:
        found = extreme_eigenvalues(kernel, rows, 1, rng)
    if found.smallest <= rows * EPS * found.largest:
        values = np.sqrt(np.maximum(found.values[::-1], 0.0))
        remedy = "the rate across a solution set of varying dimension has no formula"
        rank = found.signs.positive if found.complete else rows - 1
        raise RankDeficientError(rank, rows, values[-3:], remedy, "root S J of the curvature")
    return LocalRate(Eigenvalues(np.zeros(n), np.zeros(n), n), float(step), gradient, p - n)


def _require_critical(gradient: float, lin: Linearization, loss: Loss, tolerance: float) -> None:
    """Raise ArgumentError where a gradient of that length in G is no rounding."""
    residual = float(np.linalg.norm(loss.root_residual(lin.psi)))
    reach = float(np.linalg.norm(loss.hessian_root(lin.psi, lin.psi)))
    allowed = tolerance * (residual + _NEGLIGIBLE * (reach + loss.reach))
    if not gradient <= allowed:
        raise ArgumentError(
            f"the point is not critical: the gradient has the length {gradient:.3g} beside a "
            f"residual of {residual:.3g}, more than tolerance = {tolerance:g} allows; "
            "run an optimizer to the end first"
        )


def _accuracy(lin: Linearization) -> float:
    return max(lin.model.first_order_accuracy, lin.model.second_order_accuracy)
