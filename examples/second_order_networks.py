"""Second-order methods: what is said of them, measured on networks
================================================================

The sentences that surveys of second-order optimisation repeat about training: mini-batches spoil
curvature more than gradients, the Hessian of a network is indefinite until residuals are small,
and second-order steps cost too much. Each is a row of the table here, or several; some are half
true, and the row says which half. Sources: Martens (2010); Dauphin et al. (2014); Nocedal and
Wright, Numerical Optimization, 2nd edition, section 10.3.
"""

# %%
import os
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
    finish,
    grid,
    iterates,
    legends_below,
    listed,
    posed,
    quick_asked,
)
from gnmanifold.optimizers import (
    KFAC,
    LBFGS,
    Adam,
    BackTracking,
    ConstantStep,
    GaussNewton,
    GradientDescent,
    HessianFree,
    LevenbergMarquardt,
    Newton,
)
from gnmanifold.plotting import COLORS

MARKS = "os^vD*Px"

# %% [markdown]
# Curvature from mini-batches
# ---------------------------
#
# Batches are drawn with replacement, for which the mean square error of a matrix is exactly that of
# one sample over the batch size. Then a damped Gauss-Newton step with the curvature of a batch and
# the full gradient, and one with the full curvature and the gradient of a batch, against the exact
# step: at the start of training, and after ten Levenberg-Marquardt steps.


# %%
ROWS = 1024
DAMPINGS = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)  # over λ_max


def regression() -> tuple[gn.FeedforwardNetwork, np.ndarray]:
    X, y = gn.datasets.single_index(ROWS, 4, 0.1, 0)
    return gn.FeedforwardNetwork(X, 8, train_output=True, rng=0), y


def matrices(rows: np.ndarray) -> np.ndarray:
    """Gauss-Newton matrix and Hessian of the mean cost over some rows, at the start."""
    network, y = regression()
    lin = gn.Linearization(network.with_inputs(network.inputs[rows]), network.initial_parameters)
    G, bend = lin.jacobian.T @ lin.jacobian, lin.hessian_matrix(lin.psi - y[rows])
    return np.array([G, G + bend]) / len(rows)


def batch_noise(size: int, repeats: int) -> Run:
    """Mean square relative errors of both matrices, with the standard error and the prediction."""
    rng, exact = np.random.default_rng(size), matrices(np.arange(ROWS))
    found = np.array([matrices(rng.integers(0, ROWS, size)) for _ in range(repeats)])
    scales = np.sum(exact**2, axis=(1, 2))
    squares = np.sum((found - exact) ** 2, axis=(2, 3)) / scales
    network, _ = regression()
    lengths = np.sum(network.jacobian(network.initial_parameters) ** 2, axis=1)
    return {"size": size, "mean": squares.mean(axis=0),
            "error": squares.std(axis=0) / np.sqrt(repeats),
            "predicted": (np.mean(lengths**2) / scales[0] - 1) / size}  # fmt: skip


def step_noise(late: bool, size: int, repeats: int) -> Run:
    """Median relative errors of steps, by damping over λ_max, and how much of the bound is used."""
    network, y = regression()
    solver = LevenbergMarquardt(max_iterations=10 if late else 0, **ALL_STEPS)
    w = iterates(solver, posed(network, gn.SquaredError(y)), network.initial_parameters)[-1]
    J, r = network.jacobian(w), network(w) - y
    G, g, rng = J.T @ J / ROWS, J.T @ r / ROWS, np.random.default_rng(3)
    draws = rng.integers(0, ROWS, (repeats, size))
    batches = [(J[rows].T @ J[rows] / size, J[rows].T @ r[rows] / size) for rows in draws]
    found: dict[str, list[float]] = {"curvature": [], "gradient": [], "bound": []}
    for damping in DAMPINGS:
        lam = damping * np.linalg.norm(G, 2)
        damp = lam * np.eye(w.size)
        exact, errors = np.linalg.solve(G + damp, g), []
        for B, b in batches:
            steps = np.linalg.solve(B + damp, g), np.linalg.solve(G + damp, b)
            pair = [np.linalg.norm(a - exact) / np.linalg.norm(exact) for a in steps]
            errors.append([*pair, pair[0] * lam / np.linalg.norm(B - G, 2)])
        curvature, gradient, _ = np.median(errors, axis=0)
        found["curvature"].append(curvature)
        found["gradient"].append(gradient)
        found["bound"].append(np.max(errors, axis=0)[2])
    return {"late": late, **found}


# %% [markdown]
# Negative curvature over training
# --------------------------------
#
# The Hessian is the Gauss-Newton matrix, which is positive semidefinite, and the sum of the second
# derivatives times the residuals: no eigenvalue is below minus the norm of that. The damped
# Gauss-Newton flow takes the residual to near zero, for targets that the network can reach, with
# fewer parameters than samples and with more.


# %%
KINDS = {  # samples, and whether it is the flow
    "flow, p < n": (128, True),
    "flow, p > n": (24, True),
    "gradient descent, p < n": (128, False),
}


def negative(kind: str, seed: int) -> Run:
    """Negative part of the Hessian along a Gauss-Newton flow, or along gradient descent."""
    samples, flow = KINDS[kind]
    X, _ = gn.datasets.single_index(samples, 4, 0.1, seed)
    network = gn.FeedforwardNetwork(X, 10, train_output=True, rng=seed)
    w = network.initial_parameters
    y = network(w + 0.5 * np.random.default_rng(seed + 100).standard_normal(w.size))
    problem = posed(network, gn.SquaredError(y))
    if flow:
        damped = posed(network, problem.loss, gn.GaussNewtonMetric(0.02))
        points = gn.flows.integrate(damped, w, 12.0, step=0.05, every=12,
                                    eigenvalues=False).parameters  # fmt: skip
    else:
        path = iterates(GradientDescent(max_iterations=1000, **ALL_STEPS), problem, w)
        numbers = np.unique([0, *np.geomspace(1, 1000, 20).astype(int)])
        points = path[numbers[numbers < len(path)]]
    return {"kind": kind, "rows": [negative_part(problem, w) for w in points],
            "flat": 1 - samples / network.num_parameters}  # fmt: skip


def negative_part(problem: gn.CompositeProblem, w: np.ndarray) -> list[float]:
    """Residual, share of negative eigenvalues in number and size, Weyl's bound, those of JᵀJ."""
    found, lin = gn.diagnostics.spectrum(problem, w), gn.Linearization(problem.model, w)
    values, residual = found.hessian.values, problem.loss.gradient(lin.psi)
    weight = -np.sum(values[values < 0]) / np.sum(np.abs(values))
    bound = max(-values[0], 0.0) / np.linalg.norm(lin.hessian_matrix(residual), 2)
    negatives = found.hessian.signs.negative / found.hessian.size
    return [np.linalg.norm(residual), negatives, weight, bound, found.gauss_newton.signs.negative]


# %% [markdown]
# What a step costs
# -----------------
#
# Counts of what was evaluated do not depend on the machine; the seconds, which do, are drawn but
# neither printed, recorded nor claimed. A Jacobian costs about as much arithmetic as n products
# with it, a p x p Hessian p products.


# %%
COUNTED = {"J": "jacobians", "Jv": "products", "D²f": "second_derivatives"}


def costs(samples: int, widths: tuple[int, ...], steps: int) -> Runs:
    """Evaluations and seconds, by p and method."""
    X, y = gn.datasets.single_index(samples, 4, 0.1, 0)
    rows = []
    for width in widths:
        network = gn.FeedforwardNetwork(X, (width, width), train_output=True, rng=0)
        loss = gn.SquaredError(y, weight=1 / samples)
        # a manifold each: what one run leaves in its memory would not be counted for the next
        entries = {name: (solver, posed(network, loss)) for name, solver in methods(steps).items()}
        found = gn.compare(entries, posed(network, loss), network.initial_parameters)
        rows += [
            {"p": network.num_parameters, "method": run.name, "steps": run.iterations,
             "seconds": run.seconds / run.iterations,
             **{name: getattr(run.evaluations, name) for name in COUNTED.values()}}
            for run in found.runs
        ]  # fmt: skip
    return rows


def methods(steps: int) -> dict[str, Any]:
    limits = {"max_iterations": steps, **ALL_STEPS}
    return {
        "gradient descent": GradientDescent(ConstantStep(0.1), **limits),
        "Adam": Adam(0.01, **limits),
        "L-BFGS": LBFGS(**limits),
        "K-FAC": KFAC(**limits),
        "Hessian-free": HessianFree(max_inner=20, **limits),
        "Gauss-Newton": GaussNewton(BackTracking(), damping=0.1, **limits),
        "Levenberg-Marquardt": LevenbergMarquardt(**limits),
        "Newton": Newton(BackTracking(), saddle_free=True, **limits),
    }


def cost_table(rows: Runs) -> str:
    head = f"{'method':20s} {'p':>5s}" + "".join(f" {name:>7s}" for name in COUNTED) + "  a step"
    lines = [head, "-" * len(head)]
    for row in rows:
        counts = "".join(f" {row[name] / row['steps']:7.1f}" for name in COUNTED.values())
        lines.append(f"{row['method']:20s} {row['p']:5d}{counts}")
    return "\n".join(lines)


# %% [markdown]
# The claims
# ----------


# %%
def noise_claims(runs: Runs, steps: Runs) -> list[Claim]:
    found = [decay(runs, index) for index in range(2)]
    away = max(abs(run["mean"][0] - run["predicted"]) / run["error"][0] for run in runs)
    light, middle, heavy = map(DAMPINGS.index, (1e-4, 0.1, 1.0))
    curvature, gradient = steps[0]["curvature"], steps[0]["gradient"]
    late = max(np.divide(steps[1]["curvature"], steps[1]["gradient"]))
    share = max(max(run["bound"]) for run in steps)
    return [
        Claim("errors of curvature fall like b^-1/2", "independent samples",
              "exponents " + ", ".join(f"{e:.3f} ± {s:.3f}" for e, s in found),
              all(abs(e + 0.5) < 4 * s and s < 0.05 for e, s in found)),
        Claim("  with the variance of a sample", "tr of its covariance / b",
              f"{away:.1f} standard errors away at most", away < 5),
        Claim("batch curvature spoils the step more than batch gradients", "said of mini-batches",
              f"{curvature[light]:.0f} against {gradient[light]:.1f} at 1e-4 λ_max",
              curvature[light] > 3 * gradient[light]),
        Claim("half true: with light damping; not with heavy", "λ = λ_max",
              f"{curvature[heavy]:.2f} against {gradient[heavy]:.2f}",
              curvature[heavy] < gradient[heavy]),
        Claim("  and not near a minimum, where gradients are all noise", "any damping",
              f"ratio {late:.2f} at most", bool(late < 1)),
        Claim("damping helps", "Martens, 2010",
              f"{curvature[light]:.0f} to {curvature[middle]:.1f} at 0.1 λ_max",
              curvature[middle] < 0.1 * curvature[light]),
        Claim("amplification of |δG|/λ_max is at most λ_max/λ",
              "theorem, checks the code: |δa| <= |δG| |a|/λ", f"{share:.2f} of it at most",
              share <= 1),
    ]  # fmt: skip


def decay(runs: Runs, index: int) -> tuple[float, float]:
    """Exponent of the root mean square error in the batch size, and its standard error."""
    logs = np.log([run["size"] for run in runs])
    weights = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    means, errors = (np.array([run[name][index] for run in runs]) for name in ("mean", "error"))
    return float(weights @ np.log(means) / 2), float(np.linalg.norm(weights * errors / means) / 2)


def negative_claims(runs: Runs) -> list[Claim]:
    every = [np.array(run["rows"]) for run in runs]
    flows = [rows[-1] for run, rows in zip(runs, every, strict=True) if KINDS[run["kind"]][1]]
    wide = chosen(runs, kind="flow, p > n")
    left = min(run["rows"][-1][1] for run in wide)
    first, last = (np.array([rows[k, 1] for rows in every]) for k in (0, -1))
    weight, bound = max(row[2] for row in flows), max(rows[:, 3].max() for rows in every)
    wrong = sum(int(rows[:, 4].sum()) for rows in every)
    return [
        Claim("the Hessian starts with many negative eigenvalues, then fewer",
              "Dauphin et al., 2014", f"{first.mean():.2f} to {last.mean():.2f} of them",
              bool(first.min() > 0.2 and np.all(last < 0.75 * first))),
        Claim("the negative part shrinks with the residual",
              "theorem (Weyl): -λ_min <= |Σ r_i ∇²f_i|",
              f"{weight:.0e} of Σ |λ| at the end; {bound:.2f} of the bound",
              bool(weight < 1e-2 and bound <= 1 + 1e-9)),
        Claim("half true: for p > n their size vanishes, their number does not",
              f"half of the p - n flat directions, {wide[0]['flat'] / 2:.2f} of p",
              f"{left:.2f} of them at least at the end", left > 0.1),
        Claim("the Gauss-Newton matrix has none", "theorem, checks the code", f"{wrong}",
              wrong == 0),
    ]  # fmt: skip


def cost_claims(rows: Runs) -> list[Claim]:
    by = {name: chosen(rows, method=name) for name in methods(1)}
    first = [row for name in ("gradient descent", "Adam", "L-BFGS") for row in by[name]]
    formed = sum(row["jacobians"] for row in (*first, *by["K-FAC"], *by["Hessian-free"]))

    def each(method: str, counted: str) -> list[float]:
        return sorted({row[counted] / row["steps"] for row in by[method]})

    kfac, free = each("K-FAC", "products"), each("Hessian-free", "products")
    extra = sorted({row["jacobians"] - row["steps"] for row in by["Gauss-Newton"]})
    marquardt = max(each("Levenberg-Marquardt", "jacobians"))
    dense = sorted({row["second_derivatives"] / row["p"] / row["steps"] for row in by["Newton"]})
    sizes = f"p = {rows[0]['p']} to {rows[-1]['p']}"
    return [
        Claim("first-order and quasi-Newton steps take one product", sizes,
              "one a step, one at the start",
              all(row["products"] == row["steps"] + 1 for row in first)),
        Claim("no Jacobian for K-FAC, Hessian-free and those", sizes, f"{formed} Jacobians",
              formed == 0),
        Claim("K-FAC's products do not grow with p, Hessian-free's only by iterations", sizes,
              f"{listed(kfac, 'g')} and {max(free):.0f} at most",
              len(kfac) == 1 and max(free) <= 2 * (2 * 20 + 3)),
        Claim("Gauss-Newton takes one n x p Jacobian a step", sizes,
              f"one, {extra} more at the end; LM {marquardt:.1f} at most",
              extra == [1] and marquardt <= 2),
        Claim("Newton takes a p x p Hessian, p second derivatives a step", sizes,
              f"{dense} p", dense == [1.0]),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------


# %%
def draw_matrices(axes: Axes, runs: Runs) -> None:
    sizes = [run["size"] for run in runs]
    for index, name in enumerate(("Gauss-Newton matrix", "Hessian")):
        axes.loglog(sizes, [np.sqrt(run["mean"][index]) for run in runs], MARKS[index],
                    color=COLORS[index], label=name)  # fmt: skip
    predicted = [np.sqrt(run["predicted"]) for run in runs]
    axes.loglog(sizes, predicted, "k--", lw=1, label="variance of a sample / b")
    finish(axes, "Curvature from mini-batches", "batch size b", "relative error (Frobenius)")


def draw_steps(axes: Axes, runs: Runs) -> None:
    for run, style, when in zip(runs, ("-", "--"), ("start", "late"), strict=True):
        for index, name in enumerate(("curvature", "gradient")):
            axes.loglog(DAMPINGS, run[name], MARKS[index] + style, color=COLORS[index], ms=4,
                        label=f"{name} of a batch, {when}")  # fmt: skip
    finish(axes, "Gauss-Newton steps from batches", "damping λ / λ_max",
           "relative error of the step")  # fmt: skip


def draw_negative(axes: Axes, runs: Runs) -> None:
    for index, kind in enumerate(KINDS):
        rows = np.array(chosen(runs, kind=kind)[0]["rows"])
        axes.loglog(rows[:, 0], rows[:, 1], "o-", color=COLORS[index], ms=3,
                    label=f"of the number, {kind}")  # fmt: skip
        axes.loglog(rows[:, 0], rows[:, 2], "--", color=COLORS[index], label=f"of Σ |λ|, {kind}")
    axes.invert_xaxis()
    finish(axes, "Negative eigenvalues over training", "residual (training goes right)",
           "negative part: share")  # fmt: skip


def draw_costs(axes: Axes, rows: Runs) -> None:
    for index, name in enumerate(methods(1)):
        points = [(row["p"], row["seconds"]) for row in chosen(rows, method=name)]
        axes.loglog(*np.transpose(points), MARKS[index] + "-", color=(*COLORS, "0.5")[index],
                    ms=4, label=name)  # fmt: skip
    finish(axes, "What a step costs", "number of parameters p", "seconds a step (one machine)")


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Claims about second-order methods on networks", arguments)
    record, repeats = Record(OUTPUT, "second_order_networks", quick), 40 if quick else 400
    sizes = (8, 32, 128) if quick else (8, 16, 32, 64, 128, 256, 512)
    noise = record.runs(batch_noise, grid(size=sizes, repeats=[repeats]))
    steps = record.runs(step_noise, grid(late=(False, True), size=[16], repeats=[repeats]))
    curved = record.runs(negative, grid(kind=KINDS, seed=range(1 if quick else 5)))
    spent = costs(1024, (8, 20), 2) if quick else costs(2048, (8, 14, 20, 30, 42), 2)
    print(cost_table(spent))
    claims = [*noise_claims(noise, steps), *negative_claims(curved), *cost_claims(spent)]
    drawing = Figure(figsize=(11, 9.5), layout="constrained")
    panels = drawing.subplots(2, 2).ravel()
    draw_matrices(panels[0], noise)
    draw_steps(panels[1], steps)
    draw_negative(panels[2], curved)
    draw_costs(panels[3], spent)
    legends_below(panels, columns=2)
    record.conclude(claims, {"second_order_networks": drawing})
    return claims


if __name__ == "__main__":
    main()
