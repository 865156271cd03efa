"""What is right is right: against SciPy's B-splines, and it notices what is wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from benchmarks.speed.cells import Cell
from benchmarks.speed.reference import Expected, errors
from benchmarks.speed.workload import draw


@st.composite
def cells(make):
    return Cell(
        batch=make(st.integers(1, 9)),
        in_features=make(st.integers(1, 4)),
        out_features=make(st.integers(1, 3)),
        grid_size=make(st.sampled_from([1, 2, 5, 12])),
        order=make(st.integers(1, 5)),
        uniform=make(st.booleans()),
    )


@given(cell=cells(), seed=st.integers(0, 99))
def test_values_and_slopes_are_those_of_scipy(cell, seed):
    problem = draw(cell, torch.Generator().manual_seed(seed))
    x, knots = problem.x.double().numpy(), problem.knots.numpy()
    coefficients = problem.coefficients.double().numpy()
    base, cotangent = problem.base_weight.double().numpy(), problem.cotangent.double().numpy()
    sigmoid = 1 / (1 + np.exp(-x))
    value = (x * sigmoid) @ base.T
    slope = (cotangent @ base) * (sigmoid + x * sigmoid * (1 - sigmoid))
    for i in range(cell.in_features):
        for o in range(cell.out_features):
            phi = BSpline(knots[i], coefficients[o, i], cell.order)
            value[:, o] += phi(x[:, i])
            slope[:, i] += cotangent[:, o] * phi.derivative()(x[:, i])
    found = problem.expected
    np.testing.assert_allclose(found.value.numpy(), value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.input_gradient.numpy(), slope, rtol=1e-7, atol=1e-7)


@given(cell=cells(), seed=st.integers(0, 99))
def test_the_gradient_of_a_coefficient_is_its_basis_function(cell, seed):
    problem = draw(cell, torch.Generator().manual_seed(seed))
    x, knots = problem.x.double().numpy(), problem.knots.numpy()
    for i in range(cell.in_features):
        design = np.stack(
            [BSpline(knots[i], row, cell.order)(x[:, i]) for row in np.eye(cell.basis)], -1
        )
        right = problem.cotangent.double().numpy().T @ design
        found = problem.expected.weight_gradient[:, i].numpy()
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-9)


def test_knots_of_a_non_uniform_grid_differ_and_reach_both_ends():
    cell = Cell(batch=1, in_features=5, out_features=1, grid_size=7, uniform=False)
    knots = draw(cell, torch.Generator().manual_seed(0)).knots
    steps = knots.diff(dim=1)
    assert bool((steps > 0).all())
    assert bool((steps.std(0)[3:-3] > 0).all())
    torch.testing.assert_close(knots[:, [3, -4]], torch.tensor([[-1.0, 1.0]] * 5).double())


@pytest.mark.parametrize(
    ("part", "place"), [("value", 0), ("input_gradient", 1), ("weight_gradient", 1)]
)
@pytest.mark.parametrize("how", ["scaled", "not a number", "another shape", "one entry"])
def test_errors_have_teeth(part, place, how):
    cell = Cell(batch=6, in_features=3, out_features=2, grid_size=4)
    right = draw(cell, torch.Generator().manual_seed(0)).expected
    wrong = getattr(right, part).contiguous().clone()
    if how == "scaled":
        wrong = wrong * 1.001
    elif how == "not a number":
        wrong[0] = torch.nan
    elif how == "another shape":
        wrong = wrong[:1]
    else:
        wrong.view(-1)[-1] += 0.01 * wrong.abs().max()
    parts = {name: getattr(right, name) for name in Expected.__dataclass_fields__}
    assert errors(right, right) == (0, 0)
    found = errors(Expected(**{**parts, part: wrong}), right)
    assert not found[place] <= 5e-4
    assert found[1 - place] == 0
