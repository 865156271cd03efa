"""Exact Shapley values against their definition."""

import copy

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley import _values as values
from kanlens.data._schema import default_schema
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model import _analysis as analysis
from kanlens.model._network import KAN
from tests.attribution import oracles
from tests.attribution.conftest import build, problem_of


@pytest.mark.parametrize("widths", [[1, 1], [1, 2, 1], [3, 2, 2, 1]])
def test_values_are_mean_marginal_contributions(widths, network, draw):
    model = network(widths)
    x, rows = draw(2, widths[0]), draw(3, widths[0], seed=2)
    found = attribute(model, x, background=rows)
    with torch.no_grad():
        expected = oracles.shapley(model, x, rows, 0)
        mean = model(rows).mean()
    torch.testing.assert_close(found.values, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.reference, mean.expand(2))
    assert found.baseline == "mean output over the background"


def test_remarks_say_how_it_was_done(draw):
    x, rows = draw(2, 4), draw(3, 4, seed=2)

    def remark(model, **options):
        found = values.shapley(problem_of(model, x, rows), **options)
        return found.remark, found.evaluations

    with torch.no_grad():
        assert remark(build([4, 1])) == ("closed form: a sum of functions", 1.0)
        assert remark(build([4, 3, 1])) == ("1 game of 4 features enumerated", 48.0)
        model = build([4, 3, 1])
        model.layers[0].mask[0, 3] = model.layers[0].mask[1, 2] = 0
        model.layers[0].mask[2, 1:] = 0
        wanted = "2 games of 3 features enumerated, 1 game of 1 feature enumerated"
        assert remark(model) == (wanted, 54.0)
        assert remark(model, groups="columns")[0] == wanted.replace("feature", "column")
        model.layers[1].mask.zero_()
        assert remark(model) == ("no feature can change the output", 0.0)


def test_blocks_change_nothing(network, draw, monkeypatch):
    model, x, rows = network([3, 3, 2]), draw(3, 3), draw(4, 3, seed=2)
    expected = attribute(model, x, background=rows, target="y2")
    monkeypatch.setattr(analysis, "BUDGET", 150)
    monkeypatch.setattr(enumeration, "BUDGET", 16)
    monkeypatch.setattr(enumeration, "STEP", 100)
    found = attribute(model, x, background=rows, target="y2")
    torch.testing.assert_close(found.values, expected.values, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found.reference, expected.reference)


def test_features_without_effect_do_not_count_against_the_limit(network, draw):
    model, x, rows = network([17, 3, 1]), draw(2, 17), draw(2, 17, seed=2)
    with torch.no_grad():
        model.layers[0].mask[:, 2:14] = 0
        model.layers[0].spline_weight[:, 14] = 0
        model.layers[0].base_weight[:, 14] = 0
    x[:, 15], rows[:, 15] = 0.25, 0.25  # never changes
    found = attribute(model, x, background=rows)
    assert bool((found.values[:, 2:16] == 0).all())
    assert float(found.completeness_gap.abs().max()) < 1e-12


def test_edges_into_dead_nodes_do_not_count(network, draw):
    model, x, rows = network([15, 2, 2]), draw(2, 15), draw(2, 15, seed=2)
    with torch.no_grad():
        model.layers[0].mask[0, 3:] = 0
        model.layers[1].mask[1, 1] = 0  # node 1 leads to the first output only
    found = attribute(model, x, background=rows, target=1)
    assert bool((found.values[:, 3:] == 0).all())
    assert bool((found.values[:, :3] != 0).all())
    assert found.remark == "1 game of 3 features enumerated"
    with pytest.raises(MethodError, match="at most 14"):
        attribute(model, x, background=rows, target=0, algorithm="enumeration")


def test_unknown_groups_are_refused(network, draw):
    with pytest.raises(InvalidValueError, match="to be one of columns, features, got 'column'"):
        attribute(network([2, 1]), draw(2, 2), background=draw(2, 2), groups="column")


@pytest.mark.parametrize("widths", [[2, 1], [2, 2, 1], [2, 2, 2, 1]])
@pytest.mark.parametrize("method", ["shapley", "interactions"])
def test_coalitions_without_a_value_are_refused(widths, method):
    model = KAN.from_layers(
        [copy.deepcopy(layer) for layer in build(widths).layers],
        default_schema(2, 1),
    )
    model.layers[0].assign(0, 0, "log", [1.0, 0.0, 1.0, 0.0])
    x = torch.tensor([[0.5, 0.5], [0.2, 0.1]], dtype=torch.float64)
    kept = attribute(model, x, background=x, method=method)
    assert bool(torch.isfinite(kept.values).all())
    with pytest.raises(MethodError, match="rows are mixed, got NaN or infinity in the background"):
        attribute(model, x, background=-x, method=method)
