from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import kanlens
from kanlens.attribution import effect as computed
from kanlens.attribution import terms
from kanlens.errors import DTypeError, InvalidValueError, MethodError
from kanlens.model._network import KAN
from kanlens.plotting import effect, to_svg
from tests.made import calibrated, draw, made
from tests.plotting.conftest import labelled, texts, with_units

HOSTILE = r"$\frac{x}{$ <b>&\n% " + "name " * 20
ROWS = draw(40, 3)


def of_levels(count):
    frame = pd.DataFrame(
        {
            HOSTILE: [f"{HOSTILE}{k % count}" for k in range(3 * count)],
            "size": np.linspace(0, 1, 3 * count) ** 2,
            "y": np.arange(3.0 * count),
        }
    )
    read = kanlens.read_table(frame, target="y", categorical=[HOSTILE])
    base = made([len(read.schema.features), 2, 1])
    return KAN.from_layers(list(base.layers), read.schema), read.x


def xy(ax, label):
    found: Any = labelled(ax, label)
    return np.asarray(found.get_xydata())


def color(ax, point):
    """What is painted at a point of the axes."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    painted = np.asarray(canvas.buffer_rgba())[::-1]
    column, row = ax.transData.transform(point)
    return painted[round(row), round(column), :3]


def test_a_curve_carries_the_numbers_and_the_rows(ax):
    model = with_units(made([3, 3, 1]), ["kg", "a", "m"], "EUR")
    found = computed(model, "x2", ROWS)
    assert effect(model, "x2", ROWS, ax=ax) is ax
    np.testing.assert_array_equal(
        xy(ax, "_curve"), np.stack([found.settings[0].x, found.values], 1)
    )
    lines: Any = labelled(ax, "_ice")
    np.testing.assert_array_equal([path.vertices[:, 1] for path in lines.get_paths()], found.ice)
    strip: Any = labelled(ax, "_density")
    assert strip.get_paths()[0].vertices[:, 1].max() == pytest.approx(0.13)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x2 (a)", "effect on y (EUR)")


def test_a_missing_cell_is_at_the_border(ax):
    frame = pd.DataFrame({"a": [1.0, None, 3.0, 4.5, None, 2.0] * 4, "y": range(24)})
    table = kanlens.read_table(frame, target="y")
    model = made([2, 1])
    model.schema = table.schema
    found = computed(model, "a", table.x)
    effect(found, ax=ax)
    assert xy(ax, "_missing").tolist() == [[1.0, found.missing]]
    low, high = ax.get_ylim()
    assert low < found.missing < high
    assert "missing" in [text.get_text() for text in ax.texts]


def test_where_no_data_are_is_gray(ax):
    rows = ROWS.clone()
    rows[0, 1] = 9.0  # far from all others
    effect(made([3, 3, 1]), "x2", rows, ax=ax)
    shaded = [one for one in ax.patches if one.get_label() == "_no data"]
    assert [np.allclose(one.get_facecolor()[:3], 239 / 255) for one in shaded] == [True] * 3
    gap = sorted(one.get_window_extent().width for one in shaded)[-1]
    assert gap > 0.4 * ax.get_window_extent().width
    second = rows[:, 1].sort().values[-2]
    known = [one.get_x() for one in shaded]
    assert min(abs(left - float(second)) for left in known) < 1e-9


@pytest.mark.parametrize("other", [None, "x2"])
def test_outliers_are_counted_and_not_drawn(ax, other):
    rows = draw(60, 3)
    rows[7, 0] = 1e12
    effect(made([3, 2, 1]), "x1", rows, other=other, ax=ax)
    low, high = ax.get_xlim()
    assert rows[:, 0].min() - 0.5 < low < high < rows[:, 0].sort().values[-2] + 0.5
    assert ax.get_title(loc="right") == "1 row outside"
    effect(made([3, 2, 1]), "x1", draw(60, 3), other=other, ax=Figure().subplots())


def test_levels_have_names_values_and_shares(ax):
    model, x = of_levels(4)
    found = computed(model, HOSTILE, x)
    effect(found, ax=ax)
    np.testing.assert_array_equal(xy(ax, "_levels")[:, 0], found.values)
    assert xy(ax, "_ice").shape == (4 * len(found.ice), 2)
    names = [one.get_text() for one in ax.get_yticklabels()]
    assert len(set(names)) == 4
    assert texts(ax) == ["25%"] * 4
    assert to_svg(ax).count("frac") >= 4  # written as it is


@pytest.mark.slow  # takes a while
def test_many_levels_are_the_most_frequent(ax):
    model, x = of_levels(33)
    effect(model, HOSTILE, torch.cat([x, x[32:33]]), ax=ax)
    assert len(xy(ax, "_levels")) == 30
    assert ax.get_title(loc="left").endswith("the 30 most frequent of 33")


def test_a_constant_feature_is_a_point(ax):
    rows = ROWS.clone()
    rows[:, 0] = 3.0
    np.testing.assert_allclose(
        xy(effect(made([3, 2, 1]), 0, rows, ax=ax), "_levels"), [[0, 0]], atol=1e-12
    )
    flat = effect(made([3, 2, 1]), 0, rows, other=1)
    assert flat.get_yticklabels()


def test_a_surface_is_gray_where_no_rows_are_near(ax):
    rows = ROWS.clone()
    rows[:, 1] = rows[:, 0] + 0.01 * rows[:, 1]  # on a line
    found = computed(made([3, 2, 1]), 0, rows, other=1)
    effect(found, ax=ax)
    np.testing.assert_array_equal(xy(ax, "_data"), rows[:, :2])
    ends = np.stack([rows[:, :2].amin(0), rows[:, :2].amax(0)])
    corner, middle = ends[[0, 1], [0, 1]] * [0.98, 0.98], np.median(rows[:, :2], axis=0)
    assert np.allclose(color(ax, corner), 0xDD)
    assert not np.allclose(color(ax, middle + 0.02 * (ends[1] - ends[0])), 0xDD)


def test_a_surface_of_levels_has_cells(ax):
    model, x = of_levels(3)
    found = computed(model, "size", x, other=HOSTILE)
    effect(found, ax=ax)
    cells = ax.collections[0].get_array()
    assert cells.shape == found.values.T.shape
    np.testing.assert_array_equal(cells.data, found.values.T)
    assert cells.mask.any()
    assert len(ax.get_yticklabels()) == 3


def test_nothing_changes_anywhere(ax):
    model = made([3, 2, 1])
    with torch.no_grad():
        model.layers[0].mask[:, :2] = 0
    effect(model, 0, ROWS, ax=ax)
    effect(model, 0, ROWS, other=1)


def test_what_is_refused():
    found = computed(made([3, 1]), 0, ROWS)
    with pytest.raises(InvalidValueError) as caught:
        effect(found, "x1")
    assert str(caught.value) == (
        "plot.effect: expected no feature, data, target, other or y with an Effect, "
        "got at least one. Leave them out."
    )
    with pytest.raises(MethodError, match=r"^plot.effect: expected rows of data, got None\."):
        effect(KAN([2, 1]), 0)
    with pytest.raises(InvalidValueError, match=r"^plot.effect: expected a feature .* got None\."):
        effect(made([3, 1]))
    with pytest.raises(DTypeError, match=r"^plot.effect: expected a KAN, got dict\."):
        effect({}, 0)


@pytest.mark.slow  # draws pictures
def test_several_models_are_their_mean_and_spread(ax):
    models = [made([3, 3, 1], seed=seed) for seed in range(4)]
    each = torch.stack([computed(one, 1, ROWS).values for one in models])
    found = computed(models, 1, ROWS)
    torch.testing.assert_close(found.values, each.mean(0))
    assert found.ice is None
    effect(models, 1, ROWS, ax=ax)
    band: Any = labelled(ax, "range of 4 models")
    corners = band.get_paths()[0].vertices
    for x, low, high in zip(found.settings[0].x, each.amin(0), each.amax(0), strict=True):
        heights = corners[corners[:, 0] == float(x)][:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((float(low), float(high)))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["range of 4 models"]
    effect(models * 6, 1, ROWS, ax=ax)
    many: Any = labelled(ax, "5% to 95% of 24 models")
    lowest = each.repeat(6, 1).quantile(0.05, dim=0)
    assert many.get_paths()[0].vertices[:, 1].min() == pytest.approx(float(lowest.min()))
    assert computed(models[0], 1, ROWS).members is None


def test_several_models_of_levels_and_of_two_features(ax):
    model, x = of_levels(4)
    effect([model, model], HOSTILE, x, ax=ax)
    spread: Any = labelled(ax, "range of 2 models")
    assert len(spread.get_segments()) == 4
    pair = computed([made([3, 2, 1]), made([3, 2, 1], seed=1)], 0, ROWS, other=1)
    torch.testing.assert_close(pair.values, pair.members.mean(0))
    with pytest.raises(InvalidValueError, match="effect: expected effects of all models on"):
        computed([made([3, 1]), with_units(made([3, 2]), "abc", "m")], 0, ROWS, target=0)
    with pytest.raises(InvalidValueError, match="effect: expected models, got none"):
        computed([], 0, ROWS)


def of_days(first: str, last: str, step: int) -> tuple[KAN, torch.Tensor]:
    days = np.arange(first, last, step, dtype="datetime64[D]")
    frame = pd.DataFrame({"sold": days.astype(str), "y": np.arange(len(days)) ** 0.5})
    read = kanlens.read_table(frame, target="y")
    base = made([len(read.schema.features), 2, 1])
    return KAN.from_layers(list(base.layers), read.schema), read.x


def test_days_are_named_by_their_dates(ax):
    model, x = of_days("2019-03-01", "2021-08-20", 3)
    effect(model, "sold", x, ax=ax)
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    names = {
        round(float(p)): t.get_text()
        for p, t in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    }
    for year in (2020, 2021):
        assert names[int(np.datetime64(f"{year}-01-01", "D").astype(int))] == str(year)
    assert ax.get_xlabel() == "sold.days"
    model, x = of_days("2021-03-14", "2021-03-16", 1)
    assert computed(model, "sold", x).settings[0].labels == ("2021-03-14", "2021-03-15")
    x[0, -1] += 0.25
    assert computed(model, "sold", x).settings[0].labels[0] == "2021-03-14 06:00:00"


def test_days_beyond_the_calendar_are_numbers(ax):
    model, x = of_days("2019-03-01", "2021-08-20", 3)
    x[:, -1] *= 1000
    effect(model, "sold", x, ax=ax)
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    assert ax.get_xlabel() == "sold.days (d)"


def test_a_surface_names_days_by_their_dates(ax):
    model, x = of_days("2019-03-01", "2021-08-20", 3)
    effect(model, "sold.month", x, other="sold", ax=ax)
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    assert {"2020", "2021"} <= {text.get_text() for text in ax.get_yticklabels()}


@pytest.mark.parametrize("wide", [0.3, 2.0, 50.0])
@pytest.mark.slow  # takes a while
def test_a_log_scale_has_an_axis_of_factors(ax, wide):
    model, x = calibrated("poisson")
    with torch.no_grad():
        model.output_scale.fill_(wide)
    found = computed(model, "x1", x, target=0)
    frame = found.to_frame()
    np.testing.assert_allclose(frame["factor"], np.exp(frame["effect"]))
    effect(found, ax=ax)
    (second,) = ax.child_axes
    assert second.get_ylabel() == "factor of the rate"
    FigureCanvasAgg(ax.figure).draw()
    np.testing.assert_allclose(second.get_ylim(), np.exp(ax.get_ylim()))
    inside = [
        t for t in second.get_yticks() if np.exp(ax.get_ylim()[0]) <= t <= np.exp(ax.get_ylim()[1])
    ]
    assert 2 <= len(inside) <= 9
    plain = effect(made([3, 3, 1]), "x2", ROWS, ax=Figure().subplots())
    assert not plain.child_axes and "factor" not in computed(made([3, 3, 1]), "x2", ROWS).to_frame()


def test_levels_of_a_classifier_have_an_axis_of_odds(ax):
    frame = pd.DataFrame({"kind": ["u", "v", "w"] * 10, "y": ["no", "yes", "no", "yes", "no"] * 6})
    table = kanlens.read_table(frame, target="y")
    model = kanlens.fit_default(table, hidden=(), progress=False).model
    assert model.edges_alive == 0
    (second,) = effect(model, "kind", table, ax=ax).child_axes
    assert second.get_xlabel() == "factor of the odds"


def test_the_curve_of_a_sum_has_the_band_of_its_term(ax):
    x = draw(80, 2)
    y = x[:, 0] + 0.1 * draw(80)
    model = kanlens.fit_default((x, y), hidden=(), progress=False).model
    effect(model, "x1", x, y=y, ax=ax)
    found = terms(model, x, y).curve("x1")
    band: Any = labelled(ax, "_band")
    ends = band.get_paths()[0].vertices[:, 1]
    assert [ends.min(), ends.max()] == pytest.approx(
        [float(found.band.min()), float(found.band.max())]
    )
    with pytest.raises(InvalidValueError, match="expected feature to be"):
        effect(model, "x9", x, y=y)
