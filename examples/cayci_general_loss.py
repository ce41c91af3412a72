"""Generalized Gauss-Newton for a general convex loss
==================================================

Theorem 10 of Cayci's arXiv 2412.14031v5: the flow with the Hessian ∇²g of a ν-convex, μ-smooth
loss g between the Jacobians, more parameters than outputs. A reader finds here its guaranteed
rates beside measured ones for several dampings, the local rate of damping (17), which does not
depend on ν, what the switch from (16) to (17) gains, the undamped flow, whose gradient decays
exactly like e^-t, and the length of the paths against its bound.
"""

# %%
import os
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, Record, quick_asked
from gnmanifold import theory
from gnmanifold.plotting import COLORS

Run = dict[str, Any]

# %% [markdown]
# Losses and dampings
# -------------------
#
# The logistic loss of labels and the pseudo-Huber loss of targets, with ν/2 ‖ψ‖² added. With hard
# labels the curvature of the logistic loss at its minimum is small where ν is: it is the loss on
# which methods slow down. The paper's text leaves constants open in its two curvature-aware
# dampings ρ = s/(1 + s). Taken here, with the kernel K = DfDfᵀ and A = ∇²g(ψ): s = κμ λ_min(K)
# for (16), and s = κ λ_min(A^½KA^½) for (17). The switch goes from the first to the second where
# the gradient of g has a tenth of its norm at the start.

# %%
LOSSES: dict[str, Callable[[np.ndarray], gn.losses.Loss]] = {
    "logistic": lambda y: gn.losses.Logistic(1.0 * (y > 0)),
    "pseudo-Huber": lambda y: gn.losses.PseudoHuber(y, 0.1),
}
KERNEL = gn.damping.CurvatureAware("kernel", 1.0)
CURVATURE = gn.damping.CurvatureAware("curvature", 1.0)
DAMPINGS: dict[str, gn.damping.DampingSchedule | float] = {
    "(16)": KERNEL,
    "(17)": CURVATURE,
    "(16), then (17)": gn.damping.Switch(KERNEL, CURVATURE, 0.1),
    "(17), κ = 0.3": gn.damping.CurvatureAware("curvature", 0.3),
    "ρ = 0": 0.0,
    "adaptive (14)": gn.damping.Adaptive(1.0),
    "ρ = 0.01": 0.01,
    "gradient flow": 1.0,
    "plain Gauss-Newton": 0.0,
}
GENERALIZED = ["(16)", "(17)", "(16), then (17)", *list(DAMPINGS)[4:-1]]
CURVES = ("(16)", "(17)", "(16), then (17)", "ρ = 0", "plain Gauss-Newton", "gradient flow")
RTOL, TIGHT = 1e-9, 1e-13  # relative to the displacement; without damping e^-10 of it is looked at


# %% [markdown]
# The setting
# -----------
#
# Two of the twelve inputs are close and have opposite labels, so that the kernel has one small
# eigenvalue, and the error a component there. The scale α is the smallest that the theorem allows,
# L sqrt(2Δ0μ)/(νλ0²).


# %%
def data(seed: int, closeness: float) -> tuple[gn.FeedforwardNetwork, np.ndarray]:
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.single_index(12, 4, 0.1, rng)
    X[1] = X[0] + closeness * X[1]
    X[1] /= np.linalg.norm(X[1])
    y[1] = -y[0]
    return gn.FeedforwardNetwork(X, 64, rng=rng), y


def posed(
    seed: int,
    loss: str,
    nu: float,
    damping: str,
    closeness: float = 0.1,
    alpha: float | None = None,
) -> tuple[gn.CompositeProblem, theory.Certificate]:
    """Problem at the threshold, and the certificate of its generalized flow."""
    network, y = data(seed, closeness)
    g = gn.losses.StronglyConvex(LOSSES[loss](y), nu)

    start = network.initial_parameters
    certify = partial(theory.overparameterized, w0=start, damping=DAMPINGS[damping])

    def scaled(alpha: float, metric: gn.metrics.Metric) -> gn.CompositeProblem:
        return gn.CompositeProblem(gn.ParameterManifold(gn.Scaled(network, alpha), metric), g)

    # flows take the damping that they are given in place of 0.5
    generalized = gn.GeneralizedGaussNewtonMetric(g, 0.5)
    if alpha is None:
        alpha = certify(scaled(1.0, generalized)).threshold * (1 + 1e-9)
    plain = damping == "plain Gauss-Newton"
    problem = scaled(alpha, gn.GaussNewtonMetric(0.5) if plain else generalized)
    return problem, certify(scaled(alpha, generalized))


def follow(
    problem: gn.CompositeProblem, damping: str, horizon: float, rtol: float = RTOL
) -> gn.flows.Trajectory:
    start, rho = problem.model.model.initial_parameters, DAMPINGS[damping]
    return gn.flows.integrate(problem, start, horizon, method="dop853", rtol=rtol, damping=rho)


def sampled(
    problem: gn.CompositeProblem, flow: gn.flows.Trajectory, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, parameters and gaps at evenly spaced times."""
    times = np.linspace(0, flow.times[-1], count)
    parameters = np.array([flow.at(t) for t in times])
    costs = np.array([float(problem.loss.value(problem.model(w))) for w in parameters])
    return times, parameters, costs - theory.loss_infimum(problem.loss)[0]


# %% [markdown]
# What holds everywhere
# ---------------------
#
# For any damping schedule the gap decays at least at the rate 2νλ0²/((1-ρ)μλ0² + ρ), at its worst
# ρ; for (16) that is 2ν/(μ(1+κ)) or more. The path is not longer than sqrt(2Δ0μ)/(ναλ0), which is
# the radius r0 at the threshold.


# %%
def everywhere(seed: int, loss: str, nu: float, damping: str) -> Run:
    problem, certificate = posed(seed, loss, nu, damping)
    flow = follow(problem, damping, 20.0)
    times, parameters, gaps = sampled(problem, flow, 401)
    resolved = gaps > 1e-9 * gaps[0]
    rates = -np.diff(np.log(gaps[resolved])) / np.diff(times[resolved])
    length = float(np.sum(np.linalg.norm(np.diff(parameters, axis=0), axis=1)))
    return {
        "damping": damping, "nu": nu, "guaranteed": certificate.rate, "least": float(np.min(rates)),
        "stated": nu / problem.loss.mu,  # 2ν/(μ(1+κ)) with κ = 1
        "kept": bool(certificate) and all(map(bool, certificate.monitor(flow))),
        "length": length / certificate.path_bound,
    }  # fmt: skip


# %% [markdown]
# Near the minimum
# ----------------
#
# Linearised there, ψ' = -M A (ψ - f⋆) with M = ((1-ρ)A + ρK⁻¹)⁻¹, and the gap decays at twice the
# smallest eigenvalue of MA. With (17) that is 2(1 + κa)/(1+κ), a = λ_min(A^½KA^½), which is
# 2/(1+κ) up to the term with a, whatever ν. With (16) it is close to 2λ_min(A)/μ for one bad
# direction, and plain Gauss-Newton has 2λ_min(A): both fall with ν. The rate is fitted where the
# gap is between 10⁻⁸ and 10⁻¹¹ of the first one. There ‖ψ - f⋆‖ is some thousandths at most, and
# the curvature is that of the minimum to about a percent; 5% leave room for that and for what is
# left of the second slowest direction.


# %%
def local_rate(problem: gn.CompositeProblem, damping: str) -> float:
    """Rate at the minimum by theory, with the kernel at the start."""
    loss, network = problem.loss, problem.model.model
    kernel = theory.empirical_ntk(network, network.initial_parameters)
    bottom = theory.loss_infimum(loss)[1]
    curvature = loss.hessian_product(bottom, np.ones(len(bottom)))  # A is diagonal
    if damping == "plain Gauss-Newton":
        return 2 * float(np.min(curvature))
    root = np.sqrt(curvature)
    values = np.linalg.eigvalsh(root[:, None] * kernel * root)
    if damping == "gradient flow":
        return 2 * float(values[0])
    s = {
        "(16)": loss.mu * np.linalg.eigvalsh(kernel)[0],
        "ρ = 0": 0.0,
        "(17), κ = 0.3": 0.3 * values[0],
    }.get(damping, values[0])
    # M A has the eigenvalues of x(1 + s)/(x + s), x those of A^½KA^½
    return 2 * float(np.min(values * (1 + s) / (values + s)))


def near(seed: int, loss: str, nu: float, damping: str) -> Run:
    problem, _ = posed(seed, loss, nu, damping)
    expected = local_rate(problem, damping)
    horizon = 40.0 if damping == "gradient flow" else 30.0 / min(expected, 1.0)
    flow = follow(problem, damping, horizon)
    times, _, gaps = sampled(problem, flow, 601)
    gaps /= gaps[0]
    late = (gaps < 1e-8) & (gaps > 1e-11)
    measured = None
    if np.sum(late) > 2:
        measured = gn.diagnostics.fitted_rate(times[late], gaps[late]).rate
    bottom = theory.loss_infimum(problem.loss)[1]
    left = np.linalg.norm(flow.outputs[-1] - bottom) / np.linalg.norm(bottom)
    return {
        "damping": damping, "nu": nu, "loss": loss, "seed": seed, "times": times, "gaps": gaps,
        "expected": expected, "measured": measured, "at 40": float(np.interp(40.0, times, gaps)),
        "reached": float(times[np.argmax(gaps < 1e-8)]), "left": float(left),
    }  # fmt: skip


# %% [markdown]
# Without damping
# ---------------
#
# As ρ → 0 the predictions follow Newton's flow ψ' = -A⁻¹∇g, along which ∇g(ψ_t) = e^-t ∇g(ψ_0)
# exactly, for any α as long as K is regular: here α = 100, far below the thresholds, so that the
# kernel changes on the way. The error relative to e^-t at t = 10 is that of rounding: 10⁻¹⁴ in
# the predictions in each of some hundred steps, times e¹⁰ = 2·10⁴.


# %%
def undamped(seed: int, loss: str, nu: float, closeness: float, alpha: float) -> Run:
    problem, _ = posed(seed, loss, nu, "ρ = 0", closeness, alpha)
    flow = follow(problem, "ρ = 0", 10.0, TIGHT)
    times = np.linspace(0, 10, 101)
    gradients = np.array([problem.loss.gradient(problem.model(flow.at(t))) for t in times])
    size = np.linalg.norm(gradients[0])
    errors = np.linalg.norm(gradients * np.exp(times)[:, None] - gradients[0], axis=1) / size
    moved = np.max(np.abs(flow.smallest_eigenvalues / flow.smallest_eigenvalues[0] - 1))
    sizes = np.linalg.norm(gradients, axis=1) / size
    return {"times": times, "sizes": sizes, "errors": errors, "moved": float(moved)}


# %% [markdown]
# The claims
# ----------
#
# As λ_min(A^½KA^½) <= μ λ_min(K), damping (17) is never above (16), and by the general rate it has
# the guarantee of (16) from the start on: the switch is better than (16) alone, but with these
# constants nothing is lost by (17) alone.


# %%
def select(runs: list[Run], *dampings: str, **fixed: Any) -> list[Run]:
    """Runs with one of some dampings and with given entries, such as nu=1.0."""
    return [run for run in runs if run["damping"] in dampings and fixed.items() <= run.items()]


def span(values: list[float], form: str = ".3g") -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def global_claims(runs: list[Run]) -> list[Claim]:
    kept = [run["kept"] for run in runs]
    ratios = [run["least"] / run["guaranteed"] for run in runs]
    kernel = [run["least"] / run["stated"] for run in select(runs, "(16)", "(16), then (17)")]
    share = max(run["length"] for run in runs)
    first, second = ([run["guaranteed"] for run in select(runs, n)] for n in ("(16)", "(17)"))
    same = np.isclose(first, second, rtol=1e-12)
    return [
        Claim("gap below its envelope, |w - w0| < r0, K >= λ0² I, any damping", "Theorem 10",
              f"{sum(kept)} of {len(kept)} runs", all(kept)),
        Claim("the decay is nowhere slower than guaranteed", "2νλ0²/((1-ρ)μλ0² + ρ)",
              f"{span(ratios)} times it", min(ratios) >= 1),
        Claim("(16), with or without switch: decay at ν/μ at least", "2ν/(μ(1+κ)), κ = 1",
              f"{span(kernel)} times it", min(kernel) >= 1),
        Claim("(17) has the guarantee of (16)", "the same formula",
              f"{same.sum()} of {len(same)} runs", bool(np.all(same))),
        Claim("finite length", "(18): sqrt(2Δ0μ)/(ναλ0)", f"at most {share:.3f} of it", share <= 1),
    ]  # fmt: skip


def local_claims(runs: list[Run]) -> list[Claim]:
    aware = select(runs, "(17)", "(16), then (17)", "(17), κ = 0.3", "ρ = 0")
    errors = [abs(run["measured"] / run["expected"] - 1) for run in aware]
    ones = [run["measured"] for run in select(runs, "(17)")]
    falling = select(runs, "(16)", "plain Gauss-Newton", loss="logistic")
    misses = [abs(run["measured"] / run["expected"] - 1) for run in falling]
    slow = {name: [run["measured"] for run in select(falling, name)]
            for name in ("(16)", "plain Gauss-Newton")}  # fmt: skip
    left = [run["at 40"] for run in select(runs, "gradient flow", loss="logistic")]
    ended = [run["left"] for run in runs if run["damping"] != "gradient flow"]
    decades = np.log10(max(run["nu"] for run in runs) / min(run["nu"] for run in runs))
    return [
        Claim("local rates of (17), κ = 1 and 0.3, the switch, ρ = 0", "2(1+κa)/(1+κ)",
              f"within {max(errors):.2%}", max(errors) < 0.05),
        Claim(f"(17), κ = 1: one rate over {decades:.0f} decades of ν", "1", span(ones, ".4f"),
              max(abs(rate - 1) for rate in ones) < 0.05),
        Claim("local rates of (16) and plain Gauss-Newton, logistic", "2λ_min(MA), 2λ_min(A)",
              f"within {max(misses):.2%}", max(misses) < 0.05),
        Claim("both fall with ν", "the same",
              "; ".join(f"{name}: {span(rates)}" for name, rates in slow.items()),
              all(max(rates) > 3 * min(rates) for rates in slow.values())),
        Claim("gradient flow: gap left at t = 40, logistic", "2λ_min(A^½KA^½) at last",
              span(left), min(left) > 0.1),
        Claim("the limit αf(w) is the minimum of g", "(18)",
              f"|αf - f⋆| at most {max(ended):.0e} |f⋆|", max(ended) < 1e-3),
    ]  # fmt: skip


def special_claims(runs: list[Run], undamped: list[Run]) -> list[Claim]:
    labels = [run for run in runs if run["loss"] == "logistic" and run["nu"] < 1]
    first, switched, second = (
        np.array([run["reached"] for run in select(labels, name)])
        for name in ("(16)", "(16), then (17)", "(17)")
    )
    gains, behind = first / switched, second / switched
    worst, moved = (max(np.max(run[name]) for run in undamped) for name in ("errors", "moved"))
    return [
        Claim("the switch reaches 10⁻⁸ of the gap before (16), ν < 1", "Theorem 10",
              f"{span(gains.tolist())} times as fast", gains.min() > 1),
        Claim("(17) alone is not behind the switch", "not in the paper",
              f"{span(behind.tolist())} of its time", behind.max() < 1.05),
        Claim("ρ = 0: ∇g(ψ_t) = e^-t ∇g(ψ_0) for t <= 10, all ν and λ0", "Theorem 10, ρ → 0",
              f"relative error {worst:.0e}; λ_min(K) changed by {moved:.0%}", worst < 1e-6),
    ]  # fmt: skip


# %%
def finish(axes: Axes, title: str, xlabel: str, ylabel: str, **limits: Any) -> None:
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, **limits)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend(fontsize=8)


def draw_gaps(axes: Axes, runs: list[Run]) -> None:
    nu = 0.01
    for color, name in zip(COLORS, CURVES, strict=False):
        run = select(runs, name, nu=nu, loss="logistic")[0]
        gaps = np.where(np.array(run["gaps"]) > 1e-12, run["gaps"], np.nan)
        axes.semilogy(run["times"], gaps, "--" if "then" in name else "-", color=color, label=name)
    envelope = theory.exponential_envelope(1.0, nu / (0.25 + nu))([0, 60])
    axes.semilogy([0, 60], envelope, "k:", label="envelope of (16), e^(-νt/μ)")
    finish(axes, f"Logistic loss, ν = {nu:g}", "time t", "gap Δ/Δ₀", xlim=(0, 60), ylim=(1e-21, 2))


def draw_marks(axes: Axes, runs: list[Run], x: str, y: str, style: str = "") -> None:
    """Entry y of the runs against entry x, a colour and a marker for each damping."""
    names = dict.fromkeys(run["damping"] for run in runs)
    for color, marker, name in zip(COLORS, "os^Dv<>", names, strict=False):
        points = np.transpose([(run[x], run[y]) for run in select(runs, name)])
        size = 9 if name == "(17)" else 5  # it lies below others
        axes.loglog(*points, marker + style, color=color, mfc="none", ms=size, label=name)
        if y == "measured":
            axes.loglog(points[0], [run["expected"] for run in select(runs, name)], color=color)


def draw_exact(axes: Axes, runs: list[Run]) -> None:
    for index, run in enumerate(runs):
        axes.semilogy(run["times"], run["sizes"], color=COLORS[0], lw=3, alpha=0.4,
                      label="|∇g| over its start, every run" if index == 0 else None)  # fmt: skip
        axes.semilogy(run["times"][1:], run["errors"][1:], color=COLORS[1], lw=0.7,
                      label="relative error" if index == 0 else None)  # fmt: skip
    axes.semilogy([0, 10], np.exp([0.0, -10.0]), "k--", label="e^(-t)")
    finish(axes, "Without damping", "time t", "norm of the gradient; error", ylim=(1e-17, 1e4))


def figure(everywhere: list[Run], near: list[Run], undamped: list[Run]) -> Figure:
    drawing = Figure(figsize=(14, 8), layout="constrained")
    panels = drawing.subplots(2, 3).ravel()
    draw_gaps(panels[0], near)
    shown = select(near, *CURVES[:-1], "(17), κ = 0.3", loss="logistic", seed=0)
    draw_marks(panels[1], shown, "nu", "measured")
    finish(panels[1], "Local rates, logistic loss", "ν", "late rate of the gap, lines: theory",
           ylim=(None, 50))  # fmt: skip
    draw_marks(panels[2], shown, "nu", "reached", "-")
    finish(panels[2], "Time to 10⁻⁸ of the gap, logistic loss", "ν", "time t")
    draw_marks(panels[3], everywhere, "guaranteed", "least")
    panels[3].axline((1e-3, 1e-3), (1, 1), color="black", lw=1, label="equality")
    finish(panels[3], "Rates, every run", "guaranteed rate", "slowest measured decay, t <= 20",
           xlim=(1e-9, None))  # fmt: skip
    draw_marks(panels[4], everywhere, "nu", "length")
    panels[4].axhline(1, color="black", lw=1, label="bound")
    finish(panels[4], "Length of the path, t <= 20", "ν", "length over its bound, r0")
    draw_exact(panels[5], undamped)
    return drawing


def grid(**values: Any) -> list[dict[str, Any]]:
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Generalized Gauss-Newton for a general loss", arguments)
    record = Record(OUTPUT, "cayci_general_loss", quick)
    losses = ["logistic"] if quick else list(LOSSES)
    nus = [0.01] if quick else [0.1, 0.01, 0.001]  # and 1, which is left out where time counts
    names = ["(16)", "(17)", "gradient flow"] if quick else GENERALIZED
    start = {"seed": range(1 if quick else 3), "loss": losses}
    rates = record.runs(everywhere, grid(**start, nu=([] if quick else [1.0]) + nus, damping=names))
    names = [*CURVES, "(17), κ = 0.3"]
    mild = ["(16)", "(17)", "plain Gauss-Newton"] if quick else names
    start = {"seed": range(1 if quick else 2), "loss": losses}
    late = grid(**start, nu=[1.0], damping=mild) + grid(**start, nu=nus, damping=names)
    late = record.runs(near, late)
    start = {"seed": [0], "loss": losses, "closeness": [0.1] if quick else [1.0, 0.1]}
    free = record.runs(undamped, grid(**start, nu=[1.0, *nus], alpha=[100.0]))
    found = global_claims(rates) + local_claims(late) + special_claims(late, free)
    record.conclude(found, {"cayci_general_loss": figure(rates, late, free)})
    return found


if __name__ == "__main__":
    main()
