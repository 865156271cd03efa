"""The definition that kernels are held to, against slower ones, SciPy and autograd."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanlens.functions._catalog import BASES
from tests.model.kernels.definition import Wanted, base_function, misfit, values_and_slopes
from tests.model.kernels.layers import GRIDS, make, run
from tests.model.layers_for_tests import ORDERS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("order", ORDERS)
def test_basis_is_scipys(order):
    layer = make(n_in=1, grid_size=6, spline_order=order, grid="clustered").layer
    knots = layer.grid[0].numpy()
    x = np.linspace(knots[order], knots[-order - 1], 41)[1:-1]  # scipy closes other ends
    values, slopes = values_and_slopes(x, knots, order, "zero")
    for j, column in enumerate(np.eye(values.shape[1])):
        spline = BSpline(knots, column, order)
        np.testing.assert_allclose(values[:, j].astype(float), spline(x), rtol=0, atol=1e-13)
        size = np.abs(slopes).max()
        given = slopes[:, j].astype(float)
        np.testing.assert_allclose(given, spline(x, 1), rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("name", BASES)
def test_base_is_its_formula_and_slope_is_autograds(name):
    steps = torch.arange(-13, 14, dtype=torch.float64)  # without the kinks of hardswish, at 3:
    x = (0.7 * steps).requires_grad_()  # versions of torch have other slopes there
    values, slopes = (each.astype(float) for each in base_function(name, x.detach().numpy()))
    functions = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu}
    functions |= {"tanh": torch.tanh, "identity": lambda v: 1 * v, "zero": lambda v: 0 * v}
    functions |= {"sigmoid": torch.sigmoid, "relu": torch.relu, "sin": torch.sin}
    others = ["softplus", "mish", "leaky_relu", "elu", "hardswish"]
    functions |= {name: getattr(torch.nn.functional, name) for name in others}
    expected = functions[name](x)
    np.testing.assert_allclose(values, expected.detach().numpy(), rtol=1e-14, atol=1e-14)
    (slope,) = torch.autograd.grad(expected.sum(), x)
    np.testing.assert_allclose(slopes, slope.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_differences_of_the_values(grid, order):
    case = make(grid=grid, spline_order=order, mask="fractions", seed=order)
    low, high = case.layer.domain()
    share = torch.linspace(0.02, 0.97, case.x.numel(), dtype=torch.float64).view_as(case.x)
    case = dataclasses.replace(case, x=low + (high - low) * share)  # no knot is near
    wanted, step = case.wanted(), 1e-6

    def total() -> float:
        return float((case.wanted()["y"].value * case.grad.numpy()).sum())

    tensors = {"x": case.x, **dict(case.layer.named_parameters())}
    for name, tensor in tensors.items():
        place = tuple(size // 2 for size in tensor.shape)
        with torch.no_grad():
            tensor[place] += step
            more = total()
            tensor[place] -= 2 * step
            slope = (more - total()) / (2 * step)
            tensor[place] += step
        assert abs(slope - wanted[name].value[place]) < 1e-5 * wanted[name].scale, name


# --- teeth -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["y", "x", "spline_weight", "spline_scaler", "base_weight", "bias"]
)
def test_comparison_rejects_a_small_error_anywhere(name):
    case = make()
    wanted, found = case.wanted(), run(case, "torch")
    assert misfit(found[name], wanted[name]) < 1e-13
    found[name].view(-1)[-1] += 1e-11 * wanted[name].scale
    assert misfit(found[name], wanted[name]) > 1e-12


def test_comparison_rejects_nan_shapes_and_a_zero_that_is_none():
    two = Wanted(np.zeros(2), 1.0)
    assert misfit(torch.tensor([0.0, torch.nan]), two) == np.inf
    assert misfit(torch.tensor([0.0, torch.inf]), two) == np.inf
    assert misfit(torch.zeros(1, 2), two) == np.inf
    assert misfit(torch.full((2,), 1e-9), Wanted(np.zeros(2), 0.0)) == np.inf
    assert misfit(torch.zeros(2), Wanted(np.zeros(2), 0.0)) == 0.0
    assert misfit(torch.zeros(0, 2), Wanted(np.zeros((0, 2)), 0.0)) == 0.0


def test_a_few_numbers_are_measured_by_their_terms():
    assert Wanted(np.full(3, 0.1), 2.0).scale == 2.0
    assert Wanted(np.full(40, 0.1), 2.0).scale == 0.1
