"""What the examples share: claims in a table, runs that resume, figures in two formats.

Import it from a script in this folder; it is no example itself.
"""

import argparse
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import gnmanifold as gn
from gnmanifold.files import replacing
from gnmanifold.plotting import save_figure

OUTPUT = Path(__file__).parent / "output"
Runs = list[dict[str, Any]]
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


def legends_below(panels: Iterable[Axes], columns: int = 1) -> None:
    """A legend under each panel, where it covers no curve, and a light grid."""
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}
    for axes in panels:
        axes.grid(visible=True, which="major", alpha=0.25)
        axes.legend(**place, ncols=columns, fontsize=8, handlelength=3)


class Record:
    """Finished runs, by function and settings, in a JSON file: what is there is not made again.

    A record of another version of the package, or of the script before an edit, starts anew.
    Runs return what JSON can hold, NumPy's arrays and numbers included; no wall-clock times, so
    that the same seeds write the same record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def runs(
        self, function: Callable[..., Any], settings: Iterable[Mapping[str, Any]]
    ) -> list[Any]:
        """[function(**each) for each in settings], each saved when it is finished."""
        settings = list(settings)
        source = {"version": gn.__version__, "script": _digest(function)}
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
    """The claims in columns as wide as they need; the second may have another name."""
    head = ("claim", paper, "measured", "holds")
    rows = [
        head,
        *((c.claim, c.paper, c.measured, "holds" if c.holds else "FAILS") for c in claims),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _digest(function: Callable[..., Any]) -> str:
    """Of the script that a run is defined in; empty where it has no file, as in a notebook."""
    path = Path(inspect.getfile(inspect.unwrap(function)))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
