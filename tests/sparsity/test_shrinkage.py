"""The proximal step is the minimiser it says it is, and its zeros are exact and harmless."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kanlens import sparsity
from kanlens.errors import InvalidValueError, MethodError, ShapeError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._spline_forward import Moments
from kanlens.splines import _spline as spline
from tests.sparsity.test_functions import rich, rows, seeded


def weights_of(layer: KANLinear) -> Tensor:  # (out, in, basis + 1)
    return torch.cat([layer.coefficients(), layer.base_weights().unsqueeze(-1)], -1).detach()


def gram(layer: KANLinear, x: Tensor, centered: bool) -> Tensor:  # (in, basis + 1, basis + 1)
    values = torch.cat(
        [
            spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation),
            layer.base_activation(x).unsqueeze(-1),
        ],
        -1,
    )
    values = values - values.mean(0) if centered else values
    return torch.einsum("bik,bil->ikl", values, values) / len(x)


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_the_matrix_of_the_moments_is_the_covariance_of_the_basis(extrapolation):
    layer, x = rich(extrapolation=extrapolation), rows(60, scale=1.5)
    found, means = Moments.over(layer, x).matrix()
    assert_close(found, gram(layer, x, centered=True), rtol=1e-12, atol=1e-13)
    values = torch.cat(
        [
            spline.basis(x, layer.grid, layer.spline_order, extrapolation=layer.extrapolation),
            layer.base_activation(x).unsqueeze(-1),
        ],
        -1,
    )
    assert_close(means, values.mean(0), rtol=1e-12, atol=1e-13)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("centered", [True, False])
@given(st.integers(0, 50), st.floats(0.01, 3.0))
def test_the_step_minimises_its_objective(centered, seed, strength):
    layer, x = rich(seed), rows(50, seed=seed)
    matrix, before = gram(layer, x, centered), weights_of(layer)

    def objective(v: Tensor) -> Tensor:  # (out, in)
        away = v - before
        distance = torch.einsum("oik,ikl,oil->oi", away, matrix, away)
        size = torch.einsum("oik,ikl,oil->oi", v, matrix, v).clamp_min(0).sqrt()
        return 0.5 * distance + strength * size

    sparsity.prox_group(layer, x, strength, centered=centered)
    least = objective(weights_of(layer))
    draw = torch.randn(20, *before.shape, generator=seeded(seed), dtype=torch.float64)
    for size in (1e-4, 1e-2, 1.0):
        for step in draw:
            assert (objective(weights_of(layer) + size * step) >= least - 1e-12).all()
    assert (objective(torch.zeros_like(before)) >= least - 1e-12).all()


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_only_the_varying_part_is_taken_off(extrapolation):
    layer, x = rich(extrapolation=extrapolation), rows(50)
    before, norms = layer.edge_values(x).detach(), sparsity.activation_l2(layer, x).detach()
    output = layer(x).detach()
    strength = float(norms.median())
    factor = sparsity.prox_group(layer, x, strength)
    assert_close(factor, (1 - strength / norms).clamp_min(0), rtol=1e-10, atol=1e-12)
    left = (norms - strength).clamp_min(0)
    assert_close(sparsity.activation_l2(layer, x).detach(), left, rtol=1e-10, atol=1e-12)
    mean = before.mean(0)
    expected = output + ((factor - 1) * (before - mean)).sum(2)
    assert_close(layer(x).detach(), expected, rtol=1e-10, atol=1e-10)


def test_zeros_are_exact_and_come_back_only_with_a_gradient():
    layer, x = rich(), rows(50)
    scaler = layer.spline_scaler.detach().clone()
    assert not sparsity.prox_group(layer, x, 1e6).any()
    assert not layer.spline_weight.any()
    assert not layer.base_weight.any()
    assert_close(layer.spline_scaler.detach(), scaler)
    assert not sparsity.activation_l2(layer, x).any()
    sparsity.activation_l2(layer, x).sum().backward()
    assert not layer.spline_weight.grad.any()
    layer(x).sum().backward()
    assert layer.spline_weight.grad.abs().amax(-1).min() > 0


def test_edges_that_are_masked_or_do_not_vary():
    layer, x = rich(), rows(50)
    with torch.no_grad():
        layer.mask[0, 0] = 0.0
        layer.base_weight[1, 1] = 0.0
        layer.spline_weight[1, 1] = 3.0
    other = copy.deepcopy(layer)
    output = layer(x).detach()
    assert (sparsity.prox_group(layer, x, 0.0) == 1).all()
    assert_close(list(layer.parameters()), list(other.parameters()), rtol=0, atol=0)
    factor = sparsity.prox_group(layer, x, 1e-9)
    assert factor[1, 1] == 0.0
    assert factor[0, 0] == 1.0
    assert_close(layer.spline_weight[0, 0], other.spline_weight[0, 0], rtol=0, atol=0)
    assert_close(layer(x).detach(), output, rtol=0, atol=1e-7)


def test_the_step_belongs_to_the_function_not_to_its_scaler():
    layer, x = rich(), rows(50)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.spline_weight *= 100.0
        other.spline_scaler /= 100.0
    sparsity.prox_group(layer, x, 0.3)
    sparsity.prox_group(other, x, 0.3)
    assert_close(other(x), layer(x), rtol=1e-10, atol=1e-10)


def test_messages():
    layer, x = rich(), rows()
    with pytest.raises(MethodError, match="a layer of splines, got one of kind 'function'"):
        sparsity.prox_group(KANLinear(3, 2, functions=[["x"] * 3] * 2), x, 0.1)
    with pytest.raises(InvalidValueError, match=r"to be a number of at least 0, got -1\.0"):
        sparsity.prox_group(layer, x, -1.0)
    with pytest.raises(ShapeError, match="prox_group: expected at least 1 row, got 0"):
        sparsity.prox_group(layer, x[:0], 0.1)
    with pytest.raises(ShapeError, match=r"expected x of shape \(batch, 3\), got \(40, 2\)"):
        sparsity.prox_group(layer, x[:, :2], 0.1)
