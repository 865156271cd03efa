import copy
import pickle
import re

import numpy as np
import pytest
import sympy
import torch
from torch.testing import assert_close

from kanlens.errors import DTypeError, MethodError, ShapeError
from kanlens.model.layers import KANLinear
from kanlens.symbolic.composition import evaluator, spline_function
from kanlens.symbolic.torch_formula import TorchFormula

x, y = sympy.symbols("x y")
POINTS = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1

FORMULAS = [
    2.5 * sympy.sin(sympy.pi * x) + y**2 / 3,
    sympy.exp(-(x**2)) * sympy.sqrt(y) - sympy.E / x,
    sympy.Max(x, 0.5) + sympy.Min(y, x, 1) + sympy.Abs(x - y) * sympy.sign(x - 0.3),
    sympy.tanh(x) + sympy.atan(y) + sympy.asin(x / 2) + sympy.atanh(y / 3) + sympy.log(y),
    sympy.cosh(x) / (1 + y**2) ** 1.5 + sympy.tan(x) + x**-3 + sympy.Abs(x) ** 0.3,
    sympy.Integer(2),
    sympy.Float(0.25),
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_it_evaluates_as_numpy_does(formula):
    values = TorchFormula([formula], ["x", "y"])(POINTS)
    expected = evaluator((formula,), (x, y))(POINTS.numpy())
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-14)


def test_floats_are_parameters_and_exact_numbers_buffers():
    module = TorchFormula([2.5 * sympy.sin(sympy.pi * x) + y**2 / 3 + 0.5 * x], ["x", "y"])
    assert sorted(p.item() for p in module.parameters()) == [0.5, 2.5]
    buffers = sorted(v.item() for v in module.buffers())
    assert buffers == pytest.approx([1 / 3, 1.0, 2.0, np.pi])
    assert all(p.dtype == torch.float64 for p in [*module.parameters(), *module.buffers()])


def test_it_is_trained_and_exact_numbers_stay():
    module = TorchFormula([1.5 * sympy.sin(sympy.pi * x) + 0.1 * y**2], ["x", "y"])
    target = 2 * torch.sin(torch.pi * POINTS[:, :1]) - 0.7 * POINTS[:, 1:] ** 2
    optimizer = torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (module(POINTS) - target).square().mean()
        loss.backward()
        return loss

    for _ in range(10):
        optimizer.step(closure)
    assert sorted(p.item() for p in module.parameters()) == pytest.approx([-0.7, 2.0])


def test_gradients_are_right():
    module = TorchFormula(FORMULAS[:2], ["x", "y"])
    points = POINTS[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(module, (points,))


def test_splines_have_values_and_slopes():
    edge = KANLinear(1, 1, generator=torch.Generator().manual_seed(0)).double().edge(0, 0)
    f = spline_function("f_0_0_0", edge)
    module = TorchFormula([0.5 * f(x) + y], ["x", "y"])
    points = POINTS[:5].clone().requires_grad_()
    assert_close(
        module(points)[:, 0],
        0.5 * torch.from_numpy(edge(points[:, 0].detach().numpy())) + points[:, 1],
    )
    assert torch.autograd.gradcheck(module, (points,))


def test_a_copy_is_independent():
    module = TorchFormula([2.5 * x], ["x", "y"])
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.numbers[0].fill_(0.0)
    assert module(POINTS).abs().min() > 0
    assert bool((other(POINTS) == 0).all())
    module.load_state_dict(other.state_dict())
    assert bool((module(POINTS) == 0).all())


def test_float32_and_scripts_of_rows():
    module = TorchFormula([2.5 * x + y], ["x", "y"])
    assert module(POINTS.float()).dtype == torch.float64
    assert module.float()(POINTS).dtype == torch.float32


def test_what_torch_does_not_have_is_refused():
    with pytest.raises(MethodError, match="expected functions that torch has, got besselj"):
        TorchFormula([sympy.besselj(0, x)], ["x"])
    with pytest.raises(MethodError, match="got I"):
        TorchFormula([sympy.I * x], ["x"])
    with pytest.raises(
        ShapeError, match=r"^TorchFormula.forward: expected x of shape \(batch, 2\)"
    ):
        TorchFormula([x], ["x", "y"])(torch.zeros(3, 1))


PIECES = [
    sympy.Piecewise((x**2, x < 0.4), (sympy.sqrt(x), x <= 0.7), (2 * y, True)),
    sympy.Piecewise((x, (x > 0.4) & (y >= 0.2) | ~(y < 1)), (y, sympy.Ne(x, 0.5))),
    sympy.Piecewise((x, sympy.Eq(x, 0.5))),
    sympy.Piecewise((x, x < 0.4), (sympy.oo, True)),
    sympy.erf(x) + sympy.erfc(y) * sympy.loggamma(x) + sympy.erfinv(x / 2),
]


@pytest.mark.parametrize("formula", PIECES, ids=str)
def test_pieces_and_special_functions(formula):
    values = TorchFormula([formula], ["x", "y"])(POINTS)
    expected = evaluator((formula,), (x, y))(POINTS.numpy())
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-13)


def test_a_spline_has_second_derivatives_and_can_be_stored():
    edge = KANLinear(1, 1, generator=torch.Generator().manual_seed(0)).double().edge(0, 0)
    module = TorchFormula([spline_function("f_0_0_0", edge)(x) * y], ["x", "y"])
    points = POINTS[:5].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(module, (points,))
    back = pickle.loads(pickle.dumps(module))  # noqa: S301
    assert torch.equal(back(points), module(points))


def test_what_is_no_tensor_is_refused():
    text = "TorchFormula.forward: expected a Tensor, got ndarray. Convert it first, its columns in "
    with pytest.raises(DTypeError, match=f"^{re.escape(text)}the order of names.$"):
        TorchFormula([x], ["x", "y"])(POINTS.numpy())
