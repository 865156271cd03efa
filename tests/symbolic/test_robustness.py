"""Data that are odd: the right formula, or one clear line."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import sympy
import torch

from kanlens.errors import DataError, InvalidValueError, ShapeError
from kanlens.model._network import KAN
from kanlens.symbolic._assignment import Candidate, assign_layer, rank_layer
from kanlens.symbolic._library import library
from kanlens.symbolic._symbolize import suggest, symbolize
from kanlens.training import fit
from tests.symbolic.made import spline_network

x1, x2, x3 = sympy.symbols("x1 x2 x3")


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(200, 2, generator=generator, dtype=torch.float64) * 2 - 1


def truth(x):
    return torch.sin(2 * x[:, :1]) + x[:, 1:2] ** 2


def read(x, y, widths, *, steps=8):
    generator = torch.Generator().manual_seed(0)
    model = KAN(widths, generator=generator).double()
    fit(model, (x, y), steps=steps, generator=generator, progress=False)
    return symbolize(model, x, y)


def error(found, x, y):
    return np.abs(found.predict(x) - np.asarray(y)).max() / np.abs(np.asarray(y)).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit. expected targets that vary")
@pytest.mark.parametrize("value", [0.0, 3.5, -7e-9, 1e10])
def test_constant_targets(rows, value):
    found = read(rows, torch.full((200, 1), value).double(), [2, 1], steps=5)
    assert float(found.sympy()) == pytest.approx(value, rel=1e-12)
    assert found.receipt.trustworthy
    assert found.receipt.r2 is None
    assert len(found.equations_) == 1


@pytest.mark.slow  # searches formulas
@pytest.mark.filterwarnings("ignore:fit. expected targets that vary")
def test_one_constant_target_of_two(rows):
    y = torch.cat([truth(rows), torch.full((200, 1), 3.5).double()], 1)
    found = read(rows, y, [2, 2])
    assert found.sympy(output=0) == sympy.sin(2 * x1) + x2**2
    assert float(found.sympy(output=1)) == 3.5
    assert found.receipt.explains


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True])
def test_a_constant_or_duplicated_column(rows, copied):
    third = rows[:, :1] if copied else torch.full((200, 1), 7.0).double()
    x = torch.cat([rows, third], 1)
    found = read(x, truth(x), [3, 1]).sympy()
    assert sympy.simplify(found.subs(x3, x1) - sympy.sin(2 * x1) - x2**2) == 0


def test_nothing_but_constant_columns(rows):
    x = torch.full((200, 2), 3.0).double()
    found = read(x, rows[:, :1], [2, 1], steps=5)
    assert found.sympy().free_symbols == set()
    assert not found.receipt.trustworthy or found.receipt.relative_rmse < 0.1
    assert found.receipt.r2 == pytest.approx(0.0, abs=0.05)  # of the mean of others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_x", "of_y"), [(1e-12, 1.0), (1e12, 1e-12), (1.0, 1e12), (1e-12, 1e12)]
)
def test_scales(rows, of_x, of_y):
    found = read(rows * of_x, truth(rows) * of_y, [2, 1])
    expected = of_y * (sympy.sin(2 / sympy.Float(of_x) * x1) + (x2 / sympy.Float(of_x)) ** 2)
    assert error(found, rows * of_x, truth(rows) * of_y) < 1e-8
    assert found.sympy().atoms(sympy.Function).pop().func == sympy.sin
    fresh = np.linspace(-0.9, 0.9, 50)[:, None] * np.array([[1.0, -0.7]]) * of_x
    values = sympy.lambdify((x1, x2), expected)(*fresh.T)
    assert error(found, fresh, values[:, None]) < 1e-8


@pytest.mark.slow  # searches formulas
def test_a_large_offset(rows):
    assert error(read(rows + 1e6, truth(rows), [2, 1]), rows + 1e6, truth(rows)) < 1e-6


@pytest.mark.slow  # derives formulas
@pytest.mark.parametrize("kind", ["tensor", "array", "booleans"])
def test_whole_numbers(kind):
    x = torch.randint(-5, 6, (200, 2), generator=torch.Generator().manual_seed(0))
    y = x[:, :1] ** 2 + 3 * x[:, 1:]
    if kind == "booleans":
        x = x > 0
        y = x[:, :1].double() + 2 * x[:, 1:].double()
        assert read(x, y, [2, 1], steps=5).sympy() == x1 + 2 * x2
        return
    if kind == "array":
        x, y = x.numpy(), y.numpy()
    assert read(x, y, [2, 1]).sympy() == x1**2 + 3 * x2


@pytest.mark.slow  # searches formulas
def test_few_rows_are_warned_of(rows):
    three = read(rows[:3], truth(rows[:3]), [2, 1], steps=5)
    assert three.predict(rows[:3]).shape == (3, 1)
    text = r"^WARNING: the formula holds \d+ numbers and was fitted to 3 different rows; other"
    assert re.search(text, three.receipt.summary(), flags=re.MULTILINE)
    assert np.isfinite(read(rows[:2], truth(rows[:2]), [2, 1], steps=5).predict(rows)).all()
    flat = read(rows, truth(rows)[:, 0], [2, 1])  # a target without columns
    assert "others would fit" not in flat.receipt.summary()


def test_what_cannot_be_used_is_one_line(rows):
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    bad = rows.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(DataError, match=r"got nan at row 3, column 'x2' \(1 such cell\)\. "):
        symbolize(model, bad)
    with pytest.raises(DataError, match=r"^symbolize: expected finite numbers, got inf at row 0"):
        symbolize(model, rows, torch.full((200, 1), torch.inf))
    with pytest.raises(ShapeError, match=r"^symbolize: expected at least 2 rows, got 1\."):
        symbolize(model, rows[:1])
    with pytest.raises(DataError, match=r"^symbolize: expected x_test with y_test, got None\."):
        symbolize(model, rows, y_test=rows[:, :1])
    with pytest.raises(ShapeError, match=r"^symbolize: expected y of shape \(200, 1\)"):
        symbolize(model, rows, torch.zeros(3, 1))
    for share in ("a", 0.0, 1.5, float("nan")):
        with pytest.raises(InvalidValueError, match=r"^symbolize: expected r2_min above 0 and at"):
            symbolize(model, rows, r2_min=share)
    with pytest.raises(InvalidValueError, match=r"^symbolize: expected generator as a torch\."):
        symbolize(model, rows, generator=5)


def test_a_model_whose_output_is_not_finite_is_refused(rows):
    model = KAN([2, 2, 1], generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        model.layers[1].spline_weight.fill_(1e308)
    for call, name in ((symbolize, "symbolize"), (suggest, "suggest")):
        with pytest.raises(DataError, match=rf"^{name}: expected a model with finite outputs, got"):
            call(model, rows)


@pytest.mark.slow  # derives formulas
def test_functions_are_defined_on_the_rarest_rows():
    """A root that fits all but the outermost rows, and is undefined there, is not taken."""
    x = torch.linspace(0.0, 1.0, 2000, dtype=torch.float64)[:, None]
    x[0], x[1] = -3.0, -2.9
    model, _ = spline_network([[[lambda v: torch.sqrt(v.clamp(min=0.0))]]], [(-3.0, 1.0)])
    hidden, found = model.scale_inputs(x), []
    layer = copy.deepcopy(model.layers[0])
    for choice in rank_layer(model, 0, hidden, library(["sqrt"])):
        root = Candidate(function="sqrt", parameters=(1.0, 0.0, 1.0, 0.0), r2=1.0, score=0.0)
        found.append(dataclasses.replace(choice, candidates=(root, *choice.candidates)))
    assign_layer(layer, found, 0.9, hidden)
    assert torch.isfinite(layer(hidden)).all()
    assign_layer(layer, found, 0.9, hidden[2:])
    assert layer.functions == (("sqrt",),)
    assert np.isfinite(symbolize(model, x).predict(x)).all()


@pytest.mark.slow  # derives formulas
def test_a_row_with_a_wrong_target_is_left_out(rows):
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    fit(model, (rows, truth(rows)), steps=8, progress=False)
    y = truth(rows)
    y[17] = 1e8
    with pytest.warns(UserWarning, match=r"1e\+08 in row 17 of 'y'.* such rows are left out\.$"):
        found = symbolize(model, rows, y)
    assert found.sympy() == sympy.sin(2 * x1) + x2**2
    assert found.receipt.rows + found.receipt.fitted_rows == 199
    assert found.receipt.r2 > 0.999999
