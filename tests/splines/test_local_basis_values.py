"""The functions not zero at a point, against SciPy's basis and the straight lines beyond."""

import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from kanlens.splines import _spline as spline
from kanlens.splines._local_basis import LocalBasis, local_basis
from tests.model.layers_for_tests import MODES


def basis_on(degree: int, mode: spline.Extrapolation) -> tuple[LocalBasis, Tensor, Tensor]:
    """A basis of two inputs of five uneven intervals, its knots, and points in and beyond them."""
    generator = torch.Generator().manual_seed(degree)
    width = 0.1 + torch.rand(2, 5 + 2 * degree, generator=generator, dtype=torch.float64)
    knots = torch.nn.functional.pad(width, (1, 0)).cumsum(1)
    low, high = knots[:, :1] - 1.0, knots[:, -1:] + 1.0
    x = low + (high - low) * torch.rand(2, 60, generator=generator, dtype=torch.float64)
    return local_basis(knots, degree, extrapolation=mode), knots, torch.cat([x, knots], dim=1)


def scattered(local: LocalBasis, x: Tensor) -> Tensor:
    """All basis functions at x, shape (in, point, basis): zero but for those that live there."""
    first, values = local.evaluate(x)
    every = torch.zeros(*x.shape, 5 + local.degree, dtype=torch.float64)
    index = first.unsqueeze(-1) + torch.arange(local.degree + 1)
    return every.scatter_(-1, index, torch.stack(values, dim=-1))


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_where_splines_run_out_the_functions_are_those_of_scipy(degree: int) -> None:
    local, knots, x = basis_on(degree, "zero")
    every = scattered(local, x)
    for i, row in enumerate(knots.numpy()):
        for k in range(5 + degree):
            element = BSpline.basis_element(row[k : k + degree + 2], extrapolate=False)
            wanted = torch.from_numpy(element(x[i].numpy())).nan_to_num(0.0)
            assert_close(every[i, :, k], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_beyond_the_grid_functions_go_on_by_their_slope_at_its_end(degree: int) -> None:
    local, knots, x = basis_on(degree, "linear")
    every = scattered(local, x)
    for i, row in enumerate(knots.numpy()):
        unit = torch.eye(5 + degree, dtype=torch.float64).numpy()
        basis = BSpline(row, unit, degree)
        held = x[i].clamp(row[degree], row[-degree - 1]).numpy()
        wanted = basis(held) + basis.derivative()(held) * (x[i].numpy() - held)[:, None]
        assert_close(every[i], torch.from_numpy(wanted), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_a_breakpoint_belongs_to_the_cell_on_its_right_and_the_last_to_the_last(mode: str) -> None:
    local, knots, _ = basis_on(3, mode)
    cell, _ = local.evaluate(spline.breakpoints(knots, 3))
    assert torch.equal(cell, torch.tensor([0, 1, 2, 3, 4, 4]).expand(2, -1))


@pytest.mark.parametrize("mode", MODES)
def test_values_are_differentiable_in_the_point_and_nan_stays(mode: str) -> None:
    local, _, x = basis_on(3, mode)
    inside = (x[:, :20] + 1e-4).requires_grad_()
    assert gradcheck(lambda x: torch.stack(local.evaluate(x)[1]), [inside])
    _, values = local.evaluate(torch.tensor([[float("nan")], [0.5]], dtype=torch.float64))
    assert all(bool(value[0].isnan()) and bool(value[1].isfinite()) for value in values)
