"""Pictures of a page: short SVG in colors of the page."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import numpy as np
from matplotlib.dates import DateLocator
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kanlens import plotting
from kanlens.plotting._style import STYLE, Array, context

READ = 101  # points of a curve that a reader can query
FIGURES = 4  # digits of these points, relative to the range of the curve
ENLARGED = 1.2  # how much larger than in print a picture is shown
MIN_SCALE = 0.8  # share of that size below which it is scrolled rather than shrunk
GRID = 0.05  # points: coordinates are multiples of it
# points by which a simplified line may be off; with the grid, less than 0.1 pixels
LINE_TOLERANCE = 0.025
MIN_POINTS_TO_HALVE = 500  # points from which a line is halved first
SMALL_WIDTH = 480  # pixels below which two pictures are printed side by side
COLORS = 12  # fills beyond which a picture has a color scale, and stays white in dark mode
GRAYS = ("#efefef", "#b9b9b9", "#d2d2d2", "#f4f4f4", "#c4c4c4")  # in addition to those of the style
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # in XML
ROLES = dict(zip(GRAYS, ("shade", "density", "hatch", "stripe", "line"), strict=True)) | {
    getattr(STYLE, name): name
    for name in ("ink", "muted", "faint", "paper", "accent", "positive", "negative")
}
Attributes = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture on the page: an ``<svg>`` element and plain text around it."""

    svg: str
    caption: str = ""
    title: str = ""
    kind: str = ""  # "diagram" or "matrix", of a network
    anchor: str = ""  # id of the picture on the page


def draw(
    paint: Callable[..., Any],
    size: tuple[float, float],
    *,
    alt: str = "",  # description for readers who cannot see the picture
    caption: str = "",
    title: str = "",
    anchor: str = "",
    axes_only: bool = False,
) -> Picture:
    """Draw on axes of `size` inches; with `axes_only`, they fill the figure."""
    with context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the fonts of the page may have the glyph
        figure = Figure(figsize=size, layout=None if axes_only else "constrained")
        paint(ax=figure.add_axes((0, 0, 1, 1)) if axes_only else figure.subplots())
        curves = dict(_curves(figure))
        svg = plotting.to_svg(figure, title=alt or title or "Picture")
    return Picture(svg=sized(svg, curves), caption=caption, title=title, anchor=anchor)


def _curves(figure: Figure) -> Iterator[tuple[str, dict[str, str]]]:
    """Mark the curves of a figure; yield the id of each and its attributes with rounded points."""
    lines: Any = figure.findobj(Line2D)
    for place, line in enumerate(lines):
        own, points = line.get_label() in ("_curve", "sum"), line.get_xydata()
        points = points[np.isfinite(points).all(1)]
        if (own or line.get_gid() == "curve") and len(points) > 1:
            picks = np.unique(np.linspace(0, len(points) - 1, min(READ, len(points))).astype(int))
            name = line.axes.get_xlabel() or line.axes.get_title()
            words = {"data-name": name, "data-of": "" if own else line.get_label()}
            words = {key: word.replace(r"\$", "$") for key, word in words.items()}
            if isinstance(line.axes.xaxis.get_major_locator(), DateLocator):
                words["data-dates"] = "days since 1970"
            marks = {"class": "curve"}
            for key, values in zip(("data-x", "data-y"), points[picks].T, strict=True):
                width = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
                places = max(0, FIGURES - 1 - math.floor(math.log10(width)))
                whole = [round(float(value) * 10**places) for value in values]
                marks[key] = " ".join(map(str, [places, whole[0], *np.diff(whole).tolist()]))
            line.set_gid(f"curve{place}")
            yield f"curve{place}", {**marks, **words}


def sized(
    svg: str, curves: dict[str, Attributes] | None = None, names: dict[str, str] | None = None
) -> str:
    """Shorten an SVG of Matplotlib, with a range of widths for the page.

    No line is off by a tenth of a pixel. Elements of one style share a rule, and the page can set
    the colors of lines, text and paper; `curves` are attributes of elements by id, `names`
    descriptions of links by target. A link is ``place|part``: a target on the page, and a part of
    the network, either of which may be empty.
    """
    root = fromstring(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", svg))
    pixels = ENLARGED * float(root.attrib["width"].removesuffix("pt")) * 4 / 3
    name = "k" + hashlib.sha256(svg.encode("utf-8", "replace")).hexdigest()[:8]
    short = _Short(svg, name, curves or {})
    for child in [*root]:
        root.remove(child)
        root.extend(short.element(child))
    links = [*root.iter("a")]
    for link in links:
        if label := (names or {}).get(link.attrib["href"][1:]):
            link.set("aria-label", label)
    fills = {color for rule in short.rules for color in re.findall("#[0-9a-f]{6}", rule)}
    plate = len(fills - set(ROLES)) > COLORS or root.find(".//image") is not None
    root.attrib = {
        "id": name,
        "viewBox": re.sub(r"[\d.]+", _digits, root.get("viewBox", "")),
        "role": "group" if links else "img",
        "stroke-linejoin": "round",
        "style": f"width:{pixels:.0f}px;min-width:{min(MIN_SCALE * pixels, 900):.0f}px",
        "class": " ".join(["plate"] * plate + ["small"] * (pixels < SMALL_WIDTH)),
    }
    root.tag, sheet = "svg", SubElement(root, "style")
    sheet.text = "".join(f"#{name} .{word}{{{rule}}}" for rule, word in short.rules.items())
    for color, role in ROLES.items():  # the page's colors, if it sets them
        sheet.text = sheet.text.replace(color, f"var(--k-{role},{color})")
    return tostring(root, "unicode").replace(" />", "/>")


class _Short:
    """Elements of one picture with short ids and shared style rules."""

    def __init__(self, svg: str, name: str, curves: dict[str, Attributes]) -> None:
        used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        self.ids = {key: f"{name}-{place}" for place, key in enumerate(used)}
        self.curves, self.rules = curves, dict[str, str]()

    def element(self, node: Element) -> list[Element]:
        """Return a shortened element, or only its children, or nothing."""
        short = Element(node.tag.rpartition("}")[2], dict(self._attributes(node)))
        short.text = node.text if short.tag in ("text", "tspan", "title") else None
        for child in (child for child in node if isinstance(child.tag, str)):
            short.extend(self.element(child))
        place = ""
        if short.tag == "a":  # a link to a place on the page, or one that leads nowhere
            place, _, part = short.attrib.pop("href").partition("|")
            for element in [short] if place else short:
                element.attrib |= {"data-e": part} if part else {}
            short.attrib.pop("target", None)
            short.set("href", f"#{place}")
        if short.tag == "defs" and not len(short):
            return []
        bare = (short.tag == "a" and not place) or (short.tag == "g" and not short.attrib)
        return [*short] if bare else [short]

    def _attributes(self, node: Element) -> Iterator[tuple[str, str]]:
        own = node.get("id", "")
        for long, value in node.attrib.items():
            key = long.rpartition("}")[2]
            if key == "style" and "url(" not in value:
                rule = re.sub(r"\s*([:;,])\s*", r"\1", value.strip())
                yield "class", self.rules.setdefault(rule, f"s{len(self.rules)}")
            elif (key != "id" or value in self.ids) and not value.startswith("rotate(-0 "):
                yield key, self._value(key, value)
        for mark, attributes in self.curves.items():
            if own.endswith(f"-{mark}"):
                yield from attributes.items()

    def _value(self, key: str, value: str) -> str:
        if key == "d":
            return shortened_path(value)
        if key in ("x", "y", "width", "height", "transform"):
            return re.sub(r"-?\d+\.\d+", _digits, value)
        if value.startswith("data:"):
            return "".join(value.split())
        return re.sub(r"[\w.-]+", lambda match: self.ids.get(match[0], match[0]), value)


def _digits(match: re.Match[str]) -> str:
    """Return a number with at most two decimals, without needless zeros."""
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else re.sub(r"^(-?)0\.", r"\1.", text)


def shortened_path(path: str) -> str:
    """Simplify an SVG path; return it in relative steps, in multiples of `GRID`."""
    short, here = "", np.zeros(2)
    for command, first, rest in re.findall(r"([MQCz])([^MLQCz]*)((?:L[^MLQCz]*)*)", path):
        points = np.array(first.split(), float).reshape(-1, 2)
        grid = np.rint(np.vstack([here, points]) / GRID)
        here = points[-1] if len(points) else here
        values = points[0] / GRID if command == "M" else (grid[1:] - grid[0]).ravel()
        short += (command if command == "M" else command.lower()) + _joined(np.rint(values))
        if rest:
            line = np.array(rest.replace("L", " ").split(), float).reshape(-1, 2)
            line = _straightened(np.vstack([here, line]))
            steps, here = np.diff(np.rint(line / GRID), axis=0), line[-1]
            short += "l" + _joined(steps[steps.any(1)] if steps.any() else steps[:1])
    return short


def _joined(steps: Array) -> str:
    text = " ".join(map(str, (steps * GRID).ravel().tolist()))
    return re.sub(r"\S+", _digits, text).replace(" -", "-")


def _straightened(points: Array) -> Array:
    """Simplify a line by the algorithm of Ramer, Douglas and Peucker."""
    if len(points) < 3:
        return points
    way, rest = points[-1] - points[0], points[1:-1] - points[0]
    share = np.clip(rest @ way / max(float(way @ way), 1e-30), 0, 1)
    off = np.hypot(*(rest - share[:, None] * way).T)
    if off.max() <= LINE_TOLERANCE:
        return points[[0, -1]]
    k = 1 + int(off.argmax()) if len(points) < MIN_POINTS_TO_HALVE else len(points) // 2
    return np.vstack([_straightened(points[: k + 1]), _straightened(points[k:])[1:]])
