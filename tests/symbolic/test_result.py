"""A result without a network, as a search for formulas makes it."""

import dataclasses
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

from kanlens.errors import DTypeError, InvalidValueError, ShapeError
from kanlens.symbolic._composition import compose, evaluator, feature_symbols, plain
from kanlens.symbolic._receipt import Receipt, examine
from kanlens.symbolic._result import Stage, SymbolicResult
from tests.symbolic.made import spline_network

a, b = sympy.symbols("a b")


def result_of(rows, features, outputs):
    """Return a result of stages: name, expressions and losses."""
    stages = tuple(Stage(name=n, expressions=e, losses=losses) for n, e, losses in rows)
    names = {"feature_names": features, "output_names": outputs}
    return SymbolicResult(stages=stages, receipt=Receipt(rows=9), **names)


@pytest.fixture
def result():
    rows = [
        ("constant", (sympy.Float(0.5), sympy.Integer(1)), (1.0, 1.0)),
        ("sum", (2 * a, a * b), (0.01, 0.0)),
        ("long", (2 * a + b**9 / 99, a * b + 0.1 * a), (0.009, 0.1)),
    ]
    return result_of(rows, ("a", "b"), ("u", "v"))


def test_everything_works_without_a_model(result):
    assert result.model is None
    assert result.sympy() == 2 * a
    assert result.sympy(output="v") == a * b
    assert result.get_best("v").name == 1
    assert result.get_best("v")["equation"] == "a*b"
    table = result.equations_
    assert table[table["output"] == "v"].index.tolist() == [0, 1]
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(result.predict(x), [[2.0, 2.0], [6.0, 12.0]])
    np.testing.assert_allclose(result.predict(x, [0, 2]), [[0.5, 2.1], [0.5, 12.3]])
    frame = pd.DataFrame({"b": x[:, 1], "a": x[:, 0]})
    np.testing.assert_allclose(result.predict(frame), result.predict(x))
    assert result.latex(output=1) == "a b"
    assert result.latex_table().count(r"\\") == 1 + 5
    short = result.latex_table([1], columns=("equation", "score"))
    assert short.count(r"\\") == 1 + 2
    assert r"\begin{tabular}{@{}lr@{}}" in short
    assert json.loads(result.to_json())["picked"] == {"u": 1, "v": 1}
    assert pickle.loads(pickle.dumps(result)).sympy() == 2 * a  # noqa: S301


def test_the_pick_is_marked(result):
    text = """\
SymbolicResult, model_selection='best'
         complexity   loss   score  equation
u     0           1      1       0  0.5000
>>>>  1           3   0.01     2.3  2*a
      2           9  0.009  0.0176  2*a + b**9/99
v     0           1      1       0  1
>>>>  1           3      0    27.6  a*b"""
    assert str(result) == text


def test_wrong_arguments_are_refused(result):
    with pytest.raises(InvalidValueError, match=r"be one of the 2 outputs \('u', 'v'\), got 'w'"):
        result.sympy(output="w")
    with pytest.raises(InvalidValueError, match="expected index from 0 to 2, got True"):
        result.predict(np.zeros((1, 2)), True)
    with pytest.raises(InvalidValueError, match=r"got \[0, 1, 2\]"):
        result.predict(np.zeros((1, 2)), [0, 1, 2])
    with pytest.raises(ShapeError, match=r"expected x of shape \(batch, 2\)"):
        result.predict(np.zeros((1, 3)))
    with pytest.raises(InvalidValueError, match="expected columns to be one of"):
        result.latex_table(columns=["price"])
    with pytest.raises(InvalidValueError, match="expected model_selection to be one of"):
        dataclasses.replace(result, model_selection="cheapest")


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones(2), ShapeError, "expected x of shape (batch, 2), got (2,). Pass a table: "),
        (np.ones((3, 2, 2)), ShapeError, "expected x of shape (batch, 2), got (3, 2, 2). "),
        ([["a", "b"]], DTypeError, "expected x to be a Tensor, an ndarray or a DataFrame"),
        (np.ones((2, 2)) * 1j, DTypeError, "expected x to be real, got complex numbers"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(result, x, error, text):
    with pytest.raises(error, match=f"^{re.escape('SymbolicResult.predict: ' + text)}"):
        result.predict(x)


def test_latex_refuses_what_it_cannot_write(result):
    with pytest.raises(InvalidValueError, match="expected index from 0 to 2, got 7"):
        result.latex(7)
    with pytest.raises(InvalidValueError, match=r"to be a whole number of at least 1, got 0\. "):
        result.latex(digits=0)
    with pytest.raises(InvalidValueError, match=r"indices to be rows of equations_, got 7\. "):
        result.latex_table([0, 7])
    assert result.latex_table([]).count(r"\\") == 1


@pytest.mark.parametrize("names", [("pi", "x"), ("e", "exp"), ("sin", "lambda"), ("x[0]", "x0")])
def test_features_may_be_called_anything(names):
    """Called pi or exp they are neither the number nor the function."""
    u, v = map(sympy.Symbol, names)
    formula = sympy.sin(sympy.pi * u) + sympy.exp(v * u) * sympy.E + sympy.sin(u) * sympy.exp(v)
    result = result_of([("fitted", (formula,), (0.0,))], names, ("y",))
    x = np.random.default_rng(0).uniform(0.5, 1.5, (9, 2))
    u, v = x.T
    expected = np.sin(np.pi * u) + np.exp(v * u) * np.e + np.sin(u) * np.exp(v)
    np.testing.assert_allclose(result.predict(x)[:, 0], expected, rtol=1e-14)


def test_outputs_may_come_from_different_networks():
    """Splines of one name are different functions in different stages."""
    rows = []
    for factor in (1.0, 2.0):
        model, x = spline_network(
            [[[lambda v, k=factor: k * torch.sin(v)], [torch.exp]]], [(-2.0, 2.0)]
        )
        rows.append(("fitted", tuple(map(plain, compose(model))), (0.0, 0.0)))
    result = result_of(rows, ("x1",), ("u", "v"))
    both, wave = result.predict(x, [0, 1]), np.sin(x[:, 0].numpy())
    np.testing.assert_allclose(both[:, 0], result.predict(x, 0)[:, 0])
    np.testing.assert_allclose(both[:, 0], wave, atol=1e-3)
    np.testing.assert_allclose(result.predict(x, 1)[:, 0], 2 * wave, atol=1e-3)


def test_a_formula_of_splines_can_be_stored_and_read_back():
    model, x = spline_network([[[torch.sin, torch.exp]]], [(-2.0, 2.0)] * 2)
    (formula,) = compose(model)
    back = pickle.loads(pickle.dumps(formula))  # noqa: S301
    symbols = feature_symbols(model)
    values = evaluator((back, back.diff(symbols[0])), symbols)(x.numpy())
    np.testing.assert_array_equal(evaluator((formula,), symbols)(x.numpy())[:, 0], values[:, 0])
    np.testing.assert_allclose(values[:, 1], np.cos(x[:, 0].numpy()), atol=1e-2)
    assert examine((formula,), model, x).numbers == 46
    result = result_of([("fitted", (plain(formula),), (0.0,))], ("x1", "x2"), ("y",))
    back = evaluator((result.parse(result.text()),), sympy.symbols("x1 x2"))(x.numpy())
    np.testing.assert_allclose(back, result.predict(x), rtol=1e-13)


def test_a_step_on_the_way_keeps_no_formula_off_the_table(result):
    """It is shorter and closer than the formula, and must not be picked nor hide what is."""
    step = Stage(name="1 of 2 edges", expressions=(a + b, a + b), losses=(1e-9, 1e-9), partial=True)
    late = Stage(
        name="0 of 2 edges",
        expressions=(a + b * sympy.exp(a * b + b**2 + 1), 2 * a * b + a**7 + a + 3 * b),
        losses=(1e-9, 1e-9),
        partial=True,
    )
    more = dataclasses.replace(result, stages=(step, *result.stages, late))
    assert more.get_best().name == 2
    assert more.sympy() == 2 * a
    table = more.equations_
    assert table[table["output"] == "u"]["stage"].tolist()[-1] == "0 of 2 edges"
    assert "1 of 2 edges" not in table["stage"].tolist()
    assert str(more).count(">>>>") == 2


def test_every_text_of_a_formula_is_read_back():
    names = ("E", "pi", "a b", "x1")
    e, pi, word, x1 = map(sympy.Symbol, names)
    formula = sympy.exp(e**2 + sympy.sin(sympy.pi * pi)) + sympy.Float(0.1) * 3 * word / x1
    result = result_of([("fitted", (formula,), (0.0,))], names, ("I",))
    shown = "0.3*`a b`/x1 + exp(`E`**2 + sin(pi*`pi`))"
    assert result.equations_["equation"].tolist() == [shown]
    assert result.parse(shown).free_symbols == {e, pi, word, x1}
    x = np.random.default_rng(0).uniform(0.5, 1.0, (9, 4))
    for text in (result.text(), json.loads(result.to_json())["equations"]["I"][0]["sympy_format"]):
        values = evaluator((result.parse(text),), (e, pi, word, x1))(x)
        np.testing.assert_allclose(values, result.predict(x), rtol=1e-15)
    data = json.loads(result.to_json())
    legend = "Names in backticks are columns: `E`, `pi`, `a b`."
    assert data["names"] == legend
    assert str(result).splitlines()[1] == legend
    assert str(result).splitlines()[-1].endswith(shown)
    assert r"\mathrm{pi}" in result.latex()
