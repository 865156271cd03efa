"""Splines in place of edges of any kind: within what was allowed, else refused."""

import re

import pytest
import torch
from torch.testing import assert_close

from kanlens.errors import InvalidValueError, MethodError, ShapeError
from kanlens.model._conversion import SplineConversion, to_splines
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.made import draw, made
from tests.model.layers_for_tests import SERIES


def error_of(found: SplineConversion, model: KAN, x: torch.Tensor) -> float:
    """The error by hand."""
    before, after = model(x).detach(), found.model(x).detach()
    return float(((after - before).abs() / (before.amax(0) - before.amin(0))).max())


@pytest.mark.parametrize("kind", ["bumps", "polynomials of tanh", "functions"])
@pytest.mark.slow  # takes a while
def test_outputs_agree_within_the_tolerance(kind):
    series = SERIES.get(kind, ())
    model = made([3, (1, 1), 2], scaled_nodes=True, series=series, functions=kind == "functions")
    x = draw(200, 3, seed=9)
    found = to_splines(model, x, tolerance=1e-3, spline_order=5)
    assert {type(layer) for layer in found.model.layers} == {KANLinear}
    assert error_of(found, model, x) == pytest.approx(found.error)
    assert found.error <= 1e-3
    assert error_of(found, made([3, (1, 1), 2], seed=5), x) > 1e-2  # another network is noticed
    between = 0.5 * (x + x.roll(1, 0))
    assert error_of(found, model, between) < 1e-2


def test_layers_of_splines_stay_as_they_are():
    model = made([2, 3, 1])
    found = to_splines(model)
    assert found.error == 0.0
    assert_close(dict(found.model.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_a_kink_is_among_the_breakpoints():
    layer = KANLinear(1, 1, functions=[["abs"]]).double()
    layer.assign(0, 0, "abs", (1.0, -0.125, 1.0, 0.0))
    found = to_splines(KAN.from_layers([layer], KAN([1, 1]).schema), tolerance=0.1)
    assert 0.125 in found.model.layers[0].breakpoints()[0].tolist()


def test_there_is_no_room_beyond_the_end_of_a_domain():
    layer = KANLinear(1, 1, functions=[["sqrt"]]).double()
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    rows = torch.linspace(0.01, 1.0, 50, dtype=torch.float64)[:, None]
    assert to_splines(model, rows, tolerance=1e-2).error <= 1e-2


def test_a_pole_and_too_small_a_tolerance_are_refused(monkeypatch):
    layer = KANLinear(1, 1, functions=[["log"]]).double()
    layer.assign(0, 0, "log", (1.0, -0.2, 1.0, 0.0))
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    rows = torch.tensor([[0.01], [0.3], [1.0]], dtype=torch.float64)
    with pytest.raises(
        MethodError, match=re.escape("got x1 -> y, which is infinite or undefined there")
    ):
        to_splines(model, rows)
    layer.assign(0, 0, "abs", (1.0, -0.33, 1.0, 0.0))
    monkeypatch.setattr("kanlens.model._conversion.MAX_INTERVALS", 64)
    with pytest.raises(MethodError, match=r"expected splines within 1e-12 of the outputs' ranges"):
        to_splines(model, rows, tolerance=1e-12)
    with pytest.raises(ShapeError, match=r"^to_splines: expected at least 2 rows, got 1\."):
        to_splines(model, rows[:1])
    with pytest.raises(InvalidValueError, match="tolerance"):
        to_splines(model, rows, tolerance=0.0)
