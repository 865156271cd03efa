"""Base activations against torch, SciPy's quadrature, SymPy and finite scans."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.integrate import quad
from torch import nn
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import BASES, FUNCTIONS, base_name, find_function

NAMES = sorted(BASES)
CURVED = ("gelu", "mish", "sigmoid", "silu", "softplus", "tanh")
X = np.linspace(-12.0, 12.0, 97)
LISTED = (
    "elu, gelu, hardswish, identity, leaky_relu, mish, relu, sigmoid, silu, sin, softplus, tanh, "
    "zero"
)


def by_autograd(name: str, x: np.ndarray, n: int) -> np.ndarray:
    points = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = BASES[name].value(points) + 0.0 * points**9
    for _ in range(n):
        (value,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    return value.detach().numpy()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", range(8))
def test_nth_equals_repeated_autograd(name: str, n: int) -> None:
    expected = by_autograd(name, X, n)
    assert_close(BASES[name].nth(X, n), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.slow  # many orders and points
@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("n", range(8))
def test_nth_keeps_relative_precision_in_the_left_tail(name: str, n: int) -> None:
    if name == "tanh" and n == 0:
        return
    symbol = sympy.Symbol("x")
    softplus = sympy.log(1 + sympy.exp(symbol))  # not the form that keeps from overflow
    plain = {"softplus": softplus, "mish": symbol * sympy.tanh(softplus)}
    exact = sympy.diff(plain.get(name, BASES[name].expression(symbol)), symbol, n)
    with mp.workdps(300):
        function = sympy.lambdify(symbol, exact, "mpmath")
        expected = np.array([float(function(mp.mpf(x))) for x in (-30.0, -18.0)])
    assert_close(BASES[name].nth(np.array([-30.0, -18.0]), n), expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_torch_code_agrees_with_float64_code(name: str) -> None:
    base, x = BASES[name], torch.tensor(X)
    assert_close(base.value(x).numpy(), base.nth(X, 0), rtol=1e-14, atol=1e-14)
    assert_close(base.derivative(x).numpy(), base.nth(X, 1), rtol=1e-13, atol=1e-14)
    assert_close(base.pair(x)[0].numpy(), base.nth(X, 0), rtol=1e-14, atol=1e-14)
    points = torch.linspace(-2.9, 3.2, 5, dtype=torch.float64, requires_grad=True)  # off kinks
    assert torch.autograd.gradcheck(lambda t: base.value(t) * t, points)
    assert torch.autograd.gradcheck(lambda t: base.derivative(t) * t, points)


@pytest.mark.parametrize("name", NAMES)
def test_antiderivative_equals_quadrature(name: str) -> None:
    base = BASES[name]
    for low, high in [(-3.0, 2.0), (-40.0, -1.0), (0.5, 30.0), (-1e-3, 1e-3)]:
        size = {"epsabs": 1e-12, "epsrel": 1e-13, "limit": 200}
        expected = quad(lambda t: float(base.nth(t, 0)), low, high, **size)[0]
        found = float(base.primitive(np.array(high)) - base.primitive(np.array(low)))
        assert abs(found - expected) <= 1e-12 * max(1.0, abs(expected))
    assert float(base.primitive(np.zeros(()))) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("silu", np.pi**2 / 12, 5e5 - np.pi**2 / 12),
        ("gelu", 0.25, 5e5 - 0.25),
        ("tanh", 1e3 - np.log(2), 1e3 - np.log(2)),
    ],
)
def test_antiderivative_is_stable_far_out(name: str, low: float, high: float) -> None:
    assert_close(BASES[name].primitive(np.array([-1e3, 1e3])), np.array([low, high]))
    assert np.isfinite(BASES[name].primitive(np.linspace(-1e3, 1e3, 4001))).all()


@given(st.sampled_from(NAMES), st.floats(-20, 20), st.floats(0, 10))
@settings(max_examples=50, deadline=None)
def test_extremes_contain_and_touch_a_dense_scan(name: str, low: float, width: float) -> None:
    base = BASES[name]
    lower, upper = map(float, base.extremes(*torch.tensor([low, low + width], dtype=torch.float64)))
    values = base.nth(np.linspace(low, low + width, 2001), 0)
    assert lower <= values.min() + 1e-15 and upper >= values.max() - 1e-15
    assert values.min() - lower <= 1e-4
    assert upper - values.max() <= (1e-4 if name == "sin" else 1e-15)


def test_extremes_are_vectorized_and_exact_at_the_minimum_of_silu() -> None:
    low = torch.tensor([-5.0, 0.0, -np.inf], dtype=torch.float64)
    lower, upper = BASES["silu"].extremes(low, torch.ones_like(low))
    top = BASES["silu"].nth(1.0, 0)
    assert_close(lower.numpy(), np.array([-0.2784645427610738, 0.0, -0.2784645427610738]))
    assert_close(upper.numpy(), np.full(3, float(top)))


@pytest.mark.parametrize("name", CURVED)
@pytest.mark.parametrize("n", range(8))
def test_zeros_of_derivative_are_all_the_sign_changes(name: str, n: int) -> None:
    base, grid = BASES[name], np.linspace(-35.01, 35.02, 50001)
    values = base.nth(grid, n)
    zeros = base.zeros_of_derivative(n)
    starts = grid[np.flatnonzero(values[:-1] * values[1:] < 0)]
    assert len(zeros) == len(starts)
    assert ((zeros - starts > 0) & (zeros - starts < 0.0015)).all()
    assert np.abs(base.nth(zeros, n)).max(initial=0.0) <= 1e-12 * np.abs(values).max()


def test_zeros_of_derivative_are_stored_and_none_for_lines() -> None:
    assert BASES["zero"].zeros_of_derivative(2).size == 0
    assert BASES["identity"].zeros_of_derivative(2).size == 0
    assert BASES["silu"].zeros_of_derivative(3) is BASES["silu"].zeros_of_derivative(3)
    with pytest.raises(ValueError, match="read-only"):
        BASES["silu"].zeros_of_derivative(1)[0] = 0.0


@pytest.mark.parametrize("name", NAMES)
def test_sympy_form_evaluates_to_the_same(name: str) -> None:
    symbol = sympy.Symbol("x")
    function = sympy.lambdify(symbol, BASES[name].expression(symbol), "scipy")
    found = function(X) + np.zeros(X.shape)
    assert_close(found, BASES[name].nth(X, 0), rtol=1e-12, atol=1e-15)


def test_infinite_points_give_the_limit() -> None:
    ends = np.array([-np.inf, np.inf])
    assert_close(BASES["silu"].nth(ends, 0), np.array([0.0, np.inf]))
    assert_close(BASES["gelu"].nth(ends, 1), np.array([0.0, 1.0]))
    assert_close(BASES["silu"].nth(ends, 4), np.zeros(2))
    assert np.isnan(BASES["silu"].nth(np.nan, 2))


FORMS = [(form, name) for name in NAMES for form in BASES[name].torch_forms]


@pytest.mark.parametrize(("form", "name"), FORMS, ids=lambda item: getattr(item, "__name__", item))
def test_base_activations_are_the_functions_of_torch(form: type | Callable, name: str) -> None:
    function = form() if isinstance(form, type) else form
    assert base_name(form) == base_name(function) == base_name(name) == base_name(BASES[name])
    if name == "gelu":  # whose form in torch cancels at negative numbers
        return
    x = torch.linspace(-30, 20, 4001, dtype=torch.float64)  # softplus of torch is straight from 20
    assert_close(BASES[name].value(x), function(x), rtol=1e-14, atol=1e-15)
    single = x.float()
    assert_close(BASES[name].value(single), function(single), rtol=1e-6, atol=1e-6)


def test_every_base_but_zero_has_a_form_of_torch() -> None:
    assert {name for _, name in FORMS} == set(BASES) - {"zero"}
    assert base_name(nn.ReLU(inplace=True)) == "relu"


@pytest.mark.parametrize(
    ("given_form", "shown"),
    [
        (nn.Hardtanh, "Hardtanh"),
        (nn.GELU(approximate="tanh"), "GELU(approximate='tanh')"),
        (nn.ELU(0.5), "ELU(alpha=0.5)"),
        (nn.Softplus(beta=2.0), "Softplus(beta=2.0, threshold=20.0)"),
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (None, "None"),
        ("planck", "'planck'"),
    ],
)
def test_base_activation_refuses(given_form: object, shown: str) -> None:
    text = (
        f"KANLinear: expected base_activation to be one of {LISTED}, got {shown}. "
        "Register it first, with kanlens.register_function."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        base_name(given_form, call="KANLinear")


TURNS = [  # of derivatives of functions in closed form, worked out by hand
    ("silu", 0, [-1.2784645427610738]),
    ("silu", 1, [-2.399357280515468, 2.399357280515468]),
    ("silu", 2, [-3.435840993535111, 0.0, 3.435840993535111]),
    ("gelu", 1, [-(2**0.5), 2**0.5]),
    ("mish", 0, [-1.1924312145154952]),
    ("mish", 2, [-3.2673378465204044, -0.08793443131491424, 2.1148425630208774]),
    ("softplus", 2, [0.0]),
    ("logistic", 2, [-math.log(2 + 3**0.5), math.log(2 + 3**0.5)]),
    ("tanh", 2, [-math.atanh(3**-0.5), math.atanh(3**-0.5)]),
    ("abs", 0, [0.0]),
    ("relu", 0, []),
    ("hardswish", 0, [-1.5]),
    ("x^4", 0, [0.0]),
    ("x^5", 0, []),
    ("x^5", 1, [0.0]),
    ("elu", 2, [0.0]),
    ("sin", 0, [math.pi / 2, 3 * math.pi / 2]),
    ("gaussian", 2, [-(1.5**0.5), 0.0, 1.5**0.5]),
    ("sech^2", 1, [-math.atanh(3**-0.5), math.atanh(3**-0.5)]),
    ("mexican hat", 0, [-(3**0.5), 0.0, 3**0.5]),
    ("relu(1-x^2)^2", 0, [0.0]),
    ("T5(tanh)", 0, [math.atanh(math.cos(k * math.pi / 5)) for k in (4, 3, 2, 1)]),
]


@pytest.mark.parametrize(("name", "order", "places"), TURNS)
def test_turns_follow_from_a_closed_form(name: str, order: int, places: list[float]) -> None:
    found = find_function(name).turning(order)
    assert_close(np.array(found, dtype=float), np.array(places), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["sin", "abs", "1/x", "gaussian"])
def test_derivatives_without_a_closed_form_are_those_of_sympy(name: str) -> None:
    u, symbol = np.array([0.3, 1.7]), sympy.Symbol("u", positive=True)
    for n in range(4):
        exact = sympy.lambdify(symbol, FUNCTIONS[name].expression(symbol).diff(symbol, n))
        assert_close(FUNCTIONS[name].nth(u, n), exact(u) + np.zeros(2), rtol=1e-12, atol=1e-12)


def test_messages() -> None:
    text = (
        f"base_activation: expected base_activation to be one of {LISTED}, "
        "got 'sliu'. Did you mean 'silu'?"
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        base_name("sliu")
