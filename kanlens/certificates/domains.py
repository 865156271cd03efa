"""The domain of a certificate: an interval for every feature, in units of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import message, nearest
from kanlens.data.schema import Feature, Schema
from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError
from kanlens.functions.elementary import Array

Domain: TypeAlias = "Tensor | Array | Mapping[str, tuple[float, float]]"

CALL = "certify"


def read_domain(domain: Domain, names: tuple[str, ...]) -> Tensor:
    """Return a domain as a float64 tensor (in, 2).

    Parameters
    ----------
    domain : Tensor, ndarray or mapping
        Shape (in, 2), or the interval of every feature by name.
    names : tuple of str
        The features of the model.

    Raises
    ------
    InvalidValueError, DataError, ShapeError, DTypeError
        If a feature is missing or unknown, an interval is no two finite numbers or reversed.

    Examples
    --------
    >>> read_domain({"b": (0, 1), "a": (2, 2)}, ("a", "b"))
    tensor([[2., 2.],
            [0., 1.]], dtype=torch.float64)
    """
    ends = _by_name(domain, names) if isinstance(domain, Mapping) else _as_tensor(domain)
    if ends.shape != (len(names), 2):
        expected = f"a domain of shape ({len(names)}, 2)"
        advice = "Give the lowest and the highest value of every feature"
        raise ShapeError(message(CALL, expected, str(tuple(ends.shape)), advice))
    for name, (low, high) in zip(names, ends.tolist(), strict=True):
        if not (math.isfinite(low) and math.isfinite(high)):
            expected, got = f"finite ends for {name!r}", f"{low!r} to {high!r}"
            advice = "Take the range of the data"
            raise DataError(message(CALL, expected, got, advice))
        if not math.isfinite(high - low):
            expected, got = f"a width of {name!r} that is a number", f"{low!r} to {high!r}"
            raise DataError(message(CALL, expected, got, "Take the range of the data"))
        if low > high:
            expected, got = f"the lower end of {name!r} first", f"{low!r} to {high!r}"
            raise InvalidValueError(message(CALL, expected, got, "Swap the ends"))
    return ends


def between_categories(schema: Schema, domain: Tensor) -> tuple[str, ...]:
    """Name the table columns whose features a domain (in, 2) does not hold at one category.

    A row of a table has one of a column's features at 1, and the others at 0.

    Examples
    --------
    >>> from kanlens.data.schema import Feature
    >>> coded = [Feature(name=f"c={k}", column="c", kind="categorical", category=k) for k in "ab"]
    >>> schema = Schema(features=tuple(coded), outputs=())
    >>> free, held = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[1, 1], [0, 0]])
    >>> between_categories(schema, free), between_categories(schema, held)
    (('c',), ())
    """
    columns: dict[str, list[int]] = {}
    for index, feature in enumerate(schema.features):
        if feature.kind != "numeric":
            columns.setdefault(feature.column, []).append(index)
    return tuple(
        column
        for column, indices in columns.items()
        if not _held([schema.features[k] for k in indices], domain[indices])
    )


def _held(features: list[Feature], ends: Tensor) -> bool:
    """Tell whether intervals (in, 2) of the features of one column leave it one category."""
    low, high = ends.T
    if not bool((low == high).all() & ((low == 0) | (low == 1)).all()):
        return False
    count = int(low.sum())  # 0 stands for a category that has no feature
    return count == 1 or (count == 0 and len(features) < len(features[0].categories or "01"))


def _as_tensor(domain: object) -> Tensor:
    if hasattr(domain, "columns") and hasattr(domain, "iloc"):
        expected = "a domain: a tensor (in, 2), or {name: (low, high)}"
        advice = "Take dict(zip(x.columns, zip(x.min(), x.max())))"
        raise DTypeError(message(CALL, expected, "a DataFrame", advice))
    got = type(domain).__name__
    try:
        if isinstance(domain, Tensor):
            got = f"{domain.dtype} ({domain.layout}, {domain.device})"
            if not domain.is_complex() and domain.layout == torch.strided and not domain.is_meta:
                return domain.detach().cpu().to(torch.float64, copy=True)
        elif domain is not None and np.array(domain).dtype.kind not in "USc":
            return torch.from_numpy(np.array(domain, dtype=np.float64))
    except (TypeError, ValueError):
        pass
    expected = "a domain of numbers: a tensor (in, 2), or {name: (low, high)}"
    raise DTypeError(message(CALL, expected, got, "Give two numbers per feature"))


def _by_name(domain: Mapping[str, tuple[float, float]], names: tuple[str, ...]) -> Tensor:
    for name in domain:
        if name not in names:
            hint = nearest(str(name), names)
            advice = f"Did you mean {hint!r}?" if hint else "Use the names of the model's features"
            text = message(CALL, f"features among {', '.join(names)}", repr(name), advice)
            raise InvalidValueError(text)
    missing = [name for name in names if name not in domain]
    if missing:
        expected, got = "an interval for every feature", f"none for {', '.join(missing)}"
        advice = "Add them; low == high holds a feature fixed"
        raise InvalidValueError(message(CALL, expected, got, advice))
    rows = []
    for name in names:
        try:
            low, high = (_number(end) for end in domain[name])
        except (TypeError, ValueError):
            expected = f"two numbers for {name!r}"
            advice = "Write (low, high)"
            raise DTypeError(message(CALL, expected, repr(domain[name]), advice)) from None
        rows.append([low, high])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)


def _number(end: Any) -> float:
    if isinstance(end, str):
        raise TypeError
    return float(end)
