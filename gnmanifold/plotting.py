"""Figures: the only module that imports matplotlib; the others import it when asked to plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gnmanifold.checks import SlopeCheck
from gnmanifold.comparison import Comparison
from gnmanifold.diagnostics.nonlinearity import Nonlinearity
from gnmanifold.diagnostics.report import Diagnosis
from gnmanifold.diagnostics.spectrum import Spectrum
from gnmanifold.errors import ArgumentError
from gnmanifold.files import replacing
from gnmanifold.flows import Trajectory
from gnmanifold.theory.certificate import Certificate

# Okabe and Ito's palette, distinguishable with every kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_check(check: SlopeCheck, axes: Axes | None = None) -> Axes:
    """Draw the error of a slope check against the step, with the expected slope beside it."""
    axes = _axes() if axes is None else axes
    positive = check.errors > 0
    axes.loglog(check.steps[positive], check.errors[positive], color=COLORS[0], label="error")
    first, last = check.window[0], min(check.window[1], len(check.steps)) - 1
    fitted = slice(first, last + 1)
    axes.loglog(check.steps[fitted], check.errors[fitted], color=COLORS[1], lw=3, label="fitted")
    anchor = max(float(check.errors[last]), np.finfo(float).tiny)
    line = anchor * (check.steps / check.steps[last]) ** check.expected
    axes.loglog(check.steps, line, "k--", lw=1, label=f"slope {check.expected:g}")
    axes.set_ylim(max(float(np.min(check.errors[positive], initial=1.0)) / 10, 1e-20), None)
    axes.set(xlabel="step t", ylabel="error of the model", title=_title(check))
    axes.legend()
    return axes


def plot_convergence(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    ylabel: str = "cost",
) -> Figure:
    """Draw costs against iterations and against time, one line a run, on log axes.

    Each run is a mapping with sequences "cost" and "time" (seconds since its start), and
    "iteration" where those are not 0, 1, …; `styles` gives matplotlib's line properties by name.
    """
    styles = styles or {}
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, curve) in enumerate(curves.items()):
        style = {"color": COLORS[index % len(COLORS)], **styles.get(name, {})}
        costs = np.asarray(curve["cost"], dtype=float)
        style.setdefault("markevery", 0.1 if len(costs) > 1 else 1)
        left.plot(curve.get("iteration", range(len(costs))), costs, label=name, **style)
        right.plot(np.maximum(np.asarray(curve["time"], dtype=float), 1e-4), costs, **style)
    left.set(xlabel="iteration", ylabel=ylabel, xscale="symlog", yscale="log")
    left.set_xlim(0, None)
    right.set(xlabel="time (s)", xscale="log", yscale="log")
    for axes in (left, right):
        axes.grid(visible=True, which="both", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def plot_comparison(
    comparison: Comparison, *, above: float | None = None, floor: float = 1e-12
) -> Figure:
    """Draw the costs of the runs of gnmanifold.compare above the lowest, on log axes.

    `above` is the cost to subtract, the lowest of all without it; differences below `floor` times
    the largest are drawn there.
    """
    shown = [run for run in comparison.runs if run.costs]
    finite = [cost for run in shown for cost in run.costs if np.isfinite(cost)]
    if not finite:
        raise ArgumentError("every run failed: there is no cost to draw")
    lowest = min(finite) if above is None else above
    smallest = floor * max(max(finite) - lowest, np.finfo(float).tiny)
    curves: dict[str, dict[str, Sequence[float]]] = {
        run.name: {
            "cost": [max(cost - lowest, smallest) for cost in run.costs],
            "time": list(run.times),
            "iteration": list(run.steps),
        }
        for run in shown
    }
    dashes = ("-", "--", ":", "-.")
    styles = {
        run.name: {"linestyle": dashes[i // len(COLORS) % len(dashes)], "marker": "os^vD*P"[i % 7]}
        for i, run in enumerate(shown)
    }
    return plot_convergence(curves, styles, "cost" if lowest == 0 else f"cost above {lowest:.6g}")


def plot_trajectories(trajectories: Mapping[str, Trajectory]) -> Figure:
    """Draw cost, distance from the start, gradient norm and λ_min of flows against time."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    rows = (
        ("costs", "cost g(ψ)"),
        ("distances", "distance |w - w(0)|"),
        ("gradient_norms", "norm of the Riemannian gradient"),
        ("smallest_eigenvalues", "λ_min of DfᵀDf, or of Df Dfᵀ for p > n"),
    )
    for axes, (name, label) in zip(panels, rows, strict=True):
        for index, (legend, flow) in enumerate(trajectories.items()):
            style = "-" if index < len(COLORS) else "--"
            values, color = getattr(flow, name), COLORS[index % len(COLORS)]
            first = 1 if name == "distances" else 0  # zero at the start, which has no logarithm
            axes.plot(flow.times[first:], values[first:], style, color=color, label=legend)
        signed = any(np.min(getattr(flow, name)) < 0 for flow in trajectories.values())
        axes.set(ylabel=label, yscale="linear" if signed else "log")
        axes.grid(visible=True, which="major", alpha=0.25)
    for axes in panels[2:]:
        axes.set_xlabel("time t of the flow")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def plot_envelope(
    certificate: Certificate, trajectory: Trajectory, axes: Axes | None = None
) -> Axes:
    """Draw the envelope of a certificate over the measured gap of a trajectory, on a log axis."""
    axes = _axes() if axes is None else axes
    clock, gaps = certificate.clock(trajectory), certificate.gaps(trajectory)
    shown = gaps > 0
    axes.semilogy(clock[shown], gaps[shown], color=COLORS[0], label="measured")
    axes.semilogy(clock, certificate.envelope(clock), "--", color=COLORS[1], label="envelope")
    floor = max(float(np.min(gaps[shown], initial=np.inf)), 1e-16 * certificate.gap)
    if np.isfinite(floor) and floor > 0:
        axes.set_ylim(floor / 3, None)
    ylabel = "cost"
    if certificate.infimum is None:
        ylabel = "cost above the lowest seen"
    elif certificate.infimum != 0:
        ylabel = f"cost above {certificate.infimum:.6g}"
    axes.set(xlabel="steps k" if certificate.discrete else "time t of the flow", ylabel=ylabel)
    axes.set_title(f"{certificate.theorem}:\n{certificate.verdict}", fontsize=9)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend()
    return axes


def plot_diagnosis(diagnosis: Diagnosis) -> Figure:
    """Draw residuals, eigenvalues, curvatures, and stiff and sloppy directions of a diagnosis."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    residuals, eigenvalues, curvatures, directions = figure.subplots(2, 2).ravel()
    residuals.axhline(0, color="k", lw=0.8)
    residuals.plot(diagnosis.predictions, diagnosis.residuals, ".", color=COLORS[0])
    residuals.set(xlabel="prediction ψ_i", ylabel="∂g/∂ψ_i, the residual", title="Residuals")
    _draw_eigenvalues(eigenvalues, diagnosis.spectrum)
    _draw_curvatures(curvatures, diagnosis.nonlinearity)
    found = diagnosis.sloppiness
    if found is None:
        _empty(directions)
    else:
        shown = found.eigenvalues > 0
        index = np.arange(1, len(found.eigenvalues) + 1)
        directions.semilogy(index[shown], found.eigenvalues[shown], "o", color=COLORS[2])
    directions.set(xlabel="number, stiff to sloppy", ylabel="eigenvalue of JᵀJ")
    directions.set_title("Stiff and sloppy directions")
    for axes in (eigenvalues, directions):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (residuals, eigenvalues, directions):
        axes.grid(visible=True, which="major", alpha=0.25)
    return figure


def _draw_eigenvalues(axes: Axes, spectrum: Spectrum | None) -> None:
    axes.set(title="Eigenvalues", xlabel="number, increasing", ylabel="eigenvalue")
    if spectrum is None:
        _empty(axes)
        return
    rows = (
        ("Gauss-Newton JᵀAJ", spectrum.gauss_newton, "o"),
        ("Hessian ∇²h", spectrum.hessian, "x"),
        ("Riemannian Hessian", spectrum.riemannian, "+"),
    )
    sizes = [np.abs(part.values[part.values != 0]) for _, part, _ in rows if part is not None]
    smallest = min((float(np.min(each)) for each in sizes if each.size), default=1.0)
    for index, (label, part, marker) in enumerate(rows):
        if part is not None:
            number = np.arange(1, len(part.values) + 1)
            axes.plot(number, part.values, marker, color=COLORS[index], label=label)
    axes.set_yscale("symlog", linthresh=max(smallest, 1e-12))
    axes.axhline(0, color="k", lw=0.8)
    axes.legend(fontsize=9)


def _draw_curvatures(axes: Axes, found: Nonlinearity | None) -> None:
    axes.set_title("Curvature of the fit, rms·√F")
    if found is None:
        _empty(axes)
        return
    values = np.array([found.intrinsic_rms, found.parameter_effects_rms]) * found.sqrt_f
    axes.barh(["intrinsic", "parameter\neffects"], values, color=COLORS[:2], height=0.5)
    axes.axvline(0.3, color="k", ls="--", label="good below 0.3")
    axes.set(xlabel="relative curvature times √F", xlim=(0, max(0.4, 1.15 * float(values.max()))))
    axes.legend(fontsize=9)


def _empty(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "not computed", ha="center", va="center", transform=axes.transAxes)


def save_figure(figure: Figure, path: str | Path, **options: Any) -> Path:
    """Write a figure whole or not at all, creating its folder; return the path."""
    with replacing(path) as temporary:
        figure.savefig(temporary, **{"dpi": 150, **options})
    return Path(path)


def _axes() -> Axes:
    return Figure(figsize=(6, 4.5), layout="constrained").subplots()


def _title(check: SlopeCheck) -> str:
    return f"{check.name}: slope {check.slope:.3f} ({'passed' if check else 'failed'})"
