"""The steps by which the documentation's build makes a site of `docs`: links, the reference."""

import inspect
import re
from pathlib import Path

import pytest

import nst_jax as nst
from docs.site import links, reference
from nst_jax import losses
from nst_jax.app import declarations

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("lessons/plot_7_optimizers.py", "how-it-works/plot_7_optimizers.rst"),
        ("../nst_jax/__init__.py", "reference/nst_jax.rst"),
        ("../nst_jax/losses/__init__.py", "reference/nst_jax.losses.rst"),
        ("../CONTRIBUTING.md", "reference/contributing.md"),
        ("speed.md", "speed.md"),
    ],
)
def test_a_file_of_the_repository_has_a_page(target, page):
    assert links.on_site(target) == page


def test_links_are_rewritten_with_their_anchors_and_others_stay():
    text = "[a](../benchmarks/NOTES.md#on-an-h100) [b](#here) [c](https://example.org/a.md) ![d](e.jpg)"
    expected = text.replace("../benchmarks/NOTES.md", "reference/benchmark-notes.md")
    assert links.rewritten(text) == expected


def test_links_of_a_document_outside_docs_lead_from_its_page():
    text = "[a](docs/design.md#kernels) [b](benchmarks/NOTES.md) [c](CONTRIBUTING.md)"
    assert links.rewritten(text, folder="..", to="reference") == (
        "[a](../design.md#kernels) [b](../reference/benchmark-notes.md)"
        " [c](../reference/contributing.md)"
    )


def test_every_page_that_links_lead_to_is_written():
    written = {f"reference/{package}.rst" for package in reference.PACKAGES}
    written |= {f"reference/{page}.md" for page in reference.DOCUMENTS.values()}
    lessons = {f"how-it-works/{path.stem}.rst" for path in DOCS.glob("lessons/plot_*.py")}
    known = written | lessons | {"how-it-works/index.rst"}
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)\s#]+)", links.rewritten(path.read_text())):
            assert target in known or (DOCS / target).exists(), (path.name, target)


def test_markup_in_docstrings_is_escaped_but_not_in_code():
    text = "Of |x| and a * b, with tap_ of `a*b`:\n\nExample:\n  >>> 2 * 3\n  6\n\nThen a * b."
    assert reference.escaped(text) == [
        r"Of \|x\| and a \* b, with tap\_ of `a*b`:",
        "",
        "Example:",
        "  >>> 2 * 3",
        "  6",
        "",
        r"Then a \* b.",
    ]


def test_indented_lines_in_the_docstring_of_a_package_are_code():
    lines = reference.escaped("Say:\n\n    f(*x)\n\nThen.", doctests=False)
    assert lines == ["Say:", "", "::", "", "    f(*x)", "", "Then."]


def test_every_public_package_has_a_page():
    packages = {f"nst_jax.{name}" for name in nst.__all__ if inspect.ismodule(getattr(nst, name))}
    assert {"nst_jax", *packages} == set(reference.PACKAGES)


def test_the_page_of_a_package_has_its_public_names_and_the_comments_on_constants():
    text = reference.package_page("nst_jax.losses")
    for name in losses.__all__:
        if not inspect.ismodule(getattr(losses, name)):
            assert re.search(rf"^\.\. \S+:: (nst_jax\.losses\.)?{name}$", text, re.MULTILINE), name
    assert "mean(dF²), where dF is the difference of the features of the canvas" in text
    assert ":no-index:" in reference.package_page(
        "nst_jax.scaling"
    )  # `Plan` is indexed in `nst_jax`


def test_the_page_of_commands_has_every_command_and_its_help():
    text = reference.commands_page()
    for name in declarations.cli.commands:
        assert f"\n### nst-jax {name}\n\n```text\nUsage: nst-jax {name} " in text
    assert "\n#### nst-jax weights convert\n" in text
