"""The mean of |phi| of every edge: exact, with exact gradients, whatever the edges and the rows."""

import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from kanlens.splines import _spline as spline
from tests.model.kernels.layers import KINDS, cases
from tests.model.kernels.norms import (
    norm_misfits,
    norms_agree,
    norms_by_definition,
    rough,
    run_norms,
    uniform,
)


def function_layer(function, *, grid_size=5, spline_order=3, n_out=2):
    """A layer of float64 whose every edge is a polynomial on the grid, with no base function."""
    layer = rough(1, n_out, grid_size=grid_size, spline_order=spline_order, base_activation="zero")
    x = torch.linspace(-1, 1, 400, dtype=torch.float64)[:, None]
    y = function(x).unsqueeze(1).expand(-1, n_out, -1)
    with torch.no_grad():
        layer.spline_weight.copy_(spline.fit(x, y, layer.grid, spline_order))
        layer.spline_scaler.fill_(1.0)
    return layer


# --- against the definition ---------------------------------------------------------------------


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize(("order", "dtype"), KINDS, ids=str)
def test_norms_and_gradients_are_those_of_the_definition(order, dtype):
    @given(cases(order, dtype).filter(lambda case: len(case.x) > 0))
    @settings(max_examples=15, deadline=None)
    def check(case):
        assert norms_agree(case.layer, case.x), norm_misfits(case.layer, case.x)

    check()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 3), (900, 1, 1), (900, 5, 1), (700, 2, 33)])
def test_any_shape(shape, dtype):
    rows, n_in, n_out = shape
    assert norms_agree(rough(n_in, n_out, dtype=dtype), uniform(rows, n_in, dtype=dtype))


@pytest.mark.usefixtures("many_threads")
def test_shared_out_among_threads():
    assert norms_agree(rough(7, 9), uniform(300, 7))


@pytest.mark.parametrize("rows", [2, 9, 600])
@pytest.mark.parametrize("kind", ["constant", "binary", "few", "at knots", "zeros", "sorted"])
def test_repeated_values(kind, rows):
    layer, x = rough(3, 17), uniform(rows, 3)
    if kind == "at knots":
        x = layer.grid.mT[torch.arange(rows) % layer.grid.shape[1]]
    x = {
        "constant": torch.full_like(x, 0.3),
        "binary": (x > 0).double(),
        "few": (x * 3).round() / 3,
        "at knots": x,
        "zeros": x * (x > 0.5),
        "sorted": x.sort(0, descending=True).values,
    }[kind]
    assert norms_agree(layer, x), norm_misfits(layer, x)


@pytest.mark.parametrize("base", ["silu", "identity", "zero", "tanh", "gelu"])
@pytest.mark.parametrize("grid_size", [1, 40])
@pytest.mark.slow  # many cases
def test_wide_and_narrow_pieces(base, grid_size):
    layer = rough(2, 9, grid_size=grid_size, base_activation=base)
    x = 4 * uniform(900, 2)  # most points beyond the grid, where one piece is wide
    assert norms_agree(layer, x), norm_misfits(layer, x)


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_far_near_and_tiny_values(extrapolation):
    layer, x = rough(2, 9, extrapolation=extrapolation), uniform(400, 2)
    x[::7] *= 1e4
    x[3::7] *= 1e-300
    x[5::7] = 0.25 + 2.0**-52 * torch.arange(len(x[5::7]), dtype=x.dtype)[:, None]
    assert norms_agree(layer, x), norm_misfits(layer, x)


@pytest.mark.parametrize("size", [1e30, 1e-42])
def test_values_at_the_ends_of_the_type(size):
    layer, x = rough(2, 9, dtype=torch.float32), uniform(300, 2, dtype=torch.float32) * size
    found, wide = layer.activation_l1(x), layer.double()
    assert_close(found.double(), wide.edge_values(x.double()).abs().mean(0), rtol=1e-6, atol=0)


# --- functions that make it hard ----------------------------------------------------------------


@pytest.mark.parametrize("rows", [50, 3000])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x - 0.1) ** 2,
        lambda x: -((x - 0.1) ** 2),
        lambda x: (x - 0.1) ** 2 - 1e-12,
        lambda x: (x - 0.1) ** 2 * (x + 0.3),
        lambda x: (x - 0.1) ** 3,
        lambda x: (x - 0.05) * (x - 0.1) * (x - 0.15),
        lambda x: 1e-9 * x,
        lambda x: x * 0 + 1e-15,
        torch.ones_like,
    ],
)
def test_roots_that_touch_meet_and_hide(function, rows):
    x = torch.cat([uniform(rows, 1), torch.tensor([[0.1], [0.1 + 1e-9], [0.05], [-0.3], [0.0]])])
    assert norms_agree(function_layer(function), x), norm_misfits(function_layer(function), x)


def test_as_many_sign_changes_as_there_can_be():
    layer = rough(2, 5, grid_size=60)
    with torch.no_grad():
        layer.spline_weight.abs_()
        layer.spline_weight[..., ::2] *= -1
    assert norms_agree(layer, uniform(2000, 2))


@pytest.mark.parametrize("order", [1, 3])
def test_where_an_edge_is_zero_its_slope_is_zero(order):
    layer = function_layer(lambda x: x, spline_order=order, grid_size=4)
    layer.base_name = "silu"
    with torch.no_grad():
        layer.spline_weight.zero_()  # what is left is zero at zero
    x = torch.cat([torch.zeros(200, 1), torch.linspace(-0.9, 0.9, 100)[:, None]]).double()
    found = torch.autograd.grad(layer.activation_l1(x).sum(), layer.spline_weight)[0]
    wanted = torch.autograd.grad(layer.edge_values(x).abs().mean(0).sum(), layer.spline_weight)[0]
    assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_an_edge_of_the_size_of_rounding_has_a_norm_of_that_size():
    layer = rough(1, 9, base_activation="identity")
    knots = layer.grid[0]
    with torch.no_grad():  # the spline is -x: its coefficients are the means of three knots
        layer.spline_weight.copy_(-(knots[1:-3] + knots[2:-2] + knots[3:-1]) / 3)
        layer.spline_scaler.fill_(1.0)
        layer.base_weight.fill_(1.0)
    x = uniform(5000, 1)
    assert layer.activation_l1(x).max() < 1e-14


def test_norms_are_exact_where_terms_cancel():
    layer = rough(2, 5)
    with torch.no_grad():
        layer.spline_weight += 1e6
        layer.spline_scaler.fill_(1.0)
        layer.base_weight.zero_()
    x = uniform(700, 2).clamp(-1, 1)
    wanted = norms_by_definition(layer, x, torch.ones(5, 2))["norms"]
    assert_close(
        layer.activation_l1(x).detach().numpy(), wanted.value.astype(float), rtol=1e-14, atol=0
    )


# --- rows that are not numbers ------------------------------------------------------------------


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_value_that_is_not_finite_spoils_its_input_alone(bad, dtype):
    layer, x = rough(3, 5, dtype=dtype), uniform(400, 3, dtype=dtype)
    clean = run_norms(layer, x, torch.ones(5, 3, dtype=dtype))
    x[17, 1] = bad
    found = run_norms(layer, x, torch.ones(5, 3, dtype=dtype))
    for name in ("norms", "spline_weight", "spline_scaler", "base_weight"):
        assert found[name][:, 1].isnan().all()
        assert_close(found[name][:, [0, 2]], clean[name][:, [0, 2]], rtol=0, atol=0)
    assert found["x"].isnan().nonzero().tolist() == [[17, 1]]
    kept = torch.arange(400) != 17
    assert_close(found["x"][kept], clean["x"][kept])


def test_weights_that_are_not_finite_end_in_nan():
    layer, x = rough(2, 5), uniform(300, 2)
    with torch.no_grad():
        layer.spline_weight[1, 0] = torch.nan
    found = layer.activation_l1(x)
    assert found.isnan().nonzero().tolist() == [[1, 0]]
