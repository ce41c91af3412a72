"""The underparameterised experiments of Cayci's first version
===========================================================

Figures 1 to 3 of arXiv 2412.14031v1: a network with 144 parameters on 256 rows of California
Housing, the loss ‖ψ - y‖², Gauss-Newton flow by Euler's method with step 0.01 for several scales
α, and gradient flow beside it. A reader finds here what the figures show, claim by claim, over
several seeds, what happens at the smallest α where the Jacobian loses its rank, and which curve
could not have been drawn with the step 0.01.
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import (
    OUTPUT,
    Claim,
    Record,
    Run,
    Runs,
    band,
    chosen,
    exponent,
    finish,
    grid,
    listed,
    posed,
    quick_asked,
    span,
)
from gnmanifold.plotting import COLORS

BENT, ALPHAS = 0.125, (8.0, 16.0, 256.0)
NEWTON, LEAST, GRADIENT = "Gauss-Newton", "Gauss-Newton, least norm", "gradient flow"
STEP, HORIZON, EVERY = 0.01, 6.0, 0.1  # Euler's step, the end, and the time between records
ROUNDING = 1e-12  # of a loss, relative to the first: a sum of 256 squares is nearer than that


# %% [markdown]
# The setting
# -----------
#
# One generator draws the rows, the signs of the output layer and the hidden weights. The targets
# are raw, in 10⁵ dollars; the network is not normalised. What the paper leaves open, the horizon
# and the seeds, is chosen here.


# %%
def problem(seed: int, alpha: float) -> gn.CompositeProblem:
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.california_housing(256, rng)
    network = gn.FeedforwardNetwork(X, 18, normalization="none", rng=rng)
    return posed(gn.Scaled(network, alpha), gn.SquaredError(y, weight=2.0), gn.GaussNewtonMetric())


# %% [markdown]
# The runs
# --------
#
# Each finished run is written to a JSON record before the next one starts; a run that is in the
# record already is not made again. The losses of all steps are looked at for rises, and every
# tenth of the time is kept. Gradient flow is (6) with ρ = 1. Euler's method with the step 0.01 is
# unstable for it: the limit 2/(μ λ_max(K)) is below a thousandth, and half of that is taken. The
# paper does not print its step; the curve could not have been drawn with 0.01.


# %%
def follow(seed: int, alpha: float, flow: str, horizon: float) -> Run:
    task, rho = problem(seed, alpha), float(flow == GRADIENT)
    w0 = task.model.initial_parameters
    limit = gn.flows.stability_limit(task, w0, rho)
    step = EVERY / np.ceil(EVERY / min(STEP, limit / 2) - 1e-9)  # which divides EVERY
    found = gn.flows.integrate(task, w0, horizon, step=step, damping=rho, eigenvalues=False)
    thinned = kept(task, found.parameters, found.costs, found.gradient_norms, round(EVERY / step))
    ends = [smallest_eigenvalue(task, w) for w in found.parameters[[0, -1]]]
    lost = {"end": found.end, "stopped": found.times[-1], "left": ends[1] / ends[0]}
    return {"alpha": alpha, "flow": flow, "limit": limit, **lost, **thinned}


def kept(
    task: gn.CompositeProblem, w: np.ndarray, costs: np.ndarray, norms: np.ndarray, every: int
) -> Run:
    """Every so many points of a run, and its largest rise in a step, over the first loss."""
    w = w[::every]
    return {
        "times": EVERY * np.arange(len(w)),
        "costs": costs[::every],
        "distances": np.linalg.norm(w - w[0], axis=1),
        "gradient_norms": norms[::every],
        "smallest_eigenvalues": [smallest_eigenvalue(task, each) for each in w],
        "largest_rise": np.max(np.diff(costs)) / costs[0],
    }


def smallest_eigenvalue(task: gn.CompositeProblem, w: np.ndarray) -> float:
    """λ_min of DfᵀDf, without the scale."""
    return float(np.linalg.norm(task.model.jacobian(w), -2) / task.model.scale) ** 2


# %% [markdown]
# Past a loss of rank
# -------------------
#
# At α = 1/8 the smallest eigenvalue of DfᵀDf goes to zero: `gn.flows.integrate` stops there and
# says why, and no loss has risen up to then. The paper's curve goes on, and so does the flow with
# the velocity of least norm, from a singular value decomposition that leaves out what is rounding.
# Which values those are is up to rounding too, and what follows is chaotic: another library for
# linear algebra gives other losses. Of these runs no number is claimed, only that the loss rises.


# %%
def least_norm(seed: int, horizon: float) -> Run:
    """Euler's method for ẇ = -J⁺∇g(ψ) where J has any rank."""
    task = problem(seed, BENT)
    w, passed = task.model.initial_parameters, []
    for _ in range(round(horizon / STEP) + 1):
        psi, jacobian = task.model(w), task.model.jacobian(w)
        velocity = -np.linalg.lstsq(jacobian, task.loss.gradient(psi), rcond=None)[0]
        passed.append((w, task.loss.value(psi), np.linalg.norm(jacobian @ velocity)))
        w = w + STEP * velocity
    columns = map(np.array, zip(*passed, strict=True))
    return {"alpha": BENT, "flow": LEAST, **kept(task, *columns, every=round(EVERY / STEP))}


# %% [markdown]
# The claims
# ----------


# %%
def order_claims(runs: Runs) -> list[Claim]:
    by = [chosen(runs, alpha=alpha, flow=NEWTON) for alpha in ALPHAS]
    finals = np.array([[run["costs"][-1] for run in each] for each in by])
    ordered = np.all(np.diff(finals, axis=0) > 0, axis=0)
    falling = [sum(run["largest_rise"] < 0 for run in each) for each in by]
    moved = [np.median([run["distances"][-1] for run in each]) for each in by]
    slope = exponent(ALPHAS[1:], moved[1:])
    gradient = chosen(runs, flow=GRADIENT)
    limits = [run["limit"] for run in gradient]
    slower = np.array([run["costs"][-1] for run in gradient])
    return [
        Claim("final loss grows with α: 8 < 16 < 256", "Figure 1",
              f"{sum(ordered)} of {len(ordered)} seeds", bool(np.all(ordered))),
        Claim("loss falls in every step for α = 8, 16, 256", "Figure 1, one seed",
              f"{listed(falling, 'd')} of {len(ordered)} seeds", min(falling) == len(ordered)),
        Claim("|w - w0| falls with α, like 1/α", "Figure 2", f"slope {slope:.2f}",
              abs(slope + 1) < 0.15),  # α|w - w0| may change by 16^0.15 = 1.5: α = 16 is not lazy
        Claim("gradient flow needs a shorter Euler step", "Figure 3 does not say",
              f"limit {span(limits, '.1e')}", max(limits) < STEP),
        Claim("gradient flow is slower than Gauss-Newton", "Figure 3",
              f"{np.median(slower):.1f} against {np.median(finals[1]):.1f}",
              bool(np.all(slower > finals[1]))),
    ]  # fmt: skip


def rank_claims(runs: Runs) -> list[Claim]:
    bent, further = chosen(runs, alpha=BENT, flow=NEWTON), chosen(runs, flow=LEAST)
    left = [run["left"] for run in bent]
    typed = sum("numerical rank" in run["end"] for run in bent)
    last = max(run["stopped"] for run in bent)
    fallen = sum(run["largest_rise"] < 0 for run in bent)
    rising = sum(run["largest_rise"] > ROUNDING for run in further)
    of = f"of {len(bent)} seeds"
    return [
        Claim("λ_min of DfᵀDf is lost for α = 1/8", "Figure 1",
              f"below 1 % of the start's in {sum(x < 1e-2 for x in left)} {of}", max(left) < 1e-2),
        Claim("the library's flow stops there, for its rank", "the paper's goes on",
              f"{typed} {of}, by t = {last:.2f}; no rise before in {fallen}", typed == len(bent)),
        Claim("the flow of least norm goes on, and its loss rises", "Figure 1: not monotone",
              f"{rising} {of}", rising == len(further)),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------
#
# Lines are medians over the seeds and bands their range. Seeds differ more than scales: the order
# of the losses is read where each is divided by that of α = 256 of the same seed. The flow of least
# norm leaves three of the panels, with weights so large that its neurons are saturated.


# %%
SHOWN = {(BENT, LEAST): "-", **{(alpha, NEWTON): "-" for alpha in ALPHAS}, (16.0, GRADIENT): "--"}
PANELS = {
    "costs": "loss |ψ - y|²",
    "distances": "|w - w(0)|",
    "gradient_norms": "norm of the gradient in the flow's metric",
    "smallest_eigenvalues": "λ_min of DfᵀDf",
}
LIMITS = {
    "distances": (1e-2, 1e4),
    "gradient_norms": (1e-4, 1e3),
    "smallest_eigenvalues": (1e-6, 1),
}


def draw(axes: Axes, runs: Runs, name: str, part: slice, relative: bool = False) -> None:
    """A column of the runs over a part of the time, maybe over that of the largest α."""
    over = [run[name] for run in chosen(runs, alpha=ALPHAS[-1])] if relative else 1.0
    for color, ((alpha, flow), dashes) in zip(COLORS, SHOWN.items(), strict=False):
        if not (relative and flow == LEAST):
            shown = chosen(runs, alpha=alpha, flow=flow)
            rows = np.array([run[name] for run in shown]) / over
            label = f"{flow}, α = {alpha:g}"
            band(axes, shown[0]["times"][part], rows[:, part], color, label, ls=dashes)


def figure(runs: Runs) -> Figure:
    drawing = Figure(figsize=(12.5, 7), layout="constrained")
    *panels, relative, corner = drawing.subplots(2, 3).T.ravel()
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        draw(axes, runs, name, slice(int(name == "distances"), None))  # |w(0) - w(0)| has no log
        finish(axes, "", "time t of the flow", label, yscale="log", ylim=LIMITS.get(name))
    last = slice(2 * len(chosen(runs, flow=LEAST)[0]["times"]) // 3, None)
    draw(relative, runs, "costs", last, relative=True)
    finish(relative, "", "time t of the flow, its last third", "loss over that for α = 256")
    corner.set_axis_off()
    corner.legend(*panels[0].get_legend_handles_labels(), loc="center", fontsize=10)
    return drawing


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Figures 1 to 3 of Cayci's first version", arguments)
    seeds, horizon = (1, 2.0) if quick else (5, HORIZON)
    record = Record(OUTPUT, "cayci_v1_underparameterized", quick)
    shared = {"seed": range(seeds), "horizon": [horizon]}
    newton = grid(**shared, alpha=[BENT, *ALPHAS], flow=[NEWTON])
    runs = record.runs(follow, [*newton, *grid(**shared, alpha=[16.0], flow=[GRADIENT])])
    runs += record.runs(least_norm, grid(**shared))
    found = order_claims(runs) + rank_claims(runs)
    record.conclude(found, {"cayci_v1_underparameterized": figure(runs)})
    print(f"median and range over {seeds} seeds")
    return found


if __name__ == "__main__":
    main()
