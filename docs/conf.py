"""How Sphinx builds the pages: `make docs`, into docs/_build/html. They are plain Markdown, and can be read as such."""

import sys
from pathlib import Path

import explain

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "explain"
author = "The explain developers"
project_copyright = author
version = release = explain.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "command_line",  # docs/_ext: the reference of the command line, from the commands
    "kept_pages",  # docs/_ext: docs/live beside the pages, and links to it
]
exclude_patterns = ["_build"]
suppress_warnings = [
    "toc.empty_glob",  # a folder of pages may still be empty
    "ref.python",  # several classes have a name such as Cells: a type in a signature is then no link
]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"  # `explain.cam` in a docstring is a link where the name has a page
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
numpydoc_show_class_members = False  # autodoc lists them
# What of numpydoc's rules holds for public functions (ruff checks the form of docstrings): every parameter is
# described, sections are known and in order. A docstring that breaks a rule is a warning, and `make docs` fails.
numpydoc_validation_checks = {"GL01", "GL03", "GL05", "GL06", "GL07", "GL09", "GL10", "SS01", "SS04", "PR01", "PR02"}
numpydoc_validation_exclude = {
    r"\.[A-Z]\w*(\.\w+)?$",  # classes describe their fields one by one
    r"^explain\.(errors|types|findings|distributed|pictures)\.",  # further modules: what is not public
    r"^explain\.\w+\.(?!discovery\.|effects\.|analyses\.)\w+\.\w",
    r"^explain\.\w+\.(discovery|effects|analyses)\.\w+\.\w",
}

html_theme = "pydata_sphinx_theme"
html_title = f"explain {release}"
html_theme_options = {
    "navigation_with_keys": False,
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_show_sourcelink = False
