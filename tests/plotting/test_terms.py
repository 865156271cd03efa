from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import kanlens
from kanlens.attribution import terms as computed
from kanlens.errors import DTypeError, InvalidValueError, MethodError
from kanlens.plotting import terms, to_svg
from kanlens.plotting._terms import _places
from tests.made import draw, made
from tests.plotting.conftest import labelled, texts, with_units

ROWS = draw(60, 3)
HOSTILE = r"$\frac{x}{$ <b>&\n% " + "name " * 20


@pytest.fixture(scope="module")
def grown():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.uniform(0, 1, 400), HOSTILE: random.normal(size=400)})
    frame["site"] = random.choice([f"{HOSTILE}{k}" for k in range(10)], 400)
    frame["y"] = np.sin(6 * frame["a"]) + frame["site"].str[-1].astype(int) / 3
    frame["y"] += 2 * (frame["a"] - 0.2) * frame[HOSTILE]
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    front = kanlens.frontier(table, progress=False, generator=generator)
    return computed(front.simplest, table.x)


def test_panels_are_terms_by_importance(ax):
    model = with_units(made([3, 1]), ["kg", "a", "m"], "EUR")
    result = computed(model, ROWS)
    assert terms(model, ROWS, ax=ax) is ax
    names = [term.name for term in result.terms]
    units = dict(zip(model.feature_names, ["kg", "a", "m"], strict=True))
    titles = [panel.get_title(loc="left") for panel in ax.child_axes]
    assert titles == [f"{name} ({units[name]})" for name in names]
    for panel, term in zip(ax.child_axes, result.terms, strict=True):
        curve = labelled(panel, "_curve")
        np.testing.assert_array_equal(curve.get_ydata(), term.factors[0][0].values)
        assert labelled(panel, "_density") is not None
    assert len({panel.get_ylim() for panel in ax.child_axes}) == 1
    assert texts(ax)[0] == "term of y (EUR)"
    assert texts(ax)[1] == "numbers: standard deviations over 60 rows"


@pytest.mark.slow  # draws pictures
def test_surfaces_levels_and_hostile_names(grown, ax):
    terms(grown, ax=ax)
    kinds = [term.kind for term in grown.terms]
    assert {"curve", "surface"} == set(kinds)
    surface = ax.child_axes[kinds.index("surface")]
    assert surface.get_xlabel() == "a"
    assert surface.child_axes  # color bar
    place = [term.name for term in grown.terms].index("site")
    levels = ax.child_axes[place]
    assert labelled(levels, "_levels") is not None
    assert len(levels.get_yticks()) == 8
    assert levels.get_xlabel() == "the 8 most frequent of 10"
    assert "name" in to_svg(ax)  # written as it is


def with_link():
    x = np.random.default_rng(1).uniform(0, 1, (400, 2))
    y = np.exp(3 * x[:, 0] + x[:, 1] ** 2)
    generator = torch.Generator().manual_seed(0)
    return kanlens.frontier((x, y), progress=False, generator=generator).simplest, x


@pytest.mark.slow  # draws pictures
def test_the_link_is_the_last_panel(ax):
    model, x = with_link()
    result = computed(model, x)
    terms(result, ax=ax)
    last = ax.child_axes[-1]
    assert (last.get_title(loc="left"), last.get_xlabel()) == ("link: y", "sum of terms")
    np.testing.assert_array_equal(labelled(last, "_curve").get_ydata(), result.link.values)
    assert texts(ax)[0] == "term of the sum before the link"

    terms(model, x[:1], ax=Figure().subplots())  # of a single row


def test_outliers_are_counted_and_not_drawn(ax):
    rows = ROWS.clone()
    rows[7, 0] = 1e12
    terms(made([3, 1]), rows, ax=ax)
    (panel,) = (panel for panel in ax.child_axes if panel.get_title(loc="left") == "x1")
    assert panel.get_xlim()[1] < 5
    assert panel.get_xlabel() == "1 row outside"


def test_one_of_several_classes_is_named_and_a_note_is_wrapped():
    frame = pd.DataFrame({"a": np.linspace(0, 1, 60), "b": np.linspace(0, 1, 60) ** 2})
    frame["kind"] = np.array(["low", "middle", "high"])[np.arange(60) // 20]
    table = kanlens.read_table(frame, target="kind")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([2, 3], generator=generator).double()
    kanlens.fit(model, table, steps=2, progress=False, generator=generator)
    axes = terms(model, table.x, table.y, target=0, most=1)
    words, note = axes.texts
    name = f"term of {model.output_names[0]}, one of 3 classes (log-odds)"
    assert " ".join(words.get_text().split()) == name
    assert note.get_text().count("\n") == 2
    assert note.get_window_extent().x0 >= 0
    assert words.get_window_extent().y0 >= 0


@pytest.mark.slow  # draws pictures
def test_bands_are_shaded(ax):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.uniform(size=200), "k": random.choice(["u", "v"], 200)})
    frame["y"] = frame["a"] + (frame["k"] == "u") + 0.3 * random.normal(size=200)
    table = kanlens.read_table(frame, target="y")
    model = kanlens.fit_default(table, hidden=(), progress=False).model
    result = computed(model, table.x, table.y)
    terms(model, table.x, table.y, ax=ax)
    for panel, term in zip(ax.child_axes, result.terms, strict=True):
        band, low = labelled(panel, "_band"), float(term.factors[0][0].band.min())
        ends = [path.vertices for path in band.get_paths()]
        axis = 1 if term.name == "a" else 0
        assert min(float(end[:, axis].min()) for end in ends) == pytest.approx(low)
        assert panel.get_legend() is None
    assert texts(ax)[1].endswith("over 200 rows; shaded: 95% bands")


def test_a_product_of_sums_is_two_panels(ax):
    terms(made([3, (0, 1)]), ROWS, ax=ax)
    first, second = ax.child_axes
    assert first.get_title(loc="left").startswith("(x1 + ")
    assert second.get_title(loc="left").startswith("\N{MULTIPLICATION SIGN} (")
    assert [line.get_label() for line in first.lines] == ["x1", "x2", "x3"]
    top = max(line.get_ydata().max() for line in first.lines)
    assert first.get_legend().get_window_extent().y0 > first.transData.transform((0, top))[1]


def test_terms_beyond_the_most_are_counted(ax):
    model = made([3, 1])
    rest = computed(model, ROWS).terms[2].importance
    terms(model, ROWS, most=2, ax=ax)
    assert len(ax.child_axes) == 2
    assert texts(ax)[1].endswith(f"; 1 more term, of at most {rest:.2g}")


@pytest.mark.parametrize(
    ("widths", "places", "columns"),
    [
        ([1], [0], 1),
        ([1, 1, 1, 1], [0, 1, 2, 3], 2),
        ([2, 2], [0, 1, 2, 3], 2),
        ([1, 1, 2, 1, 1], [0, 1, 3, 4, 2, 5], 3),
    ],
)
def test_two_panels_of_a_product_are_in_one_row(widths, places, columns):
    assert _places(widths) == (places, columns)


def test_a_new_figure_has_room():
    axes = terms(made([3, 2]), ROWS, target=1)
    assert axes.figure.get_size_inches()[0] == pytest.approx(7.0, abs=0.1)


def test_terms_of_other_models_are_refused(ax):
    with pytest.raises(MethodError, match=r"plot\.terms: expected a model of one layer"):
        terms(made([3, 2, 1]), ROWS)
    with pytest.raises(InvalidValueError, match="no x, y or target with Terms"):
        terms(computed(made([3, 1]), ROWS), ROWS)
    with pytest.raises(InvalidValueError, match="most"):
        terms(made([3, 1]), ROWS, most=0)
    with pytest.raises(DTypeError, match="a KAN, got str"):
        terms("model", ROWS, ax=Figure().subplots())
