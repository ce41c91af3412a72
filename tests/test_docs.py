"""The documentation is true: its code runs, what it names exists, what the code cites is listed."""

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import gnmanifold as gn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if "```py" in path.read_text("utf-8"))
MODULES = [gn.__name__, *(m.name for m in pkgutil.walk_packages(gn.__path__, "gnmanifold."))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_code_of_the_pages_runs(page, tmp_path, monkeypatch):
    """The blocks of a page in order and in one namespace; those with >>> print what is shown."""
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text("utf-8"), {"__name__": page.stem}
    for block in re.finditer(r"^```(python|pycon)\n(.*?)^```$", text, re.M | re.S):
        line = text[: block.start()].count("\n") + 1
        if block[1] == "python":
            exec(compile("\n" * line + block[2], page.name, "exec"), names)
            continue
        example = doctest.DocTestParser().get_doctest(block[2], names, page.stem, page.name, line)
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        report = []
        runner.run(example, out=report.append, clear_globs=False)
        assert runner.summarize(verbose=False).failed == 0, "".join(report)
        names = example.globs


def test_doctests_of_the_package_run():
    found = [
        doctest.testmod(importlib.import_module(name), optionflags=OPTIONS) for name in MODULES
    ]
    assert sum(result.failed for result in found) == 0
    assert sum(result.attempted for result in found) >= 20


def rows():
    """Rows of the tables of From the papers to the code."""
    text = (DOCS / "papers.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ") and "{py:obj}" in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_there_is_something_to_look_at():
    """Empty lists would let the tests that go through them pass."""
    assert len(PAGES) >= 7
    assert len(rows()) >= 60


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_rows_of_the_papers_name_what_exists(row):
    assert len(row) == 4
    _, functions, places, status = row
    for name in re.findall(r"\{py:obj\}`~(.+?)`", functions):
        assert pkgutil.resolve_name(name) is not None
    examples = re.findall(r"\[`(\w+)`\]\(examples/\1\.rst\)", places)
    tests = re.findall(r"`(\w+\.py)::(\w+)`", places)
    assert examples or places.startswith("–")
    assert tests
    for example in examples:
        assert (ROOT / "examples" / f"{example}.py").is_file(), example
    for file, test in tests:
        assert test in functions_of(ROOT / "tests" / file), test
    assert re.match(r"(same|constants ours|sharper|corrected|ours|settings ours)\b", status)


def functions_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_what_the_pages_refer_to_exists(page):
    for name in re.findall(r"\{py:obj\}`(?:~|[^`<]*<)?([\w.]+)>?`", page.read_text("utf-8")):
        assert pkgutil.resolve_name(name) is not None, name


def test_every_author_that_is_cited_is_in_the_bibliography():
    listed = (DOCS / "bibliography.md").read_text("utf-8")
    initials = r"(?:^|[\s(;])(?:[A-Z]\.[ -]){1,2}(?:De )?([A-Z][a-zé]{2,}) ?(?:,|and\b|\. [A-Z])"
    cited = set()
    for path in (ROOT / "gnmanifold").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                cited.update(re.findall(initials, ast.get_docstring(node) or "", re.M))
    assert {"Cayci", "Boumal", "Amari", "Lathauwer"} <= cited
    assert [name for name in sorted(cited) if name not in listed] == []


def test_the_gallery_lists_every_example():
    tree = ast.parse((DOCS / "_ext" / "gallery.py").read_text("utf-8"))
    (order,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "ORDER"
    )
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"common"}
    assert set(order) == scripts
    assert len(order) == len(scripts)


def test_text_cells_of_the_examples_are_valid_in_the_gallery():
    """There |x| would be a substitution, and # a comment."""
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text("utf-8")
        cells = re.findall(r"^# %% \[markdown\]\n((?:#.*\n)+)", text, re.M)
        prose = ["# " + ast.get_docstring(ast.parse(text)), *cells]
        lines = [line for block in prose for line in block.splitlines()]
        assert [line for line in lines if "|" in line or line.startswith("# #")] == [], path
