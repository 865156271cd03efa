import math
import pickle
import re

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import ALIASES, FUNCTIONS, find_function

INSIDE = {  # an interval of u on which the function is defined
    "positive": (0.2, 3.0),
    "nonzero": (0.2, 3.0),
    "nonnegative": (0.2, 3.0),
    "unit": (-0.9, 0.9),
    "open unit": (-0.9, 0.9),
    "tangent": (-1.4, 1.4),
    "real": (-3.0, 3.0),
}
NAMES = sorted(FUNCTIONS)
numbers = st.floats(-6.0, 6.0).map(lambda value: round(value, 3))


def places(name, count=57):
    return torch.linspace(*INSIDE[FUNCTIONS[name].domain], count, dtype=torch.float64)


def ends_of(low, high):
    return torch.tensor([low, high], dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_that_of_the_value(name):
    g = FUNCTIONS[name]
    u = places(name).requires_grad_()
    value = g.value(u)
    slope = torch.autograd.grad(value.sum(), u)[0] if value.requires_grad else torch.zeros_like(u)
    assert_close(g.derivative(u.detach()), slope)


@pytest.mark.parametrize("name", NAMES)
def test_expression_computes_the_value(name):
    g, symbol = FUNCTIONS[name], sympy.Symbol("u", real=True)
    u = places(name)
    values = sympy.lambdify(symbol, g.expression(symbol), ["scipy", "numpy"])(u.numpy())
    assert_close(torch.as_tensor(np.broadcast_to(values, u.shape).astype(float)), g.value(u))


@pytest.mark.parametrize("name", [n for n in NAMES if FUNCTIONS[n].symmetry])
def test_symmetry(name):
    g, u = FUNCTIONS[name], places(name)
    assert_close(g.value(-u), g.value(u) * (1 if g.symmetry == "even" else -1))


@pytest.mark.parametrize("name", [n for n in NAMES if FUNCTIONS[n].degree is not None])
def test_degree(name):
    g, u = FUNCTIONS[name], places(name)
    assert_close(g.value(2.5 * u), 2.5**g.degree * g.value(u))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@given(ends=st.tuples(numbers, numbers))
def test_bounds_hold_and_are_reached(name, ends):
    low, high = sorted(ends)
    g = FUNCTIONS[name]
    lower, upper = g.extremes(*ends_of(low, high))
    with torch.no_grad():
        values = g.value(torch.linspace(low, high, 2001, dtype=torch.float64))
    if not bool(g.defined(*ends_of(low, high))):
        assert lower == -math.inf
        assert upper == math.inf
        return
    ulps = 4 * torch.finfo(torch.float64).eps * torch.maximum(lower.abs(), upper.abs())
    assert bool((values >= lower - 1e-12 * lower.abs() - ulps).all())
    assert bool((values <= upper + 1e-12 * upper.abs() + ulps).all())
    size = float((upper - lower).abs())
    assert float(values.min() - lower) <= 0.01 * size + 1e-9
    assert float(upper - values.max()) <= 0.01 * size + 1e-9


def test_a_bound_near_a_double_zero_keeps_its_digits():
    lower, _ = FUNCTIONS["relu(1-x^2)^2"].extremes(*ends_of(0.938, 0.996))
    assert float(lower) == pytest.approx(6.3744256e-05, rel=1e-14)


def test_bounds_are_infinite_across_a_pole():
    low, high = torch.tensor([-1.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, 2.0])
    lower, upper = FUNCTIONS["1/x"].extremes(low, high)
    assert lower.tolist() == [-math.inf, 0.5, 0.5]
    assert upper.tolist() == [math.inf, 1.0, 1.0]
    assert FUNCTIONS["tan"].extremes(low[1:2], high[1:2])[1].item() == math.inf


def test_every_alias_names_a_function():
    assert set(ALIASES.values()) <= set(FUNCTIONS)
    assert find_function("sigmoid").name == "tanh"


def test_names_are_keys():
    assert all(name == g.name for name, g in FUNCTIONS.items())


def test_unknown_function_is_refused_with_the_nearest():
    known = ", ".join(sorted(FUNCTIONS))
    text = f"suggest: expected function to be one of {known}, got 'gausian'. "
    text += "Did you mean 'gaussian'?"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        find_function("gausian", call="suggest")


def test_functions_are_pickled_by_name():
    for entry in FUNCTIONS.values():
        assert pickle.loads(pickle.dumps(entry)) is entry  # noqa: S301


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_defined_up_to_the_ends_of_their_domains(name):
    g = FUNCTIONS[name]
    low, high = g.ends
    assert low < high
    for end, inward in ((low, 1e-3), (high, -1e-3)):
        if math.isfinite(end):
            inside, outside = g.value(torch.tensor([end + inward, end - inward]).double())
            assert inside.isfinite()
            assert not outside.isfinite()


def test_stretches_end_where_a_function_turns_and_beside_its_poles():
    assert FUNCTIONS["x^2"].stretches(-1.0, 4.0) == [(-1.0, 0.0), (0.0, 4.0)]
    (low, left), (right, high) = FUNCTIONS["1/x"].stretches(-1.0, 4.0)
    assert (low, high) == (-1.0, 4.0)
    assert left < 0.0 < right
