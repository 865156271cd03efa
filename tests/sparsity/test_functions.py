"""Norms of functions on data equal their definition, made of the (batch, out, in) tensor."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from kanlens import sparsity
from kanlens.errors import InvalidValueError, ShapeError
from kanlens.model import _spline_forward as spline_forward
from kanlens.model._kan_linear import KANLinear
from kanlens.splines import _spline as spline
from kanlens.splines._local_basis import local_basis
from tests.model.layers_for_tests import EXACT, seeded


def rich(seed: int = 0, n_in: int = 3, n_out: int = 2, **options: object) -> KANLinear:
    """A layer with large random weights, on a grid whose knots are not evenly spaced."""
    layer = KANLinear(n_in, n_out, generator=seeded(seed), **options).double()
    with torch.no_grad():
        steps = 0.1 + torch.rand(layer.grid.shape, generator=seeded(seed + 1)).double()
        layer.grid.copy_(1.5 * (steps.cumsum(1) / steps.sum(1, keepdim=True) * 2 - 1))
        for number, parameter in enumerate(layer.parameters()):
            generator = seeded(seed + 10 + number)
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double())
    return layer


def rows(count: int = 40, width: int = 3, *, seed: int = 5, scale: float = 1.0) -> Tensor:
    draw = torch.randn(count, width, generator=seeded(seed), dtype=torch.float64)
    return scale * draw


def with_functions() -> KANLinear:
    layer = rich()
    layer.assign(0, 1, "sin", (1.3, 0.2, 0.7, -0.4))
    layer.assign(1, 2, "x^2", (0.5, 0.1, 1.2, 0.3))
    return layer


def l1(layer: KANLinear, x: Tensor) -> Tensor:
    return layer.edge_values(x).abs().mean(0)


def l2(layer: KANLinear, x: Tensor, centered: bool = True) -> Tensor:
    values = layer.edge_values(x)
    if centered:
        values = values - values.mean(0)
    return values.square().mean(0).sqrt()


@pytest.fixture(params=["values", "moments"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to the L2 norm: small layers take the first, large ones the second."""
    if request.param == "moments":
        monkeypatch.setattr(spline_forward, "MAX_DIRECT_VALUES", 0)
    return request.param


# --- values -------------------------------------------------------------------------------------

layers = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 100),
        "n_in": st.integers(1, 4),
        "n_out": st.integers(1, 4),
        "grid_size": st.sampled_from([1, 2, 5, 11]),
        "spline_order": st.integers(1, 5),
        "extrapolation": st.sampled_from(["linear", "zero"]),
        "base_activation": st.sampled_from(["silu", "zero", "tanh", "identity"]),
    }
)


@pytest.mark.slow  # takes a while
@given(layers, st.integers(1, 40), st.floats(0.1, 4.0), st.booleans())
def test_norms_are_their_definitions(options, count, scale, centered):
    layer = rich(**options)
    x = rows(count, layer.in_features, scale=scale)
    if count > 4:
        x[0], x[1] = layer.grid[:, 3], layer.domain()[1]  # at a knot, and at the right end
    size = layer.edge_values(x).abs().max().item()
    tolerance = {"rtol": 1e-12, "atol": 1e-12 * max(1.0, size)}
    assert_close(sparsity.activation_l1(layer, x), l1(layer, x), **tolerance)
    expected = l2(layer, x, centered)
    assert_close(sparsity.activation_l2(layer, x, centered), expected, **tolerance)
    mean, variance = spline_forward.Moments.over(layer, x).edges(layer)
    assert_close(mean, layer.edge_values(x).mean(0), **tolerance)
    square = variance if centered else variance + mean.square()
    assert_close(square, expected.square(), rtol=1e-11, atol=1e-12 * max(1.0, size) ** 2)


@pytest.mark.parametrize("centered", [True, False])
def test_layers_with_functions_are_measured_too(centered, way):
    layer, x = with_functions(), rows()
    assert_close(sparsity.activation_l1(layer, x), l1(layer, x), **EXACT)
    assert_close(sparsity.activation_l2(layer, x, centered), l2(layer, x, centered), **EXACT)


@pytest.mark.parametrize("make", [rich, with_functions])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.slow  # many cases
def test_chunks_change_nothing(make, centered, way, monkeypatch):
    layer, whole = make(), rows(23).requires_grad_()
    parts = whole.detach().clone().requires_grad_()
    weights = list(layer.parameters())

    def slopes(x: Tensor) -> list[Tensor | None]:
        norms = sparsity.activation_l1(layer, x) + sparsity.activation_l2(layer, x, centered)
        found = torch.autograd.grad((norms**2).sum(), [x, *weights], allow_unused=True)
        return [norms.detach(), *found]

    expected = slopes(whole)
    monkeypatch.setattr(spline_forward, "CHUNK", 12)
    monkeypatch.setattr(spline_forward, "BASIS_CHUNK", 12)
    for found, right in zip(slopes(parts), expected, strict=True):
        assert_close(found, right, **EXACT)


def test_small_deviations_of_high_edges_are_seen(way):
    layer, x = rich(), rows(500)
    with torch.no_grad():
        layer.base_weight.mul_(1e-6)
        small = layer.coefficients() * 1e-6
        exact = sparsity.activation_l2(layer, x) * 0
        layer.spline_scaler.fill_(1.0)
        layer.spline_weight.copy_(small)
        exact = l2(layer, x)
        layer.spline_weight.add_(1e3)
    assert 1e-7 < exact.min() < exact.max() < 1e-4
    found = sparsity.activation_l2(layer, x)
    assert_close(found, exact, rtol=1e-6, atol=0.0)
    plain = layer.edge_values(x).square().mean(0) - layer.edge_values(x).mean(0).square()
    assert (plain.clamp_min(0).sqrt() - exact).abs().max() > 1e-6  # the careless way does not


@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_clusters_are_seen_in_whatever_order_rows_come(order, monkeypatch):
    layer = rich()
    x = torch.cat([place + 1e-6 * rows(50, seed=9) for place in (-0.9, -0.2, 0.4, 1.1)])
    x = x if order == "sorted" else x[torch.randperm(len(x), generator=seeded())]
    whole = spline_forward.Moments.over(layer, x)
    monkeypatch.setattr(spline_forward, "BASIS_CHUNK", 60)
    parts = spline_forward.Moments.over(layer, x)
    exact = torch.cat(
        [
            spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation),
            layer.base_activation(x).unsqueeze(-1),
        ],
        -1,
    )
    basis = local_basis(layer.grid, layer.spline_order, extrapolation=layer.extrapolation)
    cell, _ = basis.evaluate(x.mT.contiguous())
    for found in (whole, parts):
        for i in range(3):
            expected = torch.zeros_like(found.covariances.matrix()[i])
            for j in cell[i].unique():
                values = exact[cell[i] == j, i]
                away = values - values.mean(0)
                expected += away.mT @ away / len(x)
            assert_close(found.covariances.matrix()[i], expected, rtol=1e-6, atol=1e-18)


def test_nan_stays_nan_and_in_its_column(way):
    layer, x = rich(), rows()
    x[3, 1] = math.nan
    for norm in (sparsity.activation_l1(layer, x), sparsity.activation_l2(layer, x)):
        assert norm[:, 1].isnan().all()
        assert norm[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("count", [1, 3])
def test_one_value_does_not_vary(count, way):
    layer, x = rich(), rows(1).expand(count, -1)
    assert sparsity.activation_l2(layer, x).max() < 1e-12
    assert_close(sparsity.activation_l2(layer, x, centered=False), l2(layer, x, False), **EXACT)


# --- gradients ----------------------------------------------------------------------------------


class _Norm(torch.nn.Module):
    def __init__(self, layer: KANLinear, norm: object) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer, x)


@pytest.mark.slow
@pytest.mark.parametrize(("extrapolation", "order"), [("linear", 3), ("zero", 1)])
@pytest.mark.parametrize("centered", [True, False, None])
def test_gradcheck_in_weights_and_inputs(extrapolation, order, centered, way):
    layer = rich(extrapolation=extrapolation, spline_order=order)
    x = rows(7, scale=1.3).requires_grad_()
    names = [name for name, _ in layer.named_parameters() if name != "bias"]

    def norm(layer: KANLinear, x: Tensor) -> Tensor:
        if centered is None:
            return sparsity.activation_l1(layer, x)
        return sparsity.activation_l2(layer, x, centered)

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        state = {f"layer.{name}": value for name, value in zip(names, weights, strict=True)}
        return torch.func.functional_call(_Norm(layer, norm), state, (x,))

    weights = [
        p.detach().clone().requires_grad_() for n, p in layer.named_parameters() if n in names
    ]
    assert gradcheck(function, [x, *weights])


@pytest.mark.parametrize("name", ["activation_l1", "activation_l2"])
def test_gradients_of_edges_that_are_zero_are_zero(name, way):
    layer, x = rich(), rows().requires_grad_()
    with torch.no_grad():
        layer.spline_weight[0, 0] = 0.0
        layer.base_weight[0, 0] = 0.0
        layer.mask[1, 1] = 0.0
    norms = getattr(sparsity, name)(layer, x)
    norms.sum().backward()
    assert norms[0, 0] == norms[1, 1] == 0.0
    assert not layer.spline_weight.grad[0, 0].any()
    assert not layer.base_weight.grad[0, 0].any()
    assert not layer.spline_weight.grad[1, 1].any()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert x.grad.any()


def test_constant_edges_have_no_centred_norm_and_a_finite_gradient(way):
    layer, x = rich(), rows()
    with torch.no_grad():
        layer.base_weight.zero_()
        layer.spline_weight.fill_(3.0)
    norms = sparsity.activation_l2(layer, x)
    norms.sum().backward()
    assert norms.max() < 1e-12
    assert layer.spline_weight.grad.isfinite().all()
    assert layer.spline_weight.grad.abs().max() < 10


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["activation_l1", "activation_l2"])
def test_messages(name):
    norm = getattr(sparsity, name)
    with pytest.raises(ShapeError, match=r"expected x of shape \(batch, 3\), got \(4, 2\)"):
        norm(rich(), torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=re.escape(f"{name}: expected at least 1 row, got 0")):
        norm(rich(), torch.zeros(0, 3, dtype=torch.float64))


# --- a layer's own way ----------------------------------------------------------------------------


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("rows", [300, 30_000])
def test_an_edge_from_a_constant_column_has_no_gradient(rows):
    for seed in range(20):
        generator = seeded(seed)
        layer = KANLinear(3, 4, generator=generator).double()
        x = torch.rand(rows, 3, generator=generator, dtype=torch.float64)
        x[:, 0] = 0.3 * seed / 17 - 0.2
        norm = sparsity.activation_l2(layer, x)
        gradient = torch.autograd.grad(norm.sum(), layer.base_weight)[0]
        assert not gradient[:, 0].any() and gradient[:, 1:].all()


@pytest.mark.parametrize("name", ["activation_l1", "activation_l2", "weight_l1", "raw_l1"])
def test_norms_of_what_is_no_layer_are_refused_in_one_line(name):
    from kanlens import KAN

    call = getattr(sparsity, name)
    rows_given = (rows(),) if name.startswith("activation") else ()
    for wrong, advice in (
        (KAN([3, 2]), "Pass one of model.layers"),
        (torch.nn.Linear(3, 2), "Pass a KANLinear"),
    ):
        text = f"{name}: expected a layer of edges, got {type(wrong).__name__}. {advice}."
        with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
            call(wrong, *rows_given)


def test_rows_that_are_no_tensor_are_refused():
    with pytest.raises(InvalidValueError, match="expected x to be a Tensor, got list"):
        sparsity.activation_l1(rich(), [[1.0, 2.0, 3.0]])
