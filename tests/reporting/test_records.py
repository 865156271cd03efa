from __future__ import annotations

import math
from collections.abc import Callable
from html import unescape
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
import sympy
import torch

from kanlens.attribution import attribute
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.reporting._page_records import _trend, describe_edges, mathml, python_source
from kanlens.reporting._report_data import spread
from kanlens.symbolic import symbolize
from tests.reporting.conftest import HOSTILE, hostile_model, hostile_table, network, schema, seeded
from tests.reporting.page import Page


def evaluate(source: str, name: str, *values: float) -> float:
    space: dict[str, Any] = {}
    exec(source, space)  # noqa: S102
    return float(space[name](*values))


def test_the_python_text_computes_the_formula() -> None:
    a, b = sympy.symbols("age bmi")
    expression = 2.5 * sympy.exp(-(a**2)) + sympy.sqrt(sympy.Abs(b)) / 3 + sympy.pi
    source = python_source(expression, ("age", "unused", "bmi"), "y")
    assert "def y(age, bmi):" in source
    expected = 2.5 * math.exp(-0.49) + math.sqrt(2.0) / 3 + math.pi
    assert evaluate(source, "y", 0.7, -2.0) == pytest.approx(expected, rel=1e-14)


def test_negative_exponents_are_one_part_of_a_power() -> None:
    text = mathml(2e-7 * sympy.Symbol("a") - sympy.Symbol("b") ** -3, "y")
    powers = [one for one in fromstring(unescape(text)).iter() if one.tag == "msup"]
    assert powers
    assert all(len(one) == 2 for one in powers)
    assert "<mrow><mo>\N{MINUS SIGN}</mo><mn>7</mn></mrow></msup>" in text


def test_names_that_python_does_not_allow_are_numbered_and_quoted() -> None:
    names = ("lambda", 'a"\n b', "math", "max", "ok")
    expression = sum(sympy.Symbol(name) * place for place, name in enumerate(names, 1))
    source = python_source(expression, names, "my output")
    assert "def formula(x1, x2, x3, x4, ok):\n    # x1: 'lambda'\n" in source
    assert evaluate(source, "formula", 1.0, 10.0, 100.0, 1e3, 1e4) == 1 + 20 + 300 + 4000 + 50000


def test_a_replacement_never_meets_another_name() -> None:
    x2, other = sympy.Symbol("x2"), sympy.Symbol("a b")
    source = python_source(x2 - other, ("x2", "a b"), "y")
    assert evaluate(source, "y", 5.0, 3.0) == 2.0


def test_splines_are_no_python() -> None:
    from sympy.utilities.lambdify import implemented_function

    function = implemented_function("f", lambda x: x)
    assert python_source(function(sympy.Symbol("x1")), ("x1",), "y") is None


def test_mathml_is_escaped_and_balanced() -> None:
    symbol = sympy.Symbol(HOSTILE)
    text = mathml(symbol**2 / 3 - 2 * sympy.sin(symbol), "<b>")
    page = Page(text)
    assert page.unbalanced == []
    assert page.foreign() == []
    assert HOSTILE in page.text
    assert "<b>" in page.text
    assert page.of("b") == []


def test_long_formulas_are_broken_into_lines_and_longer_terms_are_refused() -> None:
    terms = [sympy.Symbol(f"feature{i}") * (i + 0.123) for i in range(12)]
    text = mathml(sympy.Add(*terms), "y")
    assert 3 <= len(Page(text).of("mtr")) <= 6
    assert mathml(sympy.exp(sympy.Add(*terms)), "y") is None


@pytest.fixture
def parabola() -> KAN:
    layer = KANLinear(2, 1, functions=[["x^2", "sin"]]).double()
    model = KAN.from_layers([layer], schema(["a", "b"], ["y"], target="y"))
    model.background = torch.rand(10, 2, generator=seeded(), dtype=torch.float64)
    return model


@pytest.mark.slow  # writes reports
def test_a_formula_comes_with_its_receipt(
    parabola: KAN, content_of: Callable[..., dict[str, Any]]
) -> None:
    x = torch.rand(60, 2, generator=seeded(), dtype=torch.float64) * 2 - 1
    y = parabola(x)[:, 0].detach()
    result = symbolize(parabola, x, y, progress=False)
    found = content_of(parabola, (x, y), formula=result)["formula"]
    assert found["equation"] == "y = a**2 + sin(b)"
    assert found["receipt"]["relative_rmse"] < 1e-6
    assert found["receipt"]["r2"] == pytest.approx(1.0)
    assert [one["stage"] for one in found["equations"]] == [s.name for s in result.stages]
    assert evaluate(found["python"], "y", 0.5, 0.25) == pytest.approx(0.25 + math.sin(0.25))
    assert "formula_far" not in str(found)


@pytest.mark.slow  # writes reports
def test_auto_makes_the_formula(parabola: KAN, content_of: Callable[..., dict[str, Any]]) -> None:
    x = torch.rand(60, 2, generator=seeded(), dtype=torch.float64) * 2 - 1
    found = content_of(parabola, x, symbolize=True)
    assert found["formula"]["equation"] == "y = a**2 + sin(b)"
    names = {(edge["in"], edge["function"]) for edge in found["edges"]}
    assert names == {(0, "x^2"), (1, "sin")}


@pytest.mark.slow  # writes reports
def test_the_formulas_are_those_of_symbolize(content_of: Callable[..., dict[str, Any]]) -> None:
    x = torch.rand(60, 1, generator=seeded(), dtype=torch.float64) * 2 - 1
    y = x[:, 0].exp() + 0.1 * torch.randn(60, generator=seeded(1), dtype=torch.float64)
    model = network([1, 1])
    found = content_of(model, (x, y), symbolize=True)["formula"]
    result = symbolize(model, x, y, progress=False)
    assert [one["equation"] for one in found["equations"]] == [*result.equations_["equation"]]
    assert found["equation"] == f"{result.output_names[0]} = {result.get_best()['equation']}"


@pytest.mark.slow  # writes reports
def test_a_network_that_is_too_wide_has_no_formula_and_the_report_says_why(
    content_of: Callable[..., dict[str, Any]],
) -> None:
    x = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    content = content_of(network([2, 40, 1]), x, symbolize=True)
    reason = (
        "expected at most 100 edges that lead to an output, got 120: this network is too wide to "
        "read. Remove edges with prune, or train with a smaller hidden layer."
    )
    assert (content["formula"], content["formula_refusal"]) == (None, reason)
    assert content["findings"][2] == "There is no formula: the network is too wide to read."
    assert content_of(network([2, 1]), x)["formula_refusal"] == ""


def test_the_trend_of_two_values_is_between_them(analyzed: Any) -> None:
    """Both slopes fall where the edge rises from one value to the other."""
    layers = [KANLinear(2, 1, functions=[["sin", "x"]]), KANLinear(1, 1, functions=[["x"]])]
    model = KAN.from_layers(layers, schema(["sex", "age"], ["y"])).double()
    with torch.no_grad():
        model.layers[0].affine[0, 0, 0] = 10.3
        model.layers[1].affine[0, 0, 2] = -1.0
    x = torch.stack([1 + torch.arange(40) % 2, torch.linspace(-1, 1, 40)], 1).double()
    assert bool((model.layers[0].edge_derivatives(x)[:, 0, 0] < 0).all())
    low, high = model(torch.tensor([[1.0, 0.0], [2.0, 0.0]]).double())[:, 0]
    assert low > high  # through the second layer
    edges = describe_edges(analyzed(model, x))
    found = {edge["source"]: edge["trend"] for edge in edges}
    assert found == {"sex": "lowers it", "age": "lowers it", "h1_1": "lowers it"}


def test_an_edge_of_another_output_is_judged_by_that(analyzed: Any) -> None:
    layer = KANLinear(1, 2, functions=[["x"], ["x"]])
    model = KAN.from_layers([layer], schema(["age"], ["u", "v"])).double()
    with torch.no_grad():
        model.layers[0].affine[1, 0, 2] = -1.0
    x = torch.linspace(-1, 1, 40).double()[:, None]
    found = {edge["destination"]: edge["trend"] for edge in describe_edges(analyzed(model, x, "u"))}
    assert found == {"u": "raises it", "v": "lowers it"}


def test_the_trend_of_an_edge_in_words() -> None:
    assert (_trend(1.0, False), _trend(0.004, False), _trend(0.0, True)) == (
        "raises it",
        "lowers it",
        "has no effect",
    )
    assert _trend(0.25, False) == "raises it on 25% of the rows, lowers it on the others"


@pytest.mark.slow  # writes reports
def test_only_names_that_stand_in_an_equation_are_explained(
    parabola: KAN, content_of: Callable[..., dict[str, Any]]
) -> None:
    parabola.schema = schema(["a b", "c d"], ["y"], target="y")
    with torch.no_grad():
        parabola.layers[0].mask[0, 1] = 0
    x = torch.rand(60, 2, generator=seeded(), dtype=torch.float64) * 2 - 1
    result = symbolize(parabola, x, progress=False)
    found = content_of(parabola, x, formula=result)["formula"]
    assert found["names"] == "Names in backticks are columns: `a b`."


Build = Callable[..., dict[str, Any]]


def test_pairs_are_the_interactions_strongest_first(
    content_of: Build, model: KAN, rows: torch.Tensor
) -> None:
    found = content_of(model, rows)["interactions"]
    truth = attribute(
        model, rows[spread(60, 20)], method="interactions", background=model.background
    ).interactions  # type: ignore[union-attr]
    assert (found["rows"], found["background_rows"]) == (20, 12)
    assert len(found["pairs"]) == 3
    sizes = [one["size"] for one in found["pairs"]]
    assert sizes == sorted(sizes, reverse=True)
    for one in found["pairs"]:
        i, j = (model.feature_names.index(name) for name in one["features"])
        assert one["size"] == pytest.approx(float(truth[:, i, j].abs().mean()), rel=1e-12)
        assert one["mean"] == pytest.approx(float(truth[:, i, j].mean()), rel=1e-12)
    assert found["share"] == pytest.approx(sum(one["share"] for one in found["pairs"]))
    assert 0 < found["share"] < 1


@pytest.mark.slow  # writes reports
def test_flows_are_those_of_the_secant(content_of: Build, model: KAN, rows: torch.Tensor) -> None:
    found = content_of(model, rows)["flows"]
    paths = attribute(
        model, rows[spread(60, 20)], method="secant", background=model.background
    ).paths  # type: ignore[union-attr]
    assert found["method"] == "secant"
    for layer, path in zip(found["layers"], paths, strict=True):
        torch.testing.assert_close(torch.tensor(layer).double(), path.abs().mean(0))


def test_one_layer_has_neither(content_of: Build, rows: torch.Tensor) -> None:
    found = content_of(network([3, 1]), rows)
    assert found["interactions"] is None
    assert found["flows"] is None


@pytest.mark.slow  # writes reports
def test_categories_of_a_column_are_one(content_of: Build) -> None:
    table = hostile_table()
    found = content_of(hostile_model(table), table)["interactions"]
    names = {name for one in found["pairs"] for name in one["features"]}
    assert "kind" in names
    assert len(found["pairs"]) == 6  # of four columns
