from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from functools import partial

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from kanlens.errors import DTypeError, OutputError
from kanlens.plotting import _style
from kanlens.plotting._style import (
    STYLE,
    context,
    distinct,
    fitted,
    literal,
    save,
    text_width,
    to_svg,
)

NASTY = '$x_{1 <b> & "q" url(#p) a_b^c -- %'


def picture(name="x"):
    with context():
        ax = Figure(figsize=(2, 2)).subplots()
        ax.plot([0, 1], [1, 3], label="line")
        ax.bar([0.5], [1], hatch="//")
        ax.set_xlabel(literal(name))
    return ax


def test_another_style_stays_outside_and_the_dots_of_the_screen_stay():
    with matplotlib.rc_context({"axes.grid": True, "figure.dpi": 130}), context():
        assert not matplotlib.rcParams["axes.grid"]
        assert matplotlib.rcParams["figure.dpi"] == 130


def test_context_gives_settings_back_even_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(KeyError), context():
        assert matplotlib.rcParams["font.size"] == STYLE.text != before["font.size"]
        raise KeyError
    assert dict(matplotlib.rcParams) == before


def test_what_a_notebook_switches_on_stays_on():
    """Its backend comes up inside the first picture, where it turns interactive drawing on."""
    before = matplotlib.is_interactive()
    try:
        for wanted in (True, False):
            matplotlib.interactive(not wanted)
            with context():
                matplotlib.interactive(wanted)
            assert matplotlib.is_interactive() is wanted
    finally:
        matplotlib.interactive(before)


def test_colors_of_series_differ_in_color_and_marker():
    assert len(set(STYLE.series)) == len(STYLE.series) == len(set(STYLE.markers))


@pytest.mark.parametrize("name", ["$x_{1", "a_b^c", "$a$", r"\alpha", "100 %", "a$b$c$"])
def test_literal_names_are_drawn_as_they_are(name, tmp_path):
    from matplotlib.cbook import is_math_text

    escaped = literal(name)
    assert not is_math_text(escaped)
    assert escaped.replace(r"\$", "$") == name
    figure = Figure()
    figure.text(0, 0, escaped)
    save(figure, tmp_path / "a.png")


@pytest.mark.parametrize("most", [8, 12, 20])
def test_shortened_names_stay_distinct(most):
    start = "mean_temperature_of_the_warmest_month"
    names = [f"{start}_{end}" for end in ("of_a_year_north", "of_a_year_south", "", "x", "x")]
    shown = distinct(names, partial(literal, most=most))
    assert len(set(shown)) == 4  # two are the same
    assert shown[3] == shown[4]
    assert max(map(len, shown)) <= most + 3
    assert distinct(["a", "b"], partial(literal, most=most)) == ["a", "b"]


def test_literal_keeps_one_line_and_both_ends():
    assert literal("a\tb\n c") == "a b c"
    short = literal("ocean_proximity=NEAR BAY", most=12)
    assert len(short) == 12
    assert short.startswith("ocean")
    assert short.endswith("R BAY")


def test_fitted_text_is_as_wide_as_its_place():
    shown = fitted("a very long name of a feature", 1.0, 8.0)
    assert 0.6 < text_width(shown, 8.0) <= 1.0
    assert fitted("age", 1.0, 8.0) == "age"


def test_a_width_is_that_of_the_outline(monkeypatch):
    for text in ("age (years)", "Wij g", r"$x_{1}^{2} + \frac{1}{2} e^{y}$"):
        box = TextPath((0, 0), text, size=8.0).get_extents()
        assert text_width(text, 8.0) == box.width / 72
    bow = Path([(0, 0), (72, 5), (0, 10)], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    monkeypatch.setattr(_style, "TextPath", lambda *_, **__: bow)
    assert text_width("(", 8.0) == pytest.approx(0.5)  # the curve turns halfway


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_same_picture_gives_the_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in ("a", "b", "c")]
    for path, name in zip(paths, ("x", "x", "y"), strict=True):
        save(picture(name), path)
    first, second, other = (path.read_bytes() for path in paths)
    assert first == second
    assert first != other
    for word in (b"Matplotlib", b"CreationDate", b"dc:date"):
        assert word not in first


def test_save_draws_the_whole_figure_of_an_axes(tmp_path):
    figure = Figure()
    for ax, name in zip(figure.subplots(1, 2), ("left", "right"), strict=True):
        ax.set_title(name)
    save(figure.axes[0], tmp_path / "a.svg")
    assert ">right<" in (tmp_path / "a.svg").read_text()


def test_save_leaves_an_old_file_when_drawing_fails(tmp_path):
    target = tmp_path / "a.svg"
    target.write_text("old")
    ax = picture()
    ax.set_title("$\\frac{$")
    with pytest.raises(ValueError, match="frac"):
        save(ax, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_save_refuses_other_formats_and_places(tmp_path):
    with pytest.raises(OutputError, match=r"name that ends in \.pdf, \.png, \.svg, got 'a\.jpg'"):
        save(picture(), "a.jpg")
    folder = tmp_path / "a.svg"
    folder.mkdir()
    with pytest.raises(OutputError, match="a folder"):
        save(picture(), folder)
    with pytest.raises(DTypeError, match=r"plot\.save: expected an Axes or a Figure, got str"):
        save("picture", tmp_path / "b.svg")


def test_svg_is_an_element_with_text_and_title():
    svg = to_svg(picture(NASTY), title="a & b < c")
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg")
    assert root.attrib["role"] == "img"
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title.text == "a & b < c"
    words = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert NASTY in [word.strip() for word in words]
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_ids_of_svgs_do_not_clash_and_references_hold():
    first, second = to_svg(picture("x")), to_svg(picture("y"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0].isdisjoint(ids[1])
    for svg, known in zip((first, second), ids, strict=True):
        inside = re.findall(r"<[^<>]+>", svg)
        used = re.findall(r'(?:\bhref="#|url\(#)([^")]+)', " ".join(inside))
        assert used
        assert set(used) <= known
    assert 'id="here-' in to_svg(picture(), prefix="here")
