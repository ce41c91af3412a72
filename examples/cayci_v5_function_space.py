"""Gauss-Newton flow in function space
===================================

Figure 1 of arXiv 2412.14031v5: one tanh neuron with two weights on three inputs, so that f(B) is a
surface in R³. Gauss-Newton flow of the weights is there the Riemannian gradient flow of the loss,
whatever the coordinates; gradient flow of the weights is no such thing. A reader finds both curves
on the surface, the geodesic between their ends, the normal residual at the limit, and the ball on
which Lemma 17 certifies that the surface does not meet itself.
"""

# %%
import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import gnmanifold as gn
from common import OUTPUT, Claim, Record, Run, Runs, finish, posed, quick_asked
from gnmanifold.plotting import COLORS

ALPHA, HORIZON = 12.0, 60.0
ANGLES = np.radians([15.0, 105.0, 230.0])  # of the three inputs, rows of length one
TARGET = np.array([16.5, -2.3, -2.8])
TURN = np.array([[1.0, 0.9], [0.0, 0.4]])  # other coordinates v of the weights: w - w0 = TURN v


# %% [markdown]
# The surface
# -----------
#
# The neuron is centred, so that w0 is the origin of R³, and scaled by α = 12. The same surface in
# other coordinates is the composition with a linear map of the weights. Inputs, target and α are
# chosen here: the fifth version was available to us without its formulas.


# %%
def neuron(alpha: float = ALPHA) -> gn.Model:
    X = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
    return gn.Scaled(gn.FeedforwardNetwork(X, 1, c_sigma=1.0, rng=2), alpha)


def turned(model: gn.Model) -> gn.Model:
    start = model.initial_parameters
    return gn.Composed(model, gn.AutogradModel(lambda v: start + anp.dot(TURN, v), 2))


# %% [markdown]
# The two flows
# -------------
#
# With the metric JᵀJ the velocity in R³ is ψ' = -P(ψ - y), P the projection on the tangent plane,
# (GF-Ou) of the paper: only the surface enters. Gradient flow is (6) with ρ = 1, in the metric α²I
# of the weights: its velocity -JJᵀ(ψ - y)/α² depends on the coordinates.


# %%
def flow(model: gn.Model, start: Any, rho: float, times: np.ndarray) -> tuple[Any, np.ndarray]:
    """The flow with damping ρ, and the points of R³ that it passes at the times."""
    problem = posed(model, gn.SquaredError(TARGET), gn.GaussNewtonMetric(rho))
    found = gn.flows.integrate(problem, start, times[-1], method="dop853", rtol=1e-10)
    return found, np.array([model(found.at(t)) for t in times])


def length(points: np.ndarray) -> float:
    return float(np.sum(np.linalg.norm(np.diff(points, axis=0), axis=1)))


def velocity_error(found: Any, times: np.ndarray) -> float:
    """Largest |ψ' + P(ψ - y)| over |P(ψ - y)| at some times, ψ' by central differences."""
    surface, h, errors = gn.OutputManifold(neuron()), 1e-4, []
    for t in times:
        before, here, after = (surface.point(found.at(t + k * h)) for k in (-1, 0, 1))
        rate = (np.asarray(after) - np.asarray(before)) / (2 * h)
        expected = -surface.projection(here, np.asarray(here) - TARGET)
        errors.append(np.linalg.norm(rate - expected) / np.linalg.norm(expected))
    return float(max(errors))


def flows(records: int) -> Run:
    """Both flows in both coordinates, the geodesic, and what is claimed about them."""
    model, times = neuron(), np.concatenate([[0], np.geomspace(1e-3, HORIZON, records)])
    surface, start = gn.OutputManifold(model), model.initial_parameters
    pairs = [
        (flow(model, start, rho, times), flow(turned(model), np.zeros(2), rho, times))
        for rho in (0.0, 1.0)
    ]
    (newton, psi), (gradient, euclidean) = (own for own, _ in pairs)
    apart = [np.max(np.linalg.norm(own[1] - other[1], axis=1)) for own, other in pairs]
    first, last = surface.point(start), surface.point(newton.at(HORIZON))
    residual = np.asarray(last) - TARGET
    geodesic = surface.geodesic_between(first, last)
    return {
        "newton": [newton.at(t) for t in times],
        "gradient": [gradient.at(t) for t in times],
        "geodesic": [geodesic.parameters(t) for t in np.linspace(0, 1, 61)],
        "velocity_error": velocity_error(newton, np.linspace(0.1, 3, 12)),
        "apart": apart,
        "tangential": np.linalg.norm(surface.projection(last, residual)) / np.linalg.norm(residual),
        "residual": np.linalg.norm(residual),
        "gradient_distance": surface.dist(first, surface.point(gradient.at(HORIZON))),
        "chord": np.linalg.norm(np.asarray(last) - np.asarray(first)),
        "distance": surface.dist(first, last),
        "lengths": [length(psi), length(euclidean)],
    }


# %% [markdown]
# The certified ball
# ------------------
#
# On the ball B of radius 2rλ0/L around w0 Lemma 17 has ‖f(w) - f(w')‖ ≥ 2(1-r)λ0 ‖w - w'‖: f is
# injective there and f(B) does not meet itself. The bound is sampled for the r of (20), and for
# r = ½, on the boundary too. The flow of Gauss-Newton leaves both balls: at α = 12 Theorem 25 says
# nothing.


# %%
def ball(r: float | None, pairs: int) -> Run:
    """Radius of B, and the least ratio of the two sides over pairs drawn from it."""
    model = neuron(1.0)
    start, rng = model.initial_parameters, np.random.default_rng(0)
    lambda0, lambda_n = gn.theory.start_constants(model, start)
    lipschitz = gn.theory.jacobian_lipschitz(model).value
    if r is None:
        r = gn.theory.ball_ratio(1.0, 1.0, lambda0, 2 * lambda_n + lambda0)
    radius = gn.theory.ball_radius(r, lambda0, lipschitz)
    directions = rng.standard_normal((2 * pairs, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii = radius * np.where(rng.random(2 * pairs) < 0.5, 1.0, np.sqrt(rng.random(2 * pairs)))
    w = start + radii[:, None] * directions
    f = np.array([model(each) for each in w])
    apart = np.linalg.norm(f[:pairs] - f[pairs:], axis=1)
    bound = 2 * (1 - r) * lambda0 * np.linalg.norm(w[:pairs] - w[pairs:], axis=1)
    return {"r": r, "radius": radius, "least": np.min(apart / bound)}


# %% [markdown]
# What α does
# -----------
#
# It scales the surface: same geodesics of weights, same α² times the curvature.


# %%
def scaled(alpha: float) -> Run:
    manifold = gn.ParameterManifold(neuron(alpha))
    start = neuron().initial_parameters
    K = manifold.sectional_curvature(start, [1.0, 0.0], [0.0, 1.0])
    return {"curvature": alpha**2 * K, "end": manifold.exp(start, [0.6, 0.3])}


# %%
def claims(found: Run, balls: Runs, sizes: Runs) -> list[Claim]:
    newton, gradient = found["lengths"]
    chord, distance = found["chord"], found["distance"]
    farthest = np.max(np.linalg.norm(np.subtract(found["newton"], found["newton"][0]), axis=1))
    outside = [float(farthest / each["radius"]) for each in balls]
    curvature = np.array([each["curvature"] for each in sizes])
    ends = np.array([each["end"] for each in sizes])
    moved, spread = float(np.max(np.ptp(ends, axis=0))), float(np.ptp(curvature / curvature[0]))
    return [
        Claim("Gauss-Newton flow is ψ' = -P∇g", "(GF-Ou)",
              f"{found['velocity_error']:.0e} relative", found["velocity_error"] < 1e-5),
        Claim("Gauss-Newton flow in other coordinates: the same curve", "Proposition 20",
              f"{found['apart'][0]:.0e} apart", found["apart"][0] < 1e-6),
        Claim("gradient flow in other coordinates: another curve", "not Riemannian",
              f"{found['apart'][1]:.1f} apart", found["apart"][1] > 0.1),
        Claim("the residual at the limit is normal to f(B)", "P(ψ - y) = 0",
              f"{found['tangential']:.0e} of |ψ - y| = {found['residual']:.2f}",
              found["tangential"] < 1e-6),
        Claim("chord < distance < length of Gauss-Newton's path", "geodesics are shortest",
              f"{chord:.3f} < {distance:.3f} < {newton:.3f}", chord < distance < newton),
        Claim("distance < length of gradient flow's path, to its own end", "geodesics are shortest",
              f"{found['gradient_distance']:.3f} < {gradient:.3f}",
              found["gradient_distance"] < gradient),
        *(Claim(f"f is injective on B, {name}", "Lemma 17: ratio >= 1",
                f"r = {each['r']:.3f}, R_B = {each['radius']:.3f}: {each['least']:.2f} or more",
                each["least"] >= 1)
          for name, each in zip(("r of (20)", "r = ½"), balls, strict=True)),
        Claim("Gauss-Newton flow leaves B, at α = 12", "Theorem 25 needs larger α",
              "as far as {:.1f} and {:.1f} R_B".format(*outside), min(outside) > 1),
        Claim("α only scales f(B): geodesics, α²K", "same for all α",
              f"{moved:.0e} apart, {spread:.0e} relative", moved < 1e-8 and spread < 1e-8),
    ]  # fmt: skip


# %% [markdown]
# The figure
# ----------


# %%
def figure(found: Run, radius: float, lines: int) -> Figure:
    model = neuron()
    start, limit = model.initial_parameters, np.array(found["newton"][-1])
    drawing = Figure(figsize=(12.5, 5.6), layout="constrained")
    space = drawing.add_subplot(1, 2, 1, projection="3d")
    plane = drawing.add_subplot(1, 2, 2)
    low, high = np.minimum(start, limit) - 0.5, np.maximum(start, limit) + 0.5
    mesh = np.meshgrid(*np.linspace(low, high, lines).T, indexing="ij")
    psi = np.apply_along_axis(model, -1, np.stack(mesh, axis=-1))
    space.computed_zorder = False  # the curves lie on the surface: draw them over it
    space.plot_surface(*np.moveaxis(psi, -1, 0), color="0.8", alpha=0.6, lw=0, zorder=1)
    space.plot_wireframe(*np.moveaxis(psi, -1, 0), color="0.6", lw=0.4, rcount=15, ccount=15)
    cost = 0.5 * np.sum((psi - TARGET) ** 2, axis=-1)
    plane.contour(*mesh, cost, levels=24, colors="0.8", linewidths=0.8)
    curves = {
        "Gauss-Newton flow": {"color": COLORS[1], "lw": 2.4},
        "gradient flow": {"color": COLORS[0], "lw": 2.4, "ls": "--"},
        "geodesic": {"color": "black", "lw": 1.6, "ls": "-."},
    }
    for (name, style), key in zip(curves.items(), ("newton", "gradient", "geodesic"), strict=True):
        path = np.array(found[key])
        space.plot(*np.array([model(w) for w in path]).T, zorder=5, **style)
        plane.plot(*path.T, label=name, **style)
    space.plot(
        *np.array([model(limit), TARGET]).T, ":", color=COLORS[2], lw=2, label="residual", zorder=5
    )
    space.scatter(*TARGET, color=COLORS[2], marker="*", s=110, label="target y", zorder=6)
    for mark, w in (("o", start), ("D", limit)):
        space.scatter(*model(w), color="black", marker=mark, s=28, zorder=7)
        plane.plot(*w, mark, color="black", ms=5, label="start" if mark == "o" else "limit")
    plane.add_patch(Circle(start, radius, fill=False, color=COLORS[3], label="B for r = ½"))
    finish(plane, "The plane of the weights", "w₁", "w₂", aspect="equal")
    space.set(xlabel="ψ₁", ylabel="ψ₂", zlabel="ψ₃", title="f(B) in R³, α = 12")
    space.view_init(elev=45, azim=-75)
    space.set_box_aspect(None, zoom=0.95)
    space.locator_params(nbins=5)
    drawing.legend(loc="outside lower center", ncols=8, fontsize=9)
    return drawing


def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("Figure 1 of Cayci's fifth version", arguments)
    record = Record(OUTPUT, "cayci_v5_function_space", quick)
    found = record.runs(flows, [{"records": 200 if quick else 1000}])[0]
    pairs = 500 if quick else 20_000
    balls = record.runs(ball, [{"r": r, "pairs": pairs} for r in (None, 0.5)])
    sizes = record.runs(scaled, [{"alpha": alpha} for alpha in (1.0, 12.0, 144.0)])
    checked = claims(found, balls, sizes)
    drawing = figure(found, balls[1]["radius"], 31 if quick else 61)
    record.conclude(checked, {"cayci_v5_function_space": drawing})
    return checked


if __name__ == "__main__":
    main()
