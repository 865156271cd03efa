import copy
import dataclasses

import numpy as np
import pytest
import sympy
import torch
from torch.testing import assert_close

from kanlens.errors import InvalidValueError
from kanlens.model._network import KAN
from kanlens.symbolic import suggest, symbolize
from kanlens.symbolic._partition import partition
from tests.symbolic.made import spline_network, toy

x1, x2 = sympy.symbols("x1 x2")


@pytest.fixture(scope="module")
def made():
    return toy()


@pytest.fixture(scope="module")
def result(made):
    return symbolize(*made)


@pytest.mark.slow  # derives formulas
def test_the_formula_of_the_toy_problem_is_exact(made, result):
    _, x, y = made
    truth = sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)
    assert sympy.expand(result.sympy() - truth) == 0
    assert np.sqrt(np.square(result.predict(x) - y.numpy()).mean()) <= 1e-8
    assert result.receipt.trustworthy
    assert result.receipt.spline_edges == ()
    assert "pi" in result.receipt.snapped
    assert result.latex() == r"e^{x_{2}^{2} + \sin{\left(\pi x_{1} \right)}}"
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    model = copy.deepcopy(result.model)
    (model(x) - y).square().mean().backward()
    assert all(layer.affine.grad is not None for layer in model.layers)


@pytest.mark.slow  # searches formulas
def test_without_targets_the_formula_follows_the_model(made):
    model, x, _ = made
    found = symbolize(model, x)
    assert found.receipt.relative_rmse < 1e-3
    assert found.receipt.r2 is None
    assert sympy.expand(found.sympy() - sympy.exp(sympy.sin(sympy.pi * x1) + x2**2)) == 0


@pytest.mark.slow  # takes a while
def test_the_front_and_its_table(made, result):
    _, x, _ = made
    table = result.equations_
    columns = ["output", "stage", "complexity", "loss", "score", "equation", "sympy_format"]
    assert table.columns.tolist() == columns
    assert table["complexity"].is_monotonic_increasing
    assert table["loss"].is_monotonic_decreasing
    assert table["stage"].iloc[-1] == "snapped"
    assert table["sympy_format"].iloc[0].is_number
    assert table["equation"].iloc[-1] == "exp(x2**2 + sin(pi*x1))"
    assert table.loc[0, "sympy_format"] == result.sympy(0)
    assert table["score"].iloc[0] == 0
    assert (table["score"].iloc[1:] > 0).all()
    assert result.to_frame().equals(table)
    rows = partition(len(x), None).choosing
    y = made[2][rows].numpy()[:, 0]
    for index, loss in table["loss"].items():
        gap = result.predict(x[rows], index)[:, 0] - y
        assert np.square(gap).mean() / y.var() == pytest.approx(loss, rel=1e-9, abs=1e-25)


@pytest.mark.slow  # derives formulas
def test_the_way_from_splines_to_functions_is_on_the_front():
    """Where the model is what is to be explained, each spline kept is worth its price."""
    model, x = spline_network([[[wiggly, torch.square, torch.sin]]], [(-2.0, 2.0)] * 3)
    found = symbolize(model, x, snap=False)
    table = found.equations_
    assert {"0 of 2 edges", "1 of 2 edges"} <= set(table["stage"])
    whole = table[table["stage"] == "0 of 2 edges"]
    assert whole["loss"].item() < 1e-20
    assert whole["complexity"].item() > 3 * 23
    index = int(whole.index[0])
    np.testing.assert_allclose(found.predict(x, index), model(x).detach(), atol=1e-9)
    assert "of 2 edges" not in found.get_best()["stage"]


@pytest.mark.slow  # searches formulas
def test_rules_of_selection():
    generator = torch.Generator().manual_seed(0)
    model, x = spline_network([[[torch.sin, lambda v: 0.05 * torch.exp(v)]]], [(-2.0, 2.0)] * 2)
    y = model(x).detach() + 0.02 * torch.randn(600, 1, generator=generator, dtype=torch.float64)
    picked = {
        rule: symbolize(model, x, y, model_selection=rule) for rule in ("best", "accuracy", "score")
    }
    for rule, found in picked.items():
        table = found.equations_
        table = table[~table["stage"].str.contains(" of ")]  # steps on the way
        rows = {
            "accuracy": table,
            "score": table,
            "best": table[table["loss"] <= 1.5 * table["loss"].min()],
        }[rule]
        column, largest = ("loss", False) if rule == "accuracy" else ("score", True)
        expected = rows[column].idxmax() if largest else rows[column].idxmin()
        assert found.get_best().name == expected
        assert found.sympy() == table.loc[expected, "sympy_format"]
        assert f">>>>  {expected} " in str(found)
        assert str(found).count(">>>>") == 1
    with pytest.raises(InvalidValueError, match=r"be one of accuracy, best, score, got 'bets'\. "):
        symbolize(model, x, y, model_selection="bets")


@pytest.mark.slow  # derives formulas
def test_best_does_not_explain_less_than_r2_min_allows():
    """The exponential makes 10 % of the variance, noise 20 %: PySR's rule alone would drop it."""
    generator = torch.Generator().manual_seed(0)
    model, x = spline_network([[[torch.sin, lambda v: 0.25 * torch.square(v)]]], [(-2.0, 2.0)] * 2)
    y = model(x).detach()
    y += 0.5 * y.std() * torch.randn(600, 1, generator=generator, dtype=torch.float64)
    assert len(symbolize(model, x, y).sympy().free_symbols) == 2


@pytest.mark.slow  # searches formulas
def test_the_model_is_left_as_it_was(made):
    model, x, y = copy.deepcopy(made)
    model.train()
    state, layers = copy.deepcopy(model.state_dict()), list(model.layers)
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    symbolize(model, x, y)
    suggest(model, x)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(a is b for a, b in zip(layers, model.layers, strict=True))
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    with pytest.raises(InvalidValueError):
        symbolize(model, x, functions=["nonsense"])
    assert torch.get_num_threads() == threads


@pytest.mark.slow  # searches formulas
def test_float32_models_stay_float32(made):
    model, x, y = made
    found = symbolize(copy.deepcopy(model).float(), x.float(), y.float())
    assert found.model.dtype == torch.float32
    assert found.predict(x).dtype == np.float64
    assert str(found.sympy()) == "exp(x2**2 + sin(pi*x1))"


CASES = {  # layers of functions, ranges, and the formula
    "a ratio by logarithms": (
        [[[torch.log, lambda v: -2 * torch.log(v)]], [[torch.exp]]],
        [(1.0, 5.0), (1.0, 5.0)],
        x1 / x2**2,
    ),
    "a product by squares": (
        [
            [[lambda v: v, lambda v: v], [lambda v: v, lambda v: -v]],
            [[lambda v: v**2 / 4, lambda v: -(v**2) / 4]],
        ],
        [(-1.0, 1.0), (-2.0, 2.0)],
        x1 * x2,
    ),
    "a cubic and a wave": (
        [[[lambda v: v**3 / 5 - v, lambda v: 5 * torch.cos(v)]]],
        [(-3.0, 3.0), (-3.0, 3.0)],
        x1**3 / 5 - x1 + 5 * sympy.cos(x2),
    ),
}


@pytest.mark.slow  # derives formulas
@pytest.mark.parametrize("name", CASES)
def test_formulas_are_found_behind_splines(name):
    layers, ranges, truth = CASES[name]
    model, x = spline_network(layers, ranges)
    y = sympy.lambdify((x1, x2), truth, "numpy")(*x.numpy().T)[:, None]
    assert sympy.simplify(symbolize(model, x, y).sympy() - truth) == 0


def wiggly(v):
    return torch.sin(3 * v) * torch.exp(-v) + torch.abs(v - 0.2) + 0.3 * torch.cos(9 * v)


def test_an_edge_that_no_function_fits_stays_a_spline():
    model, x = spline_network([[[wiggly, torch.square]]], [(-2.0, 2.0), (-2.0, 2.0)])
    found = symbolize(model, x)
    assert found.receipt.spline_edges == ("f_0_0_0",)
    assert found.model.layers[0].functions[0][0] == "spline"
    assert found.receipt.relative_rmse < 1e-3
    assert "Edges left as splines: f_0_0_0." in found.receipt.summary()
    values = sympy.lambdify((x1, x2), copy.deepcopy(found.sympy()), "numpy")(*x.numpy().T)
    np.testing.assert_allclose(values, found.predict(x)[:, 0])


@pytest.mark.slow  # derives formulas
def test_harmful_functions_are_taken_back():
    """Every edge fits to R2 0.95; together they would be far off, so some stay splines."""
    model, x = spline_network(
        [[[lambda v: torch.tanh(3 * v), lambda v: torch.sin(5 * v)]]], [(-1.0, 1.0), (-1.0, 1.0)]
    )
    strict = symbolize(model, x, functions=["x^3", "x^5"], r2_min=0.9)
    assert 1 - strict.receipt.relative_rmse**2 >= 0.9 - 1e-6
    lines = symbolize(model, x, functions=["x"], r2_min=0.999)
    assert lines.receipt.spline_edges == ("f_0_0_0", "f_0_0_1")
    assert lines.receipt.relative_rmse < 1e-6


@pytest.mark.slow  # searches formulas
def test_dead_edges_are_absent():
    model, x = spline_network([[[torch.sin, None], [None, torch.exp]]], [(-2.0, 2.0)] * 2)
    found = symbolize(model, x)
    assert found.output_names == ("y1", "y2")
    assert found.sympy(output="y1") == sympy.sin(x1)
    assert found.sympy(output=1) == sympy.exp(x2)
    assert found.predict(x).shape == (600, 2)
    assert set(found.equations_["output"]) == {"y1", "y2"}
    np.testing.assert_array_equal(
        found.predict(x), found.predict(x, [found.get_best(o).name for o in (0, 1)])
    )
    assert found.get_best("y2")["equation"] == "exp(x2)"
    assert bool((found.model.layers[0].mask == model.layers[0].mask).all())
    table = suggest(model, x, functions=["sin"])
    assert set(zip(table["out"], table["in"], strict=True)) == {(0, 0), (1, 1)}


def test_a_model_of_constants():
    model = KAN([2, 1]).double()
    model.layers[0].mask.zero_()
    with torch.no_grad():
        model.layers[0].bias.fill_(2.0)
    found = symbolize(model, torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double())
    assert found.sympy() == 2
    assert found.receipt.max_deviation == 0.0
    assert suggest(model, torch.zeros(20, 2).double()).empty


@pytest.mark.slow  # derives formulas
def test_units_of_the_data():
    layers = [[[torch.square]]]
    model, x = spline_network(layers, [(-1.0, 1.0)], names=["blood sugar"])
    model.input_shift.fill_(5.0)
    model.input_scale.fill_(2.0)
    model.output_scale.fill_(3.0)
    model.output_shift.fill_(-1.0)
    found = symbolize(model, 5 + 2 * x)
    sugar = sympy.Symbol("blood sugar")
    truth = 3 * ((sugar - 5) / 2) ** 2 - 1
    values = sympy.lambdify(sugar, found.sympy() - truth)(np.linspace(3, 7, 9))
    assert np.abs(values).max() < 1e-6
    assert "blood sugar" in suggest(model, 5 + 2 * x)["formula"][0]


@pytest.mark.slow  # derives formulas
def test_classification_gives_the_formula_of_the_logits():
    model, x = spline_network([[[lambda v: 3 * v, torch.square]]], [(-1.0, 1.0)] * 2)
    classes = {"task": "classification", "class_labels": ("no", "yes")}
    model.schema = dataclasses.replace(model.schema, **classes)
    y = (model(x)[:, 0] > 0).long()
    found = symbolize(model, x, y)
    assert sympy.expand(found.sympy() - (3 * x1 + x2**2)) == 0
    assert found.receipt.accuracy == 1.0
    labels = np.array(["no", "yes"])[y.numpy()]
    assert symbolize(model, x, labels).receipt.accuracy == 1.0


@pytest.mark.slow  # derives formulas
def test_choices_can_be_limited(made):
    model, x, y = made
    found = symbolize(model, x, y, functions=["cos", "exp", "square"], refine=False, snap=False)
    assert found.model.layers[0].functions == (("sin", "x^2"),)
    assert found.get_best()["stage"] == "fitted"
    names = {stage.name for stage in found.stages}
    assert not any(name in ("refined", "snapped") or "cut" in name for name in names)
    assert_close(torch.as_tensor(found.predict(x)), found.model(x).detach())
    assert not found.receipt.snapped


@pytest.mark.slow  # searches formulas
def test_rows_are_chosen_by_the_generator():
    model, x = spline_network([[[torch.sin]]], [(-2.0, 2.0)])
    many = x.repeat(5, 1)
    runs = [
        symbolize(model, many, generator=torch.Generator().manual_seed(seed)).sympy(1)
        for seed in (0, 0)
    ]
    assert runs[0] == runs[1]


def test_suggestions(made):
    model, x, _ = made
    table = suggest(model, x)
    columns = ["layer", "out", "in", "rank", "function", "r2", "score", "formula"]
    assert table.columns.tolist() == columns
    assert len(table) == 9
    best = table[table["rank"] == 1]
    assert best["function"].tolist() == ["sin", "x^2", "exp"]
    assert (best["score"] == 0).all()
    assert (best["r2"] > 0.999).all()
    assert "h1_1" in best["formula"].iloc[2]
