"""Checks of the arguments that describe a layer and name its edges."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from torch import Tensor

from kanlens.checks import check_count, message
from kanlens.errors import InvalidValueError


def check_layer(
    in_features: int, out_features: int, grid_size: int, spline_order: int, grid_eps: float
) -> None:
    """Refuse a width, grid or order that no layer can have."""
    check_count("KANLinear", "in_features", in_features)
    check_count("KANLinear", "out_features", out_features)
    check_count("KANLinear", "grid_size", grid_size)
    whole = isinstance(spline_order, numbers.Integral) and not isinstance(spline_order, bool)
    if not whole or spline_order not in range(1, 6):
        expected = "spline_order from 1 to 5"
        raise InvalidValueError(message("KANLinear", expected, repr(spline_order), "3 is cubic"))
    if not (isinstance(grid_eps, numbers.Real) and 0 <= grid_eps <= 1):
        expected = "grid_eps from 0 to 1"
        raise InvalidValueError(message("KANLinear", expected, repr(grid_eps), "Change it"))


def check_grid(ends: Sequence[float], knots: Tensor | None = None) -> tuple[float, float]:
    """Return the ends of a grid; refuse ends that do not rise, or knots too close for a dtype."""
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not -math.inf < low < high < math.inf:
        expected = "grid_range of two rising numbers"
        raise InvalidValueError(message("KANLinear", expected, repr(ends), "Swap or correct it"))
    if knots is not None and not bool((knots.diff(dim=1) > 0).all()):
        expected = f"grid_range wide enough for its intervals in {knots.dtype}"
        raise InvalidValueError(message("KANLinear", expected, repr(ends), "Scale the inputs"))
    return low, high


def check_index(name: str, index: int, size: int) -> None:
    """Refuse the index of an edge that does not exist."""
    whole = isinstance(index, numbers.Integral) and not isinstance(index, bool)
    if not whole or not 0 <= index < size:
        expected = f"{name} from 0 to {size - 1}"
        raise InvalidValueError(message("edge", expected, repr(index), "Name an edge it has"))
