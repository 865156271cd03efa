"""Statistics of a layer's data against NumPy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kanlens.model._statistics import EXPECTED, LEVELS, deviations, empty_pairs, summarize


def moments(n_out: int, n_in: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.arange(float(n_out * n_in), requires_grad=True).reshape(n_out, n_in)
    return values, values + 1


@pytest.mark.parametrize("rows", [1, 2, 5, 33, 1000])
def test_quantiles_are_numpys(rows):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    found = summarize(x, *moments(2, 3))
    expected = np.quantile(x.numpy(), np.linspace(0, 1, LEVELS), axis=0).T
    assert found.quantiles.shape == (3, 33)
    assert_close(found.quantiles, torch.from_numpy(expected.copy()), rtol=1e-12, atol=1e-12)
    assert_close(found.input_low, x.amin(0))
    assert_close(found.input_high, x.amax(0))
    assert (found.quantiles.diff(dim=1) >= 0).all()


def test_statistics_are_detached_and_keep_the_dtype():
    x = torch.rand(5, 3, requires_grad=True)
    found = summarize(x, *moments(2, 3))
    assert found.quantiles.dtype == torch.float32
    for tensor in (found.quantiles, found.edge_mean, found.edge_std):
        assert not tensor.requires_grad
    assert_close(found.edge_std, found.edge_mean + 1)


def test_select_cuts_both_axes():
    found = summarize(torch.rand(9, 3), *moments(4, 3))
    small = found.select(torch.tensor([3, 0]), torch.tensor([2]))
    assert_close(small.quantiles, found.quantiles[2:])
    assert_close(small.edge_mean, torch.tensor([[11.0], [2.0]]))
    assert_close(small.edge_std, torch.tensor([[12.0], [3.0]]))


def test_deviations_are_zero_only_where_they_are_rounding():
    y = torch.tensor([[0.0, 1e-30], [2e-30, 1e-30]])
    assert_close(deviations(y), torch.tensor([1e-30, 0.0]), rtol=1e-6, atol=0)
    assert deviations(torch.tensor([[1.0], [1.0 + 1e-7]])).item() == 0.0


def near(values, other, rows):
    """Return which rows are near a value in rank, counted one by one."""
    ranks = [
        (np.sum(rows < one) + np.sum(rows <= one)) / (2 * len(rows)) for one in (values, other)
    ]
    return abs(ranks[0] - ranks[1]) <= np.sqrt(EXPECTED / len(rows)) + 1e-9


@pytest.mark.slow  # takes a while
def test_a_pair_is_empty_where_no_row_is_near_and_six_would_be():
    draw = np.random.default_rng(0)
    level, kind = draw.normal(size=100), draw.integers(0, 2, 100)
    rows = np.stack([level, level + 0.1 * draw.normal(size=100), kind, 1 - kind, level.round()], 1)
    rows[:, 4] = np.where(kind == 1, 5.0, rows[:, 4])
    x = np.stack([draw.permutation(column) for column in rows.T], 1)
    x[:, 3] = 1 - x[:, 2]
    places = [[0], [1], [2, 3], [4]]
    found = empty_pairs(places, torch.from_numpy(x), torch.from_numpy(rows))
    for row, mask in zip(x, found, strict=True):
        sets = [
            np.array([all(near(row[k], other[k], rows[:, k]) for k in own) for other in rows])
            for own in places
        ]
        for a, b in np.ndindex(4, 4):
            judged = sets[a].sum() * sets[b].sum() >= EXPECTED * 100
            assert mask[a, b] == (judged and not (sets[a] & sets[b]).any())
    assert found[:, 0, 1].any() and found[:, 2, 3].any() and not found[:, [0, 1], [0, 1]].any()
    assert not empty_pairs(places, torch.from_numpy(rows), torch.from_numpy(rows)).any()


def test_independent_columns_have_few_empty_pairs_and_few_rows_judge_none():
    rows = torch.rand(100, 8, generator=torch.Generator().manual_seed(0))
    x = torch.rand(2000, 8, generator=torch.Generator().manual_seed(1))
    places = [[k] for k in range(8)]
    assert float(empty_pairs(places, x, rows).double().mean()) < 0.002
    assert not empty_pairs(places, x, rows[:20]).any()
