"""What a formula explains does not depend on scale, offset or the number of rows."""

import numpy as np
import pytest
import sympy
import torch

from kanlens.symbolic.receipt import EXPLAINED, count_all_numbers, enough, examine

A, B = sympy.symbols("a b", real=True)
FORMULAS = {"product": A * B, "parabola": 2 * A**2 + 1, "wave": sympy.exp(B**2 + sympy.sin(A))}


def table(formula, rows, scale=1, offset=0):
    """Return a formula in other units, and rows on which it is exact."""
    x = np.random.default_rng(rows).uniform(0.5, 2.0, (rows, 2))
    whole = sympy.Float(scale) * formula + sympy.Float(offset) if scale != 1 or offset else formula
    y = sympy.lambdify((A, B), whole, "numpy")(*x.T)
    return whole, torch.from_numpy(x), torch.from_numpy(y)[:, None]


def receipt(formula, x, y, **known):
    return examine((formula,), None, x, y, feature_names=["a", "b"], **known)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_exact_formula_is_trusted_from_few_rows_on(name):
    trusted = []
    for rows in (*range(2, 12), 20, 50):
        found = receipt(*table(FORMULAS[name], rows))
        assert found.explains, rows
        assert "unexplained" not in found.summary()
        assert found.trustworthy == found.enough_rows
        trusted.append(found.trustworthy)
    first = trusted.index(True)
    assert all(trusted[first:])
    assert first + 2 == {"product": 3, "parabola": 6, "wave": 5}[name]


def test_too_few_rows_are_called_that():
    found = receipt(*table(FORMULAS["parabola"], 4))
    text = "NOTE: the formula explains y, but others may: there are too few different rows."
    assert text in found.summary().splitlines()


def test_rows_that_are_alike_count_once():
    formula, x, y = table(FORMULAS["parabola"], 4)
    x, y = x.repeat(9, 1), y.repeat(9, 1)
    x[:, 1] = torch.linspace(0, 1, 36)  # of which the formula knows nothing
    found = receipt(formula, x, y)
    assert (found.rows, found.fitted_rows) == (36, 4)
    assert not found.enough_rows
    assert receipt(formula, x, y, fitted_to=x, chosen_on=True).enough_rows == found.enough_rows
    assert receipt(sympy.Float(1.5), x, 0 * y + 1.5).fitted_rows == 36
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 2.0]], dtype=torch.float64)
    assert receipt(A, zeros, zeros[:, :1]).fitted_rows == 1


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30, 1e200, 1e-200])
@pytest.mark.parametrize("rows", [10, 50])
def test_scale_does_not_matter(scale, rows):
    found = receipt(*table(FORMULAS["wave"], rows, scale))
    assert found.trustworthy
    assert found.r2 == pytest.approx(1.0, abs=1e-14)
    assert found.rmse <= 1e-15 * scale * 100


@pytest.mark.parametrize("offset", [1e3, -1e9, 1e15])
def test_what_rounding_leaves_open_counts_as_explained(offset):
    """Nearest to the last digit of y there is no better formula, whatever R2 says."""
    found = receipt(*table(FORMULAS["product"], 50, 1.0, offset))
    assert found.explains
    _, x, y = table(FORMULAS["product"], 50)
    x1 = receipt(sympy.Float(offset) + A, x, y + offset)
    assert not x1.explains or abs(offset) > 1e14


def test_noise_is_not_explained_by_as_many_numbers_as_rows():
    """A polynomial through all points says nothing; with a row to spare for each, it is tested."""
    draw = np.random.default_rng(0)
    for rows in (*range(3, 15), 20, 29):
        x, y = draw.uniform(-1, 1, (rows, 2)), draw.normal(size=rows)
        for degree in range(1, min(rows, 9)):
            c = np.polynomial.polynomial.polyfit(x[:, 0], y, degree)
            formula = sum(sympy.Float(float(v)) * A**k for k, v in enumerate(c))
            found = receipt(formula, torch.from_numpy(x), torch.from_numpy(y)[:, None])
            assert not found.trustworthy, (rows, degree)


def test_rows_held_out_need_pay_for_nothing():
    formula = FORMULAS["wave"]
    shares = np.array([1 - EXPLAINED])
    assert enough((formula,), shares, 4, held_out=True)
    assert not enough((formula,), shares, 2, held_out=True)
    assert not enough((formula,), shares, 4)
    assert not enough((formula,), np.array([np.nan]), 1000)
    rows = table(formula, 40)
    x, y = rows[1], rows[2]
    chosen = receipt(formula, x[:6], y[:6], fitted_to=x[6:], chosen_on=True)
    assert (chosen.rows, chosen.held_out, chosen.chosen_on) == (6, False, True)
    assert chosen.summary().startswith("Checked on the 6 rows that chose it.\n")
    other = receipt(formula, x[:6], y[:6], fitted_to=x[6:])
    assert (other.held_out, other.chosen_on) == (True, False)
    assert other.summary().startswith("Checked on 6 rows kept out of its fit.\n")


def test_a_wrong_constant_is_not_explained_and_not_unchecked():
    x = torch.ones(20, 2).double()
    found = receipt(sympy.Float(2.0), x, torch.full((20, 1), 3.0).double())
    assert (found.r2, found.explains) == (None, False)
    assert "NOTE: the formula leaves a part of y unexplained, noise or structure." in str(found)


def test_exact_numbers_count_as_fitted():
    assert count_all_numbers((2.5 * A**2 + sympy.pi, A)) == 3
