"""Formulas of a few terms that follow networks whose edges no single function explains."""

import numpy as np
import pandas as pd
import pytest
import sympy
import torch

import kanlens
from kanlens.model._nodes import Grouping, Nodes
from kanlens.symbolic._composition import feature_symbols
from kanlens.symbolic._library import library
from kanlens.symbolic._pareto_front import READABLE
from kanlens.symbolic._receipt import Receipt
from kanlens.symbolic._result import Stage, SymbolicResult
from kanlens.symbolic._simplification import complexity, refine
from kanlens.symbolic._symbolize import _following
from kanlens.symbolic._term_selection import selected_terms
from tests.symbolic.made import spline_layer, spline_network

x1, x2 = sympy.symbols("x1 x2", real=True)


def draw(rows, seed=0):
    """Return a table of a curve with a kink, steps and a product, and its noise-free target."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"dose": generator.uniform(0, 10, rows)})
    frame["age"] = generator.normal(50, 12, rows).round()
    frame["level"] = generator.choice([1.0, 2.0, 5.0, 9.0], rows)
    frame["weight"] = generator.normal(70, 9, rows)
    clean = 3 * np.log1p(frame["dose"]) + np.maximum(frame["age"] - 55, 0) / 6
    clean += 2.0 * (frame["level"] > 3) + 0.04 * (frame["dose"] - 5) * (frame["weight"] - 70)
    return frame, clean.to_numpy()


@pytest.fixture(scope="module")
def grown():
    """A small network of noisy rows of the drawn table."""
    frame, clean = draw(700)
    frame["y"] = clean + np.random.default_rng(1).normal(0, 0.5, 700)
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    return kanlens.frontier(table, progress=False, generator=generator).simplest, frame


@pytest.fixture(scope="module")
def result(grown):
    model, frame = grown
    return kanlens.symbolize(model, frame.drop(columns="y"), frame["y"], progress=False)


def shares(model, predict, frame, y):
    """Return R2 of the model and of a formula, and the share of the model that it leaves."""
    with torch.no_grad():
        outputs = model(model.prepare(frame, call="test")).numpy()[:, 0]
    values = predict(frame)
    gaps = outputs - y, values - y
    scores = [1 - np.square(gap).sum() / np.square(y - y.mean()).sum() for gap in gaps]
    return (*scores, np.square(values - outputs).mean() / outputs.var())


def acceptable(model, formula, predict):
    """Return whether a formula is short, and follows the model on rows that neither has seen."""
    score, ours, left = shares(model, predict, *draw(2000, seed=7))
    return complexity(formula) <= READABLE and ours >= score - 0.01 and left <= 0.01


@pytest.mark.slow  # grows networks
def test_a_grown_network_becomes_a_short_formula_that_follows_it(grown, result):
    assert result.receipt.trustworthy
    assert acceptable(grown[0], result.sympy(), lambda rows: result.predict(rows)[:, 0])
    assert not result.receipt.spline_edges


@pytest.mark.slow
def test_the_check_rejects_long_formulas_and_those_without_a_term(grown, result):
    model, formula = grown[0], result.sympy()
    columns = sorted(formula.free_symbols, key=str)
    names = list(map(str, columns))
    for term in sympy.Add.make_args(formula):
        wrong = formula - term + (term + 1 if term.is_number else 0)
        predict = sympy.lambdify(columns, wrong, "numpy")
        assert not acceptable(model, wrong, lambda rows, f=predict: f(*rows[names].to_numpy().T))
    long = sympy.Add(formula, *(sympy.sin(k * columns[0]) * 1e-9 for k in range(20)))
    assert not acceptable(model, long, lambda rows: result.predict(rows)[:, 0])


@pytest.mark.slow  # derives formulas
def test_terms_of_one_edge_are_found_one_by_one():
    """A line with a kink, which is no function of the library, and a parabola."""
    kinked = [[lambda x: x + 3 * torch.relu(x - 0.25), lambda x: 2 * x**2]]
    model, x = spline_network([kinked], [(-1.0, 1.0), (-1.0, 1.0)], grid_size=40)
    *_, last = (
        e for _, (e,) in zip(range(4), selected_terms(model, model, x, library()), strict=False)
    )
    formula = refine(last, feature_symbols(model), x.numpy(), model(x).detach().numpy()[:, 0])
    assert formula.loss < 1e-5
    assert complexity(formula.expression) <= 24


@pytest.mark.slow  # derives formulas
def test_a_product_is_a_term_of_its_own():
    curves = [[None, torch.exp], [lambda x: x, None], [None, lambda x: x]]
    first = spline_layer(curves, [(-1.0, 1.0)] * 2)
    last = kanlens.KANLinear(2, 1, functions=[["x", "x"]]).double()
    nodes = [Nodes(Grouping(1, (2,))), Nodes(Grouping(1))]
    schema = kanlens.KAN([2, 1]).schema
    model = kanlens.KAN.from_layers([first, last], schema, nodes=nodes)
    x = 2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() - 1
    formulas = [e for (e,) in selected_terms(model, model, x, library(["exp", "x"]))]
    y = x[:, 0] * x[:, 1] + x[:, 1].exp()
    assert refine(formulas[-1], (x1, x2), x.numpy(), y.numpy()).loss < 1e-5
    assert {x1 in formula.free_symbols for formula in formulas} == {False, True}


@pytest.mark.parametrize(("distance", "raised"), [(0.05, True), (0.2, False)])
def test_a_short_formula_that_follows_the_model_is_within_the_limit(distance, raised):
    """However much smaller the loss of the model is on rows that it was trained on."""
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    layer = kanlens.KANLinear(1, 1, functions=[["x"]]).double()
    model = kanlens.KAN.from_layers([layer], kanlens.KAN([1, 1]).schema)
    wave = distance * sympy.sin(40 * sympy.Symbol("x1"))
    formula = sympy.Symbol("x1") * float(layer.affine[0, 0, 2].detach()) + wave
    stage = Stage(name="1 term", expressions=(formula,), losses=(0.04,))
    names = {"feature_names": ("x1",), "output_names": ("y",)}
    result = SymbolicResult(stages=(stage,), receipt=Receipt(rows=9), limit=(0.03,), **names)
    with torch.no_grad():
        (limit,) = _following(result, model, (x, model(x)), 0.99).limit
    assert limit == (0.04 if raised else 0.03)
