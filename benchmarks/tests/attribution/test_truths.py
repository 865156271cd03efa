"""Truths are true: against definitions, closed forms and quadrature of another make."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

from benchmarks.attribution import closed_forms, truths
from benchmarks.attribution.sample import CASES

SMALL = [name for name, case in CASES.items() if case.inputs <= 5]
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
    pairs = truths.interactions(case.formula, x, row)
    assert_close(pairs[:, 0, 1], both, atol=1e-14, rtol=0)
    assert float(pairs[:, 2:].abs().max()) < 1e-15


@pytest.mark.parametrize("name", ["bilinear", "product"])
def test_multilinear_formulas_have_equal_shapley_values_and_integrated_gradients(name):
    case = CASES[name]
    background = rows(case, 5, 1)
    x = rows(case, 4, 0)
    values = truths.shapley(case.formula, x, background)
    paths = truths.integrated_gradients(case.formula, x, background)
    assert_close(values, paths, atol=1e-13, rtol=0)


@pytest.mark.parametrize("name", CASES)
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


def test_interactions_are_symmetric_and_shared_by_the_shapley_values():
    """v({i, j}) - v({i}) - v({j}) + v(0), averaged: for two features it is all there is."""
    case = CASES["exp_sin"]
    x, row = rows(case, 4, 0), rows(case, 1, 1)
    pairs = truths.interactions(case.formula, x, row)
    first, second = x.clone(), x.clone()
    first[:, 1], second[:, 0] = row[0, 1], row[0, 0]
    f = case.formula
    whole = f(x) - f(first) - f(second) + f(row)
    assert_close(pairs[:, 0, 1], whole, atol=1e-13, rtol=0)
    assert_close(pairs, pairs.mT)
    values = truths.shapley(case.formula, x, row)
    assert_close(values[:, 0], f(first) - f(row) + whole / 2, atol=1e-13, rtol=0)


def test_ishigami_has_the_published_variances():
    a, b = 7.0, 0.1
    first, total = closed_forms.ishigami(a, b)
    one, two = (1 + b * math.pi**4 / 5) ** 2 / 2, a**2 / 8
    whole = a**2 / 8 + b * math.pi**4 / 5 + b**2 * math.pi**8 / 18 + 0.5
    assert_close(torch.tensor(first), torch.tensor([one, two, 0.0]) / whole)
    shared = b**2 * math.pi**8 * (1 / 18 - 1 / 50)
    assert_close(torch.tensor(total), torch.tensor([one + shared, two, shared]) / whole)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.closed and n != "cosine"])
def test_closed_sobol_indices_agree_with_quadrature(name):
    case = CASES[name]
    for closed, found in zip(truths.sobol(case), truths.sobol_by_quadrature(case), strict=True):
        assert_close(closed, found, atol=1e-11, rtol=0)


def test_the_sobol_indices_of_a_cosine_agree_with_quadrature():
    weights = torch.tensor([1.0, 0.5, 0.3], dtype=torch.float64)
    case = replace(
        CASES["cosine"], formula=lambda x: torch.cos(x @ weights), domain=((-1.0, 1.0),) * 3
    )
    closed = closed_forms.cosine(weights.tolist())
    for expected, found in zip(closed, truths.sobol_by_quadrature(case), strict=True):
        assert_close(torch.tensor(expected).double(), found, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["exp_sin", "threshold", "xor", "product", "sobol_g", "friedman"])
def test_sobol_indices_agree_with_sampling(name):
    """Two independent samples, and one feature taken over from the other (Jansen, Saltelli)."""
    case = CASES[name]
    case = replace(case, ties={})
    a, b = rows(case, 2**14, 0), rows(case, 2**14, 1)
    first, total = truths.sobol(case)
    ours, theirs = case.formula(a), case.formula(b)
    whole = float(ours.var())
    for feature in range(case.inputs):
        mixed = a.clone()
        mixed[:, feature] = b[:, feature]
        moved = case.formula(mixed)
        assert abs(float((ours - moved).square().mean()) / 2 / whole - float(total[feature])) < 0.03
        alone = 1 - float((theirs - moved).square().mean()) / 2 / whole
        assert abs(alone - float(first[feature])) < 0.03


@pytest.mark.parametrize("name", CASES)
def test_sobol_indices_are_shares(name):
    case = CASES[name]
    first, total = truths.sobol(case)
    assert float(first.min()) >= -1e-12
    assert bool((total >= first - 1e-12).all())
    assert float(first.sum()) <= 1 + 1e-12 <= float(total.sum()) + 2e-12
    assert float(total[list(case.null)].sum()) == 0


def test_the_published_indices_of_sobols_function():
    first, _ = closed_forms.sobol_g((0, 1, 4.5, 9, 99, 99))
    variance = [1 / (3 * (1 + a) ** 2) for a in (0, 1, 4.5, 9, 99, 99)]
    whole = np.prod([1 + part for part in variance]) - 1
    assert_close(torch.tensor(first), torch.tensor(variance) / float(whole))
