from __future__ import annotations

import re

import matplotlib as mpl
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

from kanlens.reporting.drawing import draw
from tests.reporting.page import Page


def paint(*, ax: Axes) -> None:
    ax.plot([0, 1 / 3], [0.123456, 2])
    ax.set_xlabel("<b> 0.123456")


def test_a_picture_is_one_escaped_element_with_a_title() -> None:
    found = draw(paint, (3, 2), alt='<i> & "x"', caption="c", title="t")
    page = Page(found.svg)
    assert page.unbalanced == []
    assert page.foreign() == []
    assert len(page.of("svg")) == 1
    assert '<i> & "x"' in page.text
    assert "<b> 0.123456" in page.text, "texts keep their digits"
    assert (found.caption, found.title) == ("c", "t")


def test_coordinates_are_shortened() -> None:
    svg = draw(paint, (3, 2), alt="a", caption="").svg
    paths = re.findall(r'<path d="([^"]*)"', svg)
    assert paths
    assert not any(re.search(r"\.\d{3}", path) for path in paths)


def test_a_picture_scales_with_the_page() -> None:
    head = draw(paint, (3, 2), alt="a", caption="").svg.split(">")[0]
    assert re.search(r'style="width:\d+px;min-width:\d+px"', head)
    assert 'width="' not in head.replace("viewBox", "")


def test_drawing_leaves_matplotlib_alone() -> None:
    before, open_figures = dict(mpl.rcParams), pyplot.get_fignums()
    draw(paint, (3, 2), alt="a", caption="")
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == open_figures


def test_equal_pictures_are_equal_bytes() -> None:
    assert draw(paint, (3, 2), alt="a", caption="") == draw(paint, (3, 2), alt="a", caption="")
    other = draw(lambda ax: ax.plot([0, 1], [1, 0]), (3, 2), alt="a", caption="")
    assert other != draw(paint, (3, 2), alt="a", caption="")


def test_what_fails_in_drawing_is_not_hidden() -> None:
    def broken(*, ax: Axes) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        draw(broken, (3, 2), alt="a", caption="")
