"""Newton and Gauss-Newton on an equation with many solutions
==========================================================

After N. Boumal, *When the Hessian is a proxy for its Gauss-Newton approximation* (2026). One
equation in two unknowns, F(x) = x₂ sqrt(1 + x₁²) = 0, is solved by minimising f = ½F². Its
solutions form a line, x₂ = 0, on which the Hessian of f is singular: Newton's method, exact as
it is, is repelled along the line, while Gauss-Newton, with the "approximate" Hessian, goes
straight there. F is recovered from the essay's printed numbers, which it reproduces.
"""

# %%
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, Claim, Record, quick_asked
from gnmanifold.plotting import COLORS

START = np.array([0.5, 0.5])
SECOND_START = np.array([1.4090, 1.4172])
SINGULAR = 1 / np.sqrt(3)  # |x₁| at which the Hessian is singular, and above which indefinite
HORIZON = 8.0

# %%
model = gn.AutogradModel(
    lambda x: anp.array([x[1] * anp.sqrt(1 + x[0] ** 2)]), num_parameters=2, num_outputs=1
)
loss = gn.SquaredError([0.0])


# %% [markdown]
# Three steps
# -----------
#
# A wide linear system has many solutions. `pinv` gives the Gauss-Newton step of the essay's
# definition, the one of minimum norm; the essay's table was printed from *basic* solutions, with
# as many nonzero entries as equations, which is what MATLAB's backslash returns. A basic step
# moves one coordinate; F is linear in x₂, so that moving x₂ alone solves the equation at once. The
# minimum-norm step needs three: its error in x₂ is x₁²x₂³/(1 + x₁²)² to leading order, one order
# better than the quadratic convergence that theory promises in general.
#
# Newton's step has the closed form x₁ → 2x₁(1 - x₁²)/(1 - 3x₁²), x₂ → -2x₁²x₂/(1 - 3x₁²). The
# map of x₁ knows nothing of x₂: its only fixed point is 0, with derivative 2, so it is repelled
# from there, and x₁ wanders over the line for ever, however small x₂ has become.


# %%
def gradient_and_hessian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    F = model(x)
    J = model.jacobian(x)
    bent = np.column_stack([model.weighted_hessian(x, F, unit) for unit in np.eye(2)])
    return J.T @ F, J.T @ J + bent


def newton_step(x: np.ndarray) -> np.ndarray:
    gradient, hessian = gradient_and_hessian(x)
    return -np.linalg.solve(hessian, gradient)


def minimum_norm_step(x: np.ndarray) -> np.ndarray:
    return -np.linalg.pinv(model.jacobian(x)) @ model(x)


def basic_step(x: np.ndarray) -> np.ndarray:
    J = model.jacobian(x)[0]
    pivot = int(np.argmax(np.abs(J)))
    step = np.zeros(2)
    step[pivot] = -model(x)[0] / J[pivot]
    return step


def iterate(step: Callable[[np.ndarray], np.ndarray], x: np.ndarray, iterations: int) -> np.ndarray:
    points = [x]
    for _ in range(iterations):
        points.append(points[-1] + step(points[-1]))
    return np.array(points)


STEPS = {"Newton": newton_step, "basic": basic_step, "minimum norm": minimum_norm_step}


def iterates(method: str, start: np.ndarray, iterations: int) -> np.ndarray:
    return iterate(STEPS[method], np.array(start), iterations)


def newton_in_fifty_digits(iterations: int) -> np.ndarray:
    """The closed form, free of the rounding that a repelling map enlarges."""
    with localcontext() as context:
        context.prec = 50
        x, y = Decimal("0.5"), Decimal("0.5")
        points = [(float(x), float(y))]
        for _ in range(iterations):
            q = 1 - 3 * x**2
            x, y = 2 * x * (1 - x**2) / q, -2 * x**2 * y / q
            points.append((float(x), float(y)))
    return np.array(points)


# %% [markdown]
# Two flows
# ---------
#
# The Newton flow x' = -∇²f⁻¹∇f has ∇f(x(t)) = e^(-t) ∇f(x₀) and lives only as long as the Hessian
# is regular; it fails where 3x₁² = 1. Along it dt = (1 - 3x₁²)/(x₁(1 + x₁²)) dx₁, which puts the
# end at t = ln(2/√3) - 2 ln(16/15). The Gauss-Newton flow x' = -J⁺F has F(x(t)) = e^(-t) F(x₀): in
# the output space a straight line to the solution, at a rate that no conditioning can change. It
# is orthogonal to the level sets of F, and keeps ln x₁ + (x₁² - x₂²)/2, which says where it ends.


# %%
def problem(metric: Any) -> gn.CompositeProblem:
    return gn.CompositeProblem(gn.ParameterManifold(model, metric), loss)


def flow(name: str) -> dict[str, Any]:
    if name == "Newton":
        posed, damping = problem(gn.HessianMetric(loss)), None
    else:  # undamped, with more parameters than outputs: the velocity of least norm
        posed, damping = problem(gn.GaussNewtonMetric(0.5)), 0.0
    found = gn.flows.integrate(
        posed, START, HORIZON, method="dop853", rtol=1e-12, damping=damping, eigenvalues=False
    )
    left = [gradient_and_hessian(x)[0] if name == "Newton" else model(x) for x in found.parameters]
    return {"times": found.times, "points": found.parameters, "left": left, "end": found.end}


# %% [markdown]
# The claims
# ----------
#
# The essay's Gauss-Newton rows come from the basic step; what follows its own definition is the
# minimum-norm step, whose limit is neither reached in one step nor the solution closest to the
# start. The optimizers of the package take the same steps as the few lines above.


# %%
def newton_claims(newton: np.ndarray) -> list[Claim]:
    error = np.max(np.abs(newton - newton_in_fifty_digits(len(newton) - 1)))
    moves = np.abs(np.diff(newton[:, 0]))
    indefinite = np.sum(np.abs(newton[:, 0]) > SINGULAR)
    first = [0.5 * float(model(x)[0]) ** 2 for x in newton[:2]]
    theirs = optimizer_points(gn.optimizers.Newton, len(newton) - 1)
    return [
        Claim("Newton: 12 iterates, to four decimals", "Newton's table",
              f"{error:.0e} from 50 digits", bool(error < 5e-5)),
        Claim("Newton: x₁ never settles", "Newton's table",
              f"moves by {moves.min():.2f} to {moves.max():.2f}", bool(moves.min() > 0.05)),
        Claim("Newton is no descent: f rises at once", "Newton's table",
              f"{first[0]:.3f} to {first[1]:.3f}", first[1] > first[0]),
        Claim("Newton meets indefinite Hessians", "3x₁² > 1",
              f"{indefinite} of {len(newton)} points", bool(indefinite > 0)),
        Claim("gn.optimizers.Newton() makes these iterates", "the same method",
              f"difference {np.max(np.abs(theirs - newton)):.0e}",
              bool(np.max(np.abs(theirs - newton)) < 5e-5)),
    ]  # fmt: skip


def gauss_newton_claims(basic: list[np.ndarray], least: list[np.ndarray]) -> list[Claim]:
    solved = [float(np.max(np.abs(points[1] - [points[0, 0], 0]))) for points in basic]
    rows = (
        np.array([[0.5, 0.5], [0.403846, 0.019231], [0.403718, 1e-6], [0.403718, 0]]),
        np.array([[1.4090, 1.4172], [0.754071, 0.438077], [0.665733, 0.018603], [0.665573, 1e-6]]),
    )
    errors = [float(np.max(np.abs(points - row))) for points, row in zip(least, rows, strict=True)]
    order = convergence_order(least[0][1:4, 1])
    aside = [float(points[0, 0] - points[-1, 0]) for points in least]
    theirs = optimizer_points(gn.optimizers.GaussNewton, 3)
    return [
        Claim("basic step from (½, ½): solved at once", "Gauss-Newton's table",
              f"(½, 0) to {solved[0]:.0e}", solved[0] < 1e-15),
        Claim("basic step from (1.4090, 1.4172): at once", "Gauss-Newton's table",
              f"(1.4090, 0) to {solved[1]:.0e}", solved[1] < 1e-15),
        Claim("the defined step -J⁺F does not: (½, ½)", "not as in the table",
              f"(.403846, .019231), ... to {errors[0]:.0e}", errors[0] < 6e-7),
        Claim("the same from (1.4090, 1.4172)", "not as in the table",
              f"(.754071, .438077), ... to {errors[1]:.0e}", errors[1] < 6e-7),
        Claim("-J⁺F converges at least quadratically", "order 2; here 3",
              f"order {order:.2f}", abs(order - 3) < 0.1),
        Claim("its limit is not the closest solution", "not said",
              f"{aside[0]:.3f} and {aside[1]:.3f} aside", min(aside) > 0.05),
        Claim("gn.optimizers.GaussNewton() makes these", "the same method",
              f"difference {np.max(np.abs(theirs - least[0])):.0e}",
              bool(np.max(np.abs(theirs - least[0])) < 1e-12)),
    ]  # fmt: skip


def flow_claims(flows: dict[str, dict[str, Any]]) -> list[Claim]:
    gauss, newton = flows["Gauss-Newton"], flows["Newton"]
    worst = {name: exponential_error(each) for name, each in flows.items()}
    x, y = np.array(gauss["points"])[-1]
    drift = abs(np.log(x) + (x**2 - y**2) / 2 - np.log(0.5))
    end, exact = newton["times"][-1], np.log(2 / np.sqrt(3)) - 2 * np.log(16 / 15)
    return [
        Claim("Gauss-Newton flow: F(x(t)) = e^-t F(x₀)", "for submersions",
              f"to {worst['Gauss-Newton']:.0e}, t to {gauss['times'][-1]:g}",
              worst["Gauss-Newton"] < 1e-9),
        Claim("it keeps ln x₁ + (x₁² - x₂²)/2", "closed form", f"to {drift:.0e}", drift < 1e-9),
        Claim("Newton flow: ∇f(x(t)) = e^-t ∇f(x₀)", "Newton flow",
              f"to {worst['Newton']:.0e}", worst["Newton"] < 1e-9),
        Claim("it ends on a singular Hessian, 3x₁² = 1", f"t = {exact:.6f}, closed form",
              f"t = {end:.6f}", abs(end - exact) < 1e-6),
    ]  # fmt: skip


def optimizer_points(method: type, iterations: int) -> np.ndarray:
    solver = method(verbosity=0, max_iterations=iterations, min_gradient_norm=0)
    found = solver.run(problem(gn.EuclideanMetric()), initial_point=START)
    return np.array(found.log["iterations"]["point"])


def convergence_order(errors: np.ndarray) -> float:
    before, now = (np.log(b / a) for a, b in pairwise(errors))
    return float(now / before)


def exponential_error(found: dict[str, Any]) -> float:
    """Largest error of the law left(t) = e^(-t) left(0), relative to what is left."""
    left, times = np.array(found["left"]), np.array(found["times"])
    scaled = left * np.exp(times)[:, None]
    return float(np.max(np.linalg.norm(scaled - left[0], axis=1)) / np.linalg.norm(left[0]))


# %% [markdown]
# The pictures
# ------------


# %%
def figure(points: dict[str, np.ndarray], flows: dict[str, dict[str, Any]]) -> Figure:
    drawing = Figure(figsize=(12, 9), layout="constrained")
    plane, near, along, left = drawing.subplots(2, 2).ravel()
    draw_plane(plane, (-1.2, 3.3), (-1.15, 0.75))
    draw_plane(near, (0.36, 0.64), (-0.03, 0.54))
    styles = {"Newton": ("o-", COLORS[1]), "minimum norm": ("s-", COLORS[0]),
              "basic": ("^--", COLORS[2])}  # fmt: skip
    for name, (style, color) in styles.items():
        label = "Newton's method" if name == "Newton" else f"Gauss-Newton, {name}"
        plane.plot(*points[name].T, style, color=color, lw=1, ms=5, label=label)
        along.plot(points[name][:, 0], style, color=color, lw=1, ms=5, label=label)
        if name != "Newton":  # whose first step leaves this panel
            near.plot(*points[name].T, style, color=color, lw=1, ms=5, label=label)
    for k, (x, y) in enumerate(points["Newton"][:5]):
        plane.annotate(str(k), (x, y), xytext=(6, 5), textcoords="offset points")
    for name, color in (("Newton", COLORS[1]), ("Gauss-Newton", COLORS[0])):
        near.plot(*np.array(flows[name]["points"]).T, color=color, lw=4, alpha=0.45,
                  label=f"{name} flow")  # fmt: skip
    plane.set_title("Iterates from (½, ½), over level sets of f")
    near.set_title("The same near the start, with the flows")
    along.set(xlabel="iteration", ylabel="x₁", title="Along the solutions Newton never settles")
    draw_decay(left, flows)
    near.legend(loc="center right", fontsize=8)
    for axes in (plane, along, left):
        axes.legend(fontsize=8)
    return drawing


def draw_plane(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    x, y = np.meshgrid(np.linspace(*across, 200), np.linspace(*up, 200))
    value = 0.5 * y**2 * (1 + x**2)
    levels = np.geomspace(1e-4, 8, 14)
    axes.contour(x, y, value, levels=levels, colors="0.75", linewidths=0.7, zorder=0)
    axes.axhline(0, color="black", lw=2, label="solutions, x₂ = 0")
    for side, label in ((1, "∇²f indefinite"), (-1, None)):
        axes.axvspan(side * SINGULAR, side * 10, color=COLORS[4], alpha=0.12, lw=0, label=label)
    axes.set(xlabel="x₁", ylabel="x₂", xlim=across, ylim=up)


def draw_decay(axes: Axes, flows: dict[str, dict[str, Any]]) -> None:
    grid = np.linspace(0, HORIZON)
    axes.semilogy(grid, np.exp(-grid), "k:", lw=2, zorder=3, label="exp(-t)")
    for name, style, color, label in (
        ("Gauss-Newton", "-", COLORS[0], "Gauss-Newton flow: F(x(t))/F(x₀)"),
        ("Newton", "X", COLORS[1], "Newton flow: |∇f(x(t))|/|∇f(x₀)|"),
    ):
        size = np.linalg.norm(flows[name]["left"], axis=1)
        shown = slice(None) if style == "-" else slice(-1, None)
        axes.semilogy(flows[name]["times"][shown], (size / size[0])[shown], style, color=color,
                      lw=5, alpha=0.6, ms=10, label=label)  # fmt: skip
    end = flows["Newton"]["times"][-1]
    axes.annotate(f"the Newton flow ends at t = {end:.4f}\non a singular Hessian", (end, 1.0),
                  (0.6, 0.004), arrowprops={"arrowstyle": "->"})  # fmt: skip
    axes.set(xlabel="time t of the flow", ylabel="fraction left", title="Flows from (½, ½)")


def table(title: str, points: np.ndarray, digits: int) -> None:
    print(f"\n{title}")
    print(f"{'k':>3s} {'x1':>12s} {'x2':>12s} {'f':>10s}")
    for k, point in enumerate(points):
        value = 0.5 * float(model(point)[0]) ** 2
        print(f"{k:3d} {point[0]:12.{digits}f} {point[1]:12.{digits}f} {value:10.1e}")


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Newton against Gauss-Newton", arguments)  # both take seconds
    record = Record(OUTPUT, "boumal_newton_and_gauss_newton", quick)
    rows = [("Newton", START, 12)]
    rows += [(name, x, n) for name, n in (("basic", 2), ("minimum norm", 3))
             for x in (START, SECOND_START)]  # fmt: skip
    names = ("method", "start", "iterations")
    settings = [dict(zip(names, row, strict=True)) for row in rows]
    newton, *rest = map(np.array, record.runs(iterates, settings))
    both = ("Newton", "Gauss-Newton")
    flows = dict(zip(both, record.runs(flow, [{"name": name} for name in both]), strict=True))
    table("Newton's method from (½, ½): x₁ never settles", newton, 4)
    for points, row in zip(rest, rows[1:], strict=True):
        table(f"Gauss-Newton, {row[0]} steps from {row[1]}", points, 6)
    print()
    found = newton_claims(newton) + gauss_newton_claims(rest[:2], rest[2:]) + flow_claims(flows)
    points = {"Newton": newton, "basic": rest[0], "minimum norm": rest[2]}
    record.conclude(found, {"boumal_newton_and_gauss_newton": figure(points, flows)})
    return found


if __name__ == "__main__":
    main()
