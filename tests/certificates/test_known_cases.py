"""Certificates of models whose extremes are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from kanlens.certificates._certify import certify
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes

UNIT = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]).double()


def written(
    *layers: list[list[tuple[str, tuple[float, ...]]]], nodes: list[Nodes] | None = None
) -> KAN:
    """A float64 network of elementary functions, layer by layer."""
    made = []
    for table in layers:
        layer = KANLinear(len(table[0]), len(table), functions=[["x"] * len(table[0])] * len(table))
        for out, row in enumerate(table):
            for in_, (name, numbers) in enumerate(row):
                layer.assign(out, in_, name, numbers)
        made.append(layer.double())
    last = nodes[-1].grouping.nodes if nodes else len(layers[-1])
    schema = KAN([len(layers[0][0]), last]).schema
    return KAN.from_layers(made, schema, nodes=nodes).double()


LINE = ("x", (1.0, 0.0, 1.0, 0.0))
NOTHING = ("constant", (1.0, 0.0, 1.0, 0.0))


def test_a_product_of_two_features():
    nodes = [Nodes(Grouping(0, (2,)))]
    model = written([[LINE, NOTHING], [NOTHING, LINE]], nodes=nodes)
    x = torch.tensor([[0.5, -0.25]]).double()
    assert model(x).item() == -0.125
    found = certify(model, UNIT).outputs[0]
    assert found.range.low == pytest.approx(-1, abs=1e-6)
    assert found.range.high == pytest.approx(1, abs=1e-6)
    for one in found.features:
        assert one.verdict == "neither"
        assert (one.slope.low, one.slope.high) == pytest.approx((-1, 1), abs=1e-9)
        assert one.rises.bound == pytest.approx(2, abs=1e-6)
    assert found.lipschitz["2"].bound == pytest.approx(math.sqrt(2), rel=1e-6)
    assert found.lipschitz["inf"].bound == pytest.approx(2, rel=1e-6)
    assert found.lipschitz["1"].bound == pytest.approx(1, rel=1e-6)
    assert found.additivity.least == pytest.approx(1, rel=0.05)
    assert found.additivity.distance.bound >= 1 - 1e-9  # no additive function is nearer to x1 * x2


@pytest.mark.slow  # divides many boxes
def test_exp_of_a_sum_of_sine_and_square():
    sine, square = ("sin", (math.pi, 0.0, 1.0, 0.0)), ("x^2", (1.0, 0.0, 1.0, 0.0))
    model = written([[sine, square]], [[("exp", (1.0, 0.0, 1.0, 0.0))]])
    found = certify(model, UNIT, tolerance=0.005, max_boxes=8000).outputs[0]
    assert found.range.low <= math.exp(-1) <= found.range.seen_low + 1e-3
    assert found.range.seen_high - 1e-3 <= math.exp(2) <= found.range.high
    assert found.range.ratio < 1.012
    steepest = max(
        math.pi * math.cos(math.pi * t) * math.exp(math.sin(math.pi * t) + 1)
        for t in torch.linspace(0, 0.5, 20001).tolist()
    )
    slope = found.features[0].slope
    assert steepest <= slope.high <= 1.02 * steepest
    assert [one.verdict for one in found.features] == ["neither", "neither"]


def test_an_additive_model_is_additive_and_its_range_is_that_of_its_parts():
    parts = [[("sin", (2.0, 0.3, 1.0, 0.0)), ("x^2", (1.0, 0.0, -2.0, 1.0))]]
    found = certify(written(parts), UNIT).outputs[0]
    assert found.additivity.distance.bound == 0
    top, bottom = 1 + 1, min(math.sin(-1.7), math.sin(2.3)) + 1 - 2
    low = -1 + 1 - 2 if -math.pi / 2 > -1.7 else bottom
    assert found.range.high == pytest.approx(top, abs=0.1)
    assert found.range.high >= top
    assert found.range.low <= low
    assert found.range.low == pytest.approx(low, abs=0.1)
    x = 2 * torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() - 1
    assert torch.allclose(found.additivity.function(x), written(parts)(x)[:, 0], atol=1e-12)


@pytest.mark.slow  # proves bounds
def test_a_deeper_model_with_one_feature_per_node_is_additive():
    curve = ("sin", (1.0, 0.0, 1.0, 0.0))
    model = written([[curve, NOTHING], [NOTHING, curve]], [[curve, curve]])
    model.layers[0].mask.copy_(torch.eye(2))
    found = certify(model, UNIT).outputs[0]
    assert found.additivity.distance.bound == 0
    x = UNIT.mT * 0.7
    assert torch.allclose(found.additivity.function(x), model(x)[:, 0], atol=1e-12)


def monotone(seed: int) -> KAN:
    """Coefficients that never fall, base weights 0: no feature can lower the output."""
    model = KAN([3, 4, 2], base_activation="zero", generator=torch.Generator().manual_seed(seed))
    model = model.double()
    with torch.no_grad():
        for layer in model.layers:
            layer.spline_scaler.fill_(1.0)
            steps = torch.rand(
                layer.spline_weight.shape, generator=torch.Generator().manual_seed(seed)
            )
            layer.spline_weight.copy_(((steps - 0.4).clamp_min(0)).cumsum(-1) - 0.3)
    return model


@pytest.mark.slow  # divides many boxes
def test_coefficients_that_never_fall_prove_that_no_feature_lowers_the_output():
    domain = torch.tensor([[-1.5, 1.5]] * 3)
    for found in certify(monotone(0), domain, max_boxes=64).outputs:
        assert [one.verdict for one in found.features] == ["increasing"] * 3
        assert all(one.falls.bound == 0 for one in found.features)


@pytest.mark.slow  # proves bounds
def test_a_turned_output_scale_turns_the_verdict():
    model = monotone(0)
    model.output_scale.fill_(-1.0)
    found = certify(model, torch.tensor([[-1.0, 1.0]] * 3), max_boxes=64).outputs[0]
    assert [one.verdict for one in found.features] == ["decreasing"] * 3
    assert all(one.rises.bound == 0 for one in found.features)


@pytest.mark.slow  # proves bounds
def test_one_falling_stretch_is_found_and_shown():
    model = monotone(0)
    with torch.no_grad():
        model.layers[1].spline_weight[0, 1, 3] -= 2.0
    found = certify(model, torch.tensor([[-1.0, 1.0]] * 3), target=0, max_boxes=500).outputs[0]
    one = next(one for one in found.features if one.verdict == "neither")
    for pair, sign in ((one.rise, 1), (one.fall, -1)):
        values = model(pair.x)[:, 0].detach()
        assert torch.allclose(values, pair.value)
        assert sign * float(values[1] - values[0]) > 1e-3


@pytest.mark.slow  # proves bounds
def test_edges_that_cancel_leave_an_effect_of_rounding_only():
    model = KAN([2, 2, 1], generator=torch.Generator().manual_seed(0), scale_noise=3.0).double()
    first, last = model.layers
    with torch.no_grad():
        for name in ("spline_weight", "spline_scaler", "base_weight"):
            getattr(first, name)[:, 0] = getattr(first, name)[:1, 0].clone()
            getattr(first, name)[:, 1] = 0
        straight = torch.linspace(-1, 1, 8).double()
        for name in ("base_weight",):
            getattr(last, name).zero_()
        last.spline_scaler.fill_(1.0)
        last.spline_weight.copy_(torch.stack([straight, -straight])[None])
    one = certify(model, torch.tensor([[-1.0, 1.0]] * 2), max_boxes=500).outputs[0].features[0]
    assert one.effect.bound < 1e-6
    assert one.slope.high < 1e-6


def test_kinks_count_with_the_slopes_of_both_sides():
    model = written([[("abs", (1.0, 0.0, 1.0, 0.0)), ("relu", (1.0, 0.0, 2.0, 0.0))]])
    found = certify(model, UNIT).outputs[0]
    assert (found.features[0].slope.low, found.features[0].slope.high) == pytest.approx((-1, 1))
    assert (found.features[1].slope.low, found.features[1].slope.high) == pytest.approx((0, 2))
    assert [one.verdict for one in found.features] == ["neither", "increasing"]


def test_order_one_is_certified_by_the_slopes_of_its_pieces():
    layer = KANLinear(1, 1, spline_order=1, grid_size=4, base_activation="zero").double()
    with torch.no_grad():
        layer.spline_scaler.fill_(1.0)
        layer.spline_weight.copy_(torch.tensor([0.0, 1.0, 0.5, 0.75, 0.75]).double())
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    slope = certify(model, torch.tensor([[-1.0, 1.0]])).outputs[0].features[0].slope
    assert (slope.low, slope.high) == pytest.approx((-1.0, 2.0), abs=1e-9)


def test_slopes_at_the_ends_of_the_domain_are_those_inside():
    layer = KANLinear(2, 1, spline_order=1, grid_size=4, base_activation="zero").double()
    with torch.no_grad():
        layer.spline_scaler.fill_(1.0)
        layer.spline_weight.copy_(torch.tensor([0.0, 1.0, 0.5, 0.75, 9.0]).double())
    model = KAN.from_layers([layer], KAN([2, 1]).schema)
    cut = layer.breakpoints()[0, 3].item()  # beyond it the slope is 16.5
    found = certify(model, torch.tensor([[-1.0, cut], [cut, cut]])).outputs[0]
    slope, fixed = (one.slope for one in found.features)
    assert (slope.low, slope.high) == pytest.approx((-1.0, 2.0), abs=1e-9)
    assert slope.low <= slope.seen_low <= slope.seen_high <= slope.high
    assert (fixed.low, fixed.high) == pytest.approx((0.5, 16.5), abs=1e-9)
    assert found.lipschitz["2"].seen <= found.lipschitz["2"].bound


@pytest.mark.slow  # proves bounds
def test_steps_up_never_lower_and_steps_down_never_raise():
    up, down = ("sign", (1.0, 0.1, 1.0, 0.0)), ("sign", (2.0, 0.1, -1.0, 0.0))
    model = written([[up, down], [LINE, NOTHING]], [[("exp", (0.3, 0.0, 1.0, 0.0)), LINE]])
    found = certify(model, UNIT, max_boxes=300).outputs[0]
    assert [one.verdict for one in found.features] == ["increasing", "decreasing"]
    assert found.features[0].falls.bound == 0
    assert found.features[1].rises.bound == 0
    assert found.features[0].slope.high == math.inf
    assert found.lipschitz["2"].bound == math.inf
    assert found.range.high >= math.exp(0.6) + 1 - 1e-9


def bounds_of(model: KAN, domain: Tensor) -> tuple[float, float]:
    span = certify(model, domain, max_boxes=200).outputs[0].range
    return span.low, span.high


@pytest.mark.slow  # divides many boxes
@pytest.mark.parametrize("name", ["log", "sqrt", "1/x"])
def test_an_undefined_function_leaves_no_bound_unless_the_domain_avoids_it(name):
    model = written([[(name, (1.0, 0.0, 1.0, 0.0)), LINE]])
    assert bounds_of(model, UNIT) == (-math.inf, math.inf)
    one = certify(model, UNIT, max_boxes=50).outputs[0].features[0]
    if name == "1/x":
        assert one.verdict == "neither"  # it jumps up across its pole, which points show
    else:
        assert one.verdict == "unknown"
        assert one.remark == "a slope without a bound: a pole, a jump, or an undefined function"
    low, high = bounds_of(model, torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
    g = {"log": math.log, "sqrt": math.sqrt, "1/x": lambda u: 1 / u}[name]
    assert low == pytest.approx(min(g(0.5), g(1.0)), abs=0.1)
    assert high == pytest.approx(max(g(0.5), g(1.0)) + 1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("widths", "most"), [([2, 3, 1], 1.02), ([4, 5, 1], 1.05)])
def test_bounds_of_new_models_are_little_wider_than_what_is_seen(widths, most):
    model = KAN(widths, generator=torch.Generator().manual_seed(0))
    found = certify(model, torch.tensor([[-1.0, 1.0]] * widths[0]), max_boxes=1000).outputs[0]
    assert 1 <= found.range.ratio <= most
    assert found.lipschitz["2"].bound <= 1.2 * found.lipschitz["2"].seen
    assert found.additivity.distance.bound <= 1.2 * found.additivity.distance.seen


@pytest.mark.slow  # proves bounds
def test_cutting_boxes_finds_out_that_a_logarithm_is_defined():
    square = ("x^2", (1.0, 0.0, 1.0, 0.6))
    model = written(
        [[square, NOTHING], [("x", (1.0, 0.0, -1.0, 0.0)), NOTHING]],
        [[LINE, LINE]],
        [[("log", (1.0, 0.0, 1.0, 0.0))]],
    )  # log(x1^2 - x1 + 0.6), whose argument is at least 0.35
    low, high = bounds_of(model, UNIT)
    assert low <= math.log(0.35) <= low + 0.1
    assert high - 0.1 <= math.log(2.6) <= high
