"""Curvature and convexity of the prediction surface
=================================================

Section 4 of arXiv 2412.14031v5, on the surface αf(B) for fewer parameters than outputs. A reader
finds here four statements of the first version (v1) that are false, with counterexamples on a
circle and a sphere, and the corrected ones, with the curves that attain their constants.
"""

# %%
import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import common
import gnmanifold as gn
from common import OUTPUT, Claim, Record, Run, Runs, chosen, finish, grid, near, span
from gnmanifold.plotting import COLORS
from gnmanifold.theory import underparameterized as certified

NAME, L = "cayci_v5_convexity", 2.0
SCALES = tuple(10 ** (k / 2) for k in range(-8, 3))  # α over the threshold
BOUNDS = ("Lemma 15, >= 1", "Lemma 28, <= 1", "Hessian of ½|w - w0|²")


# %%
# The last two have D²f of norm L: one bends as much as that allows, one slows down as fast.
CURVES = {
    "circle": lambda w: [anp.cos(w[0]), anp.sin(w[0])],
    "touching": lambda w: [anp.sin(w[0]), 2 * anp.sin(w[0] / 2) ** 2],
    "sphere": lambda w: [anp.cos(w[0]) * anp.cos(w[1]), anp.cos(w[0]) * anp.sin(w[1]),
                         anp.sin(w[0])],
    "parabola": lambda w: [w[0], L * w[0] ** 2 / 2],
    "slowing": lambda w: [w[0] - L * w[0] ** 2 / 2, 0.0],
}  # fmt: skip
BEHIND, ASIDE = (-2.0, 0.0), (2.0, 1.0)  # targets on the other side of a circle, and inside


def curve(name: str, y: Any, alpha: float = 1.0) -> gn.CompositeProblem:
    model = gn.AutogradModel(lambda w: anp.array(CURVES[name](w)), 1 + (name == "sphere"))
    return common.posed(gn.Scaled(model, alpha), gn.SquaredError(y), gn.GaussNewtonMetric())


def network(seed: int, alpha: float = 1.0) -> gn.CompositeProblem:
    """Single-index data and a centred network: 24 outputs, 6 parameters."""
    rng = np.random.default_rng(seed)
    X, y = gn.datasets.single_index(24, 3, rng=rng)
    model = gn.Scaled(gn.FeedforwardNetwork(X, 2, rng=rng), alpha)
    return common.posed(model, gn.SquaredError(y), gn.GaussNewtonMetric())


def smallest(problem: gn.CompositeProblem, w: Any) -> float:
    """Smallest eigenvalue of the Riemannian Hessian relative to the metric."""
    return gn.diagnostics.hessian_terms(problem, np.array(w)).eigenvalues[0]


# %% [markdown]
# Four false statements of the first version
# ------------------------------------------
#
# Lemma 7 takes P∇²gP, at least ν, for the Hessian on the surface, without the product of II and ∇g;
# on the unit circle with y = (-2, 0) the Hessian is -2 cos w. Lemma 5 takes from Rolle's theorem,
# which fails for vectors, that immersions are injective. Lemma 8 has sublevel sets geodesically
# convex; on a sphere one is what a cap leaves, and a shortest way crosses the cap. Theorem 5 has
# the gap below g(0) e^(-2νt) for large α. On a circle of radius α with y inside, s from the centre,
# the loss is a constant less αs cos δ, its Hessian at δ = 0 is λ = s/α < 1, and along the flow
# tan(δ/2) falls like e^(-λt): the gap is above Δ(0) e^(-2λt), whatever α. Below, α = 64 is above
# the threshold of the corrected theorem. Rows hold where the counterexample is confirmed.


# %%
def unit_circle() -> Run:
    problem, w = curve("circle", BEHIND), np.linspace(-4, 4, 81)
    turn = gn.diagnostics.along_geodesic(problem, np.array([-1.0]), np.array([2.0]))
    flow = gn.flows.integrate(problem, np.array([0.1]), 6.0, method="dop853")
    return {
        "w": w,
        "costs": [problem.cost(np.array([t])) for t in w],
        "hessians": [smallest(problem, [t]) for t in w],
        "middle": [smallest(problem, [0.0]), turn.modulus],
        "speeds": [np.linalg.norm(problem.model.jacobian([t])) for t in w],
        "meeting": np.linalg.norm(problem.model([np.pi]) - problem.model([-np.pi])),
        "distance": problem.manifold.dist(np.array([-np.pi]), np.array([np.pi])),
        "ratio": gn.diagnostics.polyak_lojasiewicz_along(flow, minimum=0.5).smallest,
    }


def cap() -> Run:
    """Highest costs on a geodesic shorter than π, at its ends and on another way between them."""
    problem = curve("sphere", (-2.0, 0.0, 0.0))
    geodesic = problem.manifold.geodesic(np.array([0.7, 0.0]), np.array([0.0, 1.1 / np.cos(0.7)]))
    ends = np.array([geodesic(-1.0), geodesic(1.0)])
    corners = np.array([ends[0], [1.3, ends[0, 1]], [1.3, ends[1, 1]], ends[1]])
    detour = np.transpose([np.interp(np.linspace(0, 3, 46), range(4), x) for x in corners.T])
    ways = {"ends": ends, "detour": detour, "middle": [geodesic(0.0)]}
    return {name: max(problem.cost(w) for w in way) for name, way in ways.items()}


def slow(alpha: float) -> Run:
    problem, (a, b), w0 = curve("touching", ASIDE, alpha), ASIDE, np.zeros(1)
    least = ((2 * b * alpha - a**2 - b**2) / (alpha + np.hypot(a, alpha - b))) ** 2 / 2
    flow = gn.flows.integrate(problem, w0, 10.0, method="dop853", rtol=1e-11)
    times = np.linspace(0, 10, 41)
    gaps = np.array([problem.cost(flow.at(t)) for t in times]) - least
    return {
        "alpha": alpha,
        "threshold": certified(problem, w0, jacobian_lipschitz=1.0, infimum=least).paper_threshold,
        "rate": float(np.log(gaps[-9] / gaps[-1]) / 2),
        "modulus": smallest(problem, [np.arctan2(a, alpha - b)]),
        "times": times,
        "above": gaps / gaps[0] * np.exp(2 * times),
        "beyond": gaps[-1] / problem.cost(w0) * np.exp(2 * times[-1]),
    }


# %% [markdown]
# The ball B
# ----------
#
# B has the radius 2rλ0/L; the fifth version was available to us without its formulas, and constants
# are recovered from its proofs. There DfᵀDf is at least 4(1-r)²λ0² (Lemma 15), ‖II(u, ·)‖, which is
# ‖D_u P‖, at most L/(4α(1-r)²λ0²) for unit u (Lemma 28), and the Riemannian Hessian of ½‖w - w0‖²
# at least (1-2r)/(1-r), in place of Lemma 21: for r <= ½ balls around w0 are geodesically convex.


# %%
def ball(seed: int, r: float, samples: int, pairs: int) -> Run:
    model, rng = network(seed).model.model, np.random.default_rng([seed, 1])
    w0, surface = model.initial_parameters, gn.OutputManifold(model)
    lambda0, lambda_n = gn.theory.start_constants(model, w0)
    lipschitz = gn.theory.jacobian_lipschitz(model).value
    setting = gn.theory.Setting(lipschitz, lambda0, lambda_n, 1.0, 1.0, 1.0)
    points = w0 + gn.theory.ball_radius(r, lambda0, lipschitz) * in_ball(rng, samples)
    lins = [gn.Linearization(model, w) for w in points]
    forms = [surface.second_fundamental_form_norm(surface.point(w), restarts=3) for w in points]
    hessians = [np.eye(w0.size) - x.hessian_matrix(x.lift(x.w - w0)) for x in lins]
    ends = [surface.point(w) for w in points[1::2][: 2 * pairs]]
    ways = [surface.geodesic_between(*pair) for pair in zip(ends[::2], ends[1::2], strict=True)]
    path = np.array([[way.parameters(t) for t in np.linspace(0, 1, 21)] for way in ways])
    away = np.linalg.norm(path - w0, axis=2)
    return {
        "r": r,
        "spread": (min(x.smallest_singular_value for x in lins) / (2 - 2 * r) / lambda0) ** 2,
        "bend": max(forms) / gn.theory.second_form_bound(setting, 1.0, r),
        "convex": min(np.linalg.eigvalsh(x)[0] for x in hessians),
        "inside": np.max(away[:, 1:-1] / np.maximum(away[:, :1], away[:, -1:])),
        "turning": max(turning(surface, w, rng.standard_normal(w0.size)) for w in points[:pairs]),
    }


def in_ball(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Random vectors (samples, 6) of length at most one, every other one of length one."""
    directions = rng.standard_normal((samples, 6))
    lengths = np.where(np.arange(samples) % 2, 1.0, rng.random(samples))
    return lengths[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def turning(surface: gn.OutputManifold, w: np.ndarray, a: np.ndarray) -> float:
    """Relative difference of ‖D_u P‖, by differences of P, and ‖II(u, ·)‖, u = Df(w) a."""
    frames = [np.linalg.qr(surface.model.jacobian(w + t * a))[0] for t in (-1e-4, 0, 1e-4)]
    turned = np.linalg.norm(frames[2] @ frames[2].T - frames[0] @ frames[0].T, 2) / 2e-4
    u = surface.model.jvp(w, a)
    form = [surface.second_fundamental_form(surface.point(w), u, e) for e in frames[1].T]
    return abs(turned / np.linalg.norm(form, 2) - 1)


# %% [markdown]
# Convexity above a threshold, and the flow
# -----------------------------------------
#
# Theorem 22: for α >= α0 = L sqrt(2μΔ0)/(2ν(1-r)²λ0²) the eigenvalues of the Riemannian Hessian,
# relative to the metric, lie between ν_M = ν/2 and μ_M = μ + ν/2 where the loss is below its start.
# The parabola with y = (0, 1) and (0, -1) attains both for r to 0, at w = 0. Lemma 24, for v the
# logarithm of ψ at the limit: ‖grad‖² >= 2ν_M Δ, ‖grad‖ <= μ_M ‖v‖, Δ >= (ν_M/2)‖v‖². Theorem 25:
# Δ <= Δ(0) e^(-νt), the path in B. Flows run at five per cent above the threshold.


# %%
def sublevel(seed: int, scale: float, samples: int) -> Run:
    """Extreme eigenvalues over sampled points of B below the start's loss, for α = scale α0."""
    unscaled = network(seed)
    w0, rng = unscaled.model.initial_parameters, np.random.default_rng([seed, 2])
    certificate = certified(unscaled, w0)
    names = ("L", "λ0", "λ_n", "ν", "μ", "Δ0")
    setting = gn.theory.Setting(*(certificate.inputs[name].value for name in names))
    alpha = scale * gn.theory.convexity_threshold(setting, certificate.inputs["r"].value)
    problem, found = network(seed, alpha), [w0]
    for step in certificate.radius * in_ball(rng, samples):
        while problem.cost(w0 + step) > problem.cost(w0):
            step = -0.8 * step  # noqa: PLW2901
        found.append(w0 + step)
    ends = np.array([gn.diagnostics.extreme_eigenvalues(problem, w) for w in found])
    return {"scale": scale, "alpha": alpha, "low": ends[:, 0].min(), "high": ends[:, 1].max()}


def attained(r: float) -> Run:
    """What the curves of norm L make of the bounds of Lemmas 15 and 28 and of Theorem 22."""
    setting, zero = gn.theory.Setting(L, 0.5, 0.5, 1.0, 1.0, 0.5), np.zeros(1)
    alpha, edge = gn.theory.convexity_threshold(setting, r), gn.theory.ball_radius(r, 0.5, L)
    bend = curve("parabola", (0, 1), alpha).manifold.second_fundamental_form_norm(zero)
    asked = (((0, 1), alpha), ((0, -1), alpha), ((0, 1), alpha / 3))
    return {
        "r": r,
        "spread": curve("slowing", (0, 1)).model.jacobian([edge])[0, 0] ** 2 / (1 - r) ** 2,
        "bend": bend / gn.theory.second_form_bound(setting, alpha, r),
        "hessians": [smallest(curve("parabola", *each), zero) for each in asked],
    }


def followed(name: str) -> Run:
    def at(alpha: float) -> gn.CompositeProblem:
        return curve(name, ASIDE, alpha) if name in CURVES else network(int(name), alpha)

    given = {"jacobian_lipschitz": {"touching": 1.0, "parabola": L}.get(name)}
    w0 = np.zeros(1) if name in CURVES else at(1.0).model.initial_parameters
    problem = at(1.05 * certified(at(1.0), w0, **given).threshold)
    lowest = gn.optimizers.LevenbergMarquardt(verbosity=0).run(problem, initial_point=w0)
    certificate = certified(problem, w0, infimum=lowest.cost, **given)
    flow = gn.flows.integrate(problem, w0, 6.0, method="dop853", every=2)
    v = np.array([problem.manifold.dist(lowest.point, w) for w in flow.parameters])
    return {
        "ratio": gn.diagnostics.polyak_lojasiewicz_along(flow, minimum=lowest.cost).ratios,
        "steep": flow.gradient_norms / v,
        "growth": 2 * certificate.gaps(flow) / v**2,
        "kept": [bool(certificate), *map(bool, certificate.monitor(flow))],
    }


def within(claim: str, paper: str, values: Any, low: float, high: float = np.inf) -> Claim:
    """The claim that all numbers lie in an interval, its ends included."""
    values = np.ravel(values)
    return Claim(claim, paper, span(values), bool(values.min() >= low and values.max() <= high))


def first_version(ring: Run, way: Run, slower: Runs, bent: Runs) -> list[Claim]:
    rates, moduli = (np.array([run[name] for run in slower]) for name in ("rate", "modulus"))
    alphas, worst = [run["alpha"] for run in bent], [run["low"] for run in bent]
    above, last = min(min(run["above"][1:]) for run in slower), slower[-2]
    meets = ring["meeting"] < 1e-12 and abs(ring["distance"] / (2 * np.pi) - 1) < 1e-9
    return [
        near("false: Hessian >= ν = 1. On the circle, and along its geodesic",
             "v1, Lemma 7; -2", ring["middle"], -2.0, 1e-9),
        within(f"the same for networks, α = {span(alphas, '.2g')}", "v1, Lemma 7; negative",
               worst, -np.inf, 0.0),
        Claim("false: immersions are injective. The circle has speed 1 and meets itself",
              "v1, Lemma 5", f"{ring['meeting']:.0e} between predictions, "
              f"{ring['distance']:.3f} on the curve", meets and np.ptp(ring["speeds"]) < 1e-12),
        Claim("false: sublevel sets are geodesically convex. A geodesic leaves a connected one",
              "v1, Lemma 8", f"level {way['ends']:.2f}: {way['middle']:.2f} on the geodesic, "
              f"{way['detour']:.2f} on a detour",
              way["middle"] > way["ends"] + 0.5 and way["detour"] < way["ends"] + 1e-9),
        within("far below α0, unit circle: ‖grad‖²/(2Δ)", "not >= ½", ring["ratio"], 0.0, 0.49),
        near("late rate over 2λ_min of the Hessian", "1", rates / (2 * moduli), 1.0, 1e-3),
        Claim("false: rate 2ν for large α; the gap is above Δ(0) e^(-2νt), for every α",
              "v1, Theorem 5", f"{common.listed(rates, '.4f')}; {last['beyond']:.2f} g(0) e^(-2νt) "
              f"at α = {last['alpha']:g} > {last['threshold']:.0f}", max(rates) < 2 and above > 1
              and last["beyond"] > 1 and last["alpha"] > last["threshold"]),
    ]  # fmt: skip


def surface_claims(balls: Runs, best: Runs, sweep: Runs, flows: Runs) -> list[Claim]:
    by = {name: np.array([run[name] for run in balls]) for name in balls[0]}
    top = {name: np.array([run[name] for run in best]) for name in best[0]}
    moduli = [gn.theory.convexity_modulus(r) for r in by["r"]]
    inner = [(run["low"], run["high"]) for run in sweep if run["scale"] >= 1]
    along = {name: np.concatenate([run[name] for run in flows]) for name in flows[0]}
    r, (low, high, third) = top["r"][0], top["hessians"][0]
    return [
        within("λ_min of DfᵀDf over 4(1-r)²λ0²", "Lemma 15, >= 1", by["spread"], 1.0),
        near("attained on the edge, any r", "Lemma 15, 1", top["spread"], 1.0, 1e-9),
        within("‖II‖ over L/(4α(1-r)²λ0²)", "Lemma 28, <= 1", by["bend"], 0.0, 1.0),
        near(f"parabola: (1-r)² of it, {top['bend'][0]:.3f} for r = {r:g}", "Lemma 28, attained",
             top["bend"] / (1 - top["r"]) ** 2, 1.0, 1e-9),
        within("‖D_u P‖ over ‖II(u, ·)‖, less 1", "Lemma 28", by["turning"], 0.0, 1e-4),
        within("Hessian of ½‖w - w0‖², above (1-2r)/(1-r) by", "for Lemma 21, >= 0",
               by["convex"] - moduli, 0.0),
        within("geodesics between points of the edge: distance from w0 inside over the ends'",
               "for Lemma 21, <= 1", by["inside"], 0.0, 1.0),
        within("networks, α >= α0: eigenvalues", "Theorem 22, ½ to 3/2", inner, 0.5, 1.5),
        Claim(f"parabola, r = {r:g}: at α0; below it, at α0/3", "Theorem 22, attained",
              common.listed((low, high), ".4f") + f"; {third:.3f}",
              bool(np.allclose((low, high), (0.5, 1.5), atol=2 * r)) and third < 0),
        within("‖grad‖²/(2Δ) along flows", "Lemma 24, >= ν_M = ½", along["ratio"], 0.5),
        within("‖grad‖/‖v‖ and 2Δ/‖v‖²", "Lemma 24, ½ to 3/2",
               (along["steep"], along["growth"]), 0.5, 1.5),
        within("share that holds: gap, path, λ_min", "Theorem 25, 1", along["kept"].mean(), 1.0),
    ]  # fmt: skip


# %%
def figure(ring: Run, slower: Runs, sweep: Runs, balls: Runs, best: Runs) -> Figure:
    drawing = Figure(figsize=(11, 9.4), layout="constrained")
    panels = circle, rates, threshold, bounds = drawing.subplots(2, 2).ravel()
    circle.plot(ring["w"], ring["costs"], color=COLORS[0], label="loss, y = (-2, 0)")
    circle.plot(ring["w"], ring["hessians"], color=COLORS[1], label="its Riemannian Hessian")
    finish(circle, "Unit circle; dashed: ν, the bound of v1", "w", "loss, Hessian")
    for run, color in zip(slower, COLORS, strict=False):
        label = f"α = {run['alpha']:g}, rate {run['rate']:.3f}"
        rates.plot(run["times"], run["above"], color=color, label=label)
    finish(rates, "Circles; dashed: the rate of v1", "time t", "gap over Δ(0) e^(-2νt)")
    for name, label, color in (("low", "smallest", COLORS[0]), ("high", "largest", COLORS[1])):
        ranges(threshold, sweep, "scale", name, color, f"{label} eigenvalue")
    finish(threshold, "Networks; dashed: ν/2, μ + ν/2", "α/α0", "eigenvalues of the Hessian")
    threshold.set(xscale="log", ylim=(-4, 4))
    for axes, value in ((circle, 1.0), (rates, 1.0), (threshold, 0.5), (threshold, 1.5)):
        axes.axhline(value, color="0.4", ls="--", lw=1)
    threshold.axvline(1.0, color="0.4", lw=1, ls=":", label="threshold α0")
    for name, label, color in zip(("spread", "bend", "convex"), BOUNDS, COLORS, strict=False):
        ranges(bounds, balls, "r", name, color, label)
    for name, label, color in zip(("spread", "bend"), BOUNDS, COLORS, strict=False):
        ranges(bounds, best, "r", name, color, f"{label[:8]}, a curve", ls=":", marker="o", ms=4)
    radii = np.linspace(0, 0.5, 26)
    modulus = (1 - 2 * radii) / (1 - radii)
    bounds.plot(radii, modulus, "--", color=COLORS[2], label="its bound (1-2r)/(1-r)")
    finish(bounds, "Balls of networks and of curves", "r", "ratio to the bound; eigenvalue")
    common.legends_below(panels, columns=2)
    return drawing


def ranges(axes: Axes, runs: Runs, by: str, name: str, *styles: str, **more: Any) -> None:
    values = sorted({run[by] for run in runs})
    rows = np.reshape([run[name] for run in runs], (-1, len(values)))
    common.band(axes, values, rows, *styles, **more)


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = common.quick_asked("Curvature and convexity of the prediction surface", arguments)
    seeds, samples, pairs = (range(2), 12, 2) if quick else (range(5), 120, 16)
    scales, ratios = SCALES[:: 1 + quick], (0.1, 0.2, 0.3, 0.4, 0.49)[:: 1 + quick]
    record = Record(OUTPUT, NAME, quick)
    ring, way = (record.runs(run, [{}])[0] for run in (unit_circle, cap))
    slower = record.runs(slow, grid(alpha=(4.0, 16.0, 64.0, 256.0)))
    balls = record.runs(ball, grid(seed=seeds, r=ratios, samples=[samples], pairs=[pairs]))
    best = record.runs(attained, grid(r=(0.001, *ratios)))
    sweep = record.runs(sublevel, grid(seed=seeds, scale=scales, samples=[samples]))
    flows = record.runs(followed, grid(name=["touching", "parabola", *map(str, seeds)]))
    claims = first_version(ring, way, slower, chosen(sweep, scale=SCALES[0]))
    claims += surface_claims(balls, best, sweep, flows)
    record.conclude(claims, {NAME: figure(ring, slower, sweep, balls, best)})
    return claims


if __name__ == "__main__":
    main()
