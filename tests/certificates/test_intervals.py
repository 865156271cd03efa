"""Interval arithmetic is sound against corners, keeps signs, and knows nothing of NaN."""

from fractions import Fraction

import pytest
import torch

from kanlens.certificates._relaxation import Interval

INF = float("inf")


def draw(count: int, seed: int) -> Interval:
    generator = torch.Generator().manual_seed(seed)
    ends = 10 * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return Interval(*ends.sort(1).values.unbind(1))


def test_products_hold_in_exact_arithmetic():
    first, second = draw(200, 0), draw(200, 1)
    low, high = first.times(second)
    for k in range(200):
        corners = [Fraction(a[k].item()) * Fraction(b[k].item()) for a in first for b in second]
        assert Fraction(low[k].item()) <= min(corners)
        assert Fraction(high[k].item()) >= max(corners)
        assert high[k] <= float(max(corners)) + 1e-13 * abs(float(max(corners)))


def test_sums_hold_in_exact_arithmetic():
    low, high = draw(1000, 2)
    total = Interval(low, high).total()
    assert Fraction(total[0].item()) <= sum(map(Fraction, low.tolist()))
    assert Fraction(total[1].item()) >= sum(map(Fraction, high.tolist()))


def test_signs_are_kept():
    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    assert Interval(zero, one).total().low == 0
    assert Interval(zero, one).times(Interval(zero, one)).low.tolist() == [0, 0, 0]
    assert Interval(zero, one).scaled(-one).high.tolist() == [0, 0, 0]
    assert Interval(zero, one).shift(zero).low.tolist() == [0, 0, 0]


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
    one, other = (Interval(*torch.tensor([ends]).double().T) for ends in (first, second))
    low, high = one.times(other)
    assert (low.item(), high.item()) == expected


def test_nan_is_no_bound():
    nan, one = torch.tensor([float("nan")]), torch.ones(1)
    assert Interval.known(nan, one).low.item() == -INF
    assert Interval.known(one, nan).high.item() == INF
    low, high = Interval(torch.tensor([-INF, INF]), torch.tensor([INF, INF])).total()
    assert (low.item(), high.item()) == (-INF, INF)
