"""Checks of the arguments that describe a layer, and name its edges or an output."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import cast

from torch import Tensor

from kanlens.checks import check_count, message, nearest
from kanlens.errors import InvalidValueError
from kanlens.memory import check_memory

_BYTES = 50  # that drawing the weights of a layer takes for each; measured: 100
_SOLVED = 8  # bytes of a number in the equations that its splines are drawn by


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
    weights = in_features * out_features * (grid_size + spline_order + 2)
    equations = in_features * (grid_size + 1) * (grid_size + spline_order)
    layer = f"a layer of {in_features:,} x {out_features:,} edges on {grid_size:,} intervals"
    advice = "Make it narrower, or its grid coarser"
    check_memory("KANLinear", _BYTES * weights + _SOLVED * equations, layer, advice)
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


def find_output(
    names: Sequence[str], labels: Sequence[str], target: int | str | None, call: str
) -> int:
    """Return the index of an output given by index, name or, with several, class label.

    Raises
    ------
    InvalidValueError
        If there is no such output, or none is named and there are several.

    Examples
    --------
    >>> find_output(["a", "b"], [], "b", "attribute")
    1
    """
    if target is None and len(names) == 1:
        return 0
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, str) and len(names) > 1 and target in labels:
        return labels.index(target)
    whole = isinstance(target, numbers.Integral) and not isinstance(target, bool)
    if whole and 0 <= int(cast("int", target)) < len(names):
        return int(cast("int", target))
    shown = ", ".join(repr(name) for name in names[:8])
    hint = nearest(target, names) if isinstance(target, str) else None
    advice = f"Did you mean {hint!r}?" if hint else f"Pass an index below {len(names)} or a name"
    expected = f"target to be one of the {len(names)} outputs ({shown})"
    raise InvalidValueError(message(call, expected, repr(target), advice))
