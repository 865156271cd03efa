"""What a certificate says of features that code categories."""

import json

import pandas as pd
import pytest
import torch

import kanlens
from kanlens.certificates._certify import between_categories, certify
from kanlens.model._analysis import float64_copy

HELD = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@pytest.fixture(scope="module")
def model() -> kanlens.KAN:
    """Trained on a table whose target depends on the color in opposite ways."""
    size = torch.linspace(-1, 1, 60)
    colors = ["red", "green", "blue"] * 20
    signs = torch.tensor([{"red": 1.0, "green": -1.0, "blue": 0.0}[color] for color in colors])
    frame = pd.DataFrame(
        {
            "size": size.numpy(),
            "color": colors,
            "wet": ["yes", "no"] * 30,
            "y": (signs * size + signs).numpy(),
        }
    )
    table = kanlens.read_table(frame, target="y")
    found = kanlens.KAN([5, 3, 1], generator=torch.Generator().manual_seed(0))
    kanlens.fit(found, table, steps=5, validation=0.0, progress=False)
    return found


def domain(color, wet):
    """Hold the color and whether it is wet, each unless it is None."""
    color = [(0, 1)] * 3 if color is None else [(end, end) for end in HELD[color]]
    names = ["color=red", "color=green", "color=blue"]
    wet = (0, 1) if wet is None else (wet, wet)
    return {"size": (-1, 1), **dict(zip(names, color, strict=True)), "wet": wet}


def rows(model, color, wet):
    """All possible rows on a fine grid of sizes."""
    found = [
        {"size": size, "color=red": red, "color=green": green, "color=blue": blue, "wet": dry}
        for size in torch.linspace(-1, 1, 201).tolist()
        for red, green, blue in ([HELD[color]] if color else HELD.values())
        for dry in ([0, 1] if wet is None else [wet])
    ]
    return torch.tensor(pd.DataFrame(found)[list(model.feature_names)].to_numpy()).double()


@pytest.mark.slow  # divides many boxes
def test_categories_held_by_the_domain_are_possible_rows(model):
    ends = []
    for color in HELD:
        found = certify(model, domain(color, 1), max_boxes=32, progress=False)
        assert found.between == ()
        assert "categories" not in str(found)
        y = float64_copy(model)(rows(model, color, 1))[:, 0]
        span = found.outputs[0].range
        assert span.low <= float(y.min()) <= float(y.max()) <= span.high
        assert span.high - span.low < 1.1 * float(y.max() - y.min()) + 1e-3
        ends.append((span.low, span.high))
    free = certify(model, domain(None, 1), max_boxes=32, progress=False)
    y = float64_copy(model)(rows(model, None, 1))[:, 0]
    span = free.outputs[0].range
    assert span.low <= float(y.min()) <= float(y.max()) <= span.high
    hull = max(high for _, high in ends) - min(low for low, _ in ends)
    assert span.seen_high - span.seen_low > 1.05 * hull  # rows that no table has


@pytest.mark.slow  # divides many boxes
def test_a_box_between_categories_says_so(model):
    found = certify(model, domain(None, 1), max_boxes=4, progress=False)
    assert found.between == ("color",)
    text = "the box includes rows between the categories of 'color'; hold one feature of each at 1"
    assert text in str(found)
    assert text in found.to_frame().attrs["notes"][-1]
    assert json.loads(found.to_json())["between"] == ["color"]
    both = certify(model, domain(None, None), max_boxes=1, progress=False)
    assert both.between == ("color", "wet")


@pytest.mark.parametrize(
    ("color", "held"),
    [((1, 0, 0), True), ((1, 1, 0), False), ((0.5, 0, 0), False), ((-1, 1, 1), False)],
)
@pytest.mark.slow  # many cases
def test_only_one_category_is_held(model, color, held):
    at = {"size": 0.0, **dict(zip(["color=red", "color=green", "color=blue"], color, strict=True))}
    values = torch.tensor([at.get(name, 1.0) for name in model.feature_names])
    columns = between_categories(model.schema, torch.stack([values, values], 1))
    assert columns == (() if held else ("color",))


def test_a_category_is_all_zeros_only_if_it_has_no_feature(model):
    index = [model.feature_names.index(name) for name in ("size", "color=red", "color=green")]
    assert between_categories(model.schema.select(index), torch.zeros(3, 2)) == ()
    assert between_categories(model.schema, torch.zeros(5, 2)) == ("color",)
