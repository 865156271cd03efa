"""Scores are best for the truth, and bad for what is wrong in one way each."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from benchmarks.attribution.cases import CASES
from benchmarks.attribution.scoring import (
    draw_sample,
    leakage,
    order_agreement,
    relative_error,
    score_local,
    sign_agreement,
)
from kanlens.attribution._attribute import attribute
from kanlens.attribution._problem import Baseline
from kanlens.attribution._result import Attribution


def attribution(sample, values, **changes):
    with torch.no_grad():
        output = sample.case.model(sample.x)[:, 0]
        reference = sample.case.model(sample.background)[:, 0].mean()
    given = {
        "values": values,
        "output": output,
        "reference": reference.expand(len(values)),
        "baseline": Baseline.MEAN_OUTPUT,
        "method": "shapley",
        "features": sample.case.model.feature_names,
        "target": "y",
        "x": sample.x,
    }
    return Attribution(**{**given, **changes})


def scored(name="friedman", method="shapley", change=lambda values: values, **changes):
    sample = draw_sample(name, 6, 7)
    values = change(sample.shapley(Baseline.MEAN_OUTPUT).clone())
    return score_local(method, attribution(sample, values, **changes), sample)


def test_the_truth_is_perfect():
    scores = scored()
    assert scores["shapley_error"] == 0
    assert scores["rank_agreement"] == scores["sign_agreement"] == 1
    assert scores["leakage"] == 0
    assert scores["gap"] < 1e-9
    assert scores["aims_at"] == "Shapley"


def leak(values):
    values[:, 9] += 0.1 * values.abs().max()
    return values


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: -v, {"shapley_error": 2, "sign_agreement": 0, "rank_agreement": 1, "gap": 1.99}),
        (lambda v: 1.001 * v, {"shapley_error": 1e-3, "sign_agreement": 1, "gap": 1e-3}),
        (leak, {"leakage": 0.1}),
    ],
)
def test_faults_are_seen(change, expected):
    scores = scored(change=change)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=0.02)
    assert scored(name="ishigami")["leakage"] is None  # it has no feature that does nothing


@pytest.mark.slow  # runs an experiment
def test_values_of_other_features_are_far_off_though_they_add_up():
    scores = scored(change=lambda values: values.roll(1, 1))
    assert scores["shapley_error"] > 1
    assert scores["rank_agreement"] < 0.7
    assert scores["leakage"] > 0.3
    assert scores["gap"] < 1e-9


def test_errors_need_a_baseline_whose_truth_is_known():
    scores = scored(baseline="something else")
    assert not {"shapley_error", "ig_error"} & set(scores)
    assert scores["rank_agreement"] == 1
    slopes = scored(baseline=Baseline.SLOPES, reference=torch.full((6,), math.nan).double())
    assert slopes["gap"] is None


def test_truth_is_counted_from_the_baseline_of_the_method():
    sample = draw_sample("exp_sin", 6, 7)
    own = sample.shapley(Baseline.MEAN_ROW)
    right = score_local("x", attribution(sample, own, baseline=Baseline.MEAN_ROW), sample)
    wrong = score_local("x", attribution(sample, own), sample)
    assert right["shapley_error"] == 0
    assert wrong["shapley_error"] > 0.05


def test_integrated_gradients_have_a_truth_of_their_own():
    sample = draw_sample("exp_sin", 6, 7)
    paths = attribution(sample, sample.integrated_gradients(Baseline.MEAN_OUTPUT))
    scores = score_local("integrated_gradients", paths, sample)
    assert scores["ig_error"] == 0
    assert scores["shapley_error"] > 0.05
    assert scores["aims_at"] == "integrated gradients"


def test_claims_about_the_own_error_are_checked():
    off = 1e-3
    bound = torch.full((6, 10), 2 * off).double()
    kept = scored(change=lambda values: values + off, bound=bound)
    broken = scored(change=lambda values: values + off, bound=bound / 4)
    spread = scored(change=lambda values: values + off, standard_error=bound / 4)
    assert (kept["covered"], broken["covered"], spread["covered"]) == (1, 0, 1)
    assert scored()["covered"] is None
    assert scored(method="secant", bound=bound)["covered"] is None  # claims nothing known here


def test_ranks_look_only_at_what_the_truth_tells_apart():
    truth = torch.tensor([[1.0, 1.0, -2.0]])
    assert order_agreement(torch.tensor([[0.1, 0.3, 5.0]]), truth) == 1
    assert order_agreement(torch.tensor([[3.0, 2.0, 1.0]]), truth) == -1
    assert order_agreement(torch.ones(1, 3), truth) == 0
    assert math.isnan(order_agreement(truth, torch.ones(1, 3)))


def test_signs_of_nothing_do_not_count():
    truth = torch.tensor([[1.0, 0.0]])
    assert sign_agreement(torch.tensor([[2.0, -3.0]]), truth) == 1
    assert sign_agreement(torch.tensor([[0.0, -3.0]]), truth) == 0


def test_plain_numbers():
    assert relative_error(torch.zeros(2, 2), torch.ones(2, 2)) == 1
    assert leakage(torch.zeros(2, 2), [1]) is None
    assert leakage(torch.ones(2, 2), []) is None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow  # many cases
def test_exact_shapley_values_of_the_network_are_those_of_its_formula(name):
    sample = draw_sample(name, 4, 5)
    found = attribute(sample.case.model, sample.x, method="shapley", background=sample.background)
    scores = score_local("shapley", found, sample)
    assert scores["shapley_error"] < 2e-9
    assert scores["rank_agreement"] == 1
    assert (scores["leakage"] or 0) < 1e-12


@pytest.mark.parametrize("method", ["secant", "captum_feature_ablation", "gradient_x_input"])
def test_methods_that_are_something_else_are_told_apart(method):
    sample = draw_sample("exp_sin", 4, 5)
    found = attribute(sample.case.model, sample.x, method=method, background=sample.background)
    assert score_local(method, found, sample)["shapley_error"] > 5e-3


def test_samples_are_drawn_once_and_always_the_same():
    sample = draw_sample("deep", 4, 5)
    assert sample is draw_sample("deep", 4, 5)
    assert sample.shapley(Baseline.MEAN_OUTPUT) is sample.shapley(Baseline.MEAN_OUTPUT)
    assert not torch.equal(sample.x, sample.background[:4])
    again = dataclasses.replace(sample)
    assert torch.equal(again.x, sample.x)
