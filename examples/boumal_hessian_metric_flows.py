"""Two metrics of a strongly convex function, and their flows
==========================================================

After N. Boumal, *When the Hessian is a proxy for its Gauss-Newton approximation* (2026). A strongly
convex f gives the parameters two metrics: its Hessian, whose gradient flow is Newton's, and, where
f = f* + ½‖φ‖² with a diffeomorphism φ, the pullback DφᵀDφ, whose gradient flow is Gauss-Newton's.
The first makes gradients decay along a straight line, the second φ; in the second f is a quadratic
of condition number one on a flat space, and one step along a geodesic minimises it.
"""

# %%
import os

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
    decay_error,
    finish,
    grid,
    posed,
    quick_asked,
)
from gnmanifold.optimizers.stopping import CostBelow
from gnmanifold.plotting import COLORS

M = np.array([[2.0, 2.0], [-0.25, 0.4]])
START = np.linalg.solve(M, [2.5, 0.5])
HORIZONS = {"Newton": 8.0, "pullback": 8.0, "gradient": 25.0}
SOLVED = 1e-12  # |φ| at which a run ends
loss = gn.SquaredError(np.zeros(2))

# %% [markdown]
# The function
# ------------
#
# f(x) = ½ Σ (u² + u⁴) over the two entries of u = Mx is strongly convex, with ∇²f(0) = MᵀM, whose
# condition number is in the table, and f = ½‖φ‖² with φ = u sqrt(1 + u²), entry by entry, an
# increasing function of every entry of u onto the real line. A constant f* would change nothing.
# The same model thus serves both metrics: φ with the squared error.


# %%
def phi(x: np.ndarray) -> np.ndarray:
    u = M @ x
    return u * np.sqrt(1 + u**2)


def jacobian(x: np.ndarray) -> np.ndarray:
    u = M @ x
    return ((1 + 2 * u**2) / np.sqrt(1 + u**2))[:, None] * M


def second_derivative(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    u = M @ x
    return u * (3 + 2 * u**2) / (1 + u**2) ** 1.5 * (M @ a) * (M @ b)


model = gn.CallableModel(phi, 2, jacobian=jacobian, second_derivative=second_derivative)


def problem(metric: str, retraction: str = "first_order") -> gn.CompositeProblem:
    kinds = {"Newton": gn.HessianMetric(loss), "pullback": gn.GaussNewtonMetric(),
             "gradient": gn.EuclideanMetric()}  # fmt: skip
    return posed(model, loss, kinds[metric], retraction=retraction)


# %% [markdown]
# The flows
# ---------
#
# x' = -G⁻¹∇f with G the Hessian gives ∇f(x(t)) = e^(-t) ∇f(x₀), with G = DφᵀDφ it gives
# φ(x(t)) = e^(-t) φ(x₀), and so f - f* falls like e^(-2t) exactly, from the first moment, whatever
# the condition number. With G = I the slowest direction sets the pace, λ_min(∇²f) in the end.


# %%
def follow(metric: str) -> Run:
    found = gn.flows.integrate(
        problem(metric), START, HORIZONS[metric], method="dop853", rtol=1e-12
    )
    ratios = gn.diagnostics.polyak_lojasiewicz_along(found, minimum=0.0).ratios
    gradients = [(1 + 2 * (M @ x) ** 2) * (M @ x) for x in found.parameters]  # in u
    return {"times": found.times, "points": found.parameters, "costs": found.costs,
            "phi": found.outputs, "gradients": gradients, "ratios": ratios}  # fmt: skip


# %% [markdown]
# Geometry of the pullback
# ------------------------
#
# φ is an isometry onto the plane: no curvature, geodesics that φ makes straight, distances
# ‖φ(a) - φ(b)‖, and the Riemannian Hessian of f is the metric itself, at every point.


# %%
def geometry(seed: int) -> Run:
    rng = np.random.default_rng(seed)
    a, b = np.linalg.solve(M, 2 * rng.standard_normal((2, 2))).T
    manifold = problem("pullback").manifold
    chord = phi(b) - phi(a)
    geodesic = manifold.geodesic(a, np.linalg.solve(jacobian(a), chord))
    bend = [phi(geodesic(t)) - phi(a) - t * chord for t in (0.25, 0.5, 0.75, 1.0)]
    return {"eigenvalues": manifold.riemannian_hessian_eigenvalues(a, loss),
            "euclidean": np.linalg.cond(problem("Newton").manifold.at(a).matrix),
            "curvature": manifold.sectional_curvature(a, [1.0, 0.0], [0.0, 1.0]),
            "bend": np.max(np.abs(bend)) / np.linalg.norm(chord),
            "distance": abs(manifold.dist(a, b) / np.linalg.norm(chord) - 1)}  # fmt: skip


# %% [markdown]
# Steps
# -----
#
# A unit step along the geodesic ends at the minimum. A unit step along the straight line of
# parameters is Newton's or Gauss-Newton's. Where f is a quartic, far out, these multiply u by 2/3
# and by 1/2; near the minimum both converge cubically, since φ is odd.


# %%
def steps(seed: int) -> Run:
    start = np.linalg.solve(M, 4 * np.random.default_rng(seed).standard_normal(2))
    limits, stop = {"verbosity": 0, "min_gradient_norm": 0}, CostBelow(SOLVED**2 / 2)
    solvers = {"Newton": gn.optimizers.Newton, "pullback": gn.optimizers.GaussNewton}
    counts = {name: solver(stop=stop, **limits).run(problem("gradient"), initial_point=start)
              .iterations for name, solver in solvers.items()}  # fmt: skip
    once = gn.optimizers.GaussNewton(max_iterations=1, **limits)
    end = once.run(problem("pullback", "exponential"), initial_point=start).point
    return {**counts, "geodesic": np.linalg.norm(phi(end)) / np.linalg.norm(phi(start))}


# %%
def claims(flows: dict[str, Run], shapes: Runs, counts: Runs) -> list[Claim]:
    newton = decay_error(flows["Newton"]["gradients"], flows["Newton"]["times"])
    pullback = decay_error(flows["pullback"]["phi"], flows["pullback"]["times"])
    gap = np.max(np.abs(np.array(flows["pullback"]["ratios"]) - 1))
    slowest, last = float(np.linalg.eigvalsh(M.T @ M)[0]), flows["gradient"]["ratios"][-1]
    unit = max(np.max(np.abs(np.array(each["eigenvalues"]) - 1)) for each in shapes)
    worst = {key: max(abs(each[key]) for each in shapes) for key in shapes[0] if key[0] != "e"}
    bent, least = max(each["euclidean"] for each in shapes), np.linalg.cond(M.T @ M)
    taken = {name: [each[name] for each in counts] for name in counts[0]}
    fewer = sum(each["pullback"] < each["Newton"] for each in counts)
    return [
        Claim("Hessian metric: ∇f(x(t)) = e^-t ∇f(x₀)", "Newton flow",
              f"to {newton:.0e}", newton < 1e-9),
        Claim("pullback: φ(x(t)) = e^-t φ(x₀)", "Gauss-Newton flow",
              f"to {pullback:.0e}", pullback < 1e-9),
        Claim("pullback: |grad f|² = 2(f - f*)", "PL with constant 1",
              f"to {gap:.0e}", bool(gap < 1e-9)),
        Claim("pullback: Hess f is the metric", "condition number 1",
              f"to {unit:.0e}; of ∇²f {least:.2f} at the minimum, up to {bent:.0f} elsewhere",
              bool(unit < 1e-9)),
        Claim("pullback: flat", "curvature 0", f"{worst['curvature']:.0e}",
              worst["curvature"] < 1e-9),
        Claim("pullback: φ makes geodesics straight", "straight lines",
              f"to {worst['bend']:.0e}", worst["bend"] < 1e-8),
        Claim("pullback: distance |φ(a) - φ(b)|", "isometry",
              f"to {worst['distance']:.0e}", worst["distance"] < 1e-8),
        Claim("one step along a geodesic minimises f", "isometry",
              f"|φ| left {max(taken['geodesic']):.0e}", max(taken["geodesic"]) < 1e-8),
        Claim("fewer Gauss-Newton steps to |φ| <= 1e-12", "cubic both, 1/2 against 2/3 far out",
              f"median {np.median(taken['pullback']):g} against {np.median(taken['Newton']):g}",
              fewer > len(counts) / 2),
        Claim("gradient flow: f ends with rate 2λ_min", f"λ_min(MᵀM) = {slowest:.4f}",
              f"half the rate {last:.4f}", abs(last / slowest - 1) < 0.01),
    ]  # fmt: skip


# %%
def figure(flows: dict[str, Run]) -> Figure:
    drawing = Figure(figsize=(12, 9), layout="constrained")
    plane, straight, gradients, costs = drawing.subplots(2, 2).ravel()
    names = {"Newton": "Hessian metric", "pullback": "pullback metric", "gradient": "gradient flow"}
    for (metric, label), color in zip(names.items(), (COLORS[1], *COLORS[::2]), strict=False):
        style = {"color": color, "lw": 2, "label": label}
        for axes, key in ((plane, "points"), (straight, "phi"), (gradients, "gradients")):
            axes.plot(*np.array(flows[metric][key]).T, **style)
        left = np.array(flows[metric]["costs"])
        costs.semilogy(flows[metric]["times"], left / left[0], **style)
    times = np.linspace(0, HORIZONS["Newton"])
    costs.semilogy(times, np.exp(-2 * times), "k:", lw=2, label="exp(-2t)")
    draw_levels(plane)
    finish(plane, "Paths over level sets of f", "x₁", "x₂")
    finish(straight, "The same in φ: the pullback flow is straight", "φ₁", "φ₂")
    finish(gradients, "In ∇f: the Newton flow is straight", "∂f/∂u₁", "∂f/∂u₂")
    finish(costs, "What is left of f", "time t of the flow", "(f - f*) / (f(x₀) - f*)",
           xlim=(0, HORIZONS["Newton"]), ylim=(1e-7, 2))  # fmt: skip
    for axes in (plane, straight, gradients, costs):
        axes.legend(fontsize=9)
    return drawing


def draw_levels(axes: Axes) -> None:
    x, y = np.meshgrid(np.linspace(-0.7, 0.7, 200), np.linspace(-1, 1.6, 200))
    value = 0.5 * np.sum(phi(np.array([x.ravel(), y.ravel()])) ** 2, axis=0).reshape(x.shape)
    axes.contour(x, y, value, levels=np.geomspace(1e-2, 50, 14), colors="0.5", linewidths=0.7,
                 alpha=0.4, zorder=0)  # fmt: skip
    axes.plot(*START, "ko", ms=5, ls="none", label="start")
    axes.plot(0, 0, "k*", ms=10, ls="none", label="minimum")


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("The Hessian as a metric, and the pullback metric", arguments)
    record = Record(OUTPUT, "boumal_hessian_metric_flows", quick)
    seeds = grid(seed=range(2 if quick else 10))
    runs = record.runs(follow, grid(metric=HORIZONS))
    flows = dict(zip(HORIZONS, runs, strict=True))
    found = claims(flows, record.runs(geometry, seeds), record.runs(steps, seeds))
    record.conclude(found, {"boumal_hessian_metric_flows": figure(flows)})
    return found


if __name__ == "__main__":
    main()
