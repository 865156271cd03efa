from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens.reporting._drawing import ENLARGED, draw, shortened_path
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


def test_a_picture_scales_with_the_page() -> None:
    head = draw(paint, (3, 2), alt="a", caption="").svg.split(">")[0]
    assert re.search(r'style="width:\d+px;min-width:\d+px"', head)
    assert 'width="' not in head.replace("viewBox", "")


def corners(path: str) -> list[Any]:
    """Return the points of the lines of a path, one array a line, as a browser reads its steps."""
    lines: list[list[Any]] = []
    for command, text in re.findall("([MlzLqc])([^MlzLqc]*)", path):
        steps = np.array(re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text), float).reshape(-1, 2)
        if command == "M":
            lines.append([steps[0]])
        elif command == "L":
            lines[-1] += [*steps]
        elif command == "l":
            lines[-1] += [lines[-1][-1] + step for step in steps.cumsum(0)]
    return [np.array(line) for line in lines]


def furthest(points: Any, line: Any) -> float:
    """Return how far the furthest of some points is from a line, in pixels of the page."""
    start, way = line[:-1], np.diff(line, axis=0)
    rest = points[:, None] - start
    lengths = np.maximum((way**2).sum(1), 1e-30)
    share = np.clip((rest * way).sum(2) / lengths, 0, 1)
    off = np.linalg.norm(rest - share[..., None] * way, axis=2).min(1)
    return float(off.max() * ENLARGED * 4 / 3)


def test_lines_are_short_and_off_by_less_than_a_tenth_of_a_pixel() -> None:
    draws, x = np.random.default_rng(0), np.linspace(0, 200, 400)
    for y in (50 + 40 * np.sin(x / 9), draws.normal(60, 20, 400), np.zeros(400), x**2 / 500):
        points = np.stack([x + 3.14159, y], 1)
        long = "M {} {} ".format(*points[0]) + " ".join(f"L {a} {b}" for a, b in points[1:])
        short = shortened_path(long)
        (line,) = corners(short)
        assert max(furthest(points, line), furthest(line, points)) < 0.1
        assert len(short) < len(long) / 3
        assert furthest(points, line + np.array([0, 0.1])) > 0.1
    assert shortened_path("M 1 1 L 1 1 M 0 0.5 Q 1 2 3 4 z") == "M1 1l0 0M0 .5q1 1.5 3 3.5z"
    assert shortened_path("M 0 0 L 10 0 L 10 10 L 0 0 z") == "M0 0l10 0 0 10-10-10z"


def curve(*, ax: Axes) -> None:
    x = np.linspace(-1, 2, 301)
    ax.plot(x, 1234 * np.sin(x), label="_curve")
    ax.set_xlabel(r"cost in \$")


def test_a_curve_tells_its_values() -> None:
    (told,) = [values for values in Page(draw(curve, (3, 2)).svg).of("g") if "data-x" in values]
    assert (told["class"], told["data-name"], told["data-of"]) == ("curve", "cost in $", "")
    x, y = (decoded(told[key]) for key in ("data-x", "data-y"))
    assert len(x) == len(y) == 101
    true = np.linspace(-1, 2, 301)[::3]
    assert x == [f"{value:.3f}" for value in true]
    assert y == [f"{value:.0f}" for value in 1234 * np.sin(true)]


def decoded(text: str) -> list[str]:
    places, *steps = map(int, text.split())
    return [f"{value / 10**places:.{places}f}" for value in np.cumsum(steps)]


def test_colors_follow_the_page_unless_they_are_a_scale() -> None:
    def scale(*, ax: Axes) -> None:
        ax.scatter(range(40), range(40), c=range(40))

    plain, plate = (draw(one, (3, 2)).svg for one in (curve, scale))
    assert "var(--k-ink,#1b1b1b)" in plain
    assert [Page(svg).of("svg")[0].get("class") for svg in (plain, plate)] == [
        "small",
        "plate small",
    ]
    assert "style" not in {key for _, values in Page(plain).tags[1:] for key in values}


def test_names_with_what_xml_forbids_are_drawn() -> None:
    svg = draw(lambda ax: ax.set_xlabel("a\x07b<c>"), (3, 2)).svg
    assert "a\N{REPLACEMENT CHARACTER}b<c>" in Page(svg).text
