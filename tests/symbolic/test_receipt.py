import dataclasses
import functools
import json
import math
import warnings

import numpy as np
import pytest
import sympy
import torch
from scipy.optimize import curve_fit, least_squares
from scipy.stats import t as student

from kanlens.discovery._discover import discover
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.symbolic._composition import feature_symbols
from kanlens.symbolic._constants import fitted_constants
from kanlens.symbolic._receipt import EXPLAINED, Receipt, count_all_numbers, enough, examine
from kanlens.symbolic._symbolize import symbolize
from tests.symbolic.made import toy


@pytest.fixture(scope="module")
def made():
    return toy()


def right(model):
    x1, x2 = feature_symbols(model)
    return sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)


def test_numbers_of_a_right_formula(made):
    model, x, y = made
    receipt = examine((right(model),), model, x, y, snapped=("pi",))
    gap = np.abs(y.numpy() - model(x).detach().numpy())
    assert receipt.max_deviation == pytest.approx(gap.max())
    assert receipt.mean_deviation == pytest.approx(gap.mean())
    assert receipt.rmse < 1e-12
    assert receipt.r2 == pytest.approx(1.0)
    assert receipt.model_r2 < receipt.r2
    assert receipt.trustworthy
    assert receipt.undefined_rows == 0
    assert receipt.defined_beyond
    assert receipt.outside_share == 0.0
    assert "Exact constants: pi." in receipt.summary()
    assert "WARNING" not in receipt.summary()


def test_a_wrong_formula_is_called_wrong(made):
    model, x, y = made
    receipt = examine((right(model) + feature_symbols(model)[0],), model, x, y)
    assert not receipt.trustworthy
    assert receipt.relative_rmse > 0.3
    assert receipt.loss == pytest.approx(float(x[:, 0].square().mean() / y.var(unbiased=False)))
    text = "WARNING: the formula does not follow the model; do not use it in place of the model."
    assert text in receipt.summary().splitlines()
    slightly = examine((right(model) + 0.01,), model, x, y)
    assert slightly.mean_deviation == pytest.approx(0.01, rel=0.1)
    assert slightly.rmse == pytest.approx(0.01)


def test_an_undefined_formula_is_called_undefined(made):
    model, x, _ = made
    receipt = examine((sympy.log(feature_symbols(model)[0]),), model, x)
    below = int((x[:, 0] <= 0).sum())
    assert receipt.undefined_rows == below
    assert not receipt.trustworthy
    assert f"WARNING: the formula is not finite on {below} rows." in receipt.summary()
    nowhere = examine((sympy.nan,), model, x)
    assert nowhere.max_deviation == math.inf


def test_rows_outside_the_training_ranges_are_counted(made):
    model, x, _ = made
    receipt = examine((right(model),), model, torch.cat((x, x + 5.0)))
    assert receipt.outside_share == pytest.approx(0.5, abs=0.01)
    assert "lie outside the training ranges" in receipt.summary()


def test_classification_counts_right_classes():
    layer = KANLinear(1, 2, functions=[["x"], ["constant"]]).double()
    with torch.no_grad():
        layer.affine[1, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    classes = {"task": "classification", "class_labels": ("a", "b")}
    model = KAN.from_layers([layer], dataclasses.replace(KAN([1, 2]).schema, **classes))
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    y = (x[:, 0] < 0).long()
    (x1,) = feature_symbols(model)
    good = examine((x1, sympy.Integer(0)), model, x, y)
    bad = examine((-x1, sympy.Integer(0)), model, x, y)
    assert (good.accuracy, good.model_accuracy, bad.accuracy) == (1.0, 1.0, 0.0)
    assert "Against the targets: accuracy 1.0000 (model 1.0000)." in good.summary()
    assert good.r2 is None


def test_outputs_are_trusted_together():
    s = sympy.Symbol("x1", real=True)
    model = KAN([1, 2], generator=torch.Generator().manual_seed(0)).double()
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    both, flat = torch.cat([x**2, x], 1), torch.cat([x**2, torch.full_like(x, 3.5)], 1)
    assert examine((s**2, s), model, x, both).trustworthy
    assert not examine((s**2, s + 0.1 * sympy.sin(9 * s)), model, x, both).trustworthy
    assert examine((s**2, sympy.Float(3.5)), model, x, flat).r2 == 1  # without constant targets
    assert examine((s, s), model, x, torch.ones_like(flat)).r2 is None
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = tuple(sympy.Float(v) for v in noise.mean(0).tolist())
    receipt = examine(means, model, x, noise)  # for beating a poor model they are not trusted
    assert receipt.r2 > receipt.model_r2
    assert not receipt.trustworthy


@pytest.mark.slow  # searches formulas
def test_held_out_rows_and_what_they_cost():
    model, x, y = toy()
    found = symbolize(model, x[:400], y[:400], x_test=x[400:], y_test=y[400:])
    receipt = found.receipt
    assert (receipt.rows, receipt.held_out, receipt.fitted_rows) == (200, True, 320)
    gap = np.abs(found.predict(x[400:]) - model(x[400:]).detach().numpy())
    assert receipt.max_deviation == pytest.approx(gap.max())
    assert receipt.mean_deviation == pytest.approx(gap.mean())
    assert receipt.loss < 1e-12
    assert receipt.summary().startswith(
        "On 200 rows held out of its fit (not of the model's), the formula differs"
    )
    assert len(receipt.snap_costs) == len(receipt.snapped) > 0
    assert max(receipt.snap_costs) < 1e-6
    assert "the largest increase of the loss" in receipt.summary()
    receipt = symbolize(model, x, y).receipt
    assert (receipt.rows, receipt.held_out, receipt.fitted_rows) == (120, False, 480)
    assert receipt.chosen_on
    assert receipt.summary().startswith("On the 120 rows used to choose it, the formula differs")


def test_the_domain_of_validity_is_in_the_receipt(made):
    model, x, _ = made
    x1, _ = feature_symbols(model)
    receipt = examine((sympy.log(x1 + 1.5),), model, x)
    low, high = receipt.valid_ranges["x1"]
    assert -1.5 < low < -1.48
    assert high > 2.9
    assert receipt.broken_parts == ()
    assert receipt.defined_beyond
    broken = examine((sympy.log(x1 + 1.01),), model, x)
    assert (broken.undefined_rows, broken.defined_beyond) == (0, False)
    assert broken.broken_parts == ("log(x1 + 1.01)",)
    lines = broken.summary().splitlines()
    assert "Not defined there: log(x1 + 1.01)." in lines
    text = "WARNING: the formula is not finite everywhere within 5 % beyond the data's ranges."
    assert text in lines


def test_without_a_model_the_formula_is_held_against_y():
    s = sympy.Symbol("a", real=True)
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    good = examine((s**2,), None, x, x**2, feature_names=["a"])
    assert (good.max_deviation, good.relative_rmse, good.model_r2) == (None, None, None)
    assert good.r2 == pytest.approx(1.0)
    assert good.trustworthy
    assert good.summary().startswith("Checked on 50 rows.\nAgainst the targets: RMSE")
    assert "model" not in good.summary()
    noisy = examine((s,), None, x, x**2, feature_names=["a"])
    assert not noisy.trustworthy
    assert "NOTE: the formula leaves a part of y unexplained" in noisy.summary()
    assert "nothing to check" in examine((s,), None, x, feature_names=["a"]).summary()


CLASSIFIER = {"relative_rmse": 0.3, "model_accuracy": 0.95}
CONSTANTS = {"snapped": ("0", "pi", "0", "1/2", "0"), "snap_costs": (0.0, 2e-9, 0, 0, 0)}
FIT = {"rows": 9, "r2": 0.75, "rmse": 0.1, "loss": 0.25}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"approximate": True, **FIT},
            "NOTE: the formula is an approximation, which leaves 2.5e-01 of the variance of y; "
            "no exact one was found.",
        ),
        (
            CONSTANTS,
            "Exact constants: 0 (3 times), pi, 1/2; the largest increase of the loss is 2.0e-09.",
        ),
        (
            {"accuracy": 0.94, **CLASSIFIER},
            "NOTE: the formula classifies as well as the model, with other probabilities.",
        ),
        (
            {"accuracy": 0.9, **CLASSIFIER},
            "WARNING: the formula does not follow the model; do not use it in place of the model.",
        ),
        (
            {"unfollowed_rows": 1, **FIT},
            "WARNING: 1 more row lies far from the formula and was left out of its fit and of "
            "these numbers.",
        ),
        ({"poles": ("1/x",)}, "WARNING: the formula goes to infinity between the rows: 1/x."),
        (
            {"relative_rmse": 0.3, "explains": True, "enough_rows": True},
            "NOTE: the formula differs from the model, but is closer to y than the model is.",
        ),
    ],
)
def test_lines_of_the_summary(facts, line):
    receipt = Receipt(**{"rows": 50, **facts})
    assert line in receipt.summary().splitlines()
    assert str(receipt) == receipt.summary()
    assert receipt.trustworthy == bool(receipt.enough_rows)


A, B = sympy.symbols("a b", real=True)
FORMULAS = {"product": A * B, "parabola": 2 * A**2 + 1, "wave": sympy.exp(B**2 + sympy.sin(A))}


def table(formula, rows, scale=1, offset=0):
    """Return a formula in other units, and rows on which it is exact."""
    x = np.random.default_rng(rows).uniform(0.5, 2.0, (rows, 2))
    whole = sympy.Float(scale) * formula + sympy.Float(offset) if scale != 1 or offset else formula
    y = sympy.lambdify((A, B), whole, "numpy")(*x.T)
    return whole, torch.from_numpy(x), torch.from_numpy(y)[:, None]


def compared(formula, x, y, **known):
    return examine((formula,), None, x, y, feature_names=["a", "b"], **known)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_exact_formula_is_trusted_from_few_rows_on(name):
    trusted = []
    for rows in (*range(2, 12), 20, 50):
        found = compared(*table(FORMULAS[name], rows))
        assert found.explains, rows
        assert "unexplained" not in found.summary()
        assert found.trustworthy == found.enough_rows
        few = (
            "NOTE: the formula explains y, but other formulas may too: there are too few "
            "different rows."
        )
        assert (few in found.summary().splitlines()) != found.trustworthy
        trusted.append(found.trustworthy)
    first = trusted.index(True)
    assert all(trusted[first:])
    assert first + 2 == {"product": 3, "parabola": 6, "wave": 5}[name]


def test_rows_that_are_alike_count_once():
    formula, x, y = table(FORMULAS["parabola"], 4)
    x, y = x.repeat(9, 1), y.repeat(9, 1)
    x[:, 1] = torch.linspace(0, 1, 36)  # of which the formula knows nothing
    found = compared(formula, x, y)
    assert (found.rows, found.fitted_rows) == (36, 4)
    assert not found.enough_rows
    assert compared(formula, x, y, fitted_to=x, chosen_on=True).enough_rows == found.enough_rows
    assert compared(sympy.Float(1.5), x, 0 * y + 1.5).fitted_rows == 36
    zeros = torch.tensor([[0.0, 1.0], [-0.0, 2.0]], dtype=torch.float64)
    assert compared(A, zeros, zeros[:, :1]).fitted_rows == 1


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e12, 1e200])
def test_scale_does_not_matter(scale):
    found = compared(*table(FORMULAS["wave"], 10, scale))
    assert found.trustworthy
    assert found.r2 == pytest.approx(1.0, abs=1e-14)
    assert found.rmse <= 1e-15 * scale * 100


@pytest.mark.parametrize("offset", [1e3, -1e9, 1e15])
def test_what_rounding_leaves_open_counts_as_explained(offset):
    """Nearest to the last digit of y there is no better formula, whatever R2 says."""
    found = compared(*table(FORMULAS["product"], 50, 1.0, offset))
    assert found.explains
    _, x, y = table(FORMULAS["product"], 50)
    x1 = compared(sympy.Float(offset) + A, x, y + offset)
    assert not x1.explains or abs(offset) > 1e14


@pytest.mark.slow  # derives formulas
def test_noise_is_not_explained_by_as_many_numbers_as_rows():
    """A polynomial through all points says nothing; with a row to spare for each, it is tested."""
    draw = np.random.default_rng(0)
    for rows in (*range(3, 12), 20, 29):
        x, y = draw.uniform(-1, 1, (rows, 2)), draw.normal(size=rows)
        for degree in range(1, min(rows, 9)):
            c = np.polynomial.polynomial.polyfit(x[:, 0], y, degree)
            formula = sum(sympy.Float(float(v)) * A**k for k, v in enumerate(c))
            found = compared(formula, torch.from_numpy(x), torch.from_numpy(y)[:, None])
            assert not found.trustworthy, (rows, degree)


def test_rows_held_out_need_pay_for_nothing():
    assert count_all_numbers((2.5 * A**2 + sympy.pi, A)) == 3  # exact ones count as fitted
    formula = FORMULAS["wave"]
    shares = np.array([1 - EXPLAINED])
    assert enough((formula,), shares, 4, held_out=True)
    assert not enough((formula,), shares, 2, held_out=True)
    assert not enough((formula,), shares, 4)
    assert not enough((formula,), np.array([np.nan]), 1000)
    rows = table(formula, 40)
    x, y = rows[1], rows[2]
    chosen = compared(formula, x[:6], y[:6], fitted_to=x[6:], chosen_on=True)
    assert (chosen.rows, chosen.held_out, chosen.chosen_on) == (6, False, True)
    assert chosen.summary().startswith("Checked on the 6 rows used to choose it.\n")
    other = compared(formula, x[:6], y[:6], fitted_to=x[6:])
    assert (other.held_out, other.chosen_on) == (True, False)
    assert other.summary().startswith("Checked on 6 rows held out of its fit.\n")


def test_a_wrong_constant_is_not_explained_and_not_unchecked():
    x = torch.ones(20, 2).double()
    found = compared(sympy.Float(2.0), x, torch.full((20, 1), 3.0).double())
    assert (found.r2, found.explains) == (None, False)
    assert "NOTE: the formula leaves a part of y unexplained, noise or structure." in str(found)


def test_constants_have_the_standard_errors_of_scipy():
    draw = np.random.default_rng(0)
    x = draw.uniform(0.5, 3, (200, 1))
    y = 2.5 * np.exp(-1.3 * x[:, 0]) + 0.7 + 0.05 * draw.normal(size=200)

    def function(u, a, b, c):
        return a * np.exp(-b * u) + c

    def errors(formula, x):
        pair = torch.from_numpy(x), torch.from_numpy(y)[:, None]
        return fitted_constants((formula,), (symbol,), *pair)["constants"]

    best, covariance = curve_fit(function, x[:, 0], y, p0=(2, 1, 1))
    symbol = sympy.Symbol("u", real=True)
    a, b, c = (sympy.Float(value) for value in best)
    found = dict(errors(a * sympy.exp(-b * symbol) + c, x))
    values, expected = (best[0], -best[1], best[2]), np.sqrt(np.diag(covariance))
    assert [found[value] for value in values] == pytest.approx(expected, rel=1e-4)
    both = dict(errors(a + sympy.log(-b * symbol) * c, -x))
    assert [np.isinf(both[value]) for value in values] == [True, True, False]


def decay(u, a, b):
    return a * np.exp(-b * u)


def drawn_decay(seed):
    """Return eight rows of a decay, from which both constants are hardly known, and its fit."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(0.1, 3, 8)
    y = decay(x, 2.5, 1.3) + 0.3 * draw.normal(size=8)
    best = curve_fit(decay, x, y, p0=(2.5, 1.3))[0]
    symbol = sympy.Symbol("u", real=True)
    a, b = map(sympy.Float, best)
    pair = torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None]
    facts = fitted_constants((a * sympy.exp(-b * symbol),), (symbol,), *pair)
    ends = dict(zip(dict(facts["constants"]), facts["profiles"], strict=True))
    return x, y, best, [ends[best[0]], [-end for end in ends[-best[1]]][::-1]]


def rise_at(x, y, best, a):
    """Return the rise of the least sum of squares with one constant held at a, in variances."""
    starts = (0.1, 1.0, best[1], 4.0)
    least = min(least_squares(lambda b: y - decay(x, a, b[0]), start).cost for start in starts)
    return least * 2 / np.square(y - decay(x, *best)).sum() * 6 - 6


def test_profile_intervals_are_those_of_a_search_by_scipy():
    """At either end of an interval the least sum of squares has risen by t squared."""
    t = student.ppf(0.95, 6)
    for seed in (0, 6, 68):
        x, y, best, ((low, high), _) = drawn_decay(seed)
        rise = functools.partial(rise_at, x, y, best)
        assert rise(low) == pytest.approx(t**2, rel=0.01)
        assert rise(high if np.isfinite(high) else 1e6) <= t**2 * 1.01
        assert not np.isfinite(high) or rise(high) >= t**2 * 0.99
        assert high - best[0] > 1.2 * (best[0] - low)  # far from symmetric


@pytest.mark.slow
def test_profile_intervals_of_a_decay_cover_its_constants():
    covered = []
    for seed in range(100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit without a covariance
            try:
                *_, ends = drawn_decay(seed)
            except RuntimeError:  # no fit
                continue
        covered.append(
            [low <= truth <= high for truth, (low, high) in zip((2.5, 1.3), ends, strict=True)]
        )
    assert np.mean(covered, axis=0) == pytest.approx(0.9, abs=0.06)


@pytest.mark.slow  # derives formulas
def test_a_discovered_formula_names_its_constants_and_their_errors():
    draw = np.random.default_rng(1)
    x = draw.uniform(0, 3, 150)
    y = 1.7183 * x + 0.4142 + 0.001 * draw.normal(size=150)
    found = discover(x[:, None], y, ["u"], time_limit=1, progress=False)
    design = np.stack([x, np.ones(150)], 1)
    values, total, *_ = np.linalg.lstsq(design, y, rcond=None)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * total[0] / 148)
    constants = np.array(sorted(found.receipt.constants, reverse=True))
    assert np.allclose(constants[:, 0], values, rtol=1e-3)
    assert np.allclose(constants[:, 1], errors * np.sqrt(150 / 105), rtol=0.2)  # of fitted rows
    assert "Fitted constants (standard errors; 90% intervals): " in found.receipt.summary()
    profiles = np.array(sorted(found.receipt.profiles, reverse=True))  # of a line: Student's
    np.testing.assert_allclose(
        (profiles - constants[:, :1]) / constants[:, 1:], [[-1.66, 1.66]] * 2, atol=0.02
    )
    facts = {
        "constants": ((1.5, np.inf), (2.0, 0.1), (3.0, 0.1)),
        "profiles": ((-np.inf, np.inf), (1.8, 2.2), (2.5, np.inf)),
    }
    loose = dataclasses.replace(found.receipt, **facts).summary()
    assert "NOTE: the data do not determine 2 of 3 constants: 1.5, 3 (no upper limit)." in loose
    assert "2 (0.1; 1.8 to 2.2)" in loose
    assert json.loads(found.to_json())["receipt"]["constants"]
