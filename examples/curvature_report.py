"""Where and why a fit stops being convex
======================================

The cost ½‖ψ - y‖² is convex in the predictions ψ. On the prediction surface f(B) it need not be:
its Riemannian Hessian is the identity plus the second fundamental form along the residual. This
page follows the Gauss-Newton flow of a network on California Housing for several scales α,
measures the Hessian along the way and over sublevel sets, and says which of the two terms is to
blame. A larger α flattens the surface: the term falls like 1/α.
"""

# %%
import os
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.diagnostics.convexity import PathProfile, along_path, hessian_terms
from gnmanifold.diagnostics.region import RegionConvexity, region_convexity
from gnmanifold.plotting import COLORS, save_figure

ALPHAS = (0.125, 8.0, 16.0, 32.0, 64.0, 256.0)
HORIZON = 10.0


# %% [markdown]
# The problem
# -----------
#
# That of the quickstart: 256 rows, 18 tanh neurons without normalisation, 144 parameters.


# %%
@dataclass(frozen=True)
class Setting:
    network: gn.FeedforwardNetwork
    targets: np.ndarray

    def problem(self, alpha: float) -> gn.CompositeProblem:
        model = gn.Scaled(self.network, alpha)
        return gn.CompositeProblem(gn.ParameterManifold(model), gn.SquaredError(self.targets))


def setting() -> Setting:
    rng = np.random.default_rng(0)
    X, y = gn.datasets.california_housing(256, rng)
    return Setting(gn.FeedforwardNetwork(X, 18, normalization="none", rng=rng), y)


# %% [markdown]
# Along the flow
# --------------
#
# The smallest eigenvalue of the Hessian, relative to the metric, and what loss and surface add to
# it. At α = 1/8 the surface is so bent that the flow loses the rank of the Jacobian or runs off,
# as the paper reports too; the run ends there and says so.


# %%
@dataclass(frozen=True)
class Flow:
    alpha: float
    trajectory: gn.flows.Trajectory
    profile: PathProfile

    @property
    def line(self) -> str:
        first = self.profile.first_indefinite
        when = "never" if first is None else f"t = {self.trajectory.times[first]:.1f}"
        k = int(np.argmin(self.profile.smallest))
        return (
            f"{self.alpha:8g} {self.trajectory.costs[-1]:12.4f} {self.profile.smallest[k]:12.3g} "
            f"{self.profile.loss_part[k]:8.3g} {self.profile.surface_part[k]:10.3g} {when:>12s}  "
            f"{self.trajectory.end}"
        )


def follow(given: Setting, alpha: float, every: int) -> Flow:
    problem, start = given.problem(alpha), given.network.initial_parameters
    trajectory = gn.flows.integrate(problem, start, HORIZON, step=0.02, every=every)
    return Flow(alpha, trajectory, along_path(problem, trajectory.parameters))


# %% [markdown]
# Over sublevel sets
# ------------------
#
# The path alone is flattering: it goes where the cost is well behaved. Geodesics in random
# directions from the end of the flow, up to a tenth of the initial cost, see more.


# %%
def sample(given: Setting, flow: Flow, directions: int) -> RegionConvexity:
    level = flow.trajectory.costs[-1] + 0.1 * flow.trajectory.costs[0]
    return region_convexity(
        given.problem(flow.alpha),
        flow.trajectory.parameters[-1],
        level=level,
        directions=directions,
        samples=4,
        ascents=5,
    )


# %% [markdown]
# The 1/α law
# -----------
#
# At fixed parameters and a fixed residual the term of the surface is exactly proportional to 1/α.


# %%
def law(given: Setting, alphas: tuple[float, ...]) -> np.ndarray:
    w = given.network.initial_parameters
    parts = []
    for alpha in alphas:
        terms = hessian_terms(given.problem(alpha), w)  # the residual is -y there for every α
        parts.append(max(abs(end) for end in terms.surface_range))
    return np.array(parts)


# %%
def figure(flows: list[Flow], alphas: tuple[float, ...], parts: np.ndarray) -> Figure:
    drawing = Figure(figsize=(12, 4.6), layout="constrained")
    left, middle, right = drawing.subplots(1, 3)
    shown = [flow for flow in flows if flow.alpha >= 1]
    for index, flow in enumerate(shown):
        style = {"color": COLORS[index], "marker": "os^vD*"[index], "markersize": 4}
        left.plot(
            flow.trajectory.times, flow.profile.smallest, label=f"α = {flow.alpha:g}", **style
        )
    left.axhline(0, color="k", lw=0.8)
    left.set(xlabel="time t of the flow", ylabel="smallest eigenvalue of the Hessian")
    left.set(title="Along the Gauss-Newton flow")
    left.legend(fontsize=8)
    flow = next(each for each in flows if each.alpha == 16)
    for name, label, index in (
        ("loss_part", "from the loss", 0),
        ("surface_part", "from the surface", 1),
        ("smallest", "together", 6),
    ):
        middle.plot(flow.trajectory.times, getattr(flow.profile, name), color=COLORS[index],
                    label=label)  # fmt: skip
    middle.axhline(0, color="k", lw=0.8)
    middle.set(xlabel="time t of the flow", title="Who is to blame, α = 16")
    middle.set_ylabel("terms of the smallest eigenvalue")
    middle.legend(fontsize=8)
    right.loglog(alphas, parts, "o", color=COLORS[0], label="measured")
    right.loglog(alphas, parts[0] * alphas[0] / np.array(alphas), "k--", lw=1, label="∝ 1/α")
    right.set(xlabel="scale α", ylabel="largest |term of the surface| at the start")
    right.set_title("The surface's term")
    right.legend(fontsize=8)
    for axes in (left, middle, right):
        axes.grid(visible=True, which="major", alpha=0.25)
    return drawing


def main(arguments: list[str] | None = None) -> tuple[list[Flow], list[RegionConvexity], float]:
    quick = quick_asked("Where and why a fit stops being convex", arguments)
    given = setting()
    alphas = (16.0, 64.0) if quick else ALPHAS
    flows = [follow(given, alpha, 50 if quick else 20) for alpha in tqdm(alphas, disable=None)]
    print(
        f"{'α':>8s} {'final cost':>12s} {'smallest':>12s} {'loss':>8s} {'surface':>10s} "
        f"{'indefinite':>12s}  how the flow ended"
    )
    print("\n".join(flow.line for flow in flows), "\n")
    chosen = [flow for flow in flows if flow.alpha >= (64 if quick else 16)]
    regions = [sample(given, flow, 1 if quick else 6) for flow in tqdm(chosen, disable=None)]
    print("Over sublevel sets about the ends, which reach farther than the paths:")
    for flow, region in zip(chosen, regions, strict=True):
        print(f"α = {flow.alpha:g}: {region}")
    parts = law(given, ALPHAS)
    slope = float(np.polyfit(np.log(ALPHAS), np.log(parts), 1)[0])
    print(f"\nthe surface's term at the start falls like α^{slope:.6f}")
    print(f"figure: {save_figure(figure(flows, ALPHAS, parts), OUTPUT / 'curvature_report.png')}")
    flow = next(each for each in flows if each.alpha == 16)
    diagnosis = gn.diagnose(given.problem(16.0), flow.trajectory.parameters[-1])
    print(f"\n{diagnosis}\n\npage: {diagnosis.to_html(OUTPUT / 'curvature_report.html')}")
    return flows, regions, slope


if __name__ == "__main__":
    main()
