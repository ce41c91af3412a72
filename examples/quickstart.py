"""Gauss-Newton as descent and as a trust region, on California Housing
====================================================================

A network with one hidden layer of 18 tanh neurons is fitted to 256 census block groups. Its 256
predictions depend on 144 parameters, so they form a 144-dimensional surface f(B) in R^256. The
same least-squares problem is solved by pymanopt's own solvers on that surface and on the
parameters with the Gauss-Newton metric, by Gauss-Newton with several safeguards, in a damped
metric, and by Euclidean gradient descent.
"""

# %%
import os
import sys
from dataclasses import dataclass
from typing import Any

# NumPy and SciPy have a pool of threads each; on a busy machine they wait for one another, and a
# problem of this size gains nothing from them. This must come before they are loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pymanopt.optimizers as host

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.optimizers import BackTracking, GaussNewton, TrustRegions, UnitStep
from gnmanifold.plotting import COLORS, plot_convergence, save_figure

LEGEND = """
f(B) the prediction surface, JᵀJ the parameters with the Gauss-Newton metric (isometric to it),
damped 0.99 JᵀJ + 0.01 α² I, Euclidean the identity. There are several local minima: rows that
converged to different costs ended in different ones."""

# %% [markdown]
# The problem
# -----------
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
# The methods
# -----------
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
# The runs
# --------


# %%
def problem_of(method: Method, model: gn.Model, y: np.ndarray) -> gn.CompositeProblem:
    if method.metric is None:
        manifold = gn.OutputManifold(model, retraction=method.retraction)
    else:
        manifold = gn.ParameterManifold(model, method.metric, retraction=method.retraction)
    return gn.CompositeProblem(manifold, gn.SquaredError(y))


def solve(chosen: list[Method], model: gn.Model, y: np.ndarray, progress: bool) -> gn.Comparison:
    entries = {
        method.name: (method.solver, problem_of(method, model, y), dict(method.options))
        for method in chosen
    }
    first = problem_of(chosen[0], model, y)
    return gn.compare(entries, first, model.initial_parameters, progress=progress)


# %% [markdown]
# What they reached
# -----------------
#
# Undamped unit Gauss-Newton steps are erratic here, whether called steepest descent or
# Gauss-Newton: the surface bends within one step. A line search or a trust region mends it; the
# retraction of second order, which follows the bend, makes the steps longer. Gradient descent in
# the Euclidean metric has to go round by the ill-conditioned parameters.


# %%
def figure(comparison: gn.Comparison, chosen: list[Method]) -> Any:
    shown = [method for method in chosen if not _repeats(method)]
    shown.sort(key=lambda method: method.color != 6)  # the erratic one behind the others
    curves = {method.name: comparison[method.name] for method in shown}
    lowest = min(min(run.costs) for run in curves.values())
    styles = {
        method.name: {
            "color": COLORS[method.color],
            "linestyle": "--" if method.dashed else "-",
            "linewidth": 0.8 if method.color == 6 else 1.8,
            "alpha": 0.4 if method.color == 6 else 1.0,
            "marker": "os^vD*P"[method.color],
            "markersize": 4,
        }
        for method in shown
    }
    drawn = {
        name: {"cost": [max(cost - lowest, 1e-8) for cost in run.costs], "time": run.times}
        for name, run in curves.items()
    }
    label = f"cost ½|αf(w) - y|² above the lowest, {lowest:.4f}  (10¹⁰ $²)"
    return plot_convergence(drawn, styles, ylabel=label)


def _repeats(method: Method) -> bool:
    """Whether the curve lies on another one's, by isometry or equal steps, or is not known."""
    isometric = isinstance(method.metric, gn.GaussNewtonMetric) and method.color in (0, 3)
    return isometric or method.name in (
        "GaussNewton · f(B)", "TrustRegions · f(B)", "TrustRegions · JᵀJ",
    )  # fmt: skip


# %%
def main(arguments: list[str] | None = None) -> gn.Comparison:
    quick = quick_asked("Gauss-Newton as descent and as a trust region", arguments)
    model, y = build_model()
    chosen = methods(20 if quick else 300)
    solve(methods(2)[:1], model, y, False)  # pays for loading, which is nobody's time
    comparison = solve(chosen, model, y, progress=sys.stderr.isatty())
    print(f"start: cost {0.5 * y @ y:.4f}, n = {model.num_outputs}, p = {model.num_parameters}")
    print(comparison)
    print(LEGEND)
    path = save_figure(figure(comparison, chosen), OUTPUT / "quickstart.png")
    print(f"figure: {path}")
    return comparison


if __name__ == "__main__":
    main()
