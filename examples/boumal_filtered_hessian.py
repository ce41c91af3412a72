"""The filtered Hessian against the inverse of the Hessian
=======================================================

After N. Boumal, *When the Hessian is a proxy for its Gauss-Newton approximation* (2026). Where the
minima of f form a manifold, f is ½‖φ‖² up to a constant, and the matrix to precondition with is
that of Gauss-Newton, H = DφᵀDφ of rank k. A reader finds here how closely the Hessian of f gives it
away: by its k largest eigenvalues, by conjugate gradients that stop early, or as the limit of a
Riemannian Hessian; why its inverse is useless instead; and what that does to the optimizers.
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
)
from gnmanifold.optimizers import BackTracking
from gnmanifold.optimizers.stopping import CostBelow
from gnmanifold.plotting import COLORS

SIZE, RANK = 8, 3
DISTANCES = (1e-1, 1e-2, 1e-3, 1e-4)
DAMPINGS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
LABEL = 0.3  # of the logistic loss: no 0 or 1, so that its minimum is attained
TOLERANCE = 0.1  # between 1/4, the smallest eigenvalue to keep, and O(distance), those to drop
SOLVED = 1e-12  # |F| at which a run ends
AWAY = "distance to the solutions"

# %% [markdown]
# Random problems
# ---------------
#
# F(x) = b + A(x - x*) + ½ B[x - x*, x - x*] maps R⁸ to R³. A has singular values 1, 1½ and 2, and
# each of the three matrices B is symmetric, random, of norm one. With the squared error and b = 0
# the solutions F = 0 form, near x*, a manifold of dimension five, and φ = F. A logistic loss with
# labels 0.3 has its minimum f* > 0 on such a manifold too: there f = f* + ½‖φ‖² with another φ,
# which need not be written down: the generalized Gauss-Newton matrix, with the Hessian of the loss
# between Jᵀ and J, is DφᵀDφ on the solutions, and off them to first order, and is taken for H. The
# third family is the first one divided by 100.


# %%
def losses() -> dict[str, gn.Loss]:
    zero, labels = np.zeros(RANK), np.full(RANK, LABEL)
    return {"squared": gn.SquaredError(zero), "logistic": gn.Logistic(labels),
            "squared/100": gn.SquaredError(zero, weight=0.01)}  # fmt: skip


def random_model(seed: int, loss: str) -> tuple[gn.Model, np.ndarray, np.random.Generator]:
    """A model, a solution x*, and the generator they were drawn with."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((rows, RANK)))[0] for rows in (RANK, SIZE))
    A = left @ np.diag(np.linspace(1, 2, RANK)) @ right.T
    B = rng.standard_normal((RANK, SIZE, SIZE))
    B = B + B.transpose(0, 2, 1)
    B /= np.linalg.norm(B, 2, axis=(1, 2))[:, None, None]
    solution = rng.standard_normal(SIZE)
    b = np.log(LABEL / (1 - LABEL)) if loss == "logistic" else 0.0
    model = gn.CallableModel(
        lambda x: b + (A + 0.5 * B @ (x - solution)) @ (x - solution),
        num_parameters=SIZE,
        jacobian=lambda x: A + B @ (x - solution),
        second_derivative=lambda _, a, c: B @ a @ c,
    )
    return model, solution, rng


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


# %% [markdown]
# Near the solutions
# ------------------
#
# From x* a step of the given length along the normal space: that length is the distance to the
# solutions. There ∇²f = H + O(distance), so its k largest eigenvalues are those of H and the rest,
# of size O(distance) and either sign, is noise. Noise inverted is what ruins Newton's step. The
# conjugate gradients stop at ‖r‖ <= ‖r₀‖ min(‖r₀‖, 0.1), or at negative curvature with what they
# have: k iterations solve a system of rank k, and an early stop filters by itself.


# %%
def hessian(model: gn.Model, x: np.ndarray, loss: gn.Loss) -> np.ndarray:
    root = loss.hessian_root(model(x), model.jacobian(x))
    bent = [model.weighted_hessian(x, loss.gradient(model(x)), e) for e in np.eye(SIZE)]
    return root.T @ root + np.column_stack(bent)


def truncated_cg(matrix: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int, bool]:
    """Solution, iterations, and whether negative curvature ended them."""
    x, r, d, count, size = np.zeros_like(b), b, b, 0, np.linalg.norm(b)
    while np.linalg.norm(r) > size * min(size, 0.1) and count < SIZE:
        image = matrix @ d
        if d @ image <= 0:
            return x, count, True
        length = (r @ r) / (d @ image)
        x, before, r = x + length * d, r, r - length * image
        d = r + (r @ r) / (before @ before) * d
        count += 1
    return x, count, False


def near_solutions(seed: int, loss: str, distance: float) -> Run:
    model, solution, rng = random_model(seed, loss)
    normal = model.jacobian(solution).T @ rng.standard_normal(RANK)
    x = solution + distance * unit(normal)
    g, lin = losses()[loss], gn.Linearization(model, x)
    slope = model.jacobian(x).T @ g.gradient(model(x))
    gauss_newton = gn.geometry.submersion_hessian(model, x, g)
    inverse = np.linalg.pinv(gauss_newton, rcond=1e-9)  # of exact rank k
    exact = hessian(model, x, g)
    kept = gn.FilteredHessianMetric(g, rank=RANK).at(lin)
    above = gn.FilteredHessianMetric(g, tolerance=TOLERANCE).at(lin)
    early, iterations, negative = truncated_cg(exact, -slope)
    steps = {
        "k largest": -kept.raise_index(slope),
        "share 0.1": -above.raise_index(slope),
        "truncated CG": early,
        "Newton": -np.linalg.solve(exact, slope),
    }
    matrices = {
        "filtered⁺ - H⁺": kept.raise_index(np.eye(SIZE)) - inverse,
        "(∇²f)⁻¹ - H⁺": np.linalg.inv(exact) - inverse,
        "∇²f - H": exact - gauss_newton,
    }
    return {
        "steps": {name: relative(step, -inverse @ slope) for name, step in steps.items()},
        "matrices": {name: np.linalg.norm(each, 2) for name, each in matrices.items()},
        "seed": seed, "loss": loss, "distance": distance, "eigenvalues": np.linalg.eigvalsh(exact),
        "kept": len(above.spectrum[0]), "iterations": iterations, "negative": negative,
    }  # fmt: skip


def relative(value: np.ndarray, target: np.ndarray) -> float:
    return float(np.linalg.norm(value - target) / np.linalg.norm(target))


# %% [markdown]
# An exact filter, and what makes it work
# ---------------------------------------
#
# The damped metric (1 - ρ) JᵀJ + ρI has a connection, and in it f has a Riemannian Hessian, which
# for ρ → 0 tends to H itself, at any distance from the solutions. The conditions behind all this
# can be checked: at x* the minima form a manifold of dimension five away from which f grows
# quadratically (Morse-Bott); and with σ_min(DF)² >= c on a ball, f is c-Polyak-Łojasiewicz there.
# Neither is so for F = x₁x₂, whose solutions are two lines that cross.


# %%
CROSSING = gn.AutogradModel(lambda x: x[:1] * x[1], num_parameters=2), np.zeros(2), None


def damped(seed: int) -> list[float]:
    model, solution, rng = random_model(seed, "squared")
    x, loss = solution + 0.1 * unit(rng.standard_normal(SIZE)), losses()["squared"]
    target = gn.geometry.submersion_hessian(model, x, loss)
    metrics = [gn.ParameterManifold(model, gn.GaussNewtonMetric(rho)) for rho in DAMPINGS]
    return [relative(each.riemannian_hessian_matrix(x, loss), target) for each in metrics]


def landscape(seed: int) -> Run:
    model, center, _ = random_model(seed, "squared") if seed >= 0 else CROSSING
    problem = posed(model, gn.SquaredError(np.zeros(model.num_outputs)))
    found = gn.diagnostics.polyak_lojasiewicz_over(problem, center, 0.2, minimum=0.0)
    smallest = [np.linalg.svd(model.jacobian(x))[1][-1] ** 2 for x in found.parameters]
    kind = gn.diagnostics.classify(problem, center)
    return {"ratio": found.smallest, "bound": min(smallest), "morse_bott": kind.morse_bott,
            "dimension": kind.solution_dimension}  # fmt: skip


# %% [markdown]
# From farther away
# -----------------
#
# Starts at distance one from x*, in random directions, and runs until ‖F‖ <= 10⁻¹². The trust
# region's inner iteration is the truncated one above, on the exact Hessian. What Newton's method
# loses is not only runs: on its way it wanders along the solutions. Far from x* the share of the
# largest eigenvalue that a filter may drop is another one: where a run comes to solutions with an
# eigenvalue of H below its tolerance, as with 0.1 in problem 9, it stands still, one equation left
# unsolved. The default of the package is a thousandth.


# %%
def methods(limits: dict[str, Any]) -> dict[str, Any]:
    filtered = gn.optimizers.FilteredNewton
    return {
        "k largest": filtered(BackTracking(), rank=RANK, **limits),
        "share 0.001": filtered(BackTracking(), **limits),
        "truncated CG": gn.optimizers.TrustRegions(**limits),
        "Newton": gn.optimizers.Newton(**limits),
        "Gauss-Newton": gn.optimizers.GaussNewton(**limits),
        "share 0.1": filtered(BackTracking(), tolerance=TOLERANCE, **limits),
    }


def descend(seed: int, method: str) -> Run:
    model, solution, rng = random_model(seed, "squared")
    start = solution + unit(rng.standard_normal(SIZE))
    limits = {"verbosity": 0, "max_iterations": 60, "min_gradient_norm": 0, "min_step_size": 0,
              "stop": CostBelow(SOLVED**2 / 2)}  # fmt: skip
    run = methods(limits)[method].run(posed(model, losses()["squared"]), initial_point=start)
    rows, values = run.log["iterations"], np.linalg.svd(model.jacobian(run.point))[1]
    return {"method": method, "steps": run.iterations, "solved": bool(run.cost <= SOLVED**2 / 2),
            "norms": np.sqrt(2 * np.array(rows["cost"])), "share": (values[-1] / values[0]) ** 2,
            "moved": np.linalg.norm(run.point - start),
            "indefinite": any(rows.get("negative", []))}  # fmt: skip


# %% [markdown]
# The claims
# ----------
#
# Slopes are those of medians over the problems, on logarithmic axes. At distance 0.1 the terms of
# second order are a few percent of the first, which moves a fitted slope by some hundredths. The
# error of the conjugate gradients is of first order, but depends on the iteration they stop at.


# %%
def errors(runs: Runs, loss: str, group: str, name: str) -> np.ndarray:
    """One row for each distance."""
    rows = (chosen(runs, loss=loss, distance=distance) for distance in DISTANCES)
    return np.array([[run[group][name] for run in row] for row in rows])


def order(values: np.ndarray) -> float:
    return exponent(DISTANCES, np.median(values, axis=1))


def matrix_claims(runs: Runs) -> list[Claim]:
    claims = ("filtered⁺ - H⁺ = O(dist)", "(∇²f)⁻¹ - H⁺ grows like 1/dist", "∇²f - H = O(dist)")
    found = []
    for text, name, wanted in zip(claims, runs[0]["matrices"], (1, -1, 1), strict=True):
        slopes = [order(errors(runs, loss, "matrices", name)) for loss in ("squared", "logistic")]
        measured = f"{slopes[0]:.3f}, with f* > 0 {slopes[1]:.3f}"
        holds = all(abs(each - wanted) < 0.1 for each in slopes)
        found.append(Claim(text, f"slope {wanted}", measured, holds))
    return found


def step_claims(runs: Runs) -> list[Claim]:
    found = {name: errors(runs, "squared", "steps", name) for name in runs[0]["steps"]}
    orders = {name: order(values) for name, values in found.items()}
    middle = {name: np.median(values, axis=1) for name, values in found.items()}
    squared, logistic, scaled = (chosen(runs, loss=loss) for loss in losses())
    kept = [run["kept"] == RANK for run in squared + logistic]
    inner = [run["iterations"] for run in squared]
    negative = [sum(run["negative"] for run in each) for each in (squared, scaled)]
    indefinite = sum(run["eigenvalues"][0] < 0 for run in runs)
    return [
        Claim("filtered step = Gauss-Newton step + O(dist)", "slope 1",
              listed(middle["k largest"], ".1e"), abs(orders["k largest"] - 1) < 0.1),
        Claim("the filter by a share of 0.1 keeps k = 3", "the same filter",
              f"{sum(kept)} of {len(kept)}", all(kept)),
        Claim("truncated CG: error O(dist)", "slope 1",
              listed(middle["truncated CG"], ".1e"), abs(orders["truncated CG"] - 1) < 0.25),
        Claim("truncated CG needs at most k iterations", f"k = {RANK}",
              f"{min(inner)} to {max(inner)}", max(inner) <= RANK),
        Claim("its rule depends on the unit of f: f/100", "|r₀| is compared with 1",
              f"negative curvature {negative[1]} of {len(scaled)}; f: {negative[0]}",
              negative[1] > len(scaled) / 2 > negative[0]),
        Claim("the Hessian is indefinite off the solutions", "noise of either sign",
              f"{indefinite} of {len(runs)}", indefinite == len(runs)),
        Claim("Newton's step is wrong at any distance", "relative error of order 1",
              f"{listed(middle['Newton'], '.1f')}, worst {found['Newton'].max():.0f}",
              bool(np.all(middle["Newton"] > 0.5))),
    ]  # fmt: skip


def condition_claims(lands: Runs, limits: np.ndarray) -> list[Claim]:
    *random, crossed = lands
    margin = min(each["ratio"] / each["bound"] for each in random)
    smallest = min(each["bound"] for each in random)
    manifolds = sum(each["morse_bott"] and each["dimension"] == SIZE - RANK for each in random)
    slope = exponent(DAMPINGS, np.median(limits, axis=0))
    return [
        Claim("Riemannian Hessian for ρ → 0 is H, 0.1 from x*", "O(ρ), slope 1",
              f"slope {slope:.3f}, {np.max(limits[:, -1]):.0e} at ρ = {DAMPINGS[-1]:.0e}",
              abs(slope - 1) < 0.1),
        Claim("σ_min(Dφ)² >= c on a ball: f is c-PL there", "PL",
              f"μ/c >= {margin:.2f}, c >= {smallest:.2f}", margin >= 1 and smallest > 0),
        Claim("x* is a Morse-Bott minimum", f"dimension {SIZE - RANK}",
              f"{manifolds} of {len(random)}", manifolds == len(random)),
        Claim("two crossing lines of minima are not", "neither Morse-Bott nor PL",
              f"{crossed['morse_bott']}, μ <= {crossed['ratio']:.0e}",
              crossed["morse_bott"] is False and crossed["ratio"] < 0.01 * smallest),
    ]  # fmt: skip


def descent_claims(runs: Runs) -> list[Claim]:
    by = {name: chosen(runs, method=name) for name in methods({})}
    newton, (stalled,) = by["Newton"], by["share 0.1"]
    bent, solved = (sum(run[key] for run in newton) for key in ("indefinite", "solved"))
    longest = max(run["steps"] for run in newton)
    far = [np.median([r["moved"] for r in by[name]]) for name in ("Gauss-Newton", "Newton")]
    return [
        *(solution_claim(name, by[name])
          for name in ("Gauss-Newton", "k largest", "share 0.001", "truncated CG")),
        Claim("Newton meets indefinite Hessians", "in every run",
              f"{bent} of {len(newton)}; {solved} solved, up to {longest} steps",
              bent == len(newton)),
        Claim("Newton strays: median distance start to end", "Gauss-Newton stays near",
              f"{far[1]:.2f}, Gauss-Newton {far[0]:.2f}", bool(far[1] > 1.5 * far[0])),
        Claim("filter by a share of 0.1: problem 9 stalls", "an eigenvalue of H is lost",
              f"|F| = {stalled['norms'][-1]:.0e}, share there {stalled['share']:.3f}",
              not stalled["solved"] and stalled["share"] < TOLERANCE),
    ]  # fmt: skip


def solution_claim(name: str, runs: Runs) -> Claim:
    steps, solved = [run["steps"] for run in runs], sum(run["solved"] for run in runs)
    measured = f"{solved} of {len(steps)} in {min(steps)} to {max(steps)} steps"
    return Claim(f"{name} gets to |F| <= 1e-12", "fast locally", measured, solved == len(steps))


# %%
def figure(runs: Runs, descents: Runs) -> Figure:
    drawing = Figure(figsize=(12, 9), layout="constrained")
    steps, matrices, spectrum, descent = drawing.subplots(2, 2).ravel()
    draw_medians(steps, runs, "steps", (0, 1, 2, 3))
    finish(steps, "Against the Gauss-Newton step", AWAY, "error of the step, relative")
    draw_medians(matrices, runs, "matrices", (0, 3, 5))
    finish(matrices, "Against H = DφᵀDφ and H⁺", AWAY, "spectral norm of the error")
    draw_spectrum(spectrum, chosen(runs, loss="squared", seed=0))
    finish(spectrum, "Spectrum of the Hessian, first problem", AWAY, "|eigenvalue| of ∇²f")
    draw_descents(descent, descents)
    finish(descent, "Runs from distance one", "iteration", "|F|", xlim=(0, 20))
    for axes in (steps, matrices, spectrum, descent):
        axes.legend(fontsize=8)
    return drawing


def draw_medians(axes: Axes, runs: Runs, group: str, colors: tuple[int, ...]) -> None:
    for name, index in zip(runs[0][group], colors, strict=True):
        dashed = "--" if name == "share 0.1" else "-"  # it lies on another
        band(axes, DISTANCES, errors(runs, "squared", group, name).T, COLORS[index], name,
             marker="oxs^vD"[index], ls=dashed)  # fmt: skip
    axes.set(xscale="log", yscale="log")


def draw_spectrum(axes: Axes, runs: Runs) -> None:
    """Eigenvalues by size, one problem, with those that are negative marked."""
    values = np.array([run["eigenvalues"] for run in runs])
    at = np.repeat(np.array(DISTANCES)[:, None], SIZE, axis=1)
    for sign, marker, color, label in ((1, "o", COLORS[0], "positive"),
                                       (-1, "x", COLORS[1], "negative")):  # fmt: skip
        shown = sign * values > 0
        axes.loglog(at[shown], np.abs(values[shown]), marker, color=color, label=label)
    axes.loglog(DISTANCES, TOLERANCE * values[:, -1], "k--", label="share 0.1 of the largest")


def draw_descents(axes: Axes, runs: Runs) -> None:
    for color, name in zip(COLORS, list(methods({}))[:5], strict=False):
        for k, run in enumerate(chosen(runs, method=name)):
            norms = np.maximum(run["norms"], 1e-17)  # a zero has no logarithm
            axes.semilogy(norms, color=color, alpha=0.6, lw=1, label="" if k else name)
    axes.axhline(SOLVED, color="k", ls=":", label="solved")


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("The Hessian with its noise filtered out", arguments)
    seeds = range(6 if quick else 20)
    record = Record(OUTPUT, "boumal_filtered_hessian", quick)
    runs = record.runs(near_solutions, grid(loss=losses(), seed=seeds, distance=DISTANCES))
    limits = np.array(record.runs(damped, grid(seed=seeds)))
    lands = record.runs(landscape, grid(seed=[*seeds, -1]))
    starts = grid(method=list(methods({}))[:5], seed=seeds)
    descents = record.runs(descend, [*starts, {"method": "share 0.1", "seed": 9}])
    found = [*matrix_claims(runs), *step_claims(runs), *condition_claims(lands, limits),
             *descent_claims(descents)]  # fmt: skip
    record.conclude(found, {"boumal_filtered_hessian": figure(runs, descents)})
    return found


if __name__ == "__main__":
    main()
