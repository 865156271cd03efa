"""SVG as Matplotlib writes it, in few bytes and with colors that a page can set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import numpy as np

from kanlens.plotting.style import STYLE, Array

ENLARGED = 1.2  # how much larger than in print a picture is shown
LEAST = 0.8  # share of that size below which it is scrolled rather than shrunk
GRID = 0.05  # points: coordinates are multiples of it
NEAR = 0.025  # points that a line may be straightened by; both together are below 0.1 pixels
LONG = 500  # points from which a line is halved first
SMALL = 480  # pixels: two of them stand beside each other on paper
COLORS = 12  # beyond, a picture has a scale of colors and keeps its white paper at night
GRAYS = ("#efefef", "#b9b9b9", "#d2d2d2", "#f4f4f4", "#c4c4c4")  # besides those of the style
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # in XML
ROLES = dict(zip(GRAYS, ("shade", "density", "hatch", "stripe", "line"), strict=True)) | {
    getattr(STYLE, name): name
    for name in ("ink", "muted", "faint", "paper", "accent", "positive", "negative")
}
Attributes = dict[str, str]


def sized(
    svg: str, curves: dict[str, Attributes] | None = None, names: dict[str, str] | None = None
) -> str:
    """Write a picture of Matplotlib in few bytes; the page bounds its width, within legibility.

    No line is off by a tenth of a pixel. Elements that look alike share a rule, and the page can
    set the colors of lines, text and paper; `curves` are attributes of elements by their marks,
    `names` what links are called. A link is ``place|part``: where on the page it leads, and the
    part of the network it is, either of which may be empty.
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
        if called := (names or {}).get(link.attrib["href"][1:]):
            link.set("aria-label", called)
    fills = {color for rule in short.rules for color in re.findall("#[0-9a-f]{6}", rule)}
    plate = len(fills - set(ROLES)) > COLORS or root.find(".//image") is not None
    box = root.get("viewBox", "")
    root.attrib = {
        "id": name,
        "viewBox": re.sub(r"[\d.]+", lambda found: _digits(float(found[0])), box),
        "role": "group" if links else "img",
        "stroke-linejoin": "round",
        "style": f"width:{pixels:.0f}px;min-width:{min(LEAST * pixels, 900):.0f}px",
        "class": " ".join(["plate"] * plate + ["small"] * (pixels < SMALL)),
    }
    root.tag, sheet = "svg", SubElement(root, "style")
    sheet.text = "".join(f"#{name} .{word}{{{rule}}}" for rule, word in short.rules.items())
    for color, role in ROLES.items():  # those of the page, where it sets them
        sheet.text = sheet.text.replace(color, f"var(--k-{role},{color})")
    return tostring(root, "unicode").replace(" />", "/>")


class _Short:
    """What makes the elements of one picture short: their new ids, and the rules they share."""

    def __init__(self, svg: str, name: str, curves: dict[str, Attributes]) -> None:
        used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        self.ids = {one: f"{name}-{place}" for place, one in enumerate(used)}
        self.curves, self.rules = curves, dict[str, str]()

    def element(self, node: Element) -> list[Element]:
        """Return what is left of an element: nothing, itself, or what was in it."""
        made = Element(node.tag.rpartition("}")[2], dict(self._attributes(node)))
        made.text = node.text if made.tag in ("text", "tspan", "title") else None
        for child in (one for one in node if isinstance(one.tag, str)):
            made.extend(self.element(child))
        if made.tag == "a":
            return _linked(made)
        if made.tag == "defs" and not len(made):
            return []
        return [*made] if made.tag == "g" and not made.attrib else [made]

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
            return re.sub(r"-?\d+\.\d+", lambda found: _digits(float(found[0])), value)
        if value.startswith("data:"):
            return "".join(value.split())
        return re.sub(r"[\w.-]+", lambda found: self.ids.get(found[0], found[0]), value)


def _linked(made: Element) -> list[Element]:
    """Return a link to a place on the page, or what was in one that leads nowhere."""
    place, _, part = made.attrib.pop("href").partition("|")
    for one in [made] if place else made:
        one.attrib |= {"data-e": part} if part else {}
    made.attrib.pop("target", None)
    made.set("href", f"#{place}")
    return [made] if place else [*made]


def _digits(value: float) -> str:
    """Write a number with two decimals at most, and no zero that can be left out."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else re.sub(r"^(-?)0\.", r"\1.", text)


def shortened_path(path: str) -> str:
    """Write an SVG path by its steps, on a grid, without points that a line passes anyway.

    Examples
    --------
    >>> shortened_path("M 1 2 L 2 3 L 3 4.01 L 3 9 z")
    'M1 2l2 2 0 5z'
    """
    found, here = "", np.zeros(2)
    for command, first, rest in re.findall(r"([MQCz])([^MLQCz]*)((?:L[^MLQCz]*)*)", path):
        points = np.array(first.split(), float).reshape(-1, 2)
        grid = np.rint(np.vstack([here, points]) / GRID)
        here = points[-1] if len(points) else here
        values = points[0] / GRID if command == "M" else (grid[1:] - grid[0]).ravel()
        found += (command if command == "M" else command.lower()) + _joined(np.rint(values))
        if rest:
            line = np.array(rest.replace("L", " ").split(), float).reshape(-1, 2)
            line = _straightened(np.vstack([here, line]))
            steps, here = np.diff(np.rint(line / GRID), axis=0), line[-1]
            found += "l" + _joined(steps[steps.any(1)] if steps.any() else steps[:1])
    return found


def _joined(steps: Array) -> str:
    text = " ".join(_digits(value * GRID) for value in steps.ravel().tolist())
    return text.replace(" -", "-")


def _straightened(points: Array) -> Array:
    """Leave out points that lie `NEAR` the line between others (Ramer, Douglas and Peucker)."""
    if len(points) < 3:
        return points
    way, rest = points[-1] - points[0], points[1:-1] - points[0]
    share = np.clip(rest @ way / max(float(way @ way), 1e-30), 0, 1)
    off = np.hypot(*(rest - share[:, None] * way).T)
    if off.max() <= NEAR:
        return points[[0, -1]]
    k = 1 + int(off.argmax()) if len(points) < LONG else len(points) // 2
    return np.vstack([_straightened(points[: k + 1]), _straightened(points[k:])[1:]])
