"""Ranks, shares and areas, on numbers that can be followed by eye."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from kanlens.attribution.metrics.rankings import cleaned, over_counts, ratio, top


def test_rounding_next_to_the_largest_value_counts_as_zero():
    found = cleaned(torch.tensor([[1.0, 1e-17], [1e-17, 1e-18]], dtype=torch.float64))
    assert found.tolist() == [[1.0, 0.0], [1e-17, 1e-18]]


def test_of_equal_sizes_the_first_is_on_top():
    values = torch.tensor([[1.0, -3.0, 1.0, 2.0]])
    assert top(values, 3).tolist() == [[True, True, False, True]]


def test_nothing_of_nothing_is_zero_and_something_infinite():
    found = ratio(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 2.0]))
    assert found.tolist() == [0.0, float("inf"), 0.5]


def test_the_area_is_that_under_straight_lines_between_counts():
    one, two, three = (torch.tensor([number]) for number in (0.0, 1.0, 4.0))
    assert_close(over_counts([one, two, three]), torch.tensor([1.5]))
    assert_close(over_counts([two]), two)
