"""Numbers, counts and lists of names as text."""

from __future__ import annotations

import math
from typing import Any

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
ROUNDING = 1e-12
MIN_DECIMAL, MAX_DECIMAL = 1e-3, 1e6  # outside, powers of ten are used


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with significant digits; a dash if not finite.

    An int is in full; a float outside 0.001 to 1,000,000 has a power of ten.
    """
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    size = abs(value)
    if size == 0:
        return "0"
    rounded = float(f"{size:.{digits - 1}e}")
    if not MIN_DECIMAL <= rounded < MAX_DECIMAL:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        head = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{head}\N{MULTIPLICATION SIGN}10{str(int(exponent)).translate(_RAISED)}"
    else:
        places = max(0, digits - 1 - math.floor(math.log10(rounded)))
        text = f"{size:,.{places}f}"
    return MINUS + text if value < 0 else text


def tick(value: float, _: int | None = None) -> str:
    """Return a tick label with all digits, in full from 0.0001 to 1e7.

    Thousands are separated only from five digits on, so that years are not.
    """
    if value and not 1e-4 <= abs(value) < 1e7:
        return number(value)
    text = f"{value:,.10g}" if abs(value) >= 1e4 else f"{value:.10g}"
    return text.replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return a number with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and math.isfinite(value) and value > 0 else text


def fixed(value: float | None) -> str:
    """Return a number with two decimals."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.2f}".replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, never rounded to 0% or 100%."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value in (0, 1):
        return f"{100 * value:.0f}%"
    smallest = 10.0**-digits
    if 0 < 100 * value < smallest / 2:
        return f"<{smallest:.{digits}f}%"
    if 100 - smallest / 2 < 100 * value < 100:
        return f">{100 - smallest:.{digits}f}%"
    return f"{100 * value:.{digits}f}%".replace("-", MINUS)


def with_unit(text: str, unit: str) -> str:
    """Return a number with its unit, if it has one."""
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def listed(names: list[str], most: int = 5) -> str:
    """Return names as a list in words; those beyond `most` are counted."""
    if len(names) > most:
        rest = len(names) - most
        return f"{', '.join(names[:most])} and {rest} other{'s' if rest > 1 else ''}"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def tiny(value: float | None) -> str:
    """Return an error as text; one within rounding is written as a bound."""
    if value is not None and 0 < value < ROUNDING:
        return "<10⁻¹²"
    return percent(value) if value is None or value == 0 or value >= 1e-3 else number(value, 1)


def shade(value: float | None) -> int:
    """Return the saturation of a cell's color in percent; 60 for a value of 1."""
    return round(60 * max(0.0, value or 0.0))


FILTERS: dict[str, Any] = {  # of templates
    write.__name__: write
    for write in (number, signed, fixed, percent, with_unit, listed, counted, tiny, shade)
}
