"""Exact Shapley values against their definition."""

from __future__ import annotations

import copy

import pytest
import torch

from kanlens.attribution import attribute
from kanlens.attribution.shapley import enumeration, values
from kanlens.data.schema import Feature, Schema, default_schema
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model import analysis
from kanlens.model.network import KAN
from tests.attribution import oracles
from tests.attribution.conftest import build
from tests.attribution.shapley.definition import KINDS, problem_of
from tests.attribution.shapley.definition import network as network_of


@pytest.mark.parametrize("widths", [[1, 1], [3, 1], [1, 2, 1], [4, 3, 1], [3, 2, 2, 1]])
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_values_are_mean_marginal_contributions(widths, extrapolation, network, draw):
    model = network(widths, extrapolation=extrapolation)
    x, rows = draw(2, widths[0]), draw(3, widths[0], seed=2)
    found = attribute(model, x, background=rows)
    with torch.no_grad():
        expected = oracles.shapley(model, x, rows, 0)
        mean = model(rows).mean()
    torch.testing.assert_close(found.values, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.reference, mean.expand(2))
    assert found.baseline == "mean output over the background"


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_every_kind_of_network(kind, draw):
    model, target = network_of(kind)
    x, rows = 1.5 * draw(2, model.widths[0]), draw(3, model.widths[0], seed=2)
    with torch.no_grad():
        found = values.shapley(problem_of(model, x, rows, target)).values
        expected = oracles.shapley(model, x, rows, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


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


def test_one_layer_is_closed_form_to_rounding(network, draw):
    model, x, rows = network([3, 2]), draw(5, 3), draw(4, 3, seed=2)
    found = attribute(model, x, background=rows, target=1)
    with torch.no_grad():
        expected = oracles.shapley(model, x, rows, 1)
    assert float((found.values - expected).abs().max()) <= 1e-14


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


def test_too_many_features_to_enumerate_name_the_way_out(network, draw):
    model, x = network([15, 2, 1]), draw(2, 15)
    with pytest.raises(MethodError, match="features in a game for algorithm 'enumeration', got 15"):
        attribute(model, x, background=draw(3, 15, seed=2), algorithm="enumeration")


def one_hot(model):
    """Features: color=red, size, color=blue, color=green; the first, third and fourth are one."""
    kinds = ("red", None, "blue", "green")
    categories = ("blue", "green", "red")
    model.schema = Schema(
        features=tuple(
            Feature(name="size", column="size")
            if kind is None
            else Feature(
                name=f"color={kind}",
                column="color",
                kind="categorical",
                category=kind,
                categories=categories,
            )
            for kind in kinds
        ),
        outputs=default_schema(4, 1).outputs,
    )
    return model


@pytest.mark.parametrize("widths", [[4, 1], [4, 3, 1]])
def test_columns_play_as_one(widths, network):
    model = one_hot(network(widths))
    x = torch.tensor([[1.0, 0.3, 0, 0], [0, -0.5, 1, 0]], dtype=torch.float64)
    rows = torch.tensor([[0.0, 0.1, 0, 1], [1, 0.9, 0, 0]], dtype=torch.float64)
    found = attribute(model, x, background=rows, groups="columns")
    assert found.features == ("color", "size")
    assert found.x is None
    with torch.no_grad():
        for b in range(2):
            size_only, color_only = rows.clone(), x[b].repeat(2, 1)
            size_only[:, 1], color_only[:, 1] = x[b, 1], rows[:, 1]
            worth = [model(z).mean() for z in (rows, color_only, size_only, x[b : b + 1])]
            none, color, size, both = worth
            expected = torch.stack([color - none + both - size, size - none + both - color]) / 2
            torch.testing.assert_close(found.values[b], expected)
    assert found.to_frame().columns[:2].tolist() == ["color", "size"]


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
