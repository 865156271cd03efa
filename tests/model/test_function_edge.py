import math
import re

import numpy as np
import pytest
import sympy

from kanlens.errors import MethodError
from kanlens.model._edge import Edge

WAVE = Edge.of("sin", a=2.0, b=0.3, c=-1.5, d=0.2, domain=(-2.0, 3.0))


def test_value_and_units():
    x = np.linspace(-2, 3, 7)
    np.testing.assert_allclose(WAVE(x), -1.5 * np.sin(2 * x + 0.3) + 0.2)
    moved = WAVE.in_units(10.0, 4.0, unit="m")
    np.testing.assert_allclose(moved(10 + 4 * x), WAVE(x))
    assert moved.domain == (2.0, 22.0)
    assert moved.unit == "m"
    np.testing.assert_allclose(WAVE.scaled(-2.0)(x), -2 * WAVE(x))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_sympy(order):
    edge, x = WAVE.in_units(1.0, 2.0), np.linspace(-1.0, 1.0, 9)
    symbol = sympy.Symbol("x")
    truth = sympy.lambdify(symbol, edge.to_sympy(symbol).diff(symbol, order))
    np.testing.assert_allclose(edge.derivative(x, order), truth(x), atol=1e-12)


def test_integral_across_a_pole_is_refused():
    text = (
        "Edge.integral: expected an interval on which '1/x' is defined, got -1.0 to 1.0. "
        "Choose an interval without the pole."
    )
    with pytest.raises(MethodError, match=f"^{re.escape(text)}$"):
        Edge.of("1/x").integral(-1.0, 1.0)


def test_extrema_and_bounds():
    places = WAVE.extrema()
    np.testing.assert_allclose(np.abs(np.sin(2 * places + 0.3)), 1.0)
    low, high = WAVE.bounds()
    assert (low, high) == pytest.approx((-1.3, 1.7))
    assert Edge.of("log").bounds(-1.0, 1.0) == (-math.inf, math.inf)
    assert Edge.of("log", c=0.0, d=3.0).bounds(-1.0, 1.0) == (3.0, 3.0)


def test_breakpoints_hold_the_kink():
    edge = Edge.of("relu", a=2.0, b=-1.0, domain=(0.0, 1.0))
    assert edge.breakpoints.tolist() == [0.0, 0.5, 1.0]
    assert WAVE.breakpoints.tolist() == [-2.0, 3.0]
