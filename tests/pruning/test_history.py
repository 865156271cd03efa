"""Every step of pruning can be taken back, and the curve says what each cost."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.model._trace import store_statistics
from kanlens.pruning._propagation import compact
from kanlens.training._objective import task_loss
from tests.made import draw as drawn
from tests.made import made
from tests.pruning.conftest import columns_of, noisy, prune


def same(one, other):
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


OPTIONS: list[dict[str, Any]] = [
    {"threshold": 0.5},
    {"budget": 1.0},
    {"budget": 1.0, "score": "damage"},
    {"budget": 0.3, "finetune": 1},
    {"threshold": 0.5, "finetune": 2},
    {"budget": 0.3, "refit": True},
    {"budget": 0.5, "refit": True, "finetune": 1},
    {"threshold": 0.5, "refit": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.slow  # many cases
def test_every_step_is_the_network_of_its_record(network, draw, options):
    model, x = network((3, 4, 2)), draw(60)
    y, generator = noisy(model, x), torch.Generator().manual_seed(0)
    result = prune(model, x, y, generator=generator, **options)
    assert len(result.removed) > 3
    assert same(result.at(0), model)
    assert [r["step"] for r in result.removed] == list(range(len(result.removed)))
    losses = [result.loss_before, *(r["loss_after"] for r in result.removed)]
    untrained = not {"finetune", "refit"} & options.keys()
    if untrained:
        assert [r["loss_before"] for r in result.removed] == losses[:-1]
        assert_close(losses[-1], result.loss_after, rtol=1e-10, atol=0)
    for step in range(len(result.removed) + 1):
        then = result.at(step)
        assert then.widths == model.widths
        assert then.edges_alive == result.edges_before - step
        assert not step or result.removed[step - 1]["edges_left"] == then.edges_alive
        if step and untrained:
            with torch.no_grad():
                loss = float(task_loss(then, then(x), y))
            assert_close(loss, result.removed[step - 1]["loss_after"], rtol=1e-12, atol=0)
    last, small = result.at(len(result.removed)), result.model
    assert_close(last(x), small(x[:, columns_of(small, model)]), rtol=0, atol=1e-9)
    assert same(compact(last), small)
    assert same(result.at(-1), last)


def test_a_step_is_exactly_what_removing_by_hand_gives(network, draw):
    model, x = network((3, 4, 2)), draw()
    result = prune(model, x, threshold=0.5)
    by_hand = copy.deepcopy(model)
    for step, record in enumerate(result.removed):
        assert same(result.at(step), by_hand)
        layer = by_hand.layers[record["layer"]]
        hidden = kanlens.trace(by_hand, x).inputs[record["layer"]]
        with torch.no_grad():
            values = layer.edge_values(hidden)[:, record["out"], record["in"]]
            layer.mask[record["out"], record["in"]] = 0
            layer.bias[record["out"]] += values.mean()
        found = result.at(step + 1)
        assert_close(found.layers[record["layer"]].bias, layer.bias, rtol=0, atol=1e-13)
        with torch.no_grad():  # the same number up to the order of a sum
            layer.bias.copy_(found.layers[record["layer"]].bias)
        assert not same(result.at(step), by_hand)


@pytest.mark.parametrize("widths", [[3, (1, [2, 3]), 2], [3, (1, [2, 3]), (1, [3])]], ids=str)
@pytest.mark.slow  # takes a while
def test_products_are_put_back(widths):
    model, x = made(widths), drawn(60, 3)
    result = prune(model, x, budget=0.3)
    assert len(result.removed) > 2
    assert same(result.at(0), model)
    last, small = result.at(len(result.removed)), result.model
    assert last.shape == model.shape
    assert_close(last(x), small(x[:, columns_of(small, model)]), rtol=1e-10, atol=1e-10)
    for step in range(1, len(result.removed)):
        assert result.at(step).edges_alive == model.edges_alive - step


def test_statistics_of_a_step_are_those_of_its_network(network, draw):
    model, x = network((3, 4, 1)), draw(400)
    assert prune(model, x, threshold=0.5).at(2).statistics is None
    store_statistics(model, x)
    result = prune(model, x, threshold=0.5)
    for step in (0, 1, len(result.removed)):
        then = result.at(step)
        expected = copy.deepcopy(then)
        store_statistics(expected, x)
        for one, other in zip(then.statistics, expected.statistics, strict=True):
            assert_close(one.quantiles, other.quantiles, rtol=0, atol=1e-12)
            assert_close(one.edge_mean, other.edge_mean, rtol=0, atol=1e-12)
            assert_close(one.edge_std, other.edge_std, rtol=0, atol=1e-12)
    small, kept = result.model, columns_of(result.model, model)
    expected = copy.deepcopy(small)
    store_statistics(expected, x[:, kept])
    for one, other in zip(small.statistics, expected.statistics, strict=True):
        assert_close(one.edge_mean, other.edge_mean, rtol=0, atol=1e-12)
        assert_close(one.edge_std, other.edge_std, rtol=0, atol=1e-12)
    assert torch.equal(small.background, model.background[:, kept])
    few = prune(model, x[:20], threshold=0.5).model  # features keep those of the training data
    quantiles = model.statistics[0].quantiles[columns_of(few, model)]
    assert torch.equal(few.statistics[0].quantiles, quantiles)


def test_a_step_shares_nothing_with_the_result(network, draw):
    model, x = network(), draw()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = prune(model, x, threshold=0.5)
    expected = {step: result.at(step)(x).detach() for step in (0, 1, len(result.removed))}
    for step in expected:
        with torch.no_grad():
            for value in result.at(step).state_dict().values():
                value.zero_()
    for step, output in expected.items():
        assert torch.equal(result.at(step)(x), output)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    with torch.no_grad():
        model.layers[0].bias.add_(1.0)  # what happens to the given model later changes nothing
    assert torch.equal(result.at(0)(x), expected[0])


def test_the_curve_is_the_loss_against_edges(network, draw):
    model, x = network((3, 4, 2)), draw()
    result = prune(model, x, noisy(model, x), budget=2.0)
    curve = result.curve
    assert curve.columns.tolist() == ["step", "edges_left", "loss"]
    assert curve["step"].tolist() == list(range(len(result.removed) + 1))
    assert curve.iloc[0].tolist() == [0, result.edges_before, result.loss_before]
    assert curve["edges_left"].iloc[-1] == result.edges_after
    assert curve["loss"].tolist()[1:] == [record["loss_after"] for record in result.removed]
    assert len(prune(model, x, budget=0).curve) == 1


def test_the_curve_shows_what_tuning_did(network, draw):
    model, x = network((3, 4, 1)), draw(200)
    y = noisy(model, x, 0.05)
    generator = torch.Generator().manual_seed(0)
    result = prune(model, x, y, budget=2.0, finetune=3, generator=generator)
    assert len(result.tuned) > 0
    curve = result.curve
    assert len(curve) == 1 + len(result.removed) + len(result.tuned)
    for record in result.tuned:
        losses = curve.loc[curve["step"] == record["step"], "loss"].tolist()
        assert losses == [record["loss_before"], record["loss_after"]]
        assert record["loss_after"] < record["loss_before"]
    assert '"tuned": [{"step"' in result.to_json()


@pytest.mark.parametrize("step", [-20, 4, 1000, 1.5, True])
def test_a_step_that_was_not_taken_is_refused(network, draw, step):
    model, x = network(), draw()
    with torch.no_grad():
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[:, 1] *= 1e-6
    result = prune(model, x, threshold=1e-4)
    count = len(result.removed)
    assert count == 4
    if step == 4:
        assert result.at(4).edges_alive == result.edges_after
        return
    with pytest.raises(InvalidValueError, match=f"a step from 0 to 4, got {step}"):
        result.at(step)


def test_its_text_is_one_line(network, draw):
    model, x = network((3, 4, 1), feature_names=["a", "b", "c"]), draw()
    with torch.no_grad():
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[:, 1] *= 1e-9
    result = prune(model, x, threshold=1e-4)
    cost = f"loss against outputs 0 to {result.loss_after:.4g}, by l1, without b"
    assert repr(result) == f"PruneResult: edges 16 to 12, {cost}"


def test_it_can_be_stored(network, draw):
    result = prune(network(), draw(), threshold=0.5)
    back = pickle.loads(pickle.dumps(result))  # noqa: S301
    for step in (0, 2, len(result.removed)):
        assert same(back.at(step), result.at(step))


def test_json_has_no_infinity(network, draw):
    result = prune(network(), draw(), threshold=0.5)
    first, *others = result.removed
    endless = replace(result, removed=({**first, "score": math.inf}, *others))
    records = json.loads(endless.to_json(), parse_constant=pytest.fail)["removed"]
    assert [record["score"] is None for record in records] == [True, *[False] * len(others)]
