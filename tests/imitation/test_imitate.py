"""A small network follows models of any kind; what it follows, and where not, is measured."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC
from torch import nn
from torch.testing import assert_close

import kanlens
from kanlens.errors import (
    DataError,
    DTypeError,
    FileFormatError,
    InterruptedWarning,
    KanlensWarning,
    ShapeError,
)
from kanlens.imitation import _imitate
from kanlens.imitation._imitate import _beyond, _interval, _with_rows_between
from kanlens.imitation._teachers import LEAST, log_odds
from kanlens.training._growth import GrowthPath
from kanlens.training._objective import predict
from tests import interrupting


@pytest.fixture(autouse=True)
def fewer(monkeypatch, few_folds):
    monkeypatch.setattr(_imitate, "BETWEEN", 400)
    monkeypatch.setattr(_imitate, "BEYOND", 300)


def drawn(rows=300, columns=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, columns))


def curve(x):
    return np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]


def followed(model, x, **options):
    generator = torch.Generator().manual_seed(0)
    return kanlens.imitate(model, x, progress=False, generator=generator, **options)


def frame(rows=300):
    draw = np.random.default_rng(1)
    columns = pd.DataFrame(draw.uniform(0, 10, (rows, 2)), columns=["dose", "age"])
    return columns.assign(town=draw.choice(["Aachen", "Basel", "Chartres"], rows))


def pipeline(model):
    coded = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    return make_pipeline(coded, model)


@pytest.mark.slow  # trains networks
def test_a_function_is_followed_and_its_measures_are_those_of_its_model():
    x = drawn()
    found = followed(curve, x)
    assert found.fidelity > 0.99 and found.beyond > 0.98
    assert 5 <= found.edges <= 30
    assert found.teacher == "curve"
    rows = found.held_out.index
    assert 50 <= len(rows) <= 70
    teacher, imitation = found.held_out.to_numpy().T
    np.testing.assert_array_equal(teacher, curve(x)[rows])
    with torch.no_grad():
        own = found.model(torch.from_numpy(x[rows]))[:, 0].numpy()
    np.testing.assert_allclose(imitation, own, rtol=0, atol=1e-12)
    share = np.square(imitation - teacher).mean() / teacher.var()
    assert found.fidelity == pytest.approx(1 - share, abs=1e-12)
    assert found.receipt.relative_rmse == pytest.approx(np.sqrt(share))
    assert found.receipt.mean_deviation == pytest.approx(np.abs(imitation - teacher).mean())
    assert found.receipt.trustworthy
    assert found.model.provenance in repr(found)
    assert f"imitates curve, R2 {found.fidelity:.4f} on {len(rows)} rows" in found.model.provenance


@pytest.mark.slow  # grows networks
def test_a_receipt_speaks_of_the_imitation_and_warns():
    found = followed(lambda x: np.sign(np.sin(20 * x[:, 0])), drawn(150), max_edges=3)
    text = found.receipt.summary()
    assert "held out of its fit (not of the function's), the imitation differs from the" in text
    words = "WARNING: the imitation shows what the function does, but do not use it in its place:"
    share = f"{found.receipt.relative_rmse:.0%} of the output's standard deviation"
    assert f"{words} it is off by {share}, and at most 10% would do. It is furthest off (" in text
    region = found.worst.loc[found.worst.relative_rmse.idxmax()]
    assert f"where {region.region}, in {region.share_of_rows:.0%} of the rows." in text
    assert "formula" not in text
    assert not found.receipt.trustworthy


@pytest.mark.slow  # trains networks
def test_a_receipt_names_the_output_that_is_followed_least():
    def outputs(x):
        return np.stack([x[:, 0], np.sign(np.sin(20 * x[:, 1]))], 1)

    receipt = followed(outputs, drawn(150), max_edges=6).receipt
    assert receipt.worst_output == "y2"
    words = f"(RMSE {receipt.relative_rmse:.2%} of the standard deviation of y2, the worst output)"
    assert words in receipt.summary()


@pytest.mark.slow  # trains networks
def test_a_pipeline_takes_frames_with_categories():
    x = frame()
    y = x["dose"] * (x["town"] == "Basel") + x["age"]
    model = pipeline(HistGradientBoostingRegressor(random_state=0)).fit(x, y)
    found = followed(model, x.set_index(x.index + 1000))
    assert found.teacher == "HistGradientBoostingRegressor"
    assert found.model.feature_names == (
        "dose",
        "age",
        "town=Aachen",
        "town=Basel",
        "town=Chartres",
    )
    assert found.fidelity > 0.9
    assert set(found.held_out.index) <= set(range(1000, 1300))
    assert set(found.worst.worst_row) <= set(found.held_out.index)


@pytest.mark.slow  # trains networks
def test_a_table_gives_names_units_and_the_target():
    x = frame().assign(price=np.arange(300.0))
    table = kanlens.read_table(x, target="price", units={"price": "EUR", "dose": "mg"})
    found = followed(lambda rows: rows["dose"] + rows["age"], table)
    assert found.model.schema.target == "price"
    assert [output.unit for output in found.model.schema.outputs] == ["EUR"]
    assert found.model.schema.features[0].unit == "mg"


@pytest.mark.slow  # grows networks
def test_classes_are_followed_by_their_log_odds(tmp_path):
    x = frame(100)
    for labels in (["no", "yes"], ["high", "low", "middle"]):
        y = np.array(labels)[(x["dose"] * len(labels) / 10).astype(int)]
        model = pipeline(RandomForestClassifier(12, random_state=0)).fit(x, y)
        found = followed(model, x)
        assert found.model.task == "classification"
        assert found.model.class_labels == tuple(labels)
        assert found.agreement > 0.9
        assert "log-odds" in repr(found)
        kanlens.save(found.model, tmp_path / "m.safetensors")
        again = predict(kanlens.load(tmp_path / "m.safetensors"), x)
        assert (again["class"] == y).mean() > 0.9
        parts = again[[f"probability {label}" for label in labels]]
        np.testing.assert_allclose(parts.sum(axis=1), 1, rtol=0, atol=1e-9)


def test_log_odds_undo_softmax_and_are_finite():
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    logits = torch.from_numpy(log_odds(shares))
    kept = np.clip(shares, LEAST, 1 - LEAST)
    expected = torch.from_numpy(kept / kept.sum(1, keepdims=True))
    assert_close(logits.softmax(1), expected, rtol=0, atol=1e-12)
    assert np.isfinite(log_odds(np.array([[0.0, 1.0, 0.0]]))).all()


@pytest.mark.slow  # grows networks
def test_a_module_is_run_as_in_use_and_left_as_it_was():
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
    module[1].eval()
    found = followed(module, drawn())
    assert [part.training for part in module] == [True, False, True, True]
    assert found.model.output_names == ("y1", "y2") and found.fidelity > 0.95
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.slow  # grows networks
def test_probabilities_of_a_function_have_the_labels_that_are_passed():
    found = followed(lambda x: 1 / (1 + np.exp(-4 * x[:, 0])), drawn(), class_labels=["a", "b"])
    assert found.model.class_labels == ("a", "b") and found.agreement > 0.95
    with torch.no_grad():
        slope = found.model(torch.tensor([[0.5, 0.0, 0.0]]).double())
    assert float(slope) == pytest.approx(2, abs=0.2)


@pytest.mark.slow  # grows networks
def test_rows_have_the_form_of_the_data():
    kinds = []

    def record(x):
        kinds.append((type(x), x.dtype))
        return x.sum(1)

    followed(record, torch.from_numpy(drawn(150)).float())
    followed(record, drawn(150).astype(np.float32))
    assert set(kinds) == {(torch.Tensor, torch.float32), (np.ndarray, np.dtype("float32"))}


def test_rows_between_and_beyond_keep_types_and_ranges():
    x = frame().assign(
        count=np.arange(300) % 50,
        few=np.repeat([1, 2, 9], 100),
        day=pd.Timestamp("2020-01-01"),
        kind=pd.Categorical(["u", "v"] * 150),
    )
    x.loc[3, "age"] = np.nan
    draw = np.random.default_rng(0)
    for rows in (_with_rows_between(x, draw), _beyond(x, draw)):
        assert (rows.dtypes == x.dtypes).all()
        assert rows["dose"].between(x["dose"].min(), x["dose"].max()).all()
        assert rows["few"].isin([1, 2, 9]).all() and rows["town"].isin(x["town"]).all()
    between, beyond = _with_rows_between(x, draw), _beyond(x, draw)
    assert between.iloc[:300].equals(x)
    assert between["dose"].isin(x["dose"]).all() and not beyond["dose"].isin(x["dose"]).any()
    same = between.iloc[300:].merge(x.dropna(), how="inner")
    assert len(same) < 200


@pytest.mark.slow  # trains networks
def test_regions_name_the_columns_where_the_network_fails():
    def jump(x):
        return x[:, 2] + 4 * (x[:, 0] > 0.5) * np.sin(40 * x[:, 1])

    worst = followed(jump, drawn(600), max_edges=6).worst
    assert worst.share_of_error.is_monotonic_decreasing
    assert worst.share_of_error.sum() == pytest.approx(1)
    assert worst.share_of_rows.sum() == pytest.approx(1) and worst.rows.sum() == 120
    furthest = worst.loc[worst.relative_rmse.idxmax()]
    assert furthest.region.startswith("x1 from 0.")
    assert furthest.share_of_error > 1.5 * furthest.share_of_rows
    mean = (worst.rows * worst.relative_rmse**2).sum() / 120
    share = worst.rows * worst.relative_rmse**2 / (120 * mean)
    np.testing.assert_allclose(worst.share_of_error, share)


def test_intervals_of_regions():
    x = frame().assign(gap=np.where(np.arange(300) < 9, np.nan, np.arange(300.0)))
    features = {one.name: one for one in kanlens.read_table(x).schema.features}
    values = np.array([2.5, 1.25, 2])
    assert _interval(features["dose"], values) == "dose from 1.25 to 2.5"
    assert _interval(features["town=Basel"], np.ones(2)) == "town is Basel"
    assert _interval(features["town=Basel"], np.zeros(2)) == "town is not Basel"
    assert _interval(features["gap=missing"], np.ones(2)) == "gap is missing"


@pytest.mark.slow  # trains networks
def test_the_end_of_the_time_and_an_interrupt_leave_a_network(monkeypatch):
    words = (
        "imitate: expected growth to end within time_limit=0, got unfinished growth. The network"
    )
    with pytest.warns(KanlensWarning, match=words):
        found = followed(curve, drawn(), time_limit=0)
    assert found.interrupted and found.edges == 3
    monkeypatch.setattr(GrowthPath, "grow", interrupting.once(GrowthPath.grow, 1))
    with pytest.warns(InterruptedWarning, match="imitate: interrupted. The network has the terms"):
        found = followed(curve, drawn())
    assert found.interrupted and np.isfinite(found.fidelity)


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        (3, DTypeError, "a model that predicts, got int"),
        ("m.pkl", FileFormatError, "an .onnx file, got 'm.pkl'. Load it in Python, and pass the"),
        (lambda x: np.ones(len(x)), DataError, "targets that vary"),
        (lambda x: x[:5, 0], DataError, "640 rows from the model, got ndarray of shape (5,)"),
        (lambda x: np.where(x[:, 0] > 0, np.nan, 1), DataError, "finite numbers, got nan at row"),
        (lambda x: ["a"] * len(x), DataError, "from the model, got list of shape (640,)"),
    ],
)
def test_what_does_not_predict_is_refused_in_one_line(model, error, text):
    with pytest.raises(error, match=r"^imitate: ") as refused:
        followed(model, drawn())
    assert text in str(refused.value)


@pytest.mark.slow  # grows networks
def test_other_mistakes_are_one_line():
    x = frame()
    svc = LinearSVC().fit(drawn(), drawn()[:, 0] > 0)
    assert not hasattr(svc, "predict_proba")
    with pytest.raises(DTypeError, match="a classifier with predict_proba, got LinearSVC without"):
        followed(svc, drawn())
    words = "got other cells in 'town'. Encode them as the numbers .* or drop columns that it"
    with pytest.raises(DataError, match=words):
        followed(nn.Linear(3, 1), x)
    with pytest.raises(ShapeError, match="at least 20 rows, got 5"):
        followed(curve, drawn(5))
    with pytest.raises(DataError, match="rows and 3 classes from the model, got ndarray"):
        followed(curve, drawn(), class_labels=["a", "b", "c"])
    partial = functools.partial(lambda scale, x: scale * x[:, 0], 2.0)
    assert followed(partial, drawn(150)).fidelity > 0.999
    fitted = LinearRegression().fit(drawn(), curve(drawn()))
    assert followed(fitted.predict, drawn(60)).teacher == "predict"
