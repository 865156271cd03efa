"""Tests of sums of blocks: which there are, what each would gain, and what is found of them."""

import numpy as np
import pytest
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._blocks import BlockLibrary, SumOfBlocks, arguments
from tests.discovery.conftest import NAMES, problem, solved

A, B, *_ = NAMES


def test_functions_are_taken_of_products_and_sums_none_of_which_is_a_power_of_another():
    names = [each.name for each in arguments(problem("a"))]
    assert {A, B, A * B, A + B, B**2 + A} <= set(names)
    assert {A / B, B / A} & set(names)
    assert {A - B, B - A} & set(names)
    assert len(set(names)) == len(names)
    assert not {A**2, sympy.sqrt(A), 1 / A, A**2 * B**2} & set(names)


def test_no_column_of_both_signs_is_divided_by():
    library = BlockLibrary(problem("a", 3, low=-1.0), tuned.BLOCK_SUMS.pieces[0])
    powers = np.stack([each.powers for each in library.blocks])
    assert (powers >= 0).all()
    assert (powers == np.round(powers)).all()


def test_a_block_gains_what_least_squares_says():
    given = problem("a*sin(b*c) + c", 3, low=0.5, high=2.0)
    library = BlockLibrary(given, tuned.BLOCK_SUMS.pieces[0])
    begun = library.begun(given.target)
    first = int(library.gains(begun).argmax())
    total = begun.plus(first, library.columns(first))
    gains, rows = library.gains(total), library.rows

    def least(numbers):
        blocks = [*library.splines, *(library.blocks[k] for k in numbers)]
        parts = [each.matrix(given, tuned.BLOCK_SUMS.pieces[0])[0][rows] for each in blocks]
        matrix, y = np.column_stack((np.ones(len(rows)), *parts)), given.target[rows]
        left = y - matrix @ np.linalg.lstsq(matrix, y, rcond=1e-10)[0]
        return left @ left / np.square(y - y.mean()).sum()

    for k in np.linspace(0, len(gains) - 1, 12).astype(int):
        assert total.error - gains[k] == pytest.approx(least((first, k)), rel=0.05, abs=1e-5)


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("a*sin(b) + c*sin(9*(b - d)/10)", 4),
        ("exp(sin(2*a*b) - c**2*b)", 3),
        ("a*cos(4*b*c) + cos(4*b*c)**2", 3),
        ("a/sqrt(b) - 2*a**2*b", 2),
    ],
)
def test_a_sum_of_blocks_is_found(text, width):
    given = problem(text, width, low=0.5, high=2.0, count=600)
    assert solved(SumOfBlocks(), given).error <= tuned.EXACT
