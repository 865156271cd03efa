"""`compare`: methods side by side."""

import json
import math
import re

import pytest
import torch

from kanlens.attribution import METHODS, attribute, compare
from kanlens.attribution._compare import DEFAULT_METHODS, comparable, verdict
from kanlens.attribution._problem import Baseline
from kanlens.attribution.metrics import METRICS
from kanlens.errors import DataError, DTypeError, InvalidValueError, MethodError

FAST = ["shapley", "secant", "gradient_x_input", "captum_feature_ablation"]


@pytest.fixture
def model(network):
    return network([3, 2, 1])


@pytest.fixture
def x(draw):
    return draw(4, 3)


@pytest.fixture
def rows(draw):
    return draw(3, 3, seed=2)


@pytest.mark.slow  # the well-known methods once, captum loaded
def test_the_well_known_methods_stand_side_by_side(model, x, rows):
    g = torch.Generator().manual_seed(0)
    found = compare(model, x[:2], background=rows[:2], generator=g)
    frame = found.to_frame().set_index("method")
    names = [name for name in DEFAULT_METHODS if name in METHODS]
    assert frame.index.tolist() == [*names, "random"]
    assert list(found.attributions) == [*names, "random"]
    quick = [name for name, metric in METRICS.items() if metric.needs <= {"exact", "model"}]
    last = ["offgrid", "evaluations", "seconds", "verdict"]
    assert frame.columns.tolist() == ["exact", "complete", "baseline", *quick, *last]
    assert found.arrows == {name: METRICS[name].arrow for name in quick}
    assert frame.loc["shapley", "shapley_error"] == 0.0
    assert frame.loc["shapley", "shapley_rank"] == 1.0
    assert bool((frame.loc[frame["complete"], "relative_gap"] < 1e-3).all())
    assert bool((frame.loc[~frame["complete"], "relative_gap"] > 1e-3).all())
    assert bool((frame.loc[names, "seconds"] > 0).all())
    assert found.skipped == {}
    assert found.importance.index.tolist() == ["x1", "x2", "x3"]
    assert found.importance.columns.tolist() == names
    assert found.agreement.shape == (len(names) + 1, len(names) + 1)
    assert bool((found.agreement.to_numpy() == found.agreement.to_numpy().T).all())
    data = json.loads(found.to_json())
    assert data["methods"][0]["method"] == "shapley"
    assert data["importance"]["secant"].keys() == {"x1", "x2", "x3"}
    assert data["arrows"]["shapley_error"] == "↓"


@pytest.mark.slow  # every method once
def test_all_methods_are_every_local_one_that_fits(model, x, rows):
    found = compare(model, x, background=rows, methods="all", metrics=["relative_gap"])
    assert set(found.attributions) | set(found.skipped) == {*comparable(), "random"}
    assert list(found.skipped) == ["additive"]
    assert "a sum of functions of single features" in found.skipped["additive"]
    known = found.frame.set_index("method")
    slopes = known.loc["gradient"]
    assert slopes["verdict"] == "slopes: how steep the output is, not what a feature adds"
    assert slopes["relative_gap"] != slopes["relative_gap"]  # NaN


def test_metrics_that_attribute_again_are_taken_when_asked_for(model, x, rows):
    slow = [name for name, metric in METRICS.items() if "method" in metric.needs]
    assert slow
    found = compare(model, x, background=rows, methods=["secant"], metrics=slow)
    assert bool(found.frame.set_index("method").loc["secant", slow].notna().all())
    assert bool(found.frame.set_index("method").loc["random", slow].isna().all())


@pytest.mark.slow  # takes a while
def test_the_floor_knows_nothing_and_everything_is_measured_for_every_sample(model, x, rows):
    found = compare(model, x, background=rows, methods=["shapley", "secant"])
    frame = found.frame.set_index("method")
    assert frame.loc["random", "verdict"] == "the floor: random values"
    assert frame.loc["random", "shapley_error"] > 5 * frame.loc["secant", "shapley_error"]
    for name in ("shapley", "secant", "random"):
        assert found.scores[name]["shapley_error"].rows.shape == (len(x),)
    again = compare(model, x, background=rows, methods=["shapley", "secant"])
    assert torch.equal(again.attributions["random"].values, found.attributions["random"].values)


@pytest.mark.slow  # takes a while
def test_errors_are_against_the_same_baseline(model, x, rows):
    found = compare(model, x, background=rows, methods=FAST).frame.set_index("method")
    mean = attribute(model, x, background=rows.mean(0, keepdim=True)).values
    ablation = attribute(model, x, method=FAST[3], background=rows).values
    error = float((ablation - mean).abs().sum() / mean.abs().sum())
    assert found.loc[FAST[3], "shapley_error"] == pytest.approx(error)
    exact = attribute(model, x, background=rows).values
    secant = attribute(model, x, method="secant", background=rows).values
    error = float((secant - exact).abs().sum() / exact.abs().sum())
    assert found.loc["secant", "shapley_error"] == pytest.approx(error)


def test_exact_values_are_made_when_a_metric_needs_them(model, x, rows):
    both = compare(model, x, background=rows, methods=["shapley", "secant"]).frame
    model.background = rows  # the default
    alone = compare(model, x, methods=["secant"], metrics=["shapley_error"]).frame
    assert "shapley_error" in alone
    assert "gini" not in alone
    assert alone["shapley_error"][0] == both["shapley_error"][1]


def test_estimates_are_no_truth_to_measure_others_by(network, draw):
    model, x = network([15, 2, 2, 1]), draw(2, 15)  # too deep and wide for all coalitions
    generator = torch.Generator().manual_seed(0)
    found = compare(
        model,
        x,
        background=draw(2, 15, seed=2),
        methods=["shapley", "secant"],
        metrics=["shapley_error", "relative_gap"],
        generator=generator,
    )
    assert found.attributions["shapley"].standard_error is not None
    assert found.frame["shapley_error"].isna().all()
    assert json.loads(found.to_json())["methods"][0]["shapley_error"] is None
    verdicts = found.frame.set_index("method")["verdict"]
    assert verdicts["secant"].startswith("complete; there are no exact Shapley values to compare")


def test_values_with_a_small_bound_are_truth_enough(network, draw):
    model, x = network([15, 2, 1]), draw(2, 15)
    rows = draw(2, 15, seed=2)
    found = compare(
        model, x, background=rows, methods=["secant"], metrics=["shapley_error"]
    ).frame.set_index("method")
    exact = attribute(model, x, background=rows)
    assert exact.bound is not None
    secant = attribute(model, x, method="secant", background=rows).values
    error = float((secant - exact.values).abs().sum() / exact.values.abs().sum())
    assert found.loc["secant", "shapley_error"] == pytest.approx(error)


def check(error, text, *arguments, **options):
    with pytest.raises(error, match=f"^compare: expected .*{re.escape(text)}"):
        compare(*arguments, **options)


def test_arguments_are_checked(model, x, rows):
    for methods, error, text in (
        (["secant", "additive"], MethodError, "for method 'additive', got 2 layers"),
        (["weight_l1"], InvalidValueError, "got 'weight_l1'. Choose one of"),
        (["secan"], InvalidValueError, "got 'secan'. Did you mean 'secant'?"),
        ([], InvalidValueError, "at least one method, got none"),
        (["captum_lrp"], MethodError, "valid for a KAN, got 'captum_lrp'"),
        (["pykan"], InvalidValueError, "'pykan'. Choose one of those, or call importance with"),
        ("captum_layer_activation", InvalidValueError, "or call attribute with method='captum_la"),
    ):
        check(error, text, model, x, background=rows, methods=methods)
    text = "metrics to be one of"
    check(InvalidValueError, text, model, x, background=rows, metrics=["ginni"])
    check(MethodError, "background rows, got None", model, x)
    x[0, 0] = torch.nan
    text = "finite numbers, got nan at row 0, column 'x1' (1 such cell)"
    check(DataError, text, model, x, background=rows)


@pytest.mark.parametrize("given", [3, [3], [["secant"]], True])
def test_methods_and_metrics_are_names(model, x, rows, given):
    text = f"methods as names, or 'all', got {given!r}"
    check(DTypeError, text, model, x, background=rows, methods=given)
    text = "metrics as names, or 'all', got"
    check(DTypeError, text, model, x, background=rows, methods=["secant"], metrics=given)


def test_when_no_method_fits_the_first_reason_is_given(model, x, rows):
    with torch.no_grad():
        model.layers[1].bias.fill_(1e200)
        model.output_scale.fill_(1e200)
    text = "a model with finite outputs, got NaN or infinity"
    check(MethodError, text, model, x, background=rows)


def test_verdicts_do_not_depend_on_the_metrics_shown(model, x, rows):
    methods = ["secant", "gradient_x_input"]
    found = compare(model, x, background=rows, methods=methods, metrics=["gini"]).frame
    assert found["verdict"][0] == "complete; not compared with the Shapley values"
    assert found["verdict"][1].startswith("incomplete: leaves ")
    assert "relative_gap" not in found


def said(**changes):
    known = {
        "slopes": False,
        "random": False,
        "baseline": Baseline.MEAN_OUTPUT,
        "gap": 1e-15,
        "error": 0.05,
        "rank": 0.9,
        "floor": 1.4,
    }
    return verdict(**{**known, **changes})


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"slopes": True, "gap": math.nan}, "slopes:"),
        ({"gap": 0.02}, "incomplete: leaves 2% of the change unexplained; 5% off"),
        ({"gap": 3.0, "error": math.nan}, "incomplete: leaves 300% of the change unexplained"),
        ({"error": math.nan}, "complete; there are no exact Shapley values to compare it with"),
        ({"error": 1e-10}, "exact: these are the Shapley values (error 1e-10)"),
        (
            {"error": 1e-10, "baseline": Baseline.MEAN_ROW},
            f"exact: these are the Shapley values counted from the {Baseline.MEAN_ROW}",
        ),
        ({"error": 1.5}, "misleading: complete, but no nearer to the Shapley values than chance"),
        ({}, "close: complete, 5% off the Shapley values, ranks agree 0.90"),
        ({"error": 0.3, "rank": math.nan}, "different: complete, 30% off the Shapley values"),
        ({"random": True}, "close: an estimate of the Shapley values, 5% off"),
        ({"random": True, "error": 0.3}, "rough: an estimate of the Shapley values, 30% off"),
        ({"error": 1.5, "floor": math.inf}, "different: complete, 150% off"),
    ],
)
def test_every_kind_of_evidence_has_its_words(changes, start):
    assert said(**changes).startswith(start)


def test_the_rounding_of_the_values_is_no_error():
    text = "exact: these are the Shapley values (error 9e-08)"
    assert said(error=9e-8, rounding=1.2e-7) == text
    assert said(error=9e-8).startswith("close: complete")
