"""Rules that encode raw cells of a table as features."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import sympy

from kanlens.data._schema import Feature, Schema

_TRUTH = {"True": ("true", "TRUE", "1", "1.0"), "False": ("false", "FALSE", "0", "0.0")}


class Cell(NamedTuple):
    """The rule of a feature: a number, a part of a date, or an indicator."""

    column: str
    kind: str  # "number", "date" or "text"
    content: tuple[str, ...]  # texts, or the part of a date
    blank: float  # the feature of a blank cell, NaN where these are refused


def cell_rule(feature: Feature) -> Cell:
    """Return the rule of a feature."""
    if feature.kind == "missing":
        return Cell(feature.column, "text", (), 1.0)
    if feature.category is None:
        blank = math.nan if feature.filler is None else feature.filler
        return Cell(feature.column, "date" if feature.part else "number", (feature.part,), blank)
    texts = _spellings(feature.category, feature.categories)
    return Cell(feature.column, "text", texts, float(feature.imputation == feature.category))


def column_kinds(schema: Schema) -> dict[str, str]:
    """Return the kind of each column ("number", "date" or "text") by name."""
    kinds: dict[str, str] = {}
    for feature in schema.features:
        kind = "text" if feature.category or feature.categories else "number"
        if kinds.setdefault(feature.column, kind) == "number" and feature.part:
            kinds[feature.column] = "date"
    return kinds


def blank_texts(schema: Schema) -> tuple[str, ...]:
    """Return the texts of blank cells."""
    return ("", *(text for mark in schema.format.missing for text in _spellings(mark)))


def blank_numbers(schema: Schema) -> list[float]:
    """Return the numbers that mark missing cells."""
    return [float(mark) for mark in schema.format.missing if re.fullmatch(r"-?\d+(\.\d+)?", mark)]


def _spellings(text: str, texts: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the spellings of a category that tables, databases and sheets use."""
    if texts and set(texts) <= _TRUTH.keys():
        return text, *_TRUTH[text]
    if text.lstrip("-").isdigit():
        return text, f"{text}.0"
    alike = [other for other in texts if other.casefold() == text.casefold()]
    usual = [text.lower(), text.upper(), text.capitalize(), text.title()]
    return tuple(dict.fromkeys([text, *(usual if len(alike) == 1 else [])]))


def date_part(part: str, days: sympy.Expr) -> sympy.Expr:
    """Return a part of a date as an expression of the days since 1970-01-01."""
    floor, half = sympy.floor, sympy.Rational(1, 2)  # halves keep quotients off the steps of floor
    day = floor(days)
    if part in ("days", "hour"):
        return days if part == "days" else floor((days - day) * 1440 + sympy.Float(1e-6)) / 60
    if part == "weekday":
        return day + 3 - 7 * floor((day + 3 + half) / 7)
    era = floor((day + 719468 + half) / 146097)  # of 400 years, which begin in March
    of_era = day + 719468 - 146097 * era
    leaps = floor((of_era + half) / 1460) - floor((of_era + half) / 36524)
    year = floor((of_era - leaps - floor((of_era + half) / 146096) + half) / 365)
    of_year = of_era - 365 * year - floor((year + half) / 4) + floor((year + half) / 100)
    month = floor((5 * of_year + 2 + half) / 153)
    wraps = floor((month + half) / 10)  # 1 in January and February
    return month + 3 - 12 * wraps if part == "month" else year + 400 * era + wraps
