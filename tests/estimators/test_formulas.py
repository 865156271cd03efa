import pickle
import re

import numpy as np
import pandas as pd
import pytest
import sympy
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from kanlens.errors import InvalidValueError
from kanlens.estimators import KANSymbolicRegressor
from kanlens.symbolic import multi_start


@pytest.fixture
def quick(monkeypatch):
    """The plumbing is looked at, not the recipe: train for a moment."""
    monkeypatch.setattr(multi_start, "_STEPS", (1, 1, 1))
    monkeypatch.setattr(multi_start, "_ROUNDS", 1)


@pytest.fixture
def short(monkeypatch):
    """A clean sum of functions is found in a few steps, too."""
    monkeypatch.setattr(multi_start, "_STEPS", (2, 5, 5))
    monkeypatch.setattr(multi_start, "_ROUNDS", 1)


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    x = pd.DataFrame(generator.uniform(-1, 1, (120, 2)), columns=["force", "arm"])
    return x, pd.Series(np.sin(2 * x["force"]) + x["arm"] ** 2, name="torque")


@pytest.fixture(scope="module")
def found(table):
    return KANSymbolicRegressor(starts=2, random_state=0).fit(*table)


@pytest.mark.usefixtures("quick")
@pytest.mark.slow  # fifty checks with many fits each
@parametrize_with_checks(
    [KANSymbolicRegressor(starts=1, functions=("x",), grid_size=3, random_state=0)]
)
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


def test_formula_names_and_receipt(found, table):
    force, arm = sympy.symbols("force arm")
    assert found.sympy() == sympy.sin(2 * force) + arm**2
    assert found.score(*table) == pytest.approx(1.0)
    assert found.feature_names_in_.tolist() == ["force", "arm"]
    assert found.result_.output_names == ("torque",)
    assert found.receipt_.chosen_on
    assert not found.receipt_.held_out
    assert (found.receipt_.rows, found.receipt_.fitted_rows) == (24, 96)
    latex = r"\mathrm{arm}^{2} + \sin{\left(2 \, \mathrm{force} \right)}"
    assert found.latex() == latex
    assert r"\toprule" in found.latex_table()
    assert "Score" in found.latex_table(columns=("equation", "score"))
    assert found.equations_["equation"].iloc[-1] == "arm**2 + sin(2*force)"
    assert found.get_best()["equation"] == "arm**2 + sin(2*force)"
    assert found.predict(table[0]).shape == (120,)
    assert np.ptp(found.predict(table[0], 0)) == 0
    rows = torch.tensor(table[0].to_numpy())
    np.testing.assert_allclose(found.pytorch()(rows).detach()[:, 0], found.predict(table[0]))


def test_parameters_are_read_set_and_cloned(found):
    fresh = clone(found)
    assert fresh.get_params() == found.get_params()
    assert fresh.set_params(starts=3, functions=("x",)).get_params()["functions"] == ("x",)
    with pytest.raises(NotFittedError):
        fresh.predict(np.zeros((2, 2)))
    with pytest.raises(NotFittedError):
        _ = fresh.equations_


def test_it_can_be_stored(found, table):
    back = pickle.loads(pickle.dumps(found))  # noqa: S301
    np.testing.assert_array_equal(back.predict(table[0]), found.predict(table[0]))


@pytest.mark.usefixtures("quick")
def test_one_function_may_be_named_alone(table):
    x, _ = table
    one = KANSymbolicRegressor(starts=1, functions="x^2", random_state=0)
    assert one.fit(x, x["arm"] ** 2).sympy() == sympy.Symbol("arm") ** 2


@pytest.mark.usefixtures("quick")
def test_equal_seeds_give_equal_formulas(table):
    runs = [KANSymbolicRegressor(starts=2, random_state=5).fit(*table).sympy() for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("short")
def test_several_outputs_in_a_pipeline(table):
    x, y = table
    both = pd.DataFrame({"u": y, "v": 3 * x["arm"]})
    model = make_pipeline(StandardScaler(), KANSymbolicRegressor(starts=1, random_state=0))
    model.fit(x, both)
    assert model.predict(x).shape == (120, 2)
    assert model.score(x, both) > 0.9999
    assert model[-1].result_.output_names == ("u", "v")


@pytest.mark.usefixtures("short")
def test_dropped_features_are_still_asked_for():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (100, 3))
    found = KANSymbolicRegressor(starts=1, random_state=0).fit(x, 2 * x[:, 1] ** 2)
    assert found.sympy() == 2 * sympy.Symbol("x2") ** 2
    np.testing.assert_allclose(found.predict(x), 2 * x[:, 1] ** 2, atol=1e-12)


@pytest.mark.usefixtures("quick")
def test_wrong_parameters_are_refused(table):
    text = "symbolize: expected r2_min above 0 and at most 1, got 2. 0.99 is usual."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        KANSymbolicRegressor(r2_min=2).fit(*table)
    text = "KANSymbolicRegressor: expected starts to be a whole number of at least 1, got 0. "
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}"):
        KANSymbolicRegressor(starts=0).fit(*table)
    with pytest.raises(InvalidValueError, match="expected model_selection to be one of"):
        KANSymbolicRegressor(model_selection="cheap").fit(*table)
