"""What the networks' estimators do beside fitting and predicting arrays."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
import sympy
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kanlens.errors import DTypeError, InvalidValueError
from kanlens.estimators import KANClassifier, KANRegressor

pytestmark = pytest.mark.filterwarnings("ignore::kanlens.errors.RangeWarning")

SMALL = {"hidden": (), "grid_size": 3, "steps": 4, "random_state": 0}
DRAW = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "length": DRAW.normal(size=80),
        "kind": DRAW.choice(["oak", "ash", "elm"], 80),
        "dry": DRAW.random(80) > 0.5,
    }
)
Y = X["length"] + 2 * (X["kind"] == "ash") + X["dry"]


@pytest.fixture(autouse=True)
def _drawn_anew():
    """Draw the same numbers whichever tests ran before."""
    DRAW.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="module")
def frames():
    return KANRegressor(**SMALL).fit(X, Y)


@pytest.mark.slow  # trains networks
def test_columns_of_categories_are_groups(frames):
    assert frames.score(X, Y) > 0.999
    assert frames.n_features_in_ == 3
    assert frames.feature_names_in_.tolist() == [*X]
    assert frames.model_.feature_names == ("length", "kind=ash", "kind=elm", "kind=oak", "dry")
    assert [one.kind for one in frames.model_.schema.features][1:] == [
        *["categorical"] * 3,
        "binary",
    ]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).predict(X), frames.predict(X))  # noqa: S301
    np.testing.assert_array_equal(clone(frames).fit(X, Y).predict(X), frames.predict(X))
    coded = X.assign(kind=X["kind"].astype("category"))
    np.testing.assert_array_equal(KANRegressor(**SMALL).fit(coded, Y).predict(X), frames.predict(X))


def test_other_columns_and_categories_are_refused(frames):
    with pytest.raises(DTypeError, match=r"^KANRegressor: expected a DataFrame, got ndarray\."):
        frames.predict(X.to_numpy())
    with pytest.raises(ValueError, match="feature names should match"):
        frames.predict(X.rename(columns={"dry": "wet"}))
    with pytest.warns(UserWarning, match=r"^KANRegressor: .*'fir'.* none of the known categories"):
        frames.predict(X.assign(kind="fir"))


def test_importances_are_of_columns_and_exact(frames):
    found = frames.feature_importances_
    assert found.shape == (3,)
    rows = frames.model_.background
    values = frames.explain(rows, method="secant", background=rows.mean(0, keepdim=True)).values
    parts = slice(0, 1), slice(1, 4), slice(4, 5)
    sizes = [float(values[:, part].sum(1).abs().mean()) for part in parts]
    np.testing.assert_allclose(found, np.array(sizes) / sum(sizes), rtol=1e-9)


@pytest.mark.slow  # trains networks
def test_importances_of_outputs_are_taken_together():
    x = DRAW.uniform(-1, 1, (60, 2))
    found = KANRegressor(**SMALL).fit(x, np.stack([x[:, 0], 1000 * x[:, 1]], axis=1))
    np.testing.assert_allclose(found.feature_importances_, 0.5, atol=0.1)
    assert len(found.formula_) == 2


@pytest.mark.slow  # trains networks
def test_explanations_and_the_formula():
    x = DRAW.uniform(-1, 1, (60, 1))
    found = KANRegressor(hidden=(), steps=20, random_state=0).fit(x, 2 * x[:, 0] ** 2 + 1)
    explained = found.explain(x[:3])
    assert float(explained.completeness_gap.abs().max()) < 1e-9
    assert found.formula_ is found.formula_
    error = sympy.lambdify(sympy.Symbol("x1"), found.formula_)(x[:, 0]) - found.predict(x)
    assert abs(error).max() < 1e-2
    assert "KANRegressor" in found._repr_html_()
    for name in ("formula_", "feature_importances_"):
        with pytest.raises(NotFittedError, match="expected a fitted estimator"):
            getattr(KANRegressor(), name)


@pytest.mark.slow
@pytest.mark.usefixtures("few_folds")
@pytest.mark.parametrize("made", [KANRegressor, KANClassifier])
@pytest.mark.parametrize("options", [SMALL, {"random_state": 0}], ids=["given", "default"])
def test_a_weight_is_a_number_of_rows(made, options, monkeypatch):
    monkeypatch.setattr("kanlens.training._default_ensemble.UPDATES", (20, 1000, 30))
    x, weights = DRAW.normal(size=(40, 2)), DRAW.integers(0, 4, 40)
    y = np.where(x[:, 0] + DRAW.normal(size=40) > 0, 1, 0)
    weighted = made(**options).fit(x, y, sample_weight=weights)
    repeated = made(**options).fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    plain = made(**options).fit(x, y)
    np.testing.assert_array_equal(weighted.predict(x), repeated.predict(x))
    if made is KANRegressor:
        assert abs(weighted.predict(x) - plain.predict(x)).max() > 1e-3


def test_weights_of_nothing_are_refused():
    for wrong, text in ((np.zeros(80), "at least"), (np.full(80, -1.0), "Negative")):
        with pytest.raises(ValueError, match=text):
            KANRegressor(**SMALL).fit(X, Y, sample_weight=wrong)


@pytest.mark.slow  # trains networks
def test_training_on_goes_on_from_what_is_known():
    x = DRAW.uniform(-1, 1, (100, 1))
    y = 3 * x[:, 0]
    found = KANRegressor(**SMALL).partial_fit(x, y)
    before, network = found.score(x, y + 1), found.model_
    for _ in range(20):
        found.partial_fit(x, y + 1)
    assert found.model_ is network
    assert found.score(x, y + 1) > before + 0.05
    labels = np.where(y > 0, "high", "low")
    classes = ["high", "low", "other"]
    some = KANClassifier(**SMALL).partial_fit(x[y > 0], labels[y > 0], classes=classes)
    some.partial_fit(x, labels)
    assert some.predict_proba(x).shape == (100, 3)
    text = "KANClassifier: expected labels among those of the first call, got 'new'. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        some.partial_fit(x[:2], ["new", "low"])


@pytest.mark.slow  # trains networks
def test_pipelines_and_searches():
    x = DRAW.normal(size=(60, 2))
    pipe = make_pipeline(StandardScaler(), KANRegressor(**SMALL))
    search = GridSearchCV(pipe, {"kanregressor__grid_size": [3, 5]}, cv=2).fit(x, x[:, 0] ** 2)
    assert search.best_score_ > 0.7
    scaled = TransformedTargetRegressor(KANRegressor(**SMALL), transformer=StandardScaler())
    assert scaled.fit(x, x[:, 0]).score(x, x[:, 0]) > 0.99


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["x", *range(79)], "numbers, got 'x' in row 0 of column 'c'. Correct that cell."),
        (
            [pd.Timedelta(1)] * 80,
            "numbers or text, got Timedelta.*Convert the column.",
        ),
    ],
)
def test_advice_is_what_an_estimator_can_take(cells, text):
    with pytest.raises(ValueError, match=rf"^KANRegressor: expected {text}") as caught:
        KANRegressor(**SMALL).fit(X.assign(c=cells), Y)
    assert "=" not in str(caught.value)
    text = "^KANRegressor: .* in 'c'. These columns are left out.$"
    with pytest.warns(UserWarning, match=text):
        KANRegressor(**SMALL).fit(X.assign(c=[f"t{i}" for i in range(80)]), Y)
