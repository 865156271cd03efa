"""Norms of edges stay on the device, without the (batch, out, in) tensor of edge values."""

import copy

import pytest
import torch
from torch.testing import assert_close

from kanlens import sparsity
from kanlens.model._kan_linear import KANLinear
from kanlens.model._spline_forward import Moments
from tests.elsewhere import elsewhere
from tests.model.layers_for_tests import rich

ROWS, INPUTS, OUTPUTS = 3000, 4, 40


def norms(layer: KANLinear, x: torch.Tensor) -> list[torch.Tensor]:
    """Second moments, Gram matrices of the basis, and gradients."""
    found = sparsity.activation_l2(layer, x)
    gradients = torch.autograd.grad(found.sum(), [layer.spline_weight, layer.base_weight])
    return [found.detach(), *gradients, *Moments.over(layer, x).matrix()]


def test_second_moments_stay_on_the_device_and_build_no_edge_values():
    layer = rich(INPUTS, OUTPUTS)
    x = torch.linspace(-1, 1, ROWS * INPUTS, dtype=torch.float64).reshape(ROWS, INPUTS)
    wanted, sizes = norms(layer, x), []
    with elsewhere(lambda made: sizes.append(made.numel())) as device:
        found = norms(copy.deepcopy(layer).to(device), x.to(device))
        assert {each.device for each in found} == {device}
        found = [each.cpu() for each in found]
    assert max(sizes) < ROWS * INPUTS * OUTPUTS / 2
    for each, other in zip(found, wanted, strict=True):
        assert_close(each, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["activation_l1", "weight_l1", "curvature"])
def test_norms_are_where_the_layer_is(norm):
    layer, x = rich(3, 2), torch.rand(9, 3, dtype=torch.float64)

    def of(layer: KANLinear, x: torch.Tensor) -> torch.Tensor:
        given = () if norm == "curvature" else (x,)
        return getattr(sparsity, norm)(layer, *given).detach()

    wanted = of(layer, x)
    with elsewhere() as device:
        found = of(copy.deepcopy(layer).to(device), x.to(device))
        assert found.device == device
        found = found.cpu()
    assert_close(found, wanted)
