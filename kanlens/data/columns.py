"""Which columns of a table are targets and which are features.

Every name is looked up, and a wrong one is refused with the nearest right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kanlens.checks import message, nearest
from kanlens.data.cell_parsing import listed
from kanlens.errors import DataError

_UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls columns without a name


def as_names(given: object) -> list[str]:
    """Return one name or several as a list of texts; a column may be called by a number or a date.

    Examples
    --------
    >>> as_names("id"), as_names(("a", 2)), as_names(1), as_names(None)
    (['id'], ['a', '2'], ['1'], [])
    """
    if given is None:
        return []
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        return [str(given)]
    return [str(name) for name in given]


def refuse_unknown(what: str, names: Iterable[str], known: Sequence[str], *, call: str) -> None:
    """Refuse the first name that is no column.

    Raises
    ------
    DataError
        Says what the name was for, and which columns there are.

    Examples
    --------
    >>> refuse_unknown("target", ["y"], ["x", "y"], call="read_table")
    """
    for name in names:
        if name in known:
            continue
        hint = nearest(name, known)
        advice = f"Did you mean {hint!r}?" if hint else "Name a column of the table"
        expected = f"{what} among the columns {listed(known)}"
        text = message(call, expected, repr(name), advice)
        raise DataError(text)


def choose_columns(
    known: Sequence[str],
    target: object,
    features: object = None,
    drop: object = (),
    *,
    call: str,
) -> tuple[list[str], list[str]]:
    """Return the target columns and the feature columns.

    Parameters
    ----------
    known : sequence of str
        The columns of the table, in order.
    target, features, drop : label, sequence of labels or None
        As for `read_table`; all columns but the target and `drop` when `features` is None.
    call : str
        The public call, for error messages.

    Returns
    -------
    (list of str, list of str)

    Raises
    ------
    DataError
        For an unknown name, a column used twice or without a name, or no feature at all.

    Examples
    --------
    >>> choose_columns(["id", "a", "b", "y"], "y", drop="id", call="read_table")
    (['y'], ['a', 'b'])
    """
    targets, chosen, dropped = as_names(target), as_names(features), as_names(drop)
    for what, names in (("target", targets), ("features", chosen), ("drop", dropped)):
        refuse_unknown(what, names, known, call=call)
    lost = [name for name in [*targets, *chosen] if name in dropped]
    if lost:
        expected, got = "drop to be of other columns than target and features", repr(lost[0])
        raise DataError(message(call, expected, got, "Name it once"))
    if features is None:
        chosen = [name for name in known if name not in targets]
    chosen = [name for name in chosen if name not in dropped]
    used = [*targets, *chosen]
    twice = next((name for name in used if used.count(name) > 1 or known.count(name) > 1), None)
    if twice is not None:
        expected = "each column once, as target or as feature"
        raise DataError(message(call, expected, f"{twice!r} twice", "Rename it, or name it once"))
    if not chosen:
        got = f"columns {listed(known)}"
        raise DataError(message(call, "a feature column beside the target", got, "Add one"))
    if features is None:
        _refuse_unnamed(chosen, call)
    return targets, chosen


def _refuse_unnamed(names: list[str], call: str) -> None:
    """Refuse a column without a name: it is most often a row number that was saved along."""
    unnamed = next((name for name in names if _UNNAMED.fullmatch(name)), None)
    if unnamed is not None:
        advice = f"Name it, or leave it out with drop={unnamed!r}, if it holds row numbers"
        raise DataError(message(call, "a name for every column", repr(unnamed), advice))
