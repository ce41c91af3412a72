"""Whether a built site is whole: python docs/check_site.py docs/_build/html

Every link inside the site leads somewhere, nothing is loaded from the network, every example shows
a figure, every public name is in the reference, and no formula was left as text.
"""

import importlib
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gnmanifold

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset"}
VERBATIM = ("pre", "code", "script", "style", "math")
FORMULA = re.compile(r"\$[^$\n]{1,200}\$|\\(lVert|frac|nabla|lambda|top)\b")
SUBMODULES = ("damping", "datasets", "diagnostics", "flows", "geometry", "optimizers", "theory")


class Page(HTMLParser):
    """Anchors, links, loaded files and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []
        self._silent = 0
        self.feed(path.read_text("utf-8"))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in VERBATIM

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in VERBATIM
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])
        elif tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(given[LOADED[tag]])


def problems(site: Path) -> list[str]:
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [fault for page in pages.values() for fault in link_faults(page, pages)]
    found += [fault for page in pages.values() for fault in loading_faults(page)]
    for page in pages.values():
        left = FORMULA.search("".join(page.text))
        found += [f"{page.path.name}: a formula left as text, {left[0]}"] if left else []
    for path in sorted((site / "examples").glob("*.html")):
        if path.stem != "index" and "sphx_glr" not in "".join(pages[path.resolve()].loaded):
            found.append(f"{path.name}: no figure")
    names = documented(site)
    found += [f"{name}: not in the reference" for name in public_names() if name not in names]
    return found


def link_faults(page: Page, pages: dict[Path, Page]) -> list[str]:
    found = []
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (
            (page.path.parent / unquote(parts.path)).resolve()
            if parts.path
            else page.path.resolve()
        )
        if not target.exists():
            found.append(f"{page.path.name}: no {link}")
        elif (
            parts.fragment
            and target in pages
            and unquote(parts.fragment) not in pages[target].anchors
        ):
            found.append(f"{page.path.name}: no anchor {link}")
    return found


def loading_faults(page: Page) -> list[str]:
    found = []
    for link in page.loaded:
        parts = urlsplit(link)
        if parts.scheme == "data":
            continue
        if parts.scheme or parts.netloc:
            found.append(f"{page.path.name}: loads {link} from the network")
        elif not (page.path.parent / unquote(parts.path)).exists():
            found.append(f"{page.path.name}: no file {link}")
    return found


def documented(site: Path) -> set[str]:
    """Names in objects.inv: four lines of text, then compressed lines "name domain:role ..."."""
    compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(compressed).decode().splitlines()
    return {line.split(" ")[0] for line in lines if " py:" in line}


def public_names() -> list[str]:
    names = [f"gnmanifold.{name}" for name in gnmanifold.__all__]
    for module in SUBMODULES:
        exported = importlib.import_module(f"gnmanifold.{module}").__all__
        names += [f"gnmanifold.{module}.{name}" for name in exported]
    return names


if __name__ == "__main__":
    faults = problems(Path(sys.argv[1]))
    print("\n".join(faults) or "the site is whole")
    sys.exit(bool(faults))
