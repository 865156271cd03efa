"""What data give a foreign model: exactly what training on them would have left in ours."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.data._table_reader import read_table
from kanlens.errors import DataError, InvalidValueError, KanlensError, ShapeError
from kanlens.io.importers import import_model

# weights are drawn, not trained
pytestmark = pytest.mark.filterwarnings("ignore:import_model. expected outputs nearer")
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame({"size": DRAW.uniform(0, 2, 24), "kind": list("abc") * 8})
FRAME["price"] = FRAME["size"] ** 2 + (FRAME["kind"] == "b")
STATE = kanlens.KAN([4, 2, 1], generator=torch.Generator().manual_seed(0)).double().state_dict()
STATE = {k: v for k, v in STATE.items() if k.endswith(("_weight", "_scaler", "grid"))}


@pytest.fixture(autouse=True)
def _drawn_anew():
    """Draw the same numbers whichever tests ran before."""
    DRAW.bit_generator.state = np.random.default_rng(0).bit_generator.state


def same(one, two):
    """Compare all that training leaves in a model."""
    assert one.schema == two.schema
    torch.testing.assert_close(one.background, two.background, rtol=0, atol=0)
    for ours, theirs in zip(one.statistics, two.statistics, strict=True):
        for name in ("quantiles", "edge_mean", "edge_std"):
            a, b = getattr(ours, name), getattr(theirs, name)
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def fitted(data, **options):
    """Return a foreign model after a training of no steps, which leaves its weights."""
    model = import_model(STATE, **options)
    kanlens.fit(model, data, steps=0, validation=0, grid_updates=0, progress=False)
    return model


@pytest.mark.slow  # takes a while
def test_a_table_gives_what_training_on_it_gives(tmp_path):
    table = read_table(FRAME, target="price", units={"size": "mm"}, impute="median")
    same(import_model(STATE, data=table), fitted(table))
    plain = fitted(read_table(FRAME, target="price"))
    same(import_model(STATE, data=FRAME, target="price"), plain)
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    torch.save(STATE, tmp_path / "m.pt")
    path = tmp_path / "d.csv"
    again = fitted(read_table(path, target="price"))
    same(import_model(tmp_path / "m.pt", data=path, target="price"), again)
    assert plain.schema.groups == {"kind": (1, 2, 3)}


def test_ranges_quantiles_and_edge_moments_are_those_of_the_rows():
    model = import_model(STATE, data=FRAME, target="price")
    x = torch.tensor(model.schema.encode(FRAME, call="test"))
    first = model.statistics[0]
    assert first.input_low.tolist() == x.amin(0).tolist()
    assert first.input_high.tolist() == x.amax(0).tolist()
    np.testing.assert_allclose(first.quantiles[0, 16], FRAME["size"].median(), rtol=1e-12)
    hidden = model.layers[0](x).detach()
    for layer, values in zip(model.layers, (x, hidden), strict=True):
        edges = layer.edge_values(values).detach()
        torch.testing.assert_close(layer.statistics.edge_mean, edges.mean(0))
        torch.testing.assert_close(layer.statistics.edge_std, edges.std(0, correction=0))


@pytest.mark.slow  # takes a while
def test_pairs_and_frames_without_target():
    table = read_table(FRAME, target="price")
    pair = (table.x, table.y)
    same(import_model(STATE, data=pair), fitted(pair))
    model = import_model(STATE, data=FRAME.drop(columns="price"))
    assert model.feature_names == ("size", "kind=a", "kind=b", "kind=c")
    assert (model.output_names, model.schema.target) == (("y",), None)
    named = import_model(STATE, data=FRAME.rename(columns={"price": "y"}))
    assert named.schema.target == "y"


def test_feature_names_are_the_columns_in_the_order_of_the_inputs():
    frame = pd.DataFrame({"x1": [0.0, 1.0], "x2": [2.0, 3.5], "id": ["p", "q"], "y": [1.0, 2.5]})
    state = kanlens.KAN([2, 1]).state_dict()
    model = import_model(state, data=frame, target="y", feature_names=["x2", "x1"])
    assert model.feature_names == ("x2", "x1")
    assert model.background.tolist() == [[2.0, 0.0], [3.5, 1.0]]


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("y", [["b", "a", "c"], np.array([1, 0, 2]), torch.tensor([1.0, 0.0, 2.0])])
def test_a_task_makes_classes_of_whatever_targets(y):
    state = kanlens.KAN([1, 3]).state_dict()
    model = import_model(state, data=(torch.rand(3, 1), y), task="classification")
    assert model.task == "classification"
    assert len(model.class_labels) == 3
    regression = import_model(kanlens.KAN([1, 1]).state_dict(), data=([[1], [2]], [0, 1]))
    assert regression.task == "regression"


def test_own_models_can_be_given_data_too(tmp_path):
    table = read_table(FRAME, target="price")
    model = kanlens.KAN([4, 1]).double()
    kanlens.save(model, tmp_path / "m.safetensors")
    for source in (model, tmp_path / "m.safetensors"):
        assert import_model(source, data=table).schema == table.schema
    assert model.background is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"data": FRAME, "target": "prize"},
            DataError,
            "target among the columns 'size', 'kind', 'price', got 'prize'. Did you mean 'price'?",
        ),
        (
            {"data": FRAME},
            ShapeError,
            "4 features, as the model has, got 5 ('size', 'kind=a', 'kind=b', 'kind=c', 'price'). "
            "Name the target, and the columns of the training data, in the order of the inputs.",
        ),
        (
            {"data": FRAME.assign(p=1.5), "target": ["price", "p"]},
            ShapeError,
            "1 output, as the model has, got 2. "
            "Choose 1 target column without classes, or 2 classes.",
        ),
        (
            {"data": (torch.zeros(3, 4), torch.zeros(3)), "target": "price"},
            InvalidValueError,
            "a path or DataFrame with target, got tuple. Give data with that column.",
        ),
        (
            {"data": read_table(FRAME, target="price"), "task": "classification"},
            InvalidValueError,
            "data for classification, got a Table for regression. "
            "Read it with task='classification'.",
        ),
        (
            {"data": FRAME, "task": "ranking"},
            InvalidValueError,
            "task to be one of classification, regression, got 'ranking'. "
            "Choose one of: classification, regression.",
        ),
        (
            {"data": 3},
            DataError,
            "data to be a Table or a pair (x, y), got int. "
            "Pass (x, y), or the result of read_table.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, error, text):
    full = f"import_model: expected {text}"
    with pytest.raises(error, match=f"^{re.escape(full)}$") as found:
        import_model(STATE, **options)
    assert isinstance(found.value, KanlensError)
