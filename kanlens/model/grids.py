"""Where the breakpoints of a grid go: adapted to data, or more of them."""

from __future__ import annotations

import torch
from torch import Tensor

COLLAPSED = 1e-2  # spacing, as a share of the even one, below which quantiles are repeated


def adapted(
    x: Tensor,  # (batch, in)
    old: Tensor,  # (in, G + 1)
    *,
    eps: float,
    margin: float,
) -> Tensor:  # (in, G + 1)
    """Place breakpoints at quantiles of the data, mixed with even spacing.

    Where quantiles repeat (many equal values, few distinct ones) the quantiles of the distinct
    values take their place. A column whose finite values do not differ by more than rounding keeps
    its `old` breakpoints, even where it lies beyond them: a grid stretched to reach it could not
    hold the functions.
    """
    rows = [_column(x[:, i], old[i], eps, margin) for i in range(x.shape[1])]
    return torch.stack(rows).to(old)


def _column(x: Tensor, old: Tensor, eps: float, margin: float) -> Tensor:
    values, cuts = x[torch.isfinite(x)].double().cpu(), old.double().cpu()
    distinct = values.unique()
    grid_size = len(cuts) - 1
    if not len(distinct):
        return cuts
    span = float(distinct[-1] - distinct[0])
    if span <= _resolution(distinct, cuts, torch.finfo(old.dtype).eps):
        return cuts
    places = torch.linspace(0, 1, grid_size + 1, dtype=torch.float64)
    first, last = float(distinct[0]) - margin * span, float(distinct[-1]) + margin * span
    even = first + (last - first) * places
    cuts = _quantiles(values, places)
    if float(cuts.diff().min()) < COLLAPSED * span / grid_size:
        cuts = _quantiles(distinct, places)
    cuts[0], cuts[-1] = first, last
    share = eps if float(cuts.diff().min()) >= COLLAPSED * span / grid_size else max(eps, 0.1)
    return share * even + (1 - share) * cuts


def _resolution(values: Tensor, cuts: Tensor, eps: float) -> float:
    """Return the span at which values differ by rounding alone, or breakpoints would coincide."""
    noise = 64 * eps * float(cuts.abs().max())
    return max(noise, 2 * eps / COLLAPSED * (len(cuts) - 1) * float(values.abs().max()))


def _quantiles(values: Tensor, places: Tensor) -> Tensor:
    """Return quantiles by linear interpolation; torch.quantile refuses over 16 million values."""
    ordered = values.sort().values
    position = places * (len(ordered) - 1)
    left = position.floor().long().clamp(max=len(ordered) - 1)
    right = (left + 1).clamp(max=len(ordered) - 1)
    return ordered[left] + (position - left) * (ordered[right] - ordered[left])


def resized(cuts: Tensor, grid_size: int) -> Tensor:  # (in, G + 1) -> (in, grid_size + 1)
    """Return a grid of another size; a finer one keeps every old breakpoint."""
    old_size = cuts.shape[1] - 1
    if grid_size < old_size:
        position = torch.linspace(0, old_size, grid_size + 1, dtype=torch.float64).to(cuts)
        left = position.floor().long().clamp(max=old_size - 1)
        return cuts[:, left] + (position - left) * (cuts[:, left + 1] - cuts[:, left])
    pieces = [grid_size // old_size + (i < grid_size % old_size) for i in range(old_size)]
    columns = [
        cuts[:, i] + (cuts[:, i + 1] - cuts[:, i]) * j / count
        for i, count in enumerate(pieces)
        for j in range(count)
    ]
    return torch.stack([*columns, cuts[:, -1]], dim=1)
