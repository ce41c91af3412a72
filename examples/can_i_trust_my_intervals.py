"""Can I trust my intervals?
=========================

A fit reports standard errors and intervals as if the model were linear. How wrong that is, the
curvature of the fit says: of the prediction surface itself (intrinsic), and of the coordinates
that the parameters are on it (parameter effects). Here are two fits: the velocity of an enzyme
reaction, whose intervals are fair, and a sum of two decays, whose intervals are not.
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.figure import Figure

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.plotting import COLORS, save_figure

# %% [markdown]
# The fits
# --------
#
# Treated Puromycin: velocities in counts/min² at substrate concentrations in ppm, the example of
# Bates and Watts. The decays are made up: two rates that 15 data can hardly tell apart.


# %%
def puromycin() -> gn.FitResult:
    x = np.array([0.02, 0.02, 0.06, 0.06, 0.11, 0.11, 0.22, 0.22, 0.56, 0.56, 1.1, 1.1])
    y = np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200])
    model = gn.AutogradModel(lambda w: w[0] * x / (w[1] + x), 2)
    return gn.fit(model, y, [200.0, 0.1], names=("Vm", "K"))


def decays() -> gn.FitResult:
    x = np.linspace(0, 3, 15)
    noise = 0.02 * np.random.default_rng(0).standard_normal(15)
    model = gn.AutogradModel(lambda w: w[0] * anp.exp(-w[1] * x) + w[2] * anp.exp(-w[3] * x), 4)
    y = np.exp(-x) + np.exp(-4 * x) + noise
    return gn.fit(model, y, [1.0, 0.8, 1.0, 5.0], names=("A", "a", "B", "b"))


# %% [markdown]
# What the curvature says, and what to do
# ---------------------------------------
#
# Relative rms curvatures times sqrt(F) below 0.3 are harmless. The profile of a parameter is the
# remedy: the cost as it moves, with all others refitted. Its signed root τ is a straight line for a
# linear model; where it bends, the interval ends where τ reaches Student's quantile, not where
# the straight line does.


# %%
def report(title: str, fit: gn.FitResult) -> None:
    print(title, "=" * len(title), fit.summary(), "", fit.nonlinearity(), "", sep="\n")
    head = f"{'':6s} {'linear from':>12s} {'to':>12s} {'profile from':>13s} {'to':>12s}"
    print(head)
    pairs = zip(fit.names, fit.confidence_intervals(), fit.profile_intervals(), strict=True)
    for name, (low, high), (left, right) in pairs:
        print(f"{name:6s} {low:12.5g} {high:12.5g} {left:13.5g} {right:12.5g}")
    print()


def figure(fits: dict[str, gn.FitResult], points: int) -> Figure:
    shown = [(title, fit, name) for title, fit in fits.items() for name in fit.names]
    drawing = Figure(figsize=(11, 6.5), layout="constrained")
    panels = drawing.subplots(2, 3).ravel()
    for axes, (title, fit, name) in zip(panels, shown, strict=True):
        profile = fit.profile(name, points=points)
        straight = (profile.values - profile.estimate) / profile.standard_error
        axes.plot(profile.values, straight, "--", color=COLORS[1], label="linear model")
        axes.plot(profile.values, profile.tau, color=COLORS[0], label="profile")
        for level in (-profile.quantile, profile.quantile):
            axes.axhline(level, color="k", lw=0.8, ls=":")
        levels = (-profile.quantile, profile.quantile)
        axes.plot(profile.linear, levels, "o", color=COLORS[1], ms=5, label="linear interval")
        axes.plot(profile.interval, levels, "o", color=COLORS[0], ms=5, label="profile interval")
        axes.set(title=f"{title}: {name}", xlabel=name, ylabel="τ")
        axes.grid(visible=True, alpha=0.25)
    panels[0].legend(fontsize=9)
    return drawing


# %%
def main(arguments: list[str] | None = None) -> dict[str, gn.FitResult]:
    quick = quick_asked("Can I trust my intervals?", arguments)
    fits = {"Puromycin": puromycin(), "two decays": decays()}
    for title, fit in fits.items():
        report(title, fit)
    path = save_figure(figure(fits, 5 if quick else 31), OUTPUT / "can_i_trust_my_intervals.png")
    print(f"figure: {path}")
    return fits


if __name__ == "__main__":
    main()
