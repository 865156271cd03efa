"""Random points at which metrics evaluate the output, kept inside the grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kanlens.model._analysis import BUDGET

Function = Callable[[Tensor], Tensor]
Outside = Callable[[Tensor], Tensor]
Law = Callable[[tuple[int, ...], torch.Generator], Tensor]

REDRAWS = 20  # of values that fell outside the grid
HALVINGS = 50  # of the way from a point inside the grid to one outside
BASES = 16  # numbers that an input takes inside a layer, about


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers between -1 and 1 in float64."""
    device = generator.device
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64, device=device) - 1


def subsets(n_in: int, size: int, draws: int, generator: torch.Generator) -> Tensor:
    """Return subsets (subset, in) of one size: all if at most `draws`, else random ones."""
    if math.comb(n_in, size) <= draws:
        chosen = torch.tensor(list(itertools.combinations(range(n_in), size)), dtype=torch.long)
    else:
        keys = uniform((draws, n_in), generator).cpu()
        chosen = keys.argsort(1)[:, :size]
    masks = torch.zeros(len(chosen), n_in, dtype=torch.bool)
    return masks.scatter_(1, chosen.reshape(len(chosen), size), True)


def displaced(
    x: Tensor,
    scale: Tensor,
    draws: int,
    generator: torch.Generator,
    *,
    outside: Outside | None = None,
    law: Law = normal,
) -> Tensor:
    """Move every value of x at random, by `scale` (in,), inside the grid: (draws, batch, in)."""
    shape = (draws, *x.shape)
    moved = x + law(shape, generator).to(x) * scale
    if outside is None:
        return moved
    for _ in range(REDRAWS):
        off = outside(moved.flatten(0, 1)).reshape(shape)
        if not bool(off.any()):
            return moved
        moved = torch.where(off, x + law(shape, generator).to(x) * scale, moved)
    return brought_inside(x.expand(shape), moved, outside)


def brought_inside(start: Tensor, end: Tensor, outside: Outside) -> Tensor:
    """Clip `end` to the grid along the segment from `start`; return `start` if it is outside."""
    width = start.shape[-1]

    def off(points: Tensor) -> Tensor:
        return outside(points.reshape(-1, width)).reshape(points.shape)

    beyond = off(end)
    low, high = torch.zeros_like(end), torch.ones_like(end)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        bad = off(start + middle * (end - start))
        low, high = torch.where(bad, low, middle), torch.where(bad, middle, high)
    edge = torch.where(off(start), start, start + low * (end - start))
    return torch.where(beyond, edge, end)


def inside_rows(rows: Tensor, x: Tensor, outside: Outside | None) -> Tensor:
    """Return the rows inside the grid; if there are none, all of them, clipped toward rows or x."""
    if outside is None:
        return rows
    off = outside(rows)
    whole = ~off.any(1)
    if bool(whole.any()):
        return rows[whole]
    pool = torch.cat([rows, x])
    first = (~outside(pool)).to(pool).argmax(0)  # of every column, the first value inside
    start = pool.gather(0, first[None]).expand_as(rows)
    possible = (~outside(pool)).any(0)  # else no inside is known
    return torch.where(possible, brought_inside(start, rows, outside), rows)


def slices(count: int, numbers: int) -> Iterator[slice]:
    """Split `count` samples into parts that fit the budget, with `numbers` of memory per sample."""
    step = max(1, BUDGET // max(1, numbers))
    for start in range(0, count, step):
        yield slice(start, start + step)


def evaluated(output: Function, points: Tensor) -> Tensor:
    """Return the output at points (..., in), in parts that fit the budget; shape (...)."""
    flat = points.reshape(-1, points.shape[-1])
    at_once = max(1, BUDGET // (BASES * max(1, points.shape[-1])))
    return torch.cat([output(part) for part in flat.split(at_once)]).reshape(points.shape[:-1])


def without(output: Function, x: Tensor, masks: Tensor, references: Tensor) -> Tensor:
    """Return the mean output (batch, mask) with the features of masks replaced."""
    masks = masks.to(x.device).expand(len(x), *masks.shape[-2:])
    total = x.new_zeros(masks.shape[:2])
    numbers = BASES * masks.shape[1] * x.shape[1]  # for a sample and a reference
    for part in slices(len(x), numbers * len(references)):
        for there in slices(len(references), numbers):
            chosen, rows = masks[part][:, :, None], references[there]
            mixed = torch.where(chosen, rows, x[part][:, None, None])  # (batch, mask, rows, in)
            total[part] += evaluated(output, mixed).sum(-1)
    return total / len(references)
