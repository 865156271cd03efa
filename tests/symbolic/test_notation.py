import re

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from kanlens.errors import DataError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._edge import Edge
from kanlens.symbolic._composition import evaluator
from kanlens.symbolic._notation import (
    edge_text,
    formula_text,
    latex,
    latex_name,
    legend,
    parse_formula,
    written,
)

ARGUMENTS = ((1.0, 0.0), (0.7, 0.1), (-1.0, 0.9), (-0.25, 0.5), (1.0, 0.3))
OUTER = ((1.0, 0.0), (-1.0, 0.0), (2.5, -0.75), (-0.5, 1.0), (1e-7, 2e5))
X = np.linspace(0.1, 0.6, 7)


def value_of(text):
    """Evaluate a line of text by sympy, at X."""
    x = sympy.Symbol("x", real=True)
    found = sympy.lambdify(x, sympy.sympify(text, locals={"x": x}), ["scipy", "numpy"])(X)
    return np.broadcast_to(np.asarray(found, dtype=float), X.shape)


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_text_means_the_edge(name):
    """All numbers of either kind, in pairs that differ from one function to the next."""
    turn = sorted(FUNCTIONS).index(name)
    for place, (a, b) in enumerate(ARGUMENTS):
        c, d = OUTER[(place + turn) % len(OUTER)]
        edge = Edge.of(name, a=a, b=b, c=c, d=d)
        text = edge_text(edge, "x", digits=17)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                value_of(text), edge(X), rtol=1e-9, atol=1e-12, equal_nan=True
            )


@pytest.mark.parametrize(
    ("edge", "text"),
    [
        (Edge.of("x", a=2.0, b=1.0, c=3.0, d=-3.0), "6*x"),
        (Edge.of("constant", d=0.25), "0.25"),
        (Edge.of("sin", c=-1.0), "-sin(x)"),
        (Edge.of("1/x", a=1.0, b=1.4, c=3.0), "3/(x + 1.4)"),
        (Edge.of("x^3-x", c=2.0), "2*(x**3 - x)"),
        (Edge.of("gaussian", a=2.0), "exp(-(2*x)**2)"),
        (Edge.of("exp", a=-0.123456, d=1e-9), "exp(-0.1235*x) + 1e-09"),
    ],
)
def test_forms(edge, text):
    assert edge_text(edge, "x") == text


def test_units_and_names_are_those_of_the_data():
    edge = Edge.of("log").in_units(-2.0, 4.0)
    assert edge_text(edge, "blood sugar") == "log(0.25*`blood sugar` + 0.5)"
    assert edge_text(Edge.of("x^2"), "blood sugar") == "`blood sugar`**2"
    assert edge_text(Edge.of("sin", a=2.0), "a_u_b") == "sin(2*a_u_b)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", "x"),
        ("x12", "x_{12}"),
        ("omega_0", r"\omega_{0}"),
        ("rho_air", r"\rho_{\mathrm{air}}"),
        ("pi", r"\mathrm{pi}"),  # beside the number
        ("vertical", r"\mathrm{vertical}"),  # sympy makes a calligraphic verti of it
        ("x__2", r"\mathrm{x\_\_2}"),  # and a power of this
        ("speed_of_sound", r"\mathrm{speed\_of\_sound}"),
        ("colour=red", r"\mathrm{colour=red}"),
        ("a-b & 5%", r"\mathrm{a\mbox{-}b\ \&\ 5\%}"),
        ("~ $x^{2}$ #1", r"\mathrm{\sim{}\ \$x\wedge{}\{2\}\$\ \#1}"),
        ("\\alpha", r"\mathrm{\backslash{}alpha}"),
        ("two\nlines", r"\mathrm{two\ lines}"),
        (" ", r"\mathrm{\ }"),
        ("größe", r"\mathrm{größe}"),
    ],
)
def test_names_in_latex(name, text):
    assert latex_name(name) == text


def test_words_stand_apart_in_latex():
    force, arm, x1 = sympy.symbols("force arm x1")
    assert latex(2 * force * arm) == r"2 \, \mathrm{arm} \, \mathrm{force}"
    assert latex(2 * x1 * sympy.pi) == r"2 \pi x_{1}"


def test_names_that_would_be_read_as_something_else_stand_in_backticks():
    minus, red, x = map(sympy.Symbol, ("a-b", "colour=red", "x_1"))
    assert formula_text(2 * minus + red / 3 + x**2) == "2*`a-b` + `colour=red`/3 + x_1**2"
    assert formula_text(2 * sympy.Symbol("two\nlines")) == r"2*`two\nlines`"
    assert formula_text(sympy.Symbol("größe") * sympy.Symbol("f(t)")) == "`f(t)`*größe"
    physics = [sympy.Symbol(name) for name in ("E", "pi", "I", "e")]
    formula = sympy.exp(physics[0] ** 2 + sympy.sin(sympy.pi * physics[2]))
    assert formula_text(formula) == "exp(`E`**2 + sin(pi*`I`))"
    assert formula_text(sympy.pi * physics[1] + physics[3]) == "`e` + pi*`pi`"
    assert legend(("E", "x", "I")) == "Names in backticks are columns: `E`, `I`."
    assert legend(("energy", "x", "i")) == ""


ODD = """
    pi E I e N O S Q C lambda x-1 sin x1 1st λ µ größe ' ` a`b [0] (x) _ __ _0 max id beta zoo
    None True f_0_0_1 f x_1 ﬁ ª A· ² 💧 test Symbol __import__ 0x1 1e5 a.b a,b # {x} %s $ *
    x**2 if
""".split()  # noqa: SIM905
ODD += ["a b", '"', "\\", "\\`", " ", "", "\n", "\t", "\\n", "\u00a0", "\x7f"]
NAMES = st.one_of(st.sampled_from(ODD), st.text(max_size=6))


def formula_of(names):
    """Return a formula in which names stand beside numbers and functions called alike."""
    a, b, c = map(sympy.Symbol, names)
    inner = sympy.Rational(2, 3) * a**2 + sympy.sin(sympy.pi * b) - sympy.Float(0.1) * 3 * c
    return sympy.exp(inner) + sympy.E * c / (1 + b**2) - sympy.sqrt(1 + sympy.Abs(a * c)) * b


@pytest.mark.slow  # searches formulas
@given(st.lists(NAMES, min_size=3, max_size=3, unique=True))
@settings(max_examples=15, deadline=None)
def test_text_is_read_back_as_the_same_function(names):
    formula = formula_of(names)
    text = formula_text(formula, exact=True)
    back = parse_formula(text)
    assert back.free_symbols == formula.free_symbols
    order = [sympy.Symbol(name) for name in names]
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (20, 3))
    values = [evaluator((each,), order)(x) for each in (formula, back)]
    np.testing.assert_allclose(*values, rtol=1e-14)
    assert text.isprintable()
    if "`" not in text:
        assert sympy.sympify(text).free_symbols == formula.free_symbols


@pytest.mark.parametrize("name", ODD)
def test_sympy_reads_a_name_without_backticks_as_itself(name):
    text = written(name)
    assert text == name if text[0] != "`" else text[-1] == "`"
    if text[0] != "`":
        assert sympy.sympify(text) == sympy.Symbol(name)
    assert parse_formula(f"2*{text}") == 2 * sympy.Symbol(name)
    assert latex_name(name).strip("$")


def test_different_names_differ_in_latex():
    for names in (("x1", "x_1"), ("a b", "a  b"), ("pi", "Pi"), ("two\nlines", "two lines")):
        a, b = map(sympy.Symbol, names)
        assert latex(a + 2 * b) != latex(b + 2 * a)
    assert latex(sympy.Symbol("x_1") + sympy.Symbol("x1")) == r"\mathrm{x1} + \mathrm{x\_1}"
    assert latex(sympy.exp(sympy.Symbol("e"))) == r"e^{\mathrm{e}}"


def test_numbers_are_written_to_the_last_digit():
    x, value = sympy.Symbol("x"), 0.1 + 0.2
    assert formula_text(value * x, exact=True) == "0.30000000000000004*x"
    assert float(parse_formula("0.30000000000000004*x").coeff(x)) == value
    assert formula_text(sympy.Float(2 * value, 4) * x) == "0.6*x"


def test_what_is_no_formula_is_refused():
    expected = "parse_formula: expected a formula, got '2*+`a'. Pass the result of formula_text."
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        parse_formula("2*+`a")
