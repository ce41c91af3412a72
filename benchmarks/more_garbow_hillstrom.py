"""Levenberg and Marquardt's method and SciPy's on the problems of Moré, Garbow and Hillstrom.

Run as `python benchmarks/more_garbow_hillstrom.py`, which takes minutes, or with `--quick` for
eight problems from their standard starts; otherwise all start at ten times those too.
`LevenbergMarquardt()` is as it comes, `scipy.optimize.least_squares` too ("lm" with x_scale="jac"),
and "lm 1e-15" has all its tolerances there and max_nfev=10000. All get the same exact Jacobian, and
are counted by the model. `at` tells whether a run ended at a published minimum: to the six digits
that are printed, and to 1e-18 where it is zero. `excess` is the sum of squares above the least in
its row, in units of the least published one unless that is zero. Of the totals, `near` counts those
within 1e-3 and 1e-10, which looser tolerances may stop at, `least` those at the least published
minimum, and D²f second derivatives along a direction, for geodesic acceleration and Newton steps.
The seconds are of one run and mostly autograd's, so compare only their ratios.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import gnmanifold as gn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mgh import PROBLEMS, Problem

FAILURES = (ValueError, np.linalg.LinAlgError, FloatingPointError, OverflowError)
TIGHT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 10_000}


class Counted(gn.AutogradModel):
    """The residual of a problem, counting what is asked of it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.residual, len(problem.start))
        self.values = self.jacobians = self.second_derivatives = 0

    def __call__(self, w: np.ndarray) -> np.ndarray:
        self.values += 1
        return super().__call__(w)

    def jacobian(self, w: np.ndarray) -> np.ndarray:
        self.jacobians += 1
        return super().jacobian(w)

    def second_derivative(self, w: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self.second_derivatives += 1
        return super().second_derivative(w, a, b)

    def weighted_hessian(self, w: np.ndarray, z: np.ndarray, a: np.ndarray) -> np.ndarray:
        self.second_derivatives += 1
        return super().weighted_hessian(w, z, a)


def ours(model: Counted, start: np.ndarray) -> float:
    manifold = gn.ParameterManifold(model, gn.EuclideanMetric())
    posed = gn.CompositeProblem(manifold, gn.SquaredError(np.zeros(model.num_outputs)))
    return gn.optimizers.LevenbergMarquardt(verbosity=0).run(posed, initial_point=start).cost


def scipys(model: Counted, start: np.ndarray, **settings: object) -> float:
    return least_squares(model, start, model.jacobian, **settings).cost


SOLVERS = {
    "LevenbergMarquardt": ours,
    "lm": partial(scipys, method="lm", x_scale="jac"),
    "lm 1e-15": partial(scipys, method="lm", x_scale="jac", **TIGHT),
    "trf": partial(scipys, method="trf"),
    "dogbox": partial(scipys, method="dogbox"),
}


@dataclass(frozen=True)
class Outcome:
    """How one run ended; its sum of squares is NaN where the solver failed."""

    problem: Problem
    model: Counted
    squares: float
    failed: bool
    seconds: float

    @property
    def at(self) -> bool:
        return any(map(self.reached, self.problem.minima))

    @property
    def near(self) -> bool:
        return any(self.reached(known, 1e-3, 1e-10) for known in self.problem.minima)

    @property
    def least(self) -> bool:
        return self.reached(min(self.problem.minima))

    def reached(self, known: float, relative: float = 1e-5, absolute: float = 1e-18) -> bool:
        return abs(self.squares - known) <= relative * known + absolute


def solve(solver: Callable, problem: Problem, factor: int) -> Outcome:
    model, start, failed = Counted(problem), factor * np.array(problem.start), False
    began = time.perf_counter()
    try:
        with np.errstate(all="ignore"):
            squares = 2 * float(solver(model, start))
    except FAILURES:
        squares, failed = np.nan, True
    return Outcome(problem, model, squares, failed, time.perf_counter() - began)


def cases(quick: bool) -> Iterator[tuple[Problem, int]]:
    for problem in PROBLEMS[::4] if quick else PROBLEMS:
        yield problem, 1
        if any(problem.start) and not quick:
            yield problem, 10


def heading() -> None:
    first, *others = SOLVERS
    print(f"{'':38s}{first:>26s}" + "".join(f" |{name:>20s}" for name in others))
    print(f"{'problem':24s} {'n x p':>7s} {'start':>5s}", end="")
    print(f"{'at':>6s} {'f':>5s} {'J':>5s} {'excess':>7s}", end="")
    print(f" |{'at':>6s} {'f':>5s} {'excess':>7s}" * len(others))


def line(factor: int, outcomes: list[Outcome]) -> str:
    problem, model = outcomes[0].problem, outcomes[0].model
    size = f"{model.num_outputs} x {model.num_parameters}"
    least = min((each.squares for each in outcomes if np.isfinite(each.squares)), default=np.nan)
    unit = min(problem.minima) or 1.0
    cells = [cell(each, (each.squares - least) / unit, each is outcomes[0]) for each in outcomes]
    return f"{problem.name:24s} {size:>7s} {factor:5d}" + " |".join(cells)


def cell(outcome: Outcome, excess: float, jacobians: bool) -> str:
    verdict = "failed" if outcome.failed else "yes" if outcome.at else "no"
    asked = f" {outcome.model.jacobians:5d}" if jacobians else ""
    return f"{verdict:>6s} {outcome.model.values:5d}{asked} {excess:7.0e}"


def total(name: str, outcomes: Sequence[Outcome]) -> str:
    solved = f"{count(outcomes, 'at')} of {len(outcomes)}"
    ended = [count(outcomes, kind) for kind in ("near", "least", "failed")]
    models = [each.model for each in outcomes]
    used = [count(models, kind) for kind in ("values", "jacobians", "second_derivatives")]
    cells = "".join(f"{number:8d}" for number in ended + used)
    return f"{name:20s}{solved:>10s}{cells}{count(outcomes, 'seconds'):9.2f}"


def count(things: Sequence[object], name: str) -> float:
    return sum(getattr(each, name) for each in things)


def totals(title: str, rows: list[list[Outcome]]) -> None:
    columns = ("near", "least", "failed", "f", "J", "D²f")
    print(f"\n{title:20s}{'solved':>10s}", end="")
    print("".join(f"{column:>8s}" for column in columns) + f"{'seconds':>9s}")
    for name, outcomes in zip(SOLVERS, zip(*rows, strict=True), strict=True):
        print(total(name, outcomes))


def main(quick: bool) -> None:
    rows: dict[int, list[list[Outcome]]] = {1: [], 10: []}
    heading()
    for problem, factor in cases(quick):
        outcomes = [solve(solver, problem, factor) for solver in SOLVERS.values()]
        rows[factor].append(outcomes)
        print(line(factor, outcomes), flush=True)
    totals("standard starts", rows[1])
    if rows[10]:
        totals("ten times those", rows[10])
        totals("all", rows[1] + rows[10])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="eight problems, standard starts")
    main(parser.parse_args().quick)
