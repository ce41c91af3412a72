"""Where long names in tables may break: after underscores and colons, between words."""

import re
from typing import Any

from sphinx.application import Sphinx

_PLACES = re.compile(r"(?<=_)(?=\w)|(?<=::)|(?<=[a-z])(?=[A-Z])")


def _broken(cell: re.Match[str]) -> str:
    return re.sub(
        r'(<span class="pre">)(.*?)(</span>)',
        lambda name: name[1] + _PLACES.sub("<wbr>", name[2]) + name[3],
        cell[0],
    )


def _tables(_: Sphinx, __: str, ___: str, context: dict[str, Any], ____: Any) -> None:
    if "body" in context:
        context["body"] = re.sub(r"<td>.*?</td>", _broken, context["body"], flags=re.S)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", _tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
