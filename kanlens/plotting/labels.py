"""Names along a row of nodes: which fit, how they are turned, and the room they take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens.plotting.style import STYLE, literal, text_width, with_unit

Array = np.ndarray[Any, np.dtype[Any]]

SLANT = 40.0  # degrees, of names too long for their place
LINE = 1.25 * STYLE.text / 72  # inches from one line of text to the next
APART = 0.08  # inches between names side by side
LONGEST = 40  # characters of a name
NODE = 0.09  # inches from a node to its name


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Names of one level of nodes, placed.

    Attributes
    ----------
    x : ndarray, shape (name,)
        Position of each name, in inches.
    nodes : ndarray of int, shape (name,)
        Which node each name belongs to.
    texts : list of str
        The names, safe to draw.
    angle : float
        0, 40 or 90 degrees.
    side : int
        -1 below the nodes, 1 above them.
    height : float
        Room they take below or above, in inches.
    overhang : float
        How far they reach beyond the diagram at its sides, in inches.
    """

    x: Array
    nodes: Array
    texts: list[str]
    angle: float
    side: int
    height: float
    overhang: float

    @property
    def overhangs(self) -> tuple[float, float]:
        """What they need beyond the left and the right end of the diagram."""
        if self.angle != SLANT:
            return self.overhang, self.overhang
        return (self.overhang, 0.0) if self.side < 0 else (0.0, self.overhang)

    def draw(self, ax: Axes, y: float, muted: Array) -> None:
        """Write the names on `ax`; `y` is that of the nodes, `muted` (node,): which are pale."""
        for x, node, text in zip(self.x, self.nodes, self.texts, strict=True):
            color = STYLE.muted if muted[node] else STYLE.ink
            ax.text(x, y + self.side * NODE, text, color=color, zorder=6, **self._aligned())

    def _aligned(self) -> dict[str, Any]:
        below = self.side < 0
        if not self.angle:
            return {"ha": "center", "va": "top" if below else "bottom"}
        vertical = "center" if self.angle > 80 else ("top" if below else "bottom")
        turned = {"rotation": self.angle, "rotation_mode": "anchor"}
        return {**turned, "ha": "right" if below else "left", "va": vertical}


def place_labels(
    x: Array,
    names: list[tuple[str, str]],
    strength: Array,
    *,
    width: float,
    side: int,
    room: float | None = None,
) -> Labels:
    """Choose which names fit along a level, and turn them when they are wider than their place.

    Parameters
    ----------
    x : ndarray, shape (node,)
        Positions of the nodes, rising, in inches.
    names : list of (name, unit)
        As they are; the unit may be empty.
    strength : ndarray, shape (node,)
        Where there is no room for all names, the strongest nodes get theirs.
    width : float
        Of the diagram, in inches.
    side : int
        -1 below the nodes, 1 above them.
    room : float, optional
        Most height to take; names too long lose their unit, then their middle.

    Returns
    -------
    Labels

    Examples
    --------
    >>> place_labels(np.array([1.0]), [("y", "m")], np.ones(1), width=2.0, side=1).texts
    ['y (m)']
    """
    kept = _kept(x, strength)
    at, texts = x[kept], [_shown(names[i], LONGEST) for i in kept]
    widths = np.array([text_width(text, STYLE.text) for text in texts])
    angle = _angle(at, widths, width, side)
    most = LONGEST
    for _ in range(3):  # letters differ in width, so one step may not do
        share = 1.0
        if angle and room is not None:
            share = (room - 0.2) / (float(widths.max()) * math.sin(math.radians(angle)))
        if share >= 1.0 or most <= 8:
            break
        longest = max(len(text) for text in texts)
        most = max(8, min(most, longest) - max(1, round((1 - share) * longest)))
        texts = [_shown(names[i], most) for i in kept]
        widths = np.array([text_width(text, STYLE.text) for text in texts])
    height = 0.24
    if angle:
        height = 0.2 + float(widths.max()) * math.sin(math.radians(angle))
    return Labels(
        x=at,
        nodes=kept,
        texts=texts,
        angle=angle,
        side=side,
        height=height,
        overhang=_overhang(at, widths, width, side, angle),
    )


def _shown(name: tuple[str, str], most: int) -> str:
    full = with_unit(*name)
    return full if len(full) <= most else literal(name[0], most=most)


def _angle(x: Array, widths: Array, width: float, side: int) -> float:
    spaces = np.diff(x)
    if not (spaces - (widths[1:] + widths[:-1]) / 2 < APART).any():
        return 0.0
    tight = spaces.min() * math.sin(math.radians(SLANT)) < LINE
    return 90.0 if tight or _overhang(x, widths, width, side, SLANT) > 0.2 * width else SLANT


def _overhang(x: Array, widths: Array, width: float, side: int, angle: float) -> float:
    if angle == SLANT:
        reach = widths * math.cos(math.radians(SLANT))
        return max(0.0, float((reach - (x if side < 0 else width - x)).max()))
    reach = widths / 2 if not angle else np.full(len(x), LINE / 2)
    return max(0.0, float((reach - np.minimum(x, width - x)).max()))


def _kept(x: Array, strength: Array) -> Array:
    """Return which of the nodes get a name so that names keep their distance, strongest first."""
    if len(x) < 2 or float(np.diff(x).min()) >= LINE:
        return np.arange(len(x))
    kept: list[int] = []
    for i in np.argsort(-strength, kind="stable"):
        if all(abs(x[i] - x[j]) >= 2.5 * LINE for j in kept):
            kept.append(int(i))
    return np.array(sorted(kept))
