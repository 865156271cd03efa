"""Input checks shared by every public call."""

from __future__ import annotations

import difflib
import importlib.metadata
import math
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.errors import (
    DataError,
    DTypeError,
    InvalidValueError,
    KanlensWarning,
    MissingDependencyError,
    ShapeError,
)

DISTANT = 1e3  # spans between the 5 % and the 95 % quantile that a target may lie beyond them


def optional_module(name: str, *, call: str, extra: str = "") -> Any:
    """Import an optional package; say how to install it, or the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        source = f"'kanlens[{extra}]'" if extra else name
        advice = f"Install it with pip install {source}"
        raise MissingDependencyError(call, f"the package {name}", "none", advice) from error


def version_of(package: str) -> str:
    """Return the version of an installed package; "unknown" of one that is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like `value` or the only one that contains it; None without one."""
    known = list(choices)
    held = [name for name in known if len(value) > 2 and value.lower() in name.lower()]
    found = difflib.get_close_matches(value, known, n=1) or (held if len(held) == 1 else [])
    return found[0] if found else None


def find_place(
    call: str, expected: str, given: object, names: Sequence[str], advice: str, argument: str = ""
) -> int:
    """Return the place of a name, or the index that was given instead; refuse all else."""
    if isinstance(given, str) and given in names:
        return names.index(given)
    if isinstance(given, numbers.Integral) and not isinstance(given, bool):
        if 0 <= int(given) < len(names):
            return int(given)
    elif isinstance(given, str) and (hint := nearest(given, names)):
        advice = f"Did you mean {hint!r}?"
    got = repr(given)
    got = f"a {type(given).__name__}" if "\n" in got else got  # a table or an array
    raise InvalidValueError(call, expected, got, advice, argument=argument)


def check_choice(call: str, name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a `value` that is none of `choices`; list them, and name the nearest."""
    known = sorted(choices)
    if value in known:
        return
    hint = nearest(str(value), known)
    advice = f"Did you mean {hint!r}?" if hint else f"Choose one of: {', '.join(known)}"
    expected = f"to be one of {', '.join(known)}"
    raise InvalidValueError(call, expected, repr(value), advice, argument=name)


def check_positive(call: str, name: str, value: float, *, zero: bool = False) -> None:
    """Refuse a number that is not finite and positive (or, with `zero`, negative)."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if real and (0 < value < math.inf or (zero and value == 0)):
        return
    kind = "a number of at least 0" if zero else "a positive number"
    raise InvalidValueError(call, f"to be {kind}", repr(value), "Change it", argument=name)


def check_generator(call: str, generator: torch.Generator | None) -> None:
    """Check that what draws random numbers can."""
    if generator is not None and not isinstance(generator, torch.Generator):
        advice = "Pass torch.Generator().manual_seed(0)"
        raise InvalidValueError(call, "generator as a torch.Generator", repr(generator), advice)


def check_count(call: str, name: str, value: int, *, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least:
        return
    expected = f"to be a whole number of at least {least}"
    raise InvalidValueError(call, expected, repr(value), "Change it", argument=name)


def check_columns(call: str, x: Tensor, width: int, dtype: torch.dtype | None = None) -> None:
    """Refuse an `x` of other than `width` features, or of another dtype than the model's."""
    if not x.dim() or x.shape[-1] != width:
        features = "1 feature" if width == 1 else f"{width} features"
        expected, advice = f"x of shape (batch, {width})", f"The model takes {features}"
        raise ShapeError(call, expected, str(tuple(x.shape)), f"{advice}; pass only those")
    if dtype not in (None, x.dtype):
        advice = "Convert x with x.to(dtype), or the model with model.double() or model.float()"
        raise DTypeError(call, f"x of dtype {dtype}, as the model's", str(x.dtype), advice)


def check_finite(call: str, x: Tensor, names: Iterable[str] | None = None) -> None:
    """Refuse NaN and infinity in a tensor, usually (batch, in); say where the first one is."""
    bad = ~torch.isfinite(x)
    if not bool(bad.any()):
        return
    position = tuple(int(i) for i in bad.nonzero()[0])
    known = list(names) if names is not None else []
    where = f" at row {position[0]}" if position else ""
    if len(position) > 1:
        column = position[-1]
        where += f", column {known[column]!r}" if column < len(known) else f", column {column}"
    count = int(bad.sum())
    got = f"{x[position].item()}{where} ({count} such {'cell' if count == 1 else 'cells'})"
    raise DataError(call, "finite numbers", got, "Drop or impute those rows")


def check_magnitude(call: str, x: Tensor, names: Iterable[str], rows: Iterable[int]) -> None:
    """Refuse numbers in (batch, column) whose squares cannot be added up in their dtype."""
    most = 10.0 ** int(math.log10(torch.finfo(x.dtype).max) / 2 - 3)
    large = x.abs() > most
    if not bool(large.any()):
        return
    row, column = large.nonzero()[0].tolist()
    expected = f"numbers of size at most {most:.0e} in column {list(names)[column]!r}"
    got = f"{float(x[row, column]):.6g} in row {list(rows)[row]}"
    raise DataError(call, expected, got, "Correct that cell, or change the unit")


def check_rows(call: str, x: Tensor, *, least: int = 1) -> None:
    """Refuse a table with fewer than `least` rows."""
    if x.shape[0] >= least:
        return
    rows = "1 row" if least == 1 else f"{least} rows"
    raise ShapeError(call, f"at least {rows}", str(x.shape[0]), "Pass more data")


def warn_of_distant(
    call: str,
    names: Sequence[str],
    y: Tensor,
    rows: Sequence[int],
    *,
    consequence: str = "other rows hardly count beside it",
) -> Tensor:
    """Warn of targets (row, out) so far off that no other counts; return which are others."""
    values = y.detach().cpu().double().numpy()
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    beyond = np.maximum(low - values, values - high) > DISTANT * (high - low)
    beyond &= high > low
    found = np.argwhere(beyond)
    if len(found):
        row, column = found[0]
        got = f"{values[row, column]:.6g} in row {rows[row]} of {names[column]!r}"
        expected = f"targets within {DISTANT:g} spans of the middle 90 % of them"
        advice = f"Correct that cell, or predict a logarithm: {consequence}"
        warnings.warn(KanlensWarning(call, expected, got, advice), stacklevel=4)
    return torch.from_numpy(~beyond.any(1))
