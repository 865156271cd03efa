"""The strengths of all edges as matrices, one for each layer, where curves would not fit."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens.model.network import KAN
from kanlens.plotting.diagram_layers import LayerCurves
from kanlens.plotting.style import (
    ASIDE,
    STYLE,
    axes_for,
    color_bar,
    distinct,
    literal,
    size_in_inches,
)

WIDE = 250  # live edges of a layer from which they are cells, where nobody says
NAMED = 32  # nodes of a level that each have their name
PATHS = 5  # from a feature to an output, the strongest, whose edges are numbered
Path = tuple[tuple[int, int], ...]  # its edges (in, out), one for each layer
LONGEST = 18  # characters of a name
FRAME = (0.95, 0.85, 0.55, 0.12)  # inches left, right, below each matrix and above the last
LETTER = 0.046  # inches that a letter of a turned name reaches down
BAR = 0.09  # inches, width of the color bar
ROWS = (0.6, 2.6, 0.14)  # inches of a matrix: least, most, for each row


def draw_strengths(
    ax: Axes | None, model: KAN, curves: Sequence[LayerCurves], names: list[list[tuple[str, str]]]
) -> Axes:
    """Draw a matrix (out, in) of relative strengths for each layer, the first at the bottom.

    `names` are (name, unit) of the inputs and of the outputs.
    """
    least, most, each = ROWS
    heights = [float(np.clip(each * len(one.strength), least, most)) for one in curves]
    left, right, below, above = FRAME
    letters = min(LONGEST, max(len(name) for name, _ in names[0]))
    foot = max(0.0, LETTER * letters + 0.1 - below) if len(names[0]) <= NAMED else 0.0
    spare = foot + len(curves) * below + above
    ax = axes_for(ax, (STYLE.page, sum(heights) + spare), bare=True)
    ax.set_axis_off()
    width, height = size_in_inches(ax)
    ax.set(xlim=(0, width), ylim=(0, height))  # in inches, as diagrams are
    scale = max(height - spare, 0.2) / sum(heights)
    bottom, paths = foot + below, strongest_paths(model, curves)
    mark: Any = {"ha": "center", "va": "center", "fontsize": STYLE.small - 1}
    mark["bbox"] = {"facecolor": STYLE.paper, "linewidth": 0, "pad": 0.6, "alpha": 0.9}
    for index, (layer, high) in enumerate(zip(curves, heights, strict=True)):
        box = (left / width, bottom / height, (width - left - right) / width, scale * high / height)
        panel = ax.inset_axes(box)
        look: Any = {"cmap": STYLE.sequence, "vmin": 0.0, "vmax": 1.0, "interpolation": "nearest"}
        image = panel.imshow(np.ma.masked_equal(layer.relative, 0.0), aspect="auto", **look)
        panel.set_facecolor(STYLE.faint)
        panel.spines[:].set_visible(False)
        for edge in {path[index] for path in paths}:
            ranks = [str(k) for k, path in enumerate(paths, start=1) if path[index] == edge]
            panel.text(*edge, ",".join(ranks), **mark)
        _name(panel, model, index, names)
        bottom += scale * high + below
    panel.set_title(f"1 to {PATHS}: the strongest paths", loc="left", pad=2, **ASIDE)
    middle = (width - right + 0.12) / width
    key = ax.inset_axes(
        (middle, (foot + below) / height, BAR / width, min(1.2, height - below) / height)
    )
    color_bar(ax, image, "strength / strongest of the layer", key=key)
    return ax


def strongest_paths(model: KAN, curves: Sequence[LayerCurves]) -> list[Path]:
    """Return the paths whose relative strengths have the largest products, best first."""
    paths: list[tuple[float, int, Path]] = [(1.0, i, ()) for i in range(model.widths[0])]
    for layer, nodes in zip(curves, model.nodes, strict=True):
        grown, relative = list[tuple[float, int, Path]](), layer.relative.tolist()
        for out, node in enumerate(nodes.owner.tolist()):
            longer = ((s * relative[out][k], node, (*path, (k, out))) for s, k, path in paths)
            grown += heapq.nlargest(PATHS, longer)
        paths = grown
    return [path for size, _, path in heapq.nlargest(PATHS, paths) if size > 0]


def _name(panel: Axes, model: KAN, index: int, names: list[list[tuple[str, str]]]) -> None:
    """Name rows and columns where there are few, and count them where there are many."""
    layer, last = model.layers[index], len(model.layers) - 1
    inputs = (names[0], "features") if index == 0 else ([], f"nodes of level {index}")
    outputs = (names[1], "outputs") if index == last else ([], f"nodes of level {index + 1}")
    turned: Any = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    for axis, count, (known, words), look in (
        (panel.xaxis, layer.in_features, inputs, turned),
        (panel.yaxis, layer.out_features, outputs, {}),
    ):
        if count > NAMED or len(known) != count:
            axis.set_ticks([])
            axis.set_label_text(f"{count:,} {words}", **ASIDE)
            continue
        full = (f"{name} ({unit})" if unit else name for name, unit in known)
        short = distinct(full, lambda one: literal(one, most=LONGEST))
        axis.set_ticks(range(count), short, fontsize=STYLE.small, **look)
    panel.tick_params(length=0)
    panel.set_title(f"layer {index}", loc="right", pad=2, **ASIDE)
