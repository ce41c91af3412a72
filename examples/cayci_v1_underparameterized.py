"""The underparameterised experiments of Cayci's first version
===========================================================

Figures 1 to 3 of arXiv 2412.14031v1: a network with 144 parameters on 256 rows of California
Housing, the loss ‖ψ - y‖², Gauss-Newton flow by Euler's method with step 0.01 for several scales
α, and gradient flow beside it. A reader finds here what the figures show, claim by claim, over
several seeds, and where the paper's own setting cannot be right.
"""

# %%
import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, Record, quick_asked
from gnmanifold.plotting import COLORS

ALPHAS = (0.125, 8.0, 16.0, 256.0)
STEP, HORIZON, EVERY = 0.01, 6.0, 10


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
    manifold = gn.ParameterManifold(gn.Scaled(network, alpha))
    return gn.CompositeProblem(manifold, gn.SquaredError(y, weight=2.0))


# %% [markdown]
# The runs
# --------
#
# Each finished run is written to a JSON record before the next one starts; a run that is in the
# record already is not made again. Gradient flow is (6) with ρ = 1. Euler's method with the step
# 0.01 of the paper is unstable for it: the limit 2/(μ λ_max(K)) is some thousandths, and the half
# of that is taken.


# %%
def follow(seed: int, alpha: float, flow: str, horizon: float) -> dict[str, Any]:
    posed = problem(seed, alpha)
    start, options = posed.model.initial_parameters, {"every": EVERY, "damping": 0.0}
    step = STEP
    if flow == "gradient":
        step = min(STEP, gn.flows.stability_limit(posed, start, damping=1.0) / 2)
        options = {"every": max(1, round(0.1 / step)), "damping": 1.0}
    found = gn.flows.integrate(posed, start, horizon, step=step, **options)
    return {
        "seed": seed,
        "alpha": alpha,
        "flow": flow,
        "step": step,
        "stability_limit": found.stability_limit,
        "end": found.end,
        **{
            name: getattr(found, name)
            for name in ("times", "costs", "distances", "gradient_norms", "smallest_eigenvalues")
        },
    }


def settings(seeds: int, horizon: float) -> list[dict[str, Any]]:
    shown = [("Gauss-Newton", alpha) for alpha in ALPHAS] + [("gradient", 16.0)]
    return [
        {"seed": seed, "alpha": alpha, "flow": flow, "horizon": horizon}
        for flow, alpha in shown
        for seed in range(seeds)
    ]


# %% [markdown]
# The claims
# ----------


# %%
def select(runs: list[dict[str, Any]], alpha: float, flow: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["alpha"] == alpha and run["flow"] == flow]


def claims(runs: list[dict[str, Any]]) -> list[Claim]:
    by = {alpha: select(runs, alpha, "Gauss-Newton") for alpha in ALPHAS}
    gradient = select(runs, 16.0, "gradient")
    finals = {alpha: np.array([run["costs"][-1] for run in each]) for alpha, each in by.items()}
    ordered = (finals[8.0] < finals[16.0]) & (finals[16.0] < finals[256.0])
    falling = {alpha: [bool(np.all(np.diff(run["costs"]) < 0)) for run in each]
               for alpha, each in by.items()}  # fmt: skip
    moved = [np.median([run["distances"][-1] for run in by[alpha]]) for alpha in (16.0, 256.0)]
    slope = float(np.log(moved[1] / moved[0]) / np.log(16))
    bent = by[0.125]
    lost = [run["smallest_eigenvalues"][-1] / run["smallest_eigenvalues"][0] for run in bent]
    limits = [run["stability_limit"] for run in gradient]
    slower = [run["costs"][-1] for run in gradient]
    count = len(ordered)
    return [
        Claim("final loss grows with α: 8 < 16 < 256", "Figure 1", f"{ordered.sum()} of {count}",
              bool(np.all(ordered))),
        Claim("monotone decrease for α >= 16", "Figure 1",
              f"{sum(falling[16.0])} and {sum(falling[256.0])} of {count}",
              all(falling[16.0]) and all(falling[256.0])),
        Claim("monotone decrease for α = 8", "Figure 1, one seed",
              f"{sum(falling[8.0])} of {count} seeds", any(falling[8.0])),
        Claim("λ_min of DfᵀDf is lost for α = 1/8", "Figure 1",
              f"at most {max(lost):.1e} of the start's", max(lost) < 1e-2),
        Claim("no monotone decrease to the end for α = 1/8", "Figure 1",
              f"{count - sum(map(finished_falling, bent))} of {count}",
              not any(map(finished_falling, bent))),
        Claim("|w - w0| falls with α, like 1/α", "Figure 2", f"slope {slope:.2f}",
              abs(slope + 1) < 0.15),
        Claim("gradient flow needs a shorter Euler step", "Figure 3 does not say",
              f"limit {min(limits):.1e} to {max(limits):.1e}", max(limits) < STEP),
        Claim("gradient flow is slower than Gauss-Newton", "Figure 3",
              f"{np.median(slower):.1f} against {np.median(finals[16.0]):.1f}",
              bool(np.all(np.array(slower) > finals[16.0]))),
    ]  # fmt: skip


def finished_falling(run: dict[str, Any]) -> bool:
    return run["end"].startswith("Finished") and bool(np.all(np.diff(run["costs"]) < 0))


# %%
def figure(runs: list[dict[str, Any]]) -> Figure:
    drawing = Figure(figsize=(11, 7), layout="constrained")
    panels = drawing.subplots(2, 2, sharex=True).ravel()
    rows = (
        ("costs", "loss |ψ - y|²"),
        ("distances", "|w - w(0)|"),
        ("gradient_norms", "norm of the Riemannian gradient"),
        ("smallest_eigenvalues", "λ_min of DfᵀDf"),
    )
    shown = [(alpha, "Gauss-Newton") for alpha in ALPHAS] + [(16.0, "gradient")]
    for axes, (name, label) in zip(panels, rows, strict=True):
        for index, (alpha, flow) in enumerate(shown):
            chosen = select(runs, alpha, flow)
            size = min(len(run["times"]) for run in chosen)  # all of them until the first ends
            values = np.array([run[name][:size] for run in chosen])
            times, first = chosen[0]["times"][:size], 1 if name == "distances" else 0
            color, style = COLORS[index], "--" if flow == "gradient" else "-"
            axes.plot(times[first:], np.median(values, axis=0)[first:], style, color=color,
                      label=f"{flow}, α = {alpha:g}")  # fmt: skip
            axes.fill_between(times[first:], values.min(axis=0)[first:],
                              values.max(axis=0)[first:], color=color, alpha=0.2)  # fmt: skip
        axes.set(ylabel=label, yscale="log")
        axes.grid(visible=True, which="major", alpha=0.25)
    for axes in panels[2:]:
        axes.set_xlabel("time t of the flow")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return drawing


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Figures 1 to 3 of Cayci's first version", arguments)
    seeds, horizon = (1, 2.0) if quick else (5, HORIZON)
    record = Record(OUTPUT, "cayci_v1_underparameterized", quick)
    runs = record.runs(follow, settings(seeds, horizon))
    found = claims(runs)
    record.conclude(found, {"cayci_v1_underparameterized": figure(runs)})
    print(f"median and range over {seeds} seeds")
    return found


if __name__ == "__main__":
    main()
