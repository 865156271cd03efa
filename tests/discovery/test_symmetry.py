"""Tests of symmetry on written-down functions that pass and that fail them, and on a network."""

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens._runtime import ending
from kanlens.discovery import _discover as discover
from kanlens.discovery import _search as search
from kanlens.discovery._search import Interpolator, joined_gap, unions
from kanlens.discovery._search_problem import SearchProblem
from kanlens.model import kernels
from kanlens.training._training_loop import TrainingRun
from tests.discovery.conftest import front_of
from tests.discovery.conftest import problem as uniform

A, B, C = sympy.symbols("a b c", real=True)
ERROR = 1e-4
ONES = np.ones(4)


def columns(width=3, *, low=1.0, high=3.0, count=400, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (count, width))


def slopes(function, x, step=1e-6):
    """Return central differences of a function of the columns."""
    found = []
    for i in range(x.shape[1]):
        move = np.zeros(x.shape[1])
        move[i] = step
        found.append((function(x + move) - function(x - move)) / (2 * step))
    return np.stack(found, axis=1)


def problem(function, x):
    return SearchProblem(x, (A, B, C)[: x.shape[1]], function(x), np.arange(len(x)) % 3 == 0)


def combinations(function, x, error=ERROR):
    """Return the combinations that slopes show, the surest first."""
    return [less.names[-1] for less in unions(problem(function, x), slopes(function, x), error)]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: np.sin(x[:, 0] - x[:, 1]) * x[:, 2], A - B),
        (lambda x: np.sin(x[:, 1] * x[:, 2]) + x[:, 0] ** 2, B * C),
        (lambda x: np.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2) / x[:, 2], A**2 + B**2),
        (lambda x: np.log(x[:, 0] ** 2 + x[:, 1]) * x[:, 2], A**2 + B),
        (lambda x: np.cos(x[:, 0] / np.sqrt(x[:, 1])) + x[:, 2], A**-2 * B),
        (lambda x: np.cos(x[:, 0] / x[:, 1]) + x[:, 2], A / B),
    ],
)
def test_columns_that_are_needed_only_together_are_found(function, name):
    x = columns()
    less, *_ = unions(problem(function, x), slopes(function, x), ERROR)
    assert less.names[-1] == name
    assert less.width == 2
    values = sympy.lambdify((A, B, C), name, "numpy")(*x.T)
    np.testing.assert_allclose(less.columns[:, -1], values, rtol=1e-12)


def test_a_weighted_sum_gets_its_weight():
    found, *_ = combinations(lambda x: np.sin(0.3 * x[:, 0] + x[:, 1]) * x[:, 2] ** 2, columns())
    assert float(found.coeff(A)) == pytest.approx(0.3, rel=1e-6)
    assert found.coeff(B) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.sin(x[:, 0] * x[:, 1]) + x[:, 2] ** x[:, 0],
        lambda x: (
            x[:, 0] * np.sin(3 * x[:, 1]) + x[:, 1] * x[:, 2] ** 2 + np.cos(x[:, 0] * x[:, 2])
        ),
    ],
)
def test_functions_without_symmetry_show_none(function):
    assert combinations(function, columns()) == []


def test_what_counts_as_equal_depends_on_the_error():
    def nearly(x):
        return np.sin(x[:, 0] - x[:, 1]) + 0.05 * x[:, 0]

    x = columns(2)
    assert combinations(nearly, x, error=1e-7) == []
    assert A - B in combinations(nearly, x, error=1e-2)


def test_gaps_are_between_0_and_1():
    assert joined_gap((ONES, -ONES), (ONES, -ONES)) == 0.0
    assert joined_gap((ONES, ONES), (ONES, -ONES)) == 1.0


@pytest.mark.slow  # trains networks
def test_a_network_knows_slopes():
    given = uniform("a*sin(b)", count=150)
    found = Interpolator.of(given)
    assert found.error < 1e-2
    x, slopes = torch.from_numpy(given.columns), found.slopes
    for i in range(2):
        move = torch.zeros(2, dtype=torch.float64)
        move[i] = 1e-6
        with torch.no_grad():
            high, low = (found.network(x + s * move)[:, 0].numpy() for s in (1, -1))
        np.testing.assert_allclose(slopes[:, i], (high - low) / 2e-6, rtol=1e-4, atol=1e-6)


def test_few_rows_give_no_network_and_training_ends_in_time(clock, monkeypatch):
    assert Interpolator.of(uniform("a", count=20)) is None
    monkeypatch.setattr(TrainingRun, "_one_step", clock.during(2.0, TrainingRun._one_step))
    with ending(3.0):
        Interpolator.of(uniform("a*b", count=60))
        pytest.fail("the time was over")
    assert clock.now == 4.0


@pytest.mark.slow  # searches formulas
def test_a_symmetry_is_used_in_spite_of_noise(monkeypatch):
    given, seen, real = uniform("exp(-(a - b)**2)", noise=0.007, count=200), [], search.search

    def watched(part, *rest, **how):
        seen.append(part.names)
        real(part, *rest, **how)

    monkeypatch.setattr(search, "search", watched)
    front = front_of(given, 60.0)
    search.explore(given, front)
    assert (A - B,) in seen
    made = front.values(front.chosen().expression)
    truth = np.exp(-((given.columns[:, 0] - given.columns[:, 1]) ** 2))
    assert np.mean((made - truth) ** 2) < 1e-3 * truth.var()


@pytest.mark.slow  # searches formulas
def test_training_is_repeatable_and_draws_nothing():
    given, state = uniform("a*b", count=60), torch.get_rng_state()
    first, second = (Interpolator.of(given).slopes for _ in "ab")
    np.testing.assert_array_equal(first, second)
    assert bool((torch.get_rng_state() == state).all())


def test_networks_do_not_wait_for_kernels(monkeypatch):
    given, seen = uniform("a*b"), []
    monkeypatch.setattr(Interpolator, "of", lambda _: seen.append(kernels.ASKED.get()))
    search.explore(given, front_of(given, 60.0))
    assert seen == ["auto"]


def test_no_network_is_trained_for_what_is_found_anyway(monkeypatch):
    monkeypatch.setattr(Interpolator, "of", pytest.fail)
    x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    made = kanlens.discover(x, x[:, 0] / x[:, 1], progress=False)
    assert made.stopped_because == discover.StopReason.EXACT
