"""Shapes of curves as inequalities, and the nearest fit that keeps them."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, minimize

from kanlens.training._constraints import SHAPES, inequalities, nearest_feasible, shaped

KNOTS = np.array([0.0, 0.5, 0.7, 2.0, 2.1, 5.0])
CURVES = {
    "increasing": np.sqrt,
    "decreasing": lambda x: -(x**3),
    "convex": lambda x: (x - 1) ** 2,
    "concave": np.log1p,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_inequalities_hold_for_a_curve_of_the_shape_alone(shape):
    for other, curve in CURVES.items():
        holds = (inequalities(KNOTS, shape) @ curve(KNOTS) >= -1e-12).all()
        pairs = {("increasing", "concave"), ("concave", "increasing"), ("decreasing", "concave")}
        assert holds == (shape == other or (other, shape) in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_point_is_that_of_a_general_solver(shape, seed):
    draw = np.random.default_rng(seed)
    factor, point = draw.normal(size=(6, 6)), draw.normal(size=6)
    gram, cone = factor @ factor.T + 0.1 * np.eye(6), inequalities(KNOTS, shape)
    found = nearest_feasible(point, np.linalg.inv(gram), cone)
    assert (cone @ found).min() > -1e-9

    def distance(values):
        return (values - point) @ gram @ (values - point)

    rows = {"type": "ineq", "fun": lambda values: cone @ values}
    best = minimize(distance, np.zeros(6), constraints=rows, method="SLSQP", tol=1e-14)
    assert distance(found) <= best.fun * (1 + 1e-6)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_on_weighted_heights_it_is_isotonic_regression():
    draw = np.random.default_rng(0)
    knots, heights, weights = np.arange(60.0), draw.normal(size=60), draw.uniform(0.1, 3, 60)
    cone = inequalities(knots, "increasing")
    found = nearest_feasible(heights, np.diag(1 / weights), cone)
    expected = isotonic_regression(heights, weights=weights).x
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert nearest_feasible(expected, np.eye(60), cone) is expected


@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_is_removed_exactly(shape):
    draw = np.random.default_rng(1)
    heights = CURVES[shape](KNOTS)
    fuzzy = heights + 1e-13 * draw.normal(size=6)
    clean = shaped(KNOTS, fuzzy, shape)
    np.testing.assert_allclose(clean, heights, atol=1e-11)
    order, sign = SHAPES[shape]
    if order == 1:
        assert (sign * np.diff(clean) >= 0).all()
