"""Which interpolant the flow finds: Cayci's Proposition 12
========================================================

With more parameters than data there is a surface of interpolants, and the flow picks one. For the
model linearised at the start, f(w) = Df(w0)(w - w0), every damping, gradient flow included, ends
in the interpolant nearest to the start, w_lin = w0 + (1/α) Df(w0)⁺y. The network's own limit is
farther from that by a term of relative order 1/α. This page measures both statements of
arXiv 2412.14031v5, Proposition 12, computes the constant of the second one, and shows what it
means for predictions: for large α the network predicts like interpolation with its tangent kernel.
"""

# %%
import os
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, Record, Run, Runs, band, exponent, near, posed, quick_asked
from gnmanifold.damping import Adaptive, Constant, DampingSchedule, DataBased, Switch
from gnmanifold.plotting import COLORS

NETWORK: dict[str, DampingSchedule] = {
    "Gauss-Newton, ρ = 0": Constant(0.0),
    "constant, ρ = 0.5": Constant(0.5),
    "data-based, κ = 1": DataBased(1.0),
    "adaptive, κ = 1": Adaptive(1.0),
    "gradient flow, ρ = 1": Constant(1.0),
}
ALPHAS = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
FULL = (("single index", 32, 128, 4), ("housing", 16, 128, 2))  # rows, width, seeds
HELD_OUT = 64
RTOL, LENGTHS = 1e-10, 10.0  # of the integrator; e^-10 of the slowest residual is left
PAIRS = tuple(combinations(range(len(NETWORK)), 2))
TWINS = PAIRS.index((2, 3))
follow = partial(gn.flows.integrate, method="dop853", eigenvalues=False)


# %% [markdown]
# The setting
# -----------
#
# Single-index data, inputs on the sphere, and rows of California Housing, standardised and divided
# by √8 so that they have about unit length. The loss is ½‖ψ - y‖². Some rows are held out.


# %%
class Setting(NamedTuple):
    network: gn.FeedforwardNetwork
    y: np.ndarray
    held_out: np.ndarray
    w0: np.ndarray
    nearest: np.ndarray  # Df(w0)⁺y, so that w_lin = w0 + nearest/α
    eigenvalue: float  # λ_min of the kernel at the start


def setting(data: str, rows: int, width: int, seed: int) -> Setting:
    rng = np.random.default_rng(seed)
    if data == "housing":
        X, y = gn.datasets.california_housing(rows + HELD_OUT, rng)
        X, y = X / np.sqrt(8), (y - y.mean()) / y.std()
    else:
        X, y = gn.datasets.single_index(rows + HELD_OUT, 10, 0.1, rng)
    network = gn.FeedforwardNetwork(X[:rows], width, rng=rng)
    w0, y = network.initial_parameters, y[:rows]
    nearest = gn.geometry.horizontal_lift(network, w0, y)
    smallest = np.linalg.eigvalsh(gn.theory.empirical_ntk(network, w0))[0]
    return Setting(network, y, X[rows:], w0, nearest, float(smallest))


def problem(model: gn.Model, y: np.ndarray, alpha: float) -> gn.CompositeProblem:
    return posed(gn.Scaled(model, alpha), gn.SquaredError(y), gn.GaussNewtonMetric(0.5))


def decay(here: Setting, damping: DampingSchedule, gamma: Any) -> Any:
    """Rates h_ρ(γ) of the residual at the start."""
    rho = getattr(damping, "value", here.eigenvalue / (1 + here.eigenvalue))
    return gamma / ((1 - rho) * gamma + rho)


# %% [markdown]
# The linearised model
# --------------------
#
# Here the statement is exact: the velocity lies in the row space of Df(w0) whatever the damping is,
# and one interpolant lies in w0 plus the row space. Two schedules are added, one that jumps and one
# that waves with the residual. The flow from w0 + z, z orthogonal to the rows, ends in w_lin + z,
# nearest to its own start and farther from w0: the bias is towards the start.


# %%
class Waving(DampingSchedule):
    """A damping that goes up and down between 0.1 and 0.9 while the residual decays."""

    def rho(self, lin: gn.Linearization, loss: gn.Loss) -> float:
        return 0.5 + 0.4 * float(np.sin(3 * np.log(loss.value(lin.psi) + 1e-30)))


LINEAR = [*NETWORK.values(), Switch(Constant(1.0), Adaptive(1.0), 0.1), Waving()]


def linearised(data: str, rows: int, width: int, seed: int) -> Run:
    here = setting(data, rows, width, seed)
    w0, D, step = here.w0, here.network.jacobian(here.w0), here.nearest / ALPHAS[0]
    linear = gn.CallableModel(lambda w: D @ (w - w0), w0.size, jacobian=lambda _: D)
    fitting, size = problem(linear, here.y, ALPHAS[0]), np.linalg.norm(step)
    away = np.random.default_rng(seed).standard_normal(w0.size)
    away -= gn.geometry.horizontal_part(fitting.model, w0, away)
    away *= size / np.linalg.norm(away)

    def missed(start: np.ndarray, damping: DampingSchedule) -> float:
        # e^-26 of the slowest residual is left; the other schedules are no slower than ρ = 1
        known = damping if damping in NETWORK.values() else Constant(1.0)
        horizon = 26 / decay(here, known, here.eigenvalue)
        found = follow(fitting, start, horizon, damping=damping, rtol=1e-12)
        return float(np.linalg.norm(found.parameters[-1] - start - step) / size)

    def interpolant(start: np.ndarray) -> np.ndarray:
        return start - gn.geometry.minimum_norm_step(fitting.model, start, fitting.loss)

    spread = np.geomspace(0.1, 10, 200)[:, None] * size / np.sqrt(w0.size)
    starts = w0 + spread * np.random.default_rng(seed).standard_normal((200, w0.size))
    return {
        "missed": [missed(w0, damping) for damping in LINEAR],
        "elsewhere": missed(w0 + away, Adaptive(1.0)),
        "others": [np.linalg.norm(interpolant(start) - w0) / size for start in starts],
    }


# %% [markdown]
# The second-order term
# ---------------------
#
# The paper bounds the order. To second order in 1/α the limit can be computed: with the singular
# values √γ_i of Df(w0) and its singular vectors u_i, v_i, let a = Df(w0)⁺y be the sum of its
# components a_i along v_i, let b_j = u_j (u_j·y)/γ_j, and h_i = γ_i/((1-ρ)γ_i + ρ) the rates of
# (GF-O). Inserting the linear flow into the first variation of the velocity and integrating over
# time gives, with P⊥ the projection orthogonal to the rows,
#
# α² (w_inf - w_lin) → -½ Df(w0)⁺ D²f[a, a] + P⊥ Σ_ij h_i/(h_i + h_j) (D²f[a_i, ·])ᵀ b_j.
#
# The first part is what any interpolant needs; the second one remembers the path, and the damping
# enters through its weights alone: all are ½ for ρ = 0. Adaptive damping is data-based damping at
# this order, so their limits agree to one order more.


# %%
def second_order(here: Setting, damping: DampingSchedule) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of the limit of α² (w_inf - w_lin)."""
    U, singular, Vt = np.linalg.svd(here.network.jacobian(here.w0), full_matrices=False)
    along, gamma = U.T @ here.y, singular**2
    h = decay(here, damping, gamma)
    bent = np.zeros_like(here.w0)
    for i, component in enumerate(along / singular):
        covector = U @ (h[i] / (h[i] + h) * along / gamma)
        bent += here.network.weighted_hessian(here.w0, covector, component * Vt[i])
    curve = here.network.second_derivative(here.w0, here.nearest, here.nearest)
    return -0.5 * Vt.T @ (U.T @ curve / singular), bent - Vt.T @ (Vt @ bent)


# %% [markdown]
# The limits of the network
# -------------------------
#
# The flow is followed by an adaptive Runge-Kutta method of order 8, to a tolerance of 1e-10 of the
# displacement, for the time T = 10/h(λ_min(K_0)). With the kernel of the start (GF-O) leaves e^-10
# of ‖y‖ at most, and no more than twice that while λ_min(K_t) falls by less than 7%. Full
# Gauss-Newton steps of least norm go the rest of the way. By Proposition 12 itself, applied where
# the flow was left, they end where the flow would, up to (1e-4)²/α²: the share 1e-8 of the effect.
# Second runs at the largest α, with the tolerance 1e-8, tell the error of the integrator.


# %%
def limit(
    fitting: gn.CompositeProblem, here: Setting, damping: DampingSchedule, rtol: float
) -> tuple[np.ndarray, np.ndarray]:
    """Limit of the flow, and the residual before and after the full steps, relative to y."""
    horizon = LENGTHS / decay(here, damping, here.eigenvalue)
    found = follow(fitting, here.w0, horizon, damping=damping, rtol=rtol)
    w = found.parameters[-1]
    for _ in range(3):  # quadratic convergence: 1e-4, 1e-8, rounding
        w = w - gn.geometry.minimum_norm_step(fitting.model, w, fitting.loss)
    left = norms([found.outputs[-1] - here.y, fitting.model(w) - here.y])
    return w, left / np.linalg.norm(here.y)


def limits(data: str, rows: int, width: int, seed: int, alpha: float) -> Run:
    """What is said about the limits at one α, in lists over the dampings or pairs of them."""
    here = setting(data, rows, width, seed)
    fitting, nearest = problem(here.network, here.y, alpha), here.nearest / alpha
    dampings = list(NETWORK.values())
    ends, left = zip(*(limit(fitting, here, each, RTOL) for each in dampings), strict=True)
    off = np.array(ends) - here.w0 - nearest
    predicted = np.array([sum(second_order(here, damping)) for damping in dampings]) / alpha**2
    says, tests = kernel_interpolation(here), here.network.with_inputs(here.held_out)
    gaps = np.array([alpha * tests(w) - says for w in ends])
    absolute = norms(off)
    control = dampings if alpha == ALPHAS[-1] else []
    rough = [limit(fitting, here, damping, 100 * RTOL)[0] for damping in control] or ends
    return {
        "data": data, "seed": seed, "alpha": alpha, "residuals": left,
        "absolute": absolute, "relative": absolute / np.linalg.norm(nearest),
        "moved": norms(ends - here.w0), "formula": norms(off - predicted) / norms(predicted),
        "held out": norms(gaps) / np.linalg.norm(says),
        "integration": norms(np.subtract(rough, ends)) / absolute,
        "pairs": norms([ends[i] - ends[j] for i, j in PAIRS]),
    }  # fmt: skip


def norms(rows: Any) -> np.ndarray:
    return np.linalg.norm(rows, axis=1)


def kernel_interpolation(here: Setting) -> np.ndarray:
    """Predictions K(held out, rows) K(rows, rows)⁻¹ y with the tangent kernel at the start."""
    both = here.network.with_inputs(np.vstack([here.network.inputs, here.held_out]))
    n, K = len(here.y), gn.theory.empirical_ntk(both, here.w0)
    return K[n:, :n] @ np.linalg.solve(K[:n, :n], here.y)


def path(data: str, rows: int, width: int, seed: int, damping: str) -> Run:
    """The flow at the smallest α in the plane of w_lin and of what leaves the row space."""
    here, alpha, schedule = setting(data, rows, width, seed), ALPHAS[0], NETWORK[damping]
    out = second_order(here, Constant(1.0))[1]
    out /= np.linalg.norm(out)
    length = np.linalg.norm(here.nearest)
    horizon = LENGTHS / decay(here, schedule, here.eigenvalue)
    found = follow(problem(here.network, here.y, alpha), here.w0, horizon, damping=schedule)
    moved = np.array([found.at(t) for t in horizon * np.linspace(0, 1, 200) ** 3]) - here.w0
    return {
        "along": alpha * moved @ here.nearest / length**2,
        "across": alpha**2 * moved @ out / length,
        "predicted": sum(second_order(here, schedule)) @ out / length,
    }


# %% [markdown]
# The claims
# ----------
#
# Slopes are those of lines through logarithms. The next term is smaller than the leading one by a
# factor c/α with c below 1 here, at most a tenth: it can move a slope by some hundredths, hence the
# tolerance 0.05. Between adaptive and data-based damping the leading term has the change of
# λ_min(K) as a factor, which may happen to be small: there α starts at 128, and 0.2 is allowed.


# %%
def series(runs: Runs, data: str | None = None) -> list[Runs]:
    """Runs of the same data and seed, by increasing α."""
    keys = sorted({(run["data"], run["seed"]) for run in runs if data in (None, run["data"])})
    return [[run for run in runs if (run["data"], run["seed"]) == key] for key in keys]


def slopes(runs: Runs, name: str, smallest: float = 0.0) -> np.ndarray:
    """Slopes against α, from the smallest on: a row for each data set and seed."""
    rows = []
    for each in series([run for run in runs if run["alpha"] >= smallest]):
        columns = np.transpose([np.ravel(run[name]) for run in each])
        rows.append([exponent([run["alpha"] for run in each], column) for column in columns])
    return np.array(rows)


def worst(runs: Runs, name: str) -> float:
    return float(np.max([run[name] for run in runs]))


def linear_claims(runs: Runs) -> list[Claim]:
    missed, elsewhere = worst(runs, "missed"), worst(runs, "elsewhere")
    others = min(min(run["others"]) for run in runs)
    return [
        Claim(f"linearised, {len(LINEAR)} dampings: limit w_lin", "Proposition 12",
              f"relative distance <= {missed:.0e}", missed < 1e-10),
        Claim("other interpolants are farther from w0", "argmin |w - w0|",
              f"200 each, >= {others:.4f} times as far", others > 1),
        Claim("from w0 + z, z normal to the rows: w_lin + z", "the start decides",
              f"within {elsewhere:.0e} of |w_lin - w0|", elsewhere < 1e-10),
    ]  # fmt: skip


def network_claims(runs: Runs) -> list[Claim]:
    last = [run for run in runs if run["alpha"] == ALPHAS[-1]]
    before, after = map(float, np.max([run["residuals"] for run in runs], axis=(0, 1)))
    left = before * np.exp(LENGTHS)
    changed, formula = worst(last, "integration"), worst(last, "formula")
    distinct = np.delete(slopes(runs, "pairs"), TWINS, axis=1)
    return [
        Claim(f"the flow's own residual at T = {LENGTHS:g}/h(λ_min(K_0))",
              f"(GF-O), K = K_0: e^-{LENGTHS:g} |y|", f"<= {before:.1e} |y|, {left:.2f} times that",
              left < 2),
        near("|w_inf - w_lin|/|w_lin - w0| = O(1/α)", "Prop. 12, slope -1",
             slopes(runs, "relative"), -1, 0.05),
        near("|w_inf - w_lin| = O(1/α²)", "Prop. 12, slope -2", slopes(runs, "absolute"), -2, 0.05),
        near("|w_inf - w0| falls like 1/α", "slope -1", slopes(runs, "moved"), -1, 0.05),
        near("limits of two dampings differ by O(1/α²)", "slope -2", distinct, -2, 0.05),
        near("adaptive and data-based: O(1/α³), α >= 128", "slope -3",
             slopes(runs, "pairs", 128.0)[:, TWINS], -3, 0.2),
        Claim(f"second-order term as computed, α = {ALPHAS[-1]:g}", "formula on this page",
              f"relative error <= {formula:.1e}", formula < 0.01),
        near("its relative error falls like 1/α", "slope -1", slopes(runs, "formula"), -1, 0.05),
        near("held-out predictions tend to the kernel's", "slope -1",
             slopes(runs, "held out"), -1, 0.05),
        Claim("integration error far below the effect, no residual after the steps", "control",
              f"<= {changed:.0e} of the effect; <= {after:.0e} |y|",
              changed < 1e-3 and after < 1e-10),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------
#
# Lines are medians over the seeds, bands their range. Below on the right the flows at α = 8: to the
# right towards w_lin, upwards out of the row space, enlarged by α. The formula predicts the heights
# that they reach (crosses), one for adaptive and data-based damping.


# %%
def draw(axes: Axes, runs: Runs, name: str, column: int, label: Any = None, **style: Any) -> None:
    """Median and range over the seeds against α, one line for each kind of data."""
    for data, dash in (("single index", "-"), ("housing", "--")):
        if found := series(runs, data):
            rows = [[run[name][column] for run in each] for each in found]
            alphas = [run["alpha"] for run in found[0]]
            band(axes, alphas, rows, label=label, ls=dash, **style)
            label = None
    axes.set(xscale="log", yscale="log")


def reference(axes: Axes, power: int, height: float, above: bool = False) -> None:
    ends = np.array([ALPHAS[0], ALPHAS[-1]])
    axes.loglog(ends, height * (ends / ends[0]) ** power, "k:", lw=1.2)
    place = {"ha": "left", "va": "bottom"} if above else {"ha": "right", "va": "top"}
    axes.text(64, height * 8**power * (1.3 if above else 0.75), f"slope {power}", **place)


def draw_pairs(axes: Axes, runs: Runs) -> None:
    labels = ("ρ = 0 and ρ = 1", "ρ = 0 and data-based", "data-based and adaptive")
    for pair, label, color in zip(((0, 4), (0, 2), (2, 3)), labels, (3, 6, 5), strict=True):
        draw(axes, runs, "pairs", PAIRS.index(pair), color=COLORS[color], label=label)
    first = [run["pairs"] for run in runs if run["alpha"] == ALPHAS[0]]
    reference(axes, -2, 3 * np.max(first), above=True)
    reference(axes, -3, np.min(first) / 3)
    axes.set(ylabel="distance of two limits", title="Limits of different dampings")
    axes.legend(fontsize=9, loc="lower left")


def figure(runs: Runs, paths: Runs) -> Figure:
    drawing = Figure(figsize=(11, 8.5), layout="constrained")
    distance, apart, tests, plane = drawing.subplots(2, 2).ravel()
    for index, (name, flow) in enumerate(zip(NETWORK, paths, strict=True)):
        style = {"color": COLORS[index], "lw": 4 if index == 2 else 1.5}
        draw(distance, runs, "relative", index, label=name, **style)
        draw(tests, runs, "held out", index, **style)
        plane.plot(flow["along"], flow["across"], **style)
        plane.plot(1.0, flow["predicted"], "x", color=COLORS[index], ms=9, mew=2)
    draw_pairs(apart, runs)
    for axes, name in ((distance, "relative"), (tests, "held out")):
        reference(axes, -1, min(np.min(run[name]) for run in runs if run["alpha"] == ALPHAS[0]) / 2)
    for axes in (distance, apart, tests, plane):
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.set_xlabel("scale α")
    both = " (dashed: housing)" if series(runs, "housing") else ""
    distance.set(ylabel="|w_inf - w_lin| / |w_lin - w0|", title=f"Limits{both}")
    tests.set(ylabel="relative gap to the kernel's predictions", title="Held-out predictions")
    plane.set(xlabel="share of the way to w_lin", ylabel="out of the row space, times α",
              title="Flows at α = 8, and the predicted ends")  # fmt: skip
    legend = distance.get_legend_handles_labels()
    drawing.legend(*legend, loc="outside lower center", ncols=3, fontsize=9)
    return drawing


# %%
def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Proposition 12: the interpolant that the flow finds", arguments)
    alphas = ALPHAS[::2] if quick else ALPHAS
    sizes = [("single index", 8, 48, 1)] if quick else FULL
    data = [dict(zip(("data", "rows", "width", "seed"), (*size, seed), strict=True))
              for *size, seeds in sizes for seed in range(seeds)]  # fmt: skip
    record = Record(OUTPUT, "cayci_implicit_bias", quick)
    linear = record.runs(linearised, data)
    runs = record.runs(limits, [{**each, "alpha": alpha} for each in data for alpha in alphas])
    paths = record.runs(path, [{**data[0], "damping": name} for name in NETWORK])
    found = linear_claims(linear) + network_claims(runs)
    record.conclude(found, {"cayci_implicit_bias": figure(runs, paths)})
    print(f"{len(data)} data sets, {len(NETWORK)} dampings, {len(alphas)} scales")
    return found


if __name__ == "__main__":
    main()
