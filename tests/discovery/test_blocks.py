"""Tests of sums of blocks: which there are, what each would gain, and what is found of them."""

import numpy as np
import pytest
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.blocks import BlockLibrary, SumOfBlocks, arguments
from kanlens.discovery.front import Front
from kanlens.discovery.problems import SearchProblem
from kanlens.long_work import Deadline

NAMES = sympy.symbols("a b c d", real=True)
A, B, C, D = NAMES


def problem(function, width, *, low=0.5, count=600):
    x = np.random.default_rng(0).uniform(low, 2.0, (count, width))
    return SearchProblem(x, NAMES[:width], function(*x.T), np.arange(count) % 3 == 0)


def test_functions_are_taken_of_products_and_sums_none_of_which_is_a_power_of_another():
    found = [each.name for each in arguments(problem(lambda a, b: a, 2))]
    assert {A, B, A * B, A + B, B**2 + A} <= set(found)
    assert {A / B, B / A} & set(found)
    assert {A - B, B - A} & set(found)
    assert len(set(found)) == len(found)
    assert not {A**2, sympy.sqrt(A), 1 / A, A**2 * B**2} & set(found)


def test_no_column_of_both_signs_is_divided_by():
    given = problem(lambda a, b, c: a, 3, low=-1.0)
    blocks = BlockLibrary.of(given, tuned.BLOCK_SUMS.pieces[0]).blocks
    powers = np.stack([each.powers for each in blocks])
    assert (powers >= 0).all()
    assert (powers == np.round(powers)).all()


def test_a_block_gains_what_least_squares_says():
    given = problem(lambda a, b, c: a * np.sin(b * c) + c, 3, count=300)
    library = BlockLibrary.of(given, tuned.BLOCK_SUMS.pieces[0])
    begun = library.begun(given.target)
    first = int(library.gains(begun).argmax())
    total = begun.plus(first, library.columns(first))
    gains, rows = library.gains(total), library.rows

    def least(numbers):
        blocks = [*library.beside, *(library.blocks[k] for k in numbers)]
        parts = [each.matrix(given, tuned.BLOCK_SUMS.pieces[0])[0][rows] for each in blocks]
        matrix, y = np.column_stack((np.ones(len(rows)), *parts)), given.target[rows]
        left = y - matrix @ np.linalg.lstsq(matrix, y, rcond=1e-10)[0]
        return left @ left / np.square(y - y.mean()).sum()

    for k in np.linspace(0, len(gains) - 1, 12).astype(int):
        assert total.error - gains[k] == pytest.approx(least((first, k)), rel=0.05, abs=1e-5)


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda a, b, c, d: a * np.sin(b) + c * np.sin(0.9 * (b - d)), 4),
        (lambda a, b, c, d: a * c * np.exp(-1.1 / d) + d * np.log(b), 4),
        (lambda a, b, c: np.exp(np.sin(2 * a * b) - c**2 * b), 3),
        (lambda a, b, c: np.tanh(np.cos(2 * a) / b - c), 3),
        (lambda a, b, c: a * np.cos(4 * b * c) + np.cos(4 * b * c) ** 2, 3),
        (lambda a, b: a / np.sqrt(b) - 2 * a**2 * b, 2),
    ],
)
def test_a_sum_of_blocks_is_found(function, width):
    given = problem(function, width)
    front = Front(given, Deadline.after(600.0))
    front.start()
    SumOfBlocks().offer(given, front)
    assert front.best_error <= tuned.EXACT


def test_what_is_no_sum_of_few_blocks_is_not_taken_for_one():
    given = problem(lambda a, b, c: np.sin(3 * a * b + np.exp(b * c)), 3)
    front = Front(given, Deadline.after(600.0))
    front.start()
    SumOfBlocks().offer(given, front)
    assert front.best_error > 1e-3


@pytest.mark.parametrize("count", [3, 5, 12])
def test_few_rows_do_no_harm(count):
    given = problem(lambda a, b: a * np.sin(b), 2, count=count)
    front = Front(given, Deadline.after(600.0))
    front.start()
    SumOfBlocks().offer(given, front)
    assert front.entries
