"""How a layer on a kernel behaves as a function of torch's autograd."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kanlens.model import kernels
from tests.model.kernels.layers import make, run
from tests.model.layers_for_tests import EXACT

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("x", "spline_weight", "spline_scaler", "base_weight", "bias")


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=5)))
def test_only_wanted_gradients_appear_and_they_are_the_same(wanted):
    case = make()
    expected = run(case, "torch")
    tensors = {"x": case.x, **dict(case.layer.named_parameters())}
    for name, flag in zip(NAMES, wanted, strict=True):
        tensors[name].requires_grad_(flag)
    with kernels.use("sparse"):
        y = case.layer(case.x)
    assert y.requires_grad == any(wanted)
    assert_close(y.detach(), expected["y"], **EXACT)
    if any(wanted):
        y.backward(case.grad)
    for name, flag in zip(NAMES, wanted, strict=True):
        if flag:
            assert_close(tensors[name].grad, expected[name], **EXACT)
        else:
            assert tensors[name].grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    case = make()
    expected = run(case, "torch")["y"]
    with kernels.use("sparse"), mode():
        y = case.layer(case.x)
        assert not y.requires_grad
        assert y.is_inference() == (mode is torch.inference_mode)
        assert_close(y.clone(), expected, **EXACT)
        inside = case.layer(case.x.clone())
    assert_close(inside.clone(), expected, **EXACT)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same numbers, laid out otherwise in memory."""
    wide = torch.zeros(2 * len(x), 3 * x.shape[1], dtype=x.dtype)
    wide[::2, 1::3] = x
    longer = torch.cat([torch.zeros(1, dtype=x.dtype), x.flatten()])
    return {
        "transposed": x.mT.contiguous().mT,
        "strided": wide[::2, 1::3],
        "offset": longer[1:].view_as(x),
        "negated": torch._neg_view(-x),
    }


@pytest.mark.parametrize("layout", ["transposed", "strided", "offset", "negated"])
def test_rows_and_gradients_laid_out_anyhow(layout):
    case = make()
    expected = run(case, "torch")
    x = layouts(case.x)[layout].requires_grad_()
    tensors = [x, *case.layer.parameters()]
    with kernels.use("sparse"):
        y = case.layer(x)
        found = torch.autograd.grad(y, tensors, layouts(case.grad)[layout])
    assert_close(y.detach(), expected["y"], **EXACT)
    for name, gradient in zip(["x", *dict(case.layer.named_parameters())], found, strict=True):
        assert_close(gradient, expected[name], **EXACT)


@pytest.mark.parametrize("name", ["spline_weight", "spline_scaler", "base_weight", "mask", "grid"])
def test_weights_laid_out_anyhow(name):
    case = make(mask="fractions")
    expected, layer = run(case, "torch"), case.layer
    tensor = getattr(layer, name).detach().transpose(0, 1).contiguous().transpose(0, 1)
    assert not tensor.is_contiguous()
    if name in ("mask", "grid"):
        setattr(layer, name, tensor)
    else:
        setattr(layer, name, nn.Parameter(tensor))
    found = run(case, "sparse")
    for key in expected:
        assert_close(found[key], expected[key], **EXACT)


def test_a_graph_kept_gives_the_same_again_and_adds_up():
    case = make()
    with kernels.use("sparse"):
        y = case.layer(case.x)
    y.backward(case.grad, retain_graph=True)
    once = [each.grad.clone() for each in case.layer.parameters()]
    y.backward(case.grad, retain_graph=True)
    for parameter, first in zip(case.layer.parameters(), once, strict=True):
        assert_close(parameter.grad, 2 * first, **EXACT)
    y.backward(case.grad)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward(case.grad)


@pytest.mark.parametrize("name", ["x", "spline_weight", "spline_scaler", "base_weight", "mask"])
def test_a_tensor_changed_before_the_backward_pass_is_refused(name):
    case = make()
    with kernels.use("sparse"):
        y = case.layer(case.x)
    with torch.no_grad():
        {"x": case.x, **dict(case.layer.state_dict())}[name].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(case.grad)


def test_many_gradients_at_once():
    case = make(batch=4)
    x = case.x.requires_grad_()
    tensors = [x, *case.layer.parameters()]
    many = torch.randn(6, 4, 5, dtype=torch.float64)

    def gradients(path: str) -> tuple[Tensor, ...]:
        with kernels.use(path):
            y = case.layer(x)
            return torch.autograd.grad(y, tensors, many, is_grads_batched=True)

    for found, expected in zip(gradients("sparse"), gradients("torch"), strict=True):
        assert_close(found, expected, **EXACT)
    with kernels.use("sparse"):
        jacobian = torch.autograd.functional.jacobian(case.layer, x, vectorize=True)
        plain = torch.autograd.functional.jacobian(case.layer, x)
    assert_close(jacobian, plain, **EXACT)


def test_memory_kept_for_backward_grows_with_the_inputs_only():
    case = make(batch=500, n_in=3, n_out=40)
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    x = case.x.requires_grad_()
    with kernels.use("sparse"), torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        case.layer(x)
    weights = sum(each.numel() for each in case.layer.state_dict().values())
    assert sum(sizes) <= 2 * x.numel() + weights
