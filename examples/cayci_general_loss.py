"""Generalized Gauss-Newton for a general convex loss
==================================================

Theorem 10 of Cayci's arXiv 2412.14031v5: the flow with the Hessian ∇²g of a ν-convex, μ-smooth
loss g between the Jacobians, more parameters than outputs. A reader finds here its guaranteed
rates beside measured ones for several dampings, the local rate of damping (17), which does not
depend on ν, what the switch from (16) to (17) gains, the undamped flow, whose gradient decays
exactly like e^-t, and the length of the paths against its bound. The fifth version was available to
us without its formulas: constants are recovered from its proofs or chosen here.
"""

# %%
import os
from collections.abc import Callable
from functools import partial

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
    decay_error,
    finish,
    grid,
    legends_below,
    posed,
    quick_asked,
    span,
)
from gnmanifold import theory
from gnmanifold.plotting import COLORS

# %% [markdown]
# Losses and dampings
# -------------------
#
# The logistic loss of labels and the pseudo-Huber loss of targets, with ν/2 ‖ψ‖² added. With hard
# labels the curvature of the logistic loss at its minimum is small where ν is: it is the loss on
# which methods slow down. The two curvature-aware dampings are ρ = s/(1 + s), with the kernel
# K = DfDfᵀ and A = ∇²g(ψ): s = κμ λ_min(K) for (16), and s = κ λ_min(A^½KA^½) for (17). The switch
# goes from the first to the second where the gradient of g has a tenth of its norm at the start.

# %%
LOSSES: dict[str, Callable[[np.ndarray], gn.losses.Loss]] = {
    "logistic": lambda y: gn.losses.Logistic(1.0 * (y > 0)),
    "pseudo-Huber": lambda y: gn.losses.PseudoHuber(y, 0.1),
}
KERNEL, CURVATURE = gn.damping.CurvatureAware("kernel"), gn.damping.CurvatureAware("curvature")
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
LATE = ["(16)", "(17)", "(16), then (17)", "ρ = 0", "plain Gauss-Newton", "(17), κ = 0.3"]
NU = 0.01  # of the first panel
SHOWN = [*LATE, "gradient flow", "adaptive (14)", "ρ = 0.01"]  # with colours and markers
LOOK = dict(zip(SHOWN, zip([*COLORS[:7], *COLORS[4:6]], "os^Dv<>v<", strict=True), strict=True))
RTOL, TIGHT = 1e-9, 1e-13  # relative to the displacement; without damping e^-10 of it is looked at


# %% [markdown]
# The setting
# -----------
#
# Two of the twelve inputs are close and have opposite labels, so that the kernel has one small
# eigenvalue, and the error a component there. The scale α is the smallest that the theorem allows,
# L sqrt(2Δ0μ)/(νλ0²).


# %%
def data(
    seed: int, loss: str, nu: float, closeness: float = 0.1
) -> tuple[gn.FeedforwardNetwork, gn.losses.StronglyConvex]:
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.single_index(12, 4, 0.1, rng)
    X[1] = X[0] + closeness * X[1]
    X[1] /= np.linalg.norm(X[1])
    y[1] = -y[0]
    return gn.FeedforwardNetwork(X, 64, rng=rng), gn.losses.StronglyConvex(LOSSES[loss](y), nu)


def at_threshold(
    seed: int, loss: str, nu: float, damping: str
) -> tuple[gn.CompositeProblem, theory.Certificate]:
    """Problem at the threshold, and the certificate of its generalized flow."""
    network, g = data(seed, loss, nu)
    start = network.initial_parameters
    certify = partial(theory.overparameterized, w0=start, damping=DAMPINGS[damping])
    # flows take the damping that they are given in place of 0.5
    generalized = gn.GeneralizedGaussNewtonMetric(g, 0.5)
    threshold = certify(posed(gn.Scaled(network, 1.0), g, generalized)).threshold
    model = gn.Scaled(network, threshold * (1 + 1e-9))
    metric = gn.GaussNewtonMetric(0.5) if damping == "plain Gauss-Newton" else generalized
    return posed(model, g, metric), certify(posed(model, g, generalized))


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
# the radius r0 at the threshold. As λ_min(A^½KA^½) <= μ λ_min(K), damping (17) is never above (16)
# and has the guarantee of (16): both are computed at the states of the runs with (17).


# %%
def everywhere(seed: int, loss: str, nu: float, damping: str) -> Run:
    problem, certificate = at_threshold(seed, loss, nu, damping)
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
        "shares": shares(problem, flow) if damping == "(17)" else [],
    }  # fmt: skip


def shares(problem: gn.CompositeProblem, flow: gn.flows.Trajectory) -> list[float]:
    """Damping (17) over damping (16) at the states of a run."""
    states = [gn.Linearization(problem.model, w) for w in flow.parameters]
    return [CURVATURE.rho(lin, problem.loss) / KERNEL.rho(lin, problem.loss) for lin in states]


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


def late(seed: int, loss: str, nu: float, damping: str) -> Run:
    problem, _ = at_threshold(seed, loss, nu, damping)
    expected = local_rate(problem, damping)
    flow = follow(problem, damping, 40 if damping == "gradient flow" else 30 / min(expected, 1.0))
    times, _, gaps = sampled(problem, flow, 601)
    gaps /= gaps[0]
    low = (gaps < 1e-8) & (gaps > 1e-11)
    measured = gn.diagnostics.fitted_rate(times[low], gaps[low]).rate if low.sum() > 2 else None
    bottom = theory.loss_infimum(problem.loss)[1]
    left = np.linalg.norm(flow.outputs[-1] - bottom) / np.linalg.norm(bottom)
    return {
        "damping": damping, "nu": nu, "loss": loss, "seed": seed, "times": times, "gaps": gaps,
        "expected": expected, "measured": measured, "left": float(left),
        "reached": float(times[np.argmax(gaps < 1e-8)]),
    }  # fmt: skip


# %% [markdown]
# Gradient flow does not get that far. Its rate 2λ_min(A^½KA^½) at the minimum is measured where
# nothing else is to be seen: the start is the minimum, found by the undamped flow, and from there
# 10⁻⁴ ‖f⋆‖ in the direction A^(-½)u, u the weakest eigenvector. On that way the curvature of the
# losses changes by a percent at most, so that 5% serve here too.


# %%
def weakest(seed: int, loss: str, nu: float) -> Run:
    problem, _ = at_threshold(seed, loss, nu, "gradient flow")
    w = follow(problem, "ρ = 0", 24.0).parameters[-1]  # e^-48 of the gap is left
    lowest, bottom = theory.loss_infimum(problem.loss)
    root = np.sqrt(problem.loss.hessian_product(bottom, np.ones(len(bottom))))
    kernel = theory.empirical_ntk(problem.model.model, w)
    direction = np.linalg.eigh(root[:, None] * kernel * root)[1][:, 0] / root
    direction *= 1e-4 * np.linalg.norm(bottom) / np.linalg.norm(direction)
    w = w + gn.geometry.horizontal_lift(problem.model, w, direction)
    flow = gn.flows.integrate(problem, w, 40.0, method="dop853", damping=1.0, eigenvalues=False)
    return {
        "damping": "gradient flow", "nu": nu, "loss": loss, "seed": seed,
        "expected": local_rate(problem, "gradient flow"),
        "measured": gn.diagnostics.fitted_rate(flow.times, flow.costs - lowest).rate,
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
    network, g = data(seed, loss, nu, closeness)
    problem = posed(gn.Scaled(network, alpha), g, gn.GeneralizedGaussNewtonMetric(g, 0.5))
    flow = follow(problem, "ρ = 0", 10.0, TIGHT)
    times = np.linspace(0, 10, 101)
    gradients = np.array([problem.loss.gradient(problem.model(flow.at(t))) for t in times])
    moved = np.max(np.abs(flow.smallest_eigenvalues / flow.smallest_eigenvalues[0] - 1))
    sizes = np.linalg.norm(gradients, axis=1) / np.linalg.norm(gradients[0])
    errors = [decay_error(gradients[:k], times[:k]) for k in range(1, len(times) + 1)]
    return {"times": times, "sizes": sizes, "errors": errors, "moved": moved}


# %% [markdown]
# The claims
# ----------
#
# (17) has the guarantee of (16) from the start on: the switch is better than (16) alone, but with
# these constants nothing is lost by (17) alone.


# %%
def among(runs: Runs, *dampings: str) -> Runs:
    return [run for run in runs if run["damping"] in dampings]


def off(runs: Runs) -> float:
    """Largest relative error of the predicted rates."""
    return max(abs(run["measured"] / run["expected"] - 1) for run in runs)


def global_claims(runs: Runs) -> list[Claim]:
    kept = [run["kept"] for run in runs]
    ratios = [run["least"] / run["guaranteed"] for run in runs]
    aware = ("(16)", "(17)", "(16), then (17)")
    stated = [run["least"] / run["stated"] for run in among(runs, *aware)]
    less = [share for run in runs for share in run["shares"]]
    length = max(run["length"] for run in runs)
    return [
        Claim("gap below its envelope, |w - w0| < r0, K >= λ0² I, any damping", "Theorem 10",
              f"{sum(kept)} of {len(kept)} runs", all(kept)),
        Claim("the decay is nowhere slower than guaranteed", "2νλ0²/((1-ρ)μλ0² + ρ)",
              f"{span(ratios)} times it", min(ratios) >= 1),
        Claim("(16), (17) and the switch: decay at ν/μ at least", "2ν/(μ(1+κ)), κ = 1",
              f"{span(stated)} times it", min(stated) >= 1),
        Claim("ρ of (17) is at most that of (16), along runs with (17)",
              "λ_min(A^½KA^½) <= μλ_min(K)", f"{span(less)} of it, {len(less)} states",
              max(less) <= 1 + 1e-9),  # equal at ψ = 0 for the logistic loss, but for rounding
        Claim("finite length", "(18): sqrt(2Δ0μ)/(ναλ0)", f"<= {length:.3f} of it", length <= 1),
    ]  # fmt: skip


def local_claims(runs: Runs, weak: Runs) -> list[Claim]:
    aware = among(runs, "(17)", "(16), then (17)", "(17), κ = 0.3", "ρ = 0")
    names = "; ".join(dict.fromkeys(run["damping"] for run in aware))
    ones = [run["measured"] for run in chosen(runs, damping="(17)")]
    falling = among(chosen(runs, loss="logistic"), "(16)", "plain Gauss-Newton")
    slow = {name: [run["measured"] for run in chosen(falling, damping=name)]
            for name in ("(16)", "plain Gauss-Newton")}  # fmt: skip
    ended = max(run["left"] for run in among(runs, *LATE))
    decades = np.log10(max(run["nu"] for run in runs) / min(run["nu"] for run in runs))
    rates = span((run["measured"] for run in weak), ".1e")
    return [
        Claim(f"local rates: {names}", "2(1+κa)/(1+κ)",
              f"within {off(aware):.2%}", off(aware) < 0.05),
        Claim(f"(17), κ = 1: one rate over {decades:.0f} decades of ν", "1", span(ones, ".4f"),
              max(abs(rate - 1) for rate in ones) < 0.05),
        Claim("local rates of (16) and plain Gauss-Newton, logistic", "2λ_min(MA), 2λ_min(A)",
              f"within {off(falling):.2%}", off(falling) < 0.05),
        Claim("both fall with ν", "the same",
              "; ".join(f"{name}: {span(rates)}" for name, rates in slow.items()),
              all(max(rates) > 3 * min(rates) for rates in slow.values())),
        Claim("local rates of gradient flow, on the weakest eigenvector", "2λ_min(A^½KA^½)",
              f"{rates}, within {off(weak):.2%}", off(weak) < 0.05),
        Claim("the limit αf(w) is the minimum of g, all but gradient flow", "(18)",
              f"|αf - f⋆| at most {ended:.0e} |f⋆|", ended < 1e-3),
    ]  # fmt: skip


def special_claims(runs: Runs, undamped: Runs) -> list[Claim]:
    labels = [run for run in chosen(runs, loss="logistic") if run["nu"] < 1]
    first, switched, second = (
        np.array([run["reached"] for run in chosen(labels, damping=name)])
        for name in ("(16)", "(16), then (17)", "(17)")
    )
    gains, behind = first / switched, second / switched
    worst, moved = (max(np.max(run[name]) for run in undamped) for name in ("errors", "moved"))
    return [
        Claim("the switch reaches 10⁻⁸ of the gap before (16), ν < 1", "Theorem 10",
              f"{span(gains)} times as fast", gains.min() > 1),
        Claim("(17) alone is not behind the switch", "not in the paper",
              f"{span(behind)} of its time", behind.max() < 1.05),
        Claim("ρ = 0: ∇g(ψ_t) = e^-t ∇g(ψ_0) for t <= 10, all ν and λ0", "Theorem 10, ρ → 0",
              f"relative error {worst:.0e}; λ_min(K) changed by {moved:.0%}", worst < 1e-6),
    ]  # fmt: skip


# %%
def draw_gaps(axes: Axes, runs: Runs) -> None:
    shown = chosen(runs, nu=NU, loss="logistic", seed=0)
    for name in (*LATE[:5], "gradient flow"):
        (run,), color = chosen(shown, damping=name), LOOK[name][0]
        gaps = np.where(np.array(run["gaps"]) > 1e-12, run["gaps"], np.nan)
        axes.semilogy(run["times"], gaps, "--" if "then" in name else "-", color=color, label=name)
    envelope = theory.exponential_envelope(1.0, NU / (0.25 + NU))([0, 60])
    axes.semilogy([0, 60], envelope, "k:", label="envelope of (16), e^(-νt/μ)")
    finish(axes, f"Logistic loss, ν = {NU:g}", "time t", "gap Δ/Δ₀", xlim=(0, 60), ylim=(1e-13, 2))


def draw_marks(axes: Axes, runs: Runs, x: str, y: str, style: str = "") -> None:
    """Entry y of the runs against entry x, a colour and a marker for each damping."""
    for name in dict.fromkeys(run["damping"] for run in runs):
        own, (color, marker) = chosen(runs, damping=name), LOOK[name]
        points = np.transpose([(run[x], run[y]) for run in own])
        size = 9 if name == "(17)" else 5  # it lies below others
        axes.loglog(*points, marker + style, color=color, mfc="none", ms=size, label=name)
        if y == "measured":
            axes.loglog(points[0], [run["expected"] for run in own], color=color)


def draw_exact(axes: Axes, runs: Runs) -> None:
    times, look = runs[0]["times"], ({"lw": 3, "alpha": 0.4}, {"lw": 0.7})
    labels = ("|∇g| over its start, every run", "largest relative error until t")
    for color, name, label, style in zip(COLORS, ("sizes", "errors"), labels, look, strict=False):
        values = np.array([run[name] for run in runs])[:, 1:].T  # without error at the start
        axes.semilogy(times[1:], values, color=color, **style)[0].set_label(label)
    axes.semilogy([0, 10], np.exp([0.0, -10.0]), "k--", label="e^(-t)")
    finish(axes, "Without damping", "time t", "norm of the gradient; error")


def figure(everywhere: Runs, late: Runs, weak: Runs, undamped: Runs) -> Figure:
    drawing = Figure(figsize=(14, 11), layout="constrained")
    panels = drawing.subplots(2, 3).ravel()
    draw_gaps(panels[0], late)
    shown = among(chosen(late, loss="logistic", seed=0), *LATE)
    draw_marks(panels[1], shown + chosen(weak, loss="logistic", seed=0), "nu", "measured")
    finish(panels[1], "Local rates, logistic loss", "ν", "late rate of the gap, lines: theory")
    draw_marks(panels[2], shown, "nu", "reached", "-")
    finish(panels[2], "Time to 10⁻⁸ of the gap, logistic loss", "ν", "time t")
    draw_marks(panels[3], everywhere, "guaranteed", "least")
    panels[3].axline((1e-3, 1e-3), (1, 1), color="black", lw=1, label="equality")
    finish(panels[3], "Rates, every run", "guaranteed rate", "slowest measured decay, t <= 20")
    draw_marks(panels[4], everywhere, "nu", "length")
    panels[4].axhline(1, color="black", lw=1, label="bound")
    finish(panels[4], "Length of the path, t <= 20", "ν", "length over its bound, r0")
    draw_exact(panels[5], undamped)
    legends_below(panels, columns=2)
    return drawing


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Generalized Gauss-Newton for a general loss", arguments)
    record = Record(OUTPUT, "cayci_general_loss", quick)
    losses, nus = (["logistic"], [1.0, NU]) if quick else (list(LOSSES), [1.0, 0.1, NU, 0.001])
    names = ["(16)", "(17)", "gradient flow"] if quick else GENERALIZED
    seeds, fewer = (range(1), range(1)) if quick else (range(3), range(2))
    rates = record.runs(everywhere, grid(seed=seeds, loss=losses, nu=nus, damping=names))
    settings = grid(seed=fewer, loss=losses, nu=nus, damping=LATE[:-1] if quick else LATE)
    settings += grid(seed=[0], loss=["logistic"], nu=[NU], damping=["gradient flow"])
    slow = record.runs(late, settings)
    weak = record.runs(weakest, grid(seed=fewer, loss=losses, nu=nus))
    pairs = {"closeness": [0.1] if quick else [1.0, 0.1], "alpha": [100.0]}
    free = record.runs(undamped, grid(seed=[0], loss=losses, nu=nus, **pairs))
    found = global_claims(rates) + local_claims(slow, weak) + special_claims(slow, free)
    record.conclude(found, {"cayci_general_loss": figure(rates, slow, weak, free)})
    return found


if __name__ == "__main__":
    main()
