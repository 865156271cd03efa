"""Whole nodes go first, and the edges of the others make up for them, within the budget."""

from __future__ import annotations

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import InterruptedWarning, InvalidValueError
from kanlens.model._kan_linear import KANLinear
from kanlens.pruning._propagation import Propagation
from kanlens.pruning._removal import LayerFit
from tests.made import draw as drawn
from tests.made import made
from tests.pruning.conftest import columns_of, noisy, prune
from tests.pruning.test_interrupts import interrupt


def same_nodes(network, widths=(3, 4, 2)):
    """A network whose last two hidden nodes are the same function of the features."""
    model = network(widths)
    first, last = model.layers
    with torch.no_grad():
        for tensor in first.base_weight, first.spline_weight, first.spline_scaler, first.bias:
            tensor[-1] = tensor[-2]
        last.grid[-1] = last.grid[-2]
    return model


def least_squares(layer, x, target, node):
    """The sums of a layer that are nearest to a target and do not read a node."""
    others = [k for k in range(layer.in_features) if k != node]
    design = layer.basis(x)[:, others].flatten(1).detach().numpy()
    design = np.column_stack([design, np.ones(len(design))])
    return torch.tensor(design @ np.linalg.lstsq(design, target.numpy(), rcond=1e-13)[0])


def test_two_nodes_that_do_the_same_become_one(network, draw):
    model, x = same_nodes(network), draw(400)
    result = prune(model, x, budget=1e-9, refit=True)
    assert result.model.widths == (3, 3, 2)
    assert_close(result.model(x), model(x), rtol=0, atol=1e-5)
    assert result.loss_after < 1e-9
    assert [r["reason"] for r in result.removed] == ["node"] * 2 + ["dead end"] * 3
    assert len({r["name"].split(" ")[-1] for r in result.removed[2:]}) == 1
    assert prune(model, x, budget=1e-9).removed == ()


def test_a_node_that_does_nothing_goes_first(network, draw):
    model, x = network((3, 4, 1)), draw(400)
    with torch.no_grad():
        model.layers[1].base_weight[0, 2] = 0
        model.layers[1].spline_weight[0, 2] = 0
    result = prune(model, x, budget=0.05, refit=True)
    assert result.removed[0]["name"] == "h1_3 -> y"
    assert [r["name"] for r in result.removed[1:4]] == [f"x{k} -> h1_3" for k in (1, 2, 3)]
    assert result.removed[3]["loss_after"] < 1e-9


LAYERS = [{}, {"base_activation": "zero"}, {"series": ("sin", "tanh"), "grid_size": 3}]


@pytest.mark.parametrize("options", LAYERS, ids=str)
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_first_node_is_the_one_that_least_squares_misses_least(network, draw, options, outputs):
    x = network((3, 5)).double()(draw(600)).detach()
    layer = KANLinear(5, outputs, generator=torch.Generator().manual_seed(0), **options).double()
    with torch.no_grad():
        layer.bias += 1.0
        target = layer(x)
    errors = [
        float((least_squares(layer, x, target, node) - target).square().mean()) for node in range(5)
    ]
    fit = LayerFit(layer, x, target, torch.ones(600))
    node, fitted = fit.remove_cheapest(), fit.best()
    assert node == int(np.argmin(errors))
    with torch.no_grad():
        error = float((fitted(x) - target).square().mean())
    assert_close(error, min(errors), rtol=0.02, atol=1e-12)
    assert not fitted.edge_values(x)[:, :, node].any()


def test_edges_that_are_masked_stay_so(network, draw):
    x = network((3, 4)).double()(draw(600)).detach()
    layer = KANLinear(4, 3, generator=torch.Generator().manual_seed(0)).double()
    layer.mask[0, 1] = layer.mask[2, 3] = layer.mask[2, 1] = 0
    with torch.no_grad():
        target = layer(x)
    fit = LayerFit(layer, x, target, torch.ones(600))
    assert_close(fit.best()(x), target, rtol=0, atol=1e-5)
    node, without = fit.remove_cheapest(), fit.best()
    assert torch.equal(without.mask, layer.mask)
    layer.mask[:, node] = 0
    for out in range(3):
        read = [k for k in range(4) if layer.mask[out, k]]
        part, sums = layer.select([out], read), target[:, [out]]
        error = (least_squares(part, x[:, read], sums, -1) - sums).square().mean()
        with torch.no_grad():
            assert_close((without(x)[:, [out]] - sums).square().mean(), error, rtol=0.01, atol=1e-9)


def test_a_refit_that_breaks_the_budget_is_refused(network, draw, monkeypatch):
    model, x = network((3, 4, 1)), draw(200)
    y = noisy(model, x)

    def broken(self):
        layer = copy.deepcopy(self.layer)
        with torch.no_grad():
            layer.bias += 10.0
        return layer

    monkeypatch.setattr(LayerFit, "best", broken)
    result = prune(model, x, y, budget=0.3, refit=True)
    plain = prune(model, x, y, budget=0.3)
    assert [r["name"] for r in result.removed] == [r["name"] for r in plain.removed]
    assert result.tuned == ()
    assert result.loss_after == plain.loss_after


def test_edges_are_scored_as_they_are_refitted(network, draw):
    model, x = network((3, 6, 1)), draw(200)
    y = noisy(model, x)
    result = prune(model, x, y, budget=0.5, refit=True)
    reasons = [r["reason"] for r in result.removed]
    record = result.removed[reasons.index("score")]
    scores = kanlens.edge_scores(result.at(record["step"]), x, y).set_index("name")["weight_l1"]
    assert_close(record["score"], float(scores[record["name"]]), rtol=1e-9, atol=0)
    shares = scores / scores.groupby(scores.index.str.endswith("-> y")).transform("max")
    assert_close(record["relative_score"], float(shares[record["name"]]), rtol=1e-9, atol=0)


@pytest.mark.slow  # refits after each edge
@pytest.mark.parametrize(
    ("widths", "targets", "score"),
    [
        ((3, 6, 1), True, "damage"),
        ((3, 6, 3), False, "l1"),
        ((3, 5, 4, 2), True, "l1"),
        ((3, 5, 4, 2), False, "damage"),
    ],
    ids=str,
)
def test_the_budget_holds_at_every_step(network, draw, widths, targets, score):
    model, x = network(widths), draw(120)
    y = noisy(model, x) if targets else None
    options = {"budget": 0.3 if targets else 0.1, "score": score, "refit": True}
    result, again = (prune(model, x, y, **options) for _ in range(2))
    assert "node" in {r["reason"] for r in result.removed}
    assert max(r["loss_after"] for r in result.removed) <= result.loss_allowed
    assert result.loss_after <= result.loss_allowed
    assert result.edges_after <= prune(model, x, y, budget=options["budget"]).edges_after
    assert list(result.removed) == list(again.removed)
    assert_close(result.at(-1)(x), result.model(x[:, columns_of(result.model, model)]))
    tuned = {record["step"]: record["loss_after"] for record in result.tuned}
    losses = [result.loss_before, *(r["loss_after"] for r in result.removed)]
    for step, loss in enumerate(losses):
        network_then = result.at(step)
        assert network_then.edges_alive == result.edges_before - step
        with torch.no_grad():
            error = (network_then(x) - (model(x) if y is None else y)).square()
            scale = model(x).var(0, correction=0) if y is None else model.output_scale.square()
        assert_close(tuned.get(step, loss), float((error / scale).mean()), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("widths", [[3, (2, [2, 3]), 2], [3, (1, [2, 3]), (1, [3])]], ids=str)
def test_products_go_whole(widths):
    model, x = made(widths), drawn(200, 3)
    result = prune(model, x, budget=0.3, refit=True)
    assert result.loss_after <= result.loss_allowed
    assert "node" in {r["reason"] for r in result.removed}
    small = result.model
    assert_close(result.at(-1)(x), small(x[:, columns_of(small, model)]), rtol=1e-9, atol=1e-9)
    assert result.at(-1).shape == model.shape


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_refitted_where_they_are_unsure(draw, classes):
    x = draw(400)
    names = np.array(["a", "b", "c"])
    noise = 0.5 * draw(400, seed=4)[:, 0]
    labels = names[np.digitize(x[:, 0] + x[:, 1] ** 2 + noise, [0.5, 1.5][: classes - 1])]
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([3, 8, 1 if classes == 2 else 3], generator=generator).double()
    kanlens.fit(model, (x, labels), steps=5, progress=False, generator=generator)
    result = prune(model, x, labels, budget=0.3, refit=True)
    assert "node" in {r["reason"] for r in result.removed}
    assert result.loss_after <= result.loss_allowed
    assert result.edges_after <= prune(model, x, labels, budget=0.3).edges_after
    assert result.model.class_labels == model.class_labels


def test_rows_held_out_of_tuning_are_held_out_of_refits(network, draw, monkeypatch):
    model, x = network((3, 6, 1)), draw(200)
    sizes = []
    begin = LayerFit.__init__

    def counted(self, layer, inputs, *data):
        sizes.append(len(inputs))
        begin(self, layer, inputs, *data)

    monkeypatch.setattr(LayerFit, "__init__", counted)
    generator = torch.Generator().manual_seed(0)
    options = {"budget": 0.5, "refit": True, "finetune": 1, "generator": generator}
    result = prune(model, x, noisy(model, x), **options)
    assert set(sizes) == {160}
    assert result.loss_after <= result.loss_allowed


def test_single_precision_and_frozen_networks(network, draw):
    model, x = same_nodes(network).float().requires_grad_(False), draw(400).float()
    result = prune(model, x, budget=1e-6, refit=True)
    assert result.model.dtype == torch.float32
    assert result.model.widths == (3, 3, 2)
    assert_close(result.model(x), model(x), rtol=0, atol=1e-2)


def test_layers_that_are_not_linear_in_coefficients_are_left(
    with_functions, network, draw, monkeypatch
):
    model, x = with_functions(), draw(100)
    result, plain = (prune(model, x, budget=0.1, refit=refit) for refit in (True, False))
    assert [r["name"] for r in result.removed] == [r["name"] for r in plain.removed]
    flat = network((3, 1))
    assert (
        prune(flat, x, budget=0.1, refit=True).loss_after == prune(flat, x, budget=0.1).loss_after
    )


CALLS = [(LayerFit, "best", 3), (Propagation, "replace", 3), (kanlens.KAN, "edge_name", 6)]


@pytest.mark.parametrize(("owner", "name", "call"), CALLS)
def test_an_interrupt_keeps_what_is_removed(network, draw, monkeypatch, owner, name, call):
    model, x = network((3, 6, 2)), draw(100)
    options = {"budget": 0.5, "refit": True}
    whole = prune(model, x, **options)
    with monkeypatch.context() as patch, pytest.warns(InterruptedWarning):
        interrupt(patch, owner, name, call)
        result = prune(model, x, **options)
    count = int(re.fullmatch(r"interrupted after (\d+) removals", result.stopped_because)[1])
    assert 0 < count < len(whole.removed)
    assert list(result.removed[:count]) == list(whole.removed[:count])
    assert result.loss_after <= result.loss_allowed
    kept = columns_of(result.model, model)
    assert_close(result.model(x[:, kept]), whole.at(count)(x), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_wide_default_network_keeps_less_than_a_quarter_of_its_edges():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(800, 5, generator=generator, dtype=torch.float64)
    y = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 5 * x[:, 3]
    y = (y + 0.5 * torch.randn(800, generator=generator, dtype=torch.float64))[:, None]
    data = x[:400], y[:400]
    model = kanlens.fit_default(data, hidden=(48,), progress=False, generator=generator).model
    result, plain = (prune(model, *data, budget=0.1, refit=refit) for refit in (True, False))
    assert 4 * result.edges_after < result.edges_before < 4 * plain.edges_after
    assert result.loss_after <= result.loss_allowed
    with torch.no_grad():
        kept = columns_of(result.model, model)
        before, after = model(x[400:]) - y[400:], result.model(x[400:, kept]) - y[400:]
    assert float(after.square().mean()) < 1.2 * float(before.square().mean())


def test_values_that_overflow_are_no_error(network, draw):
    model, x = network((3, 4, 1)), draw(50)
    with torch.no_grad():
        model.layers[0].bias[0] = 1e200
        model.layers[1].base_weight[0, 0] = 0
        model.layers[1].spline_weight[0, 0] = 0
    refitted, plain = (prune(model, x, budget=0.1, refit=refit) for refit in (True, False))
    assert refitted.loss_after <= refitted.loss_allowed
    assert [r["name"] for r in refitted.removed] == [r["name"] for r in plain.removed]


def test_a_normal_matrix_beyond_the_memory_is_refused(network, draw):
    model, x = network((3, 200, 1)), draw(20)
    text = "the normal matrix of a refit that takes at least 0.2 GB. Pass a larger max_memory"
    with pytest.raises(InvalidValueError, match=text):
        prune(model, x, budget=0.1, refit=True, max_memory="100MB")


def test_one_row_leaves_one_path(network, draw):
    result = prune(network((3, 4, 1)), draw(1), budget=0.1, refit=True)
    assert result.edges_after == 2
    assert math.isfinite(result.loss_after)
