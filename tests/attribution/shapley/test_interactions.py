"""The interaction of every two features against its definition."""

import pytest
import torch

from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley._values import interactions, shapley
from tests.attribution import oracles
from tests.attribution.conftest import build, problem_of
from tests.attribution.shapley import definition
from tests.attribution.shapley.definition import KINDS, masked, network, one_hot


def off_diagonal(square):
    return square - torch.diag_embed(square.diagonal(dim1=1, dim2=2))


def check(model, x, rows, target):
    """Compare values and pairs with the slow versions, and main effects with what is left."""
    problem = problem_of(model, x, rows, target)
    found = interactions(problem)
    pairs = definition.interactions(model, x, rows, target)
    torch.testing.assert_close(off_diagonal(found.interactions), pairs, rtol=1e-11, atol=1e-12)
    values = oracles.shapley(model, x, rows, target)
    torch.testing.assert_close(found.values, values, rtol=1e-11, atol=1e-12)
    main = found.interactions.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(main, values - pairs.sum(2) / 2, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.interactions, found.interactions.mT, rtol=0, atol=0)
    total = found.interactions.triu().sum((1, 2))  # main effects, and each pair once
    change = model(x)[:, target] - model(rows)[:, target].mean()
    torch.testing.assert_close(total, change, rtol=1e-11, atol=1e-11)
    assert found.reference == pytest.approx(float(model(rows)[:, target].mean()))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow  # many cases
def test_pairs_are_as_defined(kind, draw):
    model, target = network(kind)
    check(model, 1.5 * draw(2, model.widths[0]), draw(3, model.widths[0], seed=2), target)


def banzhaf(n):
    """Weights that count all coalitions alike."""
    return (2.0 * enumeration._bits(n) - 1) / 2 ** (n - 1)


def banzhaf_pairs(n):
    return enumeration.pair_weights(n).sign() / 2 ** (n - 2)


@pytest.mark.parametrize("wrong", [banzhaf, banzhaf_pairs])
def test_other_weights_are_rejected(wrong, draw, monkeypatch):
    name = "value_weights" if wrong is banzhaf else "pair_weights"
    weights = wrong(4)
    monkeypatch.setattr(enumeration, name, lambda n: weights)
    with pytest.raises(AssertionError, match="not close"):
        check(build([4, 3, 1]), draw(2, 4), draw(3, 4, seed=2), 0)


def test_one_row_and_a_sample_that_is_it(draw):
    model, x = build([3, 2, 1]), draw(2, 3)
    found = check(model, x, x[:1], 0)
    assert bool((found.interactions[0] == 0).all())
    assert bool((found.values[0] == 0).all())
    assert bool((off_diagonal(found.interactions)[1] != 0).any())


def test_features_in_no_common_game_have_none(draw):
    model, x, rows = build([4, 2, 1]), draw(3, 4), draw(2, 4, seed=2)
    model.layers[0].mask[0, 2:] = 0
    model.layers[0].mask[1, :2] = 0
    found = check(model, x, rows, 0).interactions
    assert bool((found[:, :2, 2:] == 0).all())
    assert bool((found[:, 0, 1] != 0).all())
    alone = check(build([3, 2]), draw(2, 3), draw(2, 3, seed=2), 1)
    assert bool((off_diagonal(alone.interactions) == 0).all())
    torch.testing.assert_close(alone.interactions.diagonal(dim1=1, dim2=2), alone.values)


def test_values_are_those_of_shapley(draw):
    model, x, rows = masked(build([5, 4, 1]), 2), draw(4, 5), draw(3, 5, seed=2)
    problem = problem_of(model, x, rows)
    plain, both = shapley(problem), interactions(problem)
    torch.testing.assert_close(plain.values, both.values, rtol=0, atol=1e-15)
    assert plain.interactions is None
    assert (plain.remark, plain.evaluations) == (both.remark, both.evaluations)


@pytest.mark.parametrize("widths", [[4, 1], [4, 3, 1]])
def test_columns_play_and_interact_as_one(widths):
    model = one_hot(build(widths))
    x = torch.tensor([[1.0, 0.3, 0, 0], [0, -0.5, 1, 0]], dtype=torch.float64)
    rows = torch.tensor([[0.0, 0.1, 0, 1], [1, 0.9, 0, 0]], dtype=torch.float64)
    found = interactions(problem_of(model, x, rows), groups="columns")
    assert found.features == ("color", "size")
    values = shapley(problem_of(model, x, rows), groups="columns").values
    torch.testing.assert_close(values, found.values)
    for b in range(2):
        size_only, color_only = rows.clone(), x[b].repeat(2, 1)
        size_only[:, 1], color_only[:, 1] = x[b, 1], rows[:, 1]
        none, color, size, both = (
            model(z).mean() for z in (rows, color_only, size_only, x[b : b + 1])
        )
        pair = both - color - size + none
        expected = torch.stack([color - none, pair, pair, size - none]).reshape(2, 2)
        torch.testing.assert_close(found.interactions[b], expected)
        expected = torch.stack([color - none, size - none]) + pair / 2
        torch.testing.assert_close(values[b], expected)
