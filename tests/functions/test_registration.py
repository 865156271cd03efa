"""Functions of one's own: refused unless they fit themselves, and then as good as built in."""

import math
import re

import numpy as np
import pytest
import sympy
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.functions._registration import register_function
from kanlens.model._edge import Edge
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.symbolic._library import library


def planck(**changes):
    options = {
        "name": "planck",
        "torch": lambda u: u**3 / torch.expm1(u),
        "sympy": lambda u: u**3 / (sympy.exp(u) - 1),
        "domain": (0.0, math.inf),
    }
    return register_function(**{**options, **changes})


def sinc(**changes):
    options = {
        "name": "sin(x)/x",
        "torch": lambda u: torch.sinc(u / math.pi),
        "sympy": sympy.sinc,
    }
    return register_function(**{**options, **changes})


def test_a_function_is_there_inside_the_block_only():
    with planck() as function:
        assert FUNCTIONS["planck"] is function
        assert [family.name for family in library(["planck"])] == ["x", "planck"]
    assert "planck" not in FUNCTIONS
    assert "planck" not in {family.name for family in library()}
    with pytest.raises(RuntimeError, match="broken"), planck():
        raise RuntimeError("broken")
    assert "planck" not in FUNCTIONS
    old = planck()
    old.remove()
    with planck():
        old.remove()  # a newer function stays
        assert "planck" in FUNCTIONS


def test_a_base_activation_may_be_registered_for_searches():
    before = FUNCTIONS["silu"]
    with planck(name="silu") as mine:
        assert FUNCTIONS["silu"] is mine
        assert "silu" in {family.name for family in library()}
    assert FUNCTIONS["silu"] is before
    assert "silu" not in {family.name for family in library()}


def test_derivative_is_exact_and_differentiable():
    with planck() as g:
        u = torch.linspace(0.5, 4.0, 9, dtype=torch.float64, requires_grad=True)
        x = sympy.Symbol("x")
        for order in (1, 2, 3):
            exact = sympy.lambdify(x, g.expression(x).diff(x, order))(u.detach().numpy())
            value = Edge.of("planck").derivative(u.detach().numpy(), order)
            np.testing.assert_allclose(value, exact, rtol=1e-10)
        assert torch.autograd.gradcheck(g.derivative, u)
        with torch.no_grad():
            assert not g.derivative(u.detach()).requires_grad
        with torch.inference_mode():
            assert_close(g.derivative(u.detach() + 0), g.derivative(u.detach()))
            assert g.derivative(u.detach() + 0).abs().min() > 0


def test_a_layer_trains_through_it():
    with planck():
        layer = KANLinear(1, 1, functions=[["planck"]]).double()
        with torch.no_grad():
            layer.affine[0, 0] = torch.tensor([1.3, 0.4, 2.0, 0.1])
        x = torch.linspace(0.1, 2.0, 7, dtype=torch.float64)[:, None].requires_grad_()
        assert torch.autograd.gradcheck(layer, x)
        (slope,) = torch.autograd.grad(layer(x).sum(), x)
        assert_close(layer.edge_derivatives(x)[:, 0], slope)


def test_a_dead_edge_does_no_harm_where_a_half_is_outside_the_domain():
    def arccosh(u):
        return sympy.acosh(u)

    with register_function("arccosh", torch.acosh, arccosh, domain=(1.0, math.inf)):
        layer = KANLinear(1, 1, functions=[["arccosh"]])
        layer.mask.zero_()
        assert_close(layer.edge_values(torch.zeros(2, 1)), torch.zeros(2, 1, 1))


def mish(u):
    return u * torch.tanh(torch.nn.functional.softplus(u))


def sympy_mish(u):
    return u * sympy.tanh(sympy.log(1 + sympy.exp(u)))


PROPERTIES = [  # functions with symmetry and degree
    ("sin(x)/x", lambda u: torch.sinc(u / math.pi), sympy.sinc, None, ("even", None)),
    ("x^2.5", lambda u: u**2.5, lambda u: u**2.5, (0, math.inf), (None, 2.5)),
    ("x^7", lambda u: u**7, lambda u: u**7, None, ("odd", 7.0)),
    # of degree 3 as well, but that says nothing about the sign of s
    ("cube", lambda u: u.abs() ** 3, lambda u: sympy.Abs(u) ** 3, None, ("even", None)),
    ("mine", mish, sympy_mish, None, (None, None)),
    # steeper on the left
    ("hinge", lambda u: torch.minimum(u, 2 * u), lambda u: sympy.Min(u, 2 * u), None, (None, 1.0)),
    ("erf", torch.erf, sympy.erf, None, ("odd", None)),
]


@pytest.mark.parametrize(("name", "value", "form", "domain", "properties"), PROPERTIES)
def test_symmetry_and_degree_are_seen(name, value, form, domain, properties):
    with register_function(name, value, form, domain=domain) as g:
        assert (g.symmetry, g.degree) == properties
        assert library([name])[1].moves == ("both" if g.degree is None else "shift")


def test_bounds_are_infinite_unless_the_turning_points_are_given():
    low, high = torch.tensor([-1.0, 3.0]).double()
    with register_function("mine", mish, sympy_mish) as g:
        assert g.extremes(low, high)[1] == math.inf
        (turn,) = g.turning()
        assert float(g.value(torch.tensor(turn).double())) == pytest.approx(-0.30884, abs=1e-5)
    with register_function("mine", mish, sympy_mish, turning=g.turning()) as g:
        assert g.extremes(low, high)[1] == g.value(high)
    turns = {"turning": (math.pi / 2, 3 * math.pi / 2), "period": 2 * math.pi}
    with register_function(
        "sin^3", lambda u: torch.sin(u) ** 3, lambda u: sympy.sin(u) ** 3, **turns
    ) as g:
        assert_close(g.extremes(low + 8.0, low + 9.0)[1], torch.tensor(1.0).double())


def test_a_network_with_it_is_saved_and_loaded(tmp_path):
    path = tmp_path / "model.safetensors"
    with planck():
        layer = KANLinear(1, 1, functions=[["planck"]])
        with torch.no_grad():
            layer.affine[0, 0] = torch.tensor([1.0, 1.5, 2.0, 0.0])
        model = KAN.from_layers([layer], KAN([1, 1]).schema)
        kanlens.save(model, path)
        x = torch.linspace(-1.0, 1.0, 9)[:, None]
        assert_close(kanlens.load(path)(x), model(x))
    text = "load: expected registered functions, got 'planck'. "
    text += "Register it first, with kanlens.register_function."
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        kanlens.load(path)


def suggested(model):
    frame = kanlens.suggest(model, torch.linspace(-1.0, 1.0, 400)[:, None])
    return frame[frame["rank"] == 1]


def test_it_is_suggested_and_only_where_it_is_true():
    from tests.symbolic.made import spline_layer

    def truth(x):
        return 2 * (2 * x + 3.0) ** 3 / torch.expm1(2 * x + 3.0)

    layer = spline_layer([[truth], [torch.exp]], [(-1.0, 1.0)])
    model = KAN.from_layers([layer], KAN([1, 2]).schema)
    assert "planck" not in set(suggested(model)["function"])
    with planck():
        assert suggested(model)["function"].tolist() == ["planck", "exp"]


@pytest.mark.slow  # takes a while
def test_formula_holds_and_simplifies_it():
    from tests.symbolic.made import spline_layer

    x = torch.linspace(-1.0, 1.0, 400, dtype=torch.float64)[:, None]

    def truth(t):
        return torch.sinc(4 * t / math.pi)

    layer = spline_layer([[truth]], [(-1.0, 1.0)], grid_size=40)
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    with sinc():
        result = kanlens.symbolize(model, x, truth(x))
        symbol = sympy.Symbol("x1")
        assert sympy.simplify(result.sympy() - sympy.sinc(4 * symbol)) == 0
        np.testing.assert_allclose(result.predict(x), truth(x), atol=1e-9)


KNOWN = ("sin", "cos", "spline", "constant")


@pytest.mark.parametrize("name", KNOWN)
def test_a_taken_name_is_refused(name):
    text = f"register_function: expected a name that is free, got '{name}', which is taken. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}Choose another.$"):
        planck(name=name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": " "}, "name to be printable text, got ' '"),
        ({"name": "a\nb"}, "name to be printable text"),
        ({"complexity": 0}, "complexity to be a whole number of at least 1"),
        ({"domain": (1.0, 1.0)}, "domain to be two numbers, the lower first, got (1.0, 1.0)"),
        ({"domain": (1.0,)}, "domain to be two numbers"),
        ({"domain": None}, "torch to be finite in the domain, got nan at 0. Pass domain"),
        ({"torch": math.exp}, "torch to take a Tensor, got ValueError from it"),
        ({"torch": lambda u: u.double()}, "torch to return a Tensor of shape (101,) and torch.f"),
        ({"torch": lambda u: u.sum()}, "torch to return a Tensor of shape (101,)"),
        ({"torch": lambda u: 1.0}, "got float. Keep the shape and dtype of its input"),
        ({"torch": lambda u: u**3.001 / torch.expm1(u)}, "torch and sympy to be the same func"),
        ({"sympy": lambda u: "no expression at all"}, "SympifyError from it: "),
        ({"sympy": lambda u: sympy.Symbol("v")}, "sympy to return an expression of u"),
        ({"sympy": sympy.DiracDelta}, "an expression of u that NumPy or SciPy can evaluate"),
        ({"derivative": torch.exp}, "derivative to be that of torch"),
        ({"torch": lambda u: 2 * u, "sympy": lambda u: 2 * u}, "other than a straight line, got"),
        ({"torch": torch.ones_like, "sympy": lambda u: 1}, "other than a straight line, got"),
        (
            {"torch": lambda u: torch.from_numpy(np.exp(u.detach().numpy())), "sympy": sympy.exp},
            "torch to be differentiable by autograd, got slope 0, not 1.0",
        ),
        ({"turning": ()}, "all turning points, got none of them between 2."),
        ({"turning": (0.5,)}, "all turning points"),
        ({"turning": 2.8}, "turning to be finite numbers, got 2.8. Pass () for none."),
        ({"turning": ("a",)}, "turning to be finite numbers, got ('a',)"),
        ({"turning": (2.8214393721220787, math.nan)}, "turning to be finite numbers"),
        (
            {"sympy": lambda u: sympy.Symbol("u") ** 3 / (sympy.exp(u) - 1)},
            "an expression of u that NumPy or SciPy can evaluate, got TypeError",
        ),
        (
            {"sympy": lambda u: u**3 / (sympy.exp(u) - 1) + sympy.I / 100},
            "torch and sympy to be the same function, got nan and ",
        ),
        ({"period": 2.0}, "period to be a positive number, with turning points"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_registered(changes, expected):
    before = dict(FUNCTIONS)
    with pytest.raises(InvalidValueError) as caught, planck(**changes):
        pass
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == FUNCTIONS


def test_an_interval_is_kept():
    def dome(u):
        return torch.sqrt(u * (3 - u))

    with register_function(
        "dome", dome, lambda u: sympy.sqrt(u * (3 - u)), domain=(0.0, 3.0), turning=(1.5,)
    ) as g:
        low = torch.tensor([0.5, -0.5, 1.0], dtype=torch.float64)
        high = torch.tensor([2.0, 2.0, 4.0], dtype=torch.float64)
        assert g.defined(low, high).tolist() == [True, False, False]
        assert g.extremes(low, high)[1].tolist() == [1.5, math.inf, math.inf]
        assert 0 < g.inert < 3
        (family,) = (each for each in library(["dome"]) if each.name == "dome")
        a, b = family.flat_starts
        u = a[:, None] * torch.linspace(-1, 1, 9, dtype=torch.float64) + b[:, None]
        assert bool(((u > 0) & (u < 3)).all())


@pytest.mark.parametrize("domain", [(1.0, math.inf), (-math.inf, 1.0), (0.4, 0.6), (-9.0, -8.0)])
def test_every_domain_has_an_inert_point(domain):
    with register_function("parabola", torch.square, lambda u: u**2, domain=domain) as g:
        assert domain[0] < g.inert < domain[1]
        family = library()[-1]
        a, b = family.flat_starts
        low, high = b - a.abs(), b + a.abs()
        assert bool(((low > domain[0]) & (high < domain[1])).all())


def test_a_special_function_is_evaluated_everywhere():
    with register_function("erf", torch.erf, sympy.erf):
        layer = KANLinear(1, 1, functions=[["erf"]]).double()
        model = kanlens.KAN.from_layers([layer], kanlens.KAN([1, 1]).schema)
        x = torch.linspace(-2, 2, 60, dtype=torch.float64)[:, None]
        found = kanlens.symbolize(model, x, refine=False, snap=False)
        assert found.sympy() == sympy.erf(sympy.Symbol("x1"))
        assert_close(torch.tensor(found.predict(x)), torch.erf(x))
