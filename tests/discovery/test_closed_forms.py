"""Small pieces of the search, each with an answer that can be written down."""

import numpy as np
import pytest
import sympy

from kanlens.discovery._additive import functions_of
from kanlens.discovery._ansatz import atoms
from kanlens.discovery._monomials import evaluate, monomial, total_degree
from kanlens.discovery._pareto_front import Entry, count_free
from kanlens.discovery._regression import (
    Basis,
    away,
    best_pairs,
    relative_error,
    solve,
    spread_rows,
    varies,
    weighted,
)
from kanlens.discovery._scaling import Scale, as_array, number, resolved, rounding_step, shortest
from kanlens.discovery._search_problem import raised
from kanlens.discovery._smoothness import (
    distant_rows,
    loo_error,
    outlier_rows,
    unfollowed,
)

X, Y = sympy.symbols("x y", positive=True)
LINE = np.linspace(0.0, 1.0, 50)[:, None]
UNIFORM = np.random.default_rng(0).uniform(1.0, 2.0, (300, 3))


def spiked(values):
    values = values.copy()
    values[7] = 1e8
    return values


def listed(value):
    return value.tolist() if hasattr(value, "tolist") else value


ONES = np.ones(4)
CLOSED_FORMS = [
    (relative_error(np.zeros(2), np.array([-1.0, 1.0])), 1.0),
    (relative_error(np.array([np.inf, 0.0]), np.array([-1.0, 1.0])), np.inf),
    (relative_error(np.ones(2), np.ones(2)), 0.0),
    (relative_error(np.zeros(2), np.ones(2)), np.inf),
    (weighted(None, ONES, 2 * ONES)[1], [2.0] * 4),
    (weighted(np.array([2.0]), np.array([[1.0, 3.0]]), np.array([5.0]))[0], [[2.0, 6.0]]),
    (weighted(np.array([2.0]), np.array([[1.0, 3.0]]), np.array([5.0]))[1], [10.0]),
    (solve(np.array([[1e9, 0.0], [0.0, 0.0]]), np.array([2e9, 1.0])), [2.0, 0.0]),
    (Basis(LINE[:, 0], 5).at(np.zeros(1)).shape, (1, 8)),
    (len(Basis(LINE[:, 0], 5).grid), 128),
    (varies(np.array([1.0, 1.0 + 1e-15])), False),
    (away(np.array([[1.0, 0.0], [-2.0, 1.0]])), [True, False]),
    (spread_rows(5, 3), [0, 2, 4]),
    (spread_rows(2, 3), [0, 1]),
    (sympy.sin(sympy.Symbol("_u", real=True)) in atoms(), True),
    (Entry(2.5 * X, 0.1, 3).length, 9),
    (count_free(2.5 * X ** sympy.Rational(7, 5)), 1.5),
    (total_degree(2, 1), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]),
    (len(total_degree(6, 2)), 28),
    (total_degree(10, 1), []),
    (monomial((X, Y), (0.5, -1.0)), sympy.sqrt(X) / Y),
    (evaluate(np.array([[2.0, 4.0]]), [(0.0, 0.0), (2.0, 0.5)]), [[1.0, 8.0]]),
    (raised(np.array([-2.0, 3.0]), 2.0), [4.0, 9.0]),
    (raised(np.array([-4.0]), 0.5), [2.0]),
    (np.flatnonzero(outlier_rows(LINE, spiked(np.sin(3 * LINE[:, 0])))), [7]),
    (np.flatnonzero(distant_rows(spiked(LINE), spiked(LINE))), [7]),
    (unfollowed(np.arange(5.0), np.array([0.0, 1, 2, 30, 4])), [False, False, False, True, False]),
    (loo_error(LINE, np.sin(3 * LINE[:, 0])) < 1e-6, True),
    (loo_error(LINE, np.ones(50)), 0.0),
    (loo_error(np.ones((50, 1)), LINE[:, 0]), 1.0),
    (best_pairs(UNIFORM, UNIFORM[:, 2] - UNIFORM[:, 1])[0][1], (1, 2)),
    (Scale.of(1e9 + np.arange(8.0)).shift, 10**9),
    (Scale.of(np.array([2e-7, 1e-6])).power, -6),
    (resolved(np.array([0.3, 0.1 + 0.2])), False),
    (resolved(1e15 + np.arange(3.0)), True),
    (rounding_step(np.array([-1e16, 3.0])), 2.0),
    (shortest(1000000000.0000001, 1e-6), 10**9),
    (shortest(1e9 + 0.1230000001, 1e-6), sympy.Float(1000000000.123)),
    (number(3.0), 3),
    (number(0.25), 0.25),
    (as_array([1, 2], "x"), [1.0, 2.0]),
]


@pytest.mark.parametrize(("made", "expected"), CLOSED_FORMS)
def test_what_can_be_written_down_is_that(made, expected):
    assert listed(made) == expected


def test_exponentials_are_only_of_small_values():
    names = [name for name, _ in functions_of(X, np.array([-20.0, 1.0]))]
    assert names == [sympy.sin(X), sympy.cos(X), sympy.tanh(X), 1 / sympy.tan(X)]
    assert len(functions_of(X, np.array([1.0, 2.0]))) == 8
