"""Attributions to a sum of functions of single features, under both laws."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from scipy.stats import norm

from kanlens.attribution._direct_methods import GaussianCopula, additive
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._network import KAN
from tests.attribution.conftest import problem_of


def edges(model, x, target):
    """f_i(x_i), one edge at a time, (batch, in)."""
    scaled = model.scale_inputs(x).numpy()
    columns = [model.layers[0].edge(target, i)(scaled[:, i]) for i in range(x.shape[1])]
    return np.stack(columns, 1) * float(model.output_scale[target])


def conditional_means(model, x, rows, target, known):
    """E[f_i | the known features], by the definition of the copula, (batch, in)."""
    n = len(rows)
    law = GaussianCopula(rows)
    scores, r = law.scores(x).numpy(), law.correlation.numpy()
    ours = edges(model, x, target)
    found = ours.copy()
    for i in set(range(x.shape[1])) - set(known):
        values = np.sort(rows[:, i].numpy())
        atoms = np.interp(values, *curve(model, rows, target, i))
        slopes = np.linalg.solve(r[np.ix_(known, known)], r[known, i]) if known else []
        for b in range(len(x)):
            mean = float(np.dot(slopes, scores[b, known]))
            deviation = math.sqrt(1 - float(np.dot(slopes, r[known, i])))
            chances = [
                norm.cdf((norm.ppf((k + 1) / n) - mean) / deviation)
                - norm.cdf((norm.ppf(k / n) - mean) / deviation)
                for k in range(n)
            ]
            found[b, i] = np.dot(chances, atoms)
    return found


def curve(model, rows, target, i):
    order = np.argsort(rows[:, i].numpy())
    return rows[order, i].numpy(), edges(model, rows, target)[order, i]


def observational(model, x, rows, target):
    """Mean marginal contribution over all orders of the features."""
    d = x.shape[1]
    worths = {
        frozenset(known): conditional_means(model, x, rows, target, sorted(known)).sum(1)
        for size in range(d + 1)
        for known in itertools.combinations(range(d), size)
    }
    values = np.zeros(x.shape)
    for order in itertools.permutations(range(d)):
        for place, i in enumerate(order):
            gain = worths[frozenset(order[: place + 1])] - worths[frozenset(order[:place])]
            values[:, i] += gain / math.factorial(d)
    return torch.as_tensor(values)


def test_the_observational_law_is_its_definition(network, draw):
    model = network([3, 1])
    x, rows = draw(4, 3), draw(12, 3, seed=2)
    rows[:, 1] += 2 * rows[:, 0]
    expected = observational(model, x, rows, 0)
    found = additive(problem_of(model, x, rows), law="observational")
    torch.testing.assert_close(found.values, expected, rtol=1e-10, atol=1e-12)
    gap = model(x)[:, 0].detach() - found.reference - found.values.sum(1)
    assert float(gap.abs().max()) < 1e-12
    plain = additive(problem_of(model, x, rows)).values
    assert float((plain - found.values).abs().max()) > 0.01  # the laws differ here


def test_independent_features_make_both_laws_one(network, draw):
    model = network([2, 1])
    grid = torch.tensor(list(itertools.product([-1.0, 0.2, 0.9], [-0.5, 0.1, 1.5]))).double()
    x = draw(4, 2)
    plain = additive(problem_of(model, x, grid)).values
    found = additive(problem_of(model, x, grid), law="observational").values
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)


def test_a_twin_that_the_model_does_not_read_shares_the_credit(network, draw):
    model = network([2, 1])
    with torch.no_grad():
        model.layers[0].mask[:, 1] = 0
    rows = draw(40, 2, seed=2)
    rows[:, 1] = rows[:, 0]
    found = additive(problem_of(model, rows[:5], rows), law="observational").values
    torch.testing.assert_close(found[:, 0], found[:, 1], rtol=1e-6, atol=1e-9)
    plain = additive(problem_of(model, rows[:5], rows)).values
    assert float(plain[:, 1].abs().max()) == 0.0
    torch.testing.assert_close(found.sum(1), plain.sum(1), rtol=1e-9, atol=1e-9)


def test_a_feature_that_stands_still_does_no_harm(network, draw):
    model = network([3, 1])
    rows = draw(6, 3, seed=2)
    rows[:, 2] = 0.3
    found = additive(problem_of(model, draw(4, 3), rows), law="observational").values
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("widths", [[3, 2, 1], [3, (0, 1)]])
def test_other_models_are_refused(network, draw, widths):
    model = network(widths)
    got = "2 layers" if len(widths) > 2 else "a product"
    with pytest.raises(MethodError, match=re.escape(f"features for method 'additive', got {got}")):
        additive(problem_of(model, draw(2, 3), draw(2, 3)))


def test_too_many_features_to_condition_on(draw):
    case = problem_of(KAN([15, 1]).double(), draw(2, 15), draw(3, 15))
    text = "at most 14 features for the observational distribution, got 15"
    with pytest.raises(MethodError, match=text):
        additive(case, law="observational")
    with pytest.raises(InvalidValueError, match=r"Did you mean 'observational'\?"):
        additive(case, law="observatonal")


def test_scores_of_the_rows_are_normal_and_ties_share():
    rows = torch.tensor([[3.0], [1.0], [1.0], [2.0]]).double()
    law = GaussianCopula(rows)
    expected = norm.ppf([7 / 8, 2 / 8, 2 / 8, 5 / 8])
    torch.testing.assert_close(law.scores(rows)[:, 0], torch.as_tensor(expected))
    beyond = law.scores(torch.tensor([[9.0], [-9.0], [1.5]]).double())[:, 0]
    expected = norm.ppf([7 / 8, 2 / 8, (2 / 8 + 5 / 8) / 2])
    torch.testing.assert_close(beyond, torch.as_tensor(expected))
