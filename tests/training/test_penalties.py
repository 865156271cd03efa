"""Penalties in training: their values, where their rows come from, and that no hook stays."""

from __future__ import annotations

import dataclasses
import math
import re
from types import MappingProxyType

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens import sparsity
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._kan_linear import KANLinear
from kanlens.sparsity import PENALTIES
from kanlens.training._objective import Objective, task_loss
from tests.training.conftest import run, seeded


def by_definition(net, x, name):
    """A penalty written from scratch, with all edge values at hand."""
    tr, total = kanlens.trace(net, x), torch.zeros(()).double()
    for index in range(len(net.layers)):
        values = tr.edge_values(index)
        norms = {
            "activation_l1": values.abs().mean(0),
            "activation_l2": (values - values.mean(0)).square().mean(0).sqrt(),
        }[name]
        share = norms / norms.sum()
        total += norms.sum() - 2.0 * (share * share.log()).sum()
    return total


@pytest.mark.parametrize("name", ["activation_l1", "activation_l2"])
def test_the_rows_of_the_step_are_those_of_the_penalty(network, waves, name):
    net, (x, y) = network(), waves
    objective = Objective(model=net, penalty={name: 1.0}, strength=0.5)
    expected = task_loss(net, net(x), y) + 0.5 * by_definition(net, x, name)
    assert_close(objective.total(x, y).detach(), expected.detach())
    part = objective.total(x[:7], y[:7]) - task_loss(net, net(x[:7]), y[:7])
    assert_close(part.detach(), 0.5 * by_definition(net, x[:7], name))
    twice = objective.total(torch.cat([x, x]), torch.cat([y, y]))
    assert_close(twice.detach(), expected.detach())


def test_a_network_with_products_is_penalized_by_what_its_layers_see(waves):
    net = kanlens.KAN([2, (1, 2), 1], generator=seeded()).double()
    objective = Objective(model=net, penalty={"activation_l1": 1.0}, strength=1.0)
    found = objective.total(*waves) - task_loss(net, net(waves[0]), waves[1])
    assert_close(found.detach(), by_definition(net, waves[0], "activation_l1"))


def test_one_run_of_the_network_gives_loss_and_penalty(network, waves, monkeypatch):
    net, calls = network(), []
    forward = KANLinear.forward
    monkeypatch.setattr(
        KANLinear, "forward", lambda self, x: (calls.append(1), forward(self, x))[1]
    )
    Objective(model=net, penalty={"activation_l2": 1.0}, strength=1.0).total(*waves)
    assert len(calls) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "optimizer"), [*((name, "lbfgs") for name in sorted(PENALTIES)), ("weight_l1", "adam")]
)
def test_every_penalty_trains_and_lowers_itself(network, waves, name, optimizer):
    options = {"optimizer": optimizer, "batch_size": 16, "entropy_weight": 0.0}
    options["steps"] = 3 if optimizer == "lbfgs" else 5

    def size(strength):
        net = network()
        result = run(net, waves, penalty=name, strength=strength, **options)
        assert math.isfinite(result.loss)
        values = kanlens.trace(net, waves[0]).inputs
        for layer in net.layers:
            layer.statistics = None
        value = sparsity.penalty_value(net.layers, name, entropy_weight=0.0, inputs=values)
        return float(value.detach())

    assert size(1.0) < 0.9 * size(1e-9)


def test_curvature_has_no_entropy(network):
    layers = network().layers
    with_entropy = sparsity.penalty_value(layers, "curvature", entropy_weight=5.0)
    assert_close(with_entropy, sum(sparsity.curvature(layer).sum() for layer in layers))


def test_penalties_add_up_with_their_weights(network, waves):
    def first(penalty):
        options = {"steps": 1, "strength": 0.1, "entropy_weight": 0.0, "optimizer": "adam"}
        net = network((2, 1))
        return run(net, waves, penalty=penalty, learning_rate=1e-12, **options).history[0][
            "penalty"
        ]

    both = MappingProxyType({"activation_l1": 2.0, "curvature": 1e-3})
    expected = 2 * first("activation_l1") + 1e-3 * first("curvature")
    assert first(both) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"penalty": 3}, "fit: expected penalty to be a name, or a dict of weights, got 3"),
        ({"penalty": {"curvature": -1.0}}, "weight of curvature to be a positive number, got -1.0"),
        ({"penalty": {"curvatur": 1.0}}, "curvature, raw_l1, weight_l1, got 'curvatur'"),
        ({"penalty": {}, "strength": 1.0}, "got none. Choose penalty="),
        ({"penalty": "activation_l1", "strength": 1.0, "proximal": True}, "got 'activation_l1'"),
        (
            {"penalty": "activation_l2", "proximal": True, "entropy_weight": 1.0},
            "fit: expected no entropy with a proximal step, got a weight of 1.0. "
            "Pass entropy_weight=0.",
        ),
    ],
)
def test_messages(network, waves, options, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        run(network(), waves, **options)


def test_a_norm_on_data_needs_the_data(network):
    with pytest.raises(InvalidValueError, match="of every layer for activation_l1, got none"):
        sparsity.penalty_value(network().layers, "activation_l1", entropy_weight=0.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"penalty": "curvature"}, "expected a layer of splines, got one of kind 'function'"),
        ({"penalty": "activation_l2", "proximal": True}, "of kind 'function' as layer 0"),
    ],
)
def test_layers_with_functions_are_refused_where_only_splines_can_be(network, waves, options, text):
    net = network((2, 1))
    net.layers[0].assign(0, 0, "x")
    with pytest.raises(MethodError, match=re.escape(text)):
        run(net, waves, strength=0.1, **options)
    assert not net.scaled


def test_the_rows_are_those_of_training(network, waves, monkeypatch):
    seen: list[int] = []
    norm = sparsity.activation_l1

    def noted(layer, x):
        seen.append(len(x))
        return norm(layer, x)

    changed = dataclasses.replace(PENALTIES["activation_l1"], norm=noted)
    monkeypatch.setitem(PENALTIES, "activation_l1", changed)
    options = {"optimizer": "adam", "steps": 1, "batch_size": 16, "grid_updates": 0}
    run(network((2, 1)), waves, penalty="activation_l1", strength=0.1, **options)
    assert seen == [48, 16, 16, 16, 48]  # before, three batches, after: 12 rows are held out
