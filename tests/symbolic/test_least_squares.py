import math

import numpy as np
import pytest

from kanlens.symbolic._joint_refit import minimize


def rosenbrock(p):
    return np.array([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def rosenbrock_slopes(p):
    return np.array([[-20 * p[0], 10.0], [-1.0, 0.0]])


def test_curved_valley():
    found = minimize(rosenbrock, rosenbrock_slopes, np.array([-1.2, 1.0]), steps=200)
    np.testing.assert_allclose(found.parameters, 1.0, atol=1e-9)
    assert found.loss < 1e-20


def test_redundant_parameters_do_no_harm():
    x = np.linspace(0, 1, 20)
    found = minimize(
        lambda p: p[0] * p[1] * x - 6 * x,
        lambda p: np.stack((p[1] * x, p[0] * x), axis=1),
        np.array([1.0, 1.0]),
    )
    assert found.parameters.prod() == pytest.approx(6.0)
    assert np.isfinite(found.parameters).all()


def test_equations_that_cannot_be_solved_are_damped(monkeypatch):
    solve, dampings = np.linalg.solve, []

    def stubborn(matrix, right):
        dampings.append(float(matrix.ravel()[0]))
        if len(dampings) < 3:
            raise np.linalg.LinAlgError("Singular matrix")
        return solve(matrix, right)

    monkeypatch.setattr(np.linalg, "solve", stubborn)
    found = minimize(lambda p: p - 3.0, lambda p: np.eye(1), np.zeros(1))
    assert dampings[0] < dampings[1] < dampings[2]
    assert found.parameters[0] == pytest.approx(3.0)


def test_steps_into_nothing_are_rejected():
    with np.errstate(all="ignore"):
        found = minimize(
            lambda p: np.log(p) - math.log(1e-3), lambda p: np.array([1 / p]), np.array([5.0])
        )
    assert found.parameters[0] == pytest.approx(1e-3)


def test_a_bad_start_is_returned_as_it_is():
    found = minimize(lambda p: np.full(3, np.nan), lambda p: np.ones((3, 1)), np.ones(1))
    assert found.loss == math.inf
    assert found.parameters.tolist() == [1.0]
    assert minimize(lambda p: np.ones(3), lambda p: np.empty((3, 0)), np.empty(0)).loss == 1.0


def test_standard_errors_are_those_of_linear_regression():
    generator = np.random.default_rng(0)
    x = np.stack((np.ones(200), generator.normal(size=200)), axis=1)
    y = x @ [1.0, 2.0] + 0.1 * generator.normal(size=200)
    found = minimize(lambda p: x @ p - y, lambda p: x, np.zeros(2))
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    truth = np.sqrt(residual @ residual / 198 * np.diag(np.linalg.inv(x.T @ x)))
    np.testing.assert_allclose(found.standard_errors, truth, rtol=1e-6)
