"""Figures of the stored tables."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing import (
    Frames,
    Picture,
    draw_intervals,
    legend_above,
    look_of,
    means_of,
    page,
    plain_ticks,
)
from kanlens.plotting._style import STYLE

AGAINST = "kanlens default"  # the peer whose score others are compared with
FEW = 3  # splits, below which there is no interval


def _draw_tables(frames: Frames) -> Figure:
    """Draw scores less those of the default network, and sizes, of each table."""
    frame = frames["readable-tables"]
    splits = frame.pivot_table("score", ["table", "seed"], "peer", sort=False)
    reference = splits[AGAINST] if AGAINST in splits else splits.mean(axis=1)
    less = splits.drop(columns=AGAINST, errors="ignore").sub(reference, axis=0)
    rows = less.reset_index().melt(["table", "seed"], value_name="less").dropna()
    with page(2, 1, 5.6, sharex=True) as (figure, axes):
        top, bottom = axes[:, 0]
        series, tables = means_of(rows, "peer", "less", "table")
        counts = rows.pivot_table("less", "table", "peer", aggfunc="count").loc[tables]
        series = {
            peer: [
                (mean, half * (count >= FEW))
                for (mean, half), count in zip(own, counts[peer], strict=True)
            ]
            for peer, own in series.items()
        }
        draw_intervals(top, series, tables, most=float("inf"))
        top.axhline(0, color=STYLE.muted, linewidth=0.8)
        top.set(ylabel=f"R2, or minus log loss, less {AGAINST}'s")
        _draw_sizes(bottom, frame, [*series, AGAINST], tables)
        legend_above(figure, bottom, 3)
    return figure


def _draw_sizes(ax: Axes, frame: pd.DataFrame, peers: list[str], tables: list[str]) -> None:
    """Draw mean edges of networks, and terms of boosted models."""
    sizes = frame.pivot_table("size", "table", "peer", sort=False)
    for index, peer in enumerate(name for name in peers if name in sizes):
        ax.plot(range(len(tables)), sizes.loc[tables, peer], label=peer, **look_of(index))
    ax.set(yscale="log", ylabel="edges or terms")
    plain_ticks(ax.yaxis, [5, 10, 30, 100, 300, 1000])
    ax.set_xticks(range(len(tables)), [name.replace("_", "\n") for name in tables])
    ax.tick_params(axis="x", labelsize=7)


PICTURES: dict[str, Picture] = {
    "readable-tables": Picture(
        ("readable-tables",),
        _draw_tables,
        "Scores less those of the default network, and sizes.",
    ),
}
