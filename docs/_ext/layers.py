"""The picture of the layers, drawn from the list that the test of the imports has."""

import ast
from html import escape
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT, STEP = 700, 34, 46


def layers() -> list[list[str]]:
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "LAYERS":  # type: ignore[attr-defined]
            return [sorted(layer) for layer in ast.literal_eval(node.value)]
    raise LookupError("tests/test_layers.py has no LAYERS")


def picture() -> str:
    """Boxes from the lowest layer below to the highest above, the leaves at the side."""
    rows = layers()[::-1]
    total = STEP * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" '
        f'font-family="sans-serif" font-size="15" role="img">',
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>',
    ]
    for index, names in enumerate(rows):
        parts += _row(names, 8 + STEP * index)
    leaf = (
        f'<rect x="610" y="8" width="82" height="{total - 20}" rx="6" '
        'fill="#fdf0e0" stroke="#d55e00"/>'
    )
    middle = total / 2
    parts += [leaf, _text("plotting", 651, middle - 8), _text("checks", 651, middle + 16), "</svg>"]
    return "\n".join(parts)


def _row(names: list[str], top: int) -> list[str]:
    width = (590 - 8 * (len(names) - 1)) / len(names)
    parts = []
    for place, name in enumerate(names):
        left = 8 + place * (width + 8)
        parts.append(
            f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{HEIGHT}" rx="6" '
            f'fill="#e8f1fa" stroke="#0072b2"/>'
        )
        parts.append(_text(name, left + width / 2, top + 22))
    return parts


def _text(text: str, x: float, y: float) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="#1a1a1a">{escape(text)}</text>'
    )


def _write(app: Sphinx) -> None:
    path = Path(app.srcdir) / "generated" / "layers.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(picture(), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
