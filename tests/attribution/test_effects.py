"""Effects against their definitions, written as loops over rows and points."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.attribution import _effects as effects
from kanlens.attribution import effect
from kanlens.errors import DataError, InvalidValueError, MethodError, ShapeError
from kanlens.model import _analysis as analysis
from kanlens.model._analysis import separates
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.made import draw, made

ROWS = draw(24, 3, seed=3)
NETWORKS: dict[str, dict[str, Any]] = {
    "sums": {"widths": [3, 4, 2]},
    "products": {"widths": [3, (1, [2, 3]), (1, 1)], "scaled_nodes": True},
    "functions": {"widths": [3, 2, 2], "functions": True},
    "normalized": {"widths": [3, 4, 2], "normalized": [3, 0]},
}
CITIES = ["Oslo", "Bergen", "a $very$ <b>long</b>\nname"]


def held(found):
    return [one.codes for one in found.settings]


def output(model, row, columns, code, target):
    changed = row.clone()
    changed[columns] = code
    return float(model(changed[None]).detach()[0, target])


def dependence(model, rows, found, target):
    """The mean output over the rows, point by point."""
    columns = [column for one in found.settings for column in one.columns]
    codes = [
        torch.cat([first, *second])
        for first in found.settings[0].codes
        for second in ([[one] for one in found.settings[1].codes] if found.settings[1:] else [[]])
    ]
    means = [np.mean([output(model, row, columns, code, target) for row in rows]) for code in codes]
    return torch.tensor(means, dtype=torch.float64).view(found.values.shape)


def accumulated(model, rows, found, target):
    """The mean differences over the rows between two points, added up."""
    one, total = found.settings[0], [0.0]
    for k in range(1, len(one.x)):
        low, high = float(one.x[k - 1]), float(one.x[k])
        differences = []
        for row, value in zip(rows, one.data.tolist(), strict=True):
            inside = low < value <= high or (k == 1 and value == low)
            if value in (low, high) if one.labels else inside:
                ends = (output(model, row, one.columns, one.codes[j], target) for j in (k, k - 1))
                differences.append(next(ends) - next(ends))
        total.append(total[-1] + np.mean(differences))
    return torch.tensor(total, dtype=torch.float64)


def assert_is(found, expected):
    """Equal but for a constant."""
    gap = found - expected
    assert float((gap - gap.mean()).abs().max()) <= 1e-12 * float(expected.abs().max() + 1)


def mean_over_data(found):
    one = found.settings[0]
    return float(np.interp(one.data.numpy(), one.x.numpy(), found.values.numpy()).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["pdp", "ale"])
def test_the_numbers_are_the_definition(name, kind):
    model = made(**NETWORKS[name])
    found = effect(model, "x2", ROWS, target=1, kind=kind, grid=9)
    slow = dependence if kind == "pdp" else accumulated
    assert not found.exact
    assert_is(found.values, slow(model, ROWS, found, 1))
    assert mean_over_data(found) == pytest.approx(0, abs=1e-12)
    x, data = found.settings[0].x, ROWS[:, 1]
    assert (x[0], x[-1]) == (data.min(), data.max())
    assert bool((x.diff() > 0).all())
    assert len(x) <= 9
    wrong = slow(model, ROWS + 0.01, found, 1)  # other rows: the check can fail
    with pytest.raises(AssertionError):
        assert_is(found.values, wrong)


def test_single_rows_are_counted_from_themselves():
    model = made([3, 4, 1])
    found = effect(model, 0, ROWS, ice=len(ROWS), grid=9)
    for row, line in zip(ROWS, found.ice, strict=True):
        own = float(model(row[None]).detach())
        slow = [output(model, row, [0], code, 0) - own for code in held(found)[0]]
        assert_close(line, torch.tensor(slow, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_is(found.ice.mean(0), found.values)
    assert len(effect(model, 0, ROWS, ice=7).ice) == 7
    assert effect(model, 0, ROWS, ice=0).ice is None


def test_a_pair_sets_both():
    model = made([3, 4, 2])
    found = effect(model, "x3", ROWS, other="x1", target="y2", grid=4)
    assert found.values.shape == (4, 4)
    assert_is(found.values, dependence(model, ROWS, found, 1))
    frame = found.to_frame()
    assert list(frame.columns) == ["x3", "x1", "effect"]
    assert frame["effect"].tolist() == found.values.flatten().tolist()
    assert frame["x1"][1] == float(found.settings[1].x[1])


# --- columns that became several features -------------------------------------------------------


def table(target="y"):
    rng = np.random.default_rng(0)
    columns = {
        "city": CITIES * 10,
        "size": rng.normal(size=30),
        "new": rng.choice(["yes", "no"], 30),
    }
    return kanlens.read_table(pd.DataFrame(columns).assign(y=rng.normal(size=30)), target=target)


def of_table(hidden=(3,)):
    read = table()
    features = read.schema.features
    layers = made([len(features), *hidden, 1])
    return KAN.from_layers(list(layers.layers), read.schema, nodes=list(layers.nodes)), read


@pytest.mark.parametrize("kind", ["pdp", "ale"])
@pytest.mark.parametrize("feature", ["city", "city=Oslo", 0])
@pytest.mark.slow  # many cases
def test_a_category_is_all_its_features(kind, feature):
    model, read = of_table()
    found = effect(model, feature, read.x, kind=kind)
    one = found.settings[0]
    assert one.name == "city"
    assert set(one.labels) == set(read.schema.features[0].categories)
    assert (one.codes.sum(1) == 1).all()
    assert one.codes.shape == (3, 3)
    for place, label in enumerate(one.labels):
        feature = read.schema.features[one.columns[int(one.codes[place].argmax())]]
        assert feature.category == label
    slow = dependence if kind == "pdp" else accumulated
    assert_is(found.values, slow(model, read.x.double(), found, 0))
    assert found.to_frame()["city"].tolist() == list(one.labels)
    gone = effect(model, feature=0, data=read.x[read.x[:, 0] == 0], kind=kind).settings[0]
    assert len(gone.labels) == (3 if kind == "pdp" else 2)  # ale knows nothing of the others


@pytest.mark.parametrize("kind", ["pdp", "ale"])
def test_a_binary_feature_has_two_points(kind):
    model, read = of_table()
    found = effect(model, "new", read.x, kind=kind)
    index = read.schema.feature_names.index("new")
    one, feature = found.settings[0], read.schema.features[index]
    assert one.labels == feature.categories
    assert one.codes[one.labels.index(feature.category)] == 1
    assert_is(found.values, (dependence, accumulated)[kind == "ale"](model, read.x, found, 0))
    share = (one.data == one.x[1]).double().mean()
    assert float((1 - share) * found.values[0] + share * found.values[1]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([*range(19), 1e12], (0, 18)),
        ([*range(19), -1e300], (0, 18)),
        ([*range(20), 500], (0, 500)),
        ([0] * 30 + [1e12], (0, 1e12)),
        ([1, 1e12], (1, 1e12)),
        ([3], (3, 3)),
    ],
)
def test_the_usual_range_is_without_outliers(values, ends):
    assert analysis.usual_range(np.array(values, dtype=float)) == ends


def test_points_are_not_lost_to_an_outlier():
    rows = draw(200, 3)
    rows[7, 0] = 1e12
    x = effect(made([3, 2, 1]), 0, rows).settings[0].x
    assert int((x < 10).sum()) >= 60
    assert float(x[-1]) == 1e12


def test_points_are_where_the_data_are_and_not_far_apart():
    rows = (3 * draw(200, 3)).exp()
    x = effect(made([3, 2, 1]), 0, rows).settings[0].x
    assert len(x) == 65
    assert float(x.diff().max()) <= 1.001 * float(x[-1] - x[0]) / 33
    assert int((x <= rows[:, 0].median()).sum()) >= 16
    rows[:, 0] = torch.arange(200) % 5  # few values are all
    assert effect(made([3, 4, 1]), 0, rows).settings[0].x.tolist() == [0, 1, 2, 3, 4]
    rows[:, 0] = 2.5
    for kind in ("pdp", "ale"):
        constant = effect(made([3, 4, 1]), 0, rows, kind=kind)
        assert constant.settings[0].labels == ("2.5",)
        assert float(constant.values.abs()) < 1e-12


def test_a_pruned_column_keeps_its_categories():
    read = table()
    kept = [k for k, one in enumerate(read.schema.features) if one.name != "city=Oslo"]
    layers = made([len(kept), 3, 1])
    small = KAN.from_layers(list(layers.layers), read.schema.select(kept), nodes=layers.nodes)
    one = effect(small, "city", read.x[:, kept]).settings[0]
    assert one.codes[one.labels.index("Oslo")].tolist() == [0, 0]
    assert len(one.data.unique()) == 3


# --- additive in the feature --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pdp", "ale"])
def test_one_layer_is_its_edges(kind):
    model = made([3, 2])
    found = effect(model, "x1", ROWS, target=1, kind=kind)
    assert (found.exact, found.ice) == (True, None)
    x = model.scale_inputs(torch.stack([found.settings[0].x] * 3, 1))[:, 0]
    edge = torch.as_tensor(model.layers[0].edge(1, 0)(x.numpy())) * model.output_scale[1]
    assert_is(found.values, edge)
    with pytest.raises(AssertionError):
        assert_is(found.values, edge * 1.001)
    x1 = float(ROWS[5, 0])
    known = effect(model, "x1", ROWS, target=1, grid=400, kind=kind)
    value = np.interp(x1, known.settings[0].x.numpy(), known.values.numpy())
    shapley = kanlens.attribute(model, ROWS[5:6], method="additive", background=ROWS, target=1)
    assert value == pytest.approx(float(shapley.values[0, 0]), abs=1e-12)


@pytest.mark.slow  # takes a while
def test_a_path_of_its_own_is_additive_too():
    model = made([3, 3, 1])
    assert not separates(model, 0, [0])
    with torch.no_grad():
        model.layers[0].mask[:] = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0]])
    assert separates(model, 0, [0])
    assert separates(model, 0, [1, 2])
    assert not separates(model, 0, [1])
    assert not separates(model, 0, [0, 1])
    found = effect(model, 0, ROWS)
    assert found.exact
    assert_is(found.values, dependence(model, ROWS, found, 0))
    assert effect(model, 1, ROWS, other=2, grid=3).exact
    with torch.no_grad():
        model.layers[1].mask[0, 1] = 0  # nothing reads the node where both meet
    assert separates(model, 0, [1])


def test_products_and_normalization_are_not_additive():
    model = made([2, (1, 1)])
    assert separates(model, 0, [0])
    assert not separates(model, 1, [0])
    with torch.no_grad():
        model.layers[0].mask[:] = torch.tensor([[1, 1], [1, 0], [1, 0]])
    assert separates(model, 1, [0])
    normal = made([2, 3, 1], normalized=[2, 0])
    with torch.no_grad():
        normal.layers[0].mask[:] = torch.tensor([[1, 0], [1, 0], [0, 1]])
    assert not separates(normal, 0, [0])


# --- outputs, data and what is refused ----------------------------------------------------------


def test_outputs_by_name_and_index_and_classes():
    model = made([3, 4, 2])
    by_name = effect(model, "x1", ROWS, target="y2")
    assert_close(by_name.values, effect(model, 0, ROWS, target=1).values, rtol=0, atol=0)
    read = kanlens.read_table(
        pd.DataFrame(ROWS.numpy()).assign(kind=["a", "b", "c"] * 8), target="kind"
    )
    classes = kanlens.KAN([3, 2, 3]).double()
    classes.schema = read.schema
    found = effect(classes, "0", read.x)
    assert found.unit == "log-odds"
    predicted = int(classes(read.x.double()).argmax(1).bincount(minlength=3).argmax())
    assert found.target == classes.output_names[predicted]
    assert effect(classes, "0", read.x, target="b").target == "kind=b"


@pytest.mark.slow  # takes a while
def test_the_rows_the_model_kept_are_the_default_and_float32_is_computed_in_float64():
    model = made([3, 4, 1])
    found = effect(model, 0)
    assert_close(found.settings[0].data, model.background[:, 0])
    assert_close(found.values, effect(model, 0, model.background).values)
    frame = pd.DataFrame(ROWS.numpy(), columns=["x1", "x2", "x3"])[["x3", "x1", "x2"]]
    assert_close(effect(model, 0, frame).values, effect(model, 0, ROWS.numpy()).values)
    single = effect(model.float(), 0, ROWS.float())
    assert single.values.dtype == torch.float64
    assert_is(single.values, dependence(model.double(), ROWS.float().double(), single, 0))
    with pytest.raises(MethodError, match="effect: expected rows of data, got None"):
        effect(KAN([2, 3, 1]), 0)


def test_many_rows_are_spread_and_their_ends_are_shown(monkeypatch):
    monkeypatch.setattr(effects, "ROWS", {"pdp": 4, "ale": 4})
    rows = draw(31, 3)
    found = effect(made([3, 2, 1]), 0, rows, grid=13)
    assert_is(found.values, dependence(made([3, 2, 1]), rows[[0, 10, 20, 30]], found, 0))
    assert float(found.settings[0].x[-1]) == float(rows[:, 0].max())


def test_memory_is_bounded(monkeypatch):
    model, seen = made([3, 4, 1]), []
    monkeypatch.setattr(analysis, "BUDGET", 16 * 4 * 50)
    real = KANLinear.forward

    def watched(layer, x):
        seen.append(x.numel() // layer.in_features)
        return real(layer, x)

    monkeypatch.setattr(KANLinear, "forward", watched)
    rows = draw(200, 3)
    values = effect(model, 0, rows).values
    assert max(seen) <= 50
    assert sum(seen) < 3 * 200 + 65 + 200 * 65  # the first layer once for each row and point
    monkeypatch.undo()
    assert_close(values, effect(model, 0, rows).values, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"feature": "x11"}, InvalidValueError, "or by name, got 'x11'. Did you mean 'x1'?"),
        ({"feature": 3}, InvalidValueError, "a feature from 0 to 2 or by name, got 3"),
        ({"feature": np.eye(2)}, InvalidValueError, "a feature from 0 to 2 or by name, got a nd"),
        ({"feature": True}, InvalidValueError, "a feature from 0 to 2 or by name, got True"),
        ({"other": "x2", "kind": "ale"}, InvalidValueError, "differ, got ('x1', 'x2', 'ale')"),
        ({"other": 0}, InvalidValueError, "two features that differ, got ('x1', 0, 'pdp')"),
        ({"kind": "mean"}, InvalidValueError, "effect: expected kind to be one of ale, pdp, got"),
        ({"grid": 1}, InvalidValueError, "grid to be a whole number of at least 2, got 1"),
        ({"ice": -1}, InvalidValueError, "ice to be a whole number of at least 0, got -1"),
        (
            {"data": torch.full((2, 3), torch.nan)},
            DataError,
            "effect: data: expected finite numbers, got nan at row 0, column 'x1' (6 such cells)",
        ),
        ({"data": ROWS[:0]}, ShapeError, "effect: data: expected at least 1 row, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        effect(made([3, 2, 1]), **{"feature": "x1", "data": ROWS, **arguments})


@pytest.mark.parametrize("kind", ["pdp", "ale"])
def test_poles_are_refused(kind):
    model = KAN.from_layers(
        [KANLinear(2, 1, functions=[["log", "x"]]), KANLinear(1, 1, functions=[["x^2"]])],
        KAN([2, 1]).schema,
    )
    rows = torch.tensor([[-1.0, 0.0], [1.0, 2.0], [2.0, 2.0]])
    with pytest.raises(MethodError, match="effect: expected a model with finite outputs, got NaN"):
        effect(model, 0, rows, kind=kind)


def test_what_is_written():
    found = effect(made([3, 4, 1]), "x2", ROWS, grid=5)
    facts = json.loads(found.to_json())
    assert facts["settings"] == [
        {"name": "x2", "unit": "", "x": found.settings[0].x.tolist(), "labels": []}
    ]
    assert facts["values"] == found.values.tolist()
    assert (facts["kind"], facts["exact"], facts["target"]) == ("pdp", False, "y")
    low, high = float(found.values.min()), float(found.values.max())
    assert repr(found) == f"Effect: pdp of x2 on y, {low:.3g} to {high:.3g}"
    model = made([3, 4, 1])
    model.schema = KAN([3, 1], feature_names=["effect", "effect_", "c"]).schema
    assert list(effect(model, 0, ROWS, grid=3).to_frame()) == ["effect", "effect_"]
    frame = effect(model, 0, ROWS, grid=3, other=1).to_frame()
    assert list(frame) == ["effect", "effect_", "effect__"]


BLANKS = pd.DataFrame(
    {
        "a": [1.0, None, 3.0, 4.5, None, 2.0] * 4,
        "k": ["u", "v", "w", None, "v", "u"] * 4,
        "d": pd.date_range("2020-01-30", periods=24).astype(str),
        "y": range(24),
    }
)


@pytest.mark.parametrize("kind", ["pdp", "ale"])
@pytest.mark.parametrize("hidden", [[], [3]])
def test_a_missing_cell_has_an_effect_of_its_own(hidden, kind):
    table = kanlens.read_table(BLANKS, target="y")
    model = made([len(table.feature_names), *hidden, 1], seed=4)
    model.schema = table.schema
    a, mark = (table.feature_names.index(name) for name in ("a", "a=missing"))
    known = table.x[table.x[:, mark] == 0]
    fill = float(np.median(known[:, a]))
    there, filled = known.clone(), known.clone()
    there[:, a], there[:, mark] = fill, 1.0
    filled[:, a] = fill
    found = effect(model, "a", table.x, kind=kind)
    assert sorted(set(found.settings[0].data.tolist())) == [1, 2, 3, 4.5]
    curve = np.interp(fill, found.settings[0].x, found.values)
    expected = curve + float((model(there) - model(filled)).detach().mean())
    assert found.missing == pytest.approx(expected, abs=1e-12)
    frame = found.to_frame()
    assert np.isnan(frame["a"].iloc[-1])
    assert frame["effect"].iloc[-1] == found.missing
    assert effect([model, model], "a", table.x, kind=kind).missing == found.missing


def test_levels_of_a_column_with_missing_cells_and_of_dates():
    table = kanlens.read_table(BLANKS, target="y")
    model = made([len(table.feature_names), 1])
    model.schema = table.schema
    levels = effect(model, "k", table.x)
    assert levels.settings[0].labels == ("u", "v", "w", "missing")
    assert levels.missing is None
    marks = effect(model, "a=missing", table.x).settings[0]
    assert (marks.name, marks.labels) == ("a=missing", ("known", "missing"))
    days = effect(model, "d", table.x).settings[0]
    assert (days.name, days.unit) == ("d.days", "d")
    assert effect(model, "d.month", table.x).settings[0].columns == [
        table.feature_names.index("d.month")
    ]
