from __future__ import annotations

import math
import re

import pytest
import torch

from kanlens.attribution._compare import DEFAULT_METHODS
from kanlens.errors import DataError
from kanlens.model._network import KAN
from kanlens.reporting._planning import (
    BACKGROUND,
    LARGE,
    MIN_BACKGROUND,
    MIN_ROWS,
    SHAPLEY,
    _shrunk,
    make_plan,
    shapley_evaluations,
)
from kanlens.reporting._report_data import Subject, read_subject
from tests.reporting.conftest import network, seeded


def subject(widths: list[int], rows: int = 1000) -> Subject:
    x = torch.rand(rows, widths[0], generator=seeded(), dtype=torch.float64)
    return read_subject(network(widths), x, 0)


def test_a_small_model_gets_every_default_method() -> None:
    plan = make_plan(subject([3, 2, 1]), None, None, 200)
    assert plan.methods == DEFAULT_METHODS
    assert plan.method == "shapley"
    assert plan.left_out == {}
    assert len(plan.rows) == 200
    assert len(plan.background) == 12  # all that the model kept
    assert plan.origin == "stored in the model at training"


def test_integrated_gradients_of_many_breakpoints_are_left_out() -> None:
    x = torch.rand(100, 2, generator=seeded(), dtype=torch.float64)
    deep = KAN([2, 2, 1], grid_size=60, spline_order=1).double()
    plan = make_plan(read_subject(deep, x, 0), None, None, 200)
    assert plan.left_out == {"integrated_gradients": LARGE}
    named = make_plan(read_subject(deep, x, 0), None, ["integrated_gradients"], 200)
    assert named.methods == ("integrated_gradients",)
    additive = KAN([2, 1], grid_size=60, spline_order=1).double()
    assert make_plan(read_subject(additive, x, 0), None, None, 200).left_out == {}


def test_a_usual_model_is_explained_by_exact_shapley_values_in_all_rows() -> None:
    given = torch.rand(500, 8, generator=seeded(), dtype=torch.float64)
    plan = make_plan(subject([8, 5, 1]), given, None, 200)
    assert (plan.method, len(plan.rows), len(plan.background)) == ("shapley", 200, BACKGROUND)
    assert plan.left_out == {}
    assert (len(plan.pairs[0]), plan.pairs[1].shape) == (200, (BACKGROUND, 8))
    assert plan.flows


def test_exact_shapley_values_get_fewer_rows_as_features_grow() -> None:
    given = torch.rand(500, 13, generator=seeded(), dtype=torch.float64)
    found = subject([13, 8, 1])
    plan = make_plan(found, given, None, 200)
    assert plan.method == "shapley"
    assert MIN_ROWS <= len(plan.rows) < 200
    assert MIN_BACKGROUND <= len(plan.background) < BACKGROUND
    unit = shapley_evaluations(found.model, found.x[:50], given, 0)
    assert len(plan.rows) * len(plan.background) * unit <= SHAPLEY
    assert len(plan.pairs[0]) * len(plan.pairs[1]) < len(plan.rows) * len(plan.background)


def test_more_features_than_can_be_enumerated_are_explained_in_cosines() -> None:
    plan = make_plan(subject([20, 3, 1]), None, None, 200)
    assert plan.method == "shapley"
    assert "shapley" in plan.methods


def test_beyond_that_the_secant_explains() -> None:
    plan = make_plan(subject([16, 2, 2, 1]), None, None, 200)
    assert plan.method == "secant"
    assert plan.left_out == {"shapley": LARGE}
    assert "shapley" not in plan.methods
    assert plan.pairs is None
    assert plan.flows


def test_dead_features_are_no_players() -> None:
    model = network([16, 2, 2, 1])
    model.layers[0].mask[:, 4:] = 0
    x = torch.rand(100, 16, generator=seeded(), dtype=torch.float64)
    assert make_plan(read_subject(model, x, None), None, None, 50).method == "shapley"


def test_large_models_leave_out_what_would_take_long() -> None:
    plan = make_plan(subject([160, 60, 20, 2], rows=10), None, None, 200)
    slow = {"shapley", "integrated_gradients", "captum_shapley_value_sampling"}
    assert set(plan.left_out) == slow
    assert set(plan.left_out) | set(plan.methods) == set(DEFAULT_METHODS)
    assert plan.method == "secant"


@pytest.mark.slow  # writes reports
def test_methods_that_were_asked_for_are_all_run() -> None:
    names = ["captum_kernel_shap", "gradient_x_input", "captum_kernel_shap"]
    plan = make_plan(subject([60, 40, 1], rows=30), None, names, 200)
    assert plan.methods == ("captum_kernel_shap", "gradient_x_input")
    assert plan.method == "captum_kernel_shap"
    assert len(plan.rows) == 30


def test_without_remembered_rows_those_of_the_data_are_the_background() -> None:
    found = subject([2, 1], rows=300)
    found.model.background = None
    plan = make_plan(found, None, None, 10)
    assert plan.origin == "of this data, since the model stores none"
    assert len(plan.background) == BACKGROUND


def test_a_bad_background_is_named() -> None:
    bad = torch.full((3, 2), torch.inf)
    text = (
        "report: background: expected finite numbers, got inf at row 0, column 'x1' (6 such "
        "cells). Drop or impute those rows."
    )
    with pytest.raises(DataError, match=re.escape(text)):
        make_plan(subject([2, 1]), bad, None, 10)


def test_work_is_shrunk_to_what_can_be_paid() -> None:
    given = (200, 100)
    assert _shrunk(given, 20_000) == given
    assert _shrunk(given, 5_000) == (100, 50)
    assert _shrunk(given, 1_250) == (50, 25)
    assert _shrunk(given, 1_000) == (50, 20)
    assert _shrunk(given, 999) is None
    assert _shrunk((30, 10), 300) == (30, 10)
    assert _shrunk((30, 10), 299) is None


def rows(width: int) -> torch.Tensor:
    return torch.rand(6, width, generator=seeded(), dtype=torch.float64)


def cost(model: KAN, x: torch.Tensor) -> float:
    return shapley_evaluations(model, x, x, 0)


def test_a_feature_doubles_the_coalitions() -> None:
    one, two = (cost(network([n, 4, 1]), rows(n)) for n in (8, 9))
    assert two == pytest.approx(2 * one, rel=1e-2)


def test_features_that_never_change_are_no_players() -> None:
    x = rows(9)
    x[:, 3] = 0.25
    assert cost(network([9, 4, 1]), x) == pytest.approx(cost(network([8, 4, 1]), rows(8)))


def test_games_of_few_features_each_are_cheap_however_many_there_are() -> None:
    model = network([16, 8, 1])
    for node in range(8):
        model.layers[0].mask[node] = 0
        model.layers[0].mask[node, 2 * node : 2 * node + 2] = 1
    assert cost(model, rows(16)) < cost(network([8, 8, 1]), rows(8))


def test_deep_games_of_many_features_would_be_sampled() -> None:
    assert cost(network([16, 2, 2, 1]), rows(16)) == math.inf
