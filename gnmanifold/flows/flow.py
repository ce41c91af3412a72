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
from scipy.sparse.linalg import LinearOperator, eigsh
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
from gnmanifold.validation import as_vector, one_of, positive, positive_int

SOLVERS = {"rk45": RK45, "dop853": DOP853}
METHODS = ("euler", *SOLVERS)
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
    "euler" takes steps w <- w + `step` ẇ, those of the optimizers with ConstantStep; "rk45" and
    "dop853" are SciPy's, with relative tolerance `rtol`. Each `every`-th step is recorded;
    `eigenvalues=False` leaves λ_min out. Where the flow cannot be followed, or Ctrl-C ends it, the
    trajectory up to there is returned and says so.
    Raises ArgumentError, ShapeError or NonFiniteError for bad arguments and starting points; warns
    UnstableStepWarning for Euler's method with a step above the stability limit.
    S. Cayci, arXiv 2412.14031v5, (6), (7); E. Hairer, S. P. Norsett and G. Wanner.
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
    limit = stability_limit(flow.at(flow.start), problem)
    if method == "euler" and step >= limit:
        _warn(step, limit)
    with tqdm(total=float(t_final), unit="t", desc=method, disable=not progress) as bar:
        recorder.bar = bar
        if method == "euler":
            end = _euler(flow, recorder, t_final, step)
        else:
            end = _runge_kutta(flow, recorder, SOLVERS[method], t_final, rtol)
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
    start: Vector
    schedule: DampingSchedule | None
    last: Here | None = None

    def at(self, w: Vector) -> Here:
        """Point of the flow; raises where there is none."""
        if self.last is None or not np.array_equal(self.last.local.lin.w, w):
            self.last = self._there(w)
        return self.last

    def _there(self, w: Vector) -> Here:
        lin, loss = self._linearization(w), self.problem.loss
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

    def _linearization(self, w: Vector) -> Linearization:
        return Linearization(self.problem.model, w, counts=self.problem.manifold.evaluations)


def stability_limit(here: Here, problem: CompositeProblem) -> float:
    """Step 2/λ_max(G⁻¹JᵀAJ), A = ∇²g, up to which Euler's method is stable, linearised at a point.

    For the metric (7) and A <= μ I it is at least 2/(μ h_ρ(|K|)), h_ρ(x) = x/((1-ρ)x + ρ).
    Flows in the metric of a Hessian are linearised by the identity: the limit is 2.
    """
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
    values = eigsh(operator, k=1, which="LA", v0=start, tol=1e-8, return_eigenvectors=False)
    return float(values[0])


def _start(
    problem: CompositeProblem, w0: ArrayLike, damping: DampingSchedule | float | None
) -> Flow:
    """Flow with the schedule of a run that starts at w0."""
    w = as_vector("w0", getattr(w0, "parameters", w0), problem.model.num_parameters)
    if damping is None:
        return Flow(problem, w, None)
    metric = problem.manifold.metric
    if not isinstance(metric, GaussNewtonMetric | GeneralizedGaussNewtonMetric):
        raise ArgumentError(
            "a damping in [0, 1] is for GaussNewtonMetric, GeneralizedGaussNewtonMetric and "
            f"FisherMetric; the manifold has {metric}"
        )
    flow = Flow(problem, w, as_schedule(damping))
    lin = flow._linearization(w)
    flow.schedule = as_schedule(damping).start(lin, problem.loss)
    return flow


@dataclass(eq=False)
class _Recorder:
    """What a flow has passed, a row for each record."""

    flow: Flow
    every: int
    eigenvalues: bool
    bar: Any = None
    steps: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    @property
    def time(self) -> float:
        """Time of the last record."""
        return float(self.rows[-1][0]) if self.rows else 0.0

    def add(self, t: float, here: Here, last: bool) -> None:
        """Record a step where its turn has come or it is the last one."""
        turn, self.steps = self.steps % self.every == 0 or last, self.steps + 1
        if not turn:
            return
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
    steps = int(np.ceil(t_final / step - 1e-9))
    try:
        for k in range(steps + 1):
            here = flow.at(w)
            recorder.add(t, here, last=k == steps)
            following = min((k + 1) * step, t_final) if k + 1 < steps else t_final
            # whole steps are the numbers that an optimizer takes, free of the rounding of the times
            dt = step if abs(following - t - step) <= 1e-9 * step else following - t
            with np.errstate(over="ignore", invalid="ignore"):
                w = w + dt * here.velocity
            t = following
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (GnmanifoldError, ArithmeticError, np.linalg.LinAlgError) as error:
        return _FAILED.format(t, error)
    return FINISHED


def _runge_kutta(flow: Flow, recorder: _Recorder, solver: Any, t_final: float, rtol: float) -> str:
    """Steps of one of SciPy's solvers, kept with their interpolants; why it ends."""
    trouble = "the integrator could not take a step"

    def velocity(_: float, w: np.ndarray) -> np.ndarray:
        nonlocal trouble
        try:
            return flow.at(w).velocity
        except (GnmanifoldError, ArithmeticError, np.linalg.LinAlgError) as error:
            trouble = str(error)
            return np.full_like(w, np.nan)  # which makes the solver try a shorter step

    here = flow.at(flow.start)
    scale = float(np.max(np.abs(flow.start))) or 1.0
    try:
        recorder.add(0.0, here, last=False)
        with np.errstate(all="ignore"):
            run = solver(velocity, 0.0, flow.start, t_final, rtol=rtol, atol=1e-3 * rtol * scale)
            while run.status == "running":
                run.step()
                if run.status == "failed":
                    return _FAILED.format(run.t, trouble)
                recorder.add(run.t, flow.at(run.y), last=run.status == "finished")
                recorder.pieces.append(Piece(run.t_old, run.t, run.dense_output()))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return FINISHED


def _warn(step: float, limit: float) -> None:
    warnings.warn(
        f"Euler's method with step {step:.4g} is unstable where the flow starts, whose limit is "
        f"{limit:.4g}: take a step below that, or method='dop853'",
        UnstableStepWarning,
        stacklevel=3,
    )
