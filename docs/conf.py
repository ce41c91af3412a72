"""The documentation site: python -m sphinx -W docs docs/_build/html

Examples run in their quick configuration; with GNMANIFOLD_FULL=1 in their full one, some twenty
minutes.
"""

import os
import sys
from pathlib import Path

# before NumPy is loaded: the examples' problems are too small for two pools of threads
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import gnmanifold  # noqa: E402

project = "gnmanifold"
copyright = "2026, the gnmanifold developers"  # noqa: A001, the name Sphinx reads
version = release = gnmanifold.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "breaks",
    "docstrings",
    "layers",
    "mathml",
]
exclude_patterns = ["_build", "figures"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "code"
nitpicky = True
nitpick_ignore_regex = [("py:class", r".*")]  # bases from elsewhere

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # shapes are in the text; the annotations are for the type checker
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"gnmanifold {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["examples"],
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"common\.py$",
    "within_subsection_order": "gallery.order",
    "reset_argv": "gallery.arguments",
    "image_scrapers": ("gallery.scrape",),
    "reset_modules": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e6,
    "write_computation_times": False,
    "copyfile_regex": r"common\.py$",
}
