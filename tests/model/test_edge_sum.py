"""The sum over edges in torch operations, against the loop and the layer."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from kanlens.functions.catalog import BASES
from kanlens.model.edge_sum import Weights, edge_sum
from tests.model import reference
from tests.model.layers_for_tests import EXACT, MODES, ORDERS, everywhere, inside, rich


def sum_of(layer: torch.nn.Module, x: Tensor, weights: Weights | None = None) -> Tensor:
    return edge_sum(
        x,
        weights or layer.weights(),
        grid=layer.grid,
        degree=layer.spline_order,
        extrapolation=layer.extrapolation,
        base=layer.base_name,
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("standalone", [True, False])
def test_is_the_loop(order, mode, standalone):
    layer = rich(spline_order=order, extrapolation=mode, enable_standalone_scale_spline=standalone)
    layer.mask[0, 1], layer.mask[1, 2] = 0.0, 0.5
    x = everywhere(layer)
    expected = reference.kan_linear(layer, x)
    size = expected.abs().max().item()
    assert_close(sum_of(layer, x), expected, rtol=1e-12, atol=1e-12 * size)


@pytest.mark.parametrize("base", BASES)
def test_every_base(base):
    layer = rich(base_activation=base)
    x = inside(layer, 7)
    assert_close(sum_of(layer, x), reference.kan_linear(layer, x), **EXACT)


def test_is_the_layers_own_torch_path():
    layer = rich()
    x = everywhere(layer)
    assert_close(sum_of(layer, x), layer.forward_torch(x), rtol=0, atol=0)


def test_no_rows_give_no_rows():
    layer = rich()
    assert sum_of(layer, torch.zeros(0, 3, dtype=torch.float64)).shape == (0, 2)


def test_nan_makes_its_row_nan_and_no_other():
    layer = rich()
    x = inside(layer, 5)
    expected = sum_of(layer, x)
    x[2, 1] = torch.nan
    y = sum_of(layer, x)
    assert y[2].isnan().all()
    rows = [0, 1, 3, 4]
    assert_close(y[rows], expected[rows])


@pytest.mark.parametrize("mode", MODES)
def test_differentiable_twice_in_everything(mode):
    layer = rich(n_in=2, n_out=2, grid_size=2, extrapolation=mode)
    low, high = layer.domain()
    x = low + (high - low) * torch.tensor([[0.2, 0.7], [0.4, 0.9]], dtype=torch.float64)
    kept = layer.weights()
    names = Weights._fields

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        return sum_of(layer, x, Weights(**dict(zip(names, tensors, strict=True))))

    given = [getattr(kept, name).detach().clone().requires_grad_() for name in names]
    assert gradcheck(function, (x.requires_grad_(), *given))
    assert gradgradcheck(function, (x, *given))


def test_weights_multiply_scale_and_mask_in():
    layer = rich()
    layer.mask[1, 0] = 0.25
    weights = layer.weights()
    scale = (layer.mask * layer.spline_scaler).unsqueeze(-1)
    assert_close(weights.coefficients(), layer.spline_weight * scale, **EXACT)
    assert_close(weights.base_weights(), layer.base_weight * layer.mask, **EXACT)
    plain = weights._replace(scale=None)
    assert_close(plain.coefficients(), layer.spline_weight * layer.mask.unsqueeze(-1), **EXACT)


@pytest.mark.parametrize("name", ["spline", "scale", "base", "bias", "mask"])
def test_loop_has_teeth(name):
    layer = rich()
    x = inside(layer, 6)
    changed = getattr(layer.weights(), name).detach().clone()
    changed.view(-1)[0] += 1e-6
    y = sum_of(layer, x, layer.weights()._replace(**{name: changed}))
    with pytest.raises(AssertionError):
        assert_close(y, reference.kan_linear(layer, x), **EXACT)
