"""Captum's methods that say something else than they seem to on a KAN, and proof that they do."""

from __future__ import annotations

import warnings

import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.attribution.captum_methods.table import CAPTUM_METHODS
from kanlens.attribution.registry import REFUSED
from kanlens.errors import MethodError
from tests.attribution.captum_methods.conftest import Plain


@pytest.fixture
def plain(network, draw):
    """A model for captum, its first layer, samples and baselines."""
    module = Plain(network([4, 5, 1]).requires_grad_(False))
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, b = draw(6, 4).requires_grad_(), draw(1, 4, seed=2).repeat(6, 1)
        yield module, module.model.layers[0], x, b


def gradient(function, x):
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_refused_with_the_reason(method, network, draw):
    with pytest.raises(MethodError, match=f"about a KAN, got {method!r}"):
        attribute(network([2, 1]), draw(2, 2), method=method, background=draw(2, 2))


def test_no_method_is_both_there_and_refused():
    assert len(REFUSED) == 15
    assert not REFUSED & set(METHODS)
    assert {method.name for method in CAPTUM_METHODS.values()} <= set(METHODS)


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution"])
def test_some_return_the_plain_gradient(name, plain):
    import captum.attr

    module, layer, x, _ = plain
    found = getattr(captum.attr, name)(module).attribute(x)
    assert torch.equal(found, gradient(module, x))

    def node(z):
        return layer(module.model.scale_inputs(z))[:, 1]

    of_node = getattr(captum.attr, f"Neuron{name}")(module, layer).attribute(x, 1)
    torch.testing.assert_close(of_node, gradient(node, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["LRP", "LayerLRP"])
def test_layerwise_relevance_has_no_rule(name, plain):
    import captum.attr

    module, layer, x, _ = plain
    given = (module,) if name == "LRP" else (module, layer)
    with pytest.raises(TypeError, match="has no rule defined"):
        getattr(captum.attr, name)(*given).attribute(x)


def test_class_activation_maps_need_places(plain):
    from captum.attr import GuidedGradCam, LayerGradCam

    module, layer, x, _ = plain
    assert LayerGradCam(module, layer).attribute(x).shape == (6, 1)  # there are five nodes
    assert GuidedGradCam(module, layer).attribute(x).numel() == 0


def test_deep_lift_of_a_node_is_its_gradient_times_the_distance(plain):
    from captum.attr import NeuronDeepLift, NeuronDeepLiftShap

    module, layer, x, b = plain

    def node(z):
        return layer(module.model.scale_inputs(z))[:, 1]

    expected = gradient(node, x) * (x - b)
    for found in (
        NeuronDeepLift(module, layer).attribute(x, 1, b),
        NeuronDeepLiftShap(module, layer).attribute(x, 1, b),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    change = node(x) - node(b)
    assert float((change - expected.sum(1)).abs().mean() / change.abs().mean()) > 0.1


def test_the_default_of_neuron_conductance_loses_a_share(plain):
    from captum.attr import NeuronConductance

    module, layer, x, b = plain
    method = NeuronConductance(module, layer)
    lost = method.attribute(x, 1, baselines=b, n_steps=20).sum(1)
    right = method.attribute(x, 1, baselines=b, n_steps=400, method="gausslegendre").sum(1)
    torch.testing.assert_close(lost / right, torch.full_like(right, 19 / 20), rtol=5e-3, atol=0)
