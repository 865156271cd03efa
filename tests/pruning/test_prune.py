"""Pruning removes what matters least, says what it cost, and leaves the model it was given."""

from __future__ import annotations

import copy
import dataclasses
import json
import random

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.model._trace import store_statistics, trace
from kanlens.pruning._scores import SCORES, Scorer
from kanlens.training._objective import task_loss
from tests.pruning.conftest import noisy, prune


def ranked(model, x):
    """All live edges, smallest share of the layer's largest norm first."""
    record, order = trace(model, x), []
    for index, layer in enumerate(model.layers):
        scores = kanlens.sparsity.weight_l1(layer, record.inputs[index])
        for out, in_ in (layer.mask != 0).nonzero().tolist():
            order.append((float(scores[out, in_] / scores.max()), (index, out, in_)))
    return [edge for _, edge in sorted(order)]


@torch.no_grad()
def reference(model, x, y, allowed_rise, *, rescore):
    """Greedy pruning by the book: the whole network and all edge values, at every try."""
    model = copy.deepcopy(model)
    loss = first = float(task_loss(model, model(x), y))
    waiting, refused, removed, losses = ranked(model, x), set(), [], []
    while waiting:
        index, out, in_ = edge = waiting.pop(0)
        tried = copy.deepcopy(model)
        layer = tried.layers[index]
        edges = layer.edge_values(trace(tried, x).inputs[index])
        layer.bias[out] += edges[:, out, in_].mean()
        layer.mask[out, in_] = 0
        new = float(task_loss(tried, tried(x), y))
        alive = torch.ones(1, dtype=torch.float64)
        for each in tried.layers:
            alive = each.mask @ alive.expand(each.in_features)
        if new <= first + allowed_rise * first and bool(alive.any()):
            model, loss = tried, new
            removed.append(edge)
            losses.append(loss)
            if rescore:
                waiting = [each for each in ranked(model, x) if each not in refused]
        else:
            refused.add(edge)
    return removed, losses


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (3, 3, 2, 1)])
@pytest.mark.parametrize("budget", [0.1, 1.0])
@pytest.mark.parametrize("rescore", [True, False])
def test_a_budget_removes_what_the_slow_way_removes(network, draw, widths, budget, rescore):
    model, x = network(widths), draw()
    y = noisy(model, x)
    expected, losses = reference(model, x, y, budget, rescore=rescore)
    result = prune(model, x, y, budget=budget, rescore=rescore)
    found = [r for r in result.removed if r["reason"] == "score"]
    assert [(r["layer"], r["out"], r["in"]) for r in found] == expected
    assert_close([r["loss_after"] for r in found], losses, rtol=1e-9, atol=0)
    assert len(found) > 0
    assert result.loss_after <= result.loss_before * (1 + budget) * (1 + 1e-12)


def test_large_networks_are_scored_anew_after_every_part_of_their_edges(network, draw, monkeypatch):
    model, x = network((3, 4, 2)), draw()
    passes: list[int] = []
    matrices = Scorer.matrices

    def counted(self):
        passes.append(1)
        return matrices(self)

    monkeypatch.setattr(Scorer, "matrices", counted)
    counts = []
    for parts, options in [(200, {}), (5, {}), (200, {"rescore": False})]:
        monkeypatch.setattr("kanlens.pruning._removal.PARTS", parts)
        result = prune(model, x, noisy(model, x), budget=2.0, **options)
        counts.append((len(passes), len(result.removed)))
        passes.clear()
    assert counts[0][0] == 1 + sum(r["reason"] == "score" for r in result.removed)
    assert 1 < counts[1][0] < counts[0][0]
    assert counts[2][0] == 1


@pytest.mark.parametrize("score", SCORES)
def test_every_score_keeps_the_budget(network, draw, score):
    model, x = network((3, 4, 2)), draw()
    y = noisy(model, x)
    result = prune(model, x, y, budget=0.5, score=score)
    assert result.score == score
    assert len(result.removed) > 0
    assert result.loss_after <= 1.5 * result.loss_before * (1 + 1e-12)
    first = kanlens.edge_scores(model, x, y).set_index("name")[SCORES[score].column]
    record = result.removed[0]
    assert_close(record["score"], float(first[record["name"]]), rtol=1e-9, atol=1e-12)


def test_damage_takes_the_cheapest_edge_first(network, draw):
    model, x = network((3, 4, 2)), draw()
    y = noisy(model, x)
    result = prune(model, x, y, budget=0.5, score="damage")
    for record in result.removed:
        frame = kanlens.edge_scores(result.at(record["step"]), x, y)
        best = frame.loc[frame["damage"].idxmin()]
        assert record["name"] == best["name"]
        change = record["loss_after"] - record["loss_before"]
        assert_close(change, float(best["damage"]), rtol=1e-6, atol=1e-12)


def test_a_threshold_removes_what_is_below_it(network, draw):
    model, x = network((3, 4, 2)), draw()
    record = trace(model, x)
    scores = [
        kanlens.sparsity.weight_l1(layer, inputs).detach()
        for layer, inputs in zip(model.layers, record.inputs, strict=True)
    ]
    result = prune(model, x, threshold=0.6)
    below = {
        (index, *edge)
        for index, each in enumerate(scores)
        for edge in map(tuple, (each < 0.6 * each.max()).nonzero().tolist())
    }
    by_score = [r for r in result.removed if r["reason"] == "score"]
    assert {(r["layer"], r["out"], r["in"]) for r in by_score} == below
    for r in result.removed:
        assert_close(r["score"], float(scores[r["layer"]][r["out"], r["in"]]))
        assert_close(r["relative_score"], r["score"] / float(scores[r["layer"]].max()))
        assert r["name"] == model.edge_name(r["layer"], r["out"], r["in"])
    assert prune(model, x, threshold=0.0).removed == ()


def test_a_budget_of_zero_changes_nothing(network, draw):
    model, x = network(), draw()
    model.layers[0].mask[:, 1] = 0  # a dead feature, which would be cut away otherwise
    result = prune(model, x, budget=0)
    assert result.removed == ()
    assert result.dropped_features == ()
    assert torch.equal(result.model(x), model(x))
    assert result.model is not model
    assert_close(dict(result.model.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert result.edges_after == result.edges_before == 12
    assert result.loss_after == result.loss_before == 0
    assert prune(model, x, threshold=0).dropped_features == ("x2",)


def test_without_y_the_loss_is_the_change_of_the_output(network, draw):
    model, x = network((3, 4, 2)), draw()
    result = prune(model, x, threshold=0.3)
    with torch.no_grad():
        before, kept = model(x), [model.feature_names.index(n) for n in result.model.feature_names]
        after = result.model(x[:, kept])
    expected = ((after - before).square().mean(0) / before.var(0, correction=0)).mean()
    assert result.loss_before == 0
    assert result.loss_after > 0
    assert_close(result.loss_after, float(expected))


def test_without_y_a_budget_allows_what_changes_nothing(network, draw):
    model, x = network(), draw()
    with torch.no_grad():
        model.layers[0].base_weight[1, 2] *= 1e-6
        model.layers[0].spline_weight[1, 2] *= 1e-6
    result = prune(model, x, budget=1e-9)
    assert [r["name"] for r in result.removed] == ["x3 -> h1_2"]
    assert result.loss_after < 1e-6


@pytest.mark.parametrize("task", ["regression", "two classes", "three classes", "no target"])
@pytest.mark.parametrize("budget", [1e-9, 0.5])
def test_what_a_budget_allows_is_what_is_said(network, draw, task, budget):
    """The budget's share of the loss, or 1e-6 of the best constant's: variance, or entropy."""
    model, x = network((3, 3 if task == "three classes" else 1)), draw(90)
    model.output_scale.fill_(1.0)
    with torch.no_grad():
        output = model(x)
    y, constant = None, 1.0
    if task == "regression":
        y = output + 0.1 * draw(90, seed=5)[:, :1]
        constant = float(y.var(correction=0))
    elif task != "no target":
        edges = torch.tensor([-0.3, 0.4] if task == "three classes" else [0.1]).double()
        y = torch.bucketize(x[:, 0].contiguous(), edges)
        share = np.bincount(y) / 90
        labels = tuple(str(code) for code in range(len(share)))
        model.schema = dataclasses.replace(model.schema, task="classification", class_labels=labels)
        constant = float(-(share * np.log(share)).sum())
    result = prune(model, x, y, budget=budget)
    rise = budget * (result.loss_before if y is not None else 1.0)
    assert_close(
        result.loss_allowed, result.loss_before + max(rise, 1e-6 * constant), rtol=1e-7, atol=1e-12
    )
    assert result.loss_after <= result.loss_allowed
    for record in result.removed:
        assert record["loss_after"] <= result.loss_allowed
    assert prune(model, x, y, budget=0).loss_allowed == result.loss_before
    assert prune(model, x, y, threshold=0.1).loss_allowed is None


def test_classification_takes_labels_and_codes(network, draw):
    x = draw(80)
    labels = np.where((x[:, 0] > 0).numpy(), "warm", "cold")
    model = network((3, 1))
    kanlens.fit(model, (x, labels), steps=3, progress=False, generator=torch.Generator())
    by_text = prune(model, x, labels, budget=0.5)
    by_code = prune(model, x, (x[:, 0] > 0).long(), budget=0.5)
    by_truth = prune(model, x, [0 if label == "cold" else 1 for label in labels], budget=0.5)
    assert by_text.loss_after == by_code.loss_after == by_truth.loss_after
    assert len(by_text.removed) > 0
    with torch.no_grad():
        target = torch.tensor(labels == "warm").double()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], target)
    assert_close(by_text.loss_before, float(loss))
    assert by_text.model.class_labels == ("cold", "warm")
    several = network((3, 4))
    assert prune(several, x, several(x).detach(), threshold=0.2).model.widths[-1] == 4


def test_function_edges_are_pruned_like_others(with_functions, draw):
    model, x = with_functions(), draw()
    result = prune(model, x, noisy(model, x), budget=3.0)
    removed = {(r["layer"], r["out"], r["in"]) for r in result.removed}
    assert removed & {(0, 1, 2), (0, 3, 0), (1, 0, 3)}
    assert all(layer.edge_terms() for layer in result.model.layers)
    assert_close(result.removed[-1]["loss_after"], result.loss_after)


def test_pruning_again_reads_the_columns_by_name(network, draw):
    model, x = network((4, 3, 1), feature_names=list("abcd")), draw(width=4)
    with torch.no_grad():
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[:, 1] *= 1e-6
            weight[:, 3] *= 1e-2
    frame = pd.DataFrame(x.numpy(), columns=list("abcd")).assign(note="text")
    first = prune(model, frame, threshold=1e-4)
    assert first.model.feature_names == ("a", "c", "d")
    second = prune(first.model, frame[["note", "d", "c", "b", "a"]], threshold=0.05)
    assert second.model.feature_names == ("a", "c")
    assert second.dropped_features == ("d",)
    assert_close(second.model(frame), second.model(x[:, [0, 2]]))
    refit = kanlens.read_table(frame.drop(columns="note").assign(y=x[:, 0].numpy()), target="y")
    kanlens.fit(second.model, refit, steps=1, progress=False, generator=torch.Generator())
    assert second.model.feature_names == ("a", "c")


@pytest.mark.parametrize("options", [{"threshold": 0.3}, {"budget": 0.5}, {"budget": 0}])
def test_the_model_that_was_given_is_left_alone(network, draw, options):
    model, x = network().eval(), draw()
    model.layers[1].train()
    store_statistics(model, x)
    statistics, schema = model.statistics, model.schema
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch_state, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),  # noqa: NPY002 -- the global one is what is checked
        random.getstate(),
    )
    result = prune(model, x, noisy(model, x), **options)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert [m.training for m in (model, *model.layers)] == [False, False, True]
    assert not result.model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(one is other for one, other in zip(model.statistics, statistics, strict=True))
    assert model.schema is schema
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert random.getstate() == python_state
    with torch.no_grad():  # and shares nothing with the result
        for value in result.model.state_dict().values():
            value.zero_()
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_float32_prunes_the_same_edges(network, draw):
    model, x = network((3, 4, 2)), draw()
    y = noisy(model, x)
    double = prune(model, x, y, budget=0.5)
    single = prune(copy.deepcopy(model).float(), x.float(), y.float(), budget=0.5)
    assert single.model.dtype == torch.float32
    assert [r["name"] for r in single.removed] == [r["name"] for r in double.removed]
    assert_close(single.loss_after, double.loss_after, rtol=1e-4, atol=0)


def test_the_result_reads_as_a_table_and_as_json(network, draw):
    model, x = network(), draw()
    result = prune(model, x, threshold=0.4)
    frame = result.to_frame()
    assert frame.columns.tolist() == [
        "step", "layer", "out", "in", "name", "score", "relative_score", "reason",
        "loss_before", "loss_after", "edges_left", "loss_against",
    ]  # fmt: skip
    assert len(frame) == len(result.removed) > 0
    assert frame["name"].tolist() == [r["name"] for r in result.removed]
    empty = prune(model, x, threshold=0.0).to_frame()
    assert empty.columns.tolist() == frame.columns.tolist()
    assert len(empty) == 0

    def refuse(word):
        raise ValueError(word)

    data = json.loads(result.to_json(), parse_constant=refuse)
    assert data["removed"] == list(result.removed)
    assert data["edges_after"] == result.edges_after
    assert data["constant_outputs"] == []
    assert data["score"] == "l1"
    assert data["tuned"] == []
    assert data["loss_against"] == "outputs"
    assert set(frame["loss_against"]) == {"outputs"}
    told = prune(model, x, noisy(model, x), threshold=0.4)
    assert told.loss_against == "targets"
    assert set(told.to_frame()["loss_against"]) == {"targets"}
