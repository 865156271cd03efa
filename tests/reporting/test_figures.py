from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from kanlens.data._table_reader import read_table
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.reporting._analysis import Analysis
from kanlens.reporting._figures import MAX_NODES, _cards, _effects, draw_flows, draw_pairs
from kanlens.reporting._page_data import build_content
from tests.reporting.conftest import network, seeded
from tests.reporting.page import Page

Run = Callable[..., Analysis]


@pytest.mark.slow  # writes reports
def test_only_the_strongest_features_are_drawn(
    analyzed: Run, model: KAN, rows: torch.Tensor
) -> None:
    analysis = analyzed(model, rows, methods=("secant",))
    pairs, flows = draw_pairs(analysis, 2), draw_flows(analysis, 2)
    names = {"x1", "x2", "x3"}
    assert len(names & set(Page(pairs.svg).text.split())) == 2
    assert "1 other" in Page(flows.svg).text
    assert Page(pairs.svg).foreign() == Page(flows.svg).foreign() == []


def test_levels_too_wide_to_tell_nodes_apart_are_not_drawn(analyzed: Run) -> None:
    x = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    analysis = analyzed(network([2, MAX_NODES + 1, 1]), x, methods=("secant",))
    assert analysis.flows is not None
    assert draw_flows(analysis, 20) is None


@pytest.mark.slow  # writes reports
def test_effects_without_a_value_somewhere_are_left_out(analyzed: Callable[..., Analysis]) -> None:
    layers = [KANLinear(2, 1, functions=[["x", "x"]]), KANLinear(1, 1, functions=[["log"]])]
    model = KAN.from_layers(layers, KAN([2, 1]).schema).double()
    with torch.no_grad():
        model.layers[0].affine[0, 1, 2] = -1.0  # log(x1 - x2): defined on the rows alone
    x = torch.rand(40, 2, generator=seeded(), dtype=torch.float64)
    x[:, 0] += x[:, 1] + 0.1
    for rows, count in ((x, 0), (x * torch.tensor([1.0, 0.0]) + torch.tensor([1.0, 0.0]), 1)):
        analysis = analyzed(model, rows, methods=["gradient_x_input"])
        content = build_content(analysis, title="T", generator="seed 0")
        assert len(list(_effects(analysis, content))) == count


@pytest.mark.slow  # draws every picture of a report
def test_words_under_pictures_are_of_what_these_show(analyzed: Callable[..., Analysis]) -> None:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({"plan": ["basic", "plus", "pro"] * 10, "member": ["no", "yes"] * 15})
    table = read_table(frame.assign(y=draws.normal(size=30)), target="y")
    for widths, gray in (([4, 1], False), ([4, 2, 1], True)):
        model = network(widths)
        model.schema = table.schema
        analysis = analyzed(model, table, methods=["secant"])
        content = build_content(analysis, title="T", generator="seed 0")
        effects = [one.caption for one in _effects(analysis, content)]
        assert effects == [f"Mean over the rows{'; single rows in gray' * gray}."] * 2
    content["edges"] = [one for one in content["edges"] if one["destination"] == "h1_1"]
    cards = {one.title.split(" →")[0]: one.caption for one in _cards(analysis, content, 4)}
    assert re.match("plan=basic (raises|lowers) the output", cards["plan=basic"])
    assert re.match("member=yes (raises|lowers) the output", cards["member"])
