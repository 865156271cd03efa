"""Where breakpoints go: adapted to data of every kind, or more and fewer of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kanlens.splines import _spline as spline

OLD = torch.linspace(-1, 1, 6, dtype=torch.float64)[None]


def adapted(column: object, old: Tensor = OLD, *, eps: float = 0.02, margin: float = 0.01):
    x = torch.as_tensor(column, dtype=old.dtype).reshape(-1, 1)
    return spline.adapted_breakpoints(x, old, eps=eps, margin=margin)[0]


def rising(cuts: Tensor) -> bool:
    return bool((cuts.diff() > 0).all())


def test_breakpoints_are_quantiles_mixed_with_even_spacing():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quantiles = np.quantile(x.numpy(), np.linspace(0, 1, 6))
    assert_close(adapted(x, eps=0.0, margin=0.0), torch.from_numpy(quantiles), rtol=1e-12, atol=0)
    even = torch.linspace(float(x.min()), float(x.max()), 6, dtype=torch.float64)
    assert_close(adapted(x, eps=1.0, margin=0.0), even, rtol=1e-12, atol=1e-12)
    mixed = 0.3 * even + 0.7 * torch.from_numpy(quantiles)
    assert_close(adapted(x, eps=0.3, margin=0.0), mixed, rtol=1e-12, atol=1e-12)


def test_margin_is_a_share_of_the_range():
    cuts = adapted(torch.linspace(0, 10, 100), margin=0.05)
    assert_close(cuts[[0, -1]], torch.tensor([-0.5, 10.5], dtype=torch.float64))


@pytest.mark.parametrize(
    "column",
    [
        [0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0],
        [0.0, 1.0] * 50,
        [1.0] * 99 + [0.0],
        [0.0, 1e-13] * 50 + [1.0],
        [1.0, 2.0, 3.0] * 30,
        [0.0, 5.0],
        [*range(3), torch.nan, torch.inf, -torch.inf],
        [1e-300, 1.0],
        [-1e300, 1e300],
        [*np.geomspace(1e-9, 1e9, 100)],
    ],
)
@pytest.mark.parametrize("eps", [0.0, 0.02, 1.0])
def test_any_column_gives_rising_breakpoints_around_it(column, eps):
    cuts = adapted(column, eps=eps)
    finite = [v for v in column if np.isfinite(v)]
    assert cuts.isfinite().all()
    assert rising(cuts)
    assert cuts[0] <= min(finite)
    assert cuts[-1] >= max(finite)


def test_quantiles_of_distinct_values_take_over_where_values_repeat():
    column = [0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0]
    expected = torch.arange(6, dtype=torch.float64)
    assert_close(adapted(column, eps=0.0, margin=0.0), expected, rtol=1e-12, atol=1e-12)


def test_clusters_leave_room_between_breakpoints():
    cuts = adapted([0.0, 1e-13] * 50 + [1.0], eps=0.0, margin=0.0)
    assert cuts.diff().min() > 0.019  # a tenth of even spacing is mixed in


@pytest.mark.parametrize(
    "column",
    [
        [1e6, 1e6 + 0.0625, 1e6 + 0.125, 1e6 + 0.5],  # steps of float32 at a million
        [0.0, 1e-7, 2e-7],  # rounding of a hidden unit beside a grid of size one
    ],
)
def test_what_float32_cannot_resolve_keeps_its_breakpoints(column):
    old = torch.linspace(-1, 1, 13)[None]
    assert_close(adapted(column, old), old[0], rtol=0, atol=0)
    assert adapted(column, old.double()).diff().max() < 0.1


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.02]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_knots_rise_in_the_dtype_of_the_grid(column, grid_size, eps, dtype):
    old = torch.linspace(-1, 1, grid_size + 1, dtype=dtype)[None]
    cuts = adapted(column, old, eps=eps)
    assert cuts.dtype == dtype
    assert rising(spline.extend(cuts[None], 5)[0])


@pytest.mark.parametrize("column", [[0.3] * 50, [1e6] * 9, [], [torch.nan] * 3, [0.3, 0.3 + 1e-16]])
def test_a_column_without_spread_keeps_its_breakpoints(column):
    uneven = torch.tensor([[-1.0, -0.9, 0.0, 0.1, 0.7, 1.0]], dtype=torch.float64)
    assert_close(adapted(column, uneven), uneven[0], rtol=0, atol=0)


def test_values_that_differ_by_rounding_count_as_constant_in_float32_only():
    column = [0.3, 0.3 + 1e-6, 0.3 + 2e-6]
    single = OLD.float()
    assert_close(adapted(column, single), single[0], rtol=0, atol=0)
    assert adapted(column)[-1] - adapted(column)[0] < 1e-5


@pytest.mark.parametrize("old_size", range(1, 7))
@pytest.mark.parametrize("new_size", range(1, 20))
def test_resized_grids_have_their_size_and_their_ends(old_size, new_size):
    generator = torch.Generator().manual_seed(old_size)
    cuts = (0.1 + torch.rand(2, old_size + 1, generator=generator, dtype=torch.float64)).cumsum(1)
    new = spline.resized_breakpoints(cuts, new_size)
    assert new.shape == (2, new_size + 1)
    assert all(rising(row) for row in new)
    assert_close(new[:, [0, -1]], cuts[:, [0, -1]], rtol=1e-12, atol=0)
    if new_size >= old_size:
        gap = (new[:, :, None] - cuts[:, None, :]).abs().amin(1)
        assert not gap.any()  # every old breakpoint, to the last bit
