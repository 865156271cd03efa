"""Edges that are functions; their values, slopes and objects are in `test_series_layer`."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens.errors import InvalidValueError, ShapeError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.symbolic._joint_refit import affine_derivatives

TABLE = [["sin", "spline", "x^2"], ["abs", "exp", "spline"]]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def layer(generator):
    layer = KANLinear(3, 2, functions=TABLE, generator=generator).double()
    with torch.no_grad():
        layer.affine.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    return layer


@pytest.fixture
def x(generator):
    return torch.rand(11, 3, generator=generator, dtype=torch.float64) * 2 - 1


def test_affine_derivatives_are_those_of_autograd(layer, x):
    found = affine_derivatives(layer, x)
    call = torch.func.functional_call
    jacobian = torch.autograd.functional.jacobian(  # (batch, out, out, in, 4)
        lambda affine: call(layer, {"affine": affine}, (x,)), layer.affine.detach()
    )
    for o in range(2):
        assert_close(found[:, o], jacobian[:, o, o])


def test_an_edge_can_become_a_spline_again(generator, x):
    layer = KANLinear(3, 2, generator=generator).double()
    assert layer.splines_alone and layer.affine is None
    before = layer(x)
    layer.assign(1, 2, "tanh", (2.0, 0.0, 1.0, 0.0))
    assert not torch.allclose(layer(x), before)
    assert not layer.splines_alone
    layer.assign(1, 2, "spline")
    assert layer.splines_alone
    assert_close(layer(x), before, rtol=0, atol=0)


@settings(max_examples=15, deadline=None)
@given(
    ends=st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
)
def test_bounds_hold(ends, seed):
    generator = torch.Generator().manual_seed(seed)
    names = sorted(FUNCTIONS)
    pick = torch.randint(len(names), (2, 3), generator=generator).tolist()
    table = [[names[k] for k in row] for row in pick]
    layer = KANLinear(3, 2, functions=table, generator=generator).double()
    with torch.no_grad():
        layer.affine.normal_(generator=generator)
    low, high = torch.tensor([sorted(pair) for pair in ends], dtype=torch.float64).unbind(1)
    lower, upper = layer.edge_bounds(low, high)
    share = torch.linspace(0, 1, 301, dtype=torch.float64)[:, None]
    values = layer.edge_values(low + (high - low) * share)
    good = torch.isfinite(values)
    assert bool(((values >= lower) | ~good).all())
    assert bool(((values <= upper) | ~good).all())
    assert bool((good.all(0) | torch.isinf(upper)).all())  # undefined means infinite


def test_a_dead_edge_is_zero_even_where_it_is_not_defined():
    layer = KANLinear(1, 1, functions=[["log"]])
    layer.mask.zero_()
    x = torch.tensor([[-1.0]], requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.item() == 0.0
    assert bool(torch.isfinite(layer.affine.grad).all())
    assert bool(torch.isfinite(x.grad).all())
    lower, upper = layer.edge_bounds(torch.tensor([-1.0]), torch.tensor([1.0]))
    assert (lower.item(), upper.item()) == (0.0, 0.0)


def test_breakpoints_hold_the_kinks(layer):
    a, b, _, _ = layer.affine[1, 0]
    cuts = layer.breakpoints()
    assert bool((cuts.diff(dim=1) >= 0).all())
    assert bool(torch.isclose(cuts[0], -b / a).any())
    assert cuts.shape == (3, 5 + 2)


@pytest.mark.parametrize("b", [0.0, 1.0])
def test_a_constant_edge_has_no_kink(layer, b):
    layer.assign(1, 0, "abs", (0.0, b, 1.0, 0.0))
    assert bool(torch.isfinite(layer.breakpoints()).all())


def test_norm_of_a_function_is_its_mean_distance_from_its_mean(layer, x):
    values = layer.edge_values(x)[:, 0, 0]
    assert_close(layer.weight_l1(x)[0, 0], (values - values.mean()).abs().mean())
    assert bool((layer.weight_l1() > 0).all())


def test_wrong_table_is_refused():
    text = (
        "KANLinear: expected functions of shape (2, 3), got 1 rows of 3. Name one "
        "function per edge."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        KANLinear(3, 2, functions=[["x", "x", "x"]])


def test_unknown_function_is_refused():
    with pytest.raises(InvalidValueError, match=r"got 'sine'\. Did you mean 'sin"):
        KANLinear(1, 1, functions=[["sine"]])


def test_repr_counts_the_functions(layer):
    assert "functions=4 of 6 edges" in repr(layer)
