"""Docstrings as reStructuredText.

Ours are plain text: paragraphs, formulas with |x| and A*, tables of pipes, and code in single
backticks. What reST would take for markup is escaped; a table of pipes becomes a real one. Of
docstrings in another convention, those that are inherited from pymanopt, the first paragraph is
taken.
"""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from sphinx.application import Sphinx

_SOURCE = r"(?:[A-Z]\.[ -])+[A-Z]\w+"  # an author, with whom a source begins


def convert(text: str) -> str:
    """The docstring, block by block; errors and sources are paragraphs of their own."""
    text = re.sub(r"\n(?=Raises )", "\n\n", text.strip("\n"))
    text = re.sub(rf"(?<=\.)\n(?={_SOURCE})", "\n\n", text)
    blocks = re.split(r"\n\s*\n", text)
    if re.search(r"^(Args|Returns|Note|Example):", text, re.M):
        blocks = blocks[:1]
    return "\n\n".join("\n".join(_block(block)) for block in blocks)


def _block(block: str) -> Iterator[str]:
    lines = block.split("\n")
    if lines[0].startswith(">>> "):
        yield from lines
    elif len(lines) > 2 and re.fullmatch(r"\s*\|[\s|:-]+\|", lines[1]):
        yield from _table(lines)
    elif all(line.startswith("    ") for line in lines):
        yield "::"
        yield ""
        yield from lines
    else:
        yield from (_bullet(line) for line in lines)


def _bullet(line: str) -> str:
    found = re.match(r"(\s*[*-] )(.*)", line)
    return found[1] + escape(found[2]) if found else escape(line)


def escape(line: str) -> str:
    """The line with what reST would read as markup escaped, code in backticks left alone."""
    parts = re.split(r"(``.+?``|`[^`]+`)", line)
    markup = r"[*|\\`]|(?<=\w)_(?=\W|$)"
    parts[::2] = [re.sub(markup, r"\\\g<0>", part) for part in parts[::2]]
    # an author's initial at the beginning is no item of a list
    return re.sub(r"^(\s*[A-Z])\. ", r"\1\\. ", "".join(parts))


def _table(lines: list[str]) -> Iterator[str]:
    rows = [
        [escape(cell.strip()) for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not re.fullmatch(r"[\s|:-]+", line)
    ]
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for row in rows:
        for index, cell in enumerate(row):
            yield f"   {'* -' if index == 0 else '  -'} {cell}"


def _process(_: Sphinx, what: str, __: str, obj: Any, ___: Any, lines: list[str]) -> None:
    text = "\n".join(lines)
    if what == "method" and not inspect.getattr_static(obj, "__doc__", None):
        text = re.sub(r"[;.] [Bb]y default[^.]*\.", ".", text)  # inherited: of the base class alone
    if isinstance(obj, type) and issubclass(obj, Enum):
        text += "\n\n" + "\n".join(f"* {member.name}: {member.value}" for member in obj)
    lines[:] = [*convert(text).split("\n"), ""]


def _signature(
    _: Sphinx, what: str, __: str, obj: Any, ___: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """That of __init__ for a class, where __new__ takes anything."""
    if what == "class" and signature is not None and "**__" in signature:
        if obj.__init__ is object.__init__:
            return "", result
        parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
        return str(inspect.Signature(bare)), result
    return signature, result


def _skip(_: Sphinx, __: str, ___: str, obj: Any, skip: bool, ____: Any) -> bool | None:
    """Leave out the fields of named tuples, which their class describes."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
