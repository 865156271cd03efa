"""`certify` as a call: its options, its errors, its results, and that it leaves the model alone."""

import copy
import itertools
import json
import math
import re

import pytest
import torch

from kanlens.certificates._certify import certify
from kanlens.certificates._statements import Range
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.functions._registration import register_function
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN

DOMAIN = torch.tensor([[-1.0, 1.0], [-0.5, 2.0]])


def small(widths: list[int] | None = None, seed: int = 0) -> KAN:
    generator = torch.Generator().manual_seed(seed)
    return KAN(
        widths or [2, 3, 2], scale_noise=2.0, generator=generator, feature_names=["age", "dose"]
    )


@pytest.mark.slow  # divides many boxes
def test_all_outputs_or_one_of_them():
    model = small()
    both = certify(model, DOMAIN, max_boxes=32)
    assert [one.target for one in both.outputs] == ["y1", "y2"]
    one = certify(model, DOMAIN, target="y2", max_boxes=32)
    assert [output.target for output in one.outputs] == ["y2"]
    assert one["y2"].range == both["y2"].range == both[1].range
    assert certify(model, DOMAIN, target=1, max_boxes=32).to_json() == one.to_json()


@pytest.mark.slow  # divides many boxes
def test_more_boxes_never_loosen_and_soon_decide():
    model = small()
    few, many = (certify(model, DOMAIN, target=0, max_boxes=n).outputs[0] for n in (1, 10**7))
    assert few.boxes == 1
    assert not few.decided
    assert many.decided
    assert many.range.low >= few.range.low
    assert many.range.high <= few.range.high
    assert many.range.ratio <= 1.05
    for loose, tight in zip(few.features, many.features, strict=True):
        assert tight.slope.low >= loose.slope.low
        assert tight.effect.bound <= loose.effect.bound + 1e-12


@pytest.mark.slow  # proves bounds
def test_the_model_and_the_random_state_are_left_alone():
    model = small()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    model.train()
    certify(model, DOMAIN, max_boxes=16)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


@pytest.mark.slow  # divides many boxes
def test_a_feature_that_is_held_fixed():
    model = small()
    found = certify(model, {"age": (0.25, 0.25), "dose": (0.0, 1.0)}, max_boxes=500).outputs[0]
    first = found.features[0]
    assert (first.verdict, first.remark) == ("constant", "held fixed by the domain")
    assert first.effect.bound == 0
    assert found.additivity.distance.bound == 0  # a function of one feature
    point = certify(model, {"age": (0.25, 0.25), "dose": (1, 1)}, max_boxes=50).outputs[0]
    assert point.range.high - point.range.low < 1e-5
    assert (
        point.range.low <= copy.deepcopy(model).double()(torch.tensor([[0.25, 1.0]]).double())[0, 0]
    )


@pytest.mark.slow  # divides many boxes
def test_where_features_are_held_the_domain_may_be_as_wide_as_numbers_go():
    model = small()
    model.input_low.fill_(-0.5)
    model.input_high.fill_(1.0)
    near = certify(model, torch.tensor([[-0.5, 1.0]] * 2).double(), max_boxes=500).outputs[0]
    far = certify(
        model, torch.tensor([[-1e300, 1e300]] * 2, dtype=torch.float64), max_boxes=500
    ).outputs[0]
    assert far.range == near.range
    assert far.additivity.distance == near.additivity.distance
    for one, other in zip(near.features, far.features, strict=True):
        assert one.effect == other.effect
        assert (
            other.slope.low <= min(one.slope.low, 0) <= max(one.slope.high, 0) <= other.slope.high
        )


@pytest.mark.slow  # divides many boxes
def test_a_constant_feature_does_not_spoil_the_additive_function():
    generator = torch.Generator().manual_seed(0)
    model = KAN([3, 3, 1], scale_noise=2.0, generator=generator)
    box = torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [0.3, 0.3]])
    found = certify(model, box, max_boxes=500).outputs[0]
    assert found.additivity.distance.bound <= found.range.high - found.range.low


@pytest.mark.slow  # proves bounds
def test_units_of_the_data():
    model = small([2, 1]).double()
    scaled = copy.deepcopy(model)
    scaled.input_shift.copy_(torch.tensor([10.0, -5.0]))
    scaled.input_scale.copy_(torch.tensor([4.0, 0.5]))
    scaled.output_scale.fill_(3.0)
    scaled.output_shift.fill_(7.0)
    box = torch.tensor([[-1.0, 1.0], [-0.5, 0.5]]).double()
    plain = certify(model, box).outputs[0]
    moved = certify(
        scaled, box * scaled.input_scale[:, None] + scaled.input_shift[:, None]
    ).outputs[0]
    assert moved.range.high == pytest.approx(3 * plain.range.high + 7, rel=1e-3)
    for one, other, scale in zip(plain.features, moved.features, (4.0, 0.5), strict=True):
        assert other.slope.high == pytest.approx(3 * one.slope.high / scale, rel=0.05, abs=1e-3)
        assert other.verdict == one.verdict


@pytest.mark.slow  # divides many boxes
def test_what_was_seen_lies_within_what_is_proven():
    model = small()  # of float32
    wide = copy.deepcopy(model).double()
    x = DOMAIN[:, 0] + (DOMAIN[:, 1] - DOMAIN[:, 0]) * torch.rand(
        500, 2, generator=torch.Generator().manual_seed(0)
    )
    for k, output in enumerate(certify(model, DOMAIN, max_boxes=64).outputs):
        y, near = wide(x.double())[:, k], output.additivity
        assert bool(((y >= output.range.low) & (y <= output.range.high)).all())
        assert output.range.low <= output.range.seen_low <= output.range.seen_high
        assert output.range.seen_high <= output.range.high
        assert near.least <= near.distance.bound
        bounds = [near.distance, *output.lipschitz.values()]
        for one in output.features:
            assert one.slope.low <= one.slope.seen_low <= one.slope.seen_high <= one.slope.high
            bounds += [one.effect, one.lipschitz]
        assert all(0 <= bound.seen <= bound.bound for bound in bounds)


@pytest.mark.slow  # divides many boxes
def test_the_frame_and_the_json_hold_the_numbers():
    found = certify(small(), DOMAIN, max_boxes=64)
    frame = found.to_frame()
    assert frame.shape == (4, 11)
    assert frame["feature"].tolist() == ["age", "dose", "age", "dose"]
    assert frame["slope_high"][1] == found["y1"].features[1].slope.high
    data = json.loads(found.to_json())
    assert data["domain"] == {"age": [-1.0, 1.0], "dose": [-0.5, 2.0]}
    assert data["outputs"][1]["range"]["low"] == found["y2"].range.low
    assert data["outputs"][0]["features"][0]["rise"]["x"] == found[0].features[0].rise.x.tolist()


@pytest.mark.slow  # divides many boxes
def test_infinite_bounds_are_null_in_json():
    far = certify(small(), torch.tensor([[-1e9, 1e9], [0.0, 1.0]]), max_boxes=1)
    assert json.loads(far.to_json())["outputs"][0]["range"]["low"] is None
    assert far.outputs[0].range.low == -math.inf


def test_the_ends_of_a_domain_are_told_apart():
    text = str(certify(KAN([1, 1]), [[1e9 - 1, 1e9 + 1]], progress=False))
    assert text.startswith("For x1 in [999999999, 1000000001]:")


@pytest.mark.slow  # proves bounds
def test_the_text_says_it():
    text = str(certify(small(), DOMAIN, target=0, max_boxes=3000))
    lines = text.splitlines()
    assert lines[0] == "For age in [-1, 1], dose in [-0.5, 2]:"
    assert re.match(
        r"y1: between \S+ and \S+ \(seen \S+ to \S+, width \S+ times as seen\)", lines[1]
    )
    assert re.match(r"  age: (never|raises|no verdict|has no)", lines[2])
    assert "additive function" in lines[-2]
    assert lines[-1].startswith("(about the float64 function of the stored weights")


def test_the_ratio_of_a_constant_is_one():
    assert Range(low=1.0, high=1.0, seen_low=1.0, seen_high=1.0).ratio == 1
    assert Range(low=0.0, high=1.0, seen_low=0.5, seen_high=0.5).ratio == math.inf


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": "dose"}, InvalidValueError, "certify: expected"),
        ({"tolerance": 0}, InvalidValueError, "expected tolerance to be a positive number, got 0"),
        ({"max_boxes": 0}, InvalidValueError, "to be a whole number of at least 1, got 0"),
        ({"time_limit": -1.0}, InvalidValueError, "time_limit to be a positive number, got -1.0"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(options, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        certify(small(), DOMAIN, **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused():
    with pytest.raises(DTypeError, match=r"^certify: expected a KAN, got Linear\."):
        certify(torch.nn.Linear(2, 1), DOMAIN)


class Doubled(KANLinear):
    """A kind of layer with edges of its own, whose bounds nobody wrote."""

    kind = "doubled"

    def edge_values(self, x):
        return 2 * super().edge_values(x)


@pytest.mark.parametrize("widths", [(2, 1), (2, 3, 1)])
def test_a_layer_that_does_not_bound_its_edges_leaves_statements_open(widths):
    generator = torch.Generator().manual_seed(0)
    layers = [KANLinear(*pair, generator=generator) for pair in itertools.pairwise(widths[:-1])]
    layers += [Doubled(*widths[-2:], generator=generator)]
    model = KAN.from_layers(layers, KAN(list(widths)).schema)
    layers[0].mask[:, 1] = 0
    found = certify(model, DOMAIN).outputs[0]
    assert (found.range.low, found.range.high) == (-math.inf, math.inf)
    assert found.range.seen_low < found.range.seen_high
    assert (found.boxes, found.decided) == (1, False)
    one, dead = found.features
    assert one.verdict in ("unknown", "neither")
    assert one.remark == "a layer of kind 'doubled' does not bound its edges (method 'enclosure')"
    assert one.effect.bound == one.lipschitz.bound == math.inf
    assert (dead.verdict, dead.remark) == ("constant", "no path of edges")


@pytest.mark.slow  # proves bounds
@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_a_small_effect_is_not_taken_for_rounding(offset):
    model = small([2, 3, 1]).double()
    model.output_shift.fill_(offset)
    narrow = torch.tensor([[-1.0, 1.0], [0.3, 0.3 + 2e-7]]).double()
    one, other = certify(model, narrow if offset == 0 else DOMAIN, max_boxes=1).outputs[0].features
    assert (one.verdict, other.verdict) != ("constant", "constant")
    assert other.verdict != "constant"


@pytest.mark.slow  # proves bounds
def test_a_rise_and_a_fall_that_are_rounding_prove_nothing():
    first, last = (
        KANLinear(1, 3, functions=[["sin"], ["sin"], ["x"]]),
        KANLinear(3, 1, functions=[["x"] * 3]),
    )
    numbers = [[1.0, 0.0, 1e5, 0.0], [1.0, math.pi, 1e5, 0.0], [1.0, 0.0, 1e-9, 0.0]]
    first = first.double()
    with torch.no_grad():  # the sines cancel
        first.affine[:, 0] = torch.tensor(numbers, dtype=torch.float64)
    model = KAN.from_layers([first, last.double()], KAN([1, 1]).schema)
    one = certify(model, torch.tensor([[0.1, 1.0]]), max_boxes=9).outputs[0].features[0]
    assert one.rise.rise > 0 > one.fall.rise
    assert one.verdict == "unknown"


@pytest.mark.slow  # proves bounds
@pytest.mark.parametrize("start", [15.0, 18.0, 25.0])
def test_where_a_function_settles_and_its_constant_cancels(start):
    layer = KANLinear(1, 1, functions=[["tanh"]]).double()
    with torch.no_grad():
        layer.affine[0, 0] = torch.tensor([1.0, 0.0, 1e6, -1e6])
    box = torch.tensor([[start, start + 0.25]])
    one = certify(KAN.from_layers([layer], KAN([1, 1]).schema), box, max_boxes=64).outputs[0]
    most, least = (1e6 / math.cosh(u) ** 2 for u in (start, start + 0.25))
    slope = one.features[0].slope
    assert slope.low <= least * (1 + 1e-13)
    assert most * (1 - 1e-13) <= slope.high
    rise = 2e6 * (math.exp(-2 * start) - math.exp(-2 * start - 0.5))  # to exp(-4 * start)
    assert one.features[0].rises.bound >= rise * (1 - 1e-10)
    value = -2e6 * math.exp(-2 * start)
    assert one.range.low <= value * (1 + 1e-10)


@pytest.mark.slow  # proves bounds
def test_an_output_that_is_constant_or_never_defined():
    def written(name):
        layer = KANLinear(2, 1, functions=[[name, name]])
        with torch.no_grad():
            layer.affine[..., 1] = -5.0
        return certify(KAN.from_layers([layer], KAN([2, 1]).schema), DOMAIN, max_boxes=9)

    flat = written("constant").outputs[0]
    assert flat.range.low <= flat.range.seen_low == flat.range.seen_high == 0 <= flat.range.high
    assert [one.verdict for one in flat.features] == ["constant", "constant"]
    never = written("log")
    assert math.isnan(never.outputs[0].range.seen_low)
    assert math.isnan(never.outputs[0].features[0].slope.seen_high)
    assert never.outputs[0].range.ratio == math.inf
    assert "(undefined wherever it was evaluated)" in str(never)
    never = json.loads(never.to_json(), parse_constant=pytest.fail)["outputs"][0]
    assert never["range"]["seen_low"] is never["features"][0]["rise"]["value"][0] is None


def test_a_pair_never_has_a_point_where_the_output_is_undefined():
    layer = KANLinear(1, 1, functions=[["log"]])
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    one = certify(model, torch.tensor([[-1.0, 0.5]]), max_boxes=9).outputs[0].features[0]
    for pair in (one.rise, one.fall):
        assert bool(torch.isfinite(pair.value).all())
    assert one.rise.rise > 1
    assert one.fall.rise == 0
    assert one.verdict == "unknown"


@pytest.mark.slow  # proves bounds
def test_registered_functions_leave_slopes_unknown_and_values_bounded():
    def well(u):
        return u**4 - u**2

    with register_function("well", well, well, turning=(-(0.5**0.5), 0.0, 0.5**0.5)):
        layer = KANLinear(2, 1, functions=[["well", "x"]])
        found = certify(KAN.from_layers([layer], KAN([2, 1]).schema), DOMAIN, max_boxes=100)
        one = found.outputs[0]
        assert one.range.low == pytest.approx(-0.75, abs=0.05)
        assert one.features[0].slope.high == math.inf
        assert [feature.verdict for feature in one.features] == ["neither", "increasing"]
        text = "the slope of 'well' has no bound: its extrema are not known"
        assert [feature.remark for feature in one.features] == [text, ""]
