"""Work that a time limit breaks off, by a clock that only moves as the tests say."""

import numpy as np
import pytest
import sympy
import torch

from kanlens._runtime import check_time, ending
from kanlens.discovery._regression import eliminate, quick_error, solve
from kanlens.discovery._smoothness import loo_error
from kanlens.symbolic._composition import evaluator
from kanlens.symbolic._edge_fitting import EdgeSamples, fit_edges
from kanlens.symbolic._joint_refit import minimize
from kanlens.symbolic._library import library
from kanlens.symbolic._simplification import shorten

X = sympy.Symbol("x", real=True)


def test_a_block_is_left_without_an_error(clock):
    with ending(3.0):
        clock.now = 2.9
        check_time()
        clock.now = 3.0
        check_time()
        pytest.fail("the time was over")
    check_time()


def test_the_earlier_end_counts(clock):
    with ending(9.0):
        with ending(2.0):
            clock.now = 2.0
            check_time()
            pytest.fail("the time was over")
        check_time()
        with ending(20.0):
            clock.now = 9.0
            check_time()
        pytest.fail("the time of both was over")


def test_least_squares_begins_no_step_too_late(clock):
    begun = []

    def residuals(p):
        begun.append(clock.now)
        return np.exp(p) - 3.0

    with ending(4.0):
        slopes = lambda p: np.exp(p)[:, None]  # noqa: E731
        minimize(clock.during(1.0, residuals), slopes, np.array([9.0]))
    assert 1.0 < max(begun) <= 4.0


def edges():
    x = torch.linspace(0.0, 3.0, 64, dtype=torch.float64)[None]
    low, high = x.amin(1), x.amax(1)
    fit_edges(EdgeSamples(x=x, y=torch.exp(x), low=low, high=high, uniform=64), library(["exp"]))


MATRIX = np.random.default_rng(0).normal(size=(50, 4))
STAGES = {
    "terms are dropped": lambda: eliminate(MATRIX, MATRIX[:, 0], np.arange(4)),
    "a fit is judged": lambda: quick_error(MATRIX, MATRIX[:, 0], np.arange(50) % 3 == 0),
    "a sum is fitted": lambda: solve(MATRIX, MATRIX[:, 0]),
    "rows are left out": lambda: loo_error(MATRIX, MATRIX[:, 0]),
    "functions are put on edges": edges,
    "a formula is shortened": lambda: shorten(X + X**2, (X,), MATRIX[:, :1]),
    "a formula is compiled": lambda: evaluator((X,), (X,)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_begins_too_late(stage, clock):
    with ending(clock.now):
        STAGES[stage]()
        pytest.fail("the time was over")
    STAGES[stage]()
