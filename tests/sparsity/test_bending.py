"""Curvature is the integral that scipy finds, for every order, base and grid."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from kanlens.errors import MethodError
from kanlens.functions._catalog import BASES
from kanlens.model._kan_linear import KANLinear
from kanlens.sparsity import curvature
from tests.sparsity.test_functions import rich, seeded


def by_quad(layer: KANLinear) -> Tensor:
    """The definition, edge by edge and interval by interval."""
    found = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    cuts = layer.grid[:, layer.spline_order : -layer.spline_order].numpy()
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            phi = layer.edge(o, i)
            kinks = np.clip(BASES[layer.base_name].kinks, cuts[i][0], cuts[i][-1])
            ends = np.union1d(cuts[i], kinks)
            pieces = [p for a, b in itertools.pairwise(ends) for p in _pieces(a, b)]

            def bend(x, phi=phi):
                return float(phi.derivative(np.array([x]), 2)[0]) ** 2

            for a, b in pieces:
                inner = 1e-9 * (b - a)  # a derivative has two values at a knot
                found[o, i] += quad(bend, a + inner, b - inner, epsabs=0, epsrel=1e-13)[0]
    return found


def _pieces(a: float, b: float) -> list[tuple[float, float]]:
    cuts = np.linspace(a, b, max(2, math.ceil((b - a) / 2) + 1))
    return list(itertools.pairwise(cuts))


@pytest.mark.slow
@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_curvature_is_what_scipy_finds(order, base):
    layer = rich(order, 2, 1, spline_order=order, base_activation=base, grid_size=3)
    assert_close(curvature(layer).detach(), by_quad(layer), rtol=1e-7, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["silu", "tanh", "gelu"])
@pytest.mark.parametrize("span", [0.01, 2.0, 9.0, 70.0])
def test_the_base_is_integrated_to_twelve_digits(base, span):
    layer = KANLinear(
        1, 1, grid_size=2, grid_range=(-0.3 * span, span), base_activation=base
    ).double()
    with torch.no_grad():
        layer.spline_weight.zero_()
        layer.base_weight.fill_(2.0)

    def bend(x):
        return 4 * float(BASES[base].nth(x, 2)) ** 2

    low, high = (float(end) for end in layer.domain())  # the grid was made in float32
    ends = np.linspace(low, high, 200)
    exact = sum(quad(bend, a, b, epsabs=0, epsrel=1e-13)[0] for a, b in itertools.pairwise(ends))
    assert curvature(layer).item() == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow  # takes a while
@given(st.integers(0, 50), st.floats(0.1, 9.0), st.floats(-5.0, 5.0))
def test_curvature_scales_and_does_not_see_straight_lines(seed, factor, constant):
    layer = rich(seed, base_activation="zero")
    before = curvature(layer).detach()
    with torch.no_grad():
        layer.spline_weight *= factor
    assert_close(curvature(layer).detach(), factor**2 * before)
    with torch.no_grad():
        layer.spline_scaler.fill_(1.0)
        before = curvature(layer)
        centres = torch.stack([layer.grid[:, 1 + j : 9 + j] for j in range(3)]).mean(0)
        layer.spline_weight += constant * centres + 1.0  # Greville: the coefficients of x
    assert_close(curvature(layer).detach(), before, rtol=1e-8, atol=1e-8)


def test_order_one_has_only_the_curvature_of_its_base():
    layer = rich(spline_order=1)
    with torch.no_grad():
        layer.base_weight[0].zero_()
    assert not curvature(layer)[0].any()
    assert (curvature(layer)[1] > 0).all()


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_gradcheck(order):
    layer = rich(spline_order=order, grid_size=3)

    def function(spline: Tensor, base: Tensor, scaler: Tensor) -> Tensor:
        state = {"spline_weight": spline, "base_weight": base, "spline_scaler": scaler}
        return torch.func.functional_call(
            _Curvature(layer), {f"layer.{k}": v for k, v in state.items()}, ()
        )

    names = ("spline_weight", "base_weight", "spline_scaler")
    weights = [getattr(layer, name).detach().clone().requires_grad_() for name in names]
    assert gradcheck(function, weights)


class _Curvature(torch.nn.Module):
    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return curvature(self.layer)


def test_edges_that_are_zero_or_masked_do_not_bend():
    layer = rich()
    with torch.no_grad():
        layer.spline_weight[0, 0] = 0.0
        layer.base_weight[0, 0] = 0.0
        layer.mask[1, 1] = 0.0
    found = curvature(layer)
    found.sum().backward()
    assert found[0, 0] == found[1, 1] == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_message_for_other_edges():
    layer = KANLinear(2, 1, functions=[["x", "spline"]], generator=seeded())
    with pytest.raises(MethodError, match="a layer of splines, got one of kind 'function'"):
        curvature(layer)


def test_the_comparison_has_teeth():
    layer = rich(3, 2, 1, grid_size=3)
    other = by_quad(layer)
    with torch.no_grad():
        layer.spline_weight[0, 0, 2] *= 1.001
    assert (curvature(layer) / other - 1).abs().max() > 1e-5
