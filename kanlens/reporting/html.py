"""The page: content and pictures put into a template. Every value from data is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kanlens.reporting import formats

FOLDER = Path(__file__).parent
ROUNDING = 1e-12


def render_page(content: dict[str, Any], pictures: dict[str, Any]) -> str:
    """Return the page as one HTML document that refers to nothing outside itself.

    Parameters
    ----------
    content : dict
        The numbers, in plain types.
    pictures : dict of str to Picture, list of Picture, or None
        As `draw_all` returns them.

    Returns
    -------
    str
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("number", "signed", "fixed", "percent", "with_unit", "listed", "counted"):
        environment.filters[name] = getattr(formats, name)
    environment.filters |= {"shade": shade, "tiny": tiny}
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        c=content,
        pictures=pictures,
        css=Markup(css),
        trusted=Markup,
        worst_gap=worst_gap(content),
        formula_words=formula_words(content["formula"]),
    )


def worst_gap(content: dict[str, Any]) -> dict[str, Any]:
    """Return the method with the largest relative completeness gap among the complete ones."""
    complete = [one for one in content["comparison"]["methods"] if one["complete"]]
    if not complete:
        return {"method": "", "gap": None}
    sizes = [
        float("inf") if one["relative_gap"] is None else one["relative_gap"] for one in complete
    ]
    worst = sizes.index(max(sizes))
    return {"method": complete[worst]["method"], "gap": complete[worst]["relative_gap"]}


def formula_words(formula: dict[str, Any] | None) -> str:
    """Say in one line how close a formula is to its model, and to the targets."""
    if formula is None:
        return ""
    receipt = formula["receipt"]
    distance = formats.percent(receipt["relative_rmse"], 2)
    words = f"Differs from the model by {distance} of the output's deviation (RMSE)"
    for key, name, write in (
        ("r2", "R²", formats.number),
        ("accuracy", "accuracy", formats.percent),
    ):
        if receipt[key] is not None:
            words += f"; {name} {write(receipt[key])}, model {write(receipt[f'model_{key}'])}"
    return words + "."


def tiny(value: float | None) -> str:
    """Write an error that may be mere rounding.

    Examples
    --------
    >>> tiny(3e-16), tiny(0.0), tiny(0.0123), tiny(None)
    ('<10⁻¹²', '0%', '1.2%', '\N{EN DASH}')
    """
    if value is not None and 0 < value < ROUNDING:
        return "<10⁻¹²"
    return (
        formats.percent(value)
        if value is None or value == 0 or value >= 1e-3
        else formats.number(value, 1)
    )


def shade(value: float | None) -> int:
    """Return how strongly a cell of an agreement table is colored, in percent.

    Examples
    --------
    >>> shade(1.0), shade(0.5), shade(-0.2), shade(None)
    (60, 30, 0, 0)
    """
    return round(60 * max(0.0, value or 0.0))
