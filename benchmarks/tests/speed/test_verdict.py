"""Every promise can be kept and can be broken."""

import pandas as pd
import pytest

from benchmarks.speed.cells import CELLS, MEMORY_CELLS
from benchmarks.speed.tables import verdict_table
from benchmarks.speed.verdict import broken, judge

GOOD = {"vs_linear": 0.4, "vs_kanlens": 25.0, "value_error": 1e-6, "gradient_error": 1e-6}
PEERS = ("nn.Linear", "kanlens", "efficient-kan", "pykan", "flashkan", "inkan", "inkan eager")


def speed(**changes):
    """Rows in which every promise is kept, but for one changed row."""
    rows = [
        {
            "device": "cpu",
            "cell": cell.name,
            "peer": peer,
            "pass": task,
            "status": "ok",
            **GOOD,
        }
        for cell in CELLS
        for peer in PEERS
        for task in ("forward", "forward+backward")
    ]
    wanted = {"pass": "forward+backward", **changes}
    changed = [
        row
        for row in rows
        if all(row[name] == wanted.get(name) for name in ("cell", "peer", "pass"))
    ]
    for row in changed:
        row.update(changes)
    assert bool(changed) == bool(changes)
    return pd.DataFrame(rows, dtype=object)


def memory(mib=30.0, cell="2048x256->256 G5"):
    rows = [{"device": "cpu", "cell": c.name, "peer": "kanlens"} for c in MEMORY_CELLS]
    return pd.DataFrame(
        [{**row, "extra_mib": mib if row["cell"] == cell else 1000.0} for row in rows],
        dtype=object,
    )


def outcomes(speed_frame, memory_frame):
    return [finding.outcome for finding in judge(speed_frame, memory_frame)]


def test_all_is_well():
    findings = judge(speed(), memory())
    assert {finding.outcome for finding in findings} == {"pass"}
    assert len(findings) == 12
    assert findings[1].compared == 2 * 5 * len(CELLS)
    assert broken(findings) == []


@pytest.mark.parametrize(
    ("cell", "peer", "column", "value", "promises"),
    [
        ("65536x8->5 G5", "pykan", "vs_kanlens", 1.0, ["faster than every", "at least 1.1 times"]),
        ("64x784->64 G5", "flashkan", "vs_kanlens", 1.09, ["at least 1.1 times"]),
        ("4096x64->64 G5 order 5", "inkan", "vs_kanlens", 1.09, ["at least 1.1 times"]),
        ("1024x64->64 G50", "inkan eager", "vs_kanlens", 3.99, ["at least 4 times"]),
        ("256x16->16 G200", "inkan", "vs_kanlens", 4.9, ["at least 5 times"]),
        ("4096x64->64 G5", "efficient-kan", "vs_kanlens", 2.9, ["at least 3 times"]),
        ("1024x64->64 G50", "efficient-kan", "vs_kanlens", 19.0, ["at least 20 times"]),
        ("1024x256->256 G5", "kanlens", "vs_linear", 1.31, ["at most 1.3 times"]),
        ("4096x64->64 G5", "kanlens", "vs_linear", 1.31, ["at most 1.3 times"]),
        ("1024x64->64 G50", "kanlens", "vs_linear", 0.5, ["below half"]),
        ("1024x784->64 G5", "kanlens", "vs_linear", 1.51, ["at most 1.5 times"]),
        ("64x64->10 G5", "kanlens", "vs_linear", 2.01, ["at most 2 times"]),
        ("64x784->64 G5", "kanlens", "value_error", 1e-3, ["values and gradients"]),
        ("64x784->64 G5", "kanlens", "gradient_error", float("nan"), ["values and gradients"]),
        ("64x784->64 G5", "kanlens", "value_error", None, ["values and gradients"]),
        ("64x784->64 G5", "pykan", "vs_kanlens", float("nan"), ["faster than", "at least 1.1"]),
        ("1x784->64 G5 forward", "inkan", "vs_kanlens", 1.0, ["faster than every"]),
        ("65536x8->5 G5 forward", "kanlens", "vs_linear", 1.6, ["at most 1.5 times"]),
    ],
)
def test_each_promise_can_be_broken(cell, peer, column, value, promises):
    name, _, _ = cell.partition(" forward")
    changes = {"pass": "forward"} if cell.endswith("forward") else {}
    failed = broken(judge(speed(cell=name, peer=peer, **changes, **{column: value}), memory()))
    assert len(failed) == len(promises)
    for finding, words in zip(failed, promises, strict=True):
        assert finding.promise.startswith(words)
        assert cell in finding.where
        assert finding.figure == value or value is None or value != value


@pytest.mark.parametrize(
    ("cell", "peer", "column", "value"),
    [
        ("64x784->64 G5", "flashkan", "vs_kanlens", 1.1),
        ("1024x64->64 G50", "inkan", "vs_kanlens", 4.0),
        ("1024x256->256 G5", "kanlens", "vs_linear", 1.3),
        ("64x784->64 G5", "kanlens", "vs_linear", 2.0),
        ("16x784->64 G5", "kanlens", "vs_linear", 5.0),  # no promise about this shape
    ],
)
def test_bounds_themselves_are_kept(cell, peer, column, value):
    assert broken(judge(speed(cell=cell, peer=peer, **{column: value}), memory())) == []


@pytest.mark.parametrize(("mib", "outcome"), [(39.9, "pass"), (40.0, "fail"), (None, "fail")])
def test_memory(mib, outcome):
    assert outcomes(speed(), memory(mib))[-1] == outcome


def test_a_failed_layer_of_ours_breaks_the_promise_about_values():
    frame = speed(cell="64x784->64 G5", peer="kanlens", status="failed", value_error=None)
    assert [finding.promise[:6] for finding in broken(judge(frame, memory()))] == ["values"]


def test_a_peer_with_wrong_values_still_counts():
    changes = {"status": "values differ", "vs_kanlens": 0.9}
    frame = speed(cell="1024x64->64 G50", peer="flashkan", **changes)
    assert len(broken(judge(frame, memory()))) == 2


def test_what_was_not_measured_is_neither_kept_nor_broken():
    nothing = speed()[:0]
    assert set(verdict_table(judge(nothing, memory()[:0]))["found"]) == {"-"}
    assert set(outcomes(nothing, memory()[:0])) == {"not measured"}
    other = speed().assign(device="cuda")
    assert outcomes(other, memory()) == ["pass", *["not measured"] * 10, "pass"]
    small = speed().assign(cell="32x6->4 G5", vs_kanlens=0.5)
    assert outcomes(small, memory()) == ["pass", *["not measured"] * 10, "pass"]
