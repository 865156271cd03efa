"""Sphinx configuration: pages by MyST, the API by numpydoc, tutorials as they were executed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from sources.commands import command_help
from sources.measured import measured
from sources.registries import registry_tables

import kanlens

project = "kanlens"
author = "The kanlens authors"
copyright = "the kanlens authors"
release = version = kanlens.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sources.mathml",
]
exclude_patterns = ["_build", "jupyter_execute", "tutorials/cluster"]
templates_path = ["templates"]
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"commands": command_help(), "measured": measured(), **registry_tables()}
nb_execution_mode = "off"

sys.modules["kanlens.plot"] = kanlens.plot  # the name that users write
autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
default_role = "obj"
highlight_language = "none"  # of a block that names none: shell and output
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "kanlens"
html_static_path = ["_static"]
html_css_files = ["kanlens.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "kanlens"},
    "show_nav_level": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "architecture": []}

linkcheck_ignore = [r"https?://.*"]  # only what stands on these pages: builds have no network

shutil.rmtree(HERE / "tutorials", ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials")
for page in (HERE / "tutorials").glob("*.ipynb"):  # one folder deeper than where they were written
    page.write_text(page.read_text().replace("](../figures/", "](../../figures/"))
