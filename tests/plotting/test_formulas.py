from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError
from kanlens.model._network import KAN
from kanlens.plotting import formula
from kanlens.plotting._formulas import formula_lines
from kanlens.symbolic._composition import spline_function
from kanlens.symbolic._receipt import Receipt
from kanlens.symbolic._result import Stage, SymbolicResult
from tests.plotting.conftest import texts


def result(net, *expressions):
    losses = [10.0 ** -(3 + index) for index in range(len(expressions))]
    stages = tuple(
        Stage(name=f"stage {index}", expressions=(expression,), losses=(loss,))
        for index, (expression, loss) in enumerate(zip(expressions, losses, strict=True))
    )
    return SymbolicResult(
        stages=stages,
        model=net,
        receipt=Receipt(rows=10, max_deviation=0.1, mean_deviation=0.05, relative_rmse=0.01),
        feature_names=net.feature_names,
        output_names=net.output_names,
    )


@pytest.fixture
def found(model):
    x1, x2 = sympy.symbols("x1 x2")
    return result(model([2, 1]), x1 + 2 * x2, sympy.exp(x1) + 2.123456 * x2)


def test_every_formula_of_the_output_is_a_point(found, ax):
    assert formula(found, ax=ax) is ax
    points: Any = ax.collections[0]
    table = found.equations_
    np.testing.assert_allclose(points.get_offsets(), table[["complexity", "loss"]].to_numpy())
    ring: Any = ax.collections[1]
    np.testing.assert_allclose(ring.get_offsets()[0, 1], 1e-4)
    assert ax.get_title(loc="left") == "$y = 2.123 x_{2} + e^{x_{1}}$"
    assert texts(ax) == ["stage 1"]  # the chosen one
    assert ax.get_xlim()[0] == 0


def test_another_stage_can_be_chosen(found, ax):
    formula(found, index=0, ax=ax)
    assert ax.get_title(loc="left") == "$y = x_{1} + 2 x_{2}$"
    ring: Any = ax.collections[1]
    np.testing.assert_allclose(ring.get_offsets()[0, 1], 1e-3)


def test_with_rows_it_is_drawn_against_the_truth(found, ax):
    x = torch.rand(20, 2).double()
    y = np.arange(20.0)
    formula(found, x=x, y=y, ax=ax)
    points: Any = ax.collections[0]
    np.testing.assert_allclose(points.get_offsets()[:, 0], y)
    np.testing.assert_allclose(points.get_offsets()[:, 1], found.predict(x)[:, 0])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("y", "y, formula")
    other = Figure().subplots()
    formula(found, x=x, ax=other)
    assert other.get_xlabel() == "y, network"


@pytest.mark.slow  # lays out long formulas
def test_long_formulas_break_into_lines_that_fit():
    names = [f"x{i}" for i in range(1, 13)]
    terms = [sympy.Float(1.2345) * sympy.sin(sympy.Symbol(name)) for name in names]
    lines, size = formula_lines(sympy.Add(*terms), "y", 3.0)
    assert 1 < len(lines) <= 5
    assert all(line.startswith("$") and line.endswith("$") for line in lines)
    figure = Figure(figsize=(3, 3))
    renderer = FigureCanvasAgg(figure).get_renderer()
    for line in lines:
        box = figure.text(0, 0, line, fontsize=size).get_window_extent(renderer)
        assert box.width / figure.dpi < 3.1


def test_what_mathematics_cannot_show_is_text(model, ax):
    x = sympy.Symbol("x1")
    piecewise = sympy.Piecewise((x, x > 0), (0, True))
    formula(result(model([1, 1]), piecewise), ax=ax)
    title = ax.get_title(loc="left")
    assert "Piecewise" in title.replace("\n", " ")
    assert "$" not in title
    ax.figure.canvas.draw()


@pytest.mark.slow  # lays out long formulas
def test_very_long_formulas_are_cut():
    terms = [sympy.exp(sympy.Symbol(f"a long name {i}")) for i in range(30)]
    lines, _ = formula_lines(sympy.Add(*terms), "y", 3.0)
    assert len(lines) == 6
    assert lines[-1].endswith("…")


def test_splines_in_a_formula_are_numbered():
    x = sympy.Symbol("latitude")
    edges = [KAN([2, 1]).layers[0].edge(0, i) for i in range(2)]
    first, second = (spline_function(f"f_0_4_{i}", edge) for i, edge in enumerate(edges))
    lines, _ = formula_lines(2 * second(x) + first(x) ** 2, "y", 5.0)
    assert "f_" not in lines[0].replace("f_{1}", "").replace("f_{2}", "")
    assert lines[0].count("f_{") == 2


@pytest.mark.parametrize(
    "name", ["a_b", "superplasticizer (kg/m3)", "$x_{1", "100 %", "a^b\\c", "x#&~"]
)
def test_any_name_can_be_drawn(name, ax):
    lines, _ = formula_lines(sympy.Symbol(name) ** 2, name, 4.0)
    ax.set_title("\n".join(lines))
    ax.figure.canvas.draw()


def test_errors_of_formula(found):
    with pytest.raises(DTypeError, match=r"plot\.formula: expected a SymbolicResult, got str"):
        formula("x1**2")
    x = torch.rand(5, 2).double()
    with pytest.raises(ShapeError, match="expected y with one value per row, got 4 for 5 rows"):
        formula(found, x=x, y=np.zeros(4))
    with pytest.raises(InvalidValueError, match="index from 0 to 1"):
        formula(found, index=7)
    with pytest.raises(
        DataError, match=r"plot\.formula: expected a row with a finite true and predicted value"
    ):
        formula(found, x=x, y=np.full(5, np.nan))
    assert pyplot.get_fignums() == []
