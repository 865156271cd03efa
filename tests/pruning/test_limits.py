"""Where pruning stops: the last path, dead ends, constants, and calls that cannot be."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import DataError, InvalidValueError, MethodError, ShapeError
from tests.pruning.conftest import prune


def test_nodes_that_lead_nowhere_or_do_not_vary_are_cut(network, draw):
    model, x = network((3, 3, 3, 1)), draw()
    model.layers[0].mask[1] = 0  # node h1_2 is constant
    model.layers[2].mask[0, 2] = 0  # node h2_3 leads nowhere
    with torch.no_grad():
        before = model(x)
    result = prune(model, x, threshold=0.0)
    reasons = [(r["reason"], r["name"]) for r in result.removed]
    assert reasons == [
        *[("constant node", f"h1_2 -> h2_{i}") for i in (1, 2, 3)],
        *[("dead end", f"h1_{i} -> h2_3") for i in (1, 3)],
    ]
    assert result.model.widths == (3, 2, 2, 1)
    assert result.loss_after < 1e-24
    assert_close(result.model(x), before, rtol=0, atol=1e-12)


def test_cascades_run_through_several_layers(network, draw):
    model, x = network((3, 2, 2, 2, 1)), draw()
    model.layers[0].mask[1] = 0
    model.layers[1].mask[1, 0] = 0  # h2_2 hangs on h1_2 alone, and h3_2 on h2_2
    model.layers[2].mask[1, 0] = 0
    with torch.no_grad():
        before = model(x)
    result = prune(model, x, threshold=0.0)
    assert result.model.widths == (3, 1, 1, 1, 1)
    assert_close(result.model(x), before, rtol=0, atol=1e-12)
    model = network((3, 2, 2, 2, 1))
    model.layers[3].mask[0, 1] = 0
    model.layers[2].mask[0, 1] = 0  # h3_2 leads nowhere, h2_2 only there, h1_2 only to h2_2
    model.layers[1].mask[0, 1] = 0
    model.layers[0].mask[0, 2] = 0  # and feature x3 only to h1_2
    result = prune(model, x, threshold=0.0)
    assert result.model.widths == (2, 1, 1, 1, 1)
    assert result.dropped_features == ("x3",)
    assert {r["reason"] for r in result.removed} == {"dead end"}


def test_an_output_may_lose_every_edge_and_is_named(network, draw):
    model, x = network((3, 2), output_names=["much", "little"]), draw()
    with torch.no_grad():
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[1] *= 1e-3
            weight[0, 1] *= 1e-3
        before = model(x)
    result = prune(model, x, threshold=0.02)
    assert result.constant_outputs == ("little",)
    assert result.dropped_features == ("x2",)
    assert result.model.output_names == ("much", "little")
    after = result.model(x[:, [0, 2]]).detach()
    assert after[:, 1].std() == 0
    assert_close(after.mean(0), before.mean(0), rtol=0, atol=1e-12)
    assert prune(model, x, threshold=0.0).constant_outputs == ()


def test_the_last_path_stays_under_any_budget(network, draw):
    for widths in ((3, 1), (3, 4, 1), (3, 2, 2, 2)):
        model, x = network(widths), draw()
        result = prune(model, x, torch.zeros(50, widths[-1]), budget=1e9)
        assert result.edges_after >= len(widths) - 1
        assert result.model.widths[:-1] == (1,) * (len(widths) - 1)
        assert len(result.constant_outputs) == widths[-1] - 1


def test_a_threshold_that_cuts_every_path_is_refused(network, draw):
    model, x = network((3, 2, 1)), draw()
    with torch.no_grad():  # the first layer's strongest edge leads to the second's weakest
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[1] *= 0.01
        for weight in (model.layers[1].base_weight, model.layers[1].spline_weight):
            weight[0, 0] *= 0.01
    text = (
        "prune: expected a path from the features to an output, got a threshold of 0.5 "
        "that cuts every path "
        "from the features to an output. Lower it."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        prune(model, x, threshold=0.5)
    assert prune(model, x, threshold=1e-4).edges_after > 0


def test_a_model_without_a_path_is_refused(network, draw):
    model = network((3, 2, 1))
    model.layers[0].mask[0] = 0
    model.layers[1].mask[0, 1] = 0
    for options in ({"threshold": 0.1}, {"budget": 0.1}, {"budget": 0}):
        with pytest.raises(MethodError, match="a path from some feature to an output, got none"):
            prune(model, draw(), **options)


def test_outputs_that_are_not_finite_are_refused(network, draw):
    model = network((3, 1))
    with torch.no_grad():
        model.layers[0].bias.fill_(1e200)
        model.output_scale.fill_(1e200)
    with pytest.raises(MethodError, match="expected finite outputs on x, got NaN or infinity"):
        prune(model, draw(), threshold=0.1)


def test_a_cut_that_leaves_the_domain_of_a_function(network):
    layers = [copy.deepcopy(layer) for layer in network((2, 1, 1)).layers]
    layers[0].assign(0, 0, "x", (1.0, 0.0, 1.0, 0.0))
    layers[0].assign(0, 1, "x", (1.0, 0.0, 1.0, 0.0))
    layers[1].assign(0, 0, "sqrt", (1.0, 0.0, 1.0, 0.0))
    with torch.no_grad():
        layers[0].bias.zero_()
    model = kanlens.KAN.from_layers(layers, network((2, 1)).schema)
    wide = torch.linspace(-2, 2, 41, dtype=torch.float64)
    x = torch.stack([wide, 1 - 0.9 * wide], dim=1)  # x1 + x2 > 0, but not x1 + the mean of x2
    with pytest.raises(MethodError, match=r"finite, got a threshold of 0\.95 that makes it nan"):
        prune(model, x, threshold=0.95)
    assert prune(model, x, budget=10.0).removed == ()


@pytest.mark.parametrize("y", [None, torch.zeros(1, 1)])
def test_one_row_and_constant_outputs(network, draw, y):
    model = network()
    for x in (draw(1), draw(1).expand(5, 3)):
        target = None if y is None else y.expand(len(x), 1)
        result = prune(model, x, target, budget=0.1)
        assert result.edges_after == 2  # nothing varies, so one path is left
        kept = [model.feature_names.index(name) for name in result.model.feature_names]
        assert_close(result.model(x[:, kept]), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "prune: expected one of threshold and budget, got neither"),
        ({"threshold": 0.1, "budget": 0.1}, "expected one of threshold and budget, got both"),
        ({"threshold": 1.5}, "to be a share of the layer's largest score, from 0 to 1, got 1.5"),
        ({"threshold": math.nan}, "expected threshold to be a number of at least 0, got nan"),
        ({"budget": -0.1}, "prune: expected budget to be a number of at least 0, got -0.1"),
        ({"threshold": 0.1, "score": "l2"}, "one of backward, damage, l1, raw_l1, std, got 'l2'"),
        ({"threshold": 0.1, "finetune": -1}, "finetune to be a whole number of at least 0, got -1"),
    ],
)
def test_options_that_cannot_be_are_refused(network, draw, options, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        prune(network(), draw(), **options)


def test_data_that_does_not_fit_is_refused(network, draw):
    model, x = network(), draw()
    with pytest.raises(ShapeError, match="prune: expected at least 1 row, got 0"):
        prune(model, x[:0], threshold=0.1)
    with pytest.raises(ShapeError, match=r"prune: expected y of shape \(50, 1\), got \(49,\)"):
        prune(model, x, torch.zeros(49), threshold=0.1)
    broken = x.clone()
    broken[4, 2] = math.nan
    with pytest.raises(DataError, match=r"numbers, got nan at row 4, column 'x3' \(1 such cell\)"):
        prune(model, broken, threshold=0.1)
