"""What the examples share: claims in a table, runs that resume, figures in two formats.

Import it from a script in this folder; it is no example itself.
"""

import argparse
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product, zip_longest
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import gnmanifold as gn
from gnmanifold.files import replacing
from gnmanifold.plotting import save_figure

OUTPUT = Path(__file__).parent / "output"
Run = dict[str, Any]
Runs = list[Run]
_WIDTHS = (48, 28, 42, 5)  # of the columns of a table, at most
ALL_STEPS: dict[str, Any] = {  # an optimizer that takes max_iterations steps, without a word
    "verbosity": 0,
    "min_gradient_norm": 0.0,
    "min_step_size": 0.0,
}


@dataclass(frozen=True)
class Claim:
    """A statement, where it comes from, what was measured, and whether that agrees."""

    claim: str
    paper: str
    measured: str
    holds: bool


def quick_asked(description: str, arguments: list[str] | None = None) -> bool:
    """Whether --quick is among the arguments of the command line, or of those given."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller settings, seconds")
    return bool(parser.parse_args(arguments).quick)


def posed(
    model: gn.Model, loss: gn.Loss, metric: Any = None, **options: Any
) -> gn.CompositeProblem:
    """The loss of the model over its parameters, in that metric, without one the Euclidean."""
    manifold = gn.ParameterManifold(model, metric or gn.EuclideanMetric(), **options)
    return gn.CompositeProblem(manifold, loss)


def iterates(optimizer: Any, problem: gn.CompositeProblem, w: np.ndarray) -> np.ndarray:
    """Parameters (k+1, p) along a run from w, the last ones included wherever it leads."""
    return np.array(optimizer.run(problem, initial_point=w).log["iterations"]["point"])


def exponent(x: Any, y: Any) -> float:
    """The k of y ~ C x^k, by least squares on the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def grid(**values: Iterable[Any]) -> list[dict[str, Any]]:
    """Settings with every combination of the values, the last name changing fastest."""
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def chosen(runs: Runs, **wanted: Any) -> Runs:
    """The runs that have these entries."""
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def listed(values: Iterable[Any], form: str = ".3g") -> str:
    """Numbers with commas."""
    return ", ".join(format(value, form) for value in values)


def span(values: Iterable[float], form: str = ".3g") -> str:
    """The smallest and the largest of some numbers, once where they read the same."""
    values = list(values)
    ends = format(min(values), form), format(max(values), form)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def near(claim: str, paper: str, values: Any, expected: float, by: float) -> Claim:
    """The claim that numbers are what is expected, each within `by`."""
    values = np.ravel(values)
    return Claim(claim, paper, span(values, ".3f"), bool(np.all(np.abs(values - expected) < by)))


def decay_error(values: Any, times: Any) -> float:
    """Largest error of v(t) = e^-t v(0), relative to v(0), of values in rows."""
    values, times = np.asarray(values), np.asarray(times)
    errors = np.linalg.norm(values * np.exp(times)[:, None] - values[0], axis=1)
    return float(np.max(errors) / np.linalg.norm(values[0]))


def band(axes: Axes, x: Any, rows: Any, color: str, label: str | None, **style: Any) -> None:
    """Median of the rows as a curve, and what lies between their extremes shaded."""
    axes.plot(x, np.median(rows, axis=0), color=color, label=label, **style)
    axes.fill_between(x, np.min(rows, axis=0), np.max(rows, axis=0), color=color, alpha=0.2, lw=0)


def finish(axes: Axes, title: str, xlabel: str, ylabel: str, **settings: Any) -> None:
    """Title, labels and a light grid of a panel; scales and limits as for axes.set."""
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, **settings)
    axes.grid(visible=True, which="major", alpha=0.25)


def legends_below(panels: Iterable[Axes], columns: int = 1) -> None:
    """A legend under each panel, where it covers no curve, and a light grid."""
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}
    for axes in panels:
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(**place, ncols=columns, fontsize=8, handlelength=3)


class Record:
    """Finished runs, by function and settings, in a JSON file: what is there is not made again.

    It is folder/name.json, or folder/quick/name.json. A record starts anew where the package, this
    module or the script has changed. Runs return what JSON can hold, NumPy's arrays and numbers
    included; no wall-clock times, so that the same seeds write the same record.
    """

    def __init__(self, folder: Path, name: str, quick: bool = False) -> None:
        self.path = (folder / "quick" if quick else folder) / f"{name}.json"

    def runs(
        self, function: Callable[..., Any], settings: Iterable[Mapping[str, Any]]
    ) -> list[Any]:
        """[function(**each) for each in settings], each saved when it is finished."""
        settings = list(settings)
        source = {"version": gn.__version__, "sources": _digest(function)}
        saved = self._load()
        known = {key: saved.get(key) for key in source} == source
        done = saved["runs"] if known else {}
        found = []
        for each in tqdm(settings, desc=function.__name__, disable=None):
            key = f"{function.__name__} {json.dumps(each, default=_plain)}"
            if key not in done:
                done[key] = json.loads(json.dumps(function(**each), default=_plain))
                self._save({**source, "runs": done})
            found.append(done[key])
        return found

    def conclude(self, claims: list[Claim], figures: Mapping[str, Figure]) -> None:
        """Print the claims and add them to the record; write each figure as PNG and PDF."""
        print(table(claims))
        self._save({**self._load(), "claims": [asdict(claim) for claim in claims]})
        for name, figure in figures.items():
            for suffix in ("png", "pdf"):
                path = save_figure(figure, self.path.parent / f"{name}.{suffix}")
            print(f"figure: {path.stem}.png and .pdf")

    def _load(self) -> dict[str, Any]:
        return json.loads(self.path.read_text("utf-8")) if self.path.exists() else {"runs": {}}

    def _save(self, content: dict[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, default=_plain)
        if self.path.exists() and self.path.read_text("utf-8") == text:
            return
        with replacing(self.path) as temporary:
            temporary.write_text(text, "utf-8")


def table(claims: list[Claim], paper: str = "paper") -> str:
    """The claims in columns, long cells in several lines; the second may have another name."""
    rows = [("claim", paper, "measured", "holds")]
    rows += [(c.claim, c.paper, c.measured, "holds" if c.holds else "FAILS") for c in claims]
    cells = [
        [wrap(cell, width) or [""] for cell, width in zip(row, _WIDTHS, strict=True)]
        for row in rows
    ]
    widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(_WIDTHS))]
    lines = [
        "  ".join(map(str.ljust, each, widths)).rstrip()
        for row in cells
        for each in zip_longest(*row, fillvalue="")
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def _digest(function: Callable[..., Any]) -> str:
    """Of the package, of this module, and of the script where it has a file (no notebook)."""
    script = Path(inspect.getfile(inspect.unwrap(function)))
    paths = [*Path(gn.__file__).parent.rglob("*.py"), Path(__file__), script]
    found = hashlib.sha256()
    for path in sorted(set(paths)):
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
