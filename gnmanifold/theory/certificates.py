"""Certificates for a problem and a start: more parameters than outputs, and fewer.

S. Cayci, arXiv 2412.14031v5, sections 3 and 4; where a sharper form is proved, it takes the place
of the paper's (see thresholds).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gnmanifold.damping import Constant as ConstantDamping
from gnmanifold.damping import DampingSchedule
from gnmanifold.damping.schedules import Adaptive, as_schedule
from gnmanifold.errors import ArgumentError, UnderdeterminedError
from gnmanifold.linearization import Linearization
from gnmanifold.metrics import GaussNewtonMetric, GeneralizedGaussNewtonMetric
from gnmanifold.problems import CompositeProblem
from gnmanifold.theory import thresholds as th
from gnmanifold.theory.certificate import Certificate
from gnmanifold.theory.constants import Constant, ball_radius, ball_ratio, nondegenerate_radius
from gnmanifold.theory.hypotheses import Hypothesis
from gnmanifold.theory.rates import discrete_rate, flow_rate
from gnmanifold.theory.starts import Start, output_bound, require_smooth, start_at
from gnmanifold.theory.thresholds import Setting
from gnmanifold.validation import RandomState, finite

_INSIDE = 1 - 1e-12  # of the root of (20), so that it holds in floating point too
_ROUNDING = 1e-9  # relative, of an infimum that is given

Lipschitz = float | Constant | None


class _Theorem(NamedTuple):
    """A theorem for p >= n: its threshold on α, and its bound of the path at an α."""

    name: str
    threshold: Callable[[Setting], float]
    path: Callable[[Setting, float], float]


def _twice_path(setting: Setting, alpha: float) -> float:
    return 2 * th.path_bound(setting, alpha)


_FLOW = _Theorem(
    "Damped Gauss-Newton flow, p >= n (Theorem 5, Corollary 9)", th.path_threshold, th.path_bound
)
_STEPS = _Theorem(
    "Damped Gauss-Newton steps, p >= n (Theorem 7)", th.discrete_threshold, _twice_path
)
_GENERALIZED = _Theorem(
    "Generalized Gauss-Newton flow, p >= n (Theorem 10)",
    th.generalized_threshold,
    th.generalized_bound,
)


def overparameterized(
    problem: CompositeProblem,
    w0: ArrayLike,
    damping: DampingSchedule | float | None = None,
    *,
    discrete: bool = False,
    jacobian_lipschitz: Lipschitz = None,
    safety: float = 2.0,
    rng: RandomState = 0,
) -> Certificate:
    """Certificate of the damped Gauss-Newton flow from w0 for p >= n, any damping schedule.

    If 2λ0 = σ_min(Df(w0)) > 0 and α >= L sqrt(2Δ0/ν)/λ0², then |w_t - w0| < λ0/L for all t and the
    gap stays below Δ0 e^-ct, c of rates.flow_rate. With GeneralizedGaussNewtonMetric it is
    α >= L sqrt(2Δ0μ)/(νλ0²), Theorem 10; `discrete` has the steps of rates.discrete_rate, with
    twice the first threshold. `damping`, without which it is the metric's, is that of integrate.
    L is in closed form for one hidden layer and otherwise estimated with a factor of `safety`;
    `jacobian_lipschitz` gives it, on the ball of radius λ0/L.
    Raises ArgumentError for p < n, for another metric, for a loss with ν = 0, or with μ = inf where
    the theorem has μ.

    >>> import numpy as np
    >>> import gnmanifold as gn
    >>> X, y = gn.datasets.single_index(4, 6, rng=0)
    >>> model = gn.Scaled(gn.FeedforwardNetwork(X, 64, rng=0), 1e3)
    >>> manifold = gn.ParameterManifold(model, gn.GaussNewtonMetric(0.5))
    >>> problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    >>> certificate = overparameterized(problem, model.initial_parameters, gn.damping.Adaptive(1.0))
    >>> bool(certificate), certificate.verdict
    (True, 'holds')
    """
    start = start_at(problem, w0, "overparameterized", jacobian_lipschitz, safety, rng)
    _require_over(start.lin)
    generalized = _generalized(problem, discrete)
    if generalized or discrete:
        require_smooth(start.loss)
    schedule = _schedule(problem, damping, start.lin)
    theorem = _GENERALIZED if generalized else _STEPS if discrete else _FLOW
    s, paper = start.setting, None
    if theorem is _FLOW:
        paper = _paper_threshold(start.paper_setting, schedule)
    step, contraction = discrete_rate(s, schedule) if discrete else (None, None)
    return Certificate(
        theorem=theorem.name,
        hypotheses=(
            *start.common("Assumption 1"),
            start.above("α above its threshold", theorem.threshold),
        ),
        inputs=start.inputs(),
        alpha=start.alpha,
        threshold=theorem.threshold(s),
        paper_threshold=paper,
        gap=s.gap,
        rate=flow_rate(s, schedule, generalized=generalized),
        radius=nondegenerate_radius(s.lambda0, s.lipschitz),
        path_bound=theorem.path(s, start.alpha),
        eigenvalue_floor=s.lambda0**2,
        infimum=start.infimum,
        step=step,
        contraction=contraction,
        further=(f"Df Dfᵀ >= λ0² I = {s.lambda0**2:.4g} I all along",),
        notes=start.notes(),
    )


def underparameterized(
    problem: CompositeProblem,
    w0: ArrayLike,
    *,
    discrete: bool = False,
    r: float | None = None,
    infimum: float | None = None,
    jacobian_lipschitz: Lipschitz = None,
    safety: float = 2.0,
    rng: RandomState = 0,
) -> Certificate:
    """Certificate of the Gauss-Newton flow from w0 for p <= n, on the ball B of radius 2rλ0/L.

    With r/(1-r)² <= νλ0/(μ Lip_f), (20), and α above thresholds.convexity_threshold, the loss is
    ν/2-convex along geodesics of αf(B) where it is below its start; with α above
    contained_threshold too the path stays in B, Δ_t <= Δ0 e^-νt with Δ = g - inf over αf(B), and
    the minimum lies inside (Assumption 3). `discrete`: steps of 1/(2μ), Δ_k <= (1 - ν/4μ)^k Δ0 and
    discrete_contained_threshold. `r` is by default the largest that (20) allows; Lip_f on B is at
    most |Df(w0)| + λ0. `infimum` of the loss over αf(B) sharpens Δ0, where it is known.
    `jacobian_lipschitz`, `safety` and `rng` are those of overparameterized.
    Raises ArgumentError for a metric that is not undamped Gauss-Newton, for a loss with ν = 0 or
    μ = inf, for r outside of (0, ½]; UnderdeterminedError for p > n.
    """
    start = start_at(problem, w0, "underparameterized", jacobian_lipschitz, safety, rng)
    _require_under(start.lin, problem.manifold.metric)
    require_smooth(start.loss)
    s, lip = start.setting, output_bound(start)
    r = _ratio(s, lip.value, r)
    gap = _class_gap(start, infimum)
    contained = th.discrete_contained_threshold if discrete else th.contained_threshold
    path = partial(_with_gap, contained, gap, r)
    bound = th.contained_bound(replace(s, gap=gap.value), start.alpha, r)
    return Certificate(
        theorem=f"Gauss-Newton {'steps' if discrete else 'flow'}, p <= n (Theorems 22 and 25)",
        hypotheses=(
            *start.common("Assumption 2"),
            Hypothesis("(20): r/(1-r)²", "<=", _over(s, lip), r / (1 - r) ** 2),
            start.above("(27): α, for convexity", partial(_at, th.convexity_threshold, r)),
            start.above("(30): α, for the path", path, ">=" if discrete else ">"),
            _inner_minimum(start, gap, r, bound),
        ),
        inputs={
            **start.inputs(),
            "Lip_f": lip,
            "r": Constant(r, "exact", "of the ball B"),
            "Δ0, surface": gap,
        },
        alpha=start.alpha,
        threshold=max(th.convexity_threshold(s, r), path(s)),
        paper_threshold=None if discrete else _paper_contained(start.paper_setting, gap, r),
        gap=gap.value,
        rate=s.nu,
        radius=ball_radius(r, s.lambda0, s.lipschitz),
        path_bound=2 * bound if discrete else bound,
        eigenvalue_floor=4 * (1 - r) ** 2 * s.lambda0**2,
        infimum=infimum,
        step=1 / (2 * s.mu) if discrete else None,
        contraction=1 - s.nu / (4 * s.mu) if discrete else None,
        further=_surface(start, r),
        notes=start.notes(),
    )


def _require_over(lin: Linearization) -> None:
    p, n = lin.model.num_parameters, lin.model.num_outputs
    if p < n:
        raise ArgumentError(
            f"overparameterized needs at least as many parameters as outputs, got p = {p} < "
            f"n = {n}: take underparameterized"
        )


def _require_under(lin: Linearization, metric: Any) -> None:
    p, n = lin.model.num_parameters, lin.model.num_outputs
    if p > n:
        raise UnderdeterminedError(
            f"underparameterized needs at most as many parameters as outputs, got p = {p} > "
            f"n = {n}: take overparameterized"
        )
    if not (isinstance(metric, GaussNewtonMetric) and metric.undamped):
        raise ArgumentError(
            f"the theorem is for the undamped GaussNewtonMetric(), the manifold has {metric}"
        )


def _generalized(problem: CompositeProblem, discrete: bool) -> bool:
    """Whether the metric is that of generalized Gauss-Newton; raises for one without theorem."""
    metric = problem.manifold.metric
    generalized = type(metric) is GeneralizedGaussNewtonMetric and metric.loss is problem.loss
    if not (generalized or isinstance(metric, GaussNewtonMetric)):
        raise ArgumentError(
            "the theorems are for GaussNewtonMetric, and for GeneralizedGaussNewtonMetric of the "
            f"problem's own loss; the manifold has {metric}"
        )
    if generalized and discrete:
        raise ArgumentError(
            "the theorem in discrete time is for GaussNewtonMetric: take it, or discrete=False"
        )
    return generalized


def _schedule(
    problem: CompositeProblem, damping: DampingSchedule | float | None, lin: Linearization
) -> DampingSchedule:
    """Schedule of a run that starts at w0."""
    rho = problem.manifold.metric.damping if damping is None else damping
    return as_schedule(rho).start(lin, problem.loss)


def _paper_threshold(s: Setting, schedule: DampingSchedule) -> float | None:
    """The paper's threshold for constant and adaptive damping; it has none for the others."""
    if not np.isfinite(s.mu):
        return None
    if isinstance(schedule, ConstantDamping):
        return th.lemma4_threshold(s, schedule.value)
    return th.corollary9_threshold(s, schedule.kappa) if type(schedule) is Adaptive else None


def _ratio(s: Setting, lip: float, r: float | None) -> float:
    """The given r, or the largest of (20)."""
    if r is None:
        return _INSIDE * ball_ratio(s.nu, s.mu, s.lambda0, lip) if s.lambda0 > 0 else 0.0
    if not 0 < r <= 0.5:
        raise ArgumentError(f"r must be a number in (0, ½], got {r!r}")
    return float(r)


def _over(s: Setting, lip: Constant) -> float:
    return s.nu * s.lambda0 / (s.mu * lip.value) if lip.value > 0 else 0.0


def _class_gap(start: Start, infimum: float | None) -> Constant:
    """Bound of g(αf(w0)) less its infimum over αf(B), by that over all predictions."""
    if infimum is None:
        return Constant(start.setting.gap, "bound", "g(αf(w0)) - inf g")
    cost = start.infimum + start.setting.gap
    slack = _ROUNDING * abs(cost)
    if not start.infimum - slack <= finite("infimum", infimum) <= cost + slack:
        raise ArgumentError(
            f"infimum must lie between inf g = {start.infimum:.6g} and the cost at w0, {cost:.6g}; "
            f"got {infimum!r}"
        )
    return Constant(max(cost - infimum, 0.0), "given", "by the infimum given")


def _at(threshold: Callable[[Setting, float], float], r: float, setting: Setting) -> float:
    return threshold(setting, r)


def _with_gap(
    threshold: Callable[[Setting, float], float], gap: Constant, r: float, setting: Setting
) -> float:
    return threshold(replace(setting, gap=gap.value), r)


def _inner_minimum(start: Start, gap: Constant, r: float, bound: float) -> Hypothesis:
    """Assumption 3, which follows from the length of the path."""
    s = start.setting
    limit = start.limit(partial(_with_gap, th.contained_threshold, gap, r))
    radius = ball_radius(r, s.lambda0, s.lipschitz)
    return Hypothesis("Assumption 3: minimum inside B", "<", radius, bound, limit)


def _paper_contained(s: Setting, gap: Constant, r: float) -> float:
    path = _with_gap(th.paper_contained_threshold, gap, r, s)
    return max(th.convexity_threshold(s, r), path)


def _surface(start: Start, r: float) -> tuple[str, ...]:
    s, floor = start.setting, 4 * (1 - r) ** 2 * start.setting.lambda0**2
    bend = th.second_form_bound(s, start.alpha, r)
    return (
        f"DfᵀDf >= 4(1-r)²λ0² I = {floor:.4g} I on B",
        f"second fundamental form of αf(B): at most {bend:.4g} for L = {s.lipschitz:.4g}",
        f"below its value at w0 the loss is convex along geodesics of αf(B), with modulus "
        f"{s.nu / 2:.4g} and smoothness {s.mu + s.nu / 2:.4g}: it has one minimum, inside",
    )
