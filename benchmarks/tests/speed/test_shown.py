"""Tables and the figure show what was measured, and mark what is not as it should be."""

import pandas as pd
import pytest

from benchmarks.speed.cells import CELLS
from benchmarks.speed.pictures import draw
from benchmarks.speed.tables import (
    memory_tables,
    notes,
    scaling_tables,
    timing_tables,
)

PEERS = ("nn.Linear", "kanlens", "flashkan")
SHAPE = {"device": "cpu", "batch": 8, "in": 4, "out": 2, "grid": 5}


@pytest.fixture
def frames():
    rows = [
        {
            **SHAPE,
            "cell": cell.name,
            "peer": peer,
            "pass": task,
            "status": "ok",
            "note": None,
            "ms": 1.5,
            "vs_linear": 2.0,
            "vs_kanlens": 1.25,
        }
        for cell in CELLS[:3]
        for peer in PEERS
        for task in ("forward", "forward+backward")
    ]
    rows[-1].update(status="values differ", note="relative error 1e-02")
    rows[-2].update(status="failed", note="no compiler", ms=None)
    memory = [
        {**SHAPE, "cell": "m", "peer": peer, "status": "ok", "note": None, "extra_mib": 3.0}
        for peer in PEERS
    ]
    curves = [
        {**rows[1], "curve": "batch", "place": place, "peer": peer}
        for place in (16, 64)
        for peer in PEERS
    ]
    return tuple(pd.DataFrame(part, dtype=object) for part in (rows, memory, curves))


def test_tables_have_a_line_for_each_cell_and_a_column_for_each_peer(frames):
    every = (timing_tables, memory_tables, scaling_tables)
    found = {}
    for show, frame in zip(every, frames, strict=True):
        found |= show(frame)
    assert list(found) == [
        "forward on cpu, ms",
        "forward on cpu, relative to kanlens (above 1: slower than kanlens)",
        "forward+backward on cpu, ms",
        "forward+backward on cpu, relative to kanlens (above 1: slower than kanlens)",
        "peak extra memory on cpu, MiB",
        "growing batch on cpu: forward+backward, ms",
    ]
    both = found["forward+backward on cpu, ms"]
    assert list(both.columns) == ["cell", *PEERS]
    assert both["flashkan"].tolist() == ["1.5", "1.5", "1.5*"]
    assert found["forward on cpu, ms"]["flashkan"].tolist() == ["1.5", "1.5", "-"]


def test_notes_say_what_stands_behind_a_mark(frames):
    assert notes(*frames) == [
        f"flashkan: failed (no compiler): {CELLS[2].name}",
        f"flashkan: values differ (relative error 1e-02): {CELLS[2].name}",
    ]


def test_the_figure_has_a_point_for_each_cell_and_peer(frames):
    figure = draw(*frames)
    left, right, curve = (ax for part in figure.subfigs for ax in part.axes)
    points = [line for line in left.lines if line.get_marker() not in ("None", "")]
    assert len(points) == 3 * 3
    hollow = [line for line in points if line.get_markerfacecolor() == "#ffffff"]
    assert [line.get_label() for line in hollow] == ["flashkan"]
    assert [text.get_text() for text in left.get_yticklabels()] == [c.name for c in CELLS[2::-1]]
    assert len(right.lines) == 3
    assert [line.get_label() for line in curve.lines] == ["nn.Linear", "kanlens", "flashkan"]
    assert left.get_xscale() == curve.get_yscale() == "log"
    looks = {(line.get_color(), line.get_marker()) for line in points}
    assert len(looks) == 3


@pytest.mark.parametrize("kept", [(), (0,), (1,), (2,)])
def test_parts_that_were_not_measured_are_left_out(frames, kept):
    some = [frame if i in kept else frame[:0] for i, frame in enumerate(frames)]
    assert len(draw(*some).subfigs) == (2 if 2 in kept else 1)
