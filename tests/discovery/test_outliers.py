"""`discover` on tables with wrong cells: the formula of the other rows, and how many it leaves."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens.discovery._smoothness import (
    distant_rows,
    exceptions,
    other_outliers,
    outlier_rows,
    unfollowed,
)
from kanlens.symbolic._validity import poles

X1, X2 = sympy.symbols("x1 x2")
TRUTHS = {
    "product": (lambda x: x[:, 0] * x[:, 1], X1 * X2, 1.0, 4.0),
    "ratio": (lambda x: x[:, 0] / (1 + x[:, 1]), X1 / (X2 + 1), 0.5, 4.0),
}


def with_wrong_cells(name, *, size, count, rows=300, noise=0.0, seed=0):
    """Return rows, a target whose first cells are wrong by some deviations, and the formula."""
    function, truth, low, high = TRUTHS[name]
    draw = np.random.default_rng(seed)
    x = draw.uniform(low, high, (rows, 2))
    y = function(x)
    spread = y.std()
    y = y + noise * spread * draw.normal(size=rows)
    y[:count] += size * spread * draw.choice((-1.0, 1.0), count)
    return x, y, truth


def found_in(x, y, time_limit=10.0):
    return kanlens.discover(x, y, time_limit=time_limit, progress=False)


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        *(("product", 1, 10.0), ("product", 5, 1e3)),
        *(("ratio", 5, 10.0), ("ratio", 1, 1e8)),
    ],
)
def test_wrong_cells_do_not_bend_the_formula(name, count, size):
    x, y, truth = with_wrong_cells(name, size=size, count=count)
    found = found_in(x, y)
    assert found.sympy() == truth
    assert found.stopped_because == "an exact formula was found"
    assert found.receipt.unfollowed_rows == count
    assert found.receipt.r2 == 1.0
    rows, were = ("row lies", "was") if count == 1 else ("rows lie", "were")
    expected = (
        f"WARNING: {count} more {rows} far from the formula and {were} left out of its fit "
        "and of these numbers."
    )
    assert expected in found.receipt.summary().splitlines()


@pytest.mark.slow  # searches formulas
def test_noise_and_wrong_cells_are_told_apart():
    x, y, truth = with_wrong_cells("product", size=10.0, count=5, noise=0.02)
    found = found_in(x, y)
    assert found.sympy() == truth
    assert found.stopped_because == "only noise was left"
    assert found.receipt.unfollowed_rows == 5


def test_wrong_cells_within_the_range_of_the_target_are_found_by_the_formula():
    x, y, truth = with_wrong_cells("product", size=0.0, count=0, noise=0.01)
    y[:4] = np.median(y)
    x[:4] = [[1.1, 1.2], [3.9, 3.8], [1.0, 1.5], [3.5, 3.9]]
    found = found_in(x, y)
    assert found.sympy() == truth
    assert found.receipt.unfollowed_rows == 4


def test_a_small_table_has_wrong_cells_too():
    x, y, truth = with_wrong_cells("product", size=1e3, count=1, rows=30)
    assert found_in(x, y).sympy() == truth


def test_rare_values_are_not_chased_with_poles():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    y = np.zeros(300)
    y[[3, 77]] = 1.0
    found = found_in(x, y, 1.0)
    assert found.sympy() == 0
    assert found.receipt.unfollowed_rows == 2
    assert not found.receipt.trustworthy or found.receipt.rmse == 0


@pytest.mark.slow  # searches a formula
def test_nothing_is_set_aside_where_the_formula_follows_it():
    draw = np.random.default_rng(0)
    x = draw.standard_cauchy(size=(400, 2))
    found = found_in(x, x[:, 0] * x[:, 1])
    assert found.sympy() == X1 * X2
    assert found.receipt.unfollowed_rows == 0
    jump = (x[:, 0] > 0).astype(float)
    assert found_in(x, jump, 0.5).receipt.unfollowed_rows == 0


def test_noise_with_heavy_tails_does_not_hide_the_formula():
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 4, (400, 2))
    found = found_in(x, x[:, 0] * x[:, 1] + 0.05 * draw.standard_cauchy(size=400))
    assert found.sympy() == X1 * X2
    assert found.receipt.r2 > 0.98


@pytest.mark.slow  # searches formulas
def test_a_target_that_is_told_by_nothing_is_no_worse_than_its_mean():
    draw = np.random.default_rng(0)
    x, y = draw.uniform(1, 4, (60, 2)), draw.normal(size=60)
    y[7] = 1e8
    found = found_in(x, y, 0.4)
    kept = np.arange(60) != 7
    error = found.predict(x[kept])[:, 0] - y[kept]
    assert np.mean(error**2) <= 1.1 * np.var(y[kept])


def test_wrong_rows_of_smooth_tables():
    draw = np.random.default_rng(0)
    x = draw.uniform(0, 3, (900, 3))
    y = (1 + x[:, 0]) * x[:, 1] + x[:, 2]
    assert not outlier_rows(x, y).any()
    y[[5, 400, 899]] += (50.0 * y.std(), -1e8, 1e4)
    assert np.flatnonzero(outlier_rows(x, y)).tolist() == [5, 400, 899]
    sound = np.setdiff1d(np.arange(900), (5, 400, 899))
    more = draw.uniform(0, 3, (5000, 3))
    values = (1 + more[:, 0]) * more[:, 1] + more[:, 2]
    values[17] = 1e5
    found = other_outliers(x[sound], y[sound], more, values)
    assert np.flatnonzero(found).tolist() == [17]
    half = np.where(x[:, 0] > 1.5, 1e6, 0.0)
    assert not outlier_rows(x, half).any()
    flat = np.zeros(900)
    flat[[5, 400, 899]] = 1.0
    assert np.flatnonzero(outlier_rows(x, flat)).tolist() == [5, 400, 899]
    assert np.flatnonzero(other_outliers(x, 0 * y, x, flat)).tolist() == [5, 400, 899]
    assert not outlier_rows(x, np.maximum(0, x[:, 0] - 2.9)).any()  # all at one end of a column
    assert not outlier_rows(x[:5], y[:5]).any()


def test_exceptions_are_few_and_alone():
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 4, (300, 2))
    made = x[:, 0] * x[:, 1]
    target = made.copy()
    target[[3, 50, 120]] += (5.0, -7.0, 1e6)
    assert np.flatnonzero(exceptions(x, made, target, 1e-24)).tolist() == [3, 50, 120]
    corner = made + 5.0 * ((x > 3.5).all(axis=1))
    assert not exceptions(x, made, corner, 1e-24).any()
    assert not exceptions(x, made, made + draw.normal(size=300), 1e-24).any()
    assert unfollowed(np.array([np.nan, 0.0, 0.0]), np.zeros(3)).tolist() == [True, False, False]


def test_a_pole_on_the_rows_or_between_them_is_never_trusted():
    x = sympy.Symbol("x", real=True)
    rows = np.linspace(0.0, 1.0, 40)[:, None]
    for inner in (x - 0.5001, (x - 0.5001) ** 2, (x - 0.3) * (x - 0.301)):
        assert poles((1 / inner,), (x,), rows), inner
    assert poles((sympy.tan(3 * x),), (x,), rows)
    for free in (1 / (x + 0.1), 1 / (1 + x**2), sympy.sqrt(x), sympy.exp(-1 / (x + 1))):
        assert not poles((free,), (x,), rows), free
    draw = np.random.default_rng(0)
    a, b = sympy.symbols("x1 x2", real=True)
    apart = draw.uniform(0, 1, (200, 2)) + np.array([1.0, 0.0])
    apart[:, 0] += apart[:, 1]
    assert not poles((1 / (a - b),), (a, b), apart)
    found = found_in(rows, 1 / (rows[:, 0] - 0.5001))
    assert found.receipt.explains
    assert not found.receipt.trustworthy
    assert "WARNING: the formula goes to infinity between the rows: " in found.receipt.summary()


@pytest.mark.slow
@pytest.mark.parametrize("cell", [1e5, -1e300])
def test_a_wrong_cell_of_a_feature_sets_its_row_aside(cell):
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 4, (6000, 2))
    y = x[:, 0] * x[:, 1] + 0.01 * draw.normal(size=6000)
    x[[10, 1001], 0] = cell
    found = found_in(x, y)
    assert found.sympy() == X1 * X2
    assert found.receipt.unfollowed_rows == 2


def test_a_heavy_tail_is_no_wrong_cell():
    x = np.random.default_rng(0).lognormal(sigma=3.0, size=(1000, 2))
    assert not distant_rows(x, x).any()


@pytest.mark.slow  # searches formulas
def test_rows_beyond_those_of_the_search_may_be_wrong_too():
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 4, (6000, 2))
    y = x[:, 0] * x[:, 1] + 0.01 * draw.normal(size=6000)
    y[[10, 999, 1000, 5001]] = (1e8, -500.0, 300.0, 1e5)
    found = found_in(x, y)
    assert found.sympy() == X1 * X2
    assert found.receipt.unfollowed_rows == 4
    assert found.receipt.trustworthy
