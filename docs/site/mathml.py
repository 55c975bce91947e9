"""Formulas as MathML, which browsers draw themselves: no script and no font has to be loaded."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def inline(self: Any, node: Any) -> None:
    """Write a formula in a sentence."""
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def display(self: Any, node: Any) -> None:
    """Write a formula on a line of its own."""
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


# For `Sphinx.add_html_math_renderer`: visitors of inline and of displayed formulas.
RENDERER = ((inline, None), (display, None))
