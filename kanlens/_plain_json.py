"""Results as plain data for JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def to_plain(value: object) -> Any:
    """Return nested data as dicts, lists, strings, numbers and None."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays, tensors, and their scalars
        finite = hasattr(value, "isfinite") and bool(value.isfinite().all())  # a tensor
        return value.tolist() if finite else to_plain(value.tolist())
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
