import numpy as np
import pytest
import sympy

from kanlens.symbolic._validity import broken_parts, dips, poles, valid_ranges, vanishes, wider

x, y = sympy.symbols("x y", real=True)
POINTS = np.random.default_rng(0).uniform(1.0, 3.0, (300, 2))
POINTS[:4] = [[1, 1], [1, 3], [3, 1], [3, 3]]


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        (1 / (x - 2), "1/(x - 2)"),
        (1 / (x - 2) ** 2, "(x - 2)**(-2)"),
        (sympy.log(x - 0.95), "log(x - 0.95)"),
        (sympy.sqrt(x - 0.99) + y, "sqrt(x - 0.99)"),
        ((y - 0.95) ** -0.5, "(y - 0.95)**(-0.5)"),
        (sympy.asin(x / 3), "asin(x/3)"),
        (sympy.atanh(x / 3), "atanh(x/3)"),
        (sympy.acosh(x), "acosh(x)"),
        (sympy.tan(x), "tan(x)"),
        (sympy.exp(1 / (x - y)), "1/(x - y)"),
        (1 / (x**2 - 4 * x + 4), "1/(x**2 - 4*x + 4)"),  # which no two points show
        (1 / sympy.Abs(x - 2.1), "1/Abs(x - 2.1)"),
        (sympy.log((x - 2) ** 2), "log((x - 2)**2)"),
        (1 / ((x - 2) ** 2 + (y - 2.2) ** 2), "1/((x - 2)**2 + (y - 2.2)**2)"),
        (1 / (x**2 * y**2 - 8 * x * y + 16), "1/(x**2*y**2 - 8*x*y + 16)"),
        (1 / ((x - 2) ** 2 - 1e-13), "1/((x - 2)**2 - 1.0e-13)"),
        (sympy.atanh(sympy.sin(x)), "atanh(sin(x))"),
        (sympy.sqrt((x - 2) ** 2 - 1e-9), "sqrt((x - 2)**2 - 1.0e-9)"),
        (sympy.cot(x + 0.5), "cot(x + 0.5)"),
        (sympy.sec(x), "sec(x)"),
        (sympy.gamma(x - 3), "the formula as a whole"),
        (sympy.Piecewise((0, x < 1.5), (1 / (x - 2), True)), "the formula as a whole"),
        (sympy.exp(300 * x**2), "the formula as a whole"),
    ],
)
def test_what_breaks_is_named(formula, part):
    assert broken_parts((x, formula), (x, y), POINTS) == (part,)


@pytest.mark.parametrize(
    "formula",
    [
        1 / (x**2 + 1),
        sympy.log(x),
        sympy.sqrt(x),
        1 / x,
        sympy.tan(x / 3),
        sympy.Integer(1),
        1 / ((x - 2) ** 2 + 1e-4),
        sympy.log((x - 2) ** 2 + 1e-3),
        sympy.sqrt((x - 2) ** 2),
        1 / sympy.exp(-100 * x),
        sympy.exp(100 * (x - y)),
        1 / sympy.cosh(20 * (x - 2)),
        sympy.asin(sympy.sin(x)),
        1 / (x * y),
        sympy.Piecewise((0, x < 1.5), (1 / (x - 1), True)),
    ],
)
def test_what_holds_is_not_named(formula):
    assert broken_parts((formula,), (x, y), POINTS) == ()


def test_ranges_end_before_the_pole():
    ranges = valid_ranges((1 / (4 - x) + sympy.log(y),), (x, y), POINTS)
    assert ranges["x"][0] == -1.0
    assert 3.98 < ranges["x"][1] < 4
    assert 0 < ranges["y"][0] < 0.02
    assert ranges["y"][1] == 5.0
    assert set(valid_ranges((x,), (x, y), POINTS)) == {"x"}
    assert valid_ranges((sympy.Integer(3),), (x, y), POINTS) == {}


def test_a_pole_that_moves_with_another_feature_is_met_first_by_the_worst_row():
    low, high = valid_ranges((1 / (x - y - 3),), (x, y), POINTS)["x"]
    assert low == -1.0
    assert 3.9 < high < 4.0 + 1e-9  # y is 1 in some row


@pytest.mark.parametrize(
    "formula", [1 / sympy.Abs(x - 4), 1 / (x**2 - 8 * x + 16), sympy.log((x - 4) ** 2)], ids=str
)
def test_ranges_end_before_a_place_that_no_sign_gives_away(formula):
    low, high = valid_ranges((formula,), (x, y), POINTS)["x"]
    assert low == -1.0
    assert 3.98 < high < 4.0
    smooth = formula.subs(x, sympy.sqrt((x - 4) ** 2 + 0.01) + 4)
    assert valid_ranges((smooth,), (x, y), POINTS)["x"] == (-1.0, 5.0)


def test_a_constant_feature_has_a_range_of_one_value():
    points = np.stack([POINTS[:, 0], np.full(len(POINTS), 2.0)], axis=1)
    assert valid_ranges((1 / (x + y),), (x, y), points)["y"] == (2.0, 2.0)
    assert broken_parts((1 / (x - y) ** 2,), (x, y), points) == ("(x - y)**(-2)",)


def test_wider_points_fill_five_percent_more():
    points = wider(POINTS)
    np.testing.assert_allclose(points.min(axis=0), 0.9)
    np.testing.assert_allclose(points.max(axis=0), 3.1)


def test_the_rows_that_break_first_are_swept():
    points = np.random.default_rng(1).uniform(1.0, 3.0, (2000, 2))
    points[777] = [2.0, 3.9]  # alone out there
    low, _ = valid_ranges((sympy.log(x - y + 3),), (x, y), points)["x"]
    assert 0.9 <= low < 0.92


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


@pytest.mark.parametrize("size", [1.0, 1e6, 1e9])
@pytest.mark.parametrize("center", [3.0, -0.37e6])
def test_a_pole_is_told_from_a_narrow_minimum_on_a_wide_range(size, center):
    points = np.random.default_rng(0).uniform(center - size, center + size, (300, 1))
    tight = 1 / ((x - center) ** 2 + 1)
    assert broken_parts((tight,), (x,), points) == ()
    assert poles((tight, 1 / sympy.expand((x - center) ** 2 + 1)), (x,), points) == ()
    assert len(broken_parts((1 / (x - center) ** 2,), (x,), points)) == 1
    assert len(broken_parts((1 / sympy.Abs(x - center),), (x,), points)) == 1


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
    rows = np.linspace(0.0, 1.0, 10)[:, None]
    assert poles((1 / (x - 0.51) ** 2 + 1 / (x + 0.01),), (x,), rows) == ("(x - 0.51)**(-2)",)
