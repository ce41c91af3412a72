"""Several optimizers on one problem, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from typing import Any

import numpy as np
from tqdm import tqdm

from gnmanifold.errors import ArgumentError, GnmanifoldError
from gnmanifold.linearization import Evaluations
from gnmanifold.optimizers.base import Result
from gnmanifold.problems import CompositeProblem

_LEGEND = (
    "|∇h| is the Euclidean norm of the gradient by the parameters. f values, J Jacobians, Jv\n"
    "products with J or Jᵀ without forming it, D²f directional second derivatives, fact.\n"
    "factorizations."
)
_COUNTS = {  # with the width of their columns
    "values": 6,
    "jacobians": 6,
    "products": 7,
    "second_derivatives": 7,
    "factorizations": 6,
}
_SENTENCE = 60  # characters of a stop reason that the table shows


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a comparison; `steps`, `costs` and `times` are those of the iterations logged.

    `gradient_norm` is |Jᵀ∇g|, that of the parameters, or the optimizer's own where the problem is
    no CompositeProblem; `result` is what the optimizer returned, None where it raised an error.
    """

    name: str
    cost: float
    gradient_norm: float
    iterations: int
    seconds: float
    stopping_criterion: str
    evaluations: Evaluations | None = None
    steps: tuple[int, ...] = ()
    costs: tuple[float, ...] = ()
    times: tuple[float, ...] = ()
    result: Any = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of several optimizers, which print as a table and plot as a figure.

    `comparison["name"]` is a run. It has the `cost`, `gradient_norm`, `iterations`, `seconds` and
    `evaluations` of the whole, the `steps`, `costs` and `times` that were logged, the
    `stopping_criterion` and the optimizer's own `result`.
    """

    runs: tuple[Run, ...]

    def __getitem__(self, name: str) -> Run:
        for run in self.runs:
            if run.name == name:
                return run
        listed = ", ".join(run.name for run in self.runs)
        raise KeyError(f"no run is called {name!r}; there are {listed}")

    @property
    def best(self) -> Run:
        """The run with the lowest cost."""
        return min(self.runs, key=lambda run: np.nan_to_num(run.cost, nan=np.inf))

    def table(self) -> str:
        """Table of the runs: iterations, evaluations, time, cost, gradient norm, stop reason."""
        width = max(len("optimizer"), *(len(run.name) for run in self.runs))
        head = (
            f"{'optimizer':{width}s} {'cost':>13s} {'|∇h|':>8s} {'iter':>6s} {'f':>6s} {'J':>6s} "
            f"{'Jv':>7s} {'D²f':>7s} {'fact':>6s} {'s':>8s}  how it ended"
        )
        lines = [head, "-" * (len(head) + _SENTENCE - 12)]
        for run in self.runs:
            counts = " ".join(
                f"{'-' if run.evaluations is None else getattr(run.evaluations, name):>{size}}"
                for name, size in _COUNTS.items()
            )
            lines.append(
                f"{run.name:{width}s} {run.cost:13.6g} {run.gradient_norm:8.1e} "
                f"{run.iterations:6d} {counts} {run.seconds:8.3f}  "
                f"{_shortened(run.stopping_criterion)}"
            )
        return "\n".join([*lines, _LEGEND])

    __str__ = table

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings of all runs, by name, for JSON."""
        return {
            run.name: {
                "cost": run.cost,
                "gradient_norm": run.gradient_norm,
                "iterations": run.iterations,
                "seconds": run.seconds,
                "stopping_criterion": run.stopping_criterion,
                "evaluations": None if run.evaluations is None else asdict(run.evaluations),
                "costs": list(run.costs),
                "times": list(run.times),
            }
            for run in self.runs
        }

    def plot(self, **options: Any) -> Any:
        """Figure of the costs against iterations and time; options of plot_comparison."""
        from gnmanifold.plotting import plot_comparison

        return plot_comparison(self, **options)


def compare(
    optimizers: Mapping[str, Any] | Sequence[Any],
    problem: Any,
    initial_point: Any,
    *,
    progress: bool = False,
) -> Comparison:
    """Run several optimizers, ours or pymanopt's, on one problem from one point.

    `optimizers` is a sequence, or a mapping from the names that the table shows. An entry is an
    optimizer; (optimizer, problem) where it has a manifold of its own, for the same model and loss;
    or (optimizer, problem, options) with keywords for its `run`. `initial_point` may be parameters
    (p,). Counts and times are those of the run alone. An optimizer that fails with an error is a
    row with the reason, and the others run; Ctrl-C between or within pymanopt's own returns the
    runs so far.
    Raises ArgumentError where there is nothing to compare or an entry cannot run.

    >>> import gnmanifold as gn
    >>> model = gn.CallableModel(lambda w: np.exp(w), num_parameters=2)
    >>> problem = gn.CompositeProblem(gn.ParameterManifold(model), gn.SquaredError([1.0, 2.0]))
    >>> solvers = [gn.optimizers.GaussNewton(verbosity=0), gn.optimizers.BFGS(verbosity=0)]
    >>> comparison = compare(solvers, problem, np.zeros(2))
    >>> [run.name for run in comparison.runs], comparison.best.cost < 1e-10
    (['GaussNewton', 'BFGS'], True)
    """
    entries = _entries(optimizers, problem)
    w = getattr(initial_point, "parameters", initial_point)
    runs = []
    with tqdm(entries.items(), disable=not progress) as bar:
        for name, (optimizer, posed, options) in bar:
            bar.set_description(name)
            try:
                runs.append(_run(name, optimizer, posed, options, w))
            except KeyboardInterrupt:
                if not runs:
                    raise
                break
    return Comparison(tuple(runs))


def _run(name: str, optimizer: Any, problem: Any, options: Mapping[str, Any], w: Any) -> Run:
    counts = getattr(problem.manifold, "evaluations", None)
    before = None if counts is None else replace(counts)
    if counts is not None:
        problem.manifold.forget()  # what an earlier run knew is not this run's
    began = time.time()
    try:
        start = problem.manifold.as_point(w) if isinstance(problem, CompositeProblem) else w
        result = optimizer.run(problem, initial_point=start, **options)
    except (GnmanifoldError, ArithmeticError, ValueError, RuntimeError, TypeError) as error:
        reason = f"Failed: {type(error).__name__}: {error}"
        seconds = time.time() - began
        return Run(name, np.nan, np.nan, 0, seconds, reason, _used(counts, before))
    seconds = time.time() - began
    used = _used(counts, before)
    steps, costs, times = _curve(result, began, seconds)
    return Run(
        name,
        float(result.cost),
        _gradient_norm(problem, result),
        int(result.iterations),
        seconds,
        str(result.stopping_criterion),
        used,
        steps,
        costs,
        times,
        result,
    )


def _used(counts: Evaluations | None, before: Evaluations | None) -> Evaluations | None:
    if counts is None or before is None:
        return None
    old = asdict(before)
    return Evaluations(**{key: n - old[key] for key, n in asdict(counts).items()})


def _curve(
    result: Any, began: float, seconds: float
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Iterations, costs and times; pymanopt's logs omit the end, that of TrustRegions all."""
    log = (result.log or {}).get("iterations") or {}
    costs = [float(cost) for cost in log.get("cost", ())]
    times = [float(moment) - began for moment in log.get("time", ())]
    steps = [int(k) for k in log.get("iteration", range(len(costs)))]
    if not isinstance(result, Result):
        steps.append(int(result.iterations))
        costs.append(float(result.cost))
        times.append(seconds)
    return tuple(steps), tuple(costs), tuple(times)


def _gradient_norm(problem: Any, result: Any) -> float:
    if not isinstance(problem, CompositeProblem):
        return float(np.nan if result.gradient_norm is None else result.gradient_norm)
    lin = problem.manifold.at(result.point).lin
    return float(np.linalg.norm(lin.pull_covector(problem.loss.gradient(lin.psi))))


def _entries(
    optimizers: Mapping[str, Any] | Sequence[Any], problem: Any
) -> dict[str, tuple[Any, Any, Mapping[str, Any]]]:
    """Optimizer, problem and options by name; equal names get a number."""
    if not isinstance(optimizers, Mapping | Sequence):
        raise ArgumentError(f"expected a list or dict of optimizers, got {optimizers!r}")
    if isinstance(optimizers, Mapping):
        named = list(optimizers.items())
    else:
        named = [(_name(entry), entry) for entry in optimizers]
    if not named:
        raise ArgumentError("there is nothing to compare: give at least one optimizer")
    entries: dict[str, tuple[Any, Any, Mapping[str, Any]]] = {}
    for name, entry in named:
        optimizer, posed, options = entry, problem, dict[str, Any]()
        if isinstance(entry, tuple):
            optimizer, posed, options = (*entry, *(problem, options)[len(entry) - 1 :])[:3]
        if not hasattr(optimizer, "run") or isinstance(optimizer, type):
            raise ArgumentError(
                f"expected optimizers, such as LevenbergMarquardt(), got {optimizer!r}"
            )
        if not hasattr(posed, "manifold") or not isinstance(options, Mapping):
            raise ArgumentError(
                "an entry is an optimizer, (optimizer, problem) or (optimizer, problem, options)"
            )
        entries[_free(str(name), entries)] = (optimizer, posed, options)
    return entries


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or the first "name #k" that is not taken."""
    candidates = chain([name], (f"{name} #{k}" for k in count(2)))
    return next(each for each in candidates if each not in taken)


def _name(entry: Any) -> str:
    return type(entry[0] if isinstance(entry, tuple) else entry).__name__


def _shortened(sentence: str) -> str:
    """The beginning of a stop reason, of what it adds where it is the usual words and a reason."""
    sentence = sentence.partition("Reason: ")[2] or sentence
    return sentence if len(sentence) <= _SENTENCE else sentence[: _SENTENCE - 1] + "…"
