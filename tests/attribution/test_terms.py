"""Terms add up to the output, products are purified, and other networks are refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.attribution import Terms, terms
from kanlens.attribution._sum_form import read_form
from kanlens.errors import InvalidValueError, MethodError, ShapeError
from kanlens.model._analysis import float64_copy
from tests.made import draw, made

pytestmark = pytest.mark.usefixtures("few_folds")

ROWS = draw(60, 3)
LEVELS = ["a", "b", "c", "d", "e", "f"]


def total(result: Terms) -> torch.Tensor:
    return result.level + torch.stack([term.values for term in result.terms]).sum(0)


def grown(frame: pd.DataFrame) -> tuple[kanlens.KAN, torch.Tensor]:
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    return kanlens.frontier(table, progress=False, generator=generator).simplest, table.x


@cache
def with_product() -> tuple[kanlens.KAN, torch.Tensor]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.uniform(0, 1, 400), "b": random.normal(size=400)})
    frame["site"] = random.choice(LEVELS, 400)
    y = np.sin(6 * frame["a"]) + frame["site"].map(LEVELS.index) / 3
    return grown(frame.assign(y=y + 2 * (frame["a"] - 0.2) * frame["b"]))


@cache
def with_link() -> tuple[kanlens.KAN, torch.Tensor]:
    x = np.random.default_rng(1).uniform(0, 1, (400, 2))
    return grown(pd.DataFrame(x, columns=["a", "b"]).assign(y=np.exp(3 * x[:, 0] + x[:, 1] ** 2)))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("widths", [[3, 1], [3, 2], [3, (0, 1)], [3, (2, 1)]])
def test_terms_of_one_layer_add_up_to_its_outputs(widths, scaled):
    model = made(widths, scaled_nodes=scaled)
    for target in range(len(model.output_names)):
        result = terms(model, ROWS, target=target)
        sums = total(result)
        torch.testing.assert_close(sums, model(ROWS)[:, target].detach(), rtol=0, atol=1e-10)


@pytest.mark.slow  # many networks and methods
def test_terms_of_a_grown_network_add_up_to_its_output():
    model, x = with_product()
    result = terms(model, x)
    assert {term.kind for term in result.terms} == {"curve", "surface"}
    torch.testing.assert_close(total(result), model(x)[:, 0].detach(), rtol=0, atol=1e-10)


@pytest.mark.slow  # many networks and methods
def test_terms_add_up_to_the_argument_of_the_link():
    model, x = with_link()
    result = terms(model, x)
    assert result.unit == ""
    edge, factor, shift = read_form(float64_copy(model), 0).link
    outputs = shift + factor * edge(total(result).numpy())
    np.testing.assert_allclose(outputs, model(x)[:, 0].detach(), rtol=0, atol=1e-10)
    part = result.link.settings[0]
    np.testing.assert_allclose(part.data, total(result), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.link.values, shift + factor * edge(part.x.numpy()))


@pytest.mark.slow  # takes a while
def test_terms_are_centered_and_in_order():
    model, x = with_product()
    parts = terms(model, x).terms
    sizes = [term.importance for term in parts]
    assert sizes == sorted(sizes, reverse=True)
    for term in parts:
        assert float(term.values.mean()) == pytest.approx(0, abs=1e-12)
        assert term.importance == pytest.approx(float(term.values.std(correction=0)))


@pytest.mark.slow  # takes a while
def test_a_curve_has_the_values_of_the_rows():
    model, x = with_product()
    for term in terms(model, x).terms:
        part = term.factors[0][0].settings[0]
        if term.kind == "curve":
            values = np.interp(part.data, part.x, term.factors[0][0].values)
            np.testing.assert_allclose(values, term.values, atol=1e-10)


@pytest.mark.slow  # takes a while
def test_a_surface_says_nothing_of_its_columns_alone():
    x = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
    x = np.tile(x, (8, 1))
    frame = pd.DataFrame(x, columns=["a", "b"])
    noise = np.random.default_rng(3).normal(size=200)
    frame["y"] = (x[:, 0] + 1) * (x[:, 1] - 1) ** 2 + noise
    model, rows = grown(frame)
    (surface,) = (term for term in terms(model, rows).terms if term.kind == "surface")
    assert surface.name == "a * b"
    values = surface.factors[0][0].values
    assert values.shape == (5, 5)
    assert float(values.abs().max()) > 1
    for axis in (0, 1):
        np.testing.assert_allclose(values.mean(axis), 0, atol=1e-10)


def multiplied(rho: float, seed: int = 0) -> tuple[Terms, torch.Tensor]:
    """The terms of exactly a * b at normal rows of some correlation, and the rows."""
    options = {"base_activation": "identity", "spline_order": 1, "grid_size": 1}
    model = kanlens.KAN([2, (0, 1)], feature_names=["a", "b"], **options).double()
    with torch.no_grad():
        model.layers[0].spline_weight.zero_()
        model.layers[0].base_weight.fill_(1.0)
        model.layers[0].mask.copy_(torch.eye(2))
    x = draw(500, 2, seed=seed)
    x[:, 1] = rho * x[:, 0] + (1 - rho**2) ** 0.5 * x[:, 1]
    torch.testing.assert_close(model(x)[:, 0].detach(), x.prod(1), rtol=0, atol=1e-12)
    result = terms(model, x)
    torch.testing.assert_close(total(result), x.prod(1), rtol=0, atol=1e-12)
    return result, x


@pytest.mark.parametrize("seed", range(4))
def test_a_product_of_independent_columns_adds_the_mean_of_one_times_the_other(seed):
    result, x = multiplied(0.0, seed)
    surface, *mains = result.terms
    assert surface.kind == "surface"
    for main in mains:
        own = "ab".index(main.name)
        straight = x[:, 1 - own].mean() * (x[:, own] - x[:, own].mean())
        assert float((main.values - straight).std()) < 0.03 * surface.importance


@pytest.mark.parametrize("seed", range(4))
def test_a_product_of_correlated_columns_adds_smooth_squares(seed):
    result, x = multiplied(0.7, seed)
    away = x - x.mean(0)
    squares = 0.7 / (1 + 0.7**2) * away**2 + x.mean(0).flip(0) * away
    for main in (term for term in result.terms if term.kind == "curve"):
        truth = squares[:, "ab".index(main.name)]
        assert float((main.values - truth + truth.mean()).std()) < 0.3 * truth.std()


@pytest.mark.slow  # takes a while
def test_planted_mains_of_a_product_come_back():
    x = draw(500, 2, seed=3)
    y = x[:, 0] + x[:, 1] ** 2 + 2 * x.prod(1) + 0.3 * draw(500, seed=4)
    frame = pd.DataFrame(x.numpy(), columns=["a", "b"]).assign(y=y.numpy())
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.fit_default(table, max_edges=6, progress=False, generator=generator).model
    mains = {term.name: term.values for term in terms(model, x).terms if term.kind == "curve"}
    line = x[:, 0] + 2 * x[:, 1].mean() * x[:, 0]
    square = x[:, 1] ** 2 + 2 * x[:, 0].mean() * x[:, 1]
    for name, truth in (("a", line), ("b", square)):
        assert float((mains[name] - truth + truth.mean()).std()) < 0.15


@pytest.mark.slow  # takes a while
def test_a_product_of_levels_and_repeated_values_is_purified():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"k": random.integers(0, 5, 600) * 1.0})
    frame["site"] = random.choice(LEVELS, 600)
    level = frame["site"].map(LEVELS.index) - 2.5
    frame["y"] = level * frame["k"] + 0.2 * random.normal(size=600)
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.fit_default(table, max_edges=6, progress=False, generator=generator).model
    result = terms(model, table.x)
    torch.testing.assert_close(total(result), model(table.x)[:, 0].detach(), rtol=0, atol=1e-12)
    parts = {term.name: term.values for term in result.terms}
    for name, truth in (("k", level.mean() * frame["k"]), ("site", frame["k"].mean() * level)):
        away = parts.pop(name).numpy() - truth + truth.mean()
        assert away.std() < 0.05 * frame["y"].std()
    assert [term.kind for term in result.terms if term.name in parts] == ["surface"]


def test_factors_of_a_product_of_sums_multiply_to_it():
    model = made([3, (0, 1)])
    (term,) = terms(model, ROWS).terms
    assert (term.kind, term.name) == ("product", "(x1 + x2 + x3) * (x1 + x2 + x3)")
    factors = []
    for effects in term.factors:
        means = [_at(effect) for effect in effects]
        middle = float(means[0].mean())
        factors.append(sum(means) - (len(means) - 1) * middle)
    assert float(factors[0].std(correction=0)) == pytest.approx(1, rel=1e-3)
    values = factors[0] * factors[1]
    np.testing.assert_allclose(values - values.mean(), term.values, atol=0.01)


def _at(effect) -> torch.Tensor:
    part = effect.settings[0]
    return torch.from_numpy(np.interp(part.data, part.x, effect.values))


def test_a_category_is_one_term():
    model, x = with_product()
    (site,) = (term for term in terms(model, x).terms if term.name == "site")
    assert site.factors[0][0].settings[0].labels == tuple(LEVELS)
    assert site.factors[0][0].values.diff().mean() == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.slow  # takes a while
def test_each_of_three_classes_has_terms():
    random = np.random.default_rng(2)
    frame = pd.DataFrame(random.normal(size=(300, 2)), columns=["a", "b"])
    frame["y"] = np.array(["low", "middle", "high"])[np.digitize(frame["a"], [-0.5, 0.5])]
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    model, x = kanlens.KAN([2, 3], generator=generator).double(), table.x
    kanlens.fit(model, table, steps=2, progress=False, generator=generator)
    for target in range(3):
        result = terms(model, x, target=target)
        assert (result.target, result.unit) == (model.output_names[target], "log-odds")
        assert f"of {result.target}, one of 3 classes: " in repr(result)
        torch.testing.assert_close(total(result), model(x)[:, target].detach(), rtol=0, atol=1e-10)


def test_one_feature_and_float32_rows():
    model = made([1, 1]).float()
    result = terms(model, ROWS[:, :1].float())
    assert [term.name for term in result.terms] == ["x1"]
    assert result.terms[0].factors[0][0].unit == result.unit == model.schema.outputs[0].unit
    assert result.terms[0].values.dtype == torch.float64
    assert repr(result).startswith("Terms: 1 of y: x1")


def test_stored_rows_are_the_default():
    model, _ = with_product()
    assert len(terms(model).terms[0].values) == len(model.background)


def test_a_factor_that_is_a_constant_scales_the_other():
    model = made([3, (0, 1)])
    with torch.no_grad():
        model.layers[0].mask[0] = 0.0
    result = terms(model, ROWS)
    assert {term.kind for term in result.terms} == {"curve"}
    torch.testing.assert_close(total(result), model(ROWS)[:, 0].detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("widths", [[3, 2, 1], [3, (0, [3])], [3, (1, 1), 2, 1]])
def test_other_networks_are_refused(widths):
    with pytest.raises(MethodError, match=r"one layer, or one grown by kanlens\.frontier"):
        terms(made(widths), ROWS)


def test_a_constant_output_no_rows_and_no_such_output_are_refused():
    model = made([3, 1])
    with pytest.raises(InvalidValueError, match="output"):
        terms(model, ROWS, target="z")
    with torch.no_grad():
        model.layers[0].mask.zero_()
    with pytest.raises(MethodError, match="depends on some column, got a constant"):
        terms(model, ROWS)
    with pytest.raises(MethodError, match="rows of x, got None"):
        terms(kanlens.KAN([3, 1]))


def drawn(seed: int, kind: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table of known curves, with noise, and the curves by their columns."""
    random = np.random.default_rng(seed)
    rows = 500 if kind == "classes" else 250
    frame = pd.DataFrame(random.uniform(-1, 1, (rows, 2)), columns=["a", "b"])
    frame["site"] = random.choice(LEVELS, rows)
    curves = {"a": lambda x: np.sin(4 * x), "b": lambda x: 1.5 * x**2, "site": lambda k: k / 3}
    y = curves["a"](frame["a"]) + curves["b"](frame["b"]) + frame["site"].map(LEVELS.index) / 3
    if kind == "classes":
        return frame.assign(y=np.where(random.logistic(size=rows) < 2 * y - 2, "yes", "no")), curves
    return frame.assign(y=y + 0.5 * random.normal(size=rows)), curves


def covered(result: Terms, curves: dict[str, Any], factor: float = 1.0) -> list[float]:
    """Shares of the points of each curve where the band covers it."""
    shares = []
    for term in result.terms:
        effect = term.factors[0][0]
        part = effect.settings[0]
        function = curves[term.name]
        truth = function(part.x.numpy()) - function(part.data.numpy()).mean()
        low, high = effect.band.numpy()
        assert ((low < effect.values.numpy()) & (effect.values.numpy() < high)).all()
        shares.append(float(((low < factor * truth) & (factor * truth < high)).mean()))
    return shares


@pytest.mark.slow  # many networks and methods
@pytest.mark.parametrize(("kind", "factor", "seeds"), [("numbers", 1, 10), ("classes", 2, 10)])
def test_bands_cover_the_points_of_known_curves(kind, factor, seeds):
    shares = []
    for seed in range(seeds):
        frame, curves = drawn(seed, kind)
        table = kanlens.read_table(frame, target="y")
        generator = torch.Generator().manual_seed(seed)
        fitted = kanlens.fit_default(table, hidden=(), progress=False, generator=generator)
        shares += covered(terms(fitted.model, table.x, table.y), curves, factor)
    assert 0.9 <= np.mean(shares) <= 0.98


@pytest.mark.slow  # takes a while
def test_bands_are_narrower_with_more_rows_and_only_of_curves():
    model, x = with_product()
    y = model(x)[:, 0].detach() + 0.3 * draw(len(x), seed=5)
    halves = terms(model, x[:200], y[:200]), terms(model, x, y)
    for few, many in zip(*(by_name(result) for result in halves), strict=True):
        assert few.kind == many.kind
        if few.kind != "curve":
            assert few.factors[0][0].band is None
            continue
        wide, narrow = (float(term.factors[0][0].band.diff(dim=0).mean()) for term in (few, many))
        assert 0 < narrow < wide


def by_name(result: Terms) -> list[Any]:
    return sorted(result.terms, key=lambda term: term.name)


def test_bands_do_not_depend_on_the_curves_of_one_layer():
    y = ROWS[:, 0] + draw(60, seed=7)
    first, second = (terms(made([3, 1], seed=seed), ROWS, y) for seed in (0, 1))
    for pair in zip(by_name(first), by_name(second), strict=True):
        bands = []
        for term in pair:
            effect = term.factors[0][0]
            x = effect.settings[0].x.numpy()
            at = np.linspace(x[0], x[-1], 9)
            bands.append([] if effect.band is None else [np.interp(at, x, e) for e in effect.band])
        np.testing.assert_allclose(bands[0], bands[1], atol=0.05)
    assert by_name(first)[0].factors[0][0].band is not None


@pytest.mark.slow  # takes a while
def test_bands_with_a_link_are_in_the_units_of_its_argument():
    model, x = with_link()
    noise = 0.05 * draw(len(x), seed=6)
    y = model(x)[:, 0].detach()
    curves = [t for t in terms(model, x, y + y.std() * noise).terms if t.kind == "curve"]
    assert curves
    for term in curves:
        width = term.factors[0][0].band.diff(dim=0).mean() / 4  # a standard error
        assert 0 < float(width) < 0.1 * term.importance


def test_a_column_of_products_alone_has_no_band():
    model = made([3, (0, 1)])
    assert terms(model, ROWS, draw(60)).terms[0].factors[0][0].band is None


def test_targets_without_rows_and_of_another_length_are_refused():
    model = made([3, 1])
    with pytest.raises(MethodError, match=r"terms: expected x with y, got y alone"):
        terms(model, y=draw(60))
    with pytest.raises(ShapeError, match="terms: expected y of shape"):
        terms(model, ROWS, draw(59))
