import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.symbolic._library import constrain, library

FAMILIES = {family.name: family for family in library()}
numbers = st.floats(-4.0, 4.0).map(lambda value: round(value, 3))


def test_every_function_but_the_constant_has_a_family():
    searched = {name for name, g in FUNCTIONS.items() if g.searched}
    assert set(FAMILIES) == searched - {"constant"}
    assert [family.name for family in library(["silu"])] == ["x", "silu"]


def test_names_and_aliases_choose_families_and_the_line_is_always_there():
    assert [family.name for family in library(["cos", "sin", "exp"])] == ["x", "exp", "sin"]


def test_unknown_function_is_refused():
    with pytest.raises(InvalidValueError, match=r"function to be one of .*, got 'bessel'"):
        library(["bessel"], call="symbolize")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
@given(values=st.tuples(numbers.filter(lambda a: abs(a) > 0.05), numbers, numbers, numbers))
def test_canonical_parameters_are_the_same_function(name, values):
    family = FAMILIES[name]
    parameters = torch.tensor(values, dtype=torch.float64)
    canonical = family.canonical(parameters)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    before, after = (
        c * family.function.value(a * x + b) + d for a, b, c, d in (parameters, canonical)
    )
    both = torch.isfinite(before) & torch.isfinite(after) & (before.abs() < 1e6)
    assert_close(after[both], before[both], rtol=1e-6, atol=1e-6)
    assert_close(family.canonical(canonical), canonical)


def test_canonical_forms():
    sine = FAMILIES["sin"].canonical(torch.tensor([-2.0, 0.0, 3.0, 0.0]).double())
    assert_close(sine, torch.tensor([2.0, math.pi, 3.0, 0.0]).double())
    square = FAMILIES["x^2"].canonical(torch.tensor([-2.0, 4.0, 1.0, 0.0]).double())
    assert_close(square, torch.tensor([1.0, -2.0, 4.0, 0.0]).double())
    growth = FAMILIES["exp"].canonical(torch.tensor([1.0, math.log(2.0), 3.0, 0.0]).double())
    assert_close(growth, torch.tensor([1.0, 0.0, 6.0, 0.0]).double())
    far = torch.tensor([1.0, -900.0, 3.0, 0.0]).double()  # exp(-900) is no number
    assert_close(FAMILIES["exp"].canonical(far), far)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
@given(a=numbers, b=numbers)
def test_constrained_parameters_are_defined_on_the_range(name, a, b):
    family = FAMILIES[name]
    a = a if family.moves in ("scale", "both") else math.copysign(1.0, a)
    pair = torch.tensor([[a], [b]], dtype=torch.float64)
    new_a, new_b = constrain(*pair, family.rules[:, None])
    ends = torch.stack((new_b - new_a.abs(), new_b + new_a.abs()))
    slack = 1e-12 if 1.0 in (family.lowest + 1, family.highest) else 0.0
    assert bool(family.function.defined(ends[0] + slack, ends[1] - slack).all())
    again = constrain(new_a, new_b, family.rules[:, None])
    assert_close(torch.stack(again), torch.stack((new_a, new_b)))


def test_starts_are_finite():
    x = torch.linspace(-1, 1, 64, dtype=torch.float64)
    for family in FAMILIES.values():
        a, b = family.flat_starts
        assert bool(torch.isfinite(family.function.value(a[:, None] * x + b[:, None])).all())
