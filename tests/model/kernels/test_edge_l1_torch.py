"""`activation_l1` as a function of torch: what it costs, and wrong answers seen."""

import pytest
import torch
from torch.testing import assert_close

from kanlens.model import _spline_forward as spline_forward
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.model.kernels import _edge_l1 as edge_l1
from tests.model.kernels.norms import norm_misfits, norms_agree, rough, run_norms, uniform

# --- as a function of torch ---------------------------------------------------------------------


def test_gradcheck():
    layer, x = rough(2, 3, grid_size=3), uniform(60, 2).requires_grad_()
    names = [name for name, _ in layer.named_parameters() if name != "bias"]

    def norms(x, *tensors):
        with torch.no_grad():
            for name, tensor in zip(names, tensors, strict=True):
                setattr(layer, name, torch.nn.Parameter(tensor))
        for name, tensor in zip(names, tensors, strict=True):
            layer._parameters[name] = tensor
        return layer.activation_l1(x)

    given = [x, *(getattr(layer, name).detach().clone().requires_grad_() for name in names)]
    assert torch.autograd.gradcheck(norms, given, eps=1e-7, atol=1e-6)


def test_second_derivatives_go_through_torch():
    layer, x = rough(2, 3), uniform(60, 2).requires_grad_()

    def curvature(norms):
        slope = torch.autograd.grad(norms.square().sum(), x, create_graph=True)[0]
        return torch.autograd.grad(slope.square().sum(), [x, layer.spline_weight])

    found = curvature(layer.activation_l1(x))
    assert_close(found, curvature(layer.edge_values(x).abs().mean(0)), rtol=1e-9, atol=1e-12)


def test_many_gradients_at_once():
    layer, x = rough(2, 3), uniform(60, 2).requires_grad_()
    norms = layer.activation_l1(x)
    eye = torch.eye(6, dtype=x.dtype).view(6, 3, 2)
    batched = torch.autograd.grad(norms, x, eye, is_grads_batched=True, retain_graph=True)[0]
    single = [torch.autograd.grad(norms, x, each, retain_graph=True)[0] for each in eye]
    assert_close(batched, torch.stack(single), rtol=1e-12, atol=1e-14)


def test_only_what_is_asked_for_gets_a_gradient():
    layer, x = rough(2, 3), uniform(60, 2)
    layer.base_weight.requires_grad_(False)
    layer.activation_l1(x).sum().backward()
    assert x.grad is None
    assert layer.base_weight.grad is None
    assert layer.spline_weight.grad is not None
    with torch.no_grad():
        assert not layer.activation_l1(x).requires_grad


def test_rows_and_weights_that_do_not_lie_in_order():
    layer, x = rough(3, 5), uniform(3, 80).mT
    wanted = run_norms(layer, x.contiguous(), torch.ones(5, 3).double())
    with torch.no_grad():
        layer.spline_weight.data = (
            layer.spline_weight.data.permute(2, 1, 0).contiguous().permute(2, 1, 0)
        )
    found = run_norms(layer, x, torch.ones(3, 5).double().mT)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_torch_path_agrees_in_one_chunk_and_in_many(monkeypatch):
    layer, x = rough(2, 3), uniform(50, 2)
    wanted = run_norms(layer, x, torch.ones(3, 2).double())
    for chunk in (2**20, 40):
        monkeypatch.setattr(spline_forward, "CHUNK", chunk)
        with kernels.use("torch"):
            found = run_norms(layer, x, torch.ones(3, 2).double())
        assert_close(found, wanted, rtol=1e-12, atol=1e-14)


# --- cost ---------------------------------------------------------------------------------------


def test_what_is_kept_grows_with_rows_and_with_edges_but_not_with_both():
    layer, x = KANLinear(16, 64), uniform(4000, 16, dtype=torch.float32)
    norms = layer.activation_l1(x)
    saved = [each for each in norms.grad_fn.saved_tensors if each is not None]
    kept = sum(each.nbytes for each in saved)
    parameters = sum(each.numel() for each in layer.parameters())
    assert kept < 20 * x.numel() + 20 * parameters
    assert kept < 4 * len(x) * 16 * 64 / 10  # of the values of all edges


# --- the comparison has teeth -------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "result", "seen"), [
    ("norms_of", 4, {"norms"}),
    ("norms_of", 5, {"spline_weight", "spline_scaler"}),
    ("gradient_x", 6, {"x"}),
])  # fmt: skip
def test_the_comparison_sees_one_wrong_number_of_a_kernel(kernel, result, seen, monkeypatch):
    layer, x, right = rough(2, 5), uniform(300, 2), getattr(edge_l1, kernel)
    assert norms_agree(layer, x)

    def wrong(given, *places):
        right(given, *places)
        given[result][0] *= -1

    monkeypatch.setattr(edge_l1, kernel, wrong)
    misfits = norm_misfits(layer, x)
    assert {name for name, misfit in misfits.items() if misfit > 1e-6} == seen
    assert all(misfits[name] < 1e-12 for name in misfits.keys() - seen)
