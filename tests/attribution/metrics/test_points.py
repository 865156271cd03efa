"""Points at which the output is evaluated: inside the grid, and counted where they are not."""

import dataclasses
import math

import pytest
import torch

from kanlens.attribution._problem import Baseline
from kanlens.attribution.metrics import METRICS, Case
from kanlens.attribution.metrics._evaluation import (
    ROWS,
    brought_inside,
    displaced,
    evaluated,
    inside_rows,
    uniform,
)
from kanlens.model._trace import trace
from tests.attribution.metrics import cases

MODEL = ["faithfulness_correlation", "infidelity", "pgi", "pgu", "deletion", "insertion"]
MODEL += ["max_sensitivity"]


def outside(x):
    return x.abs() > 1


def rows_of(n, share=1.0, seed=1):
    return share * uniform((n, 4), torch.Generator().manual_seed(seed))


def judged(x, rows, baseline=None, **parts):
    """A case whose output and method keep every point that they see."""
    seen = []

    def output(points):
        seen.append(points.clone())
        return points.sum(1)

    def method(points):
        seen.append(points.clone())
        return points * 2.0

    made = cases.case(2 * x, x, rows, output=output, method=method, outside=outside, **parts)
    if baseline is not None:
        changed = dataclasses.replace(made.attribution, baseline=baseline)
        made = dataclasses.replace(made, attribution=changed)
    return made, seen


@pytest.mark.parametrize("name", MODEL)
@pytest.mark.parametrize("share", [0.9, 1.0])  # of the grid that samples fill
def test_nothing_is_evaluated_outside_the_grid(name, share):
    x, rows = rows_of(5, share), rows_of(40, 1.2, seed=2)  # some rows lie outside
    assert bool(outside(rows).any(1).any())
    assert not bool(outside(rows).any(1).all())
    made, seen = judged(x, rows)
    found = METRICS[name].function(made)
    assert not any(bool(outside(points).any()) for points in seen)
    assert found.offgrid == 0.0 or math.isnan(found.offgrid)
    assert seen


@pytest.mark.parametrize(
    ("baseline", "shift"), [(Baseline.ZERO, 0.0), (Baseline.MEAN_ROW, 0.0), (None, 9.0)]
)
def test_references_are_brought_inside(baseline, shift):
    x = 1 + 0.5 * rows_of(5).abs()  # the grid is [0.9, 2]
    rows = rows_of(6, seed=2) - 8 + shift * 2
    made, _ = judged(x, rows, baseline)
    made.model.outside = lambda points: (points < 0.9) | (points > 2)
    expected = 2.0 if shift else 0.9  # the end of the grid on their side
    shape = (1, 4) if baseline else (6, 4)
    torch.testing.assert_close(made.references, torch.full(shape, expected).double())


def test_references_are_those_of_the_attribution():
    x, rows = rows_of(3), rows_of(7, seed=2)
    assert torch.equal(judged(x, rows)[0].references, rows)
    assert torch.equal(judged(x, rows, Baseline.ZERO)[0].references, torch.zeros(1, 4).double())
    mean = judged(x, rows, Baseline.MEAN_ROW)[0].references
    torch.testing.assert_close(mean, rows.mean(0, keepdim=True))
    many = rows_of(ROWS + 40, seed=2)
    found = judged(x, many)[0].references
    assert found.shape == (ROWS, 4)
    assert len(found.unique(dim=0)) == ROWS
    assert all(bool((many == row).all(1).any()) for row in found)


def test_moves_are_redrawn_then_brought_to_the_end():
    x = torch.tensor([[0.0, 0.99], [5.0, 0.0]], dtype=torch.float64)
    scale = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = displaced(x, scale, 4000, torch.Generator(), outside=outside)
    assert not bool(outside(found[:, 0]).any())
    assert not bool(outside(found[:, 1, 1]).any())
    assert bool(((found[:, 1, 0] == 5) | ~outside(found[:, 1, 0])).all())  # stays, or comes inside
    assert found[:, 0, 0].std() == pytest.approx(0.54, abs=0.02)  # of a normal cut at -1 and 1
    free = displaced(x, scale, 4000, torch.Generator())
    assert free[:, 0, 0].std() == pytest.approx(1.0, abs=0.05)
    far = displaced(x[:1], 1e5 * scale, 50, torch.Generator(), outside=outside)
    assert set(far.abs()[:, 0, 0].round(decimals=9).tolist()) == {1.0}
    box = displaced(x, scale, 500, torch.Generator(), law=uniform)
    assert float((box - x).abs()[..., 0].max()) <= 1.0


def test_bringing_inside():
    start, end = torch.tensor([[0.5, 0.5, 7.0]]).double(), torch.tensor([[3.0, 0.7, 8.0]]).double()
    found = brought_inside(start, end, outside)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.7, 7.0]]).double())


def test_rows_inside():
    rows = torch.tensor([[0.0, 2.0], [0.5, 0.5], [3.0, 0.0]]).double()
    assert torch.equal(inside_rows(rows, rows, outside), rows[1:2])
    assert torch.equal(inside_rows(rows, rows, None), rows)
    nowhere = inside_rows(rows[[0, 2]] + 9, rows[[0]] + 9, outside)
    assert torch.equal(nowhere, rows[[0, 2]] + 9)  # there is no inside to be brought to


def test_shares_outside_are_counted(network):
    model = network([3, 4, 1])
    x = cases.inside(model, 4, share=2.0)
    rows = cases.inside(model, 5, seed=2)
    made = cases.network_case(model, x, rows)
    points = []
    output = made.watched()
    evaluated(lambda part: points.append(part) or output(part), torch.cat([x, rows]))
    seen = trace(model, torch.cat(points))
    assert output.share == pytest.approx(seen.outside_share)
    assert 0 < output.share < 1
    found = METRICS["pgi"].function(made).offgrid
    assert 0 < found < 1


def test_an_output_must_be_there_to_be_watched():
    with pytest.raises(RuntimeError, match="must declare the parts"):
        Case(attribution=cases.attribution(torch.ones(1, 2))).watched()(torch.ones(1, 2))


def test_moved_points_come_in_parts(network, monkeypatch):
    model = network([3, 4, 1])
    x = cases.inside(model, 40)
    made = cases.network_case(model, x, x)
    largest = 0
    inner = type(made.watched()).__call__

    def watching(self, points):
        nonlocal largest
        largest = max(largest, points.numel())
        return inner(self, points)

    monkeypatch.setattr(type(made.watched()), "__call__", watching)
    monkeypatch.setattr("kanlens.attribution.metrics._evaluation.BUDGET", 4000)
    for name in ("pgi", "infidelity", "deletion", "max_sensitivity"):
        found = METRICS[name].function(dataclasses.replace(made))
        assert bool(torch.isfinite(found.rows).all())
    assert 0 < largest <= 4000 // 16


def test_slopes_are_multiplied_by_the_distance():
    x, rows = cases.draw(6, 6), cases.draw(9, 6, seed=2)
    slopes = cases.WEIGHTS.expand(6, 6)
    best = cases.case(slopes, x, rows)
    best = dataclasses.replace(
        best, attribution=dataclasses.replace(best.attribution, baseline=Baseline.SLOPES)
    )
    assert METRICS["infidelity"].function(best).value == pytest.approx(0.0, abs=1e-12)
    shares = dataclasses.replace(best.attribution, baseline=Baseline.MEAN_ROW)
    wrong = dataclasses.replace(best, attribution=shares)
    assert METRICS["infidelity"].function(wrong).value > 0.02
    assert METRICS["faithfulness_correlation"].function(best).value == pytest.approx(1.0)
