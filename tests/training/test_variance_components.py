"""Restricted likelihood against a dense computation from its definition."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from kanlens.training import _variance_components as components
from kanlens.training._variance_components import (
    MAX_STEPS,
    MAX_VARIANCE,
    NO_EFFECT,
    NormalEquations,
    restricted_fit,
    solve_mixed,
)

OWNERS = np.array([0, 0, 1, 2, 2, 2, 1])


@pytest.fixture
def exact(monkeypatch):
    """No coefficient is left out, and searches end at the optimum."""
    monkeypatch.setattr(components, "MIN_INFORMATION", 0.0)
    monkeypatch.setattr(components, "MIN_CHANGE", 1e-11)


def problem(seed, *, weighted=True, effect=1.0):
    draw = np.random.default_rng(seed)
    columns = draw.normal(size=(30, 7))
    weights = draw.uniform(0.5, 2, 30) if weighted else np.ones(30)
    y = 3 + effect * (columns[:, 0] - 0.5 * columns[:, 3]) + draw.normal(size=30)
    return columns, weights, y


def equations_of(columns, weights, y):
    centered = columns - weights @ columns / weights.sum()
    response = y - weights @ y / weights.sum()
    return NormalEquations(
        gram=centered.T @ (weights[:, None] * centered),
        cross=centered.T @ (weights * response),
        square=float(weights @ response**2),
        rows=len(y) - 1.0,
        owners=OWNERS,
        blocks=3,
    )


def dense_deviance(columns, weights, y, variances, noise, *, restricted=True):
    """Return minus twice the restricted log likelihood, by matrices of all rows."""
    covariance = np.diag(noise / weights) + (columns * variances[OWNERS]) @ columns.T
    inverse, ones = np.linalg.inv(covariance), np.ones(len(y))
    total = ones @ inverse @ ones
    residual = y - ones @ inverse @ y / total
    deviance = np.linalg.slogdet(covariance)[1] + residual @ inverse @ residual
    return deviance + (np.log(total) if restricted else 0)


POINTS = [
    (np.array(v), noise) for v in ([1, 1, 1], [0.1, 3, 0.02], [5, 1e-3, 1]) for noise in (0.3, 2)
]


def differences(values):
    return np.array(values) - values[0]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_deviance_is_that_of_its_definition(weighted):
    data = problem(0, weighted=weighted)
    equations = equations_of(*data)
    deviances = [solve_mixed(equations, *point, known=False).deviance for point in POINTS]
    expected = [dense_deviance(*data, *point) for point in POINTS]
    np.testing.assert_allclose(differences(deviances), differences(expected), atol=1e-9)
    other = [dense_deviance(*data, *point, restricted=False) for point in POINTS]
    assert abs(differences(other) - differences(deviances)).max() > 1e-2


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("known", [False, True])
def test_the_score_is_the_slope_of_the_deviance(known):
    equations = equations_of(*problem(1))

    def deviance(logs):
        noise = 0.7 if known else float(np.exp(logs[3]))
        return solve_mixed(equations, np.exp(logs[:3]), noise, known=known).deviance

    place = np.log([0.5, 2.0, 0.05, 0.7])[: 4 - known]
    slopes = approx_fprime(place, deviance, 1e-6)
    score = solve_mixed(equations, np.exp(place[:3]), 0.7, known=known).score
    np.testing.assert_allclose(-2 * score, slopes, atol=1e-3)
    assert abs(slopes).min() > 1e-2


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("effect", [0.0, 1.0])
@pytest.mark.parametrize("prior", [0.0, 0.25])
def test_the_optimum_is_that_of_a_general_search(effect, prior):
    data = problem(2, effect=effect)
    fit = restricted_fit(equations_of(*data), np.ones(3), 1.0, steps=500, prior=prior)

    def objective(logs):
        variances = np.exp(logs[:3])
        penalty = 2 * prior * np.log(variances + NO_EFFECT).sum()
        return dense_deviance(*data, variances, np.exp(logs[3])) + penalty

    bounds = [(np.log(1e-8), np.log(1e6))] * 3 + [(-10, 10)]
    start = np.log(np.append(np.maximum(fit.variances, 1e-8), fit.noise))
    starts = [start] if prior else [np.zeros(4), start]  # with a prior, optima are several
    options = {"ftol": 1e-15, "gtol": 1e-9}
    best = min(minimize(objective, s, bounds=bounds, options=options).fun for s in starts)
    assert objective(start) < best + 1e-4  # a variance is zero below the least one
    assert objective(start + 0.5) > best + 0.1


def test_coefficients_are_the_posterior_mean_and_little_information_changes_little():
    columns, weights, y = problem(3)
    equations, variances = equations_of(columns, weights, y), np.array([1.0, 0.5, 1e-5])
    fit = solve_mixed(equations, variances, 0.8, known=False)
    assert set(OWNERS[fit.live]) == {0, 1}
    information = equations.gram / 0.8 + np.diag(1 / variances[OWNERS])
    mean = np.linalg.solve(information, equations.cross / 0.8)
    np.testing.assert_allclose(fit.coefficients, mean, atol=2e-3)
    expected = dense_deviance(columns, weights, y, variances, 0.8)
    expected -= dense_deviance(columns, weights, y, variances * [1, 1, 0], 0.8)
    none = solve_mixed(equations, variances * [1, 1, 0], 0.8, known=False)
    change = fit.deviance - none.deviance  # the other coefficients take a share of the information
    share = 1e-5 * equations.diagonal[OWNERS == 2].sum() / 0.8
    assert abs(change - expected) < 0.2 * share
    assert abs(change) > 0.2 * share
    shares = (equations.gram @ np.linalg.inv(information) / 0.8).diagonal()
    np.testing.assert_allclose(fit.freedom, equations.sums(shares), atol=1e-3)


def test_exact_responses_leave_least_noise_and_no_error_escapes():
    columns, weights, _ = problem(4)
    response = columns[:, 0]
    fit = restricted_fit(equations_of(columns, weights, response), np.ones(3), 1.0)
    assert fit.noise < 1e-7
    twice = np.column_stack((columns[:, :1], columns[:, :1], columns[:, 2:]))  # singular
    for start in ((1.0, 1.0), (MAX_VARIANCE, 1e-12)):  # factorized, and not
        fit = restricted_fit(equations_of(twice, weights, response), np.full(3, start[0]), start[1])
        np.testing.assert_allclose(twice @ fit.coefficients, response, atol=1e-2)
    constant = restricted_fit(equations_of(columns, weights, np.ones(30)), np.ones(3), 1.0)
    np.testing.assert_allclose(constant.coefficients, 0, atol=1e-12)
    assert MAX_STEPS == 40
