"""NaN, infinity, the largest and smallest numbers, knots and ends as inputs of kernels."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from tests.model.kernels.layers import GRIDS, ORDERS, TOLERANCES, Case, agrees, make, run
from tests.model.layers_for_tests import MODES

pytestmark = pytest.mark.usefixtures("one_thread")


def with_rows(case: Case, values: list[float]) -> Case:
    """Put values into the first column of the first rows, elsewhere all stays as it is."""
    x = case.x.clone()
    x[: len(values), 0] = torch.tensor(values, dtype=x.dtype)
    return dataclasses.replace(case, x=x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_nan_makes_its_row_nan_and_no_other(mode, grid, dtype):
    for base in ("silu", "zero"):
        case = make(batch=20, n_in=4, grid=grid, dtype=dtype, base_activation=base)
        case.layer.extrapolation = mode
        clean, dirty = run(case, "sparse"), case.x.clone()
        dirty[3, 1], dirty[3, 2], dirty[17, 0] = torch.nan, torch.nan, torch.nan
        found = run(dataclasses.replace(case, x=dirty), "sparse")
        rows = torch.ones(20, dtype=torch.bool)
        rows[[3, 17]] = False
        assert found["y"][~rows].isnan().all()
        assert_close(found["y"][rows], clean["y"][rows])
        assert_close(found["x"][rows], clean["x"][rows])
        assert_close(found["bias"], clean["bias"])
        assert_close(found["spline_weight"][:, 3], clean["spline_weight"][:, 3])
        assert found["spline_weight"][:, :3].isnan().all()
        assert found["spline_scaler"][:, :3].isnan().all()


@pytest.mark.parametrize("order", ORDERS)
def test_nan_gradient_of_x_is_where_the_torch_path_has_it(order):
    case = with_rows(make(spline_order=order), [torch.nan, 0.3, torch.nan])
    found, expected = run(case, "sparse"), run(case, "torch")
    for name in ("y", "x", "spline_weight", "spline_scaler", "base_weight", "bias"):
        assert_close(found[name].isnan(), expected[name].isnan(), msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("base", ["silu", "tanh"])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_infinity_stays_in_its_row(mode, base, dtype):
    case = make(batch=12, extrapolation=mode, base_activation=base, dtype=dtype)
    clean = run(case, "sparse")
    found = run(with_rows(case, [torch.inf, -torch.inf]), "sparse")
    expected = run(with_rows(case, [torch.inf, -torch.inf]), "torch")
    for name in ("y", "x"):
        assert_close(found[name][2:], clean[name][2:])
        same = found[name][:2].isclose(expected[name][:2], rtol=1e-4)
        assert (same | ~found[name][:2].isfinite()).all(), name
    assert_close(found["spline_weight"][:, 1:], clean["spline_weight"][:, 1:])


def far(dtype: torch.dtype) -> list[float]:
    top = torch.finfo(dtype).max
    return [top / 1e6, -top / 1e6, top / 1e9, -top / 1e12, 1e6, -1e6]


@pytest.mark.parametrize("grid", ["even", "clustered"])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("mode", MODES)
def test_numbers_far_beyond_every_grid(grid, dtype, mode):
    case = make(n_in=1, batch=len(far(dtype)), grid=grid, dtype=dtype, base_activation="identity")
    case.layer.extrapolation = mode
    with torch.no_grad():
        for parameter in case.layer.parameters():
            parameter.mul_(1e-4)  # so that outputs are finite
    case = with_rows(case, far(dtype))
    found, wanted = run(case, "sparse"), case.wanted()
    for name in ("y", "x"):
        expected = torch.from_numpy(wanted[name].value.astype(float)).to(dtype)
        assert expected.isfinite().all()
        assert_close(found[name], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS)
def test_knots_and_their_neighbours(order, mode, grid):
    case = make(n_in=2, grid=grid, spline_order=order, extrapolation=mode, grid_size=3)
    knots = case.layer.grid.mT
    up, down = (torch.full_like(knots, end) for end in (torch.inf, -torch.inf))
    x = torch.cat([knots, knots.nextafter(up), knots.nextafter(down)])
    grad = torch.ones(len(x), 5, dtype=x.dtype)
    assert agrees(Case(case.layer, x.contiguous(), grad), "sparse")


def tiny() -> list[float]:
    return [0.0, -0.0, 5e-324, -5e-324, 1e-310, 2.3e-308, -1e-45, 1e-38]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_zeros_and_the_smallest_numbers(dtype):
    for grid in ("even", "clustered"):
        assert agrees(with_rows(make(grid=grid, dtype=dtype), tiny()), "sparse")


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_grids_far_from_zero_and_of_any_size(dtype):
    for shift, size in ((1e3, 1.0), (-1e4, 5.0), (0.0, 1e-6), (0.0, 1e12), (2e5, 1e6)):
        case = make(grid="uneven", dtype=dtype, base_activation="zero")
        case.layer.grid.mul_(size).add_(shift)
        low, high = case.layer.domain()
        share = torch.linspace(-0.2, 1.2, case.x.numel(), dtype=dtype).view_as(case.x)
        assert agrees(dataclasses.replace(case, x=low + (high - low) * share), "sparse"), (
            shift,
            size,
        )


anything = st.floats(allow_nan=True, allow_infinity=True, width=32)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
@given(values=st.lists(anything, min_size=1, max_size=8), grid=st.sampled_from(GRIDS))
def test_whatever_comes_in_nothing_breaks(mode, values, grid):
    case = make(n_in=2, n_out=3, batch=8, grid=grid, dtype=torch.float32, extrapolation=mode)
    clean, found = run(case, "sparse"), run(with_rows(case, values), "sparse")
    assert_close(found["y"][len(values) :], clean["y"][len(values) :])
    nan = Tensor([value != value for value in values]).bool()
    assert found["y"][: len(values)][nan].isnan().all()
