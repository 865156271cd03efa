"""A fitted estimator stands wherever a model does, in every public function that takes one."""

import importlib
import inspect
import re
import types

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import kanlens
from kanlens.attribution import edge_band, effect, terms
from kanlens.errors import DTypeError, KanlensError
from kanlens.estimators import KANClassifier, KANRegressor, KANSymbolicRegressor
from kanlens.pruning import compact

ROOMS = ("attribution", "plotting", "pruning", "reporting", "sparsity", "symbolic", "training")
DRAW = np.random.default_rng(0)
X = pd.DataFrame(DRAW.uniform(-1, 1, (60, 2)), columns=["force", "arm"])
Y = pd.Series(np.sin(2 * X["force"]) + X["arm"] ** 2, name="torque")
LEVEL = pd.Series(np.where(Y > 0.5, "high", "low"), name="level")
BOX = {"force": (-1.0, 1.0), "arm": (-1.0, 1.0)}


def axes():
    return Figure().subplots()


# Every public function that takes a model, as a call that gives numbers or text to compare.
CALLS = {
    "attribute": lambda model, x, y, path: kanlens.attribute(model, x, background=x).values,
    "calibrate": lambda model, x, y, path: (
        own := kanlens.calibrate(model, (x, y))
    ).held_out.scores(own.loss),
    "certify": lambda model, x, y, path: kanlens.certify(model, BOX, max_boxes=4).to_json(),
    "compact": lambda model, x, y, path: compact(model)(x).detach(),
    "compare": lambda model, x, y, path: (
        kanlens.compare(
            model, x.head(9), background=x, methods=["shapley", "secant"], metrics=["relative_gap"]
        ).importance
    ),
    "edge": lambda model, x, y, path: curve(kanlens.plot.edge(model, 0, 0, 0, data=x, ax=axes())),
    "edge_band": lambda model, x, y, path: edge_band(model, 0, 0, 0, x, y),
    "edge_scores": lambda model, x, y, path: kanlens.edge_scores(model, x, y),
    "edit": lambda model, x, y, path: kanlens.edit(model, x).remove("arm").diff(x, y).values,
    "edges": lambda model, x, y, path: curve(
        kanlens.plot.edges(model, data=x, ax=axes()).child_axes[0]
    ),
    "effect": lambda model, x, y, path: effect(model, 0, x).values,
    "export": lambda model, x, y, path: kanlens.export(model, path / "m.py").rows,
    "fit": lambda model, x, y, path: kanlens.fit(model, (x, y), steps=1, validation=0).loss,
    "import_model": lambda model, x, y, path: kanlens.import_model(model)(x).detach(),
    "importance": lambda model, x, y, path: kanlens.importance(model, x, background=x),
    "network": lambda model, x, y, path: len(kanlens.plot.network(model, x=x, ax=axes()).findobj()),
    "predict": lambda model, x, y, path: kanlens.predict(model, x),
    "prune": lambda model, x, y, path: kanlens.prune(model, x, y, budget=0.0).loss_before,
    "report": lambda model, x, y, path: kanlens.report(
        model, (x.head(12), y[:12]), path / "r.html", methods=["secant"], progress=False
    ).content["importance"],
    "save": lambda model, x, y, path: kanlens.load(kanlens.save(model, path / "m.safetensors"))(
        x
    ).detach(),
    "sparsity_path": lambda model, x, y, path: (
        kanlens.sparsity_path(
            model, (x, y), strengths=[0.1], steps=1, generator=torch.Generator().manual_seed(0)
        )
        .steps[-1]
        .edges_alive
    ),
    "suggest": lambda model, x, y, path: kanlens.suggest(model, x, functions=["x", "sin"]),
    "symbolize": lambda model, x, y, path: str(
        kanlens.symbolize(model, x, y, functions=["x", "x^2"]).sympy()
    ),
    "terms": lambda model, x, y, path: terms(model, x).terms[0].importance,
    "to_splines": lambda model, x, y, path: kanlens.to_splines(model, x).error,
    "trace": lambda model, x, y, path: kanlens.trace(model, x).edge_values(0),
}


def spoken(name):
    """Return how a call is named in errors."""
    return f"plot.{name}" if name in ("edge", "edges", "network") else name


def curve(ax):
    return ax.lines[0].get_ydata()


def takes_model(function):
    """Tell whether a function's signature asks for a network."""
    return any(
        re.search(r"^(?!Callable).*\b(KAN|Model|HasNetwork)\b", str(given.annotation))
        or name == "model"
        for name, given in inspect.signature(function).parameters.items()
    )


def public():
    """Return the names of the public functions that take a model."""
    homes = [kanlens, *(importlib.import_module(f"kanlens.{room}") for room in ROOMS)]
    named = [(name, getattr(home, name)) for home in homes for name in home.__all__]
    functions = [(name, one) for name, one in named if isinstance(one, types.FunctionType)]
    others = {"imitate", "frontier", "edits"}  # of any model's outputs; of what others returned
    return {name for name, one in functions if takes_model(one)} - others


@pytest.fixture(scope="module")
def fitted():
    symbolic = KANSymbolicRegressor(starts=1, random_state=0)
    symbolic.result_ = kanlens.symbolize(
        KANRegressor(hidden=(), steps=20, random_state=0).fit(X, Y).model_, X, functions=["sin"]
    )
    return {
        "regressor": (KANRegressor(hidden=(), steps=5, random_state=0).fit(X, Y), Y),
        "classifier": (KANClassifier(hidden=(), steps=5, random_state=0).fit(X, LEVEL), LEVEL),
        "symbolic": (symbolic, Y),
    }


def test_every_public_function_of_a_model_is_called_here():
    assert public() == set(CALLS)


def test_every_estimator_has_a_network():
    for name in kanlens.__all__:
        one = getattr(kanlens, name)
        if isinstance(one, type) and issubclass(one, BaseEstimator):
            assert isinstance(one.network_, property), name


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", CALLS)
def test_an_estimator_gives_what_its_network_gives(fitted, name, tmp_path):
    estimator, y = fitted["regressor"]
    copy = kanlens.import_model(estimator.model_)  # fit trains what it is given
    found = CALLS[name](estimator, X, y.to_numpy(), tmp_path)
    expected = CALLS[name](copy, X, y.to_numpy(), tmp_path)
    if isinstance(found, pd.DataFrame | pd.Series):
        assert found.equals(expected)
    elif isinstance(found, torch.Tensor | np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "symbolic"])
def test_other_estimators_are_models_too(fitted, kind, tmp_path):
    estimator, y = fitted[kind]
    network = estimator.network_
    rows = torch.tensor(X.to_numpy())
    assert torch.equal(kanlens.trace(estimator, X).output, kanlens.trace(network, rows).output)
    assert kanlens.load(kanlens.save(estimator, tmp_path / "m.safetensors")).task == network.task
    found = kanlens.importance(estimator, X, background=X)
    assert found.equals(kanlens.importance(network, rows, background=rows))
    assert kanlens.prune(estimator, X, y, budget=0.0).edges_before == network.edges_alive


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("made", [KANRegressor, KANClassifier, KANSymbolicRegressor])
def test_before_fitting_every_call_says_so(name, made, tmp_path):
    text = f"{spoken(name)}: expected a fitted estimator, got {made.__name__}, not fitted. "
    text += "Call fit(X, y) first."
    with pytest.raises(NotFittedError, match=f"^{re.escape(text)}$") as caught:
        CALLS[name](made(), X, Y, tmp_path)
    assert isinstance(caught.value, KanlensError)


def test_what_is_neither_is_refused(tmp_path):
    for name in sorted(set(CALLS) - {"edge", "import_model"}):  # these take other things, too
        text = f"{spoken(name)}: expected a KAN, got Linear. Bring it in with import_model first."
        with pytest.raises(DTypeError, match=f"^{re.escape(text)}$"):
            CALLS[name](torch.nn.Linear(2, 1), X, Y, tmp_path)


def test_columns_are_found_by_labels_of_any_type():
    plain = pd.DataFrame(X.to_numpy())
    estimator = KANRegressor(hidden=(), steps=3, random_state=0).fit(plain, Y)
    expected = kanlens.trace(estimator, X.to_numpy()).output
    assert torch.equal(kanlens.trace(estimator, plain).output, expected)
    np.testing.assert_array_equal(estimator.predict(plain), expected[:, 0].numpy())
    swapped = plain[[1, 0]]  # labels name columns, whatever their order
    assert torch.equal(kanlens.trace(estimator, swapped).output, expected)
