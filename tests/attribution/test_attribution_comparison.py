"""`compare`: methods side by side."""

from __future__ import annotations

import json
import re

import pytest
import torch

from kanlens.attribution import METHODS, attribute, compare
from kanlens.attribution.metrics import METRICS
from kanlens.errors import DataError, InvalidValueError, MethodError

LOCAL = [name for name, method in METHODS.items() if method.scope == "local"]
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


@pytest.mark.slow  # every method once, captum loaded
def test_all_methods_stand_side_by_side(model, x, rows):
    g = torch.Generator().manual_seed(0)
    found = compare(model, x[:2], background=rows[:2], generator=g)
    frame = found.to_frame().set_index("method")
    assert frame.index.tolist() == LOCAL
    assert list(found.attributions) == LOCAL
    assert frame.columns.tolist() == ["exact", "complete", "baseline", *METRICS, "seconds"]
    assert frame.loc["shapley", "shapley_error"] == 0.0
    assert frame.loc["shapley", "shapley_rank"] == 1.0
    assert bool((frame.loc[frame["complete"], "relative_gap"] < 1e-3).all())
    assert bool((frame.loc[~frame["complete"], "relative_gap"] > 1e-3).all())
    assert bool((frame["seconds"] > 0).all())
    assert found.skipped == {}
    assert found.importance.index.tolist() == ["x1", "x2", "x3"]
    assert found.importance.columns.tolist() == LOCAL
    assert found.agreement.shape == (len(LOCAL), len(LOCAL))
    assert bool((found.agreement.to_numpy() == found.agreement.to_numpy().T).all())
    data = json.loads(found.to_json())
    assert data["methods"][0]["method"] == "shapley"
    assert data["importance"]["secant"].keys() == {"x1", "x2", "x3"}


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
    alone = compare(model, x, background=rows, methods=["secant"], metrics=["shapley_error"]).frame
    assert alone.columns.tolist()[-2:] == ["shapley_error", "seconds"]
    assert alone["shapley_error"][0] == both["shapley_error"][1]


def test_the_models_own_rows_are_the_default(model, x, rows):
    model.background = rows
    found = compare(model, x, methods=FAST)
    expected = compare(model, x, background=rows, methods=FAST)
    columns = ["shapley_error", "mean_gap"]
    assert found.frame[columns].equals(expected.frame[columns])


def test_methods_that_do_not_fit_are_skipped_with_the_reason(network, draw, monkeypatch):
    for name in LOCAL:
        if METHODS[name].random or name.endswith("integrated_gradients"):
            monkeypatch.delitem(METHODS, name)
    model, x = network([15, 2, 1]), draw(2, 15)
    found = compare(model, x, background=draw(2, 15, seed=2))
    assert list(found.skipped) == ["shapley"]
    assert found.skipped["shapley"].startswith("attribute: expected at most 14 features")
    assert found.frame["shapley_error"].isna().all()
    assert json.loads(found.to_json())["methods"][0]["shapley_error"] is None


def check(error, text, *arguments, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        compare(*arguments, **options)


def test_a_method_that_was_asked_for_must_fit(network, draw):
    text = (
        "compare: expected at most 14 features with an effect for method 'shapley', got 15. "
        "Use method='secant' (closed form) or method='captum_shapley_value_sampling'."
    )
    model, x = network([15, 2, 1]), draw(2, 15)
    check(MethodError, text, model, x, background=draw(2, 15, seed=2), methods=["shapley"])


def test_arguments_are_checked(model, x, rows):
    names = ", ".join(sorted(LOCAL))
    with pytest.raises(InvalidValueError, match=r"got 'weight_l1'\. Choose one of"):
        compare(model, x, background=rows, methods=["weight_l1"])
    text = f"compare: expected methods to be one of {names}, got 'secan'. Did you mean 'secant'?"
    check(InvalidValueError, text, model, x, background=rows, methods=["secan"])
    text = f"compare: expected metrics to be one of {', '.join(sorted(METRICS))}, got 'ginni'. "
    text += "Did you mean 'gini'?"
    check(InvalidValueError, text, model, x, background=rows, metrics=["ginni"])
    text = "compare: expected at least one method, got none. "
    text += "Leave methods out to run all that fit."
    check(InvalidValueError, text, model, x, background=rows, methods=[])
    text = "compare: expected background rows, got None. "
    text += "Pass background=..., rows like those the model was trained on."
    check(MethodError, text, model, x)
    text = "compare: expected a method that says something about a KAN, got 'captum_lrp'. "
    text += "Captum has no rule for SiLU, nor for the edges of a KAN; "
    text += "use method='secant' or method='captum_deep_lift'."
    check(MethodError, text, model, x, background=rows, methods=["captum_lrp"])
    x[0, 0] = torch.nan
    text = "compare: expected finite numbers, got nan at row 0, column 'x1' (1 such cell). "
    text += "Drop or impute those rows."
    check(DataError, text, model, x, background=rows)
