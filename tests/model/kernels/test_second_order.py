"""Gradients of gradients: by the torch path, and by differences."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from tests.model.kernels.layers import ORDERS, Case, make
from tests.model.layers_for_tests import EXACT, MODES

pytestmark = pytest.mark.usefixtures("one_thread")


def smooth(**options: object) -> Case:
    """A case whose rows are inside the grid and at no knot."""
    case = make(n_in=2, n_out=3, batch=3, grid="uneven", grid_size=2, **options)
    low, high = case.layer.domain()
    share = torch.linspace(0.05, 0.93, 6, dtype=torch.float64).view(3, 2)
    case.x.copy_(low + (high - low) * share)
    return case


def function_of(layer: KANLinear) -> tuple[object, list[Tensor]]:
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *tensors: Tensor) -> Tensor:
        given = dict(zip(names, tensors, strict=True))
        return torch.func.functional_call(layer, given, (x,))

    return function, [each.detach().requires_grad_() for each in layer.parameters()]


@pytest.mark.slow  # many layers of every kind
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_on_all_inputs(order, mode):
    case = smooth(spline_order=order, extrapolation=mode, mask="fractions")
    function, tensors = function_of(case.layer)
    with kernels.use("sparse"):
        assert gradcheck(function, (case.x.requires_grad_(), *tensors))


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("order", ORDERS[1:])
def test_gradgradcheck_on_all_inputs(order):
    case = smooth(spline_order=order)
    function, tensors = function_of(case.layer)
    with kernels.use("sparse"):
        assert gradgradcheck(function, (case.x.requires_grad_(), *tensors))


def second(module: torch.nn.Module, x: Tensor, path: str) -> list[Tensor]:
    """Gradients, and gradients of a function of them."""
    x = x.detach().requires_grad_()
    tensors = [x, *module.parameters()]
    with kernels.use(path):
        loss = module(x).square().sum()
        first = torch.autograd.grad(loss, tensors, create_graph=True)
        total = sum(each.sin().sum() for each in first)
        return [*first, *torch.autograd.grad(total, tensors, allow_unused=True)]


@pytest.mark.parametrize("standalone", [True, False])
def test_create_graph_gives_the_torch_paths_gradients(standalone):
    case = make(enable_standalone_scale_spline=standalone, mask="fractions")
    pairs = zip(
        second(case.layer, case.x, "sparse"), second(case.layer, case.x, "torch"), strict=True
    )
    for found, expected in pairs:
        assert_close(found, expected, **EXACT)


class Twice(torch.nn.Module):
    """One layer, called on what it gave."""

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_a_layer_fed_with_its_own_output_counts_no_path_twice():
    module = Twice(make(n_in=3, n_out=3).layer)
    x = make(n_in=3).x / 4
    for found, expected in zip(
        second(module, x, "sparse"), second(module, x, "torch"), strict=True
    ):
        assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_an_input_made_of_the_weights_counts_no_path_twice():
    layer = make(n_in=3, n_out=4).layer

    def gradients(path: str) -> tuple[Tensor, ...]:
        with kernels.use(path):
            y = layer(layer.base_weight).square().sum()
            return torch.autograd.grad(y, list(layer.parameters()), create_graph=True)

    for found, expected in zip(gradients("sparse"), gradients("torch"), strict=True):
        assert_close(found, expected, **EXACT)


def test_gradients_of_gradients_after_a_prediction_in_inference_mode():
    case = make(n_in=2, n_out=3, batch=4)
    with kernels.use("sparse"):
        with torch.inference_mode():
            case.layer(case.x)
        x = case.x.clone().requires_grad_()
        (first,) = torch.autograd.grad(case.layer(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
    (wanted,) = torch.autograd.grad(case.layer.forward_torch(x).sum(), x, create_graph=True)
    assert_close(second, torch.autograd.grad(wanted.square().sum(), x)[0], **EXACT)
