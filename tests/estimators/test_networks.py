import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import kanlens
from kanlens.errors import InvalidValueError, RangeWarning
from kanlens.estimators import KANClassifier, KANRegressor


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    x = pd.DataFrame(generator.uniform(-1, 1, (150, 2)), columns=["force", "arm"])
    return x, np.sin(2 * x["force"]) + x["arm"] ** 2


@pytest.mark.slow  # a hundred checks with many fits each
@pytest.mark.filterwarnings("ignore::kanlens.errors.RangeWarning")  # of rows without weight
@parametrize_with_checks(
    [
        KANRegressor(hidden=(), grid_size=3, steps=2, random_state=0),
        KANClassifier(hidden=(), grid_size=3, steps=2, random_state=0),
    ]
)
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


@pytest.mark.slow  # trains networks
def test_a_regressor_and_its_network(table):
    x, y = table
    found = KANRegressor(hidden=(2,), steps=20, random_state=0).fit(x, y)
    assert found.score(x, y) > 0.999
    assert found.model_.widths == (2, 2, 1)
    assert found.model_.feature_names == ("force", "arm")
    assert found.result_.metric > 0.99
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(x), found.predict(x))  # noqa: S301
    rows = x.to_numpy()
    assert kanlens.suggest(found.model_, rows)["layer"].tolist()
    again = clone(found).fit(x, y)
    np.testing.assert_array_equal(again.predict(x), found.predict(x))


def test_columns_called_by_numbers_name_the_features(table):
    x, y = table
    numbered = x.set_axis([3, 4], axis=1)
    found = KANRegressor(hidden=(), steps=2, random_state=0).fit(numbered, y.rename(5))
    assert found.model_.feature_names == ("3", "4")
    assert found.model_.output_names == ("5",)
    assert not hasattr(found, "feature_names_in_")  # as scikit-learn has it
    shown = kanlens.attribute(found.model_, numbered[:3], background=numbered)
    assert shown.features == ("3", "4")
    assert found.fit(x.to_numpy(), y).model_.feature_names == ("x1", "x2")


def test_several_outputs(table):
    x, y = table
    both = np.stack([y, 2 * x["arm"]], axis=1)
    found = KANRegressor(hidden=(), steps=15, random_state=0).fit(x, both)
    assert found.predict(x).shape == (150, 2)
    assert found.score(x, both) > 0.999


def test_targets_keep_their_names(table):
    x, y = table
    regressor = KANRegressor(hidden=(), steps=1, random_state=0)
    assert regressor.fit(x, y.rename("torque")).model_.output_names == ("torque",)
    both = pd.DataFrame({"u": y, "v": y})
    assert regressor.fit(x, both).model_.output_names == ("u", "v")
    assert regressor.fit(x, y.to_numpy()).model_.output_names == ("y",)
    level = pd.Series(np.where(y > 0.5, "high", "low"), name="level")
    schema = KANClassifier(hidden=(), steps=1, random_state=0).fit(x, level).model_.schema
    assert (schema.target, schema.output_names) == ("level", ("level=low",))


@pytest.mark.parametrize("labels", [["low", "high"], [7, 3], [False, True], [2, 10, 1]])
@pytest.mark.slow  # many cases
def test_a_classifier_keeps_its_labels(table, labels):
    x, y = table
    codes = np.digitize(y, np.quantile(y, np.linspace(0, 1, len(labels) + 1)[1:-1]))
    target = np.array(labels)[codes]
    found = KANClassifier(hidden=(), steps=15, random_state=0).fit(x, target)
    assert found.classes_.tolist() == sorted(labels)
    assert found.score(x, target) > 0.9
    assert found.predict(x).dtype == target.dtype
    chances = found.predict_proba(x)
    assert chances.shape == (150, len(labels))
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert (found.classes_[chances.argmax(axis=1)] == found.predict(x)).all()
    assert found.model_.task == "classification"
    assert len(found.model_.output_names) == (1 if len(labels) == 2 else len(labels))


def test_what_cannot_be_trained_on_is_refused(table):
    x, _ = table
    text = "KANClassifier: expected at least two classes, got one class. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        KANClassifier().fit(x, np.zeros(150, dtype=int))
    text = "KANRegressor: expected hidden to be a sequence of layer widths, got 5."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        KANRegressor(hidden=5).fit(x, np.zeros(150))
    with pytest.raises(NotFittedError):
        KANRegressor().predict(x)


@pytest.mark.parametrize("wrong", [-1, 99999999999999999999, "abc"])
def test_what_is_no_random_state_is_refused(table, wrong):
    x, y = table
    text = (
        "KANRegressor: expected random_state to be None, an integer from 0 to 4294967295, or a "
        f"RandomState, got {wrong!r}. For example random_state=0."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KANRegressor(random_state=wrong).fit(x, y)


def test_targets_that_are_none_or_no_numbers_are_refused_in_one_line():
    x = np.random.default_rng(0).normal(size=(30, 2))
    text = "KANClassifier: expected labels, got None in row 1. Leave the row out."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KANClassifier().fit(x, np.array(["a", None, *"ab" * 14], dtype=object))
    text = r"^KANRegressor: expected numbers in y, got .*'a'\)?\. Encode y, or take KANClassifier"
    with pytest.raises(InvalidValueError, match=text):
        KANRegressor().fit(x, np.array(["a"] * 30))


def test_a_tensor_with_a_gradient_is_data():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None].requires_grad_()
    found = KANRegressor(steps=3, random_state=0).fit(x, (x**2)[:, 0])
    assert found.predict(x).shape == (40,)


def fit_briefly(*data, **options):
    return kanlens.fit(*data, **options | {"steps": 1})


@pytest.mark.parametrize(
    ("settings", "call"),
    [
        ({}, "fit_default"),
        ({"hidden": ()}, "fit_default"),
        ({"hidden": (3,)}, "fit_default"),
        ({"hidden": (3,), "grid_size": 4}, "fit_default"),
        ({"hidden": (), "grid_size": 4}, "fit"),
        ({"grid_size": 4}, "fit"),
        ({"hidden": (3,), "steps": 1}, "fit"),
        ({"penalty": "weight_l1", "strength": 1e-3}, "fit"),
    ],
)
@pytest.mark.slow  # many cases
def test_settings_of_training_choose_the_recipe(monkeypatch, settings, call):
    monkeypatch.setattr("kanlens.training._default_ensemble.UPDATES", (20, 1000, 30))
    other = {"fit": "fit_default", "fit_default": "fit"}[call]
    monkeypatch.setattr(f"kanlens.estimators._networks.{other}", pytest.fail)
    if call == "fit":
        monkeypatch.setattr("kanlens.estimators._networks.fit", fit_briefly)
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    model = KANRegressor(random_state=0, **settings).fit(x, x[:, 0] ** 2).model_
    if settings.get("hidden"):
        assert model.widths == (2, 3, 1)
    if "grid_size" in settings:
        assert model.layers[0].grid_size == 4


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("how", [{"hidden": ()}, {"hidden": (3,), "steps": 5}])
def test_monotonic_cst_means_what_it_means_in_scikit_learn(named, how):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 3))
    y = -x[:, 0] + x[:, 1] ** 3 + 0.3 * draw.normal(size=120)
    columns = ["p", "q", "r"] if named else ["x1", "x2", "x3"]
    x = pd.DataFrame(x, columns=columns) if named else x
    signs = dict(zip(columns, (-1, 1, 0), strict=True)) if named else [-1, 1, 0]
    model = KANRegressor(monotonic_cst=signs, random_state=0, **how).fit(x, y)
    assert model.network_.constraints == {columns[0]: "decreasing", columns[1]: "increasing"}
    for place, sign in ((0, -1), (1, 1)):
        rows = np.zeros((50, 3))
        rows[:, place] = np.linspace(-5, 5, 50)
        rows = pd.DataFrame(rows, columns=columns) if named else rows
        with pytest.warns(RangeWarning):
            steps = np.diff(model.predict(rows))
        assert (sign * steps >= -1e-12).all() and np.ptp(steps) > 0.01


@pytest.mark.parametrize("signs", [[1, 0], [1, 0, 0, 0], [2, 0, 0], {"x1": "up"}])
def test_a_wrong_monotonic_cst_is_refused(signs):
    x = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(InvalidValueError, match="monotonic_cst to be -1, 0 or 1"):
        KANRegressor(monotonic_cst=signs).fit(x, x[:, 0])
