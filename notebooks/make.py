"""Write the notebooks from their texts.

    python -m notebooks.make                                # into `notebooks/`, as they are committed
    python -m notebooks.make --repository OWNER/NAME        # with a badge that opens them in Colab

A text, `text/NAME.md`, is Markdown in which a fenced block "```python TAG" is a cell of code, and
everything between two such blocks is one cell of text. A line `{{NAME}}` stands for the part of that
name in `text/shared.md`, where a part begins with a line `<!-- NAME -->`. Notebooks are committed
without outputs.

With `--repository`, `SOURCE` in each notebook is the address of the repository on GitHub, so that they
run in Colab without a change.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEXTS = HERE / "text"
SHARED = TEXTS / "shared.md"
NO_SOURCE = 'SOURCE = ""'
COLAB = "https://colab.research.google.com"


def names() -> list[str]:
    """Return the names of all notebooks."""
    return sorted(path.stem for path in TEXTS.glob("*.md") if path != SHARED)


def notebook(name: str, repository: str | None = None) -> dict[str, Any]:
    """Return a notebook, in the form of its file.

    Args:
      name: one of `names()`.
      repository: its owner and name on GitHub; None if it is not there.

    Raises:
      ValueError: the text uses a shared part that does not exist, or two cells have the same tag.
    """
    text = _with_parts((TEXTS / f"{name}.md").read_text(encoding="utf-8"))
    if repository:
        text = _opened_in_colab(text, name, repository)
    cells = [_cell(index, part) for index, part in enumerate(_split(text))]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", ())]
    if len(set(tags)) != len(tags):
        raise ValueError(f"{name}.md: two cells have the same tag: {', '.join(tags)}")
    return {
        "cells": cells,
        "metadata": {
            "colab": {"provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def written(name: str, repository: str | None = None) -> str:
    """Return the content of a notebook's file."""
    return json.dumps(notebook(name, repository), indent=1, ensure_ascii=False) + "\n"


def _with_parts(text: str) -> str:
    """Return a text with the shared parts in place of the lines that name them."""
    pieces = re.split(r"^<!-- (\w+) -->\n", SHARED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    parts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    for part in re.findall(r"^\{\{(\w+)\}\}$", text, re.MULTILINE):
        if part not in parts:
            raise ValueError(f"shared.md has no part {part!r}; it has {', '.join(parts)}")
        text = text.replace(f"{{{{{part}}}}}", parts[part].strip())
    return text


def _opened_in_colab(text: str, name: str, repository: str) -> str:
    """Return a text with a badge on top, and the repository as the source of the package."""
    if NO_SOURCE not in text:
        raise ValueError(f"{name}.md has no cell with {NO_SOURCE}")
    page = f"{COLAB}/github/{repository}/blob/main/notebooks/{name}.ipynb"
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({page})"
    source = f'SOURCE = "git+https://github.com/{repository}"'
    return f"{badge}\n\n{text.replace(NO_SOURCE, source)}"


def _split(text: str) -> list[tuple[str, str]]:
    """Return the cells as pairs of a tag and a text; the tag of Markdown is empty."""
    parts = re.split(r"^```python (\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    cells = [("", parts[0])]
    for tag, code, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        cells += [(tag, code), ("", after)]
    return [(tag, cell.strip()) for tag, cell in cells if cell.strip()]


def _cell(index: int, part: tuple[str, str]) -> dict[str, Any]:
    tag, text = part
    lines = text.splitlines(keepends=True)
    if not tag:
        title = re.sub(r"\W+", "-", lines[0].strip("# \n").lower()).strip("-")[:40]
        return {
            "cell_type": "markdown",
            "id": f"{index:02}-about-{title}".rstrip("-"),
            "metadata": {},
            "source": lines,
        }
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"{index:02}-{tag}",
        "metadata": {"tags": [tag]},
        "outputs": [],
        "source": lines,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the notebooks from their texts.")
    parser.add_argument("--repository", help="OWNER/NAME on GitHub: notebooks that open in Colab")
    given = parser.parse_args()
    for one in names():
        (HERE / f"{one}.ipynb").write_text(written(one, given.repository), encoding="utf-8")
