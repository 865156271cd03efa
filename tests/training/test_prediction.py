"""What a trained model says of a table, and the number it is judged by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.data._table_reader import read_table
from kanlens.errors import DataError
from kanlens.training._objective import ScoreSums, classes, judge, predict, score, task_loss


def labelled(network, labels):
    n = len(labels)
    frame = pd.DataFrame({"a": np.linspace(-1, 1, 30), "kind": (labels * 30)[:30]})
    model = network((1, 1 if n == 2 else n))
    table = read_table(frame, target="kind")
    kanlens.fit(model, table, steps=1, progress=False, generator=torch.Generator())
    return model, frame


@pytest.mark.parametrize("labels", [["u", "v"], ["u", "v", "w"]])
def test_probabilities_are_those_of_the_logits(network, labels):
    model, frame = labelled(network, labels)
    found = predict(model, frame)
    assert found.columns.tolist() == ["kind", *(f"probability {label}" for label in labels)]
    chances = found.iloc[:, 1:].to_numpy()
    assert_close(torch.tensor(chances).sum(1), torch.ones(30, dtype=torch.float64))
    assert found["kind"].tolist() == [labels[code] for code in chances.argmax(1)]
    logits = model(frame).detach()
    if len(labels) == 2:
        assert_close(torch.tensor(chances[:, 1]), logits[:, 0].sigmoid())
    else:
        assert_close(torch.tensor(chances), logits.softmax(1))


def test_numbers_are_in_the_units_of_the_data(network):
    model = network((1, 2), output_names=["p", "q"])
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    frame = predict(model, x)
    assert frame.columns.tolist() == ["p", "q"]
    assert_close(torch.tensor(frame.to_numpy()), model(x).detach())


def test_judging_counts_classes_by_name(network):
    model, frame = labelled(network, ["u", "v", "w"])
    some = frame[frame["kind"] != "v"]
    truth = (predict(model, some)["kind"] == some["kind"].to_numpy()).mean()
    assert judge(model, read_table(some, target="kind")) == {"accuracy": truth}


def test_judging_finds_features_by_name(network):
    frame = pd.DataFrame({"b": np.linspace(0, 1, 9), "a": np.linspace(1, 2, 9) ** 2})
    model = network((1, 1), feature_names=["a"])
    table = read_table(frame.assign(y=frame["b"] ** 3), target="y")
    with torch.no_grad():
        expected = score(model, model(frame), table.y)
    assert judge(model, table) == {"R2": expected}


def test_targets_of_another_kind_are_refused(network):
    model, frame = labelled(network, ["u", "v"])
    plain = network((1, 1), feature_names=["a"])
    with pytest.raises(DataError, match="a target for regression, got a target for classification"):
        judge(plain, read_table(frame, target="kind"))
    with pytest.raises(DataError, match="expected the model's classes 'u', 'v', got numbers"):
        judge(model, read_table(frame.assign(kind=frame["a"]), target="kind"))
    with pytest.raises(DataError, match="judge: expected a table with the target, got none"):
        judge(model, read_table(frame[["a"]]))


def test_the_loss_is_that_of_the_books(network):
    net = network((1, 2))
    output = torch.tensor([[1.0, 10.0], [3.0, 30.0]], dtype=torch.float64)
    net.output_scale.copy_(torch.tensor([1.0, 10.0]))
    y = torch.tensor([[2.0, 10.0], [3.0, 10.0]], dtype=torch.float64)
    assert task_loss(net, output, y) == (1 + 0 + 0 + 4) / 4
    assert classes(output).tolist() == [1, 1]
    assert classes(torch.tensor([[-1.0], [2.0], [0.0]])).tolist() == [0, 1, 0]


def test_scores_of_parts_are_those_of_all_rows(network):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(50, 1, generator=draw, dtype=torch.float64)
    same = torch.full((50, 1), 3e150, dtype=torch.float64)
    for y in (torch.cat([1e-170 * x.sin(), same, 5 + x], 1), torch.rand(50, 3, generator=draw)):
        net = network((1, 3)).double()
        frame = pd.DataFrame({"x1": x[:, 0], **{f"y{i + 1}": y[:, i] for i in range(3)}})
        table = read_table(frame, target=["y1", "y2", "y3"])
        net.output_scale.copy_(y.double().std(0).clamp_min(1e-180))
        sums = ScoreSums(net)
        for part in table.batches(7):
            sums.add(part)
        expected = score(net, net(x), y.double())
        assert abs(sums.score()["R2"] - expected) <= 1e-9 * abs(expected)
