"""Second-order methods: what is said of their metrics, measured
=============================================================

Three sentences that surveys of second-order optimisation repeat about the metric of a step: the
natural gradient does not depend on the parameters, Adam's squares approximate the Fisher
information, and K-FAC is nearly the natural gradient. Each is taken apart into rows of the table
here; some are half true, and the row says which half. Sources: Amari (1998); Kingma and Ba (2015);
Martens and Grosse (2015); Martens (2020); Nocedal and Wright, Numerical Optimization, 2nd edition,
section 2.2.
"""

# %%
import os
from functools import cache
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import gnmanifold as gn
from common import (
    ALL_STEPS,
    OUTPUT,
    Claim,
    Record,
    Run,
    Runs,
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
from gnmanifold.plotting import COLORS

MARKS = "os^vD*P"

# %% [markdown]
# Other parameters for the same model
# -----------------------------------
#
# A logistic regression through four weights, in four sets of parameters v with w = T(v): w itself,
# an affine map, a rotation, and w = sinh v entry by entry. A method is invariant when the steps
# lead to the same w. The natural gradient is a vector and its flow is invariant; the step w + d
# adds a vector to a point, which only affine maps respect. Two steps, for the bends of T enter at
# the second order; a retraction of second order defers them to the third, a geodesic for ever.
# Newton's Hessian is no tensor away from critical points: it is affine invariant, no more.


# %%
@cache
def regression() -> tuple[gn.Model, gn.Loss, dict[str, tuple[gn.Model, np.ndarray]]]:
    """Network, loss, and for each set of parameters the map to w and the start in them."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((24, 2)), (rng.random(24) < 0.5).astype(float)
    network = gn.FeedforwardNetwork(X, 2, normalization="none", rng=rng)
    w = network.initial_parameters
    Q, R = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    A, b = Q @ np.diag([0.5, 1.0, 2.0, 3.0]) @ R, rng.standard_normal(4)
    bend = gn.CallableModel(
        np.sinh, 4, 4, jacobian=lambda v: np.diag(np.cosh(v)),
        second_derivative=lambda v, a, c: np.sinh(v) * a * c,
    )  # fmt: skip
    maps = {
        "w": (affine(np.eye(4)), w),
        "affine": (affine(A, b), np.linalg.solve(A, w - b)),
        "rotation": (affine(Q), Q.T @ w),
        "sinh": (bend, np.arcsinh(w)),
    }
    return network, gn.Logistic(labels), maps


def affine(A: np.ndarray, b: float | np.ndarray = 0.0) -> gn.Model:
    return gn.CallableModel(
        lambda v: A @ v + b, 4, 4, jacobian=lambda v: A,
        second_derivative=lambda v, a, c: np.zeros(4),
    )  # fmt: skip


MAPS = ("w", "affine", "rotation", "sinh")
SIZES = tuple(10.0 ** np.arange(-3, -0.9, 0.5))
STEPPERS = {  # with the metric of the manifold and the retraction
    "natural gradient": (optimizers.NaturalGradient, "Euclidean", "first_order"),
    "natural gradient, second order": (optimizers.GradientDescent, "Fisher", "second_order"),
    "natural gradient, geodesic": (optimizers.GradientDescent, "Fisher", "exponential"),
    "Newton": (optimizers.Newton, "Euclidean", "first_order"),
    "gradient descent": (optimizers.GradientDescent, "Euclidean", "first_order"),
    "Adam": (optimizers.Adam, "Euclidean", "first_order"),
}


def in_parameters(name: str, metric: str, **options: Any) -> tuple[gn.CompositeProblem, Any, Any]:
    """Problem in those parameters, the map to w, and the start."""
    model, loss, maps = regression()
    used = gn.FisherMetric(loss) if metric == "Fisher" else None
    return posed(gn.Composed(model, maps[name][0]), loss, used, **options), *maps[name]


def stepped(method: str, size: float, name: str) -> np.ndarray:
    """The w that one step leads to (Adam: three, the first knows signs alone)."""
    make, metric, retraction = STEPPERS[method]
    problem, inner, v = in_parameters(name, metric, retraction=retraction)
    step, count = (size, 3) if method == "Adam" else (optimizers.ConstantStep(size), 1)
    solver = make(step, max_iterations=count, **ALL_STEPS)
    return inner(solver.run(problem, initial_point=v).point)


def invariance(method: str) -> Run:
    """Distances between the ends in w and in other parameters, over the length of the step."""
    rows = [apart({name: stepped(method, size, name) for name in MAPS}) for size in SIZES]
    return {"method": method, **{name: [row[name] for row in rows] for name in MAPS}}


def flowed(metric: str, t: float) -> dict[str, float]:
    ends = {}
    for name in MAPS:
        problem, inner, v = in_parameters(name, metric)
        flow = gn.flows.integrate(problem, v, t, method="dop853", rtol=1e-10)
        ends[name] = inner(flow.parameters[-1])
    return apart(ends)


def apart(ends: dict[str, np.ndarray]) -> dict[str, float]:
    length = np.linalg.norm(ends["w"] - regression()[2]["w"][1])
    return {name: float(np.linalg.norm(ends[name] - ends["w"]) / length) for name in MAPS}


# %% [markdown]
# Adam's diagonal
# ---------------
#
# With the squared error as the negative log-likelihood of unit variance, row i of the Jacobian J_i
# and residual r_i, the diagonal of the Fisher information is the sum of J_i² over the samples, that
# of the empirical Fisher the sum of (r_i J_i)². Adam keeps a mean v of squared gradients of the
# batch. With the full batch, as `gn.optimizers.Adam` has it, that is the square of a sum, in which
# samples cancel; with batches of one sample, its expectation is the empirical Fisher's diagonal up
# to a factor. Where the mean gradient is small, batches of any size do.
# None of it is the metric that Adam steps in: it divides by the square root of v.


# %%
DECAY = 0.999
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
TIMES = [0, 2, -1]  # of the 21: start, a tenth, end


def data(seed: int) -> tuple[gn.FeedforwardNetwork, np.ndarray]:
    X, y = gn.datasets.single_index(128, 5, 0.3, seed)
    return gn.FeedforwardNetwork(X, 12, train_output=True, rng=seed), y


def adam(seed: int, steps: int) -> Run:
    """At 21 times of a run v, empirical Fisher, mean r² and E g² of batches beside the Fisher."""
    network, y = data(seed)
    solver = optimizers.Adam(0.01, beta2=DECAY, max_iterations=steps, **ALL_STEPS)
    path = iterates(solver, posed(network, gn.SquaredError(y)), network.initial_parameters)
    v, rows = np.zeros(network.num_parameters), []
    for k, w in enumerate(path):
        r = network(w) - y
        v = DECAY * v + (1 - DECAY) * network.vjp(w, r) ** 2
        if k % (steps // 20) == 0:
            J = network.jacobian(w)
            fisher, each = np.sum(J**2, axis=0), J * r[:, None]
            ranks = [spearmanr(a, fisher)[0] for a in (v, *expected_squares(each))]
            rows.append([np.sum(each**2) / np.sum(fisher), np.mean(r**2), *ranks])
    return {"rows": rows}


def expected_squares(each: np.ndarray) -> list[np.ndarray]:
    """E g² for batches drawn without replacement from the gradients (n, p) of the samples."""
    mean, variance, count = each.mean(axis=0), each.var(axis=0), len(each)
    return [mean**2 + variance * (count - b) / (count - 1) / b for b in BATCHES]


def sampled_labels(draws: int) -> dict[str, float]:
    """Fisher's diagonal beside the mean empirical one of drawn labels: largest difference in
    standard errors, and the largest of these errors, relative."""
    network, y = data(0)
    w, rng = network.initial_parameters, np.random.default_rng(2)
    J, f = network.jacobian(w), network(w)
    metric = gn.FisherMetric(gn.SquaredError(y)).at(gn.Linearization(network, w))
    fisher = np.array([metric.lower(unit) @ unit for unit in np.eye(w.size)])
    labels = f + rng.standard_normal((draws, f.size))
    gradients = (J * gn.SquaredError(each).gradient(f)[:, None] for each in labels)
    squares = np.array([np.sum(each**2, axis=0) for each in gradients])
    errors = np.std(squares, axis=0) / np.sqrt(draws)
    away = np.abs(np.mean(squares, axis=0) - fisher) / errors
    return {"errors": float(np.max(away)), "size": float(np.max(errors / fisher))}


# %% [markdown]
# K-FAC beside the Fisher matrix
# ------------------------------
#
# A Kronecker block is a product of means where the Fisher's is a mean of products. They are equal
# where one of the two factors is the same for all samples: for one sample, whatever the outputs;
# for a linear network with squared error; and for the trained output layer of one with squared
# error. Cosines compare the damped steps with the natural gradient's in the inner product of the
# damped Fisher matrix: for three classes at the start of training and after five steps.


# %%
CASES = {  # samples, outputs, activation
    "one sample, one output": (1, 1, "tanh"),
    "one sample, three outputs": (1, 3, "tanh"),
    "64 samples, linear": (64, 1, "identity"),
    "64 samples": (64, 1, "tanh"),
    "512 samples": (512, 1, "tanh"),
}
DAMPINGS = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)  # over λ_max


def kfac_and_fisher(
    network: gn.FeedforwardNetwork, loss: gn.Loss, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """K-FAC's matrix and the Fisher's, and which entries are in the block of each layer."""
    lin, metrics = gn.Linearization(network, w), (gn.KroneckerFactoredMetric, gn.FisherMetric)
    tensors = [metric(loss).at(lin) for metric in metrics]
    K, F = (np.array([tensor.lower(unit) for unit in np.eye(w.size)]) for tensor in tensors)
    sizes = [x.shape[1] * delta.shape[2] for x, delta in network.layers(w)]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    blocks = [np.logical_and.outer(layer == k, layer == k) for k in range(len(sizes))]
    return K, F, blocks


def kronecker(case: str) -> Run:
    """Relative Frobenius distance of the blocks, and share of what lies outside of them."""
    samples, outputs, activation = CASES[case]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, 4))
    network = gn.FeedforwardNetwork(X, (6, 6), activation, outputs=outputs, train_output=True)
    loss = gn.SquaredError(rng.standard_normal(network.num_outputs))
    K, F, blocks = kfac_and_fisher(network, loss, network.initial_parameters)
    distances = [np.linalg.norm((K - F)[block]) / np.linalg.norm(F[block]) for block in blocks]
    outside = np.linalg.norm(F[~np.any(blocks, axis=0)]) / np.linalg.norm(F)
    return {"case": case, "apart": distances, "outside": outside}


def cosines(steps: int, seed: int) -> dict[str, list[float]]:
    """Cosines of steps with the natural gradient's, by damping over λ_max."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((200, 4))
    labels = np.argmax(X @ rng.standard_normal((4, 3)) + rng.standard_normal((200, 3)), axis=1)
    network = gn.FeedforwardNetwork(X, (8, 8), outputs=3, train_output=True, rng=seed)
    loss = gn.Softmax(labels, 3)
    solver = optimizers.LevenbergMarquardt(max_iterations=5, **ALL_STEPS)
    w = iterates(solver, posed(network, loss), network.initial_parameters)[steps]
    K, F, blocks = kfac_and_fisher(network, loss, w)
    g, top = network.vjp(w, loss.gradient(network(w))), np.linalg.norm(F, 2)
    compared = {"K-FAC": K, "exact blocks": F * np.any(blocks, axis=0), "gradient": 0 * F}
    found: dict[str, list[float]] = {name: [] for name in compared}
    for damp in (damping * top * np.eye(w.size) for damping in DAMPINGS):
        natural = np.linalg.solve(F + damp, g)
        for name, matrix in compared.items():
            step = np.linalg.solve(matrix + damp, g)
            lengths = [a @ (F + damp) @ a for a in (step, natural)]
            found[name].append(float(step @ g / np.sqrt(np.prod(lengths))))
    return found


# %% [markdown]
# The claims
# ----------
#
# Fitted exponents are those of leading terms: the neglected ones are smaller by the size of the
# step times a constant of order ten here, at most a tenth on average over the range of the fit.


# %%
def invariance_claims(runs: Runs, flows: Runs) -> list[Claim]:
    plain, second, exact, newton, descent, sloped = runs
    rounding = max(*plain["affine"], *plain["rotation"])
    fisher, euclidean = max(flows[0].values()), flows[1]["affine"]
    # relative to the length of the step, which is of first order
    orders = [1 + exponent(SIZES, run["sinh"]) for run in (plain, second, newton)]
    return [
        Claim("the natural gradient flow is invariant", "Amari, 1998",
              f"apart {fisher:.0e}; gradient flow {euclidean:.2f}",
              fisher < 1e-7 and euclidean > 0.01),
        Claim("half true of steps: under affine maps", "identity; Martens, 2020",
              f"apart {rounding:.0e}", rounding < 1e-11),
        Claim("  under others to the second order only", "Martens, 2020",
              f"apart like step^{orders[0]:.2f}", abs(orders[0] - 2) < 0.1),
        Claim("  to the third with a second-order retraction", "Taylor",
              f"apart like step^{orders[1]:.2f}", abs(orders[1] - 3) < 0.1),
        Claim("  exactly along geodesics", "a geodesic is no matter of coordinates",
              f"apart {max(exact['sinh']):.0e}", max(exact["sinh"]) < 1e-9),
        Claim("Newton's step is affine invariant, no more", "Nocedal & Wright, 2.2",
              f"apart {max(newton['affine']):.0e}; like step^{orders[2]:.2f}",
              max(newton["affine"]) < 1e-10 and abs(orders[2] - 1) < 0.1),
        Claim("gradient descent is invariant under rotations alone", "isometries",
              f"apart {max(descent['rotation']):.0e}; affine {min(descent['affine']):.1f}",
              max(descent["rotation"]) < 1e-11 and min(descent["affine"]) > 0.1),
        Claim("Adam not even under those", "Kingma & Ba: by entries",
              f"apart {min(sloped['rotation']):.2f} of the step", min(sloped["rotation"]) > 0.1),
    ]  # fmt: skip


def adam_claims(runs: Runs, labels: dict[str, float]) -> list[Claim]:
    sizes, squares, full, sampled = np.moveaxis([run["rows"] for run in runs], -1, 0)[:4]
    one, ends, left = sampled[:, TIMES], sizes[:, -1], squares[:, -1]
    return [
        Claim("Adam's v approximates the Fisher's diagonal: not of the full batch",
              "Kingma & Ba, 2015", f"rank correlation {span(full.ravel(), '.2f')}",
              bool(np.all(full < sampled) and np.median(full) < 0.6)),
        Claim("half true: of single samples, as an order of sizes", "Martens, 2020",
              f"rank correlation {span(one.ravel(), '.2f')}", bool(one.min() > 0.8)),
        Claim("the empirical Fisher differs by the residuals", "Martens, 2020",
              f"trace {span(ends, '.3f')} of it at the end, mean residual² {span(left, '.3f')}",
              bool(np.all(ends < 2 * left) and np.all(ends < sizes[:, 0]))),
        Claim("with labels drawn from the model its diagonal agrees in the mean", "Martens, 2020",
              f"by entry {labels['errors']:.1f} standard errors apart at most, of "
              f"{labels['size']:.1%} at most", labels["errors"] < 5),
    ]  # fmt: skip


def kronecker_claims(cases: Runs, runs: Runs) -> list[Claim]:
    *hidden, output = np.transpose([case["apart"] for case in cases[3:]])
    exact = max(*output, *(max(case["apart"]) for case in cases[:3]))
    outside = min(case["outside"] for case in cases)
    light = DAMPINGS.index(1e-3)
    pairs = np.array([(run["K-FAC"][light], run["gradient"][light]) for run in runs])
    start, later = pairs[::2], pairs[1::2]
    return [
        Claim("K-FAC is the Fisher's block for one sample, a linear network, an output layer",
              "identity; Martens & Grosse", f"apart {exact:.0e}", bool(exact < 1e-12)),
        Claim("not else: hidden layers", "Martens & Grosse, 2015",
              f"{listed(np.transpose(hidden).ravel(), '.2f')} of the block",
              bool(np.all(np.greater(hidden, 0.01) & np.less(hidden, 1)))),
        Claim("half true: the Fisher is block diagonal", "Martens & Grosse, 2015",
              f"{outside:.2f} of its norm lies outside at least", outside > 0.3),
        Claim("K-FAC is closer to the natural gradient than the gradient is",
              "cosines, 1e-3 λ_max, 5 steps on", " against ".join(span(a, ".2f") for a in later.T),
              bool(np.all(later[:, 0] > later[:, 1]))),
        Claim("half true: at the start hardly", "the same, at the start",
              " against ".join(span(a, ".2f") for a in start.T),
              bool(np.ptp(start.mean(axis=0)) < 0.5 * np.ptp(later.mean(axis=0)))),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------


# %%
def draw_invariance(axes: Axes, runs: Runs) -> None:
    by = {run["method"]: run for run in runs}
    shown = (
        ("natural gradient", "affine"), ("natural gradient", "sinh"),
        ("natural gradient, second order", "sinh"),
        ("natural gradient, geodesic", "sinh"), ("gradient descent", "affine"),
        ("Adam", "rotation"), ("Newton", "sinh"),
    )  # fmt: skip
    for index, (method, name) in enumerate(shown):
        dashed = "--" if method == "Newton" else "-"  # it lies on Adam's
        axes.loglog(SIZES, by[method][name], MARKS[index] + dashed, color=COLORS[index],
                    ms=8 if method == "Adam" else 4, label=f"{method}; {name}")  # fmt: skip
    finish(axes, "The same step in other parameters", "step size", "distance of the ends / step")


def draw_adam(axes: Axes, run: Run) -> None:
    rows, whens = np.array(run["rows"])[TIMES], ("start", "a tenth", "end")
    for index, (row, when) in enumerate(zip(rows, whens, strict=True)):
        axes.semilogx(BATCHES, row[3:], MARKS[index] + "-", color=COLORS[index], ms=4, base=2,
                      label=f"batches, {when} of training")  # fmt: skip
    axes.plot(BATCHES[-1], rows[-1, 2], "k*", ms=9, ls="none", label="Adam's v at the end")
    finish(axes, "Squared gradients beside the Fisher", "batch size (of 128)", "rank correlation")


def draw_kronecker(axes: Axes, runs: Runs) -> None:
    for run, style, when in zip(runs[:2], ("-", "--"), ("start", "later"), strict=True):
        for index, name in enumerate(("K-FAC", "exact blocks", "gradient")):
            axes.semilogx(DAMPINGS, run[name], MARKS[index] + style, color=COLORS[index], ms=4,
                          label=f"{name}, {when}")  # fmt: skip
    finish(axes, "K-FAC, three classes", "damping λ / λ_max", "cosine with the natural gradient",
           ylim=(0, 1.05))  # fmt: skip


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Claims about the metrics of second-order methods", arguments)
    record, seeds = Record(OUTPUT, "second_order_metrics", quick), range(1 if quick else 5)
    invariant = record.runs(invariance, grid(method=STEPPERS))
    flows = record.runs(flowed, grid(metric=("Fisher", "Euclidean"), t=[1.0 if quick else 2.0]))
    descent = record.runs(adam, grid(seed=seeds, steps=[200 if quick else 600]))
    labels = record.runs(sampled_labels, [{"draws": 1000}])[0]
    cases = record.runs(kronecker, grid(case=CASES))
    natural = record.runs(cosines, grid(seed=seeds, steps=(0, 5)))
    claims = [*invariance_claims(invariant, flows), *adam_claims(descent, labels),
              *kronecker_claims(cases, natural)]  # fmt: skip
    drawing = Figure(figsize=(11, 5.6), layout="constrained")
    panels = drawing.subplots(1, 3)
    draw_invariance(panels[0], invariant)
    draw_adam(panels[1], descent[0])
    draw_kronecker(panels[2], natural)
    legends_below(panels)
    record.conclude(claims, {"second_order_metrics": drawing})
    return claims


if __name__ == "__main__":
    main()
