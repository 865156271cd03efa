"""Proximal training: exact zeros where the conditions of the group lasso ask for them."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.splines import _spline as spline
from kanlens.training._objective import Objective
from kanlens.training._proximal import ProximalSteps
from tests.training.conftest import seeded


def planted(rows=150, noise=0.02):
    """Five features, of which the last three are irrelevant."""
    x = 2 * torch.rand(rows, 5, generator=seeded(1), dtype=torch.float64) - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] ** 2
    return x, y + noise * torch.randn(rows, generator=seeded(2), dtype=torch.float64)


def run(net, data, **options):
    settings = {
        "steps": 10,
        "progress": False,
        "generator": seeded(),
        "penalty": "activation_l2",
        "strength": 0.03,
        "proximal": True,
        **options,
    }
    return kanlens.fit(net, data, **settings)


def zeros_of(net):
    return [(~layer.nonzero_edges()) for layer in net.layers]


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize(("widths", "optimizer"), [((5, 1), "adam"), ((5, 2, 1), "lbfgs")])
def test_irrelevant_features_die_and_the_others_do_not(network, widths, optimizer):
    net = network(widths)
    adam = {"steps": 15, "batch_size": 32, "learning_rate": 0.05}
    options = {"steps": 6} if optimizer == "lbfgs" else adam
    result = run(net, planted(), optimizer=optimizer, **options)
    alive = ~zeros_of(net)[0]
    assert alive.any(0).tolist() == [True, True, False, False, False]
    assert not net.layers[0].spline_weight[~alive].any()
    assert not net.layers[0].base_weight[~alive].any()
    assert result.metric > 0.98


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_without_the_step_no_edge_is_zero(network):
    net = network((5, 1))
    run(net, planted(), proximal=False, entropy_weight=0.0)
    assert not zeros_of(net)[0].any()


@pytest.mark.slow  # trains networks
def test_zeros_obey_the_conditions_of_the_group_lasso(network):
    net, (x, y), strength = network((5, 1)), planted(), 0.05
    run(net, (x, y), strength=strength, validation=0.0, steps=30, grid_updates=1)
    layer, rows = net.layers[0], net.scale_inputs(x)
    basis = torch.cat(
        [
            spline.basis(rows, layer.grid, layer.spline_order, extrapolation=layer.extrapolation),
            layer.base_activation(rows).unsqueeze(-1),
        ],
        -1,
    )
    basis = basis - basis.mean(0)
    residual = ((net(x)[:, 0] - y) / net.output_scale).detach()
    slope = 2 * torch.einsum("b,bik->ik", residual, basis) / len(x)
    gram = torch.einsum("bik,bil->ikl", basis, basis) / len(x)
    dual = torch.einsum("ik,ikl,il->i", slope, torch.linalg.pinv(gram, rtol=1e-9), slope).sqrt()
    zero = (~layer.nonzero_edges())[0]
    assert zero.tolist() == [False, False, True, True, True]
    assert_close(dual[~zero], torch.full((2,), strength).double(), rtol=0.02, atol=0)
    assert (dual[zero] <= strength).all()


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_a_strength_beyond_all_kills_everything_and_a_fit_without_brings_edges_back(network):
    net, data = network((5, 1)), planted()
    run(net, data, strength=10.0, steps=3)
    assert zeros_of(net)[0].all()
    assert_close(net(data[0]), net(0 * data[0]))
    result = run(net, data, strength=0.03)
    assert zeros_of(net)[0].tolist() == [[False, False, True, True, True]]
    assert result.metric > 0.98


@pytest.mark.slow  # trains networks
def test_the_objective_never_rises(network):
    net, (x, y) = network((5, 2, 1)), planted()
    objective = Objective(
        model=net, penalty={"activation_l2": 1.0}, strength=0.1, entropy_weight=0.0
    )
    steps = ProximalSteps(objective)
    y = y.unsqueeze(1)
    steps.begin(x)
    for _ in range(12):
        before = float(objective.total(x, y).detach())
        weights = objective.node_weights
        steps.step(x, y)
        renewed, objective.node_weights = objective.node_weights, weights
        assert float(objective.total(x, y).detach()) <= before
        objective.node_weights = renewed
    assert sum(int(zero.sum()) for zero in steps.zeros) > 0


def test_nodes_weigh_what_they_do_to_the_output(network):
    net, (x, _) = network((5, 2, 1)), planted()
    objective = Objective(model=net, penalty={"activation_l2": 1.0}, strength=1.0)
    ProximalSteps(objective).begin(x)
    hidden = kanlens.trace(net, x).inputs[1]
    slopes = net.layers[1].edge_derivatives(hidden)[:, 0]
    assert_close(objective.node_weights[0], slopes.square().mean(0).sqrt().detach())
    assert_close(objective.node_weights[1], torch.ones(1).double())


@pytest.mark.parametrize("weights", [False, True])
def test_optimizers_leave_edges_that_are_zero(network, weights):
    net, (x, y) = network((5, 2, 1)), planted()
    parameters = net.layers[0].spline_weight, net.layers[0].base_weight
    with torch.no_grad():
        for parameter in parameters:
            parameter[0, 3:] = 0.0
    steps = ProximalSteps(Objective(model=net, penalty={"activation_l2": 1.0}, strength=0.1))
    steps.begin(x)
    steps.objective.total(x, y.unsqueeze(1)).backward()
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(1.0)  # as an optimizer with momentum would
    steps.mask_gradients(weights=weights)
    for parameter in parameters:
        seen = parameter.data if weights else parameter.grad
        assert not seen[0, 3:].any()
        assert (seen != 0).reshape(2, 5, -1).any(2).sum() == 8


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_masked_and_frozen_weights_stay(network):
    net = network((5, 2, 1))
    net.layers[0].mask[0, 0] = 0
    net.layers[1].base_weight.requires_grad_(False)
    masked = net.layers[0].spline_weight[0, 0].detach().clone()
    base = net.layers[1].base_weight.clone()
    run(net, planted(), steps=3, grid_updates=0)
    assert_close(net.layers[0].spline_weight[0, 0].detach(), masked, rtol=0, atol=0)
    assert torch.equal(net.layers[1].base_weight, base)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
@pytest.mark.parametrize("widths", [(5, 2, 1), (5, (1, 1), 1), (5, 2, 3)])
def test_products_and_classes(network, widths):
    x, y = planted()
    y = torch.bucketize(y, torch.tensor([-0.3, 0.6])) if widths[-1] == 3 else y
    result = run(network(widths), (x, y), steps=2)
    assert result.best_step > 0


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short_polish")
def test_edges_that_are_zero_can_be_pruned_without_a_trace(network):
    net, (x, y) = network((5, 2, 1)), planted()
    run(net, (x, y), strength=0.05, steps=5)
    zeros = sum(int(zero.sum()) for zero in zeros_of(net))
    assert zeros > 0
    pruned = kanlens.prune(net, x, threshold=1e-14, progress=False)
    assert len(pruned.removed) >= zeros
    with torch.no_grad():
        kept = [net.feature_names.index(name) for name in pruned.model.feature_names]
        assert_close(pruned.model(x[:, kept]), net(x), rtol=1e-12, atol=1e-12)
    assert all(record["score"] == 0.0 for record in pruned.removed[:zeros])


@pytest.mark.slow
@pytest.mark.usefixtures("short_polish")
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_few_rows_single_precision_and_a_grid_that_runs_out(network, optimizer):
    x, y = planted()
    for net, rows in (
        (network((5, 2, 1)).float(), 60),
        (network((5, 1)), 2),
        (network((5, 2, 1), extrapolation="zero", base_activation="zero"), 40),
    ):
        result = run(net, (x[:rows], y[:rows]), optimizer=optimizer, steps=2)
        assert result.loss == result.loss  # a number
        assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    far = kanlens.KANLinear(2, 1, extrapolation="zero", base_activation="zero").double()
    net = kanlens.KAN.from_layers([far], kanlens.KAN([2, 1]).schema)
    run(net, (x[:, :2] + 100, y), optimizer=optimizer, steps=1, scale=False, grid_updates=0)


def test_an_objective_that_is_not_finite_takes_no_step(network):
    net, (x, y) = network((5, 1)), planted()
    objective = Objective(model=net, penalty={"activation_l2": 1.0}, strength=0.1)
    steps = ProximalSteps(objective)
    steps.begin(x)
    before = [p.detach().clone() for p in net.parameters()]
    y = y.unsqueeze(1).clone()
    y[3] = torch.inf
    assert steps.step(x, y) == 0.0
    assert_close(list(net.parameters()), before, rtol=0, atol=0)
