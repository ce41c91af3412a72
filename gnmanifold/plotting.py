"""Figures: the only module that imports matplotlib, and never imported by the others."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnmanifold.checks import SlopeCheck

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

    Each run is a mapping with sequences "cost" and "time" (seconds since its start); `styles`
    gives matplotlib's line properties by name.
    """
    styles = styles or {}
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, curve) in enumerate(curves.items()):
        style = {"color": COLORS[index % len(COLORS)], **styles.get(name, {})}
        costs = np.asarray(curve["cost"], dtype=float)
        style.setdefault("markevery", 0.1)
        left.plot(np.arange(len(costs)), costs, label=name, **style)
        right.plot(np.maximum(np.asarray(curve["time"], dtype=float), 1e-4), costs, **style)
    left.set(xlabel="iteration", ylabel=ylabel, xscale="symlog", yscale="log")
    left.set_xlim(0, None)
    right.set(xlabel="time (s)", xscale="log", yscale="log")
    for axes in (left, right):
        axes.grid(visible=True, which="both", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def save_figure(figure: Figure, path: str | Path, **options: Any) -> Path:
    """Write a figure whole or not at all, creating its folder; return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        figure.savefig(temporary, **{"dpi": 150, **options})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _axes() -> Axes:
    return Figure(figsize=(6, 4.5), layout="constrained").subplots()


def _title(check: SlopeCheck) -> str:
    return f"{check.name}: slope {check.slope:.3f} ({'passed' if check else 'failed'})"
