"""The site, made from the Markdown files of the repository: sphinx-build -c docs . OUTPUT.

Its source is the root of the repository, so that links between files are those that a code host follows.
"""

from __future__ import annotations

import calibench

project = "calibench"
author = copyright = "The calibench authors"
version = release = calibench.__version__
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/notebook.ipynb",
    "findings/README.md",
    "results/*.md",
    "results/*/report.md",
    "results/sweep/leaderboard.md",
]
exclude_patterns = [".*"]
extensions = ["myst_nb", "sphinx_external_toc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
external_toc_path = "docs/_toc.yml"

myst_heading_anchors = 3
nb_execution_mode = "off"

# Docstrings have code in single backticks.
default_role = "literal"
add_module_names = False
autodoc_member_order = "bysource"
# Names of the standard library and of other packages have no page here.
nitpick_ignore_regex = [("py:.*", r"(?!calibench\b).*")]

html_theme = "furo"
html_title = "calibench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Where a browser goes that asks for the root.
html_extra_path = ["_root"]
html_copy_source = False
