"""Intervals against SciPy, comparisons by hand, and the spectrum of a Jacobian."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from scipy import stats

from benchmarks.sparsity.scaler import jacobian, spectrum, steps_to
from benchmarks.statistics import compare, grouped, interval, over_seeds
from kanlens import KAN


def test_the_interval_is_that_of_students_t():
    values = [0.1, 0.4, 0.35, 0.2, 0.9]
    found = interval([*values, math.nan])
    low, high = stats.t.interval(0.95, 4, loc=found.mean, scale=stats.sem(values))
    assert (found.low, found.high, found.count) == (pytest.approx(low), pytest.approx(high), 5)


def test_one_value_has_no_interval():
    assert interval([0.5]).text() == "0.500"
    assert math.isnan(interval([]).mean)


def test_problems_do_not_widen_the_interval_over_seeds():
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "problem": list("abab"), "f1": [0.0, 1.0] * 2})
    found = over_seeds(frame, "f1")
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def frame_of(first, second):
    count = len(first)
    rows = {"problem": ["p"] * count, "seed": range(count)}
    return pd.concat(
        [
            pd.DataFrame({**rows, "way": "a", "f1": first}),
            pd.DataFrame({**rows, "way": "b", "f1": second}),
        ]
    )


def test_a_comparison_is_pair_by_pair():
    first, second = [0.9, 0.8, 0.7, 0.6, 0.5, 0.9], [0.5, 0.5, 0.5, 0.5, 0.5, 0.4]
    found = compare(frame_of(first, second), "way", ("a", "b"), "f1")
    assert (found.pairs, found.better, found.equal) == (6, 5, 1)
    assert found.difference.mean == pytest.approx(0.25)
    assert found.p < 0.1
    back = compare(frame_of(first, second), "way", ("b", "a"), "f1")
    assert (back.better, back.p) == (0, found.p)


def test_ways_that_are_the_same_do_not_differ():
    found = compare(frame_of([0.5] * 6, [0.5] * 6), "way", ("a", "b"), "f1")
    assert (found.better, found.equal, found.p) == (0, 6, 1.0)


def test_a_missing_value_leaves_its_pair_out():
    found = compare(frame_of([0.5, math.nan], [0.4, 0.3]), "way", ("a", "b"), "f1")
    assert found.pairs == 1


def test_means_of_logarithms_carry_a_factor():
    frame = pd.DataFrame({"seed": [0, 1], "way": ["a", "a"], "test": [0.01, 1.0]})
    (text,) = grouped(frame, ["way"], {"error": ("test", True)})["error"]
    assert text.startswith("0.1 x/÷ ")


def test_the_jacobian_is_the_change_of_the_output():
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    x = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix, before = jacobian(model, x), model(x)[:, 0]
    step = 1e-6 * torch.randn(matrix.shape[1], dtype=torch.float64)
    with torch.no_grad():
        start = 0
        for weights in model.parameters():
            count = weights.numel()
            weights.add_(step[start : start + count].view_as(weights))
            start += count
    torch.testing.assert_close(model(x)[:, 0] - before, matrix @ step, atol=1e-10, rtol=1e-3)


def test_the_scale_of_a_spline_adds_directions_that_change_nothing():
    spectra = []
    for scale in (True, False):
        draw = torch.Generator().manual_seed(0)
        model = KAN([2, 1], enable_standalone_scale_spline=scale, generator=draw).double()
        x = torch.rand(60, 2, dtype=torch.float64, generator=draw) * 2 - 1
        spectra.append(spectrum(jacobian(model, x)))
    on, off = spectra
    assert on.parameters == off.parameters + 2
    assert on.rank == off.rank < off.parameters


def test_steps_are_counted_to_the_first_loss_that_is_low_enough():
    history = [{"step": step, "loss": loss} for step, loss in enumerate([4, 2, 3, 1], 1)]
    assert [steps_to(history, target) for target in (5, 2.5, 1, 0.5)] == [1, 2, 4, 5]
