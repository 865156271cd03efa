import copy
from itertools import pairwise

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.symbolic._composition import (
    compiled,
    compose,
    evaluator,
    feature_symbols,
    plain,
    spline_function,
)

NAMES = [*sorted(FUNCTIONS), "spline"]


def network(seed, widths=(2, 2, 2), names=NAMES):
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(widths):
        pick = torch.randint(len(names), (n_out, n_in), generator=generator).tolist()
        table = [[names[k] for k in row] for row in pick]
        layer = KANLinear(n_in, n_out, functions=table, generator=generator)
        with torch.no_grad():
            layer.affine.normal_(generator=generator)
            layer.bias.normal_(generator=generator)
            layer.mask.copy_((torch.rand(n_out, n_in, generator=generator) > 0.2).float())
        layers.append(layer)
    model = KAN.from_layers(layers, KAN([widths[0], widths[-1]]).schema).double()
    model.input_shift.fill_(0.3)
    model.input_scale.fill_(1.7)
    model.output_scale.fill_(2.0)
    model.output_shift.fill_(-0.5)
    return model


@pytest.mark.slow  # searches formulas
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_formula_is_the_model(seed):
    model = network(seed)
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    values = evaluator(compose(model), feature_symbols(model))(x.numpy())
    output, beside = (model(places).detach().numpy() for places in (x, x + 1e-13))
    with np.errstate(invalid="ignore"):
        steady = np.abs(beside - output) < 1e-6 * (1 + np.abs(output))  # a sine of 1e9 is not
    good = np.isfinite(output) & np.isfinite(values) & (np.abs(output) < 1e8) & steady
    np.testing.assert_allclose(values[good], output[good], rtol=1e-6, atol=1e-6)
    assert not (np.isfinite(output) & ~np.isfinite(values)).any()


def single(name, parameters, in_=1):
    layer = KANLinear(in_, 1, functions=[[name] * in_]).double()
    with torch.no_grad():
        layer.affine[:] = torch.tensor(parameters, dtype=torch.float64)
    return KAN.from_layers([layer], KAN([in_, 1]).schema)


def test_no_number_is_written_twice():
    x = sympy.Symbol("x1", real=True)
    (square,) = compose(single("x^2", (2.0, 4.0, 1.0, 0.0)))
    assert sympy.simplify(square - 4 * (x + 2) ** 2) == 0
    (wave,) = compose(single("sin", (3.0, np.pi / 2, 2.0, 0.0)))
    assert wave == 2.0 * sympy.cos(3.0 * x)
    (log,) = compose(single("log", (2.0, 0.0, 3.0, 0.0)))
    assert log.has(sympy.log(x))
    assert len(log.atoms(sympy.Float)) == 2


def test_exponential_of_logarithms_is_a_product():
    first = KANLinear(2, 1, functions=[["log", "log"]]).double()
    last = KANLinear(1, 1, functions=[["exp"]]).double()
    with torch.no_grad():
        first.affine[0, :, 2] = torch.tensor([2.0, -1.0]).double()
    model = KAN.from_layers([first, last], KAN([2, 1]).schema)
    (found,) = compose(model)
    x1, x2 = feature_symbols(model)
    values = evaluator((found, x1**2 / x2), (x1, x2))(np.array([[2.0, 3.0], [0.5, 4.0]]))
    np.testing.assert_allclose(values[:, 0], values[:, 1])
    assert not found.has(sympy.exp, sympy.log)


HOSTILE = ["blood sugar", "__import__('os').system('true')", "lambda", "x-1", "E"]


def test_names_are_never_read_as_code():
    layer = KANLinear(5, 1, functions=[["sin", "x", "x^2", "spline", "exp"]]).double()
    schema = KAN([5, 1], feature_names=HOSTILE).schema
    model = KAN.from_layers([layer], schema)
    (found,) = compose(model)
    assert plain(found).free_symbols == {sympy.Symbol(name) for name in HOSTILE}
    x = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)).double()
    symbols = tuple(sympy.Symbol(name) for name in HOSTILE)
    values = evaluator((plain(found),), symbols)(x.numpy())
    np.testing.assert_allclose(values, model(x).detach().numpy())


def test_splines_are_implemented_functions():
    model = KAN([1, 1], generator=torch.Generator().manual_seed(0)).double()
    model.input_shift.fill_(5.0)
    (found,) = compose(model)
    x = np.linspace(4.0, 6.0, 11)
    symbol = sympy.Symbol("x1")
    values = sympy.lambdify(symbol, plain(found), "numpy")(x)
    truth = model(torch.as_tensor(x)[:, None]).detach().numpy()[:, 0]
    np.testing.assert_allclose(values, truth)
    assert copy.deepcopy(found) == found
    np.testing.assert_allclose(sympy.lambdify(symbol, copy.deepcopy(plain(found)))(x), truth)


def test_evaluator_says_nan_where_a_formula_is_not_real():
    x = sympy.Symbol("x")
    values = evaluator((sympy.sqrt(x), sympy.Integer(2)), (x,))(np.array([[-1.0], [4.0]]))
    assert np.isnan(values[0, 0])
    assert values[:, 1].tolist() == [2.0, 2.0]
    assert values[1, 0] == pytest.approx(2.0)


def test_a_spline_is_one_function_however_often_it_is_derived():
    edge = KANLinear(1, 1, generator=torch.Generator().manual_seed(0)).double().edge(0, 0)
    x = sympy.Symbol("x", real=True)
    f = spline_function("f_0_0_0", edge)
    first = (f(x) * x).diff(x)
    sympy.core.cache.clear_cache()
    second = (f(x) ** 2).diff(x)
    points = np.linspace(-0.9, 0.9, 7)[:, None]
    values = evaluator((first, second, f(x).diff(x, 2)), (x,))(points)
    slope = edge.derivative(points[:, 0])
    np.testing.assert_allclose(values[:, 2], edge.derivative(points[:, 0], 2))
    np.testing.assert_allclose(values[:, 0], edge(points[:, 0]) + points[:, 0] * slope)
    np.testing.assert_allclose(values[:, 1], 2 * edge(points[:, 0]) * slope)
    assert f(x).diff(x) - spline_function("f_0_0_0", edge)(x).diff(x) == 0


def test_a_spline_of_a_complex_number_is_undefined():
    x = sympy.Symbol("x")
    f = spline_function("f_0_0_0", KANLinear(1, 1).edge(0, 0))
    values = evaluator((f(x * sympy.root(-1, 3)), f(x)), (x,))(np.array([[0.5], [0.0]]))
    assert np.isnan(values[0, 0])
    assert np.isfinite(values[:, 1]).all()
    assert values[1, 0] == values[1, 1]


def test_a_formula_is_compiled_once_and_by_the_order_of_its_symbols():
    a, b = sympy.symbols("a b", real=True)
    function = compiled((a - 2 * b,), (a, b))
    assert compiled((a - 2 * b,), (a, b)) is function
    assert compiled((a - 2 * b,), (b, a))(1.0, 5.0) == [3.0]
    assert function(1.0, 5.0) == [-9.0]
