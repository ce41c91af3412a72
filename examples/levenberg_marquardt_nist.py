"""Levenberg and Marquardt on the reference data of NIST
=====================================================

The Statistical Reference Datasets give nonlinear regression problems with parameters certified to
11 digits, from two starting points each, the first one far away. Every fit below runs with
the default settings; nothing is set for a problem. "LRE" is the number of correct digits of the
worst parameter. SciPy's MINPACK runs beside it at its tightest tolerances.
"""

# %%
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import autograd.numpy as anp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import least_squares
from tqdm import tqdm

import gnmanifold as gn
from common import OUTPUT, quick_asked
from gnmanifold.plotting import COLORS, save_figure

DATA = OUTPUT.parent.parent / "tests" / "data" / "nist_strd"

# %% [markdown]
# The models, as the files state them
# -----------------------------------

# %%
MODELS = {
    "Misra1a": lambda b, x: b[0] * (1 - anp.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2.0),
    "Chwirut2": lambda b, x: anp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Lanczos3": lambda b, x: sum(b[i] * anp.exp(-b[i + 1] * x) for i in (0, 2, 4)),
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Hahn1": lambda b, x: _cubic(b[:4], x) / (1 + x * _quadratic(b[4:], x)),
    "MGH17": lambda b, x: b[0] + b[1] * anp.exp(-x * b[3]) + b[2] * anp.exp(-x * b[4]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - anp.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": lambda b, x: _cubic(b[:4], x) / (1 + x * _quadratic(b[4:], x)),
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "BoxBOD": lambda b, x: b[0] * (1 - anp.exp(-b[1] * x)),
}


def _quadratic(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    return b[0] + b[1] * x + b[2] * x**2


def _cubic(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _quadratic(b, x) + b[3] * x**3


@dataclass(frozen=True)
class Dataset:
    name: str
    starts: np.ndarray
    certified: np.ndarray
    standard_errors: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def model(self) -> gn.Model:
        function = MODELS[self.name]
        return gn.AutogradModel(lambda b: function(b, self.x), len(self.certified), len(self.y))


def read(name: str) -> Dataset:
    lines = (DATA / f"{name}.dat").read_text().splitlines()
    rows = [line.split("=")[1].split() for line in lines if re.match(r"\s+b\d+ =", line)]
    table = np.array(rows, dtype=float)
    begin = max(i for i, line in enumerate(lines) if line.startswith("Data:")) + 1
    data = np.array([line.split() for line in lines[begin:] if line.strip()], dtype=float)
    return Dataset(name, table[:, :2].T, table[:, 2], table[:, 3], data[:, 1], data[:, 0])


def correct_digits(value: np.ndarray, certified: np.ndarray) -> float:
    """Log relative error of the worst entry, at most the 11 digits that are certified."""
    with np.errstate(divide="ignore"):
        return float(np.min(np.minimum(-np.log10(np.abs(value / certified - 1)), 11)))


# %% [markdown]
# The runs
# --------


# %%
@dataclass(frozen=True)
class Run:
    name: str
    start: int
    digits: float
    error_digits: float
    evaluations: gn.Evaluations
    reason: str
    minpack_digits: float
    minpack_values: int
    costs: list[float]


def runs(names: list[str]) -> Iterator[Run]:
    for name in names:
        data = read(name)
        for index, start in enumerate(data.starts):
            yield run(data, index, start)


def run(data: Dataset, index: int, start: np.ndarray) -> Run:
    model = data.model
    fit = gn.fit(model, data.y, start)
    tightest = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 10000}
    with np.errstate(all="ignore"):  # trial steps that overflow
        theirs = least_squares(
            lambda b: model(b) - data.y,
            start,
            model.jacobian,
            method="lm",
            x_scale="jac",
            **tightest,
        )
    return Run(
        data.name,
        index + 1,
        correct_digits(fit.parameters, data.certified),
        correct_digits(fit.standard_errors, data.standard_errors),
        fit.evaluations,
        fit.stop_reason,
        correct_digits(theirs.x, data.certified),
        theirs.nfev,
        fit.costs,
    )


def table(found: list[Run]) -> str:
    head = (
        f"{'data set':10s} {'start':>5s} {'LRE':>6s} {'of errors':>9s} {'f':>5s} {'J':>5s} "
        f"{'D²f':>5s} | {'MINPACK LRE':>11s} {'f':>5s}"
    )
    lines = [head, "-" * len(head)]
    for row in found:
        used = row.evaluations
        lines.append(
            f"{row.name:10s} {row.start:5d} {row.digits:6.2f} {row.error_digits:9.2f} "
            f"{used.values:5d} {used.jacobians:5d} {used.second_derivatives:5d} | "
            f"{row.minpack_digits:11.2f} {row.minpack_values:5d}"
        )
    totals = [
        sum(getattr(row.evaluations, name) for row in found)
        for name in ("values", "jacobians", "second_derivatives")
    ]
    lines.append(
        f"{'total':10s} {'':5s} {'':6s} {'':9s} {totals[0]:5d} {totals[1]:5d} {totals[2]:5d} | "
        f"{'':11s} {sum(row.minpack_values for row in found):5d}"
    )
    for digits in (6, 10):
        ours = sum(row.digits >= digits for row in found)
        theirs = sum(row.minpack_digits >= digits for row in found)
        lines.append(
            f"runs with {digits} digits or more: ours {ours}, MINPACK {theirs} of {len(found)}"
        )
    return "\n".join(lines)


# %% [markdown]
# The figure
# ----------
#
# The cost above the certified one, a start in a panel. The last points are rounding.


# %%
def figure(found: list[Run]) -> Figure:
    drawing = Figure(figsize=(12, 5.4), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for start, panel in enumerate(panels, 1):
        for index, row in enumerate(row for row in found if row.start == start):
            costs = np.array(row.costs)
            excess = np.maximum(costs / costs[-1] - 1, 1e-16)
            panel.semilogy(
                excess, color=COLORS[index % 7], ls="-" if index < 7 else "--", label=row.name
            )
        panel.set(xlabel="iteration", xscale="symlog", title=f"Start {start}")
        panel.set_xlim(0, None)
        panel.grid(visible=True, which="both", alpha=0.25)
    panels[0].set_ylabel("cost over its minimum, minus 1")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right center", fontsize=9)
    return drawing


# %%
def main(arguments: list[str] | None = None) -> list[Run]:
    names = list(MODELS)
    if quick_asked("NIST reference data", arguments):
        names = ["Misra1a", "Hahn1", "BoxBOD"]
    began = time.perf_counter()
    found = list(tqdm(runs(names), total=2 * len(names), disable=None))
    print(table(found))
    print(f"{time.perf_counter() - began:.1f} s, figures and SciPy's runs included")
    print(f"figure: {save_figure(figure(found), OUTPUT / 'levenberg_marquardt_nist.png')}")
    return found


if __name__ == "__main__":
    main()
