"""The loop that every optimizer of the package shares: start, step, log, stop."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from pymanopt.optimizers.optimizer import Optimizer as HostOptimizer
from pymanopt.optimizers.optimizer import OptimizerResult
from pymanopt.tools.printer import ColumnPrinter, VoidPrinter, print_list
from tqdm import tqdm

from gnmanifold.errors import ArgumentError, GnmanifoldError, NonFiniteError
from gnmanifold.linearization import Evaluations
from gnmanifold.optimizers.stopping import Criterion, Record
from gnmanifold.validation import limit, nonnegative


class StopReason(str, Enum):
    """Why a run ended: each value is the sentence that the user reads."""

    GRADIENT = (
        "Converged: the gradient norm is below min_gradient_norm (absolute: lower it for problems "
        "in small units)."
    )
    STEP = (
        "Stopped: the last step is shorter than min_step_size (a length: lower it for problems in "
        "small units), or the line search refused every trial along this direction."
    )
    DIVERGED = (
        "Stopped: the gradient norm is below min_gradient_norm, but at a cost above the start's: "
        "the steps overshot; bound them with BackTracking(), a trust region or damping."
    )
    RADIUS = (
        "Stopped: the trust region shrank below min_step_size: rounding hides further decrease, "
        "units are small (lower it), or derivatives are wrong (check_gradient, check_hessian)."
    )
    SETTLED = "Converged: an undamped Gauss-Newton step no longer changes the parameters."
    ORTHOGONAL = (
        "Converged: the residual is orthogonal to the prediction surface, or zero, to rounding."
    )
    ROUNDING = "Converged: what a further step could gain is below the rounding of the cost."
    REFUSED = (
        "Stopped: no step that changes the parameters decreases the cost: rounding hides further "
        "decrease, or derivatives are wrong (check_gradient)."
    )
    OVERFLOW = (
        "Stopped: the step leads where the cost is not finite; the best point so far is returned. "
        "Take a damping that adapts, or a line search."
    )
    ITERATIONS = (
        "Stopped: max_iterations reached; the last point is returned, the log has the rest."
    )
    ROSE = (
        "Stopped: max_iterations reached; the last point is returned, at a cost above the start's, "
        "the log has the rest. Bound the steps with BackTracking(), a trust region or damping."
    )
    TIME = "Stopped: max_time reached; the best point so far is returned."
    EVALUATIONS = "Stopped: max_cost_evaluations reached; the best point so far is returned."
    INTERRUPTED = "Stopped: interrupted by the user; the best point so far is returned."
    CRITERION = "Stopped: the criterion given as `stop` is met; the best point so far is returned."
    FAILED = "Stopped: the step failed; the best point so far is returned."

    def __str__(self) -> str:
        return str(self.value)


_UNFINISHED = (
    StopReason.STEP,
    StopReason.DIVERGED,
    StopReason.REFUSED,
    StopReason.OVERFLOW,
    StopReason.TIME,
    StopReason.EVALUATIONS,
    StopReason.CRITERION,
    StopReason.INTERRUPTED,
    StopReason.FAILED,
)


@dataclass(frozen=True, eq=False)
class State:
    """Where a run stands: iterations done, point, cost, Riemannian gradient, last step length."""

    iteration: int
    point: Any
    cost: float
    gradient: np.ndarray
    gradient_norm: float
    step_size: float = np.inf
    failure: str = ""  # why there is no gradient at this point, which ends the run

    def record(self) -> dict[str, Any]:
        """What the log keeps of this state beside point and cost."""
        return {"gradient_norm": self.gradient_norm, "step_size": self.step_size}


@dataclass(repr=False)
class Result(OptimizerResult):
    """pymanopt's OptimizerResult with the counts of what was evaluated, and a short repr."""

    evaluations: Evaluations | None = None

    def __repr__(self) -> str:
        return (
            f"Result(cost={self.cost:.6g}, gradient_norm={self.gradient_norm:.1e}, "
            f"iterations={self.iterations}, stopping_criterion={self.stopping_criterion!r})"
        )


S = TypeVar("S", bound=State)
Callback = Callable[[State], None]


class Optimizer(HostOptimizer):
    """Base of the optimizers: pymanopt's keywords and result, a complete log, and safe ends.

    A subclass writes `_step`, a pure function of the state, and `_start` where its state needs
    more. The log has an entry for the start and for every iteration, the last one included.
    Ctrl-C, a time-out or a failing step end the run with the best point and the reason. `stop` is
    a criterion of gnmanifold.optimizers.stopping that ends the run beside the limits, `progress`
    shows a bar in place of the table.
    Raises ArgumentError for limits out of range or what is no criterion.
    """

    def __init__(
        self,
        *,
        max_time: float = 1000.0,
        max_iterations: int = 1000,
        min_gradient_norm: float = 1e-6,
        min_step_size: float = 1e-10,
        max_cost_evaluations: int = 5000,
        stop: Criterion | None = None,
        progress: bool = False,
        verbosity: int = 2,
        log_verbosity: int = 1,
    ) -> None:
        if stop is not None and not isinstance(stop, Criterion):
            raise ArgumentError(f"stop must be a criterion such as CostBelow(1e-8), got {stop!r}")
        self._criterion, self._progress = stop, bool(progress)
        limit("max_time", max_time)
        if max_iterations != 0:
            limit("max_iterations", max_iterations)
        nonnegative("min_gradient_norm", min_gradient_norm)
        nonnegative("min_step_size", min_step_size)
        limit("max_cost_evaluations", max_cost_evaluations)
        super().__init__(
            max_time=max_time,
            max_iterations=max_iterations,
            min_gradient_norm=min_gradient_norm,
            min_step_size=min_step_size,
            max_cost_evaluations=max_cost_evaluations,
            verbosity=verbosity,
            log_verbosity=log_verbosity,
        )

    @abstractmethod
    def _step(self, problem: Any, state: State) -> State:
        """State after one more iteration."""

    def _start(self, problem: Any, point: Any) -> State:
        """State before the first iteration; raises NonFiniteError for a cost that is not finite."""
        cost = problem.cost(point)
        if not np.isfinite(cost):
            raise NonFiniteError(f"the cost at the initial point is {cost}: start elsewhere")
        gradient = problem.riemannian_gradient(point)
        return State(0, point, cost, gradient, float(problem.manifold.norm(point, gradient)))

    def _at(self, problem: Any, state: S) -> S:
        """The same state with the gradient of its point, or with the reason why it has none."""
        try:
            gradient = problem.riemannian_gradient(state.point)
        except GnmanifoldError as error:
            return replace(state, gradient_norm=np.nan, failure=str(error))
        norm = float(problem.manifold.norm(state.point, gradient))
        return replace(state, gradient=gradient, gradient_norm=norm)

    def run(
        self,
        problem: Any,
        *,
        initial_point: Any = None,
        callback: Callback | None = None,
    ) -> Result:
        """Minimise the cost of a pymanopt problem from a point, or from a random one.

        On the package's manifolds `initial_point` may be parameters (p,) or an OutputPoint.
        `callback` is called with every state. Errors at the initial point are raised.
        """
        counts = getattr(problem.manifold, "evaluations", None)
        before = None if counts is None else replace(counts)
        began = time.time()
        self._initialize_log(optimizer_parameters=self._parameters())
        printer = self._printer()
        with np.errstate(all="ignore"):
            state = best = self._start(problem, _initial_point(problem.manifold, initial_point))
        clock = _Clock(began, state.cost, counts, before)
        end: _End | None = None
        with self._bar() as bar:
            while end is None:
                best = state if state.cost <= best.cost else best
                bar.set_postfix_str(f"cost {state.cost:.6g}", refresh=False)
                state, end = self._advance(problem, state, clock, callback, printer)
                bar.update(end is None)
            bar.total = bar.n
        final = best if end.reason in _UNFINISHED else state
        if self._verbosity >= 1:
            print_list([end.sentence])
        used = clock.used()
        return Result(
            point=final.point,
            cost=final.cost,
            iterations=state.iteration,
            stopping_criterion=end.sentence,
            time=time.time() - clock.began,
            cost_evaluations=None if used is None else used.values,
            step_size=state.step_size,
            gradient_norm=final.gradient_norm,
            log=self._log,
            evaluations=used,
        )

    def _advance(
        self,
        problem: Any,
        state: State,
        clock: _Clock,
        callback: Callback | None,
        printer: VoidPrinter,
    ) -> tuple[State, _End | None]:
        """Next state, or the same state and why the run ends there."""
        try:
            self._log_state(state, clock.used())
            printer.print_row([state.iteration, state.cost, state.gradient_norm])
            if callback is not None:
                callback(state)
            end = self._end(state, clock)
            if end is not None:
                return state, end
        except KeyboardInterrupt:
            return state, _End(StopReason.INTERRUPTED)
        return self._guarded_step(problem, state)

    def _end(self, state: State, clock: _Clock) -> _End | None:
        """Why the run ends at a state, or None."""
        if state.failure:
            return _End(StopReason.FAILED, state.failure)
        reason = self._stop(state, clock)
        if reason:
            return _End(reason)
        if self._criterion is None:
            return None
        clock.history.append(Record(state.cost, state.gradient_norm))
        met = self._criterion.met(state, clock.history)
        return _End(StopReason.CRITERION, met) if met else None

    def _guarded_step(self, problem: Any, state: State) -> tuple[State, _End | None]:
        """Next state, or the same one where the step was interrupted or failed numerically."""
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused, or an error of its own
                return self._step(problem, state), None
        except KeyboardInterrupt:
            return state, _End(StopReason.INTERRUPTED)
        except NotImplementedError:  # nothing failed: something is missing
            raise
        except (GnmanifoldError, ArithmeticError, ValueError, RuntimeError) as error:
            return state, _End(StopReason.FAILED, f"{type(error).__name__}: {error}")

    def _parameters(self) -> dict[str, Any]:
        """What the log says of the optimizer's own settings."""
        return {}

    def _stop(self, state: State, clock: _Clock) -> StopReason | None:
        used = clock.used()
        if state.gradient_norm <= self._min_gradient_norm:
            above = state.cost > clock.start_cost
            return StopReason.DIVERGED if above else StopReason.GRADIENT
        if state.step_size == 0 or state.step_size < self._min_step_size:
            return StopReason.STEP
        if state.iteration >= self._max_iterations:
            return StopReason.ROSE if state.cost > clock.start_cost else StopReason.ITERATIONS
        if time.time() - clock.began >= self._max_time:
            return StopReason.TIME
        if used is not None and used.values >= self._max_cost_evaluations:
            return StopReason.EVALUATIONS
        return None

    def _printer(self) -> VoidPrinter:
        if self._verbosity < 2 or self._progress:
            return VoidPrinter()
        columns = [("Iteration", "9d"), ("Cost", "+.16e"), ("Gradient norm", ".8e")]
        printer = ColumnPrinter(columns=columns)
        printer.print_header()
        return printer

    def _bar(self) -> Any:
        """Progress bar, silent unless it was asked for."""
        total = self._max_iterations if np.isfinite(self._max_iterations) else None
        return tqdm(total=total, desc=str(self), unit="it", disable=not self._progress)

    def _log_state(self, state: State, used: Evaluations | None) -> None:
        self._add_log_entry(
            iteration=state.iteration,
            point=state.point,
            cost=state.cost,
            **state.record(),
            **({} if used is None else asdict(used)),
        )


@dataclass(frozen=True)
class _End:
    """Why a run ended, with what the reason needs to add."""

    reason: StopReason
    detail: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.reason} Reason: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True)
class _Clock:
    """When a run began and what had been evaluated before it."""

    began: float
    start_cost: float
    counts: Evaluations | None
    before: Evaluations | None
    history: list[Record] = field(default_factory=list)

    def used(self) -> Evaluations | None:
        """What the run has evaluated so far; None on manifolds that do not count."""
        if self.counts is None or self.before is None:
            return None
        old = asdict(self.before)
        return Evaluations(**{name: n - old[name] for name, n in asdict(self.counts).items()})


def _initial_point(manifold: Any, point: Any) -> Any:
    """Point to start from: checked on the package's manifolds, where parameters are one too."""
    if point is None:
        return manifold.random_point()
    return manifold.as_point(point) if hasattr(manifold, "as_point") else point
