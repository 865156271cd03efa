"""Nodes that multiply, in a network diagram."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from kanlens.model.network import KAN
from kanlens.plotting.layout import CROWD, Layout
from kanlens.plotting.style import STYLE


def draw_products(ax: Axes, model: KAN, layout: Layout, index: int) -> None:
    """Draw the products of one layer: a circled cross, and a dot for every factor.

    Parameters
    ----------
    ax : Axes
        In inches.
    model : KAN
        A factor without a live edge is pale: it is a constant.
    layout : Layout
        Of the model.
    index : int
        The layer.
    """
    grouping, above = model.nodes[index].grouping, layout.nodes[index + 1]
    sums = grouping.sums
    factors = layout.arrivals[index][sums:]
    owners = above[model.nodes[index].owner[sums:].cpu().numpy()]
    shown = np.isfinite(owners[:, 0])
    if not shown.any():
        return
    alive = (model.layers[index].mask != 0).any(1).cpu().numpy()[sums:][shown]
    ink = np.where(alive, STYLE.ink, STYLE.faint)
    legs = LineCollection(
        list(np.stack([factors[shown], owners[shown]], axis=1)),
        colors=list(ink),
        linewidths=0.9,
        zorder=4,
        label=f"_factors {index}",
    )
    ax.add_collection(legs, autolim=False)
    crowded = int(np.isfinite(above[:, 0]).sum()) > CROWD
    dots, size = factors[shown], 2 if crowded else 9
    ax.scatter(dots[:, 0], dots[:, 1], s=size, c=list(ink), linewidths=0.0, zorder=5)
    places = above[sums:][np.isfinite(above[sums:, 0])]
    size = 8 if crowded else 62
    circle: dict[str, Any] = {"c": STYLE.paper, "edgecolors": STYLE.ink, "linewidths": 0.9}
    ax.scatter(places[:, 0], places[:, 1], s=size, zorder=6, label=f"_products {index}", **circle)
    cross: dict[str, Any] = {"marker": "x", "c": STYLE.ink, "linewidths": 0.9}
    ax.scatter(places[:, 0], places[:, 1], s=size / 3, zorder=7, **cross)
