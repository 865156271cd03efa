"""Every score against slow and obvious versions, and the same however it is kept up to date."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import MethodError, ShapeError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._trace import trace
from kanlens.pruning._propagation import Propagation
from kanlens.pruning._scores import SCORES, LossEvaluator, Scorer, edge_scores
from kanlens.training._objective import task_loss
from tests.made import draw as drawn
from tests.made import levels, made

MADE: list[tuple[list[Any], bool]] = [  # widths, and whether nodes have scales
    ([3, 4, 2], False),
    ([3, (1, [2, 3]), 2], False),
    ([3, (1, [2, 3]), (1, [3])], True),
    ([3, 3, (1, 2), 1], True),
]


def rows_of(model, x):
    """Values of all edges, (batch, out, in) per layer, one function after the other."""
    inputs, _, _ = levels(model, x)
    found = []
    for layer, hidden in zip(model.layers, inputs, strict=True):
        values = torch.zeros(len(x), layer.out_features, layer.in_features, dtype=torch.float64)
        for out, in_ in (layer.mask != 0).nonzero().tolist():
            values[:, out, in_] = torch.as_tensor(layer.edge(out, in_)(hidden[:, in_].numpy()))
        found.append(values)
    return found


def slow_damage(model, x, y):
    before, edges = float(task_loss(model, levels(model, x)[2], y)), rows_of(model, x)
    found = []
    for index, layer in enumerate(model.layers):
        rises = torch.zeros_like(layer.mask)
        for out, in_ in (layer.mask != 0).nonzero().tolist():
            cut = copy.deepcopy(model)
            with torch.no_grad():
                cut.layers[index].bias[out] += edges[index][:, out, in_].mean()
                cut.layers[index].mask[out, in_] = 0
            rises[out, in_] = float(task_loss(cut, levels(cut, x)[2], y)) - before
        found.append(rises)
    return found


def slow_backward(model, x):
    """The recursion of KAN 2.0 for one output after the other, averaged."""
    edges, (_, sums, _) = rows_of(model, x), levels(model, x)
    total = [torch.zeros_like(layer.mask) for layer in model.layers]
    for target in range(model.widths[-1]):
        node = [float(k == target) for k in range(model.widths[-1])]
        for index in range(len(model.layers) - 1, -1, -1):
            layer, before = model.layers[index], [0.0] * model.layers[index].in_features
            for out in range(layer.out_features):
                whole = float(sums[index][:, out].std(correction=0))
                own = node[model.nodes[index].grouping.place(out)[0]]
                for in_ in range(layer.in_features):
                    score = own * float(edges[index][:, out, in_].std(correction=0)) / whole
                    total[index][out, in_] += score / model.widths[-1]
                    before[in_] += score
            node = before
    return total


def by_layer(model, x, function):
    pairs = zip(model.layers, trace(model, x).inputs, strict=True)
    return [function(layer, inputs).detach() for layer, inputs in pairs]


@pytest.fixture(params=MADE, ids=str)
def model(request):
    widths, scaled_nodes = request.param
    found = made(widths, scaled_nodes=scaled_nodes)
    found.layers[0].mask[1, 2] = 0
    return found


def compared(model, x, y):
    return {
        "weight_l1": by_layer(model, x, kanlens.sparsity.weight_l1),
        "raw_l1": by_layer(model, x, lambda layer, _: kanlens.sparsity.raw_l1(layer)),
        "std": [values.std(0, correction=0) for values in rows_of(model, x)],
        "damage": slow_damage(model, x, y),
        "backward": slow_backward(model, x),
    }


@pytest.mark.slow
def test_scores_are_what_the_slow_way_finds(model):
    x = drawn(15, 3)
    y = levels(model, x)[2] + drawn(15, model.widths[-1], seed=3)
    frame = edge_scores(model, x, y)
    assert len(frame) == model.edges_alive
    assert "x3 -> h1_2" not in set(frame["name"])
    for column, matrices in compared(model, x, y).items():
        expected = [
            float(matrices[row["layer"]][row["out"], row["in"]]) for row in frame.to_dict("records")
        ]
        np.testing.assert_allclose(frame[column], expected, rtol=1e-9, atol=1e-12, err_msg=column)
        wrong = np.array(expected)
        wrong[3] *= 1 + 1e-6
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(frame[column], wrong, rtol=1e-9, atol=1e-12)


def test_damage_is_a_rise_against_y_or_against_the_model(network, draw):
    model, x = network((3, 4, 1)), draw()
    with torch.no_grad():
        y = model(x)
    against = edge_scores(model, x, y)["damage"] * float(
        model.output_scale**2 / y.var(correction=0)
    )
    np.testing.assert_allclose(edge_scores(model, x)["damage"], against, rtol=1e-9)
    assert (against > 0).all()
    noise = torch.randn(50, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert (edge_scores(model, x, noise)["damage"] < 0).any()


def test_backward_scores_of_an_example(network):
    """A sum of independent parts: the score of each is its share of the deviation."""
    layer = KANLinear(2, 1, functions=[["x", "x"]])
    with torch.no_grad():
        layer.affine[0, :, 2] = torch.tensor([3.0, 4.0])
    model = kanlens.KAN.from_layers([layer], network((2, 1)).schema).double()
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    frame = edge_scores(model, x)
    np.testing.assert_allclose(frame["backward"], [0.6, 0.8])
    np.testing.assert_allclose(frame["std"], [3.0, 4.0])
    np.testing.assert_allclose(frame["damage"], [9 / 25, 16 / 25])


def test_damage_is_infinite_where_the_output_would_not_be_defined(network):
    layers = [copy.deepcopy(layer) for layer in network((2, 1, 1)).layers]
    for place in ((0, 0), (0, 1)):
        layers[0].assign(*place, "x", (1.0, 0.0, 1.0, 0.0))
    layers[1].assign(0, 0, "sqrt", (1.0, 0.0, 1.0, 0.0))
    with torch.no_grad():
        layers[0].bias.zero_()
    model = kanlens.KAN.from_layers(layers, network((2, 1)).schema)
    wide = torch.linspace(-2, 2, 41, dtype=torch.float64)
    x = torch.stack([wide, 1 - 0.9 * wide], dim=1)  # x1 + x2 > 0, but not either of them
    frame = edge_scores(model, x).set_index("name")
    assert frame.loc[["x1 -> h1_1", "x2 -> h1_1"], "damage"].tolist() == [math.inf, math.inf]
    assert math.isfinite(frame.loc["h1_1 -> y", "damage"])
    assert kanlens.prune(model, x, budget=10.0, score="damage", progress=False).removed == ()


def test_where_nothing_varies_nothing_flows(network, draw):
    frame = edge_scores(network(), draw(1).expand(5, 3))
    for column in ("std", "backward", "damage"):
        assert frame[column].abs().max() < 1e-12, column


def state_of(model, x, y):
    state = Propagation(model, x)
    return state, LossEvaluator(model, state.output, y, call="prune")


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("widths", [[3, 4, 3, 2], [3, (1, [2, 3]), (1, 2)]], ids=str)
@pytest.mark.slow  # many cases
def test_scores_kept_up_to_date_are_those_of_a_new_start(name, widths):
    model, x = made(widths), drawn(15, 3)
    y = drawn(15, model.widths[-1], seed=3)
    state, evaluator = state_of(model, x, y)
    scorer = Scorer(SCORES[name], state, evaluator)
    seen = []
    for index, out, in_ in [(0, 1, 2), (1, 0, 1), (0, 2, 0), (0, 1, 0), (1, 1, 0)]:
        state.remove((index, out, in_))
        if out == 2:
            state.undo()
        found = scorer.matrices()
        fresh = Scorer(SCORES[name], *state_of(copy.deepcopy(model), x, y)).matrices()
        assert_close(found, fresh, rtol=1e-10, atol=1e-12)
        seen.append(found)
    assert not torch.equal(seen[0][0], seen[-1][0])


def test_what_cannot_be_scored_is_refused(network, draw):
    with pytest.raises(ShapeError, match="edge_scores: expected at least 1 row, got 0"):
        edge_scores(network(), draw()[:0])
    model = network((3, 1))
    with torch.no_grad():
        model.layers[0].bias.fill_(1e200)
        model.output_scale.fill_(1e200)
    with pytest.raises(MethodError, match="expected finite outputs on x, got NaN or infinity"):
        edge_scores(model, draw())
