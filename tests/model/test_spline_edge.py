"""Edge against SciPy, units and messages; its SciPy and SymPy forms equal the edge."""

import re
from itertools import pairwise

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.interpolate import BSpline, PPoly
from torch.testing import assert_close

import kanlens
from kanlens.errors import InvalidValueError, KanlensError, ShapeError
from kanlens.functions._catalog import BASES
from kanlens.functions._sums import FunctionSum
from kanlens.model._edge import Edge

DEGREES = range(1, 6)


def based(base: str, weight: float) -> FunctionSum:
    return FunctionSum.of((BASES[base].name, 1.0, 0.0, weight))


def make(seed: int, degree: int, **options: object) -> Edge:
    draw = np.random.default_rng(seed)
    knots = np.cumsum(draw.uniform(0.1, 1.0, 7 + 2 * degree))
    coefficients = draw.normal(size=knots.size - degree - 1)
    return Edge(knots=knots - knots.mean(), coefficients=coefficients, degree=degree, **options)


def oracle(edge: Edge) -> BSpline:
    return BSpline(edge.knots, edge.coefficients, edge.degree)


def inside(edge: Edge, count: int = 501) -> np.ndarray:
    low, high = edge.domain
    return np.linspace(low, high, count)


@given(st.integers(0, 10**6), st.sampled_from(list(DEGREES)))
@settings(max_examples=25, deadline=None)
def test_values_and_derivatives_equal_scipy(seed: int, degree: int) -> None:
    edge = make(seed, degree)
    x = inside(edge)
    assert_close(edge(x), oracle(edge)(x), rtol=1e-12, atol=1e-12)
    for order in range(1, degree):
        expected = oracle(edge).derivative(order)(x)
        scale = np.abs(expected).max()
        assert_close(edge.derivative(x, order), expected, rtol=0, atol=1e-12 * scale)


def test_the_old_name_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match=r"kanlens\.EdgeFunction is now kanlens\.Edge"):
        assert kanlens.EdgeFunction is Edge


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("base", ["silu", "tanh"])
def test_base_and_chain_factor(degree: int, base: str) -> None:
    edge = make(3, degree, functions=based(base, 0.7), input_shift=2.0, input_scale=0.5)
    x = inside(edge)
    u = (x - 2.0) / 0.5
    assert_close(edge(x), oracle(edge)(u) + 0.7 * BASES[base].nth(u, 0), rtol=1e-12, atol=1e-12)
    slope = (oracle(edge).derivative()(u) + 0.7 * BASES[base].nth(u, 1)) / 0.5
    mid = slice(1, -1)
    assert_close(edge.derivative(x)[mid], slope[mid], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("degree", DEGREES)
def test_linear_extrapolation_continues_value_and_slope(degree: int) -> None:
    edge = make(5, degree, functions=based("silu", 1.0))
    low, high = edge.domain
    silu = BASES["silu"]
    for end, x in ((low, low - np.array([0.1, 3.0])), (high, high + np.array([0.1, 3.0]))):
        near = np.nextafter(end, (low + high) / 2)
        value, slope = oracle(edge)(near), oracle(edge).derivative()(near)
        assert_close(edge(x), value + slope * (x - end) + silu.nth(x, 0), rtol=1e-11, atol=1e-11)
        assert_close(edge.derivative(x), slope + silu.nth(x, 1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("degree", DEGREES)
def test_zero_extrapolation_runs_out_on_the_outer_knots(degree: int) -> None:
    edge = make(6, degree, extrapolation="zero")
    x = np.linspace(edge.knots[0] - 1.0, edge.knots[-1] + 1.0, 701)
    terms = [
        c * np.nan_to_num(BSpline.basis_element(edge.knots[i : i + degree + 2], False)(x))
        for i, c in enumerate(edge.coefficients)
    ]
    assert_close(edge(x), np.sum(terms, axis=0), rtol=1e-12, atol=1e-12)
    assert_close(edge.breakpoints, +edge.knots)


def test_derivative_at_a_kink_is_the_right_hand_one_but_inside_at_the_upper_end() -> None:
    tent = Edge(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
    assert_close(tent.derivative(np.array([0.0, 1.0, 2.0])), np.array([1.0, -1.0, -1.0]))
    square = Edge(knots=range(-2, 4), coefficients=[0, 0, 2], degree=2)  # x**2 on [0, 1]
    assert_close(square.derivative(np.array([0.0, 1.0, 1.1]), 2), np.array([2.0, 2.0, 0.0]))
    moved = square.in_units(0.3, 0.7)
    assert_close(moved.derivative(moved.domain[1], 2), np.array(2.0 / 0.49))
    assert_close(square.derivative(np.array([0.5]), 9), np.zeros(1))


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
@pytest.mark.parametrize("base", ["silu", "tanh", "gelu", "identity", "zero"])
def test_integral_equals_quadrature(degree: int, extrapolation: str, base: str) -> None:
    edge = make(8, degree, functions=based(base, -1.3), extrapolation=extrapolation)
    edge = edge.in_units(1.0, 2.0)
    low, high = edge.domain
    cuts = np.sort(np.concatenate(([low - 9.0], edge.breakpoints, [high + 9.0])))
    parts = [quad(edge, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in pairwise(cuts)]
    assert edge.integral(cuts[0], cuts[-1]) == pytest.approx(sum(parts), rel=1e-12, abs=1e-12)
    assert edge.integral(high, low) == -edge.integral(low, high)
    assert edge.integral(low, low) == 0.0


@given(st.integers(0, 10**6), st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_units_change_the_axis_and_nothing_else(seed: int, shift: float, scale: float) -> None:
    edge = make(seed, 3, functions=based("silu", 0.5), name="layer 0: x1 -> h2", input_shift=0.2)
    moved = edge.in_units(shift, scale, unit="K")
    x = np.linspace(-4.0, 4.0, 101)
    factor = 1e-13 * (1.0 + abs(shift) / scale)
    assert_close(moved(shift + scale * x), edge(x), rtol=0, atol=50 * factor)
    assert (moved.name, moved.unit, edge.unit) == ("layer 0: x1 -> h2", "K", "")
    assert moved.integral(shift - scale, shift + scale) == pytest.approx(
        scale * edge.integral(-1.0, 1.0), rel=1e-9, abs=1e3 * scale * factor
    )


def test_shapes_scalars_and_nan() -> None:
    edge = make(2, 3, functions=based("silu", 1.0))
    assert edge(0.3).shape == () and edge.derivative(0.3).shape == ()
    assert edge(np.zeros((2, 3))).shape == (2, 3)
    assert isinstance(edge(0.3), np.ndarray)
    assert edge(np.float32(0.5)).dtype == np.float64
    for plain in (edge, edge.scaled(0.0)):
        assert np.isnan(plain(np.array([np.nan]))).all()
        assert np.isnan(plain.derivative(np.array([np.nan]))).all()


def test_the_edge_keeps_its_own_read_only_copy() -> None:
    coefficients = np.zeros(4)
    edge = Edge(knots=range(-3, 5), coefficients=coefficients, degree=3)
    coefficients[:] = 7.0
    assert_close(edge(np.array([0.5])), np.zeros(1))
    with pytest.raises(ValueError, match="read-only"):
        edge.coefficients[0] = 1.0
    assert "knots" not in repr(edge)


GOOD = {"knots": range(-1, 4), "coefficients": [0, 1, 0], "degree": 1}


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"degree": 6}, InvalidValueError, "degree of at most 5, got 6. Pass 3 for cubic splines."),
        (
            {"degree": 0},
            InvalidValueError,
            "degree to be a whole number of at least 1, got 0. Pass a whole number such as 1.",
        ),
        (
            {"degree": 2},
            ShapeError,
            "knots of shape (knot,) with at least 6 of them, got shape (5,). "
            "Add 2 knots beyond each end of the grid.",
        ),
        (
            {"coefficients": [0, 1]},
            ShapeError,
            "coefficients of shape (3,), got (2,). "
            "Pass one per B-spline: the number of knots minus degree minus 1.",
        ),
        (
            {"knots": [0, 1, 1, 2, 3]},
            InvalidValueError,
            "strictly increasing finite knots, got [0.0, 1.0, 1.0, 2.0, 3.0]. "
            "Sort the knots and drop repeats.",
        ),
        (
            {"coefficients": [0, np.nan, 0]},
            InvalidValueError,
            "finite coefficients, got nan. Correct them, or the weights of the layer.",
        ),
        (
            {"input_scale": 0.0},
            InvalidValueError,
            "input_scale to be a positive number, got 0.0. Pass a number above 0.",
        ),
        (
            {"functions": based("silu", np.inf)},
            InvalidValueError,
            "a finite weight, got inf. Pass a finite number.",
        ),
        (
            {"extrapolation": "flat"},
            InvalidValueError,
            "extrapolation to be one of linear, zero, got 'flat'. Choose one of: linear, zero.",
        ),
    ],
)
def test_messages(changes: dict[str, object], error: type[KanlensError], text: str) -> None:
    with pytest.raises(error, match=f"^Edge: expected {re.escape(text)}$"):
        Edge(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda edge: edge.derivative(0.0, 0),
            "derivative: expected order to be a whole number of at least 1, got 0. Pass "
            "a whole number such as 1.",
        ),
        (
            lambda edge: edge.in_units(0.0, -1.0),
            "in_units: expected scale to be a positive number, got -1.0. Pass a number above 0.",
        ),
    ],
)
def test_method_messages(call, text: str) -> None:
    with pytest.raises(InvalidValueError, match=f"^{re.escape(f'Edge.{text}')}$"):
        call(Edge(**GOOD))


# --- as SciPy and SymPy objects -----------------------------------------------------------------


def made(seed: int) -> tuple[Edge, np.ndarray]:
    draw = np.random.default_rng(seed)
    degree = int(draw.integers(1, 6))
    knots = np.cumsum(draw.uniform(0.1, 1.0, 5 + 2 * degree))
    edge = Edge(
        knots=knots - knots.mean(),
        coefficients=draw.normal(size=knots.size - degree - 1),
        degree=degree,
        functions=based(str(draw.choice(sorted(BASES))), float(draw.choice([0.0, 0.8]))),
        extrapolation=str(draw.choice(["linear", "zero"])),
    )
    if draw.random() < 0.5:
        edge = edge.in_units(3.0, 2.5)
    low, high = edge.domain
    x = np.linspace(low - 2 * (high - low), high + 2 * (high - low), 401)
    return edge, np.sort(np.concatenate((x, edge.breakpoints)))


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_scipy_form_equals_the_edge(seed: int) -> None:
    edge, x = made(seed)
    form = edge.to_scipy()
    assert isinstance(form.spline, PPoly)
    assert_close(form(x), edge(x), rtol=1e-12, atol=1e-12)
    assert form(0.5).shape == ()
    plain = edge.scaled(1.0)
    area = form.spline.integrate(*plain.domain) + plain.integral(*plain.domain)
    zero = Edge(knots=edge.knots, coefficients=edge.coefficients, degree=edge.degree).in_units(
        edge.input_shift, edge.input_scale
    )
    base = edge.integral(*edge.domain) - zero.integral(*zero.domain)
    assert float(area) == pytest.approx(2 * zero.integral(*zero.domain) + base, abs=1e-11)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow  # many cases
def test_sympy_form_lambdifies_to_the_edge(seed: int) -> None:
    edge, x = made(seed)
    symbol = sympy.Symbol("mass", real=True)
    expression = edge.to_sympy(symbol)
    assert expression.free_symbols <= {symbol}
    function = sympy.lambdify(symbol, expression, ["scipy", "numpy"])
    assert_close(function(x), edge(x), rtol=1e-12, atol=1e-12)


def test_sympy_form_is_exact_algebra() -> None:
    square = Edge(knots=range(-2, 4), coefficients=[0, 0, 2], degree=2)
    x = sympy.Symbol("x")
    expression = square.to_sympy()
    assert expression.free_symbols == {x}
    assert float(expression.subs(x, sympy.Rational(1, 2))) == 0.25
    assert float(sympy.integrate(expression, (x, 0, 1))) == pytest.approx(1 / 3, rel=1e-15)
    assert float(expression.diff(x).subs(x, 3)) == 2.0  # straight on


def test_the_zero_edge_is_zero() -> None:
    nothing = Edge(knots=range(-3, 5), coefficients=np.zeros(4), degree=3)
    assert nothing.to_sympy() == 0
    assert_close(nothing.to_scipy()(np.array([-9.0, 9.0])), np.zeros(2))


def test_comparison_of_forms_has_teeth() -> None:
    edge, x = made(0)
    with pytest.raises(AssertionError):
        assert_close(edge.scaled(1.0 + 1e-9).to_scipy()(x), edge(x), rtol=1e-12, atol=1e-12)
