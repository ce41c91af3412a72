"""What sphinx-gallery asks of a project: order, arguments and figures of the examples."""

import os
import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDER = (
    "quickstart",
    "can_i_trust_my_intervals",
    "levenberg_marquardt_nist",
    "geometry_tour",
    "curvature_report",
    "one_idea_many_methods",
    "deep_network_without_matrices",
    "cayci_v1_underparameterized",
    "cayci_v5_function_space",
    "cayci_v5_overparameterized",
    "cayci_v5_underparameterized",
    "cayci_v5_convexity",
    "cayci_discrete_time",
    "cayci_general_loss",
    "cayci_implicit_bias",
    "cayci_deep_networks",
    "boumal_newton_and_gauss_newton",
    "boumal_filtered_hessian",
    "boumal_hessian_metric_flows",
    "second_order_methods",
    "second_order_metrics",
    "second_order_networks",
)


def order(filename: str) -> int:
    """Place of an example in the gallery; one that is not listed is an error, not the last."""
    return ORDER.index(Path(filename).stem)


def arguments(_: Any, __: Any) -> list[str]:
    return [] if os.environ.get("GNMANIFOLD_FULL") else ["--quick"]


def scrape(_: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The PNG files that a block of an example has written, as images of its page."""
    written = [
        path
        for path in sorted(
            (EXAMPLES / "output").rglob("*.png"), key=lambda each: each.stat().st_mtime
        )
        if _new(path)
    ]
    images = []
    for source, target in zip(written, block_vars["image_path_iterator"], strict=False):
        shutil.copyfile(source, target)
        images.append(target)
    # one by one, each as wide as the page
    return "".join(figure_rst([image], gallery_conf["src_dir"]) for image in images)


_seen: dict[Path, float] = {}


def _new(path: Path) -> bool:
    time = path.stat().st_mtime
    known = _seen.get(path, _started)
    _seen[path] = time
    return time > known


_started = max((path.stat().st_mtime for path in (EXAMPLES / "output").rglob("*.png")), default=0.0)
