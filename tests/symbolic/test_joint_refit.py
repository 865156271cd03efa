import copy

import pytest
import torch
from torch.testing import assert_close

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.symbolic._joint_refit import refit, relative_loss


def network(generator, *, outputs=2):
    first = KANLinear(2, 2, functions=[["sin", "x^2"], ["spline", "tanh"]], generator=generator)
    last = KANLinear(2, outputs, functions=[["exp", "x"]] * outputs, generator=generator)
    model = KAN.from_layers([first, last], KAN([2, outputs]).schema).double()
    with torch.no_grad():
        for layer in model.layers:
            layer.affine.copy_(0.5 * torch.randn(layer.affine.shape, generator=generator))
            layer.affine[..., 0] += 1.0
        model.output_scale.fill_(3.0)
        model.input_scale.fill_(2.0)
    return model


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


@pytest.fixture
def x(generator):
    return torch.rand(200, 2, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.slow  # derives formulas
def test_refit_finds_the_numbers_again(generator, x):
    truth = network(generator, outputs=1)
    target = truth(x).detach()
    model = copy.deepcopy(truth)
    with torch.no_grad():
        for layer in model.layers:
            layer.affine.mul_(1 + 0.02 * torch.randn(layer.affine.shape, generator=generator))
            layer.bias += 0.05
        before = relative_loss(model(x), target)
        after = refit(model, x, target, steps=300)
    assert before > 1e-4
    assert after < 1e-16
    assert after == relative_loss(model(x).detach(), target)


def test_only_free_numbers_move(generator, x):
    model = network(generator)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        refit(model, x, torch.randn(200, 2, generator=generator, dtype=torch.float64))
    after = model.state_dict()
    assert_close(after["layers.0.spline_weight"], before["layers.0.spline_weight"])
    assert_close(after["layers.0.affine"][0, 1, 0], before["layers.0.affine"][0, 1, 0])
    assert not torch.equal(after["layers.0.affine"], before["layers.0.affine"])


def test_gathering_constants_changes_nothing(generator, x):
    model = network(generator)
    model.layers[0].assign(0, 0, "constant", (1.0, 0.0, 0.0, 0.7))
    before = model(x).detach()
    with torch.no_grad():
        refit(model, x, before, steps=0)
    assert_close(model(x), before)
    assert bool((model.layers[1].affine[..., 3] == 0).all())
    assert model.layers[0].mask[0, 0] == 0


def test_relative_loss_of_nonsense_is_infinite():
    y = torch.tensor([[1.0], [2.0]])
    assert relative_loss(torch.tensor([[torch.nan], [2.0]]), y) == float("inf")
    assert relative_loss(y, y) == 0.0
    assert relative_loss(torch.ones(2, 1), torch.zeros(2, 1)) == 1.0


def test_networks_without_functions_are_left_alone(generator, x):
    model = KAN([2, 1], generator=generator).double()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        refit(model, x, torch.ones(200, 1).double())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
