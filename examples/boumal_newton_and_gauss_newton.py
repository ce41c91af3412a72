"""Newton and Gauss-Newton on an equation with many solutions
==========================================================

After N. Boumal, *When the Hessian is a proxy for its Gauss-Newton approximation* (2026). One
equation in two unknowns, F(x) = x₂ sqrt(1 + x₁²) = 0, is solved by minimising f = ½F². Its
solutions form a line, x₂ = 0, on which the Hessian of f is singular: Newton's method, exact as
it is, is repelled along the line, while Gauss-Newton, with the "approximate" Hessian, goes
straight there. F is recovered from the essay's printed numbers, which it reproduces.
"""

# %%
from collections.abc import Callable

import autograd.numpy as anp
import numpy as np
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.plotting import COLORS, save_figure

START = np.array([0.5, 0.5])
SECOND_START = np.array([1.4090, 1.4172])

# %%
model = gn.AutogradModel(
    lambda x: anp.array([x[1] * anp.sqrt(1 + x[0] ** 2)]), num_parameters=2, num_outputs=1
)


# %% [markdown]
# Three steps
# -----------
#
# A wide linear system has many solutions. `pinv` gives the Gauss-Newton step of the essay's
# definition, the one of minimum norm; the essay's table was printed from *basic* solutions, with
# as many nonzero entries as equations, which is what MATLAB's backslash returns.


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


# %% [markdown]
# Two flows
# ---------
#
# The Newton flow x' = -∇²f⁻¹∇f has ∇f(x(t)) = e^(-t) ∇f(x₀) and lives only as long as the Hessian
# is regular; it fails where 3x₁² = 1. The Gauss-Newton flow x' = -J⁺F has F(x(t)) = e^(-t) F(x₀):
# in the output space a straight line to the solution, at a rate that no conditioning can change.


# %%
def flow(
    step: Callable[[np.ndarray], np.ndarray], x: np.ndarray, horizon: float
) -> tuple[np.ndarray, np.ndarray]:
    def singular(_: float, point: np.ndarray) -> float:
        return float(np.linalg.det(gradient_and_hessian(point)[1])) / point[1] ** 2

    singular.terminal = step is newton_step
    path = solve_ivp(
        lambda _, point: step(point),
        (0.0, horizon),
        x,
        method="DOP853",
        rtol=1e-11,
        atol=1e-13,
        events=singular,
    )
    return path.t, path.y.T


# %%
def table(title: str, points: np.ndarray, digits: int) -> None:
    print(f"\n{title}")
    print(f"{'k':>3s} {'x1':>12s} {'x2':>12s} {'f':>10s}")
    for k, point in enumerate(points):
        value = 0.5 * float(model(point)[0]) ** 2
        print(f"{k:3d} {point[0]:12.{digits}f} {point[1]:12.{digits}f} {value:10.1e}")


def figure(newton: np.ndarray, gauss: np.ndarray) -> Figure:
    drawing = Figure(figsize=(14, 4.6), layout="constrained")
    left, middle, right = drawing.subplots(1, 3)
    for points, color, name in (
        (newton, COLORS[1], "Newton's method"),
        (gauss, COLORS[0], "Gauss-Newton, minimum norm"),
    ):
        left.plot(*points.T, "o-", color=color, lw=0.8, ms=4, label=name)
        middle.plot(points[:, 0], "o-", color=color, lw=0.8, ms=4, label=name)
    for k, (x, y) in enumerate(newton[:5]):
        left.annotate(str(k), (x, y), xytext=(5, 5), textcoords="offset points")
    left.axhline(0, color="black", lw=1)
    left.annotate("solutions x₂ = 0", (2.0, 0.03))
    left.set(xlabel="x₁", ylabel="x₂", title="Iterates from (½, ½)")
    left.legend()
    middle.set(xlabel="iteration", ylabel="x₁", title="Along the solutions, Newton never settles")
    middle.legend()
    for name, step, color in (
        ("Newton flow: |∇f(x(t))| / |∇f(x₀)|", newton_step, COLORS[1]),
        ("Gauss-Newton flow: F(x(t)) / F(x₀)", minimum_norm_step, COLORS[0]),
    ):
        times, path = flow(step, START, 8.0)
        measure = _gradient_norm if step is newton_step else lambda x: float(model(x)[0])
        values = np.array([measure(point) for point in path])
        ends = step is newton_step
        style = "X" if ends else "-"
        right.semilogy(times, values / values[0], style, color=color, lw=2.5, ms=10, label=name)
        if ends:
            note = f"the Newton flow ends at t = {times[-1]:.3f}\non a singular Hessian"
            right.annotate(note, (times[-1], 1.0), (1.2, 0.55), arrowprops={"arrowstyle": "->"})
    grid = np.linspace(0, 8)
    right.semilogy(grid, np.exp(-grid), "k:", label="exp(-t)")
    right.set(xlabel="time t", ylabel="fraction left", title="Flows from (½, ½)")
    right.legend(loc="lower left")
    return drawing


def _gradient_norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(gradient_and_hessian(x)[0]))


# %%
def main(arguments: list[str] | None = None) -> dict[str, np.ndarray]:
    quick_asked("Newton against Gauss-Newton", arguments)  # the same: this takes seconds
    print("Minimise f = ½F² with F(x) = x₂ sqrt(1 + x₁²), after N. Boumal's essay (2026)")
    newton = iterate(newton_step, START, 12)
    results = {
        "newton": newton,
        "basic": iterate(basic_step, START, 2),
        "minimum_norm": iterate(minimum_norm_step, START, 3),
        "second": iterate(minimum_norm_step, SECOND_START, 3),
    }
    table("Newton's method from (½, ½): f falls, x₁ never settles", newton, 4)
    table("Gauss-Newton, basic steps, as printed in the essay", results["basic"], 4)
    table("Gauss-Newton, minimum-norm steps -J⁺F", results["minimum_norm"], 6)
    table("Gauss-Newton, minimum-norm steps, second start", results["second"], 6)
    print(
        "\nThe basic step moves one coordinate and hits the line at once because F is linear in x₂;"
        "\nthe minimum-norm step, which is the pseudo-inverse's, converges quadratically instead."
    )
    times, path = flow(minimum_norm_step, START, 8.0)
    ratio = np.array([model(point)[0] for point in path]) / model(START)[0]
    print(f"Gauss-Newton flow: largest |F(x(t)) e^t / F(x₀) - 1| = {_worst(ratio, times):.1e}")
    times, path = flow(newton_step, START, 8.0)
    ratio = np.array([_gradient_norm(point) for point in path]) / _gradient_norm(START)
    print(
        f"Newton flow: largest ||∇f(x(t))| e^t / |∇f(x₀)| - 1| = {_worst(ratio, times):.1e}, "
        f"ended at t = {times[-1]:.3f}"
    )
    drawing = figure(newton, results["minimum_norm"])
    print(f"figure: {save_figure(drawing, OUTPUT / 'boumal.png')}")
    return results


def _worst(ratio: np.ndarray, times: np.ndarray) -> float:
    return float(np.max(np.abs(ratio * np.exp(times) - 1)))


if __name__ == "__main__":
    main()
