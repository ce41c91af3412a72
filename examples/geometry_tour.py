"""The prediction surface of one neuron
====================================

A single tanh neuron with two weights is evaluated on three inputs. Its three predictions are a
point of R³, and as the weights vary they sweep out a surface f(B): the picture of Figure 1 of
S. Cayci (arXiv 2412.14031v5). Here it is drawn with what lives on it: geodesics beside the
retractions that optimizers use in their place, the Gauss-Newton flow beside the gradient flow,
its curvature, and what the scaling factor α does to all of that.
"""

# %%
import os
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from tqdm import tqdm

import gnmanifold as gn
from common import OUTPUT, Claim, quick_asked, table
from gnmanifold.plotting import COLORS, save_figure

X = np.array([[1.0, 0.3], [-0.4, 1.0], [0.8, -0.9]])
START = np.array([-0.8, -0.6])
TARGET = np.array([-0.8, -0.3, -0.25])
REGION = 1.7  # the weights that are drawn: |w_i| <= REGION
DIRECTIONS = ((1.0, 0.1), (0.75, 0.75), (0.1, 1.0))
ALPHAS = (0.25, 1.0, 4.0, 16.0)


# %% [markdown]
# The model and its two manifolds
# -------------------------------
#
# `OutputManifold` is the surface itself, with tangent vectors in R³; `ParameterManifold` is the
# plane of the weights with the Gauss-Newton metric JᵀJ. They are isometric.


# %%
def neuron(alpha: float = 1.0) -> gn.Model:
    net = gn.FeedforwardNetwork(X, widths=1, normalization="none", centered=False, rng=1)
    return gn.Scaled(net, alpha)


# %% [markdown]
# Geodesics and retractions
# -------------------------
#
# A geodesic's acceleration is normal to the surface. The first-order retraction w + t a is a
# straight line of weights; the second-order one, w + t a - t²/2 Γ(a, a), follows the geodesic one
# order longer at the price of one second derivative.


# %%
def curves(model: gn.Model, times: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Parameters along the geodesic and the two retractions, for each direction."""
    found = []
    retractions = {
        name: gn.ParameterManifold(model, retraction=name)
        for name in ("first_order", "second_order")
    }
    for direction in DIRECTIONS:
        a = np.array(direction)
        geodesic = gn.ParameterManifold(model).geodesic(START, a)
        paths = {"geodesic": np.array([geodesic(t) for t in times])}
        for name, manifold in retractions.items():
            paths[name] = np.array([manifold.retraction(START, t * a) for t in times])
        found.append(paths)
    return found


def geodesic_claims(model: gn.Model) -> list[Claim]:
    surface, parameters = gn.OutputManifold(model), gn.ParameterManifold(model)
    psi, a = surface.point(START), np.array(DIRECTIONS[1])
    geodesic = surface.geodesic(psi, surface.tangent(surface.at(psi), a))
    speeds = [surface.norm(geodesic(t), geodesic.velocity(t)) for t in np.linspace(0, 1, 9)]
    drift = float(np.ptp(speeds) / speeds[0])
    h = 1e-3
    points = [np.asarray(geodesic(0.5 + k * h)) for k in (-1, 0, 1)]
    acceleration = (points[0] - 2 * points[1] + points[2]) / h**2
    tangential = np.linalg.norm(surface.projection(geodesic(0.5), acceleration))
    share = float(tangential / np.linalg.norm(acceleration))
    claims = [
        Claim("a geodesic has constant speed", "0", f"{drift:.1e} relative", drift < 1e-10),
        Claim(
            "its acceleration is normal to f(B)",
            "0",
            f"{share:.1e} of it is tangential",
            share < 1e-4,
        ),
    ]
    for order, name in ((1, "first_order"), (2, "second_order")):
        manifold = gn.ParameterManifold(model, retraction=name)
        check = gn.check_retraction(manifold, START, a, order=order)
        claims.append(
            Claim(
                f"the {name.replace('_', '-')} retraction leaves it like t^{order + 1}",
                str(order + 1),
                f"{check.slope:.2f}",
                bool(check),
            )
        )
    end = parameters.exp(START, a)
    back = parameters.log(START, end)
    error = float(np.linalg.norm(back - a) / np.linalg.norm(a))
    claims.append(Claim("log inverts exp", "0", f"{error:.1e}", error < 1e-8))
    return claims


# %% [markdown]
# Flows
# -----
#
# Gradient flow of the loss ½‖f(w) - y‖² in the metric JᵀJ is the Gauss-Newton flow: on the surface
# it descends along the projection of the residual, whatever the coordinates. Euclidean gradient
# flow is a flow of the coordinates: another path and another speed. Both are the same line of code
# with another metric.


# %%
def flow(model: gn.Model, metric: Any, times: np.ndarray) -> np.ndarray:
    """Parameters of w' = -grad h at the times, for the gradient in a metric."""
    manifold = gn.ParameterManifold(model, metric)
    problem = gn.CompositeProblem(manifold, gn.SquaredError(TARGET))
    solution = gn.flows.integrate(problem, START, times[-1], method="dop853", rtol=1e-10)
    return np.array([solution.at(t) for t in times])


def flow_claims(model: gn.Model, times: np.ndarray) -> list[Claim]:
    """The flow on the surface, integrated in R³ with P∇g alone, against the one of the weights."""
    surface = gn.OutputManifold(model)
    problem = gn.CompositeProblem(surface, gn.SquaredError(TARGET))
    w = flow(model, gn.GaussNewtonMetric(), times)
    midway = len(w) // 3
    psi = [np.asarray(surface.point(x)) for x in w[midway - 1 : midway + 2]]
    rate = (psi[2] - psi[0]) / (times[midway + 1] - times[midway - 1])
    gradient = problem.riemannian_gradient(surface.point(w[midway]))
    error = float(np.linalg.norm(rate + gradient) / np.linalg.norm(gradient))
    euclidean = flow(model, gn.EuclideanMetric(), times)
    gap = float(np.max(np.linalg.norm(w - euclidean, axis=1)))
    last = float(problem.cost(surface.point(w[-1])) - problem.cost(surface.point(w[-2])))
    return [
        Claim("Gauss-Newton flow is ψ' = -P∇g on f(B)", "0", f"{error:.1e}", error < 1e-2),
        Claim("gradient flow takes another path", "> 0", f"{gap:.2f} apart in w", gap > 0.05),
        Claim("the cost decreases to the end", "<= 0", f"{last:.0e}", last <= 1e-12),
    ]


# %% [markdown]
# Curvature, and what α does
# --------------------------
#
# The Gauss equation gives the curvature of f(B) from second derivatives. Scaling the predictions by
# α blows the surface up: its geodesics stay, as curves of weights, and its curvature falls like
# 1/α². That is the whole mechanism by which a large α makes a network nearly linear.


# %%
def gaussian_curvature(model: gn.Model, weights: np.ndarray) -> float:
    try:
        return float(
            gn.ParameterManifold(model).sectional_curvature(weights, [1.0, 0.0], [0.0, 1.0])
        )
    except gn.RankDeficientError:
        return np.nan


def scaling(alphas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curvature at the start, norm of II, and the end of one geodesic, for each α."""
    rows = []
    for alpha in alphas:
        manifold = gn.ParameterManifold(neuron(alpha))
        K = manifold.sectional_curvature(START, [1.0, 0.0], [0.0, 1.0])
        kappa = manifold.second_fundamental_form_norm(START)
        rows.append((K, kappa, manifold.exp(START, DIRECTIONS[1])))
    curvature, norm, ends = zip(*rows, strict=True)
    return np.array(curvature), np.array(norm), np.array(ends)


def scaling_claims(alphas: tuple[float, ...], values: tuple[np.ndarray, ...]) -> list[Claim]:
    curvature, norm, ends = values
    logs = np.log(alphas)
    slopes = [float(np.polyfit(logs, np.log(np.abs(y)), 1)[0]) for y in (curvature, norm)]
    moved = float(np.max(np.abs(ends - ends[0])))
    return [
        Claim("curvature falls like 1/α²", "-2", f"{slopes[0]:.6f}", abs(slopes[0] + 2) < 1e-8),
        Claim("|II| falls like 1/α", "-1", f"{slopes[1]:.6f}", abs(slopes[1] + 1) < 1e-8),
        Claim("geodesics do not see α", "0", f"{moved:.0e}", moved < 1e-10),
    ]


# %% [markdown]
# The figure
# ----------


# %%
CURVATURE = "YlGn_r"
STYLES = {
    "geodesic": {"color": "black", "lw": 2.2, "label": "geodesic"},
    "first_order": {"color": COLORS[1], "lw": 1.8, "ls": "--", "label": "w + t a"},
    "second_order": {"color": COLORS[0], "lw": 1.8, "ls": "-.", "label": "w + t a - t²/2 Γ(a, a)"},
}
FLOWS = {
    "Gauss-Newton flow": {"color": COLORS[1], "lw": 2.4},
    "gradient flow": {"color": COLORS[0], "lw": 2.4, "ls": "--"},
}


@dataclass(frozen=True)
class Drawn:
    """What the figure shows: weights on a grid with their curvature, curves, flows, scales."""

    model: gn.Model
    grid: np.ndarray
    curvature: np.ndarray
    paths: list[dict[str, np.ndarray]]
    flows: dict[str, np.ndarray]
    values: tuple[np.ndarray, ...]


def figure(drawn: Drawn) -> Figure:
    drawing = Figure(figsize=(16.5, 10), layout="constrained")
    axes = [
        drawing.add_subplot(2, 3, i + 1, projection="3d" if i in (0, 3) else None) for i in range(6)
    ]
    mesh = np.meshgrid(drawn.grid, drawn.grid, indexing="ij")
    psi = np.apply_along_axis(drawn.model, -1, np.stack(mesh, axis=-1))
    K = drawn.curvature
    colour = Normalize(float(np.nanquantile(K, 0.02)), float(np.nanmax(K)))
    for space, plane in ((axes[0], axes[1]), (axes[3], axes[4])):
        surface(space, psi, colormaps[CURVATURE](colour(K)))
        plane.plot(*START, "o", color="black", ms=6)
        space.scatter(*drawn.model(START), color="black", s=30, zorder=9)
        plane.set(xlabel="w₁", ylabel="w₂", aspect="equal")
        plane.set(xlim=(-REGION, REGION), ylim=(-REGION, REGION))
    image = axes[1].pcolormesh(*mesh, K, cmap=CURVATURE, norm=colour, shading="gouraud")
    drawing.colorbar(image, ax=axes[1], label="Gaussian curvature K", shrink=0.8)
    geodesics_and_retractions(axes[0], axes[1], drawn)
    both_flows(axes[3], axes[4], drawn)
    cost = 0.5 * np.sum((psi - TARGET) ** 2, axis=-1)
    axes[4].contour(*mesh, cost, levels=16, colors="0.75", linewidths=0.8)
    departures(axes[2], drawn.model)
    scales(axes[5], ALPHAS, drawn.values)
    return drawing


def geodesics_and_retractions(space: Any, plane: Any, drawn: Drawn) -> None:
    for index, path in enumerate(drawn.paths):
        for name, style in STYLES.items():
            label = style["label"] if index == 0 else None
            draw(space, plane, drawn.model, path[name], {**style, "label": label})
    space.set_title("f(B) in R³, coloured by its curvature: geodesics")
    plane.set_title("The same in the plane of the weights")
    space.legend(loc="upper left", fontsize=9)


def both_flows(space: Any, plane: Any, drawn: Drawn) -> None:
    for name, path in drawn.flows.items():
        draw(space, plane, drawn.model, path, {**FLOWS[name], "label": name})
    space.scatter(*TARGET, color="black", marker="*", s=90, label="target y", zorder=9)
    space.set_title("f(B) in R³: flows of ½|f(w) - y|²")
    plane.set_title("The same in the plane of the weights, levels of the cost")
    space.legend(loc="upper left", fontsize=9)


def surface(panel: Any, psi: np.ndarray, colours: np.ndarray) -> None:
    panel.plot_surface(
        *np.moveaxis(psi, -1, 0),
        facecolors=colours,
        rstride=1,
        cstride=1,
        alpha=0.8,
        lw=0,
        shade=False,
    )
    for name, axis in (("ψ₁", panel.xaxis), ("ψ₂", panel.yaxis), ("ψ₃", panel.zaxis)):
        axis.set_label_text(name)
        axis.set_ticks([-0.8, 0, 0.8])
    panel.view_init(elev=32, azim=30)
    panel.set_box_aspect(None, zoom=0.88)
    panel.computed_zorder = False  # the curves lie on the surface: draw them over it


def draw(space: Any, plane: Any, model: gn.Model, path: np.ndarray, style: dict[str, Any]) -> None:
    space.plot(*np.array([model(w) for w in path]).T, zorder=5, **style)
    plane.plot(*path.T, **style)


def departures(panel: Any, model: gn.Model) -> None:
    """Distance of the retractions from the geodesic, in R³."""
    times = np.logspace(-2.5, 0, 30)
    a = np.array(DIRECTIONS[1])
    geodesic = gn.ParameterManifold(model).geodesic(START, a)
    exact = [model(geodesic(t)) for t in times]
    for name, slope in (("first_order", 2), ("second_order", 3)):
        manifold = gn.ParameterManifold(model, retraction=name)
        gaps = [
            np.linalg.norm(model(manifold.retraction(START, t * a)) - psi)
            for t, psi in zip(times, exact, strict=True)
        ]
        panel.loglog(times, gaps, **STYLES[name])
        panel.loglog(times, gaps[0] * (times / times[0]) ** slope, ":", color="0.5", lw=1)
        panel.annotate(f"slope {slope}", (times[8], gaps[8]), (8, -12), textcoords="offset points")
    panel.set(xlabel="time t", ylabel="distance from the geodesic in R³")
    panel.set_title("Retractions leave the geodesic")
    panel.grid(visible=True, which="both", alpha=0.25)
    panel.legend(loc="lower left" if panel.get_xlabel().startswith("scaling") else "upper left")


def scales(panel: Any, alphas: tuple[float, ...], values: tuple[np.ndarray, ...]) -> None:
    curvature, norm, _ = values
    panel.loglog(alphas, np.abs(curvature), "o-", color=COLORS[0], label="|K|, falls like 1/α²")
    panel.loglog(alphas, norm, "s--", color=COLORS[1], label="|II|, falls like 1/α")
    panel.set(xlabel="scaling factor α", ylabel="curvature at the start")
    panel.set_title("α flattens the surface")
    panel.grid(visible=True, which="both", alpha=0.25)
    panel.legend(loc="lower left" if panel.get_xlabel().startswith("scaling") else "upper left")


# %%
def main(arguments: list[str] | None = None) -> list[Claim]:
    quick = quick_asked("The prediction surface of one neuron", arguments)
    model = neuron()
    grid = np.linspace(-REGION, REGION, 15 if quick else 61)
    times = np.linspace(0, 8, 41 if quick else 401)
    rows = tqdm(grid, desc="curvature", disable=None)
    curvature = np.array(
        [[gaussian_curvature(model, np.array([s, t])) for t in grid] for s in rows]
    )
    paths = curves(model, np.linspace(0, 1, 9 if quick else 41))
    flows = {
        "Gauss-Newton flow": flow(model, gn.GaussNewtonMetric(), times),
        "gradient flow": flow(model, gn.EuclideanMetric(), times),
    }
    values = scaling(ALPHAS)
    claims = [
        *geodesic_claims(model),
        *flow_claims(model, np.linspace(0, 8, 401)),
        *scaling_claims(ALPHAS, values),
    ]
    print(table(claims, "expected"))
    drawing = figure(Drawn(model, grid, curvature, paths, flows, values))
    print(f"figure: {save_figure(drawing, OUTPUT / 'geometry_tour.png')}")
    return claims


if __name__ == "__main__":
    main()
