"""Links between pages: in the sources as a code-hosting site follows them, here as the site needs them.

Lessons, the API and the documents outside `docs` have pages of their own on the site, whose sources the
build writes.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

LESSON = re.compile(r"lessons/(plot_\w+)\.py")

# Files of the repository, by their path from `docs`, and the page of the site that takes their place.
PAGES = {
    "../CONTRIBUTING.md": "reference/contributing.md",
    "../README.md": "index.md",
    "../benchmarks/NOTES.md": "reference/benchmark-notes.md",
    "../examples/README.md": "reference/examples.md",
    "../notebooks/README.md": "reference/notebooks.md",
    "lessons/GALLERY_HEADER.rst": "how-it-works/index.rst",
    "../nst_jax/__init__.py": "reference/nst_jax.rst",
}
PACKAGE = re.compile(r"\.\./nst_jax/(\w+)/__init__\.py")

LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)")  # the target of a link, without its anchor


def on_site(target: str) -> str:
    """Return where a link leads on the site; both are paths from `docs`."""
    if target in PAGES:
        return PAGES[target]
    if (found := LESSON.fullmatch(target)) is not None:
        return f"how-it-works/{found[1]}.rst"
    if (found := PACKAGE.fullmatch(target)) is not None:
        return f"reference/nst_jax.{found[1]}.rst"
    return target


def rewritten(text: str, folder: str = "", to: str = "") -> str:
    """Return Markdown whose links lead to pages of the site.

    Args:
      text: the Markdown.
      folder: the folder of the source, as a path from `docs`: `""` for a page, `".."` for CONTRIBUTING.
      to: the folder of the page on the site, as a path from `docs`.
    """

    def moved(found: re.Match[str]) -> str:
        target = normal(PurePosixPath(folder, found[1]))
        up = "../" * len(PurePosixPath(to).parts)
        return f"]({up}{on_site(target)}"

    return LINK.sub(moved, text)


def normal(path: PurePosixPath) -> str:
    """Return a path without `..` where it can be resolved, and one into `docs` from there."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts).removeprefix("../docs/")


def rewrite(app: Any, page: str, source: list[str]) -> None:
    """Rewrite the links of a Markdown page of `docs`; for sphinx's event `source-read`."""
    if Path(app.env.doc2path(page)).suffix == ".md" and "/" not in page:
        source[0] = rewritten(source[0])
