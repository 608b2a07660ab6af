"""The documentation site: `make docs` builds it into docs/_build/html, without a network.

`reference/*.rst` is written anew at each build: a page per package, made from its docstrings.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference_pages import as_restructured_text, short_types, write_pages  # noqa: E402

import retain  # noqa: E402

project = "retain"
author = "the authors of retain"
release = version = retain.__version__
html_title = f"retain {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "examples", "grafana"]
highlight_language = "none"  # drawings and formulas are indented; code says its language

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
OPTIONAL = ["diffusers", "triton", "viser"]  # what some module imports at its top
autodoc_mock_imports = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
# Classes of one short name in two modules: a bare `Frame` in a signature could be either.
suppress_warnings = ["ref.python"]

write_pages(HERE.parent, HERE / "reference")


def link_files_outside(app, name, source):  # type: ignore[no-untyped-def]
    """What lies outside docs/ (model cards) is offered as a file; on GitHub the link is a page."""
    out = "../" * (name.count("/") + 1)
    source[0] = source[0].replace(f"]({out}", f"](path:{out}")


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("source-read", link_files_outside)
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-process-signature", short_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}  # for sphinx-build -j
