"""Zeros that no two points give away, against quantities that only come near."""

import numpy as np
import pytest
import sympy

from kanlens.symbolic.validity import dips, poles, vanishes

LOW, HIGH = np.array([-1.0, 0.0]), np.array([2.0, 3.0])
STARTS = np.array([[0.1, 0.3], [1.7, 2.9], [-0.9, 1.4]])


@pytest.mark.parametrize(
    ("margin", "zero"),
    [
        (lambda x: (x[:, 0] - 0.7) ** 2, True),
        (lambda x: np.abs(x[:, 0] - 0.7), True),
        (lambda x: np.abs(x[:, 0] * x[:, 1] - 0.5), True),
        (lambda x: (x[:, 0] - 1) ** 2 + (x[:, 1] - 1) ** 2, True),
        (lambda x: x[:, 0] ** 2 - 1.4 * x[:, 0] + 0.49, True),  # 1e-16 by rounding
        (lambda x: x[:, 1] - 0.5, True),  # below zero
        (lambda x: np.where(x[:, 1] > 2.95, np.nan, np.abs(x[:, 0] - 0.5)), True),
        (lambda x: 1e-30 * np.abs(x[:, 0] - 0.7), True),
        (lambda x: (x[:, 0] - 0.7) ** 2 + 1e-6, False),
        (lambda x: np.exp(-100 * x[:, 0]), False),
        (lambda x: 1 + x[:, 0], True),  # at the edge of the box
        (lambda x: 1.01 + x[:, 0], False),
        (lambda x: np.ones(len(x)), False),
        (lambda x: np.full(len(x), np.nan), False),
    ],
)
def test_zeros_are_told_from_small_values(margin, zero):
    found, points = vanishes(margin, STARTS, LOW, HIGH)
    assert found.tolist() == [zero] * 3
    assert ((points >= LOW) & (points <= HIGH)).all()
    if zero:
        assert (np.abs(margin(points)) < 1e-6).all() or (margin(points) <= 0).any()


def test_every_start_may_have_its_box():
    low, high = STARTS - 0.2, STARTS + 0.2
    found, points = vanishes(lambda x: np.abs(x[:, 0] - 0.2), STARTS, low, high)
    assert found.tolist() == [True, False, False]
    assert ((points >= low) & (points <= high)).all()


def test_a_box_without_width():
    one = np.array([[1.0]])
    assert not vanishes(lambda x: x[:, 0], one, one[0], one[0])[0][0]
    assert vanishes(lambda x: x[:, 0] - 1, one, one[0], one[0])[0][0]


def test_dips_are_where_a_kink_may_be():
    places = np.linspace(0, 1, 11)
    margins = np.stack([np.abs(places - 0.42), (places - 0.42) ** 2 + 1, places], axis=1)
    assert dips(margins).tolist() == [[4, 0]]


def test_parts_that_go_to_infinity_between_the_rows_are_named():
    x, rows = sympy.Symbol("x", real=True), np.linspace(0.0, 1.0, 10)[:, None]
    assert poles((1 / (x - 0.51) ** 2 + 1 / (x + 0.01),), (x,), rows) == ("(x - 0.51)**(-2)",)
