"""The view of a KAN that captum's DeepLift reads rightly."""

import copy
import time

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.attribution._problem import Problem
from kanlens.attribution.captum_methods._adapter import EdgeActivation, EdgeView, known_to_captum
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN


@pytest.fixture(autouse=True)
def no_gradients():
    """Leave gradients on: the views are what they are taken of."""


def view(model, x, target):
    return EdgeView(Problem(model=float64_copy(model), x=x, rows=None, target=target))


@pytest.mark.parametrize("widths", [[3, (1, [2, 3]), 2], [3, 2, (1, [3])]])
def test_levels_of_the_view_are_the_nodes(widths, network, draw):
    model, x = network(widths), draw(6, 3)
    module, seen = view(model, x, 1), []
    for level in module.levels:
        level.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    torch.testing.assert_close(module(x), model(x)[:, 1].detach())
    hidden = model.scale_inputs(x)
    for layer, nodes, found in zip(model.layers, model.nodes, seen, strict=True):
        hidden = nodes(layer(hidden)).detach()
        torch.testing.assert_close(found, hidden, rtol=1e-12, atol=1e-12)


def test_pairs_of_many_samples_and_rows_take_no_second(network, draw):
    """32 samples and 50 background rows: 0.05 s, in 1600 pairs."""
    model, x, rows = network([8, 5, 1]), draw(32, 8), draw(50, 8, seed=2)
    attribute(model, x[:1], method="captum_deep_lift", background=rows)  # captum is loaded
    started = time.process_time()
    found = attribute(model, x, method="captum_deep_lift", background=rows)
    assert time.process_time() - started < 2
    assert float(found.completeness_gap.abs().max()) < 1e-12


def test_the_view_has_the_models_gradient(network, draw):
    model, x = network([3, 4, 2]), draw(6, 3).requires_grad_()
    found = torch.autograd.grad(view(model, x, 1)(x).sum(), x)[0]
    expected = torch.autograd.grad(model(x)[:, 1].sum(), x)[0]
    torch.testing.assert_close(found, expected)


def test_an_activation_is_elementwise(network, draw):
    layer = float64_copy(network([3, 2])).layers[0]
    u = draw(1, 3)[:, None, :].repeat(1, 2, 1).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(EdgeActivation(layer), u).reshape(6, 6)
    slopes = layer.edge_derivatives(u[:, 0].detach()).flatten()
    torch.testing.assert_close(jacobian, torch.diag(slopes))


def test_captum_forgets_the_activation_afterwards():
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    before = dict(SUPPORTED_NON_LINEAR)
    with known_to_captum():
        assert EdgeActivation in SUPPORTED_NON_LINEAR
    assert before == SUPPORTED_NON_LINEAR
    with pytest.raises(RuntimeError, match="stop"), known_to_captum():
        raise RuntimeError("stop")
    assert before == SUPPORTED_NON_LINEAR


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("widths", [[3, 2], [3, (1, [2, 3]), 2], [3, 4, 3, 2]])
def test_deep_lift_shap_is_deep_lift_averaged(widths, rows, network, draw):
    model, x, rows = network(widths), draw(4, 3), draw(rows, 3, seed=2)
    one, other, ours = (
        attribute(model, x, method=method, background=rows, target=1)
        for method in ("captum_deep_lift", "captum_deep_lift_shap", "secant")
    )
    torch.testing.assert_close(other.values, one.values, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(other.values, ours.values, rtol=1e-10, atol=1e-12)
    assert float(other.completeness_gap.abs().max()) < 1e-12


@pytest.mark.parametrize("function", ["abs", "sign", "relu", "1/x", "log"])
def test_kinks_and_poles_are_no_hindrance(function, network, draw):
    model = network([3, 2, 1])
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 1, function, (1.0, 3.0 if function == "log" else 0.1, 0.7, 0.0))
    if function == "log":
        layers[0].affine.data[0, 1, 0] = 0.1  # stays positive on these samples
    formula = KAN.from_layers(layers, model.schema)
    x, rows = draw(4, 3), draw(3, 3, seed=2)
    for method in ("captum_deep_lift", "captum_deep_lift_shap"):
        found = attribute(formula, x, method=method, background=rows)
        size = float(found.values.abs().max())
        assert float(found.completeness_gap.abs().max()) < 1e-12 * size
