"""The settings of the documentation's build: `sphinx-build -W --keep-going docs build/docs`.

Nothing is fetched: fonts are the system's, formulas are MathML, and there is no intersphinx.
"""

import os
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

# Before the lessons import jax: they are about small pictures, and the same on every machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import nst_jax
from docs.site import links, mathml, reference

project = "nst_jax"
author = "The nst_jax authors"
project_copyright = author
version = release = nst_jax.__version__

extensions = [
    "myst_parser",  # the pages are Markdown, which a code-hosting site shows as well
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings have Google's sections
    "sphinx_gallery.gen_gallery",  # runs the lessons
]
exclude_patterns = ["browser", "lessons", "how-it-works/*.ipynb"]
default_role = "code"  # docstrings write `name` for code

html_theme = "furo"
html_title = "nst_jax"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False

myst_heading_anchors = 3  # headings have the anchors that a code-hosting site gives them

autodoc_typehints = "none"  # the docstrings give shapes and units
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are listed once, in the docstring of their class
napoleon_attr_annotations = False  # shapes in annotations would be read as markup

LESSONS = "how-it-works"  # written by sphinx-gallery from `lessons`
sphinx_gallery_conf = {
    "examples_dirs": ["lessons"],
    "gallery_dirs": [LESSONS],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,  # a page that names seconds would differ from build to build
    "show_memory": False,
    "show_signature": False,
    "plot_gallery": "True",
    "abort_on_example_error": False,
    "capture_repr": (),  # only what a lesson prints is shown, not the objects that plotting returns
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
    "thumbnail_size": (400, 280),
    # On a screen of two pixels for each CSS pixel, figures are drawn twice as fine.
    "image_srcset": ["2x"],
}
suppress_warnings = ["config.cache"]  # classes in `sphinx_gallery_conf` cannot be pickled

# The pages in the order of the navigation, by heading. What is in `docs` and not named here is a
# how-to page, and follows the last of these.
NAVIGATION = {
    "How it works": [f"{LESSONS}/index"],
    "Use it": [
        "command-line",
        "python",
        "web",
        "gallery",
        "instant",
        "controls",
        "texture",
        "dream",
        "train",
        "export",
        "films",
        "reference/notebooks",
    ],
    "How to": [
        "print",
        "fleets",
        "accelerators",
        "own-loss",
        "own-optimizer",
        "own-recipe",
        "service",
        "reference/examples",
    ],
    "Reference": ["recipes", "losses", "reference/commands", "api"],
    "What it promises": ["speed", "scaling", "raters", "quality", "all_recipes", "reliability"],
    "Behind it": ["design", "reference/contributing", "reference/benchmark-notes"],
}


def navigation() -> dict[str, list[str]]:
    """Return the pages under each heading, with those that `NAVIGATION` does not name."""
    named = {page for pages in NAVIGATION.values() for page in pages} | {"index"}
    others = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in named)
    return {**NAVIGATION, "How to": [*NAVIGATION["How to"], *others]}


def with_navigation(app: Any, page: str, source: list[str]) -> None:
    """Add the tables of contents to the start page and to that of the API.

    They are not in the Markdown, where a code-hosting site would show them as a listing.
    """
    del app
    if page == "index":
        for heading, pages in navigation().items():
            source[0] += contents(pages, f":caption: {heading}\n")
    if page == "api":
        source[0] += contents([f"reference/{package}" for package in reference.PACKAGES])


def contents(pages: list[str], options: str = "") -> str:
    """Return a table of contents for the navigation only, in MyST's notation."""
    entries = "\n".join(pages)
    return f"\n```{{toctree}}\n:hidden:\n{options}\n{entries}\n```\n"


def setup(app: Any) -> None:
    """Connect the steps of the build; sphinx calls this."""
    app.add_html_math_renderer("mathml", *mathml.RENDERER)
    app.config.html_math_renderer = "mathml"
    app.connect("builder-inited", lambda app: reference.write(DOCS))
    app.connect("source-read", links.rewrite)
    app.connect("source-read", with_navigation)
    app.connect("autodoc-process-docstring", reference.as_restructured_text, priority=100)
    app.connect("autodoc-skip-member", reference.is_left_out)
