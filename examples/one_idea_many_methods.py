"""One idea, many methods
======================

An optimizer is a metric, a Hessian model, a retraction and a globalisation. This page runs the
table of that sentence on one network, checks the equalities between its rows, takes one
Gauss-Newton step along a geodesic of a flat surface, and follows the same metrics in continuous
time.
"""

# %%
import os
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, quick_asked, table
from gnmanifold.damping import Adaptive, ConstantLambda
from gnmanifold.flows import integrate
from gnmanifold.optimizers import (
    BFGS,
    KFAC,
    LBFGS,
    Adam,
    BackTracking,
    ConstantStep,
    FilteredNewton,
    GaussNewton,
    GradientDescent,
    HessianFree,
    LevenbergMarquardt,
    NaturalGradient,
    Newton,
    SharpnessAware,
    TrustRegions,
    UnitStep,
)
from gnmanifold.plotting import COLORS, save_figure


@dataclass(frozen=True)
class Method:
    name: str
    metric: str  # of the step
    hessian: str  # in that metric
    retraction: str
    globalisation: str
    optimizer: Any
    on: str = "parameters"  # or "surface", or "metric" for the Gauss-Newton metric of parameters


# %% [markdown]
# The table
# ---------
#
# A row is a choice in four places. Where the Hessian model is the identity, the method is steepest
# descent in the metric of its row; trust regions and quasi-Newton methods have another model in the
# metric of their manifold. "straight" is the first-order retraction w + a, "bent" the second-order
# one, which follows the surface.


# %%
def methods(**limits: Any) -> list[Method]:
    search, own = BackTracking(), {"verbosity": 0, **limits}
    line, ratio, radius = "backtracking", "gain ratio, λ", "trust radius"
    return [
        Method("GradientDescent", "I", "identity", "straight", line, GradientDescent(**own)),
        Method(
            "GradientDescent, momentum",
            "I",
            "identity",
            "straight",
            line,
            GradientDescent(momentum=0.9, **own),
        ),
        Method(
            "SharpnessAware",
            "I",
            "identity",
            "straight",
            line,
            SharpnessAware(**own),
        ),
        Method(
            "Adam", "diagonal, running", "identity", "straight", "constant step", Adam(0.02, **own)
        ),
        Method("BFGS", "I", "secant pairs", "straight", line, BFGS(**own)),
        Method("LBFGS", "I", "secant pairs", "straight", line, LBFGS(**own)),
        Method("LBFGS on f(B)", "JᵀJ", "secant pairs", "bent", line, LBFGS(**own), "surface"),
        Method("GaussNewton", "JᵀJ", "identity", "straight", line, GaussNewton(search, **own)),
        Method(
            "GaussNewton on f(B)",
            "JᵀJ",
            "identity",
            "bent",
            line,
            GaussNewton(search, **own),
            "surface",
        ),
        Method(
            "GaussNewton, damped",
            "0.9 JᵀJ + 0.1 α²I",
            "identity",
            "straight",
            line,
            GaussNewton(search, damping=0.1, **own),
        ),
        Method(
            "NaturalGradient",
            "Fisher, = JᵀJ here",
            "identity",
            "straight",
            line,
            NaturalGradient(search, **own),
        ),
        Method(
            "Newton, saddle-free",
            "|∇²h|",
            "identity",
            "straight",
            line,
            Newton(search, saddle_free=True, **own),
        ),
        Method(
            "FilteredNewton",
            "60 eigenvalues of ∇²h",
            "identity",
            "straight",
            line,
            FilteredNewton(search, rank=60, **own),
        ),
        Method(
            "LevenbergMarquardt",
            "JᵀJ + λD²",
            "identity",
            "bent",
            ratio,
            LevenbergMarquardt(**own),
        ),
        Method("HessianFree", "JᵀJ + λI", "identity", "straight", ratio, HessianFree(**own)),
        Method("KFAC", "Kronecker blocks + λI", "identity", "straight", ratio, KFAC(**own)),
        Method("TrustRegions", "I", "exact", "straight", radius, TrustRegions(**own)),
        Method(
            "TrustRegions, Gauss-Newton",
            "I",
            "JᵀJ",
            "straight",
            radius,
            TrustRegions(hessian="gauss_newton", **own),
        ),
        Method(
            "TrustRegions on f(B)", "JᵀJ", "exact", "bent", radius, TrustRegions(**own), "surface"
        ),
    ]


# %% [markdown]
# The problem
# -----------
#
# 256 rows of California Housing and a network with 12 hidden neurons, so that the predictions of
# its 96 parameters are a surface in R^256. The manifold says in which metric gradients are
# measured and how a step moves the point; the methods that bring their own metric use it only for
# that. The cost has several minima, at 57.01 and 62.31 among others, and a stretch near 547.9 where
# undamped straight steps get stuck: the figures say how fast a method is, not which is best.


# %%
def housing() -> dict[str, gn.CompositeProblem]:
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(256, rng)
    model = gn.Scaled(gn.FeedforwardNetwork(X, 12, normalization="none", rng=rng), 16.0)
    loss = gn.SquaredError(y)
    return {
        "parameters": gn.CompositeProblem(gn.ParameterManifold(model, gn.EuclideanMetric()), loss),
        "surface": gn.CompositeProblem(gn.OutputManifold(model, retraction="second_order"), loss),
    }


def run_table(table: list[Method], progress: bool) -> gn.Comparison:
    problems = housing()
    entries = {method.name: (method.optimizer, problems[method.on]) for method in table}
    start = problems["parameters"].model.initial_parameters
    return gn.compare(entries, problems["parameters"], start, progress=progress)


def printed(table: list[Method]) -> str:
    head = (
        f"{'method':27s} {'metric of the step':24s} {'Hessian model':14s} "
        f"{'retraction':11s} globalisation"
    )
    rows = [
        f"{method.name:27s} {method.metric:24s} {method.hessian:14s} "
        f"{method.retraction:11s} {method.globalisation}"
        for method in table
    ]
    return "\n".join([head, "-" * len(head), *rows])


# %% [markdown]
# The equalities
# --------------
#
# The same step under two names, to the rounding of the arithmetic.


# %%
def first_step(optimizer: Any, problem: gn.CompositeProblem, w: np.ndarray) -> np.ndarray:
    points = optimizer.run(problem, initial_point=w).log["iterations"]["point"]
    return np.asarray(points[1] - w)


def equalities() -> list[Claim]:
    rng = np.random.default_rng(1)
    X, y = gn.datasets.single_index(30, 4, 0.1, rng)
    net = gn.FeedforwardNetwork(X, 4, rng=rng)
    loss, w = gn.SquaredError(y), net.initial_parameters

    def on(metric: Any) -> gn.CompositeProblem:
        return gn.CompositeProblem(gn.ParameterManifold(net, metric), loss)

    one = {"max_iterations": 1, "min_gradient_norm": 0.0, "verbosity": 0}
    plain, unit = on(gn.EuclideanMetric()), GradientDescent(UnitStep(), **one)
    exact = {"relative_progress": 0.0, "max_inner": 200, "backtracking": False}
    marquardt = LevenbergMarquardt(
        ConstantLambda(0.5), scaling=None, acceleration=0.0, offset=0.0, **one
    )
    near = LevenbergMarquardt(verbosity=0).run(plain, initial_point=w).point + 1e-3
    pairs = (
        ("GaussNewton = descent in JᵀJ", GaussNewton(**one), unit, gn.GaussNewtonMetric(), w),
        ("NaturalGradient = GaussNewton", NaturalGradient(**one), GaussNewton(**one), None, w),
        ("damped = descent in (6)", GaussNewton(damping=0.3, **one), unit,
         gn.GaussNewtonMetric(0.3), w),
        ("LM = descent in JᵀJ + λI", marquardt, unit, gn.LevenbergMarquardtMetric(0.5), w),
        ("HessianFree, exact = LM", HessianFree(ConstantLambda(0.5), **exact, **one), marquardt,
         None, w),
        ("Newton = descent in ∇²h", Newton(**one), unit, gn.HessianMetric(loss), near),
        ("FilteredNewton = descent, filtered", FilteredNewton(rank=9, **one), unit,
         gn.FilteredHessianMetric(loss, rank=9), w),
        ("KFAC, plain = descent in blocks",
         KFAC(ConstantLambda(0.5), rescaling=False, **one), unit,
         gn.KroneckerFactoredMetric(loss, 0.5), w),
    )  # fmt: skip
    claims = []
    for name, ours, theirs, metric, start in pairs:
        left = first_step(ours, plain, start)
        right = first_step(theirs, plain if metric is None else on(metric), start)
        error = float(np.linalg.norm(left - right) / np.linalg.norm(right))
        claims.append(Claim(name, "the same step", f"{error:.1e}", error < 1e-10))
    return claims


# %% [markdown]
# A flat surface
# --------------
#
# The residuals of Rosenbrock's function, here 100(x₂ - x₁²) and 1 - x₁, are a bent coordinate
# system of a flat plane. Straight steps in it zigzag, or overshoot by a factor of 10⁴; along a
# geodesic, which is a straight line of predictions, one Gauss-Newton step ends at the solution. The
# manual of the GNU Scientific Library reports 53 Levenberg-Marquardt iterations from this start, 15
# with geodesic acceleration.


# %%
def flat_surface() -> tuple[list[Claim], list[str]]:
    model = gn.AutogradModel(lambda x: anp.array([100 * (x[1] - x[0] ** 2), 1 - x[0]]), 2)
    loss, start = gn.SquaredError(np.zeros(2)), np.array([-0.5, 1.75])
    lines = [f"{'method':44s} {'iterations':>10s} {'f':>5s} {'cost at the end':>16s}"]
    claims = []
    for name in ("exponential", "second_order", "first_order"):
        surface = gn.OutputManifold(model, retraction=name)
        run = GaussNewton(min_gradient_norm=1e-9, verbosity=0).run(
            gn.CompositeProblem(surface, loss), initial_point=start
        )
        lines.append(_row(f"GaussNewton, {name} retraction", run))
        if name == "exponential":
            claims = [
                Claim("one exponential step solves a flat problem", "1 step, cost < 1e-20",
                      f"{run.iterations} step, {run.cost:.1e}",
                      run.iterations == 1 and run.cost < 1e-20)
            ]  # fmt: skip
    problem = gn.CompositeProblem(gn.ParameterManifold(model, gn.EuclideanMetric()), loss)
    for label, acceleration in (("without", 0.0), ("with", 0.75)):
        run = LevenbergMarquardt(acceleration=acceleration, verbosity=0).run(
            problem, initial_point=start
        )
        lines.append(_row(f"LevenbergMarquardt {label} acceleration", run))
    return claims, lines


def _row(name: str, run: Any) -> str:
    return f"{name:44s} {run.iterations:10d} {run.evaluations.values:5d} {run.cost:16.1e}"


# %% [markdown]
# In continuous time
# ------------------
#
# A step of length dt in a metric is Euler's method for the flow in it. On more parameters than
# outputs Gauss-Newton follows the straight line of predictions to the data at the rate 1 whatever
# the kernel, the gradient flow at the rates of the kernel's eigenvalues, and the adaptive damping
# of the paper between them at a rate that does not depend on the kernel either.


# %%
def flows(quick: bool) -> tuple[dict[str, gn.flows.Trajectory], list[Claim]]:
    n, width = (16, 64) if quick else (64, 256)
    X, y = gn.datasets.single_index(n, 4, 0.1, 0)
    net = gn.FeedforwardNetwork(X, width, rng=0)
    problem = gn.CompositeProblem(
        gn.ParameterManifold(gn.Scaled(net, 8.0), gn.GaussNewtonMetric(0.5)), gn.SquaredError(y)
    )
    start, horizon = net.initial_parameters, 4.0
    found = {
        name: integrate(problem, start, horizon, damping=rho)
        for name, rho in (
            ("Gauss-Newton, ρ = 0", 0.0),
            ("adaptive, κ = 1", Adaptive(1.0)),
            ("constant, ρ = 0.1", 0.1),
            ("gradient flow, ρ = 1", 1.0),
        )
    }
    exact = integrate(problem, start, horizon, method="dop853", damping=0.0)
    line = y + np.exp(-exact.times)[:, None] * (exact.outputs[0] - y)
    off = float(np.max(np.abs(exact.outputs - line)))
    steps = 20
    euler = found["adaptive, κ = 1"].parameters[steps]
    run = GaussNewton(
        ConstantStep(0.01), damping=Adaptive(1.0), max_iterations=steps, verbosity=0
    ).run(problem, initial_point=start)
    adaptive = found["adaptive, κ = 1"]
    envelope = adaptive.costs[0] * np.exp(-adaptive.times)
    return found, [
        Claim("Gauss-Newton flow is e^-t r(0)", "a straight line", f"{off:.1e}", off < 1e-6),
        Claim(
            "Euler's method = ConstantStep(dt)",
            "the same points",
            f"{np.max(np.abs(euler - run.point)):.1e}",
            bool(np.array_equal(euler, run.point)),
        ),
        Claim(
            "adaptive damping, κ = 1",
            "cost <= e^-t cost(0)",
            f"largest ratio {np.max(adaptive.costs / envelope):.3f}",
            bool(np.all(adaptive.costs <= envelope * (1 + 1e-12))),
        ),
    ]


# %%
def figure(comparison: gn.Comparison, trajectories: dict[str, gn.flows.Trajectory]) -> Figure:
    drawing = Figure(figsize=(11, 6.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    shown = (
        "GradientDescent", "Adam", "LBFGS", "GaussNewton", "GaussNewton on f(B)",
        "LevenbergMarquardt", "HessianFree", "KFAC", "TrustRegions on f(B)",
    )  # fmt: skip
    lowest = comparison.best.cost
    for index, name in enumerate(shown):
        costs = np.maximum(np.array(comparison[name].costs) - lowest, 1e-8)
        left.plot(
            costs,
            "-" if index < len(COLORS) else "--",
            color=COLORS[index % len(COLORS)],
            marker="os^vD*Pxh"[index],
            markevery=0.12,
            markersize=4,
            label=name,
        )
    left.set(xscale="symlog", yscale="log", xlabel="iteration")
    left.set(ylabel=f"cost above the lowest, {lowest:.4f}  (10¹⁰ $²)", title="One problem")
    left.set_xlim(0, None)
    for index, (name, flow) in enumerate(trajectories.items()):
        right.plot(flow.times, flow.costs / flow.costs[0], color=COLORS[index], label=name)
    times = next(iter(trajectories.values())).times
    right.plot(times, np.exp(-2 * times), "k:", label="e⁻²ᵗ")
    right.plot(times, np.exp(-times), "k--", label="e⁻ᵗ, the bound for κ = 1")
    right.set(yscale="log", xlabel="time t of the flow", ylabel="cost / cost(0)")
    right.set_title("The flow (6) of Cayci, p > n")
    for axes in (left, right):
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8)
    return drawing


def main(arguments: list[str] | None = None) -> tuple[gn.Comparison, list[Claim]]:
    quick = quick_asked("One idea, many methods", arguments)
    rows = methods(max_iterations=15 if quick else 300, min_gradient_norm=1e-3)
    print(printed(rows), "\n")
    comparison = run_table(rows, progress=not quick)
    print(comparison, "\n")
    rosenbrock, lines = flat_surface()
    print("\n".join(lines), "\n")
    trajectories, continuous = flows(quick)
    claims = [*equalities(), *rosenbrock, *continuous]
    print(table(claims, "expected"))
    path = save_figure(figure(comparison, trajectories), OUTPUT / "one_idea_many_methods.png")
    print(f"figure: {path}")
    return comparison, claims


if __name__ == "__main__":
    main()
