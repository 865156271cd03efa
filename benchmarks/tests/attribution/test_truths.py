"""Truths are true: against definitions, closed forms and adaptive quadrature."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

from benchmarks.attribution import truths
from benchmarks.attribution.cases import CASES

SMOOTH_OR_NOT = ["exp_sin", "deep", "threshold", "xor", "sobol_g", "ishigami"]


def rows(case, n, seed):
    return case.draw(n, torch.Generator().manual_seed(seed))


def shapley_over_orders(formula, x, background):
    """Mean gain of each feature over all orders in which features come in."""
    d, values = x.shape[1], torch.zeros_like(x)
    for order in itertools.permutations(range(d)):
        mixed = background.repeat(len(x), 1, 1)
        before = torch.stack([formula(each).mean() for each in mixed])
        for feature in order:
            mixed[:, :, feature] = x[:, feature, None]
            after = torch.stack([formula(each).mean() for each in mixed])
            values[:, feature] += (after - before) / math.factorial(d)
            before = after
    return values


@pytest.mark.parametrize("name", ["bilinear", "cancellation", "xor", "product", "exp_sin"])
def test_shapley_values_are_means_over_orders(name):
    case = CASES[name]
    x, background = rows(case, 2, 0), rows(case, 3, 1)
    slow = shapley_over_orders(case.formula, x, background)
    assert_close(truths.shapley(case.formula, x, background), slow, atol=1e-14, rtol=0)


def test_shapley_values_of_a_sum_are_its_terms():
    case = CASES["additive"]
    x, background = rows(case, 6, 0), rows(case, 7, 1)
    terms = [
        lambda x: torch.sin(torch.pi * x),
        lambda x: x**2,
        lambda x: -x.exp() / 2,
        lambda x: x**3,
        torch.zeros_like,
    ]
    closed = [f(x[:, i]) - f(background[:, i]).mean() for i, f in enumerate(terms)]
    values = truths.shapley(case.formula, x, background)
    assert_close(values, torch.stack(closed, 1), atol=1e-14, rtol=0)
    paths = truths.integrated_gradients(case.formula, x, background)
    assert_close(paths, torch.stack(closed, 1), atol=1e-13, rtol=0)


def test_shapley_values_of_a_product_of_two_halve_it():
    """2 x1 x2 against one row: the main effects, and half of 2 (x1 - b1)(x2 - b2) to each."""
    case = CASES["bilinear"]
    x, row = rows(case, 6, 0), rows(case, 1, 1)
    step, (a, b) = x - row, (row[0, 0], row[0, 1])
    both = 2 * step[:, 0] * step[:, 1]
    closed = [2 * step[:, 0] * b + both / 2, 2 * step[:, 1] * a + both / 2, step[:, 2]]
    values = truths.shapley(case.formula, x, row)
    assert_close(values[:, :3], torch.stack(closed, 1), atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", ["bilinear", "product"])
def test_multilinear_formulas_have_equal_shapley_values_and_integrated_gradients(name):
    case = CASES[name]
    background = rows(case, 5, 1)
    x = rows(case, 4, 0)
    values = truths.shapley(case.formula, x, background)
    paths = truths.integrated_gradients(case.formula, x, background)
    assert_close(values, paths, atol=1e-13, rtol=0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow  # many cases
def test_both_add_up_and_give_nothing_to_what_does_nothing(name):
    case = CASES[name]
    x, background = rows(case, 5, 0), rows(case, 6, 1)
    change = case.formula(x) - case.formula(background).mean()
    scale = float(change.abs().max())
    values = truths.shapley(case.formula, x, background)
    paths = truths.integrated_gradients(case.formula, x, background, case.kinks)
    for found in (values, paths):
        assert_close(found.sum(1), change, atol=1e-13 * max(1, scale), rtol=0)
        assert float(found[:, list(case.null)].abs().sum()) == 0


@pytest.mark.parametrize("name", SMOOTH_OR_NOT)
@pytest.mark.slow  # many cases
def test_integrated_gradients_agree_with_adaptive_quadrature(name):
    case = CASES[name]
    x, row = rows(case, 2, 0), rows(case, 1, 1)
    paths = truths.integrated_gradients(case.formula, x, row, case.kinks)
    for sample, found in zip(x, paths, strict=True):
        step = sample - row[0]
        cuts = crossings(case, row[0], step)
        for feature in range(case.inputs):

            def slope(t, feature=feature, step=step):
                point = (row[0] + t * step)[None].requires_grad_()
                (gradient,) = torch.autograd.grad(case.formula(point).sum(), point)
                return float(gradient[0, feature])

            ends = [0.0, *cuts, 1.0]
            whole = sum(
                quad(slope, low, high, epsabs=1e-12, epsrel=1e-11)[0]
                for low, high in itertools.pairwise(ends)
            )
            assert abs(float(step[feature]) * whole - float(found[feature])) < 1e-9


def crossings(case, row, step):
    found = []
    for form, place in case.kinks:
        rise = sum(weight * float(step[i]) for i, weight in form.items())
        start = sum(weight * float(row[i]) for i, weight in form.items())
        found.append((place - start) / rise)
    return sorted(t for t in found if 0 < t < 1)


def test_kinks_matter():
    """Without them the same rule is off by more than the splines of any network here."""
    case = CASES["xor"]
    x, background = rows(case, 5, 0), rows(case, 6, 1)
    right = truths.integrated_gradients(case.formula, x, background, case.kinks)
    wrong = truths.integrated_gradients(case.formula, x, background)
    assert float((right - wrong).abs().max()) > 1e-5
