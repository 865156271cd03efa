from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from kanlens.model.network import KAN
from kanlens.reporting.analysis import Analysis
from kanlens.reporting.figures import WIDEST, draw_flows, draw_pairs
from tests.reporting.conftest import network, seeded
from tests.reporting.page import Page

Run = Callable[..., Analysis]


def test_pairs_and_flows_are_drawn(analyzed: Run, model: KAN, rows: torch.Tensor) -> None:
    analysis = analyzed(model, rows, methods=("secant",))
    for picture in (draw_pairs(analysis, 20), draw_flows(analysis, 20)):
        assert picture is not None
        page = Page(picture.svg)
        assert page.foreign() == []
        assert {"x1", "x2", "x3"} <= set(page.text.split())


def test_only_the_strongest_features_are_drawn(
    analyzed: Run, model: KAN, rows: torch.Tensor
) -> None:
    analysis = analyzed(model, rows, methods=("secant",))
    pairs, flows = draw_pairs(analysis, 2), draw_flows(analysis, 2)
    assert pairs is not None
    assert flows is not None
    names = {"x1", "x2", "x3"}
    assert len(names & set(Page(pairs.svg).text.split())) == 2
    assert "1 other" in Page(flows.svg).text


def test_what_is_not_known_is_not_drawn(analyzed: Run, model: KAN, rows: torch.Tensor) -> None:
    analysis = analyzed(model, rows, methods=("secant",))
    nothing = dataclasses.replace(analysis, pairs=None, flows=None)
    assert draw_pairs(nothing, 20) is None
    assert draw_flows(nothing, 20) is None


def test_levels_too_wide_to_tell_nodes_apart_are_not_drawn(analyzed: Run) -> None:
    x = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    analysis = analyzed(network([2, WIDEST + 1, 1]), x, methods=("secant",))
    assert analysis.flows is not None
    assert draw_flows(analysis, 20) is None
