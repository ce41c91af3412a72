"""Integration of flows: Euler's method as in the papers, or SciPy's Runge-Kutta methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.integrate import DOP853, RK45
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from tqdm import tqdm

from gnmanifold.damping import DampingSchedule
from gnmanifold.damping.schedules import as_schedule
from gnmanifold.errors import ArgumentError, GnmanifoldError, UnstableStepWarning
from gnmanifold.flows.trajectory import FINISHED, Piece, Trajectory
from gnmanifold.linearization import Evaluations, Linearization, require_finite
from gnmanifold.metrics import (
    FilteredHessianMetric,
    GaussNewtonMetric,
    GeneralizedGaussNewtonMetric,
    HessianMetric,
    LocalMetric,
)
from gnmanifold.problems import CompositeProblem, require_composite
from gnmanifold.validation import one_of, positive, positive_int

SOLVERS = {"rk45": RK45, "dop853": DOP853}
METHODS = ("euler", *SOLVERS)
_BAR = (
    "{desc}: {percentage:3.0f}%|{bar}| t = {n:.4g} of {total:.4g} [{elapsed}<{remaining}{postfix}]"
)
_ERRORS = (GnmanifoldError, ArithmeticError, ValueError, RuntimeError)
_AT_REST = 1e-10  # of the largest first move: that of a parameter which does not start to move
_AHEAD = 0.1  # of the first move: displacements below are not followed to their own size
_ROUNDING = 10 * np.finfo(float).eps  # of a parameter: no tolerance is below
_INTERRUPTED = "Stopped: interrupted by the user; the flow so far is returned."
_FAILED = "Stopped at t = {:.6g}: {}"

Vector = Float[np.ndarray, " p"]


def integrate(
    problem: CompositeProblem,
    w0: ArrayLike,
    t_final: float,
    *,
    method: str = "euler",
    step: float = 0.01,
    damping: DampingSchedule | float | None = None,
    every: int = 1,
    eigenvalues: bool = True,
    rtol: float = 1e-9,
    progress: bool = False,
) -> Trajectory:
    """Follow the flow ẇ = -G(w)⁻¹Jᵀ∇g(f(w)) from w0 (p,) to time t_final, in the metric G.

    G is the metric of the problem's manifold; `damping`, ρ or a schedule of gnmanifold.damping,
    takes the place of its own ρ, where ρ = 0 with p > n gives the velocity of least norm. Constant
    ρ is (6): G = (1-ρ) JᵀJ + ρ α² I. For p > n the work is done in n x n arithmetic. `method`
    "euler" takes steps w <- w + `step` ẇ, those of descent in the metric with ConstantStep; "rk45"
    and "dop853" are SciPy's, with tolerance `rtol` relative to the displacement |w_i - w_i(0)|.
    Each `every`-th step is recorded, and the last one; `eigenvalues=False` leaves λ_min out, which
    needs a Jacobian. A ball of the manifold is not looked at: see Trajectory.exit_time. Where the
    flow cannot be followed, or Ctrl-C ends it, the trajectory up to there is returned and says so.
    Raises ArgumentError, ShapeError or NonFiniteError for bad arguments and starting points; warns
    UnstableStepWarning for Euler's method with a step above the stability limit.
    S. Cayci, arXiv 2412.14031v5, (6), (7); E. Hairer, S. P. Norsett and G. Wanner.

    >>> import gnmanifold as gn
    >>> model = gn.CallableModel(lambda w: w**3 + w, num_parameters=2)
    >>> problem = gn.CompositeProblem(gn.ParameterManifold(model), gn.SquaredError([1.0, 2.0]))
    >>> flow = integrate(problem, np.zeros(2), 3.0, method="dop853")
    >>> print(f"{flow.costs[-1] / flow.costs[0]:.6f} is e^-6 = {np.exp(-6.0):.6f}")
    0.002479 is e^-6 = 0.002479
    """
    require_composite(problem, "integrate")
    one_of("method", method, METHODS)
    for name, value in (("t_final", t_final), ("step", step), ("rtol", rtol)):
        positive(name, value)
    positive_int("every", every)
    counts = problem.manifold.evaluations
    before = asdict(counts)
    flow = _start(problem, w0, damping)
    recorder = _Recorder(flow, every, bool(eigenvalues))
    limit = _limit(flow.at(flow.start), problem)
    if method == "euler" and min(step, t_final) >= limit:
        _warn(step, limit)
    with tqdm(
        total=float(t_final), desc=method, disable=not progress, bar_format=_BAR
    ) as recorder.bar:
        if method == "euler":
            end = _euler(flow, recorder, t_final, step)
        else:
            end = _runge_kutta(flow, recorder, SOLVERS[method], t_final, rtol, limit)
        recorder.close()
    used = {name: n - before[name] for name, n in asdict(counts).items()}
    return recorder.trajectory(method, limit, end, Evaluations(**used))


@dataclass(frozen=True, eq=False)
class Here:
    """A point of a flow: its metric, the damping of the schedule in it, and the velocity."""

    local: LocalMetric
    damping: float
    velocity: Vector


@dataclass(eq=False)
class Flow:
    """The vector field -G(w)⁻¹Jᵀ∇g of a problem, damped by a schedule; it knows its last point."""

    problem: CompositeProblem
    first: Linearization
    schedule: DampingSchedule | None
    last: Here | None = None

    @property
    def start(self) -> Vector:
        """Parameters that the flow starts at."""
        return self.first.w

    def at(self, w: Vector) -> Here:
        """Point of the flow; raises where there is none."""
        if self.last is None or not np.array_equal(self.last.local.lin.w, w):
            self.last = self._there(w)
        return self.last

    def _there(self, w: Vector) -> Here:
        lin, loss = self.first, self.problem.loss
        if not np.array_equal(w, lin.w):
            counts = self.problem.manifold.evaluations
            lin = Linearization(self.problem.model, w, counts=counts)
        metric: Any = self.problem.manifold.metric
        with np.errstate(all="ignore"):  # what is not finite raises an error of its own
            require_finite(lin.w, lin.psi)
            rho = np.nan
            if self.schedule is not None:
                rho = self.schedule.rho(lin, loss)
                metric = replace(metric, damping=rho)
            local = metric.at(lin)
            velocity = -local.gradient(loss.gradient(lin.psi))
        require_finite(velocity, None)
        return Here(local, rho, velocity)


def stability_limit(
    problem: CompositeProblem, w0: ArrayLike, damping: DampingSchedule | float | None = None
) -> float:
    """Step 2/λ_max(G⁻¹JᵀAJ), A = ∇²g, up to which Euler's method is stable, linearised at w0 (p,).

    `damping` is that of integrate. For the metric (7) and A <= μ I the limit is at least
    2/(μ h_ρ(|K|)), h_ρ(x) = x/((1-ρ)x + ρ). Flows in the metric of a Hessian are linearised by the
    identity: the limit is 2. It is the `stability_limit` of a Trajectory.
    Raises ArgumentError, ShapeError or NonFiniteError for bad arguments and points.
    """
    require_composite(problem, "stability_limit")
    flow = _start(problem, w0, damping)
    return _limit(flow.at(flow.start), problem)


def _limit(here: Here, problem: CompositeProblem) -> float:
    local, loss = here.local, problem.loss
    if isinstance(problem.manifold.metric, HessianMetric | FilteredHessianMetric):
        return 2.0

    def product(u: np.ndarray) -> np.ndarray:
        velocity = local.gradient(loss.hessian_root_transpose(local.lin.psi, u.ravel()))
        return loss.hessian_root(local.lin.psi, local.lin.push(velocity))

    largest = _largest_eigenvalue(product, len(loss.root_residual(local.lin.psi)))
    return 2.0 / largest if largest > 0 else np.inf


def _largest_eigenvalue(product: Callable[[np.ndarray], np.ndarray], size: int) -> float:
    if size <= 2:
        return float(np.linalg.eigvalsh(np.column_stack([product(e) for e in np.eye(size)]))[-1])
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    if not np.any(product(start)):
        return 0.0
    try:
        values = eigsh(operator, k=1, which="LA", v0=start, tol=1e-8, return_eigenvectors=False)
    except ArpackError:  # no convergence: the power method gets as close as that matters
        for _ in range(100):
            image = product(start)
            start = image / np.linalg.norm(image)
        return float(np.linalg.norm(product(start)))
    return float(values[0])


def _start(
    problem: CompositeProblem, w0: ArrayLike, damping: DampingSchedule | float | None
) -> Flow:
    """Flow with the schedule of a run that starts at w0."""
    lin = problem.manifold.at(problem.manifold.as_point(w0)).lin
    if damping is None:
        return Flow(problem, lin, None)
    metric = problem.manifold.metric
    if not isinstance(metric, GaussNewtonMetric | GeneralizedGaussNewtonMetric):
        raise ArgumentError(
            "a damping in [0, 1] is for GaussNewtonMetric, GeneralizedGaussNewtonMetric and "
            f"FisherMetric; the manifold has {metric}"
        )
    return Flow(problem, lin, as_schedule(damping).start(lin, problem.loss))


@dataclass(eq=False)
class _Recorder:
    """What a flow has passed, a row for each record."""

    flow: Flow
    every: int
    eigenvalues: bool
    bar: Any = None
    steps: int = 0
    passed: tuple[float, Here] | None = None
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    @property
    def time(self) -> float:
        """Time of the last record."""
        return float(self.rows[-1][0]) if self.rows else 0.0

    def add(self, t: float, here: Here) -> None:
        """Pass a point, and record it where its turn has come."""
        self.passed = t, here
        if self.steps % self.every == 0:
            self.close()
        self.steps += 1

    def close(self) -> None:
        """Record the last point passed, unless it is recorded."""
        if self.passed is not None:
            with np.errstate(all="ignore"):
                self._record(*self.passed)
            self.passed = None

    def _record(self, t: float, here: Here) -> None:
        lin, local = here.local.lin, here.local
        cost = float(self.flow.problem.loss.value(lin.psi))
        distance = float(np.linalg.norm(lin.w - self.flow.start))
        length = float(np.sqrt(max(local.inner_product(here.velocity, here.velocity), 0.0)))
        smallest = np.nan
        if self.eigenvalues:
            smallest = (lin.smallest_singular_value / lin.model.scale) ** 2
        self.bar.update(t - self.time)
        self.bar.set_postfix_str(f"cost {cost:.6g}", refresh=False)
        self.rows.append((t, lin.w, lin.psi, cost, distance, length, smallest, here.damping))

    def trajectory(self, method: str, limit: float, end: str, used: Evaluations) -> Trajectory:
        """Everything recorded, in arrays."""
        times, w, psi, costs, distances, lengths, smallest, rho = (
            np.array(column) for column in zip(*self.rows, strict=True)
        )
        return Trajectory(
            times=times,
            parameters=w,
            outputs=psi,
            costs=costs,
            distances=distances,
            gradient_norms=lengths,
            smallest_eigenvalues=smallest,
            damping=rho,
            method=method,
            stability_limit=limit,
            end=end,
            evaluations=used,
            pieces=tuple(self.pieces),
        )


def _euler(flow: Flow, recorder: _Recorder, t_final: float, step: float) -> str:
    """Steps w <- w + dt ẇ, the last one shorter where t_final is no multiple; why it ends."""
    w, t = flow.start, 0.0
    steps = max(1, int(np.ceil(t_final / step - 1e-9)))
    recorder.add(t, flow.at(w))
    try:
        for k in range(steps):
            here = flow.at(w)
            following = min((k + 1) * step, t_final) if k + 1 < steps else t_final
            # whole steps are the numbers that an optimizer takes, free of the rounding of the times
            dt = step if abs(following - t - step) <= 1e-9 * step else following - t
            with np.errstate(over="ignore", invalid="ignore"):
                w = w + dt * here.velocity
            t = following
            recorder.add(t, flow.at(w))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except _ERRORS as error:
        return _FAILED.format(t, error)
    return FINISHED


def _runge_kutta(
    flow: Flow, recorder: _Recorder, solver: Any, t_final: float, rtol: float, limit: float
) -> str:
    """Steps of one of SciPy's solvers, kept with their interpolants; why it ends.

    What is integrated is w - w(0), so that tolerances are relative to how far the flow has gone:
    with a large scale α that is a small share of w. None is below the rounding of w.
    """
    trouble, refused = "the integrator could not take a step", False

    def velocity(_: float, moved: np.ndarray) -> np.ndarray:
        nonlocal trouble, refused
        if not np.all(np.isfinite(moved)):  # after a stage that failed
            return np.full_like(moved, np.nan)
        try:
            return flow.at(flow.start + moved).velocity
        except _ERRORS as error:
            trouble, refused = str(error), True
            return np.full_like(moved, np.nan)  # which makes the solver try a shorter step

    here = flow.at(flow.start)
    recorder.add(0.0, here)
    moves = min(t_final, limit) * np.abs(here.velocity)
    least = max(_AT_REST * np.max(moves), np.finfo(float).tiny)
    floor = np.maximum(_AHEAD * rtol * np.maximum(moves, least), _ROUNDING * np.abs(flow.start))
    t, moved = 0.0, np.zeros_like(flow.start)
    try:
        with np.errstate(all="ignore"):
            run = solver(velocity, 0.0, moved, t_final, rtol=rtol, atol=floor)
            while run.status == "running":
                refused = False
                run.step()
                # steps short enough to be taken may be too short to change w
                if run.status == "failed" or (refused and np.array_equal(run.y, moved)):
                    return _FAILED.format(t, trouble)
                here = flow.at(flow.start + run.y)
                recorder.pieces.append(Piece(t, run.t, flow.start, run.dense_output()))
                recorder.add(run.t, here)
                t, moved = run.t, run.y
    except KeyboardInterrupt:
        return _INTERRUPTED
    except _ERRORS as error:
        return _FAILED.format(t, error)
    return FINISHED


def _warn(step: float, limit: float) -> None:
    warnings.warn(
        f"Euler's method with step {step:.4g} is unstable where the flow starts, whose limit is "
        f"{limit:.4g}: take a step below that, or method='dop853'",
        UnstableStepWarning,
        stacklevel=3,
    )
