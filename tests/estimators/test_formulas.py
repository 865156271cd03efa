"""The regressor whose result is a formula: its interface, and its search over several starts."""

import pickle
import re
from functools import partial

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

from kanlens.errors import InterruptedWarning, InvalidValueError
from kanlens.estimators import KANSymbolicRegressor
from kanlens.estimators import _formulas as formulas
from kanlens.model._network import KAN
from kanlens.symbolic import _assignment as assignment
from kanlens.symbolic import _symbolize as symbolize

x1, x2 = sympy.symbols("x1 x2")
INTERRUPTED = "^KANSymbolicRegressor: interrupted"


def shortened(monkeypatch, steps, rounds=1):
    monkeypatch.setattr(formulas, "_STEPS", steps)
    monkeypatch.setattr(formulas, "_ROUNDS", rounds)


@pytest.fixture
def quick(monkeypatch):
    """The plumbing is looked at, not the recipe: train for a moment, and grow no products."""
    shortened(monkeypatch, (1, 1, 1))
    monkeypatch.setattr(formulas, "fit_default", partial(formulas.fit_default, interactions=0))


@pytest.fixture
def short(monkeypatch):
    """A clean sum of functions is found in a few steps, too."""
    shortened(monkeypatch, (2, 5, 5))


@pytest.fixture
def starts(monkeypatch):
    """The numbers of the starts that are trained."""
    trained, numbers = KANSymbolicRegressor._trained, []
    monkeypatch.setattr(
        KANSymbolicRegressor, "_trained", lambda *a: numbers.append(a[-1]) or trained(*a)
    )
    return numbers


def draw(seed, rows, features=2):
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (rows, features)), generator


@pytest.fixture(scope="module")
def table():
    x = pd.DataFrame(draw(0, 120)[0], columns=["force", "arm"])
    return x, pd.Series(np.sin(2 * x["force"]) + x["arm"] ** 2, name="torque")


@pytest.fixture(scope="module")
def found(table):
    return KANSymbolicRegressor(starts=2, random_state=0).fit(*table)


@pytest.fixture
def cheapest(monkeypatch, quick, few_folds):
    """What an estimator promises is looked at, not its formula: neither refine nor shorten it."""
    reading = partial(formulas.Reading, refine=False, snap=False)
    monkeypatch.setattr(formulas, "Reading", reading)
    constants = partial(symbolize.fitted_constants, profiled=False)
    monkeypatch.setattr(symbolize, "fitted_constants", constants)


@pytest.mark.usefixtures("cheapest")
@pytest.mark.slow  # fifty checks with many fits each
@parametrize_with_checks(
    [KANSymbolicRegressor(starts=1, functions=("x",), grid_size=3, random_state=0)]
)
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


@pytest.mark.slow  # trains networks
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
    assert found.equations_["equation"].iloc[-1] == found.text() == "arm**2 + sin(2*force)"
    assert found.get_best()["equation"] == "arm**2 + sin(2*force)"
    assert found.predict(table[0]).shape == (120,)
    assert np.ptp(found.predict(table[0], 0)) == 0
    back = pickle.loads(pickle.dumps(found))  # noqa: S301
    np.testing.assert_array_equal(back.predict(table[0]), found.predict(table[0]))


@pytest.mark.slow
def test_parameters_are_read_set_and_cloned(found):
    fresh = clone(found)
    assert fresh.get_params() == found.get_params()
    assert fresh.set_params(starts=3, functions=("x",)).get_params()["functions"] == ("x",)
    with pytest.raises(NotFittedError):
        fresh.predict(np.zeros((2, 2)))
    with pytest.raises(NotFittedError):
        _ = fresh.equations_


@pytest.mark.usefixtures("quick")
def test_one_function_may_be_named_alone(table):
    x, _ = table
    single = KANSymbolicRegressor(starts=1, functions="x^2", random_state=0)
    assert single.fit(x, x["arm"] ** 2).sympy() == sympy.Symbol("arm") ** 2


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("quick")
def test_equal_seeds_give_equal_formulas(table):
    runs = [KANSymbolicRegressor(starts=2, random_state=5).fit(*table).sympy() for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short")
def test_several_outputs_in_a_pipeline(table):
    x, y = table
    both = pd.DataFrame({"u": y, "v": 3 * x["arm"]})
    model = make_pipeline(StandardScaler(), KANSymbolicRegressor(starts=1, random_state=0))
    model.fit(x, both)
    assert model.predict(x).shape == (120, 2)
    assert model.score(x, both) > 0.9999
    assert model[-1].result_.output_names == ("u", "v")


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("short")
def test_features_without_influence_stay_inputs():
    x, _ = draw(0, 100, 3)
    found = KANSymbolicRegressor(starts=1, random_state=0).fit(x, 2 * x[:, 1] ** 2)
    assert found.sympy() == 2 * x2**2
    np.testing.assert_allclose(found.predict(x), 2 * x[:, 1] ** 2, atol=1e-12)


@pytest.mark.slow  # trains networks
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


@pytest.mark.slow  # trains a network or two to the end
def test_the_example_of_the_paper():
    x, _ = draw(3, 250)
    functions = ("x", "x^2", "sin", "exp")  # README has it with all of them
    found = KANSymbolicRegressor(functions=functions, random_state=3).fit(
        x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    )
    assert found.sympy() == sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)
    assert (found.receipt_.rows, found.receipt_.fitted_rows) == (50, 200)


@pytest.mark.slow  # grows a network
def test_a_product_is_found_by_the_grown_network(starts):
    x, _ = draw(1, 80)
    options = {"starts": 4, "hidden": 1, "grid_size": 6, "functions": ("x", "x^2", "sin")}
    found = KANSymbolicRegressor(**options, random_state=1).fit(x, x[:, 0] * x[:, 1] + 1)
    assert sympy.simplify(found.sympy() - x1 * x2 - 1) == 0
    assert starts == [0]


@pytest.mark.slow  # trains networks
def test_a_sum_of_functions_takes_one_start(starts):
    x, _ = draw(0, 100)
    found = KANSymbolicRegressor(random_state=0).fit(x, np.sin(2 * x[:, 0]) + x[:, 1] ** 2)
    assert found.sympy() == sympy.sin(2 * x1) + x2**2
    assert starts == [0]


@pytest.mark.slow  # trains networks
def test_the_shorter_description_is_kept(monkeypatch, starts):
    """Noise leaves no start exact, so all are made and the best by description is returned."""
    shortened(monkeypatch, (5, 5, 5), 2)
    x, generator = draw(0, 200)
    y = x[:, 0] ** 2 + 0.1 * generator.normal(size=200)
    options = {"starts": 2, "hidden": 2, "functions": ("x", "x^2", "sin")}
    found = KANSymbolicRegressor(**options, random_state=0).fit(x, y)
    assert starts == [0, 1]
    assert found.sympy().free_symbols == {x1}


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("rows", "counts"),
    [(1000, (100, 700, True, False)), (500, (100, 400, False, True)), (10, (10, 10, False, False))],
)
def test_rows_that_chose_nothing_judge_if_there_are_many(rows, counts):
    x, _ = draw(0, rows)
    found = KANSymbolicRegressor(starts=1, functions=("x",), random_state=0).fit(x, 2 * x[:, 0])
    receipt = found.receipt_
    told = (receipt.rows, receipt.fitted_rows, receipt.held_out, receipt.chosen_on)
    assert told == counts


def test_shapes_of_the_starts():
    assert [formulas._hidden(3, None, start) for start in (1, 2)] == [[7], [(4, 2)]]
    assert formulas._hidden(9, None, 1) == [11]
    assert formulas._hidden(9, 4, 1) == [4]


def raising(monkeypatch, place, name, condition):
    """Make the calls of a function that meet a condition an interrupt."""
    original = getattr(place, name)

    def interrupted(*arguments, **options):
        if condition(*arguments):
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, interrupted)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("quick")
def test_an_interrupt_returns_the_best_so_far(monkeypatch):
    x, _ = draw(0, 100)
    y, search = np.sin(4 * x[:, 0] * x[:, 1]), KANSymbolicRegressor(functions=("x",))
    raising(monkeypatch, KANSymbolicRegressor, "_trained", lambda *a: a[-1] == 1)
    with pytest.warns(InterruptedWarning, match=INTERRUPTED):
        assert search.fit(x, y).predict(x).shape == (100,)
    raising(monkeypatch, KANSymbolicRegressor, "_trained", lambda *a: True)
    with pytest.raises(KeyboardInterrupt):
        search.fit(x, y)


@pytest.mark.usefixtures("quick")
def test_an_interrupt_while_a_formula_is_read_ends_with_it(monkeypatch, starts):
    x, _ = draw(0, 100)
    raising(monkeypatch, assignment, "refit", lambda *a: True)
    search = KANSymbolicRegressor(starts=3, functions=("x",), random_state=0)
    with pytest.warns(InterruptedWarning, match=INTERRUPTED):
        assert search.fit(x, np.sin(9 * x[:, 0] * x[:, 1])).predict(x).shape == (100,)
    assert starts == [0]


def test_little_may_be_lost_where_y_is_mostly_noise():
    x = torch.rand(800, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    y = network(x).detach()
    assert formulas._budget(network, x, y) == 0.5
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    few, many = (formulas._budget(network, x[:n], (y + y.std() * noise)[:n]) for n in (40, 800))
    assert 0 < many < 0.1 < few <= 0.5
