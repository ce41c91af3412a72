"""What a diagnosis looks like: a table, a figure, a page, numbers."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gnmanifold.diagnostics.convexity import HessianTerms
from gnmanifold.diagnostics.critical_points import CriticalPoint
from gnmanifold.diagnostics.nonlinearity import Nonlinearity
from gnmanifold.diagnostics.rates import LocalRate
from gnmanifold.diagnostics.sloppiness import Sloppiness
from gnmanifold.diagnostics.spectrum import Spectrum
from gnmanifold.files import replacing


@dataclass(frozen=True)
class Line:
    """A row of the report: what it is, its number, and what that means."""

    label: str
    value: str
    meaning: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the report, or the reason why it is missing."""

    title: str
    lines: tuple[Line, ...] = ()
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Everything affordable about a point of a problem: it prints, plots, and becomes HTML or JSON.

    `advice` are plain sentences on what is wrong and what to do, `sections` the tables behind them;
    the parts that were computed are attributes, None where they are missing.
    """

    sections: tuple[Section, ...]
    advice: tuple[str, ...]
    predictions: np.ndarray
    residuals: np.ndarray
    spectrum: Spectrum | None = None
    terms: HessianTerms | None = None
    critical_point: CriticalPoint | None = None
    local_rate: LocalRate | None = None
    nonlinearity: Nonlinearity | None = None
    sloppiness: Sloppiness | None = None
    numbers: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = []
        for section in self.sections:
            lines += [section.title, "-" * len(section.title)]
            if section.missing:
                lines.append(f"  not computed: {section.missing}")
            for line in section.lines:
                lines.append(f"  {line.label:44s} {line.value:>24s}  {line.meaning}".rstrip())
            lines.append("")
        return "\n".join(
            [*lines, "What it means", "-" * 13, *(f"* {each}" for each in self.advice)]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and None, for JSON; infinite and undefined numbers are strings."""
        parts = (
            "spectrum", "terms", "critical_point", "local_rate", "nonlinearity", "sloppiness",
        )  # fmt: skip
        computed = {name: getattr(self, name) for name in parts}
        content = {
            **self.numbers,
            **{name: part and part.to_dict() for name, part in computed.items()},
            "advice": list(self.advice),
        }
        return dict(_plain(content))

    def to_json(self, path: str | Path | None = None) -> str:
        """The numbers as JSON, written whole to a file where one is named."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            _write(Path(path), text)
        return text

    def plot(self) -> Any:
        """Figure with residuals, eigenvalues, curvatures and stiff and sloppy directions."""
        from gnmanifold.plotting import plot_diagnosis

        return plot_diagnosis(self)

    def to_html(self, path: str | Path) -> Path:
        """Write one page that needs nothing else, its figure inside; return its path."""
        buffer = io.BytesIO()
        self.plot().savefig(buffer, format="png", dpi=130)
        picture = base64.b64encode(buffer.getvalue()).decode("ascii")
        return _write(Path(path), _page(self, picture))


def _plain(value: Any) -> Any:
    """Value with NumPy types and numbers that JSON lacks replaced."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _page(diagnosis: Diagnosis, picture: str) -> str:
    parts = []
    for section in diagnosis.sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.missing:
            parts.append(f'<p class="missing">Not computed: {html.escape(section.missing)}</p>')
            continue
        rows = "".join(
            f"<tr><th>{html.escape(line.label)}</th><td>{html.escape(line.value)}</td>"
            f"<td>{html.escape(line.meaning)}</td></tr>"
            for line in section.lines
        )
        parts.append(f"<table>{rows}</table>")
    advice = "".join(f"<li>{html.escape(each)}</li>" for each in diagnosis.advice)
    return _TEMPLATE.format(advice=advice, picture=picture, sections="\n".join(parts))


def _write(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Diagnosis of a fit</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
th {{ width: 42%; }}
th, td {{ text-align: left; font-weight: normal; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid #ddd; vertical-align: top; }}
td:nth-child(2) {{ font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }}
td:nth-child(3) {{ color: #555; }}
.advice {{ background: #f2f6fa; border-left: .3rem solid #0072b2; padding: .6rem 1.2rem; }}
.missing {{ color: #555; }}
img {{ max-width: 100%; height: auto; }}
@media (max-width: 40rem) {{ td:nth-child(2) {{ white-space: normal; }} }}
</style>
</head>
<body>
<h1>Diagnosis of a fit</h1>
<div class="advice"><strong>What it means</strong><ul>{advice}</ul></div>
<p><img alt="Residuals, eigenvalues, curvatures, and stiff and sloppy directions"
src="data:image/png;base64,{picture}"></p>
{sections}
</body>
</html>
"""
