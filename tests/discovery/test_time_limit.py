"""The time that `discover` takes, by a clock that moves with what is computed."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens._runtime import Deadline, check_time, ending
from kanlens.discovery import _smoothness as smoothness
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._scaling import table_of
from kanlens.discovery._search_problem import SearchProblem

LIMIT = 60.0
NAMES = sympy.symbols("a b c", real=True)
COSTLY = ("inv", "lstsq", "qr", "solve", "svd")  # of NumPy's linear algebra


def table(count=60):
    draw = np.random.default_rng(0)
    return draw.uniform(1.0, 4.0, (count, 3)), draw.normal(size=count)


def given():
    x, y = table()
    return SearchProblem(x, NAMES, y, np.arange(len(y)) % 3 == 0)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_nothing_long_begins_after_the_limit(clock, monkeypatch, limit):
    for name in COSTLY:
        slow = clock.during(0.02, getattr(np.linalg, name))
        monkeypatch.setattr(np.linalg, name, slow)
    found = kanlens.discover(*table(), time_limit=limit, progress=False)
    assert found.stopped_because == "the time limit was reached"
    assert clock.now <= 1.1 * limit


def test_looking_for_wrong_rows_takes_its_share_of_the_time(clock, monkeypatch):
    monkeypatch.setattr(smoothness, "left_out", clock.during(1.0, smoothness.left_out))
    sample = table_of(*table(), None, None, seconds=2.0)
    assert clock.now == 2.0
    assert len(sample.y) == 60


def test_an_exact_formula_that_came_late_is_still_put_exactly(clock, monkeypatch):
    x, _ = table()
    real = Front._put_exactly

    def late(self, entry):
        monkeypatch.setattr(Front, "_put_exactly", real)
        clock.now = 0.86 * LIMIT
        check_time()

    monkeypatch.setattr(Front, "_put_exactly", late)
    y = x[:, 0] * x[:, 1] / 2
    found = kanlens.discover(x, y, ["a", "b", "c"], time_limit=LIMIT, progress=False)
    assert found.sympy() == sympy.sympify("a*b/2")


def test_an_exact_formula_holds_no_rounding_though_its_time_is_over(monkeypatch):
    x, _ = table()
    problem = SearchProblem(x, NAMES, x[:, 0] * x[:, 1], np.zeros(len(x), dtype=bool))
    front = Front(problem, Deadline.after(LIMIT))
    monkeypatch.setattr(Front, "_put_exactly", lambda *_: None)
    a, b, c = NAMES
    front.start()
    front.submit(a * b + 4.3e-17 * sympy.sin(12.24 * c + 0.1))
    assert front.chosen().expression == a * b


def test_rows_beside_are_told_in_parts_and_broken_off(clock):
    draw = np.random.default_rng(0)
    x, others = draw.normal(size=(40, 2)), draw.normal(size=(700, 2))
    y, nugget = np.sin(x[:, 0]), np.full(40, 1e-2)
    told, unsure = smoothness.predicted(x, y, others, 1.0)

    def near(a, b):
        return np.exp(-0.25 * np.square(a[:, None] - b).sum(2))

    matrix = near(x, x) + np.diag(nugget)
    np.testing.assert_allclose(told, near(others, x) @ np.linalg.solve(matrix, y), atol=1e-9)
    left = 1 - (near(others, x) * np.linalg.solve(matrix, near(x, others)).T).sum(1)
    np.testing.assert_allclose(unsure, left, atol=1e-9)
    with ending(-1.0):
        smoothness.predicted(x, y, others, 1.0)
        pytest.fail("the time was over")
