"""Gauss-Newton steps: what Cayci's theorems guarantee in discrete time
====================================================================

Theorem 7 of arXiv 2412.14031v5 is about steps of damped Gauss-Newton, more parameters than outputs.
The fifth version was available to us without its formulas: constants are recovered from its proofs
or chosen here; the first version's proof has an error. Beside measured steps stand here: the
corrected theorem, for several dampings and losses, and that its rate is free of the conditioning of
the kernel; a counterexample to the first version's bound of the path; the theorem with fewer
parameters than outputs; the local factor of full steps at a fit.
"""

# %%
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, Record, Runs, chosen, exponent, finish, grid, posed, quick_asked
from gnmanifold import theory
from gnmanifold.plotting import COLORS

DAMPINGS: dict[str, gn.damping.DampingSchedule | float] = {
    "ρ = 0": 0.0, "ρ = 0.1": 0.1, "ρ = 1": 1.0, "data-based": gn.damping.DataBased(1.0),
    "adaptive": gn.damping.Adaptive(1.0), "adaptive, κ = 0.3": gn.damping.Adaptive(0.3),
}  # fmt: skip
LOSSES: dict[str, Callable[[np.ndarray], gn.losses.Loss]] = {
    "squared error": gn.SquaredError,
    "pseudo-Huber": lambda y: gn.losses.StronglyConvex(gn.losses.PseudoHuber(y, 0.3), 0.2),
    "logistic": lambda y: gn.losses.StronglyConvex(gn.losses.Logistic(1.0 * (y > 0)), 0.1),
}
NEAR = (  # a fit: radius of S, step, offset of the start, number of steps
    (0.0, 1.0, 0.2, 6), (0.3, 1.0, 0.01, 16), (0.7, 1.0, 0.01, 40),
    (1.5, 1.0, 1e-8, 22), (1.5, 0.5, 0.01, 14),
)  # fmt: skip
BOUNDS = {"distance": ("o-", "measured"), "v1": ("--", "bound of the first version"), "corrected":
          ("-.", "corrected bound"), "any damping": (":", "bound for any damping")}  # fmt: skip
RESOLVED = 1e-8  # of Δ0: gaps below it are differences of rounded costs


# %% [markdown]
# More parameters than outputs
# ----------------------------
#
# The step is η = 1/(2μb), where a and b bound x/((1-ρ)x + ρ) over the spectrum of the kernel
# DfDfᵀ near the start. If α is at least 2L sqrt(2Δ0/ν)/λ0², then the iterates stay in the ball of
# radius r0 = λ0/L and the gap Δ contracts by 1 - (ν/2μ)(a/b) in each step, whatever the damping.
# Every run has the smallest α that the theorem allows at its start.


# %%
def at_threshold(
    network: gn.FeedforwardNetwork, loss: gn.losses.Loss,
    theorem: Callable[..., Any], rho: float = 0.5, factor: float = 1.0, **options: Any,
) -> tuple[gn.CompositeProblem, theory.Certificate]:  # fmt: skip
    """Problem with the smallest α of a theorem, times a factor, and its certificate."""

    def scaled(alpha: float) -> gn.CompositeProblem:  # runs take the ρ that they are given
        return posed(gn.Scaled(network, alpha), loss, gn.GaussNewtonMetric(rho))

    certify = partial(theorem, w0=network.initial_parameters, discrete=True, **options)
    threshold = certify(scaled(1.0)).threshold * (1 + 1e-9)  # above its rounding; free of α
    problem = scaled(factor * threshold)
    return problem, certify(problem)


def contraction(gaps: np.ndarray) -> float:
    """Largest factor of the gap in a step."""
    resolved = gaps[:-1] > RESOLVED * gaps[0]
    return float(np.max(gaps[1:][resolved] / gaps[:-1][resolved]))


def compared(certificate: theory.Certificate, flow: gn.flows.Trajectory) -> dict[str, Any]:
    """What was measured beside what the certificate promises."""
    gaps = certificate.gaps(flow)
    return {
        "certified": bool(certificate), "kept": all(map(bool, certificate.monitor(flow))),
        "gaps": gaps, "measured": contraction(gaps), "guaranteed": certificate.contraction,
        "distance": float(np.max(flow.distances)), "path_bound": certificate.path_bound,
        "radius": certificate.radius,
    }  # fmt: skip


def over(seed: int, n: int, width: int, steps: int, loss: str, damping: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.single_index(n, 4, 0.1, rng)
    network = gn.FeedforwardNetwork(X, width, rng=rng)
    start, schedule = network.initial_parameters, DAMPINGS[damping]
    theorem, g = theory.overparameterized, LOSSES[loss](y)
    problem, certificate = at_threshold(network, g, theorem, damping=schedule)
    step = certificate.step
    flow = gn.flows.integrate(problem, start, steps * step, step=step, damping=schedule)
    return {"loss": loss, "damping": damping, "seed": seed, **compared(certificate, flow)}


# %% [markdown]
# Conditioning of the kernel
# --------------------------
#
# Two of the inputs approach each other, so that λ_min of the kernel goes to zero with the square
# of their distance. The targets are the eigenvector of λ_min: all of the error is where progress
# is slowest. In a kernel that does not move, a step of squared error multiplies the gap by the
# square of 1 - ηh with h = λ_min/((1-ρ)λ_min + ρ). At ten times the threshold the path is r0/40 at
# most, so that σ_min moves by L r0/40 = λ0/40 of its 2λ0, and λ_min by 2.5%: that is the tolerance
# for the progress 1 - q of a step. Gradient descent is ρ = 1, with the step of the same theorem.
# The guarantee has λ0² in place of λ_min = 4λ0², and half of the decrease to first order: the
# measured progress is 8 times the guaranteed one at most.


# %%
def paired(closeness: float) -> tuple[gn.FeedforwardNetwork, np.ndarray, np.ndarray]:
    """Network on inputs of which two are close, and the kernel's eigenvalues and weakest vector."""
    X = gn.datasets.single_index(12, 4, 0.0, 0)[0].copy()
    X[1] = X[0] + closeness * X[1]
    X[1] /= np.linalg.norm(X[1])
    network = gn.FeedforwardNetwork(X, 64, rng=1)
    values, vectors = np.linalg.eigh(theory.empirical_ntk(network, network.initial_parameters))
    return network, values, vectors[:, 0]


def ill_conditioned(closeness: float, damping: str, steps: int) -> dict[str, Any]:
    network, values, weakest = paired(closeness)
    start, schedule = network.initial_parameters, DAMPINGS[damping]
    theorem, loss = theory.overparameterized, gn.SquaredError(weakest)
    problem, found = at_threshold(network, loss, theorem, factor=10.0, damping=schedule)
    step = found.step
    flow = gn.flows.integrate(problem, start, steps * step, step=step, damping=schedule)
    gain = values[0] / ((1 - (rho := flow.damping[0])) * values[0] + rho)
    return {
        "damping": damping, "condition": values[-1] / values[0],
        "measured": 1 - contraction(flow.costs), "expected": 1 - (1 - step * gain) ** 2,
        "guaranteed": 1 - found.contraction,
    }  # fmt: skip


# %% [markdown]
# The first version's bound of the path
# -------------------------------------
#
# The displacement is bounded through the largest eigenvalue γ/((1-ρ)γ + ρ)² of DfH⁻²Dfᵀ, γ in the
# spectrum of the kernel. The first version inserts the largest γ; but the function falls beyond
# γ = ρ/(1-ρ), so that for a small ρ the value there is the smallest and no bound. Corrected, the
# maximum B² over the interval takes its place. Summed over steps of the theorem, both give
# 2Bμ sqrt(2Δ0)((1-ρ)λ0² + ρ)/(αν^{3/2}λ0²), as Δ contracts by 1 - (ν/2μ)(a/b). The first version
# recommends ρ = λ0². Its bound is taken here with the largest eigenvalue of the kernel at the
# start, which is to its advantage. The error grows with the condition of the kernel: no constant
# repairs the bound.


# %%
def displaced(closeness: float, ratio: float, cap: int, threshold: str) -> dict[str, Any]:
    """Steps with ρ/(1-ρ) = ratio · λ0², at the corrected threshold or at the first version's."""
    network, values, weakest = paired(closeness)
    start, rho = network.initial_parameters, ratio * values[0] / (4 + ratio * values[0])
    lambda0, lambda_n = theory.start_constants(network, start)
    lipschitz = float(theory.jacobian_lipschitz(network))
    setting = theory.Setting(lipschitz, lambda0, lambda_n, 1.0, 1.0, 0.5)  # |weakest|² = 1
    squares, top = values / ((1 - rho) * values + rho) ** 2, values[-1]
    v1_peak, peak = np.sqrt(top) / ((1 - rho) * top + rho), theory.kernel_peak(setting, rho)
    corrected = 2 * theory.lemma4_bound(setting, 1.0, rho)  # times 1/α
    v1, radius = corrected * v1_peak / peak, theory.nondegenerate_radius(lambda0, lipschitz)
    alpha = v1 / radius if threshold == "v1" else theory.discrete_threshold(setting)
    step, factor = theory.discrete_rate(setting, rho)
    count = int(min(np.ceil(30 / (1 - factor)), cap))
    problem = posed(gn.Scaled(network, alpha), gn.SquaredError(weakest), gn.GaussNewtonMetric(0.5))
    flow = gn.flows.integrate(
        problem, start, count * step, step=step, damping=rho, every=count, eigenvalues=False
    )
    return {
        "ratio": ratio, "threshold": threshold, "distance": flow.distances[-1], "radius": radius,
        "v1": v1 / alpha, "corrected": corrected / alpha,
        "any damping": 2 * theory.path_bound(setting, alpha),
        "kernel": squares.max() / v1_peak**2, "kernel, corrected": squares.max() / peak**2,
    }  # fmt: skip


# %% [markdown]
# Fewer parameters than outputs
# -----------------------------
#
# Theorem 25 is about the flow; this is its form for undamped steps of η = 1/(2μ). With α above two
# thresholds the loss is convex along geodesics of the surface, the gap to its minimum on the
# surface contracts by 1 - ν/(4μ), and the iterates stay in the ball B. The minimum is found by a
# longer run first.


# %%
def under(seed: int, steps: int, loss: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.single_index(24, 3, 0.1, rng)
    network = gn.FeedforwardNetwork(X, 2, rng=rng)
    start, g = network.initial_parameters, LOSSES[loss](y)
    problem, _ = at_threshold(network, g, theory.underparameterized, rho=0.0)
    step = 1 / (2 * g.mu)
    ahead = gn.flows.integrate(problem, start, 400 * step, step=step, every=50, eigenvalues=False)
    lowest = ahead.costs.min()
    certificate = theory.underparameterized(problem, start, discrete=True, infimum=lowest)
    flow = gn.flows.integrate(problem, start, steps * step, step=step)
    return {"loss": loss, "seed": seed, **compared(certificate, flow)}


# %% [markdown]
# Full steps near a fit
# ---------------------
#
# At a critical point with residual gradient ξ the derivative of the full step is -S, with
# S = G⁻¹Σξ_i∇²f_i, and that of a step of size η is (1-η)I - ηS. Here the fit of a decay exp(-wt)
# is fixed, and the residual is a multiple of the normal direction in which the curve bends, so
# that the spectral radius of S is what we choose. S is positive: the point is a strict minimum in
# every case, and the flow converges.


# %%
def full_steps(radius: float, step: float, offset: float, count: int) -> dict[str, Any]:
    t, fit = np.linspace(0, 3, 8), np.array([0.8])
    model = gn.CallableModel(
        lambda w: np.exp(-w[0] * t), 1, jacobian=lambda w: -t[:, None] * np.exp(-w[0] * t[:, None])
    )
    manifold = gn.ParameterManifold(model)
    bend = manifold.second_fundamental_form(manifold.point(fit), [1.0], [1.0])

    def problem(size: float) -> gn.CompositeProblem:
        return gn.CompositeProblem(manifold, gn.SquaredError(model(fit) - size * bend))

    unit = gn.diagnostics.local_factor(problem(1.0), fit).radius
    bent = problem(radius / unit)
    local = gn.diagnostics.local_factor(bent, fit, step=step)
    flow = gn.flows.integrate(bent, fit + offset, count * step, step=step)
    distances = np.linalg.norm(flow.parameters - fit, axis=1)
    late = distances[-9:]
    return {
        "radius": radius, "step": step, "factor": local.radius, "distances": distances,
        "full_converge": local.full_steps_converge, "flow_converges": local.flow_converges,
        "measured": (late[-1] / late[0]) ** (1 / 8) if late[0] > 0 else 0.0,
    }  # fmt: skip


# %% [markdown]
# The claims
# ----------


# %%
def columns(runs: Runs, *names: str) -> list[list[Any]]:
    return [[run[name] for run in runs] for name in names]


def certified_claims(runs: Runs, theorem: str, ball: str) -> list[Claim]:
    good = [run["certified"] and run["kept"] for run in runs]
    progress = [(1 - run["measured"]) / (1 - run["guaranteed"]) for run in runs]
    shares = [run["distance"] / run["radius"] for run in runs]
    inside = [run["distance"] <= run["path_bound"] <= run["radius"] * (1 + 1e-9) for run in runs]
    theorem += ": theorem, checks the code"
    return [
        Claim(f"gap below the geometric envelope, {ball}", theorem,
              f"{sum(good)} of {len(good)} runs", all(good)),
        Claim(f"no step makes less progress 1 - q than guaranteed, {ball}", theorem,
              f"{min(progress):.2f} to {max(progress):.0f} times it", min(progress) >= 1),
        Claim(f"iterates within the bound of the path, inside {ball}", theorem,
              f"{sum(inside)} of {len(inside)}, at most {max(shares):.3f} of the radius",
              all(inside)),
    ]  # fmt: skip


def conditioning_claims(runs: Runs) -> list[Claim]:
    off = max(abs(run["measured"] / run["expected"] - 1) for run in runs)
    adaptive, gradient = (exponent(*columns(chosen(runs, damping=name), "condition", "measured"))
                          for name in ("adaptive", "ρ = 1"))  # fmt: skip
    reach = np.ptp(np.log(columns(runs, "condition")))
    error = 2 * 0.025 / reach  # 2.5% at either end of the line
    shares = sorted(run["measured"] / run["guaranteed"] for run in runs)
    return [
        Claim("progress of a step is 1 - (1 - ηh)² on the weakest eigenvector",
              "kernel that does not move", f"within {off:.1e}", off < 0.025),
        Claim("adaptive: no dependence on λ_max/λ_min", "Theorem 7, slope 0",
              f"slope {adaptive:.4f} over {reach / np.log(10):.1f} decades", abs(adaptive) < error),
        Claim("gradient descent: progress in proportion to λ_min/λ_max", "Theorem 7, slope -1",
              f"slope {gradient:.4f}", abs(gradient + 1) < error),
        Claim("measured over guaranteed progress there", "1 to 8",
              f"{shares[0]:.2f} to {shares[-1]:.2f}", 1 <= shares[0] <= shares[-1] <= 8 * 1.025),
    ]  # fmt: skip


def path_claims(runs: Runs) -> list[Claim]:
    own = chosen(runs, threshold="corrected")
    (advised,), (outside,) = chosen(own, ratio=1.0), chosen(runs, threshold="v1")
    beyond = [run["distance"] / run["v1"] for run in own]
    within = [run["distance"] / min(run["corrected"], run["any damping"]) for run in own]
    kernel = max(run["kernel, corrected"] for run in own)
    return [
        Claim("v1's bound of ‖DfH⁻²Dfᵀ‖ fails at its own ρ = λ0²", "v1, Lemma 2: at most 1",
              f"exceeded {advised['kernel']:.0f} times", advised["kernel"] > 2),
        Claim("v1's bound of the displacement fails at ρ = λ0²", "v1, Theorem 2: at most 1",
              f"exceeded {advised['distance'] / advised['v1']:.1f} times; "
              f"{max(beyond):.1f} for smaller ρ", advised["distance"] > 2 * advised["v1"]),
        Claim("the maximum over an interval with the spectrum bounds ‖DfH⁻²Dfᵀ‖",
              "identity, checks the code", f"at most {kernel:.3f} of it", kernel <= 1 + 1e-9),
        Claim("the corrected bounds of the displacement hold",
              "Lemma 4 corrected; path length, ours",
              f"at most {max(within):.3f} of them", max(within) <= 1),
        Claim("at v1's threshold on α the iterates leave the ball r0", "v1: they stay",
              f"|w - w0| is {outside['distance'] / outside['radius']:.1f} r0",
              outside["distance"] > 2 * outside["radius"]),
    ]  # fmt: skip


def local_claims(runs: Runs) -> list[Claim]:
    quadratic, *fits, apart, half = runs
    errors = [abs(run["measured"] / run["factor"] - 1) for run in (*fits, apart, half)]
    d = np.array(quadratic["distances"])
    order = float(np.log(d[3] / d[2]) / np.log(d[2] / d[1]))
    grown = apart["distances"][-1] / apart["distances"][0]
    return [
        Claim("steps contract by the radius of (1-η)I - ηS", "derivative of the step",
              f"relative error {max(errors):.1e}", max(errors) < 0.01),
        Claim("S beyond 1: full steps leave a strict minimum, half steps do not", "same",
              f"distance times {grown:.0f}; factor {half['measured']:.3f}",
              not apart["full_converge"] and apart["flow_converges"] and grown > 10
              and half["measured"] < 1),
        Claim("quadratic convergence without residual", "order 2", f"order {order:.2f}",
              abs(order - 2) < 0.25),
    ]  # fmt: skip


# %%
Line = tuple[Any, Any, str, str]  # x, y, style and label; without a label in the last one's colour


def gap_lines(runs: Runs, key: str, names: list[str]) -> list[Line]:
    lines: list[Line] = []
    for name in names:
        run = chosen(runs, **{key: name})[0]
        gaps, k = np.array(run["gaps"]) / run["gaps"][0], np.arange(len(run["gaps"]))
        lines += [(k, np.where(gaps > 1e-11, gaps, np.nan), "-", name)]
        lines += [(k, theory.geometric_envelope(1.0, run["guaranteed"])(k), "--", "")]
    return lines


def conditioning_lines(runs: Runs) -> list[Line]:
    lines: list[Line] = []
    for marker, name in (("s", "adaptive"), ("o", "data-based"), ("^", "ρ = 1")):
        x, *y = columns(chosen(runs, damping=name), "condition", "measured", "guaranteed")
        label = name.replace("ρ = 1", "gradient descent")
        lines += [(x, y[0], marker + "-", label), (x, y[1], "--", "")]
    return lines


def path_lines(runs: Runs) -> list[Line]:
    x, radii, *y = columns(chosen(runs, threshold="corrected"), "ratio", "radius", *BOUNDS)
    return [(x, np.divide(a, radii), *b) for a, b in zip(y, BOUNDS.values(), strict=True)]


def draw(axes: Axes, lines: list[Line], *labels: str, **settings: Any) -> None:
    index = -1
    for x, y, style, label in lines:
        index += bool(label)
        axes.plot(x, y, style, color=COLORS[index], label=label or None, mfc="none", ms=5)
    finish(axes, *labels, yscale="log", **settings)
    axes.legend(fontsize=8)


def figure(many: Runs, few: Runs, pairs: Runs, paths: Runs, local: Runs) -> Figure:
    groups = {f"p > n, {name}": chosen(many, loss=name) for name in LOSSES} | {"p < n": few}
    shown, gap = ["ρ = 0", "ρ = 0.1", "ρ = 1", "adaptive"], "gap Δₖ/Δ₀, dashed: guaranteed"
    log, low = {"xscale": "log"}, {"ylim": (1e-12, 3)}
    drawing = Figure(figsize=(14, 8), layout="constrained")
    a, b, c, d, e, f = drawing.subplots(2, 3).ravel()
    draw(a, gap_lines(many, "damping", shown), "p > n, squared error", "step k", gap, **low)
    draw(b, gap_lines(few, "loss", list(LOSSES)), "p < n, undamped", "step k", gap, **low)
    marks = [(*(1 - np.array(columns(each, "guaranteed", "measured"))), mark, name)
             for mark, (name, each) in zip("os^D", groups.items(), strict=True)]  # fmt: skip
    c.axline((1e-3, 1e-3), (1, 1), color="k", lw=1, label="equality")
    draw(c, marks, "Progress, every run", "guaranteed progress 1 - q",
         "least progress of a step", **log)  # fmt: skip
    draw(d, conditioning_lines(pairs), "Progress, error on the weakest eigenvector",
         "λ_max/λ_min of the kernel", "progress 1 - q, dashed: guaranteed", **log)  # fmt: skip
    draw(e, path_lines(paths), "Displacement, error on the weakest eigenvector",
         "ρ/(1-ρ) in units of λ0²", "displacement in units of r0", **log)  # fmt: skip
    steps = [(range(len(run["distances"])), run["distances"], "o-",
              f"S = {run['radius']:g}, η = {run['step']:g}") for run in local]  # fmt: skip
    draw(f, steps, "Steps near a fit", "step k", "|w - fit|", ylim=(1e-13, 1))
    return drawing


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Gauss-Newton in discrete time", arguments)
    seeds, n, width, steps = (1, 12, 64, 40) if quick else (5, 32, 256, 150)
    closeness = [0.3, 0.1, 0.03] if quick else [1.0, 0.3, 0.1, 0.03, 0.01]
    cap, ratios = (500, np.logspace(-3, 3, 7)) if quick else (5000, np.logspace(-3, 3, 13))
    record = Record(OUTPUT, "cayci_discrete_time", quick)
    losses, ids, names = list(LOSSES), range(seeds), ["adaptive", "data-based", "ρ = 1"]
    size = {"n": [n], "width": [width], "steps": [steps]}
    many = record.runs(over, grid(seed=ids, **size, loss=losses, damping=list(DAMPINGS)))
    few = record.runs(under, grid(seed=ids, steps=[60], loss=losses))
    pairs = record.runs(ill_conditioned, grid(closeness=closeness, damping=names, steps=[30]))
    twins = {"closeness": [0.03], "cap": [cap]}
    paths = grid(**twins, ratio=ratios.tolist(), threshold=["corrected"])
    paths = record.runs(displaced, paths + grid(**twins, ratio=[1.0], threshold=["v1"]))
    names = ["radius", "step", "offset", "count"]
    local = record.runs(full_steps, [dict(zip(names, each, strict=True)) for each in NEAR])
    found = [
        *certified_claims(many, "Theorem 7 corrected", "the ball r0, p > n"),
        *conditioning_claims(pairs),
        *path_claims(paths),
        *certified_claims(few, "ours, after Theorem 25", "the ball B, p < n"),
        *local_claims(local),
    ]
    record.conclude(found, {"cayci_discrete_time": figure(many, few, pairs, paths, local)})
    return found


if __name__ == "__main__":
    main()
