"""Results as JSON knows them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor


def to_plain(value: Any) -> Any:
    """Return nested data as dicts, lists, text, finite numbers, truth values and None."""
    if dataclasses.is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array, a tensor, or a number of theirs
        whole = isinstance(value, Tensor) and bool(value.isfinite().all())
        return value.tolist() if whole else to_plain(value.tolist())
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
