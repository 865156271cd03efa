"""What the front of every search holds: linear models, power laws, and curves of one column."""

import numpy as np
import pytest
import sympy

from kanlens._runtime import Deadline
from kanlens.discovery._ansatz import short_formulas
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._search_problem import SearchProblem
from kanlens.symbolic._simplification import complexity

NAMES = sympy.symbols("index people saving weeks", real=True)


def economy(rows=240):
    """Return columns that rise together month by month, and how many are without work."""
    draw = np.random.default_rng(0)
    months = np.linspace(0.0, 1.0, rows)
    walk = np.cumsum(draw.normal(size=rows)) / np.sqrt(rows)
    index = 0.5 * np.exp(2.5 * months) + 0.02 * draw.normal(size=rows)
    people = 0.2 + 0.12 * months + 0.001 * draw.normal(size=rows)
    saving = 12 - 7 * months + draw.normal(size=rows)
    weeks = 7 + 4 * months + 4 * np.abs(walk) + 0.5 * draw.normal(size=rows)
    target = 0.6 * np.log(weeks) + 0.5 * walk - 0.1 * index + 0.05 * draw.normal(size=rows)
    return np.stack((index, people, saving, weeks), axis=1), target


def finished(columns, target):
    held_out = np.arange(len(target)) % 3 == 0
    front = Front(SearchProblem(columns, NAMES, target, held_out), Deadline.after(30.0))
    front.start()
    short = short_formulas(front.problem, front)
    front.finish(Deadline.after(20.0), list(short))
    return front


def held_out_error(columns, target, places):
    """Return the error of a linear model on every third row, fitted to the others."""
    judged = np.arange(len(target)) % 3 == 0
    matrix = np.column_stack((np.ones(len(target)), columns[:, places]))
    weights = np.linalg.lstsq(matrix[~judged], target[~judged], rcond=None)[0]
    gap = matrix[judged] @ weights - target[judged]
    return float(np.mean(gap**2) / target[judged].var())


@pytest.mark.slow  # searches formulas
def test_no_linear_model_is_better_than_the_front_at_its_length():
    columns, target = economy()
    front = finished(columns, target)
    names = [str(name) for name in NAMES]
    for places in ([0], [1], [2], [3], [0, 1, 2, 3]):
        size = complexity(sympy.Add(0.5, *(0.5 * NAMES[k] for k in places)))
        least = min(e.error for e in front.entries if e.complexity <= size)
        limit = held_out_error(columns, target, places)
        assert least <= 1.02 * limit, [names[k] for k in places]


@pytest.mark.slow  # searches formulas
def test_a_curve_of_one_column_is_on_the_front():
    columns, _ = economy()
    bent = 3 * np.log(columns[:, 3]) + 0.2 * np.random.default_rng(1).normal(size=len(columns))
    entries = finished(columns, bent).entries
    single = [e for e in entries if e.expression.free_symbols == {NAMES[3]}]
    line = held_out_error(columns, bent, [3])
    assert min(entry.error for entry in single) < line
    assert any(e.complexity <= 8 and e.error < 0.9 * line for e in single)
