"""The time that `discover` takes, by a clock that moves with what is computed."""

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens._runtime import NEVER, Deadline, check_time, ending
from kanlens.discovery import _search as search
from kanlens.discovery import _smoothness as smoothness
from kanlens.discovery._network_ansatz import trained, views
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._scaling import table_of
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._search_schedule import BudgetedFront
from kanlens.discovery._symmetry import effects
from kanlens.model import kernels
from kanlens.training._training_loop import TrainingRun

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
    assert found.stopped_because == "the time was over"
    assert clock.now <= 1.1 * limit


def test_looking_for_wrong_rows_takes_its_share_of_the_time(clock, monkeypatch):
    monkeypatch.setattr(smoothness, "left_out", clock.during(1.0, smoothness.left_out))
    sample = table_of(*table(), None, None, seconds=2.0)
    assert clock.now == 2.0
    assert len(sample.y) == 60


def test_no_step_of_training_begins_that_would_end_too_late(clock, monkeypatch):
    monkeypatch.setattr(TrainingRun, "_one_step", clock.during(2.0, TrainingRun._one_step))
    generator = torch.Generator().manual_seed(0)
    found = trained(given(), [3, 1], views(given())[0], Deadline.after(9.0), generator, 24)
    assert np.isfinite(found.error)
    assert clock.now == 8.0


def test_a_network_is_not_asked_too_late(clock):
    generator = torch.Generator().manual_seed(0)
    found = trained(given(), [3, 1], views(given())[0], Deadline.after(9.0), generator, 1)
    with ending(clock.now):
        effects(found, given().columns)
        pytest.fail("the time was over")


@pytest.mark.parametrize(("end", "path"), [(NEVER, "auto"), (60.0, "auto")])
def test_networks_do_not_wait_for_kernels(monkeypatch, end, path):
    problem, seen = given(), []
    front = BudgetedFront(Front(problem, end if end is NEVER else Deadline.after(end)))
    monkeypatch.setattr(search, "interpolator", lambda *_: seen.append(kernels.asked()))
    search.explore(problem, front, torch.Generator())
    assert seen == [path]


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
