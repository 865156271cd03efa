"""The pieces of the search, each against a slower or closed-form answer."""

import dataclasses
import itertools

import numpy as np
import pytest
import sympy

from kanlens._runtime import Deadline
from kanlens.discovery._additive import (
    DictionarySum,
    ProductWithCombination,
    SeparableProduct,
    additive_error,
    solve_additive,
)
from kanlens.discovery._ansatz import Ansatz, PowerLaw, multipliers, smooth_curve
from kanlens.discovery._blocks import SumOfBlocks
from kanlens.discovery._curve_fitting import U, fit_curves
from kanlens.discovery._monomials import (
    MonomialSum,
    PolynomialRatio,
    libraries,
)
from kanlens.discovery._regression import Basis, best_pairs, eliminate, quick_error
from kanlens.discovery._search_problem import (
    TRANSFORMS,
    best_loo_error,
    exponents_of,
    paired,
    remove_power_factors,
    transformed,
)
from kanlens.discovery._settings import CURVE_ENDS, EXACT, Limits
from kanlens.discovery._smoothness import loo_error
from tests.discovery.conftest import NAMES, front_of, problem, solved

A, B, C, *_ = NAMES


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: t.name)
def test_transforms_are_undone_by_their_inverses(transform):
    t = np.linspace(0.2, 0.95, 9)
    np.testing.assert_allclose(transform.inverse(transform.value(t)), t, rtol=1e-12)
    back = sympy.lambdify(U, transform.expression(U), "numpy")(transform.value(t))
    np.testing.assert_allclose(back, t, rtol=1e-12)


def test_transforms_of_negative_targets_keep_the_sign():
    given = problem("-a*b")
    for _, each in transformed(given, ("log", "sq", "sqrt", "invsq")):
        back = sympy.lambdify(U, each.rebuild(U), "numpy")(each.target)
        np.testing.assert_allclose(back, given.target, rtol=1e-12)


def test_a_target_of_both_signs_has_no_logarithm():
    assert [name for name, _ in transformed(problem("a - b"), ("id", "log"))] == ["id"]


def test_elimination_finds_the_columns_in_use():
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(80, 6))
    target = 2 * matrix[:, 1] - matrix[:, 4]
    assert eliminate(matrix, target, np.arange(6))[0][1] == [1, 4]


def test_elimination_drops_what_is_missed_least():
    draw = np.random.default_rng(1)
    matrix, target = draw.normal(size=(60, 4)), draw.normal(size=60)
    path = {len(groups): groups for _, groups in eliminate(matrix, target, np.arange(4))}
    full = set(path[4])
    errors = {
        g: np.linalg.lstsq(np.delete(matrix, g, axis=1), target, rcond=None)[1][0] for g in full
    }
    assert full - set(path[3]) == {min(errors, key=errors.get)}


def test_quick_error_is_that_of_a_plain_fit():
    draw = np.random.default_rng(2)
    matrix, target = draw.normal(size=(90, 3)), draw.normal(size=90)
    held_out = np.arange(90) < 30
    c = np.linalg.lstsq(matrix[~held_out], target[~held_out], rcond=None)[0]
    gap = target[held_out] - matrix[held_out] @ c
    expected = np.mean(gap**2) / target[held_out].var()
    assert quick_error(matrix, target, held_out) == pytest.approx(expected, rel=1e-9)


def test_splines_sum_to_one_and_take_discrete_columns():
    x = np.array([0.0, 1.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(Basis(x, 9).at(x).sum(axis=1), 1.0, atol=1e-12)


def test_a_sum_is_additive_and_a_product_is_not():
    given = problem("sin(a) + b**2")
    assert additive_error(given) < 1e-6
    assert additive_error(problem("a*b")) > 1e-2
    grids, values = solve_additive(given).curves()
    assert np.ptp(values[0] - np.sin(grids[0])) < 1e-3


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: 2 * np.sin(3 * x) + 1, "sin"),
        (lambda x: 1 / (np.exp(x) - 1), "exp"),
        (lambda x: np.sqrt(x**2 + 1), "sqrt"),
    ],
)
def test_curves_are_recognised(function, text):
    x = np.linspace(0.5, 3.0, 128)
    *_, [[best, *_]] = fit_curves(x[None], [function(x)], outer=("id", "inv", "sq"))
    assert best.error < 1e-9
    assert text in str(best.expression)
    made = sympy.lambdify(U, best.expression, "numpy")(x)
    np.testing.assert_allclose(made, function(x), rtol=1e-3)


@pytest.mark.parametrize(("function", "rounds"), [(np.sqrt, 3), (np.exp, 2), (np.cosh, 1)])
def test_curves_that_a_few_functions_follow_come_before_all_were_tried(function, rounds):
    x = np.linspace(0.5, 3.0, 128)
    found = list(fit_curves(x[None], [function(x)], outer=("id", "sq"), inner=("id", "exp")))
    assert len(found) >= rounds
    assert all(curve.error < 1e-6 for [curves] in found[:-1] for curve in curves)


def test_columns_of_both_signs_get_whole_powers():
    given = problem("a*b", low=-1.0, high=1.0)
    powers = {p for library in libraries(given) for each in library for p in each}
    assert min(powers) >= 0
    assert all(float(p).is_integer() for p in powers)


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize(
    ("ansatz", "text", "width", "rows"),
    [
        (MonomialSum(), "sqrt(a**2 - 2*a*b + 3*b**2)", 2, 120),
        (PolynomialRatio(), "(a + b)/(1 + a*b*c)", 3, 300),
        (SeparableProduct(), "cos(a)*sin(2*b)", 2, 300),
        (SumOfBlocks(), "a + b + 2*sqrt(a*b)*cos(c)", 3, 120),
    ],
)
def test_each_way_finds_what_it_is_for(ansatz, text, width, rows):
    assert solved(ansatz, problem(text, width, count=rows)).error <= EXACT


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize(
    ("ansatz", "text", "least"),
    [
        (PolynomialRatio(), "sin(a*b)", 1e-3),
        (ProductWithCombination(), "sin(3*a*b + exp(b)) + a", 1e-3),
        (SumOfBlocks(), "sin(3*a*b + exp(a))/(a + b)", 1e-3),
        (DictionarySum(), "tanh(a*b)/(a + b**2)", EXACT),
    ],
)
def test_a_way_does_not_find_what_it_is_not_for(ansatz, text, least):
    assert solved(ansatz, problem(text)).error > least


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("ansatz", [ProductWithCombination(), SumOfBlocks()])
@pytest.mark.parametrize("count", [3, 12])
def test_few_rows_do_no_harm(ansatz, count):
    assert np.isfinite(solved(ansatz, problem("a*sin(b)", count=count)).error)


class Counting(Ansatz):
    """An ansatz that counts what it is asked for."""

    limits = Limits(narrowest=2, widest=2)
    fitted = written = 0

    def _formulas(self, problem, front):
        for power in (2, 3):
            self.fitted += 1
            for factor in (1, 2):
                self.written += 1
                yield factor * A**power


def test_an_ansatz_does_nothing_once_the_front_is_done():
    given = problem("a**2")
    front, ansatz = front_of(given), Counting()
    ansatz.submit(given, front)
    assert front.done
    assert front.chosen().expression == A**2
    assert (ansatz.fitted, ansatz.written) == (1, 1)
    rest = Counting()
    rest.submit(problem("a**4"), front_of(problem("a**4")))
    assert (rest.fitted, rest.written) == (2, 4)


def test_an_ansatz_leaves_alone_what_it_does_not_suit():
    for width in (1, 3):
        given, ansatz = problem("a", width), Counting()
        ansatz.submit(given, front_of(given))
        assert ansatz.fitted == 0


def test_a_function_of_the_target_is_a_power_law():
    formula = solved(PowerLaw(("exp",)), problem("log(a**2*b)")).expression
    assert sympy.simplify(sympy.exp(formula) - A**2 * B) == 0


def test_loo_error_falls_when_columns_say_the_same_in_fewer():
    given = problem("sin(a - b)*c", 3)
    error, best = paired(given, Deadline.after(600.0))[0]
    assert A - B in best.names
    assert error < best_loo_error(given)


def test_loo_error_is_that_of_left_out_rows():
    draw = np.random.default_rng(0)
    x, t = draw.normal(size=(20, 1)), draw.normal(size=20)
    u, y = (x - x.mean()) / x.std(), (t - t.mean()) / t.std()
    errors = []
    for length in (1.0, 2.5, 6.0):
        kernel = np.exp(-0.5 * (u - u.T) ** 2 / length**2) + 1e-7 * np.eye(20)
        gaps = []
        for i in range(20):
            keep = np.arange(20) != i
            weights = np.linalg.solve(kernel[np.ix_(keep, keep)], y[keep])
            gaps.append(y[i] - kernel[i, keep] @ weights)
        errors.append(np.mean(np.square(gaps)))
    assert loo_error(x, t) == pytest.approx(min(errors), rel=1e-5)


def test_exponents_are_estimated_whatever_the_sign_of_the_rest():
    given = problem("a**2/b*sin(c)", 3, count=900)
    np.testing.assert_allclose(exponents_of(given)[:2], [2.0, -1.0], atol=0.2)


def test_factors_and_idle_columns_are_peeled_off():
    given = problem("a**2*sin(b)", 3, count=600)
    rest = remove_power_factors(given, Deadline.after(600.0))
    assert rest.names == (B,)
    assert rest.rebuild(sympy.sin(B)) == A**2 * sympy.sin(B)


def test_the_best_pair_is_that_of_all_pairs():
    draw = np.random.default_rng(0)
    matrix, target = draw.normal(size=(50, 8)), draw.normal(size=50)

    def error(pair):
        columns = np.column_stack((np.ones(50), matrix[:, pair]))
        return np.linalg.lstsq(columns, target, rcond=None)[1][0]

    expected = min(itertools.combinations(range(8), 2), key=error)
    assert best_pairs(matrix, target)[0][1] == expected


def test_a_curve_with_a_pole_is_followed():
    given = problem("1/(a - 99/100)", 1)
    curve, error = smooth_curve(given)
    assert error < 1e-3
    x = np.linspace(*np.quantile(given.columns, CURVE_ENDS), 128)
    np.testing.assert_allclose(curve(x), 1 / (x - 0.99), rtol=0.02)


def test_multipliers_do_not_divide_by_zero():
    x = np.linspace(-1.0, 1.0, 101)
    assert all(
        np.isfinite(1 / factor).all() for factor, _ in multipliers(x + 0.001) if factor.all()
    )


def test_what_is_near_is_offered_at_once_and_the_rest_waits_for_the_nearest():
    front, offered = front_of(problem("a**2*b")), []
    front.submit = offered.append
    far, nearer, near = 2 * A**2, A**2 * B + A / 5, A**2 * B
    for formula in (far, nearer, near, sympy.log(-A)):
        front.offer(formula)
    assert offered == [near]
    front.refit(1)
    assert offered == [near, nearer]
    front.refit()
    assert offered == [near, nearer, far]


@pytest.mark.parametrize("exact", [False, True])
def test_a_formula_of_many_terms_is_chosen_only_where_it_is_exact(exact):
    long = sympy.Add(*(A**i * B**j / (1 + i + 2 * j) for i in range(4) for j in range(4)))
    given = problem(lambda a, b: sympy.lambdify((A, B), long)(a, b) + (not exact) * np.cos(a * b))
    front = front_of(given)
    front.start((A * B, long))
    assert {entry.expression for entry in front.entries} >= {A * B, long}
    assert (front.chosen().expression == long) is exact


def test_a_formula_is_exact_only_where_it_is_so_on_all_rows():
    given = problem("a*b")
    target = given.target.copy()
    target[np.flatnonzero(~given.held_out)[0]] += 0.1
    front = front_of(dataclasses.replace(given, target=target))
    front.start((A * B,))
    assert front.best_error > EXACT


def test_the_front_keeps_what_is_simpler_or_better():
    given = problem("a**2*b")
    front = front_of(given)
    front.start()
    for formula in (A, 1.1 * A**2 * B, A**2 * B + sympy.Float(0.5) * A):
        front.submit(formula)
    assert front.chosen().expression == A**2 * B
    assert all(entry.error > EXACT for entry in front.entries if entry.complexity < 5)
    assert front.done


def test_a_formula_that_is_not_finite_is_left_out():
    front = front_of(problem("a*b", low=-1.0, high=1.0))
    front.submit(sympy.log(A))
    assert len(front.entries) == 1  # the mean
