"""The base function the kernels add: silu of our own, and torch's for all others."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kanlens.functions._catalog import BASES
from kanlens.model.kernels import _silu as silu

pytestmark = pytest.mark.usefixtures("one_thread")

DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
ROUNDING = {torch.float32: 3e-7, torch.float64: 8e-16}  # relative


def exact(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The silu of numbers and its derivative from its definition, in extended precision."""
    wide = x.numpy().astype(np.longdouble)
    gate, rest = 1 / (1 + np.exp(-wide)), 1 / (1 + np.exp(wide))
    return wide * gate, gate + wide * gate * rest


def silu_pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """The silu that passes of a layer compute, and its derivative."""
    value, slope, alone = (torch.empty_like(x) for _ in range(3))
    flat = [each.numpy().reshape(-1) for each in (x, value, slope, alone)]
    silu.write_silu_pair(*flat[:3], 0, x.numel())
    silu.write_silu(flat[0], flat[3], 0, x.numel())
    assert_close(alone, value, rtol=0, atol=0, equal_nan=True)
    return value, slope


def check_silu(x: Tensor) -> None:
    value, slope = silu_pair(x)
    wanted, wanted_slope = exact(x)
    tiny = float(torch.finfo(x.dtype).tiny)
    off = np.abs(value.numpy() - wanted)
    assert (off <= ROUNDING[x.dtype] * np.abs(wanted) + tiny).all()
    off = np.abs(slope.numpy() - wanted_slope)
    assert (off <= ROUNDING[x.dtype] * np.maximum(np.abs(wanted_slope), 0.3) + tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_and_its_slope_are_right_to_rounding(dtype):
    check_silu(torch.linspace(-80, 80, 40_001, dtype=dtype))
    generator = torch.Generator().manual_seed(0)
    check_silu(torch.randn(5, 1001, dtype=dtype, generator=generator))
    check_silu(torch.randn(3, 7, dtype=dtype, generator=generator) * 1e-30)


@given(st.lists(st.floats(-700, 700), max_size=40))
def test_silu_of_any_numbers(numbers):
    check_silu(torch.tensor(numbers, dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_far_out_and_of_what_is_no_number(dtype):
    big = torch.finfo(dtype).max
    x = torch.tensor([0.0, -0.0, 1000.0, -1000.0, big, -big, torch.nan, torch.inf], dtype=dtype)
    value, slope = silu_pair(x)
    torch_value, torch_slope = BASES["silu"].pair(x)
    assert_close(value, torch_value, rtol=0, atol=0, equal_nan=True)
    assert_close(slope, torch_slope, rtol=0, atol=0, equal_nan=True)
    assert torch.signbit(value[1]) and value[6].isnan() and slope[6].isnan()


@pytest.mark.parametrize("base", sorted(BASES))
def test_layout_of_numbers_makes_no_difference(base):
    x = torch.randn(40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).mT
    for found, wanted in zip(silu.pair(base, x), BASES[base].pair(x.contiguous()), strict=True):
        assert found.shape == x.shape and found.is_contiguous()
        assert_close(found, wanted, rtol=1e-14, atol=1e-15)


def test_the_comparison_sees_one_wrong_number(monkeypatch):
    right = silu.write_silu_pair

    def wrong(x, values, slopes, begin, end):
        right(x, values, slopes, begin, end)
        slopes[3] *= 1 + 1e-14

    check_silu(torch.linspace(-2, 2, 9, dtype=torch.float64))
    monkeypatch.setattr(silu, "write_silu_pair", wrong)
    with pytest.raises(AssertionError):
        check_silu(torch.linspace(-2, 2, 9, dtype=torch.float64))
