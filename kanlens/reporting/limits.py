"""Limits on the numbers of a report, for scripts that must not go on past them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.plotting.formats import number
from kanlens.reporting.alerts import gap_of

Content = dict[str, Any]
LIMIT = re.compile(r"\s*(\w+)\s*([<>])\s*([-+.\w]+)\s*")


def _score(name: str) -> Callable[[Content], float | None]:
    return lambda content: (content["performance"] or {}).get(name)


NUMBERS: dict[str, Callable[[Content], float | None]] = {
    "completeness": lambda content: max(
        (gap_of(one) for one in content["comparison"]["methods"] if one["complete"]), default=None
    ),
    "offgrid": lambda content: content["model"]["outside"]["all"],
    "warnings": lambda content: sum(one["level"] == "warning" for one in content["alerts"]),
    "formula": lambda content: (
        content["formula"] and content["formula"]["receipt"]["relative_rmse"]
    ),
    **{name: _score(name) for name in ("r2", "accuracy", "log_loss", "auc")},
}


def read_limits(text: str) -> list[tuple[str, str, float]]:
    """Read limits such as ``completeness>1e-6,r2<0.5``: names, signs and values.

    Raises
    ------
    InvalidValueError
        If one of them is no limit.
    """
    found = []
    for part in text.split(","):
        read = LIMIT.fullmatch(part)
        try:
            if read is None or read[1] not in NUMBERS:
                raise ValueError
            found.append((read[1], read[2], float(read[3])))
        except ValueError:
            expected = f"fail_on to list name>value or name<value, of {', '.join(sorted(NUMBERS))}"
            advice = "For example completeness>1e-6,offgrid>0.05"
            raise InvalidValueError(message("report", expected, repr(part), advice)) from None
    return found


def broken(content: Content, limits: list[tuple[str, str, float]]) -> list[str]:
    """Word the limits that the numbers of a report break; what is not known breaks its limit."""
    found = []
    for name, sign, limit in limits:
        value = NUMBERS[name](content)
        if value is None or (value > limit if sign == ">" else value < limit):
            known = "not known" if value is None else f"{number(value)} {sign} {limit:g}"
            found.append(f"{name} {known}")
    return found
