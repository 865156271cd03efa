"""Interval arithmetic is sound against corners, keeps signs, and knows nothing of NaN."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from kanlens.certificates import intervals

INF = float("inf")


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ends = 10 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    low, high = ends.sort(1).values.unbind(1)
    return low, high


def test_products_hold_in_exact_arithmetic():
    first, second = draw(200, 0), draw(200, 1)
    low, high = intervals.multiply(first, second)
    for k in range(200):
        corners = [Fraction(a[k].item()) * Fraction(b[k].item()) for a in first for b in second]
        assert Fraction(low[k].item()) <= min(corners)
        assert Fraction(high[k].item()) >= max(corners)
        assert high[k] <= float(max(corners)) + 1e-13 * abs(float(max(corners)))


def test_sums_hold_in_exact_arithmetic():
    low, high = draw(1000, 2)
    total = intervals.add((low, high))
    assert Fraction(total[0].item()) <= sum(map(Fraction, low.tolist()))
    assert Fraction(total[1].item()) >= sum(map(Fraction, high.tolist()))


def test_signs_are_kept():
    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    assert intervals.add((zero, one))[0] == 0
    assert intervals.multiply((zero, one), (zero, one))[0].tolist() == [0, 0, 0]
    assert intervals.scaled(-one, (zero, one))[1].tolist() == [0, 0, 0]
    assert intervals.shift((zero, one), zero)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.0, 0.0), (-INF, INF), (0.0, 0.0)),
        ((0.0, 1.0), (-INF, INF), (-INF, INF)),
        ((1.0, 1.0), (0.0, INF), (0.0, INF)),
        ((0.0, 1.0), (0.0, INF), (0.0, INF)),
        ((0.0, 0.0), (float("nan"), 1.0), (-INF, INF)),
        ((-INF, INF), (-INF, INF), (-INF, INF)),
    ],
)
def test_infinite_ends(first, second, expected):
    pair = [tuple(torch.tensor([end]).double() for end in one) for one in (first, second)]
    low, high = intervals.multiply(*pair)
    assert (low.item(), high.item()) == expected


def test_nan_is_no_bound():
    nan, one = torch.tensor([float("nan")]), torch.ones(1)
    assert intervals.known(nan, one)[0].item() == -INF
    assert intervals.known(one, nan)[1].item() == INF
    low, high = intervals.add((torch.tensor([-INF, INF]), torch.tensor([INF, INF])))
    assert (low.item(), high.item()) == (-INF, INF)
