"""Formulas as MathML, which browsers draw themselves: pages need no network and no script."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

from sources.writing import braced


def draw(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula into the page."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(braced(node.astext()), as_block=block)
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(draw, None), block_renderers=(draw, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
