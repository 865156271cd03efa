"""An edge as SciPy and SymPy objects equals the edge."""

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PPoly
from torch.testing import assert_close

from kanlens.functions.catalog import BASES
from kanlens.model.spline_edge import EdgeFunction


def make(seed: int) -> tuple[EdgeFunction, np.ndarray]:
    draw = np.random.default_rng(seed)
    degree = int(draw.integers(1, 6))
    knots = np.cumsum(draw.uniform(0.1, 1.0, 5 + 2 * degree))
    edge = EdgeFunction(
        knots=knots - knots.mean(),
        coefficients=draw.normal(size=knots.size - degree - 1),
        degree=degree,
        base=str(draw.choice(sorted(BASES))),
        base_weight=float(draw.choice([0.0, 0.8])),
        extrapolation=str(draw.choice(["linear", "zero"])),
    )
    if draw.random() < 0.5:
        edge = edge.in_units(3.0, 2.5)
    low, high = edge.domain
    x = np.linspace(low - 2 * (high - low), high + 2 * (high - low), 401)
    return edge, np.sort(np.concatenate((x, edge.breakpoints)))


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_scipy_form_equals_the_edge(seed: int) -> None:
    edge, x = make(seed)
    form = edge.to_scipy()
    assert isinstance(form.spline, PPoly)
    assert_close(form(x), edge(x), rtol=1e-12, atol=1e-12)
    assert_close(form.spline(x) + form.base_weight * form.base(x), edge(x), rtol=1e-12, atol=1e-12)
    assert form(0.5).shape == ()
    plain = edge.scaled(1.0)
    area = form.spline.integrate(*plain.domain) + plain.integral(*plain.domain)
    zero = EdgeFunction(
        knots=edge.knots, coefficients=edge.coefficients, degree=edge.degree
    ).in_units(edge.input_shift, edge.input_scale)
    base = edge.integral(*edge.domain) - zero.integral(*zero.domain)
    assert float(area) == pytest.approx(2 * zero.integral(*zero.domain) + base, abs=1e-11)


@pytest.mark.parametrize("seed", range(12))
def test_sympy_form_lambdifies_to_the_edge(seed: int) -> None:
    edge, x = make(seed)
    symbol = sympy.Symbol("mass", real=True)
    expression = edge.to_sympy(symbol)
    assert expression.free_symbols <= {symbol}
    function = sympy.lambdify(symbol, expression, ["scipy", "numpy"])
    assert_close(function(x), edge(x), rtol=1e-12, atol=1e-12)


def test_sympy_form_is_exact_algebra() -> None:
    square = EdgeFunction(knots=range(-2, 4), coefficients=[0, 0, 2], degree=2)
    x = sympy.Symbol("x")
    expression = square.to_sympy()
    assert expression.free_symbols == {x}
    assert float(expression.subs(x, sympy.Rational(1, 2))) == 0.25
    assert float(sympy.integrate(expression, (x, 0, 1))) == pytest.approx(1 / 3, rel=1e-15)
    assert float(expression.diff(x).subs(x, 3)) == 2.0  # straight on


def test_the_zero_edge_is_zero() -> None:
    nothing = EdgeFunction(knots=range(-3, 5), coefficients=np.zeros(4), degree=3)
    assert nothing.to_sympy() == 0
    assert_close(nothing.to_scipy()(np.array([-9.0, 9.0])), np.zeros(2))


def test_comparison_has_teeth() -> None:
    edge, x = make(0)
    with pytest.raises(AssertionError):
        assert_close(edge.scaled(1.0 + 1e-9).to_scipy()(x), edge(x), rtol=1e-12, atol=1e-12)
