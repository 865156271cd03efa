from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics
from sklearn.calibration import calibration_curve

import kanlens
from kanlens.data._table_reader import read_table
from kanlens.errors import DataError, InvalidValueError, ShapeError
from kanlens.model._network import KAN
from kanlens.reporting._report_data import measure_performance, read_subject, spread, subject_losses
from tests.reporting.conftest import network, schema, seeded

FRAME = pd.DataFrame(
    {"a": [0.1, 0.2, 0.3, 0.4], "b": [1.0, 0.5, 0.2, 0.1], "y": [1.0, 2.0, 3.0, 5.0]}
)


def named() -> KAN:
    model = network([2, 1])
    model.schema = schema(["a", "b"], ["y"], target="y")
    return model


def test_every_kind_of_data_gives_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    FRAME.to_csv(path, index=False)
    x, y = FRAME[["a", "b"]], FRAME["y"]
    kinds = {
        "t.csv": path,
        "DataFrame": FRAME,
        "arrays": (torch.tensor(x.to_numpy()), torch.tensor(y.to_numpy())),
    }
    for source, data in kinds.items():
        found = read_subject(named(), data, None)
        torch.testing.assert_close(found.x, torch.tensor(x.to_numpy()))
        torch.testing.assert_close(found.y[:, 0], torch.tensor(y.to_numpy()))
        assert found.source == source
        assert found.names == (0, 1, 2, 3)
    assert read_subject(named(), (x, y), None).source == "DataFrame"
    assert read_subject(named(), read_table(path, target="y"), None).source == "t.csv"
    assert read_subject(named(), torch.tensor(x.to_numpy()), None).y is None


def test_a_table_is_read_by_name_when_the_model_kept_other_features() -> None:
    model = network([1, 1])
    model.schema = schema(["b"], ["y"], target="y")
    found = read_subject(model, read_table(FRAME, target="y"), None)
    assert found.x[:, 0].tolist() == FRAME["b"].tolist()
    assert found.y is not None


def test_row_numbers_are_those_of_the_source() -> None:
    table = read_table(FRAME, target="y").take([3, 1])
    found = read_subject(named(), table, None)
    assert (found.names, found.index) == ((3, 1), "")
    frame = FRAME.set_axis(pd.Index(["oslo", "lima", "rome", "bern"], name="city"))
    for data in (frame, (frame[["a", "b"]], frame["y"])):
        found = read_subject(named(), data, None)
        assert (found.names, found.index) == (("oslo", "lima", "rome", "bern"), "city")
    assert read_subject(named(), FRAME, None).index is None


def test_class_codes_follow_the_model_and_not_the_table() -> None:
    model = network([1, 1])
    labels = ("no", "maybe")
    model.schema = schema(
        ["a"], ["y=maybe"], target="y", task="classification", class_labels=labels
    )
    frame = pd.DataFrame({"a": [0.1, 0.2, 0.3], "y": ["no", "maybe", "no"]})
    found = read_subject(model, read_table(frame, target="y"), None)
    assert found.y.tolist() == [0, 1, 0]  # the table would say 1, 0, 1


def test_messages(model: KAN, rows: torch.Tensor) -> None:
    text = "report: expected at least 2 rows, got 1. Pass more data."
    with pytest.raises(ShapeError, match=re.escape(text)):
        read_subject(model, rows[:1], None)
    with pytest.raises(ShapeError, match=r"^report: expected x of shape \(batch, 3\), got"):
        read_subject(model, rows[:, :2], None)
    text = (
        "report: expected target to be one of the 2 outputs ('y1', 'y2'), got None. Pass an "
        "index below 2 or a name."
    )
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        read_subject(network([3, 2]), rows, None)
    with pytest.raises(DataError, match=r"^report: expected finite numbers, got nan at row 0"):
        read_subject(model, rows * torch.nan, None)


def test_spread_keeps_the_ends_and_the_order() -> None:
    for rows in (1, 2, 7, 1000):
        for most in (1, 2, 5, 2000):
            found = spread(rows, most)
            assert len(found) == min(rows, most)
            assert len(found.unique()) == len(found)
            assert found[0] == 0
            if most > 1:
                assert found[-1] == rows - 1


def classifier(classes: int) -> KAN:
    model = network([3, 2, classes if classes > 2 else 1], scale=3.0)
    labels = tuple("abcdef"[:classes])
    outputs = [f"y={label}" for label in (labels if classes > 2 else labels[1:])]
    model.schema = schema(["x1", "x2", "x3"], outputs, task="classification", class_labels=labels)
    return model


def test_regression_numbers_are_those_of_sklearn(
    model: KAN, rows: torch.Tensor, y: torch.Tensor
) -> None:
    found = measure_performance(read_subject(model, (rows, y), None))
    output, y = model(rows)[:, 0].detach().numpy(), y.numpy()
    one = found["outputs"][0]
    assert one["r2"] == found["r2"] == pytest.approx(metrics.r2_score(y, output), abs=1e-12)
    assert one["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, output), rel=1e-12)
    assert one["mae"] == pytest.approx(metrics.mean_absolute_error(y, output), rel=1e-12)
    assert one["largest_error"] == pytest.approx(metrics.max_error(y, output), rel=1e-12)
    assert one["mean_error"] == pytest.approx(float(np.mean(output - y)), rel=1e-12)


def test_r2_is_none_for_a_constant_target(model: KAN, rows: torch.Tensor) -> None:
    found = measure_performance(read_subject(model, (rows, torch.full((60,), 2.5)), None))
    assert found["r2"] is None
    assert found["outputs"][0]["r2"] is None


@pytest.mark.parametrize("classes", [2, 4])
def test_classification_numbers_are_those_of_sklearn(classes: int, rows: torch.Tensor) -> None:
    model = classifier(classes)
    y = torch.randint(classes, (60,), generator=seeded(2))
    subject = read_subject(model, (rows, y), 0)
    found: Any = measure_performance(subject)
    chances, truth = subject.probabilities, y.numpy()
    guess = chances.argmax(1)
    codes = list(range(classes))
    np.testing.assert_allclose(chances.sum(1), 1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert found["confusion"] == metrics.confusion_matrix(truth, guess, labels=codes).tolist()
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, chances, labels=codes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, guess, labels=codes, zero_division=np.nan
    )
    for code, one in enumerate(found["classes"]):
        assert one["label"] == model.class_labels[code]
        assert one["rows"] == support[code]
        assert one["auc"] == pytest.approx(metrics.roc_auc_score(truth == code, chances[:, code]))
        for value, expected in ((one["recall"], recall), (one["f1"], f1)):
            assert value == pytest.approx(expected[code])
        if one["predicted"]:
            assert one["precision"] == pytest.approx(precision[code])
        else:
            assert one["precision"] is None
    assert sum(one["rows"] for one in found["calibration"]["bins"]) == 60


def test_the_calibration_curve_is_of_rows_held_out(rows: torch.Tensor) -> None:
    model = classifier(2)
    y = torch.randint(2, (60,), generator=seeded(2))
    seen: Any = measure_performance(read_subject(model, (rows, y), None))
    kanlens.calibrate(model, (rows[:40], y[:40]))
    found: Any = measure_performance(read_subject(model, (rows, y), None))["calibration"]
    assert found["held_out"] and not seen["calibration"]["held_out"]
    assert sum(one["rows"] for one in found["bins"]) == 40
    chances = torch.sigmoid(model(rows[:40])).detach().numpy()[:, 0]
    true, predicted = calibration_curve(y[:40].numpy(), chances, n_bins=10)
    np.testing.assert_allclose([one["observed"] for one in found["bins"]], true)
    np.testing.assert_allclose([one["predicted"] for one in found["bins"]], predicted, rtol=1e-6)


def test_two_classes_have_the_brier_score_of_sklearn_twice(rows: torch.Tensor) -> None:
    y = torch.randint(2, (60,), generator=seeded(2))
    subject = read_subject(classifier(2), (rows, y), None)
    found: Any = measure_performance(subject)
    half = metrics.brier_score_loss(y.numpy(), subject.probabilities[:, 1])
    assert found["brier"] == pytest.approx(2 * half)  # over both classes, as for more of them


def test_a_class_that_never_occurs_has_no_auc(rows: torch.Tensor) -> None:
    found: Any = measure_performance(
        read_subject(classifier(2), (rows, torch.zeros(60, dtype=torch.long)), None)
    )
    assert found["auc"] is None
    assert found["classes"][1]["recall"] is None
    assert found["classes"][0]["roc"] == []


def test_row_losses(model: KAN, rows: torch.Tensor, y: torch.Tensor) -> None:
    losses = subject_losses(read_subject(model, (rows, y), None))
    np.testing.assert_allclose(losses, (model(rows)[:, 0] - y).abs().detach().numpy())
    codes = torch.randint(4, (60,), generator=seeded(2))
    subject = read_subject(classifier(4), (rows, codes), 1)
    expected = torch.nn.functional.cross_entropy(subject.output, codes, reduction="none")
    np.testing.assert_allclose(subject_losses(subject), expected.numpy())
