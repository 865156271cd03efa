"""Formulas of networks that multiply."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
import torch

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.symbolic import _joint_refit as joint_refit
from kanlens.symbolic import symbolize
from kanlens.symbolic._composition import compose, evaluator, feature_symbols
from kanlens.symbolic._joint_refit import refit, relative_loss
from tests.made import draw, made
from tests.symbolic.made import spline_layer

X = draw(40, 3)


def identities(widths, functions):
    """A network of one layer with the functions given and nothing else."""
    plain = KAN(widths)
    layer = KANLinear(len(functions[0]), len(functions), functions=functions)
    return KAN.from_layers([layer], plain.schema, nodes=list(plain.nodes)).double()


@pytest.mark.parametrize("widths", [[3, (1, [2, 3]), 2], [3, (0, [3]), (1, 1)], [3, (0, [2])]])
@pytest.mark.parametrize("scaled_nodes", [False, True])
@pytest.mark.parametrize("functions", [False, True])
@pytest.mark.slow  # many cases
def test_the_formula_is_the_network(widths, scaled_nodes, functions):
    model = made(widths, scaled_nodes=scaled_nodes, functions=functions)
    values = evaluator(compose(model), feature_symbols(model))(X.numpy())
    expected = model(X).detach().numpy()
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_scales_of_factors_are_one_number_in_front():
    model = identities([2, (0, 1)], [["x", "constant"], ["constant", "x"]])
    layer = model.layers[0]
    with torch.no_grad():
        layer.mask.copy_(torch.eye(2))
        layer.affine[..., 2] = 3.0
    x1, x2 = feature_symbols(model)
    assert compose(model) == (9.0 * x1 * x2,)


def test_equal_factors_are_a_power_and_constant_ones_a_number():
    model = identities([1, (0, [3])], [["sin"], ["sin"], ["x"]])
    (x1,) = feature_symbols(model)
    assert compose(model) == (x1 * sympy.sin(x1) ** 2,)
    with torch.no_grad():
        model.layers[0].mask[2] = 0
        model.layers[0].bias[2] = -2.5
    assert compose(model) == (-2.5 * sympy.sin(x1) ** 2,)
    with torch.no_grad():
        model.layers[0].bias[2] = 0
    assert compose(model) == (0,)
    with torch.no_grad():
        model.layers[0].mask[:] = 0
        model.layers[0].bias.copy_(torch.tensor([2.0, 3.0, 0.5]))
    assert compose(model) == (3.0,)


@pytest.mark.parametrize("widths", [[3, 2, 2], [3, (1, [2, 3]), 2], [3, (0, [3]), (1, 1)]])
def test_jacobian_is_that_of_differences(widths):
    model = made(widths, scaled_nodes=True, functions=True)
    x = X[:20]
    with torch.no_grad():
        problem = joint_refit._NetworkResiduals(model, x, draw(20, 2, seed=4))
        theta = problem.read()
        found = problem.jacobian(theta)
        for k in range(len(theta)):
            step = np.zeros(len(theta))
            step[k] = 1e-6
            slope = (problem.residuals(theta + step) - problem.residuals(theta - step)) / 2e-6
            size = max(1.0, float(np.abs(slope).max()))
            np.testing.assert_allclose(found[:, k], slope, atol=1e-6 * size)


def test_refit_finds_a_product_again():
    model = identities([2, (0, 1)], [["sin", "x"], ["x", "x^2"]])
    target = model(X[:, :2]).detach()
    with torch.no_grad():
        model.layers[0].affine[..., 0] *= 1.05
        model.layers[0].affine[..., 2] *= 0.9
        before = relative_loss(model(X[:, :2]), target)
        after = refit(model, X[:, :2], target, steps=200)
    assert before > 1e-4
    assert after < 1e-12


@pytest.mark.slow  # searches formulas
def test_a_product_of_functions_is_read_from_splines():
    """A network that is sin(x1) * x2 by construction, in splines."""
    rows = torch.tanh(draw(300, 2))
    layer = spline_layer([[lambda v: torch.sin(2 * v), None], [None, lambda v: v]], [(-1, 1)] * 2)
    plain = KAN([2, (0, 1)])
    model = KAN.from_layers([layer], plain.schema, nodes=list(plain.nodes)).double()
    found = symbolize(model, rows)
    x1, x2 = sympy.symbols("x1 x2")
    assert found.sympy() == x2 * sympy.sin(2 * x1)
    assert found.receipt.trustworthy
