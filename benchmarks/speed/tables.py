"""Rows as tables to read: one line for each cell, one column for each peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.speed.timing import TIMED
from benchmarks.speed.verdict import Finding

if TYPE_CHECKING:
    import pandas as pd

UNTRUE = "*"  # behind the number of a peer whose values differ
NONE = "-"


def timing_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return times, and times relative to kanlens, by title."""
    ways = {"ms": "ms", "relative to kanlens (above 1: slower than kanlens)": "vs_kanlens"}
    return {
        f"{task} on {device}, {words}": wide(part, "cell", column)
        for device, own in rows.groupby("device", sort=False)
        for task, part in own.groupby("pass", sort=False)
        for words, column in ways.items()
    }


def memory_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return peaks of memory by title."""
    return {
        f"peak extra memory on {device}, MiB": wide(own, "cell", "extra_mib")
        for device, own in rows.groupby("device", sort=False)
    }


def scaling_tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a table of times for each thing that grows, by title."""
    return {
        f"growing {curve} on {device}: forward+backward, ms": wide(part, "cell", "ms")
        for (device, curve), part in rows.groupby(["device", "curve"], sort=False)
    }


def wide(rows: pd.DataFrame, line: str, value: str) -> pd.DataFrame:
    """Return one line for each value of a column, one column for each peer."""
    import pandas as pd

    peers = _in_order(rows, "peer")
    lines: dict[str, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        cells = lines.setdefault(row[line], dict.fromkeys(peers, NONE))
        number = row[value]
        if row["status"] in TIMED and number is not None and number == number:
            mark = "" if row["status"] == "ok" else UNTRUE
            cells[row["peer"]] = f"{number:.3g}{mark}"
    return pd.DataFrame([{line: name, **cells} for name, cells in lines.items()])


def notes(*frames: pd.DataFrame) -> list[str]:
    """Return once what stands behind every number that is missing or marked."""
    found: dict[str, dict[str, None]] = {}
    for frame in frames:
        for row in frame.to_dict("records"):
            if row["status"] != "ok" or row["note"]:
                note = f" ({row['note']})" if row["note"] else ""
                text = f"{row['peer']}: {row['status']}{note}"
                found.setdefault(text, {})[row["cell"]] = None
    return [f"{text}: {', '.join(cells)}" for text, cells in found.items()]


def busy(speed: pd.DataFrame) -> str:
    """Return a warning where the machine had other work while times were taken, else nothing."""
    loads = [load for load in speed["load"] if load is not None and load == load]
    if not loads or max(loads) <= max(speed["threads"]) + 1:
        return ""
    shown = f"{max(loads):.3g} on {max(speed['threads'])} threads"
    return (
        f"the machine was busy, with a load of up to {shown}: layers whose threads wait for each "
        "other suffer most, and no ratio is to be trusted; measure again when it is idle"
    )


def verdict_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the findings of a verdict as a table."""
    import pandas as pd

    return pd.DataFrame(
        {
            "outcome": [finding.outcome for finding in findings],
            "promise": [finding.promise for finding in findings],
            "found": [NONE if f.figure is None else f"{f.figure:.3g}" for f in findings],
            "worst of": [finding.compared for finding in findings],
            "where": [finding.where for finding in findings],
        }
    )


def _in_order(frame: pd.DataFrame, column: str) -> list[str]:
    return [str(value) for value in dict.fromkeys(frame[column])]
