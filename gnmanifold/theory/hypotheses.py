"""What a certificate is made of: hypotheses with their numbers, and the table of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnmanifold.validation import one_of

HOLDS, FAILS = "holds", "fails"
_ROUNDING = 1e-12  # relative: a threshold and α set to it may be computed in different orders


@dataclass(frozen=True)
class Hypothesis:
    """A comparison that a theorem asks for, `actual` against `required` by `relation`.

    `lipschitz_limit` is there where an estimated L entered: the largest L with which it holds.
    """

    name: str
    relation: str
    required: float
    actual: float
    lipschitz_limit: float | None = None

    def __post_init__(self) -> None:
        one_of("relation", self.relation, (">=", ">", "<=", "<"))

    @property
    def satisfied(self) -> bool:
        """Whether the numbers compare as they should, equal ones up to rounding; NaN never does."""
        slack = _ROUNDING * abs(self.required) if np.isfinite(self.required) else 0.0
        return {
            ">=": self.actual >= self.required - slack,
            ">": self.actual > self.required,
            "<=": self.actual <= self.required + slack,
            "<": self.actual < self.required,
        }[self.relation]

    @property
    def margin(self) -> float:
        """How many times over it holds: below one it fails, infinite where nothing is asked."""
        above = self.relation in (">=", ">")
        numbers = (self.actual, self.required) if above else (self.required, self.actual)
        if numbers[1] == 0 or np.isinf(numbers[0]):
            return np.inf if self.satisfied else 0.0
        return float(numbers[0] / numbers[1])

    @property
    def verdict(self) -> str:
        """Either "holds" or "fails", or "holds if L <= ..." where L is an estimate."""
        if not self.satisfied:
            return FAILS
        if self.lipschitz_limit is None:
            return HOLDS
        if np.isinf(self.lipschitz_limit):
            return "holds if L is finite"
        return f"holds if L <= {self.lipschitz_limit:.4g}"

    def __bool__(self) -> bool:
        return self.verdict == HOLDS

    def __str__(self) -> str:
        compared = f"{self.actual:.4g} {self.relation} {self.required:.4g}"
        return f"{self.name}: {self.verdict} ({compared}, margin {self.margin:.3g})"

    def to_dict(self) -> dict[str, Any]:
        """Its numbers and verdict in JSON's types."""
        names = ("name", "relation", "required", "actual", "margin", "lipschitz_limit", "verdict")
        return {name: plain(getattr(self, name)) for name in names}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns, the first row as their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def hypothesis_table(hypotheses: Iterable[Hypothesis]) -> str:
    """Hypotheses as rows: name, actual and required value, margin, verdict."""
    rows = [["hypothesis", "actual", "", "required", "margin", "verdict"]]
    rows += [
        [h.name, f"{h.actual:.5g}", h.relation, f"{h.required:.5g}", f"{h.margin:.3g}", h.verdict]
        for h in hypotheses
    ]
    return table(rows)


def plain(value: Any) -> Any:
    """Number in JSON's types, None for what is not finite, which JSON does not have."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
