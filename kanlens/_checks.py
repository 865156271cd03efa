"""Input checks of public calls."""

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

MAX_DISTANCE = 1e3  # of a target from the 5 % or 95 % quantile, relative to their distance


def optional_module(name: str, *, call: str, extra: str = "") -> Any:
    """Import an optional package; the error names the package or extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        source = f"'kanlens[{extra}]'" if extra else name
        advice = f"Install it with pip install {source}"
        raise MissingDependencyError(call, f"the package {name}", "none", advice) from error


def version_of(package: str) -> str:
    """Return the version of a package, "unknown" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to `value`, or the only one that contains it."""
    choices = list(choices)
    containing = [name for name in choices if len(value) > 2 and value.lower() in name.lower()]
    unique = containing if len(containing) == 1 else []
    return next(iter(difflib.get_close_matches(value, choices, n=1) or unique), None)


def find_place(
    call: str, expected: str, key: object, names: Sequence[str], advice: str, argument: str = ""
) -> int:
    """Return the index of a name, or `key` if it is an index."""
    if isinstance(key, str) and key in names:
        return names.index(key)
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        if 0 <= int(key) < len(names):
            return int(key)
    elif isinstance(key, str) and (hint := nearest(key, names)):
        advice = f"Did you mean {hint!r}?"
    got = repr(key)
    got = f"a {type(key).__name__}" if "\n" in got else got  # the repr of a table or an array
    raise InvalidValueError(call, expected, got, advice, argument=argument)


def check_choice(call: str, name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a `value` that is not one of `choices`."""
    if value in (names := sorted(choices)):
        return
    hint, text = nearest(str(value), names), ", ".join(names)
    advice = f"Did you mean {hint!r}?" if hint else f"Choose one of: {text}"
    raise InvalidValueError(call, f"to be one of {text}", repr(value), advice, argument=name)


def check_positive(call: str, name: str, value: float, *, zero: bool = False) -> None:
    """Refuse a value that is not finite and positive (or, with `zero`, 0)."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if real and (0 < value < math.inf or (zero and value == 0)):
        return
    kind = "a number of at least 0" if zero else "a positive number"
    advice = "Pass 0 or a number above 0" if zero else "Pass a number above 0"
    raise InvalidValueError(call, f"to be {kind}", repr(value), advice, argument=name)


def check_generator(call: str, generator: torch.Generator | None) -> None:
    """Refuse a generator that is not a torch.Generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        advice = "Pass torch.Generator().manual_seed(0)"
        raise InvalidValueError(call, "generator as a torch.Generator", repr(generator), advice)


def check_count(call: str, name: str, value: int, *, least: int = 1) -> None:
    """Refuse a value that is not a whole number of at least `least`."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least:
        return
    expected = f"to be a whole number of at least {least}"
    advice = f"Pass a whole number such as {max(least, 1)}"
    raise InvalidValueError(call, expected, repr(value), advice, argument=name)


def check_columns(
    call: str, x: Tensor, width: int, dtype: torch.dtype | None = None, names: Sequence[str] = ()
) -> None:
    """Refuse an `x` without `width` columns, or not of the model's dtype."""
    if not x.dim() or x.shape[-1] != width:
        features = "1 feature" if width == 1 else f"{width} features"
        if names:
            features += f" ({', '.join(names[:8])}{', ...' * (len(names) > 8)})"
        expected, advice = f"x of shape (batch, {width})", f"The model takes {features}"
        raise ShapeError(call, expected, str(tuple(x.shape)), f"{advice}; pass only those")
    if dtype not in (None, x.dtype):
        advice = "Convert x with x.to(dtype), or the model with model.double() or model.float()"
        raise DTypeError(call, f"x of dtype {dtype}, as the model's", str(x.dtype), advice)


def check_finite(call: str, x: Tensor, names: Iterable[str] | None = None) -> None:
    """Refuse NaN and infinity; the error names the first such cell."""
    bad = ~torch.isfinite(x)
    if not bool(bad.any()):
        return
    position = tuple(int(i) for i in bad.nonzero()[0])
    columns = list(names) if names is not None else []
    where = f" at row {position[0]}" if position else ""
    if len(position) > 1:
        column = position[-1]
        where += f", column {columns[column]!r}" if column < len(columns) else f", column {column}"
    count = int(bad.sum())
    got = f"{x[position].item()}{where} ({count} such {'cell' if count == 1 else 'cells'})"
    raise DataError(call, "finite numbers", got, "Drop or impute those rows")


def check_magnitude(call: str, x: Tensor, names: Iterable[str], rows: Iterable[int]) -> None:
    """Refuse numbers (batch, column) whose squares overflow when summed."""
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
    consequence: str = "it outweighs all other rows",
) -> Tensor:
    """Warn of extreme targets (row, out); return the mask of the other rows."""
    values = y.detach().cpu().double().numpy()
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    beyond = np.maximum(low - values, values - high) > MAX_DISTANCE * (high - low)
    beyond &= high > low
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        got = f"{values[row, column]:.6g} in row {rows[row]} of {names[column]!r}"
        expected = f"targets within {MAX_DISTANCE:g} times the range of the middle 90 % of them"
        advice = f"Correct that cell, or predict the logarithm of the target: {consequence}"
        warnings.warn(KanlensWarning(call, expected, got, advice), stacklevel=4)
    return torch.from_numpy(~beyond.any(1))
