import numpy as np
import pytest
import sympy

from kanlens.core.function_edge import FunctionEdge
from kanlens.core.functions import FUNCTIONS
from kanlens.symbolic.wording import edge_text, formula_text, latex, latex_name

ARGUMENTS = ((1.0, 0.0), (0.7, 0.1), (-1.0, 0.9), (-0.25, 0.5), (1.0, 0.3))
OUTER = ((1.0, 0.0), (-1.0, 0.0), (2.5, -0.75), (-0.5, 1.0), (1e-7, 2e5))
X = np.linspace(0.1, 0.6, 7)


def value_of(text):
    """Evaluate a line of text by sympy, at X."""
    x = sympy.Symbol("x", real=True)
    found = sympy.lambdify(x, sympy.sympify(text, locals={"x": x}), "numpy")(X)
    return np.broadcast_to(np.asarray(found, dtype=float), X.shape)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_text_means_the_edge(name):
    for a, b in ARGUMENTS:
        for c, d in OUTER:
            edge = FunctionEdge(function=name, a=a, b=b, c=c, d=d)
            text = edge_text(edge, "x", digits=17)
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(
                    value_of(text), edge(X), rtol=1e-9, atol=1e-12, equal_nan=True
                )


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"constant"}))
def test_another_edge_has_another_text(name):
    """The check above has teeth."""
    edge = FunctionEdge(function=name, a=0.7, b=0.1, c=2.0)
    other = FunctionEdge(function=name, a=0.7, b=0.1, c=2.1)
    assert edge_text(edge, "x") != edge_text(other, "x")


@pytest.mark.parametrize(
    ("edge", "text"),
    [
        (FunctionEdge(function="x", a=2.0, b=1.0, c=3.0, d=-3.0), "6*x"),
        (FunctionEdge(function="constant", d=0.25), "0.25"),
        (FunctionEdge(function="sin", c=-1.0), "-sin(x)"),
        (FunctionEdge(function="1/x", a=1.0, b=1.4, c=3.0), "3/(x + 1.4)"),
        (FunctionEdge(function="x^3-x", c=2.0), "2*(x**3 - x)"),
        (FunctionEdge(function="gaussian", a=2.0), "exp(-(2*x)**2)"),
        (FunctionEdge(function="exp", a=-0.123456, d=1e-9), "exp(-0.1235*x) + 1e-09"),
    ],
)
def test_forms(edge, text):
    assert edge_text(edge, "x") == text


def test_units_and_names_are_those_of_the_data():
    edge = FunctionEdge(function="log").in_units(-2.0, 4.0)
    assert edge_text(edge, "blood sugar") == "log(0.25*blood sugar + 0.5)"
    assert edge_text(FunctionEdge(function="x^2"), "blood sugar") == "(blood sugar)**2"


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


def test_names_with_operators_stand_in_brackets():
    minus, red, x = map(sympy.Symbol, ("a-b", "colour=red", "x_1"))
    assert formula_text(2 * minus + red / 3 + x**2) == "2*(a-b) + (colour=red)/3 + x_1**2"
    assert formula_text(2 * sympy.Symbol("two\nlines")) == "2*(two lines)"
    assert formula_text(sympy.Symbol("größe") * sympy.Symbol("f(t)")) == "f(t)*größe"
