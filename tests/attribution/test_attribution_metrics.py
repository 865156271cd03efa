"""Metrics on numbers small enough to check by hand."""

from __future__ import annotations

import math

import pytest
import torch

from kanlens.attribution import Attribution
from kanlens.attribution.metrics import METRICS, gini, rank_agreement, relative_gap, shapley_error


def make(values, output=None, reference=0.0):
    values = torch.tensor(values, dtype=torch.float64)
    output = values.sum(1) if output is None else torch.tensor(output, dtype=torch.float64)
    return Attribution(
        values=values,
        output=output,
        reference=torch.full_like(output, reference),
        baseline="",
        method="secant",
        features=tuple(f"x{i}" for i in range(values.shape[1])),
        target="y",
    )


def test_gaps():
    found = make([[1.0, 2.0], [0.0, 1.0]], output=[5.0, 1.0], reference=1.0)
    assert found.completeness_gap.tolist() == [1.0, -1.0]
    numbers = {name: METRICS[name].function(found, None) for name in METRICS}
    assert numbers["mean_gap"] == 1.0
    assert numbers["max_gap"] == 1.0
    assert numbers["relative_gap"] == 2 / 4
    assert math.isnan(numbers["shapley_error"])
    assert math.isnan(numbers["shapley_rank"])


def test_a_gap_next_to_no_change():
    assert relative_gap(make([[0.0, 0.0]])) == 0.0
    assert relative_gap(make([[1.0, 0.0]], output=[0.0])) == math.inf


def test_error_is_relative_in_l1():
    assert shapley_error(make([[1.0, 2.0]]), make([[2.0, 2.0]])) == 1 / 4
    assert shapley_error(make([[1.0, 2.0]]), make([[1.0, 2.0]])) == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1.0, 1.0, 1.0, 1.0]], 0.0),
        ([[0.0, 0.0, -4.0, 0.0]], 3 / 4),
        ([[1.0, 3.0]], 1 / 4),
        ([[0.0, 0.0]], 0.0),
    ],
)
def test_gini(values, expected):
    assert gini(make(values)) == pytest.approx(expected)


def test_rank_agreement_is_scipys(draw):
    from scipy.stats import spearmanr

    a, b = draw(6, 5), draw(6, 5, seed=2)
    a[0, :2] = a[0, 2]  # ties
    expected = sum(spearmanr(a[i], b[i]).statistic for i in range(6)) / 6
    assert rank_agreement(a, b) == pytest.approx(expected, abs=1e-12)
    assert rank_agreement(a, a) == 1.0
    assert rank_agreement(a, -a) == -1.0


def test_rank_agreement_leaves_out_rows_without_ranks():
    flat, rising = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])
    assert math.isnan(rank_agreement(flat, rising))
    assert rank_agreement(torch.cat([flat, rising]), rising.repeat(2, 1)) == 1.0
    assert math.isnan(rank_agreement(torch.ones(2, 1), torch.ones(2, 1)))
