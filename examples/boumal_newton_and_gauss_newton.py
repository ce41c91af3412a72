"""Newton and Gauss-Newton on an equation with many solutions
==========================================================

After N. Boumal, *When the Hessian is a proxy for its Gauss-Newton approximation* (2026). One
equation in two unknowns, F(x) = x₂ sqrt(1 + x₁²) = 0, is solved by minimising f = ½F². Its
solutions form a line, x₂ = 0, on which the Hessian of f is singular: Newton's method, exact as
it is, is repelled along the line, while Gauss-Newton, with the "approximate" Hessian, goes
straight there. F was recovered from the essay's printed numbers; what is computed here is compared
with closed forms, the iterates with 50 digits of them.
"""

# %%
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from itertools import pairwise
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
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
    decay_error,
    finish,
    grid,
    iterates,
    listed,
    posed,
    quick_asked,
    span,
)
from gnmanifold.plotting import COLORS

START = np.array([0.5, 0.5])
SECOND_START = np.array([1.4090, 1.4172])
STARTS = (START, SECOND_START)
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
OPTIMIZERS = {
    "Newton": gn.optimizers.Newton,
    "basic": partial(gn.optimizers.GaussNewton, solution="basic"),
    "minimum norm": gn.optimizers.GaussNewton,
}


def steps(method: str, start: np.ndarray, iterations: int) -> Run:
    """Points of the few lines above, of the package's optimizer, and of 50 digits."""
    solver = OPTIMIZERS[method](max_iterations=iterations, **ALL_STEPS)
    return {"method": method, "points": iterate(STEPS[method], np.array(start), iterations),
            "package": iterates(solver, posed(model, loss), np.array(start)),
            "exact": fifty_digits(EXACT[method], start, iterations)}  # fmt: skip


# %% [markdown]
# The same maps in 50 digits, free of the rounding that a repelling map enlarges: Newton's from its
# closed form, the others from F and J.


# %%
def exact_newton(x: Decimal, y: Decimal) -> tuple[Decimal, Decimal]:
    q = 1 - 3 * x**2
    return 2 * x * (1 - x**2) / q, -2 * x**2 * y / q


def exact_minimum_norm(x: Decimal, y: Decimal) -> tuple[Decimal, Decimal]:
    root = (1 + x**2).sqrt()
    F, J = y * root, (x * y / root, root)
    scale = F / (J[0] ** 2 + J[1] ** 2)
    return x - J[0] * scale, y - J[1] * scale


def exact_basic(x: Decimal, y: Decimal) -> tuple[Decimal, Decimal]:
    return x, Decimal(0)


EXACT = {"Newton": exact_newton, "basic": exact_basic, "minimum norm": exact_minimum_norm}


def fifty_digits(step: Callable[..., Any], start: np.ndarray, iterations: int) -> np.ndarray:
    with localcontext() as context:
        context.prec = 50
        points = [tuple(Decimal(float(each)) for each in start)]
        for _ in range(iterations):
            points.append(step(*points[-1]))
        return np.array(points, dtype=float)


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
def flow(name: str) -> Run:
    if name == "Newton":
        problem, damping = posed(model, loss, gn.HessianMetric(loss)), None
    else:  # undamped, with more parameters than outputs: the velocity of least norm
        problem, damping = posed(model, loss, gn.GaussNewtonMetric(0.5)), 0.0
    found = gn.flows.integrate(
        problem, START, HORIZON, method="dop853", rtol=1e-12, damping=damping, eigenvalues=False
    )
    left = [gradient_and_hessian(x)[0] if name == "Newton" else model(x) for x in found.parameters]
    return {"times": found.times, "points": found.parameters, "left": left, "end": found.end}


# %% [markdown]
# The claims
# ----------
#
# The essay's Gauss-Newton rows come from the basic step; what follows its own definition is the
# minimum-norm step, whose limit is neither reached in one step nor the solution closest to the
# start. The optimizers of the package take the same steps as the few lines above. Errors of the
# Gauss-Newton iterates are a few roundings; Newton's map enlarges them from step to step.


# %%
def newton_claims(run: Run) -> list[Claim]:
    newton = np.array(run["points"])
    error, theirs = difference(run, "exact"), difference(run, "package")
    moves = np.abs(np.diff(newton[:, 0]))
    indefinite = np.sum(np.abs(newton[:, 0]) > SINGULAR)
    first = [0.5 * float(model(x)[0]) ** 2 for x in newton[:2]]
    return [
        Claim("Newton: 12 iterates, to four decimals", "50 digits", f"apart {error:.0e}",
              error < 5e-5),
        Claim("Newton: x₁ never settles", "its only fixed point repels, factor 2",
              f"moves by {span(moves, '.2f')}", bool(moves.min() > 0.05)),
        Claim("Newton is no descent: f rises at once", "f = 5 at (3, -1), closed form",
              f"{first[0]:.3f} to {first[1]:.3f}", abs(first[1] - 5) < 1e-9 and first[0] < 1),
        Claim("Newton meets indefinite Hessians", "3x₁² > 1",
              f"{indefinite} of {len(newton)} points", bool(indefinite > 0)),
        Claim("gn.optimizers.Newton() makes these iterates", "the same method",
              f"apart {theirs:.0e}", theirs < 5e-5),
    ]  # fmt: skip


def gauss_newton_claims(basic: list[Run], least: list[Run]) -> list[Claim]:
    worst = max(difference(run, "exact") for run in basic)
    errors = [difference(run, "exact") for run in least]
    moved, aside = (
        [abs(run["points"][k][0] - run["points"][0][0]) for run in least] for k in (1, -1)
    )
    order = convergence_order(np.array(least[0]["points"])[1:4, 1])
    theirs = {name: max(difference(run, "package") for run in runs)
              for name, runs in (("basic", basic), ("minimum norm", least))}  # fmt: skip
    return [
        Claim("one basic step, from both starts: solved, x₁ kept", "F is linear in x₂",
              f"(x₁, 0) to {worst:.0e}", worst < 1e-14),
        Claim("minimum-norm steps -J⁺F, from both starts", "50 digits",
              f"apart {listed(errors, '.0e')}", max(errors) < 1e-13),
        Claim("one of them moves x₁, unlike in the essay's rows", "-J⁺F, its own definition",
              f"by {listed(moved)}", min(moved) > 0.05),
        Claim("they converge at least quadratically", "order 2; here 3",
              f"order {order:.2f}", abs(order - 3) < 0.1),
        Claim("their limit is not the closest solution", "closest: (x₁, 0) of the start",
              f"{listed(aside)} aside", min(aside) > 0.05),
        Claim("gn.optimizers.GaussNewton() makes them", "the same method",
              f"apart {theirs['minimum norm']:.0e}", theirs["minimum norm"] < 1e-12),
        Claim('with solution="basic" it makes the basic ones', "the same method",
              f"apart {theirs['basic']:.0e}", theirs["basic"] < 1e-12),
    ]  # fmt: skip


def flow_claims(flows: dict[str, Run]) -> list[Claim]:
    gauss, newton = flows["Gauss-Newton"], flows["Newton"]
    worst = {name: decay_error(each["left"], each["times"]) for name, each in flows.items()}
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


def difference(run: Run, name: str) -> float:
    return float(np.max(np.abs(np.array(run["points"]) - run[name])))


def convergence_order(errors: np.ndarray) -> float:
    before, now = (np.log(b / a) for a, b in pairwise(errors))
    return float(now / before)


# %% [markdown]
# The pictures
# ------------


# %%
def figure(points: dict[str, np.ndarray], flows: dict[str, Run]) -> Figure:
    drawing = Figure(figsize=(12, 9), layout="constrained")
    plane, close, along, left = drawing.subplots(2, 2).ravel()
    finish(plane, "Iterates from (½, ½), over level sets of f", "x₁", "x₂")
    finish(close, "The same near the start, with the flows", "x₁", "x₂")
    finish(along, "Along the solutions Newton never settles", "iteration", "x₁")
    draw_plane(plane, (-1.2, 3.3), (-1.15, 0.75))
    draw_plane(close, (0.36, 0.64), (-0.03, 0.54))
    styles = {"Newton": ("o-", COLORS[1]), "minimum norm": ("s-", COLORS[0]),
              "basic": ("^--", COLORS[2])}  # fmt: skip
    for name, (style, color) in styles.items():
        label = "Newton's method" if name == "Newton" else f"Gauss-Newton, {name}"
        plane.plot(*points[name].T, style, color=color, lw=1, ms=5, label=label)
        along.plot(points[name][:, 0], style, color=color, lw=1, ms=5, label=label)
        if name != "Newton":  # whose first step leaves this panel
            close.plot(*points[name].T, style, color=color, lw=1, ms=5, label=label)
    for k, (x, y) in enumerate(points["Newton"][:5]):
        plane.annotate(str(k), (x, y), xytext=(6, 5), textcoords="offset points")
    for name, color in (("Newton", COLORS[1]), ("Gauss-Newton", COLORS[0])):
        close.plot(*np.array(flows[name]["points"]).T, color=color, lw=4, alpha=0.45,
                   label=f"{name} flow")  # fmt: skip
    draw_decay(left, flows)
    close.legend(loc="center right", fontsize=8)
    for axes in (plane, along, left):
        axes.legend(loc="upper right", fontsize=8)
    return drawing


def draw_plane(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    x, y = np.meshgrid(np.linspace(*across, 200), np.linspace(*up, 200))
    value = 0.5 * y**2 * (1 + x**2)
    levels = np.geomspace(1e-4, 8, 14)
    axes.contour(x, y, value, levels=levels, colors="0.75", linewidths=0.7, zorder=0)
    axes.axhline(0, color="black", lw=2, label="solutions, x₂ = 0")
    for side, label in ((1, "∇²f indefinite"), (-1, None)):
        axes.axvspan(side * SINGULAR, side * 10, color=COLORS[4], alpha=0.12, lw=0, label=label)
    axes.set(xlim=across, ylim=up)


def draw_decay(axes: Axes, flows: dict[str, Run]) -> None:
    """What the flows leave, and in an inset the short time that Newton's lives."""
    finish(axes, "Flows from (½, ½)", "time t of the flow", "fraction left", yscale="log")
    inset = axes.inset_axes((0.1, 0.1, 0.34, 0.3))
    end = flows["Newton"]["times"][-1]
    for panel, horizon in ((axes, HORIZON), (inset, 1.2 * end)):
        times = np.linspace(0, horizon)
        panel.plot(times, np.exp(-times), "k:", lw=2, zorder=3, label="exp(-t)")
    for panel, name, color, label in (
        (axes, "Gauss-Newton", COLORS[0], "Gauss-Newton flow: |F(x(t))|/|F(x₀)|"),
        (inset, "Newton", COLORS[1], "Newton flow: |∇f(x(t))|/|∇f(x₀)|"),
    ):
        size = np.linalg.norm(flows[name]["left"], axis=1)
        panel.plot(flows[name]["times"], size / size[0], color=color, lw=5, alpha=0.6)
        axes.plot([], [], color=color, lw=5, alpha=0.6, label=label)  # the inset has no legend
    inset.plot(end, np.exp(-end), "X", color=COLORS[1], ms=10)
    inset.set_title(f"Newton flow: to t = {end:.4f},\nwhere ∇²f is singular", fontsize=8)
    inset.tick_params(labelsize=7)


def print_points(title: str, points: np.ndarray, digits: int) -> None:
    print(f"\n{title}")
    print(f"{'k':>3s} {'x1':>12s} {'x2':>12s} {'f':>10s}")
    for k, point in enumerate(points):
        value = 0.5 * float(model(point)[0]) ** 2
        print(f"{k:3d} {point[0]:12.{digits}f} {point[1]:12.{digits}f} {value:10.1e}")


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Newton against Gauss-Newton", arguments)  # both take seconds
    record = Record(OUTPUT, "boumal_newton_and_gauss_newton", quick)
    rows = (("Newton", (START,), 12), ("basic", STARTS, 1), ("minimum norm", STARTS, 3))
    settings = [
        {"method": method, "start": start, "iterations": iterations}
        for method, starts, iterations in rows
        for start in starts
    ]
    newton, *rest = record.runs(steps, settings)
    both = ("Newton", "Gauss-Newton")
    flows = dict(zip(both, record.runs(flow, grid(name=both)), strict=True))
    points = [np.array(run["points"]) for run in (newton, *rest)]
    print_points("Newton's method from (½, ½): x₁ never settles", points[0], 4)
    for run, each in zip(rest, points[1:], strict=True):
        print_points(f"Gauss-Newton, {run['method']} steps from {each[0]}", each, 6)
    print()
    found = newton_claims(newton) + gauss_newton_claims(rest[:2], rest[2:]) + flow_claims(flows)
    shown = {"Newton": points[0], "basic": points[1], "minimum norm": points[3]}
    record.conclude(found, {"boumal_newton_and_gauss_newton": figure(shown, flows)})
    return found


if __name__ == "__main__":
    main()
