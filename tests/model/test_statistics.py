"""Statistics of a layer's data against NumPy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kanlens.model._statistics import LEVELS, deviations, summarize


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
