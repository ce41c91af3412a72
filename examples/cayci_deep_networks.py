"""Depth: Cayci's Lemma 13 and Corollary 14
========================================

With H hidden layers and a trained output layer the theory of arXiv 2412.14031v5 asks two things of
the width: that the norms of all layers stay near 1 at the start (Lemma 13, (19)), and that the
kernel of the last hidden layer alone keeps the whole kernel positive. Then Corollary 14 gives
Gauss-Newton flow with adaptive damping the same rate for every depth, where gradient flow has that
of the smallest eigenvalue of the kernel. Each of these statements is measured here for H = 1, 2
and 3, and how far the widths and scales that the theory asks for are from those needed. The fifth
version was available to us without its formulas: constants are recovered from its proofs or chosen
here.
"""

# %%
import os
from functools import cache, partial
from typing import Any

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
    chosen,
    exponent,
    grid,
    legends_below,
    listed,
    near,
    posed,
    quick_asked,
    span,
)
from gnmanifold.plotting import COLORS

DEPTHS = (1, 2, 3)
ROWS, FAILURE, KAPPA, HORIZON = 16, 0.05, 1.0, 12.0
WIDTHS = (8, 11, 16, 23, 32, 45, 64, 91, 128, 256, 512, 1024, 2048, 4096)
WIDE, LOW = (32, 64, 128, 256, 512, 1024), 1 / 8  # of the kernels; a scale far below the threshold
QUICK, FULL = (2, 200, 20, 12, 32, 1), (1, 400, 200, 20, 128, 5)
X, Y = gn.datasets.single_index(ROWS, 8, 0.1, 0)  # inputs on the sphere
C_SIGMA = gn.FeedforwardNetwork(X).c_sigma
TIMES = HORIZON * np.linspace(0, 1, 97) ** 2
follow = partial(gn.flows.integrate, method="dop853", rtol=1e-8)


# %% [markdown]
# The norms of the layers
# -----------------------
#
# x^h = √(c_σ/m) σ(W^h x^(h-1)) with c_σ = 1/E σ(Z)². Lemma 13 says that all squared norms of N = 16
# inputs lie in [½, 3/2] with probability 1 - δ at a width that grows like the square of the sum of
# C^h, C = 2√(2/π) c_σ σ_0 σ_1. For H = 3 it is too large for matrices of that width. Their law can
# be drawn without them: if S = QR holds the states of a layer in its columns, W S = (W Q) R, and
# W Q is Gaussian with N columns. So the lemma is tested at its own width here.


# %%
def drawn_norms(width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Squared norms of the layers 1, 2, 3 for all inputs, in a random network of that width."""
    states, norms = X.T, []
    for _ in DEPTHS:
        R = np.linalg.qr(states, mode="r")
        states = np.sqrt(C_SIGMA / width) * np.tanh(rng.standard_normal((width, len(R))) @ R)
        norms.append(np.sum(states**2, axis=0))
    return norms


def deep(depth: int, width: int, rng: Any) -> gn.FeedforwardNetwork:
    return gn.FeedforwardNetwork(X, (width,) * depth, train_output=True, rng=rng)


def layer_norms(width: int, draws: int) -> Run:
    rng = np.random.default_rng(width)
    norms = np.array([drawn_norms(width, rng) for _ in range(draws)])  # draws, layers, inputs
    off = np.max(np.abs(norms - 1), axis=2)
    return {
        "width": width, "draws": draws, "off": off.T,
        "inside": [np.mean(np.all(off[:, :depth] <= 0.5, axis=1)) for depth in DEPTHS],
        "rms": np.sqrt(np.mean((norms - 1) ** 2, axis=(0, 2))),
        "band": np.quantile(norms, (0.05, 0.95), axis=(0, 2)),
    }  # fmt: skip


# %% [markdown]
# Why so much less is enough: the lemma lets deviations grow by C > 1 from layer to layer. To first
# order a deviation δ of ‖x‖² becomes rδ with r = c_σ E[Z σ(Z) σ'(Z)], below 1 for tanh, and a fresh
# one of variance (c_σ² E σ(Z)⁴ - 1)/m is added. That predicts the root mean square in each layer.


# %%
def gaussian(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of expectations over a standard normal number."""
    z = np.linspace(-9, 9, nodes)
    weights = np.exp(-z * z / 2)
    return z, weights / weights.sum()


def predicted_rms(width: int) -> np.ndarray:
    z, weights = gaussian(201)
    value, slope = np.tanh(z), 1 - np.tanh(z) ** 2
    ratio, fresh = C_SIGMA * weights @ (z * value * slope), C_SIGMA**2 * weights @ value**4 - 1
    return np.sqrt(fresh / width * np.cumsum(ratio ** (2 * np.arange(3))))


def lemma_width(depth: int) -> int:
    sigma = gn.theory.activation_constants("tanh")
    return int(np.ceil(gn.theory.deep_width(depth, ROWS, sigma, C_SIGMA, FAILURE)))


# %% [markdown]
# The kernel
# ----------
#
# K is the sum over the layers of the kernels of their blocks of parameters, all positive
# semidefinite, so that that of the last hidden layer bounds it from below. The Gram matrices of
# what `layers` of a model gives multiply entry by entry to a block's kernel; no Jacobian is formed.
# For infinite width the kernels follow from layer to layer by Gaussian expectations.


# %%
def kernels(depth: int, width: int, seed: int) -> Run:
    network = deep(depth, width, seed)
    layers = network.layers(network.initial_parameters)
    blocks = [(states @ states.T) * np.einsum("nki,mki->nm", deltas, deltas)
              for states, deltas in layers]  # fmt: skip
    K, last, limit = sum(blocks), blocks[depth - 1], limit_kernel(depth)
    return {
        "depth": depth, "width": width,
        "smallest": np.linalg.eigvalsh(K)[0], "last": np.linalg.eigvalsh(last)[0],
        "difference": np.linalg.eigvalsh(K - last)[0] / np.linalg.norm(K, 2),
        "distance": np.linalg.norm(K - limit) / np.linalg.norm(limit),
        "off": [np.max(np.abs(np.sum(states**2, axis=1) - 1)) for states, _ in layers],
    }  # fmt: skip


@cache
def limit_kernel(depth: int) -> np.ndarray:
    states, kernel = X @ X.T, np.zeros((ROWS, ROWS))
    for _ in range(depth):
        following, slopes = expectations(states)
        states, kernel = following, (kernel + states) * slopes
    return kernel + states


def expectations(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c_σ E σ(a) σ(b) and c_σ E σ'(a) σ'(b), a and b normal with these covariances, variance 1."""
    z, weights = gaussian(121)
    first, values, slopes = np.tanh(z), np.eye(ROWS), np.empty((ROWS, ROWS))
    for i, j in np.ndindex(ROWS, ROWS):
        along = min(states[i, j], 1.0)
        second = np.tanh(along * z[:, None] + np.sqrt(1 - along**2) * z)
        values[i, j] = C_SIGMA * (weights * first) @ second @ weights
        slopes[i, j] = C_SIGMA * (weights * (1 - first**2)) @ (1 - second**2) @ weights
    return values, slopes


# %% [markdown]
# The flows
# ---------
#
# Corollary 14 has the radius √m R, R of the order λ0²/N with an unknown constant, within which
# λ_min(K) >= λ0² = λ_min(K_0)/4. Here it is λ0/L with L estimated for H > 1: not proved, so that
# the certificate holds on a condition, and λ_min(K_t) and ‖w - w0‖ are monitored. α is
# `deep_threshold` for that radius. The flow for α = 1/8, far below it, leaves the region, but
# adaptive damping needs no more than λ_min(K_t) > 0 for the rate 2ν/(1+κ). Gradient flow is
# compared late, from t = 6/λ_min(K_0) on, with that of the kernel of the start. Curves are sampled
# between the integrator's steps, densely at first; Δ is compared with its envelope from t = 0.1 on,
# as at the start they are equal.


# %%
def flows(depth: int, width: int, seed: int) -> Run:
    network = deep(depth, width, seed)
    w0, damping = network.initial_parameters, gn.damping.Adaptive(KAPPA)
    found = gn.theory.overparameterized(problem(network, 1.0), w0, damping)
    start, L = gn.theory.start_constants(network, w0), found.inputs["L"]
    setting = gn.theory.Setting(L.value, *start, nu=1.0, mu=1.0, gap=found.gap)
    # a little above, so that rounding does not decide whether α reaches its threshold
    alpha = (1 + 1e-9) * gn.theory.deep_threshold(setting, found.radius)
    lazy, low = problem(network, alpha), problem(network, LOW)
    certificate = gn.theory.overparameterized(lazy, w0, damping, jacobian_lipschitz=L)
    adaptive = follow(lazy, w0, HORIZON, damping=damping)
    smallest = 4 * setting.lambda0**2
    gradient = follow(lazy, w0, max(HORIZON, 9 / smallest), damping=1.0)
    window = (6 / smallest, 9 / smallest)
    late, frozen = (
        gn.diagnostics.fitted_rate(gradient.times, costs, window).rate
        for costs in (gradient.costs, frozen_costs(network, gradient.times))
    )
    return {
        "depth": depth, "seed": seed, "alpha": alpha, "radius": found.radius,
        "smallest": smallest, "verdict": certificate.verdict, "late": late, "frozen": frozen,
        "monitor": [bool(each) for each in certificate.monitor(adaptive)],
        "adaptive": shown(lazy, adaptive), "gradient": shown(lazy, gradient),
        "low": shown(low, follow(low, w0, HORIZON, damping=damping)),
    }  # fmt: skip


def frozen_costs(network: gn.FeedforwardNetwork, times: np.ndarray) -> np.ndarray:
    gamma, U = np.linalg.eigh(gn.theory.empirical_ntk(network, network.initial_parameters))
    return 0.5 * np.exp(-2 * times[:, None] * gamma) @ (U.T @ Y) ** 2


def problem(network: gn.FeedforwardNetwork, alpha: float) -> gn.CompositeProblem:
    return posed(gn.Scaled(network, alpha), gn.SquaredError(Y), gn.GaussNewtonMetric(0.5))


def shown(fitting: gn.CompositeProblem, flow: gn.flows.Trajectory) -> Run:
    points = [gn.Linearization(fitting.model, flow.at(t)) for t in TIMES]
    gaps = np.array([fitting.loss.value(lin.psi) for lin in points]) / flow.costs[0]
    values = np.array([lin.smallest_singular_value for lin in points]) ** 2
    envelope = gn.theory.exponential_envelope(1.0, 2 / (1 + KAPPA))
    return {
        "gaps": gaps, "eigenvalues": values / values[0],
        "lowest": np.min(flow.smallest_eigenvalues) / flow.smallest_eigenvalues[0],
        "farthest": np.max(flow.distances),
        "excess": np.max((gaps / envelope(TIMES))[TIMES >= 0.1]),
    }  # fmt: skip


# %% [markdown]
# The claims
# ----------
#
# Slopes against the width are those of medians, known to some hundredths, and the next order in
# 1/√m is not small at the width 32: 0.1 is allowed for the norms, 0.15 for the kernels, of which
# there are fewer. Statements of first order in 1/√m or 1/α have a leeway of a tenth.


# %%
def slope(widths: Any, values: Any) -> float:
    return exponent(widths, np.median(values, axis=-1))


def enough(norms: Runs, depth: int) -> float:
    """Smallest width tried from which on the norms are in their interval often enough."""
    few = [run["width"] for run in norms if run["inside"][depth - 1] < 1 - FAILURE]
    return min(run["width"] for run in norms if run["width"] > max(few, default=0))


def norm_claims(norms: Runs, required: Runs, networks: Runs) -> list[Claim]:
    fits = [run for run in norms if run["width"] >= 32]
    off = np.array([run["off"] for run in fits])  # widths, layers, draws
    slopes = [slope([run["width"] for run in fits], off[:, layer]) for layer in range(off.shape[1])]
    sure = [run["inside"][depth - 1] for run, depth in zip(required, DEPTHS, strict=True)]
    needed, widths = [enough(norms, depth) for depth in DEPTHS], [run["width"] for run in required]
    ratios = np.array(fits[-1]["rms"]) / predicted_rms(fits[-1]["width"])
    real = [max(run["off"]) <= 0.5 for run in networks if run["width"] >= max(needed)]
    return [
        Claim(f"all |x^h|² in [½, 3/2] at width {listed(widths, 'd')}", "Lemma 13: >= 0.95",
              f"{listed(sure, '.2f')} of {required[0]['draws']} draws", min(sure) >= 1 - FAILURE),
        Claim("width with which that is reached, H = 1, 2, 3", "Lemma 13: at most these",
              listed(needed, "d"), bool(np.all(np.less_equal(needed, widths)))),
        Claim("and it serves networks with their matrices", ">= 0.95",
              f"{sum(real)} of {len(real)}", sum(real) >= (1 - FAILURE) * len(real)),
        near("||x^h|² - 1| falls with the width: slopes", "-1/2", slopes, -0.5, 0.1),
        near("its rms in each layer, over that predicted", "formula on this page", ratios, 1, 0.1),
    ]  # fmt: skip


def kernel_claims(runs: Runs) -> list[Claim]:
    difference, last = (min(run[name] for run in runs) for name in ("difference", "last"))
    slopes, ratios = [], []
    for depth in DEPTHS:
        slopes.append(slope(*by_width(runs, depth, "distance")))
        smallest = by_width(runs, depth, "smallest")[1][-1]
        ratios.append(np.median(smallest) / np.linalg.eigvalsh(limit_kernel(depth))[0])
    error = float(np.max(np.abs(limit_kernel(1) - gn.theory.expected_ntk(deep(1, 8, 0)))))
    return [
        Claim("K - D_H f (D_H f)ᵀ >= 0, and λ_min of D_H f (D_H f)ᵀ > 0",
              "Corollary 14's proof: theorem, checks the code",
              f"{difference:.0e} |K| and {last:.2f}, least of {len(runs)}",
              difference >= -1e-14 and last > 0),
        Claim("limit kernel for H = 1", "expected_ntk, checks the code", f"within {error:.0e}",
              error < 1e-8),
        near("K tends to the limit kernel: slopes", "-1/2", slopes, -0.5, 0.15),
        near(f"λ_min(K) at width {runs[-1]['width']} over its limit", "1", ratios, 1, 0.1),
    ]  # fmt: skip


def by_width(runs: Runs, depth: int, name: str) -> tuple[list[int], np.ndarray]:
    own = chosen(runs, depth=depth)
    widths = sorted({run["width"] for run in own})
    values = [[run[name] for run in chosen(own, width=width)] for width in widths]
    return widths, np.array(values)


def flow_claims(runs: Runs) -> list[Claim]:
    kept = [all(run["monitor"]) for run in runs]
    certain = [run["verdict"].startswith("holds") for run in runs]
    excess, low = (max(run[name]["excess"] for run in runs) for name in ("adaptive", "low"))
    floor, low_floor = (min(run[name]["lowest"] for run in runs) for name in ("adaptive", "low"))
    farther = min(run["low"]["farthest"] / run["radius"] for run in runs)
    ratios = [run["late"] / run["frozen"] for run in runs]
    faster = min(run["late"] / (2 * run["smallest"]) for run in runs)
    rates = [run["late"] for run in chosen(runs, seed=0)]
    scales = [run["alpha"] / LOW for run in runs]
    return [
        Claim("certificate at deep_threshold, L estimated", "Corollary 14",
              f"{sum(certain)} of {len(runs)}, for H > 1 if L is as small", all(certain)),
        Claim("λ_min(K_t) >= λ_min(K_0)/4, |w - w0| < √m R", "Corollary 14",
              f"{sum(kept)} of {len(runs)}; λ_min >= {floor:.3f} λ_min(K_0)", all(kept)),
        Claim("Δ_t <= Δ_0 exp(-2νt/(1+κ)) for H = 1, 2, 3", "Corollary 14",
              f"Δ over envelope <= {excess:.3f}, t >= 0.1", excess < 1),
        Claim("gradient flow's late rate over that of K_0", "lazy regime: 1",
              span(ratios, ".3f"), 0.9 < min(ratios) <= max(ratios) < 1.1),
        Claim("gradient flow's late rate for H = 1, 2, 3", "Theorem 5: >= λ_min(K_0)/2",
              f"{listed(rates, '.2f')}; >= {2 * faster:.2f} λ_min(K_0)",
              faster > 0.25 and max(rates) > 2 * min(rates)),
        Claim("α = 1/8: outside of the region, still below the envelope",
              "λ_min(K_t) > 0 is enough",
              f"α {span(scales, '.0f')} times lower, {farther:.0f} radii away, "
              f"λ_min >= {low_floor:.2f} λ_min(K_0)",
              farther > 1 and low_floor > 0.25 and low < 1),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------
#
# Above left the norms in each layer, 5 to 95 % of inputs and draws, with the widths of Lemma 13
# (dotted) and those that are enough (triangles). Above right λ_min of K and of the last block, and
# the limits. Below the flows, all seeds: costs, and λ_min(K_t) with the floor of the theory.


# %%
def draw_norms(axes: Axes, norms: Runs, required: Runs) -> None:
    runs = norms + [run for run in required if run["width"] > norms[-1]["width"]]
    widths, bands = [run["width"] for run in runs], np.array([run["band"] for run in runs])
    for h, depth in enumerate(DEPTHS):
        color = COLORS[h]
        axes.plot(widths, bands[:, :, h], color=color, label=[f"layer {depth}", None])
        axes.fill_between(widths, *bands[:, :, h].T, color=color, alpha=0.12, lw=0)
        least, lemma = enough(norms, depth), required[h]["width"]
        axes.plot(least, 0.5 - 0.05 * h, "^", color=color, ms=8, label=f"enough, H = {depth}")
        axes.axvline(lemma, color=color, ls=":", lw=2, label=f"Lemma 13, H = {depth}")
    axes.hlines((0.5, 1.5), widths[0], widths[-1], color="k", ls="--", lw=1)
    axes.set(xscale="log", xlabel="width m", ylabel="|x^h|²", title="Norms of the layers")


def draw_kernels(axes: Axes, runs: Runs) -> None:
    for depth, color in zip(DEPTHS, COLORS, strict=False):
        for name, style, what in (("smallest", "-", ""), ("last", "--", ", last block")):
            widths, values = by_width(runs, depth, name)
            low, middle, high = np.quantile(values, (0, 0.5, 1), axis=1)
            axes.loglog(widths, middle, style, color=color, label=f"H = {depth}{what}")
            axes.fill_between(widths, low, high, color=color, alpha=0.12, lw=0)
        lowest = np.linalg.eigvalsh(limit_kernel(depth))[0]
        axes.axhline(lowest, color=color, ls=":", label=f"H = {depth}, m → ∞")
    axes.minorticks_off()
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set(xlabel="width m", ylabel="λ_min", title="Kernel at the start")


def draw_flows(axes: Axes, runs: Runs, what: str, shown: dict[str, str]) -> None:
    for run in runs:
        for (name, label), dash in zip(shown.items(), ("-", "--"), strict=True):
            legend = f"H = {run['depth']}, {label}" if run["seed"] == 0 else None
            axes.semilogy(TIMES, run[name][what], dash, lw=1.2, label=legend,
                          color=COLORS[run["depth"] - 1])  # fmt: skip
    axes.set(xlim=(0, HORIZON), xlabel="time t of the flow")


def figure(norms: Runs, required: Runs, found: Runs, runs: Runs) -> Figure:
    drawing = Figure(figsize=(11, 8.5), layout="constrained")
    panels = drawing.subplots(2, 2).ravel()
    draw_norms(panels[0], norms, required)
    draw_kernels(panels[1], found)
    draw_flows(panels[2], runs, "gaps", {"adaptive": "adaptive", "gradient": "gradient flow"})
    envelope = gn.theory.exponential_envelope(1.0, 2 / (1 + KAPPA))
    panels[2].plot([0, HORIZON], envelope([0, HORIZON]), "k:", lw=2, label="envelope")
    panels[2].set(ylim=(1e-12, 2), ylabel="Δ_t / Δ_0", title="Cost")
    draw_flows(panels[3], runs, "eigenvalues", {"adaptive": "α of theory", "low": "α = 1/8"})
    panels[3].axhline(0.25, color="k", ls=":", lw=2, label="floor, 1/4")
    panels[3].set(yscale="linear", ylim=(0, None), ylabel="λ_min(K_t) / λ_min(K_0)",
                  title="Smallest eigenvalue along the flow")  # fmt: skip
    legends_below(panels, columns=3)
    return drawing


# %%
def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Lemma 13 and Corollary 14: deep networks", arguments)
    stride, draws, sure, networks, width, seeds = QUICK if quick else FULL
    record = Record(OUTPUT, "cayci_deep_networks", quick)
    norms = record.runs(layer_norms, grid(width=WIDTHS[::stride], draws=[draws]))
    required = record.runs(layer_norms, grid(width=map(lemma_width, DEPTHS), draws=[sure]))
    found = record.runs(kernels, grid(depth=DEPTHS, width=WIDE[::stride], seed=range(networks)))
    runs = record.runs(flows, grid(depth=DEPTHS, width=[width], seed=range(seeds)))
    claims = norm_claims(norms, required, found) + kernel_claims(found) + flow_claims(runs)
    record.conclude(claims, {"cayci_deep_networks": figure(norms, required, found, runs)})
    return claims


if __name__ == "__main__":
    main()
