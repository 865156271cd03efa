"""Designs of curves against dense matrices."""

import numpy as np
import pytest

from kanlens.training import _curve_design as curves
from kanlens.training._curve_design import (
    CurveDesign,
    breakpoints,
    difference_modes,
    make_curve,
    smooth_modes,
)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("count", [4, 9, 40])
def test_modes_are_of_the_pseudo_inverse_of_the_precision(order, count):
    modes = difference_modes(count, order)
    differences = np.diff(np.eye(count), order, axis=0)
    covariance = np.linalg.pinv(differences.T @ differences)
    np.testing.assert_allclose(modes @ modes.T, covariance, rtol=1e-6, atol=1e-9 * covariance.max())
    leading = np.linalg.norm(modes, axis=0)
    assert (np.diff(leading) <= 1e-9 * leading[0]).all()
    other = difference_modes(count, 3 - order)
    assert abs(other @ other.T - covariance).max() > 0.01 * covariance.max()


def test_smooth_modes_are_of_divided_differences():
    even = smooth_modes(np.linspace(0, 3, 12)) * 11**1.5
    modes = difference_modes(12, 2)
    np.testing.assert_allclose(even @ even.T, modes @ modes.T, rtol=1e-7, atol=1e-9)
    knots = np.array([0.0, 0.1, 0.5, 0.6, 2.0, 3.0])
    places = 0.75 * np.arange(6) / 5 + 0.25 * knots / 3
    rows = []
    for i in range(4):
        left, right = places[i + 1] - places[i], places[i + 2] - places[i + 1]
        row = np.zeros(6)
        row[i : i + 3] = [1 / left, -1 / left - 1 / right, 1 / right]
        rows.append(row / np.sqrt((left + right) / 2))
    precision = np.array(rows).T @ np.array(rows)
    uneven = smooth_modes(knots)
    np.testing.assert_allclose(uneven @ uneven.T, np.linalg.pinv(precision), atol=1e-9)


def test_breakpoints():
    assert breakpoints(np.array([2.0, 2.0]), 9).tolist() == [2, 3]
    assert breakpoints(np.array([0.0, 1.0, 1.0, 3.0]), 9).tolist() == [0, 1, 3]
    assert breakpoints(np.array([0.0, 1e-15, 1.0]), 9).tolist() == [0, 1]
    knots = breakpoints(np.random.default_rng(0).standard_cauchy(500), 20)
    assert len(knots) == 21
    assert (np.diff(knots) > 0).all()


def design(rows=40, seed=0):
    draw = np.random.default_rng(seed)
    x = np.column_stack(
        (draw.uniform(-1, 1, rows), draw.integers(0, 2, rows), draw.normal(size=rows))
    )
    groups = (0, 1, 1)
    return CurveDesign([make_curve(i, x[:, i], groups[i], 3) for i in range(3)], x), x


def dense(plan, x):
    parts = []
    for curve, modes in zip(plan.curves, plan.modes, strict=True):
        hats = [
            np.interp(x[:, curve.feature], curve.breakpoints, row)
            for row in np.eye(len(curve.breakpoints))
        ]
        parts.append(np.stack(hats, 1) @ modes)
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("most", [4, 2000])  # breakpoints fewer or more than the rows
def test_equations_are_those_of_dense_columns(monkeypatch, most):
    monkeypatch.setattr(curves, "MAX_INTERVALS", most)
    plan, x = design()
    draw = np.random.default_rng(1)
    weights, y = draw.integers(0, 4, 40).astype(float), draw.normal(size=40)
    places = np.flatnonzero(draw.uniform(size=len(plan.owners)) < 0.7)
    equations, mean = plan.equations(weights, y, places)
    repeated = np.repeat(np.arange(40), weights.astype(int))  # a weight counts rows
    columns = dense(plan, x)[repeated][:, places]
    columns = columns - columns.mean(0)
    response = y[repeated] - y[repeated].mean()
    np.testing.assert_allclose(equations.gram, columns.T @ columns, atol=1e-9)
    np.testing.assert_allclose(equations.cross, columns.T @ response, atol=1e-9)
    assert equations.square == pytest.approx(response @ response)
    assert equations.rows == len(repeated) - 1
    assert mean == pytest.approx(y[repeated].mean())
    other = plan.equations(np.ones(40), y, places)[0]
    assert abs(other.gram - equations.gram).max() > 1e-2


def test_values_are_sums_of_curves_and_blocks_have_unit_variance():
    plan, x = design(60)
    coefficients = np.random.default_rng(2).normal(size=len(plan.owners))
    values = dense(plan, x) @ coefficients
    np.testing.assert_allclose(plan.values(coefficients), values, atol=1e-10)
    heights = plan.heights(coefficients)
    sums = sum(
        np.interp(x[:, curve.feature], curve.breakpoints, height)
        for curve, height in zip(plan.curves, heights, strict=True)
    )
    np.testing.assert_allclose(sums, values, atol=1e-10)
    total = np.bincount(plan.owners, dense(plan, x).var(0))
    np.testing.assert_allclose(total, 1, rtol=1e-9)


def test_curves_of_one_group_have_one_variance_for_each_part():
    plan, _ = design()
    lines = [plan.owners[place.start] for place in plan.slices]
    assert lines[0] != lines[1] == lines[2]
    assert len(np.unique(plan.owners)) == len(plan.start) == 6


def test_many_columns_are_lines():
    x = np.random.default_rng(0).normal(size=(50, 2))
    assert len(make_curve(0, x[:, 0], 0, 100).breakpoints) == 16
    assert [part.shape for part in make_curve(0, x[:, 0], 0, 500).parts] == [(2, 1)]


def test_repeated_values_keep_breakpoints_of_their_own():
    values = np.random.default_rng(0).normal(size=100)
    for count, x in ((100, np.repeat(values, 2)), (76, np.append(values, values[:99]))):
        assert len(make_curve(0, x, 0, 20).breakpoints) == count
    many = np.repeat(np.random.default_rng(0).normal(size=151), 2)
    assert len(make_curve(0, many, 0, 20).breakpoints) == 76
