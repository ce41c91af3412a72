"""Second-order methods: what is said of them, measured near a solution
====================================================================

Surveys of second-order optimisation repeat the same sentences: digits double, Gauss-Newton is fast
where residuals are small, Newton's method is drawn to saddles, conjugate gradients take the square
root of the condition number. Each is a row of the table here, on problems small enough for the
answer to be known; some are half true, and the row says which half. Sources: Nocedal and Wright,
Numerical Optimization, 2nd edition, theorem 3.5 and sections 3.4, 5.1 and 10.3; Wedin (1974);
Martens (2010); Dauphin et al. (2014).
"""

# %%
import os
from bisect import bisect_left
from functools import cache
from itertools import pairwise
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import (
    ALL_STEPS,
    OUTPUT,
    Claim,
    Record,
    Run,
    Runs,
    chosen,
    exponent,
    finish,
    grid,
    iterates,
    legends_below,
    listed,
    posed,
    quick_asked,
    span,
)
from gnmanifold import optimizers
from gnmanifold.damping import ConstantLambda
from gnmanifold.diagnostics import classify, contraction_factor, local_factor
from gnmanifold.plotting import COLORS

# %% [markdown]
# A solution that is known
# ------------------------
#
# A network of six weights on twelve rows. The targets are its predictions at a point w plus s ν,
# with a unit vector ν orthogonal to the prediction surface there: w is then a critical point for
# every s, known to the last digit, and s is the norm of the residual. By Wedin's theorem a full
# Gauss-Newton step shrinks a small error by the spectral radius of a matrix that is s times a
# fixed one, the curvature of the surface towards ν. The limit is the s where that radius is one;
# the sign of ν is taken such that w is still a minimum there.


# %%
@cache
def setting() -> tuple[gn.Model, np.ndarray, np.ndarray]:
    """Network, solution w, and the residual at the limit."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((12, 3))
    network = gn.FeedforwardNetwork(X, 2, normalization="none", rng=rng)
    w, draw = network.initial_parameters, rng.standard_normal(12)
    normal = draw - gn.Linearization(network, w).project(draw)
    normal /= np.linalg.norm(normal)
    rate = local_factor(posed(network, gn.SquaredError(network(w) + normal)), w)
    return network, w, normal / max(rate.eigenvalues.values, key=abs)


def known(share: float) -> tuple[gn.CompositeProblem, np.ndarray]:
    """Problem with that share of the limiting residual, and its solution."""
    network, w, limit = setting()
    return posed(network, gn.SquaredError(network(w) + share * limit)), w


METHODS = {"Gauss-Newton": optimizers.GaussNewton, "Newton": optimizers.Newton}


def quadratic(method: str, share: float, directions: int) -> Run:
    """Errors after one step from several distances, and along a run."""
    problem, w = known(share)
    once, run = (METHODS[method](max_iterations=k, **ALL_STEPS) for k in (1, 6))
    distances = np.logspace(-4, -2, 5)
    units = np.random.default_rng(0).standard_normal((directions, w.size))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    after = [
        np.mean([np.linalg.norm(iterates(once, problem, w + h * u)[-1] - w) for u in units])
        for h in distances
    ]
    along = np.linalg.norm(iterates(run, problem, w + 0.05 * units[0]) - w, axis=1)
    return {"method": method, "share": share, "distances": distances, "after": after,
            "along": along, "exponent": exponent(distances, after)}  # fmt: skip


# %% [markdown]
# The same solution with residuals up to and above the limit: the runs start along the eigenvector
# that is slowest, which a run at 0.8 of the limit finds, and the factor is fitted while the error
# is small and above rounding. `local_factor` predicts it from the second derivatives.


# %%
@cache
def slowest() -> np.ndarray:
    problem, w = known(0.8)
    direction = np.random.default_rng(1).standard_normal(w.size)
    solver = optimizers.GaussNewton(max_iterations=80, **ALL_STEPS)
    end = iterates(solver, problem, w + 1e-4 * direction)[-1] - w
    return end / np.linalg.norm(end)


def contraction(share: float, damped: bool = False) -> Run:
    """Factor of the error in a full step, or with `damped` in the best one, and the prediction."""
    problem, w = known(share)
    step: Any = local_factor(problem, w).best_step if damped else 1.0
    rate = local_factor(problem, w, step=step)
    solver = optimizers.GaussNewton(optimizers.ConstantStep(step), max_iterations=120, **ALL_STEPS)
    start = w + (1e-3 if rate.steps_converge else 1e-7) * slowest()
    errors = np.linalg.norm(iterates(solver, problem, start) - w, axis=1)
    used = np.flatnonzero((errors > 1e-12) & (errors < 1e-5))
    factor = contraction_factor(errors, (used[0], used[-1])).value
    return {"share": share, "step": step, "predicted": rate.radius, "measured": factor,
            "kind": classify(problem, w).kind}  # fmt: skip


# %% [markdown]
# A saddle
# --------
#
# A chain of two weights is to represent the number one, balanced: f(a, b) = (a b, a - b), target
# (1, 0). The minima are (1, 1) and (-1, -1), between them the origin is a strict saddle, and the
# line a = -b is the ridge. Newton's method divides by the negative eigenvalue and so turns the way
# down into a way up. The Gauss-Newton matrix is positive semidefinite: its steps descend, and the
# saddle repels them, although it has no knowledge of the negative curvature. Nobody leaves the
# saddle itself, where the gradient is zero; on the ridge it takes rounding to break the symmetry.


# %%
def chain() -> gn.CompositeProblem:
    model = gn.CallableModel(
        lambda w: np.array([w[0] * w[1], w[0] - w[1]]), 2, 2,
        jacobian=lambda w: np.array([[w[1], w[0]], [1.0, -1.0]]),
        second_derivative=lambda w, a, b: np.array([a[0] * b[1] + a[1] * b[0], 0.0]),
    )  # fmt: skip
    return posed(model, gn.SquaredError([1.0, 0.0]))


LIMITS: dict[str, Any] = {"verbosity": 0, "max_iterations": 100, "min_gradient_norm": 1e-10}
SOLVERS = {
    "Newton": optimizers.Newton(**LIMITS),
    "Newton, backtracking": optimizers.Newton(optimizers.BackTracking(), **LIMITS),
    "Newton with absolute eigenvalues": optimizers.Newton(
        optimizers.BackTracking(), saddle_free=True, **LIMITS
    ),
    "Gauss-Newton": optimizers.GaussNewton(optimizers.BackTracking(), **LIMITS),
    "Levenberg-Marquardt": optimizers.LevenbergMarquardt(**LIMITS),
    "trust region": optimizers.TrustRegions(**LIMITS),
}


def from_saddle(method: str, count: int) -> Run:
    """Kinds of the ends of runs from around the saddle and from it, and a path."""
    problem, solver = chain(), SOLVERS[method]
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    starts = 0.3 * np.column_stack([np.cos(angles), np.sin(angles)])
    *ends, kept = [
        classify(problem, iterates(solver, problem, w)[-1]).kind for w in (*starts, np.zeros(2))
    ]
    path = iterates(solver, problem, np.array([0.1, 0.28]))
    return {"method": method, "path": path, "ends": ends, "kept": kept}


# %% [markdown]
# Conjugate gradients in place of a factorization
# -----------------------------------------------
#
# A Hessian-free step is the damped Gauss-Newton step up to the tolerance of conjugate gradients.
# Chebyshev's bound on the number of iterations grows like the square root of the condition number
# κ. A linear model whose eigenvalues are Chebyshev's nodes comes close to it; a network, with few
# large eigenvalues and many small ones, stays below. The error is in the norm of the damped matrix.


# %%
SYSTEMS = ("network", "Chebyshev's nodes")


@cache
def system(name: str, kappa: float) -> tuple[gn.CompositeProblem, np.ndarray, float]:
    """Problem, start, and the damping that makes the condition number κ."""
    if name == "network":
        X, y = gn.datasets.single_index(200, 5, 0.1, 0)
        model: gn.Model = gn.FeedforwardNetwork(X, (10, 10), train_output=True, rng=0)
        w = np.array(model.initial_parameters)
    else:
        roots = np.sqrt(0.5 - 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200))
        model = gn.CallableModel(lambda w: roots * w, 200, 200, jacobian=lambda w: np.diag(roots))
        w, y = np.zeros(200), np.random.default_rng(0).standard_normal(200)
    values = np.linalg.svd(model.jacobian(w), compute_uv=False) ** 2
    damping = float((values[0] - kappa * values[-1]) / (kappa - 1))
    return posed(model, gn.SquaredError(y)), w, damping


def free_step(name: str, kappa: float, inner: int) -> tuple[float, int, int]:
    """Relative error of a Hessian-free step, products and Jacobians that it took."""
    problem, w, damping = system(name, kappa)
    solver = optimizers.HessianFree(ConstantLambda(damping), relative_progress=0.0, max_inner=inner,
                         backtracking=False, max_iterations=1, **ALL_STEPS)  # fmt: skip
    result = solver.run(problem, initial_point=w)
    lin = gn.Linearization(problem.model, w)
    metric = gn.LevenbergMarquardtMetric(damping).at(lin)
    exact = -metric.gradient(problem.loss.gradient(lin.psi))  # by a QR factorization
    error = metric.length(result.point - w - exact) / metric.length(exact)
    return float(error), result.evaluations.products, result.evaluations.jacobians


def krylov(name: str, kappa: float) -> Run:
    """Errors against iterations, and the number of iterations to 1e-8 by bisection."""
    every = range(1, 512)
    solved = bisect_left(every, True, key=lambda k: free_step(name, kappa, k)[0] <= 1e-8)
    needed = every[solved]
    numbers = sorted({max(1, round(needed * part)) for part in np.linspace(0.05, 1.3, 12)})
    errors, _, jacobians = zip(*(free_step(name, kappa, k) for k in numbers), strict=True)
    return {"name": name, "kappa": kappa, "numbers": numbers, "errors": errors,
            "products": free_step(name, kappa, needed)[1], "needed": needed,
            "jacobians": max(jacobians), "bound": chebyshev(kappa)}  # fmt: skip


def chebyshev(kappa: Any) -> Any:
    """Iterations after which the error is 1e-8 of the first at most."""
    root = np.sqrt(kappa)
    return np.log(2e8) / np.log((root + 1) / (root - 1))


# %% [markdown]
# The claims
# ----------
#
# Fitted exponents are those of leading terms: the neglected ones are smaller by the size of the
# step times a constant of order ten here, at most a tenth on average over the range of the fit.


# %%
def quadratic_claims(runs: Runs) -> list[Claim]:
    found = [run["exponent"] for run in runs]
    # of errors above rounding; a linear run would have C like 1/error, 1e6 and more at the end
    constants = [after / before**2 for run in runs for before, after in pairwise(run["along"])
                 if after > 1e-14]  # fmt: skip
    digits = (-np.log10(max(error, 1e-16)) for error in runs[0]["along"][:5])
    return [
        Claim("Newton, and Gauss-Newton without residual, converge quadratically",
              "Nocedal & Wright, th. 3.5, 10.3", f"exponents {listed(found, '.3f')}",
              all(abs(each - 2) < 0.1 for each in found)),
        Claim("digits double with every step: e_next <= C e²", "the same; linear: C ~ 1/e",
              f"C {span(constants, '.2g')}; digits {listed(digits, '.1f')}", max(constants) < 100),
    ]  # fmt: skip


def residual_claims(runs: Runs, cured: Run) -> list[Claim]:
    below, above = ([run for run in runs if (run["share"] > 1) == over] for over in (False, True))
    apart = [abs(run["measured"] / run["predicted"] - 1) for run in (*runs, cured)]
    fitted = exponent([run["share"] for run in below], [run["measured"] for run in below])
    wedin = "Nocedal & Wright, 10.3; Wedin"
    return [
        Claim("with a residual Gauss-Newton is linear, its factor ∝ the residual", wedin,
              f"slope {fitted:.4f}", abs(fitted - 1) < 0.01),
        Claim("the factor is the spectral radius of local_factor", wedin,
              f"apart {max(apart[:-1]):.0e} of it at most", max(apart[:-1]) < 0.01),
        Claim("above a limit full steps leave a strict minimum", wedin,
              f"error times {listed((run['measured'] for run in above), '.3f')}",
              all(run["kind"] == "minimum" and run["measured"] > 1 for run in above)),
        Claim("there the best constant step converges", "2/(2 + s_min + s_max)",
              f"step {cured['step']:.3f}, factor {cured['measured']:.3f}",
              cured["measured"] < 1 and apart[-1] < 0.01),
    ]  # fmt: skip


def saddle_claims(runs: Runs) -> list[Claim]:
    ends, count = [run["ends"] for run in runs], len(runs[0]["ends"])
    attracted, searched = ends[0].count("saddle"), ends[1].count("minimum")
    fewest = min(each.count("minimum") for each in ends[2:])
    kept = [run["kept"] for run in runs].count("saddle")
    return [
        Claim("Newton's full steps go to a saddle nearby", "Dauphin et al., 2014",
              f"{attracted} of {count} starts", attracted == count),
        Claim("a line search alone does not help: the direction may ascend",
              "Nocedal & Wright, 3.4", f"{searched} of {count} reach a minimum", searched == 0),
        Claim("|H|, Gauss-Newton, LM and trust regions go to a minimum",
              "Dauphin et al., 2014", f"{fewest} of {count} starts", fewest == count),
        Claim("half true: from the saddle itself none of them does", "theorem, checks the code",
              f"{kept} of {len(runs)} stay", kept == len(runs)),
    ]  # fmt: skip


def krylov_claims(runs: Runs) -> list[Claim]:
    growth = []
    for name in SYSTEMS:
        rows = chosen(runs, name=name)
        growth.append(exponent([row["kappa"] for row in rows], [row["needed"] for row in rows]))
    extra = {run["products"] - 2 * run["needed"] for run in runs}
    last, formed = (
        max(values)
        for values in zip(*((run["errors"][-1], run["jacobians"]) for run in runs), strict=True)
    )
    share = max(run["needed"] / np.ceil(run["bound"]) for run in runs)
    return [
        Claim("Hessian-free = the damped Gauss-Newton step in the end", "Martens, 2010",
              f"error {last:.0e}, {formed} Jacobians", last <= 1e-8 and not formed),
        Claim("two products an iteration, two more for gradients", "Martens, 2010",
              f"{sorted(extra)} more", extra == {2}),
        Claim("at most as many as Chebyshev's bound", "theorem (5.1), checks the code",
              f"{share:.2f} of it at most", share <= 1),
        Claim("they grow like √κ: the worst case", "Nocedal & Wright, 5.1",
              f"κ^{growth[1]:.2f} for Chebyshev's nodes", abs(growth[1] - 0.5) < 0.05),
        Claim("half true: a network takes fewer", "eigenvalues in clusters, 5.1",
              f"κ^{growth[0]:.2f}", growth[0] < 0.45),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------


# %%
def draw_quadratic(axes: Axes, runs: Runs) -> None:
    for index, run in enumerate(runs):
        axes.loglog(run["distances"], run["after"], "os^"[index] + "-", color=COLORS[index],
                    label=f"{run['method']}, residual = {run['share']:g} limit")  # fmt: skip
    ends = np.array([1e-4, 1e-2])
    axes.loglog(ends, 0.3 * ends**2, "k--", lw=1, label="slope 2")
    finish(axes, "Digits double", "error before a step", "error after it")


def draw_residuals(axes: Axes, runs: Runs) -> None:
    shares, measured = zip(*((run["share"], run["measured"]) for run in runs), strict=True)
    axes.loglog(shares, shares, "k--", lw=1, label="local_factor")
    axes.loglog(shares, measured, "o", color=COLORS[0], label="measured")
    axes.axvline(1, color=COLORS[1], label="limit")
    finish(axes, "Gauss-Newton with a residual", "residual / limit", "factor of a step's error")


def draw_saddle(axes: Axes, runs: Runs) -> None:
    a, b = np.meshgrid(*2 * [np.linspace(-0.5, 1.5, 161)])
    cost = 0.5 * (a * b - 1) ** 2 + 0.5 * (a - b) ** 2
    axes.contour(a, b, cost, levels=np.geomspace(0.02, 4, 12), colors="0.8", linewidths=0.8)
    shown = [run for run in runs if run["method"] != "Newton, backtracking"]
    for index, run in enumerate(shown):
        axes.plot(*np.transpose(run["path"]), "os^vD"[index] + "-", color=COLORS[index], ms=4,
                  label=run["method"])  # fmt: skip
    axes.plot([0, 1], [0, 1], "k*", ms=10, ls="none", label="saddle and minimum")
    ends = {"xlim": (-0.5, 1.5), "ylim": (-0.5, 1.5)}
    finish(axes, "Two weights, a saddle", "weight a", "weight b", **ends)


def draw_errors(axes: Axes, runs: Runs) -> None:
    for index, run in enumerate(chosen(runs, name="network")):
        axes.semilogy(run["numbers"], run["errors"], "os^vD*"[index] + "-", color=COLORS[index],
                      ms=4, label=f"κ = {run['kappa']:g}")  # fmt: skip
    axes.axhline(1e-8, color="k", lw=0.8, ls=":")
    finish(axes, "Hessian-free against exact, network", "iterations of conjugate gradients",
           "relative error of the step")  # fmt: skip


def draw_counts(axes: Axes, runs: Runs) -> None:
    for index, name in enumerate(SYSTEMS):
        rows = [(run["kappa"], run["needed"]) for run in chosen(runs, name=name)]
        axes.loglog(*np.transpose(rows), "os"[index] + "-", color=COLORS[index], label=name)
    kappas = np.geomspace(10, max(run["kappa"] for run in runs))
    axes.loglog(kappas, chebyshev(kappas), "k--", lw=1, label="Chebyshev's bound, ~ √κ")
    finish(axes, "The price of ill-conditioning", "condition number κ",
           "iterations to an error of 1e-8")  # fmt: skip


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Claims about second-order methods near a solution", arguments)
    record = Record(OUTPUT, "second_order_methods", quick)
    shares = (0.05, 0.2, 0.8, 1.25) if quick else (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.25, 1.5)
    wide, nodes = ((10.0, 100.0, 1000.0), (10.0, 50.0)) if quick else (
        (10.0, 30.0, 100.0, 300.0, 1000.0, 10000.0), (10.0, 30.0, 60.0, 100.0))  # fmt: skip
    fast = record.runs(quadratic, [
        {"method": name, "share": share, "directions": 4 if quick else 32}
        for name, share in (("Gauss-Newton", 0.0), ("Newton", 0.0), ("Newton", 0.5))
    ])  # fmt: skip
    *factors, cured = record.runs(contraction, [
        *grid(share=shares), {"share": 1.25, "damped": True}
    ])  # fmt: skip
    saddles = record.runs(from_saddle, grid(method=SOLVERS, count=[8 if quick else 96]))
    free = record.runs(krylov, grid(name=SYSTEMS[:1], kappa=wide)
                       + grid(name=SYSTEMS[1:], kappa=nodes))  # fmt: skip
    claims = [*quadratic_claims(fast), *residual_claims(factors, cured),
              *saddle_claims(saddles), *krylov_claims(free)]  # fmt: skip
    drawing = Figure(figsize=(11, 8.5), layout="constrained")
    panels = drawing.subplot_mosaic("AABBCC;DDDEEE")
    draw_quadratic(panels["A"], fast)
    draw_residuals(panels["B"], factors)
    draw_saddle(panels["C"], saddles)
    draw_errors(panels["D"], free)
    draw_counts(panels["E"], free)
    legends_below(panels[key] for key in "ABC")
    legends_below((panels["D"], panels["E"]), columns=3)
    record.conclude(claims, {"second_order_methods": drawing})
    return claims


if __name__ == "__main__":
    main()
