# %% [markdown]
# # Gauss-Newton as descent and as a trust region, on California Housing
#
# A network with one hidden layer of 18 tanh neurons is fitted to 256 census block groups. Its 256
# predictions depend on 144 parameters, so they form a 144-dimensional surface f(B) in R^256. The
# same least-squares problem is solved by pymanopt's own solvers on that surface and on the
# parameters with the Gauss-Newton metric, by Gauss-Newton with several safeguards, in a damped
# metric, and by Euclidean gradient descent.

# %%
import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# NumPy and SciPy have a pool of threads each; on a busy machine they wait for one another, and a
# problem of this size gains nothing from them. This must come before they are loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pymanopt.optimizers as host
from tqdm import tqdm

import gnmanifold as gn
from gnmanifold.optimizers import BackTracking, GaussNewton, TrustRegions, UnitStep
from gnmanifold.plotting import COLORS, plot_convergence, save_figure

OUTPUT = Path(__file__).parent / "output"
LEGEND = """
f(B) the prediction surface, JᵀJ the parameters with the Gauss-Newton metric (isometric to it),
damped 0.99 JᵀJ + 0.01 α² I, Euclidean the identity. |grad| is the gradient's norm in the metric of
its row. f values, J Jacobians, Jv products with J or Jᵀ without forming it, D²f second directional
derivatives. There are several local minima: rows that converged to different costs ended in
different ones."""

# %% [markdown]
# ## The problem
#
# One generator draws the rows, the signs of the output layer and the hidden weights, in this
# order. The factor α = 16 scales the predictions and with them the surface: a larger α makes it
# flatter where the fit takes place.


# %%
def build_model() -> tuple[gn.Model, np.ndarray]:
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(256, rng)
    network = gn.FeedforwardNetwork(X, widths=(18,), normalization="none", rng=rng)
    return gn.Scaled(network, 16.0), y


# %% [markdown]
# ## The methods
#
# "f(B)" is `OutputManifold`, "JᵀJ" is `ParameterManifold` with the Gauss-Newton metric; the two are
# isometric and give the same runs but for rounding. Trust regions need a second-order retraction
# for their model to be one of second order. pymanopt's own TrustRegions is called with
# `mininner=0`: after an inner iteration that solves its model exactly, as happens in this metric,
# a second one divides 0 by 0.


# %%
@dataclass(frozen=True)
class Method:
    name: str
    solver: Any
    metric: gn.GaussNewtonMetric | gn.EuclideanMetric | None  # None for f(B)
    retraction: str = "first_order"
    options: tuple[tuple[str, Any], ...] = ()
    color: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Run:
    method: Method
    iterations: int
    cost: float
    gradient_norm: float
    evaluations: gn.Evaluations
    seconds: float
    curve: dict[str, list[float]] | None


def methods(iterations: int) -> list[Method]:
    own = {"max_iterations": iterations, "verbosity": 0, "log_verbosity": 1}
    few = {**own, "max_iterations": min(iterations, 30)}  # enough to see that they are erratic
    unit = host.SteepestDescent(line_searcher=UnitStep(), **few)
    undamped, damped = gn.GaussNewtonMetric(), gn.GaussNewtonMetric(damping=0.01)
    rows = []
    for where, metric in (("f(B)", None), ("JᵀJ", undamped)):
        rows += [
            Method(f"SteepestDescent · {where}", host.SteepestDescent(**own), metric, color=0),
            Method(f"ConjugateGradient · {where}", host.ConjugateGradient(**own), metric, color=3),
            Method(
                f"TrustRegions · {where}",
                host.TrustRegions(**own),
                metric,
                "second_order",
                (("mininner", 0),),
            ),
        ]
    gradient_descent = host.SteepestDescent(**own)
    backtracking = host.SteepestDescent(line_searcher=BackTracking(), **own)
    return [
        *rows,
        Method("SteepestDescent(UnitStep) · JᵀJ", unit, undamped, color=6),
        Method("SteepestDescent(BackTracking) · damped", backtracking, damped, color=4),
        Method("SteepestDescent · Euclidean", gradient_descent, gn.EuclideanMetric(), color=5),
        Method("GaussNewton · f(B)", GaussNewton(**few), None, color=6),
        Method(
            "GaussNewton(BackTracking) · f(B)", GaussNewton(BackTracking(), **own), None, color=1
        ),
        Method(
            "GaussNewton(BackTracking), 2nd order · f(B)",
            GaussNewton(BackTracking(), **own),
            None,
            "second_order",
            color=1,
            dashed=True,
        ),
        Method("our TrustRegions · f(B)", TrustRegions(**own), None, "second_order", color=2),
    ]


# %% [markdown]
# ## The runs


# %%
def solve(method: Method, model: gn.Model, y: np.ndarray) -> Run:
    if method.metric is None:
        manifold = gn.OutputManifold(model, retraction=method.retraction)
    else:
        manifold = gn.ParameterManifold(model, method.metric, retraction=method.retraction)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(y))
    start = manifold.point(model.initial_parameters)
    before = replace(manifold.evaluations)
    began = time.time()
    result = method.solver.run(problem, initial_point=start, **dict(method.options))
    seconds = time.time() - began
    counts = {
        name: count - getattr(before, name) for name, count in vars(manifold.evaluations).items()
    }
    return Run(
        method,
        result.iterations,
        float(result.cost),
        float(result.gradient_norm),
        gn.Evaluations(**counts),
        seconds,
        curve(result, began, seconds),
    )


def curve(result: Any, began: float, seconds: float) -> dict[str, list[float]] | None:
    """Costs and times of a run; pymanopt's TrustRegions keeps no log, its others omit the end."""
    log = result.log["iterations"]
    if not log:
        return None
    costs, times = list(log["cost"]), [moment - began for moment in log["time"]]
    if costs[-1] != result.cost:
        costs, times = [*costs, result.cost], [*times, seconds]
    return {"cost": costs, "time": times}


# %% [markdown]
# ## What they reached
#
# Undamped unit Gauss-Newton steps are erratic here, whether called steepest descent or
# Gauss-Newton: the surface bends within one step. A line search or a trust region mends it; the
# retraction of second order, which follows the bend, makes the steps longer. Gradient descent in
# the Euclidean metric has to go round by the ill-conditioned parameters.


# %%
def table(runs: list[Run]) -> str:
    head = (
        f"{'method':45s} {'iter':>5s} {'cost':>9s} {'|grad|':>8s} "
        f"{'f':>5s} {'J':>5s} {'Jv':>5s} {'D²f':>5s} {'s':>6s}"
    )
    lines = [head, "-" * len(head)]
    for run in runs:
        count = run.evaluations
        lines.append(
            f"{run.method.name:45s} {run.iterations:5d} {run.cost:9.4f} {run.gradient_norm:8.1e} "
            f"{count.values:5d} {count.jacobians:5d} {count.products:5d} "
            f"{count.second_derivatives:5d} "
            f"{run.seconds:6.2f}"
        )
    return "\n".join([*lines, LEGEND])


def figure(runs: list[Run]) -> Any:
    shown = [run for run in runs if run.curve and not _repeats(run)]
    shown.sort(key=lambda run: run.method.color != 6)  # the erratic one behind the others
    lowest = min(min(run.curve["cost"]) for run in shown if run.curve)
    styles = {
        run.method.name: {
            "color": COLORS[run.method.color],
            "linestyle": "--" if run.method.dashed else "-",
            "linewidth": 0.8 if run.method.color == 6 else 1.8,
            "alpha": 0.4 if run.method.color == 6 else 1.0,
            "marker": "os^vD*P"[run.method.color],
            "markersize": 4,
        }
        for run in shown
    }
    return plot_convergence(
        {run.method.name: _above(lowest, run.curve) for run in shown if run.curve},
        styles,
        ylabel=f"cost ½|αf(w) - y|² above the lowest, {lowest:.4f}  (10¹⁰ $²)",
    )


def _above(lowest: float, curve: dict[str, list[float]]) -> dict[str, list[float]]:
    return {**curve, "cost": [max(cost - lowest, 1e-8) for cost in curve["cost"]]}


def _repeats(run: Run) -> bool:
    """Runs whose curve lies on another one's, by the isometry or because the steps are the same."""
    isometric = isinstance(run.method.metric, gn.GaussNewtonMetric) and run.method.color in (0, 3)
    return isometric or run.method.name == "GaussNewton · f(B)"


# %%
def main(arguments: list[str] | None = None) -> list[Run]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 iterations at most")
    quick = parser.parse_args(arguments).quick
    model, y = build_model()
    runs = []
    solve(methods(2)[0], model, y)  # the first call pays for loading, which is nobody's time
    for method in (progress := tqdm(methods(20 if quick else 300), disable=None)):
        progress.set_description(method.name)
        runs.append(solve(method, model, y))
    print(f"start: cost {0.5 * y @ y:.4f}, n = {model.num_outputs}, p = {model.num_parameters}")
    print(table(runs))
    path = save_figure(figure(runs), OUTPUT / "quickstart.png")
    print(f"figure: {path}")
    return runs


if __name__ == "__main__":
    main()
