"""Formulas that can be read: networks that are too wide, what is shown, what is chosen."""

import dataclasses
import re

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens.errors import MethodError
from kanlens.symbolic._composition import rounded
from kanlens.symbolic._edge_fitting import sample_edges
from kanlens.symbolic._notation import formula_text
from kanlens.symbolic._pareto_front import READABLE, choose
from kanlens.symbolic._partition import MAX_EDGES
from kanlens.symbolic._path import drop_terms
from kanlens.symbolic._receipt import Receipt
from kanlens.symbolic._result import Stage, SymbolicResult
from kanlens.symbolic._simplification import Simplifier, complexity
from kanlens.symbolic._symbolize import _as_accurate
from kanlens.training._objective import classes

X = torch.linspace(-1, 1, 40, dtype=torch.float64)
U, V = sympy.symbols("u v", real=True)
LONG = sympy.Add(*(sympy.sin(k * U) * sympy.Float(1 / k) for k in range(1, 20)))
WIDE = (
    "symbolize: expected at most 100 edges that lead to an output, got {}: this network is too "
    "wide to read. Remove edges with prune, or train with a smaller hidden layer."
)


def network(widths, labels=()):
    """Return a network in float64, of classes if these have labels."""
    model = kanlens.KAN(widths, generator=torch.Generator().manual_seed(0)).double()
    if labels:
        about = {"task": "classification", "class_labels": tuple(labels)}
        model.schema = dataclasses.replace(model.schema, **about)
    return model


@pytest.mark.parametrize(("widths", "edges"), [([4, 48, 3], 240), ([101, 2], 101), ([60, 3], 0)])
def test_a_network_with_too_many_edges_that_lead_to_one_output_is_refused_at_once(
    widths, edges, monkeypatch
):
    monkeypatch.setattr("kanlens.symbolic._symbolize.read", lambda *_, **__: "read")
    model, rows = network(widths), X[:, None].expand(-1, widths[0])
    assert model.edges_alive > MAX_EDGES
    if edges:
        with pytest.raises(MethodError, match=f"^{re.escape(WIDE.format(edges))}$"):
            kanlens.symbolize(model, rows)
        with torch.no_grad():
            model.layers[-1].mask[:, 10:] = 0
    assert kanlens.symbolize(model, rows) == "read"


def result(*rows, limit=float("inf"), partial=()):
    """Return a result of one output of formulas with their losses."""
    stages = tuple(
        Stage(name=str(k), expressions=(formula,), losses=(loss,), partial=k in partial)
        for k, (formula, loss) in enumerate(rows)
    )
    names = {"feature_names": ("u",), "output_names": ("y",)}
    return SymbolicResult(stages=stages, receipt=Receipt(rows=9), limit=limit, **names)


MEAN, SHORT = (sympy.Float(0.5), 1.0), (2 * U + sympy.Float(0.1), 0.04)


def test_no_long_formula_is_shown_but_where_it_is_asked_for():
    found = result(MEAN, SHORT, (LONG, 0.001))
    nodes = complexity(LONG)
    assert nodes > READABLE
    text = f"(a formula of {nodes} nodes, too long to read; see text)"
    assert found.equations_["equation"].tolist() == ["0.5000", "2*u + 0.1", text]
    assert found.get_best()["equation"] == text
    for shown in (str(found), repr(found), found.latex_table()):
        assert "sin" not in shown
    assert rf"\mbox{{{text}}}" in found.latex_table()
    for asked in (found.text(), found.latex(), found.latex_table([2]), found.to_json()):
        assert "sin" in asked


def test_a_readable_formula_within_the_limit_is_taken_rather_than_a_long_one():
    sizes, losses = [1, 20, 58, 200], [1.0, 0.03, 0.008, 0.001]
    assert choose(sizes, losses, "best", limit=0.01) == 2
    assert choose(sizes, losses, "best", limit=0.05) == 1
    assert choose(sizes, losses, "best", limit=0.005) == 3
    assert choose(sizes, losses, "best") == 3
    assert choose(sizes, losses, "accuracy", limit=0.01) == 3
    assert choose(sizes, [1.0, 0.0095, 0.007, 0.001], "best", limit=0.01) == 2  # well within


def test_splines_stay_where_all_that_is_without_them_is_beyond_the_limit():
    rows = (MEAN, (LONG, 2.0), (LONG + U, 0.001))
    assert result(*rows, limit=0.01, partial={2}).sympy() == LONG + U
    assert result(*rows, limit=1.0, partial={2}).sympy() == MEAN[0]


def test_every_output_has_a_limit_of_its_own():
    one = result(MEAN, SHORT, (LONG, 0.001))
    stages = tuple(
        dataclasses.replace(stage, expressions=stage.expressions * 2, losses=stage.losses * 2)
        for stage in one.stages
    )
    found = dataclasses.replace(one, stages=stages, output_names=("y", "z"), limit=(0.05, 0.01))
    assert [found.sympy(output=k) for k in range(2)] == [SHORT[0], LONG]


@pytest.mark.parametrize(("slope", "picked"), [(1.0, SHORT[0]), (-1.0, LONG)])
def test_formulas_of_classes_are_short_where_they_are_as_right(slope, picked):
    x = torch.linspace(-0.3, 0.3, 60, dtype=torch.float64)[:, None] + 0.002
    found = result(MEAN, SHORT, (slope * LONG, 0.001), limit=0.01)
    model = network([1, 1], "ab")
    truth = torch.from_numpy(found.predict(x, 2))
    model.forward = lambda rows: truth
    parts = type("Parts", (), {"choosing": None, "fitted": (x, classes(truth))})
    chosen = _as_accurate(found, model, parts, 0.9)
    assert chosen.sympy() == (picked if slope > 0 else slope * LONG)


def test_numbers_of_many_digits_are_rounded_for_display():
    assert formula_text(rounded(10**40 * U, 4)) == "1.0e+40*u"
    assert formula_text(rounded(2000 * U + sympy.Rational(1, 3), 4)) == "2000*u + 1/3"


@pytest.mark.slow  # searches formulas
def test_the_main_terms_of_a_long_formula_are_found_by_their_gain():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    strong = 3 * sympy.exp(U) + 2 * V**2
    weak = sympy.Add(*(sympy.Float(1e-3) * sympy.sin(k * U) for k in range(3, 25)))
    y = sympy.lambdify((U, V), strong + weak, "numpy")(*x.T)
    table = Simplifier(symbols=(U, V), x=x, y=y)
    rows = drop_terms(strong + weak, table)
    short = [row for row in rows if complexity(row.expression) <= READABLE]
    assert min(table.loss(row.expression) for row in short) < 1e-4


def test_a_part_that_is_not_real_without_a_term_is_left_in():
    expression = sympy.Max(0, U + sympy.sqrt(V + sympy.Float(2.0) - 3))
    x = np.random.default_rng(0).uniform(2, 3, (60, 2))
    y = sympy.lambdify((U, V), expression, "numpy")(*x.T)
    assert drop_terms(expression, Simplifier(symbols=(U, V), x=x, y=y))


def test_errors_that_numpy_raises_do_not_end_it(monkeypatch):
    def underflowing(*data, **options):
        np.float64(1e-300) * np.float64(1e-300)
        return sample_edges(*data, **options)

    monkeypatch.setattr("kanlens.symbolic._assignment.sample_edges", underflowing)
    with np.errstate(all="raise"):
        found = kanlens.symbolize(network([1, 1]), X[:, None], functions=["x", "exp"])
        kanlens.suggest(network([1, 1]), X[:, None], functions=["x", "exp"])
        assert np.isfinite(found.predict(X)).all()
        with pytest.raises(FloatingPointError):
            underflowing()
