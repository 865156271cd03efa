from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from kanlens.model.network import KAN
from kanlens.reporting.subject import measure_performance, read_subject, subject_losses
from tests.reporting.conftest import network, schema, seeded


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
    assert found is not None
    output = model(rows)[:, 0].detach().numpy()
    one = found["outputs"][0]
    assert one["r2"] == found["r2"] == pytest.approx(metrics.r2_score(y, output), abs=1e-12)
    assert one["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, output), rel=1e-12)
    assert one["mae"] == pytest.approx(metrics.mean_absolute_error(y, output), rel=1e-12)
    assert one["largest_error"] == pytest.approx(metrics.max_error(y, output), rel=1e-12)
    assert one["mean_error"] == pytest.approx(float(np.mean(output - y.numpy())), rel=1e-12)


def test_r2_is_none_for_a_constant_target(model: KAN, rows: torch.Tensor) -> None:
    found = measure_performance(read_subject(model, (rows, torch.full((60,), 2.5)), None))
    assert found is not None
    assert found["r2"] is None
    assert found["outputs"][0]["r2"] is None


def test_without_targets_there_are_no_numbers(model: KAN, rows: torch.Tensor) -> None:
    subject = read_subject(model, rows, None)
    assert measure_performance(subject) is None
    assert subject_losses(subject) is None


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
