"""Groups of rows that folds must not separate: copies, and rows with the same group label.

Rows are sorted by a weighted sum of their columns, so that copies are neighbors, and compared.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import pd
from kanlens.data._cell_parsing import Array
from kanlens.errors import DataError, InvalidValueError, ShapeError

COPY_TOLERANCE = 1e-5  # of the range of a column: rounding, and noise of 1e-6 of it
# largest range of a column, as a multiple of the range of its middle 90 %
MAX_RANGE_RATIO = 20.0
# times `COPY_TOLERANCE`: largest diameter of a group of near copies
MAX_DIAMETER = 3.0
LAGS = 200  # neighbors that a row is compared with
SAMPLE = 20_000  # rows that quantiles are taken from
AGREE = 0.8  # least agreement beyond chance of the targets of equal x for these to be copies
CHANCE_FACTOR = 10  # least agreement of copies, times chance; rows per distinct x in a coarse table


def row_groups(x: Tensor, y: Tensor | None = None, labels: Any = None, *, call: str) -> Tensor:
    """Return the group (batch,) of every row of x (batch, in), counted from 0.

    One group has copies (equal x and targets y), rows with equal `labels`, and rows with equal x
    but different classes. Rows that are equal by chance are grouped by labels only.
    """
    columns = x.detach().cpu().double().numpy()
    targets = columns[:, :0] if y is None else y.detach().cpu().double().numpy()
    codes = _copies(np.column_stack((targets, columns)))
    if len(np.unique(codes)) < len(codes):
        classes = y is not None and not y.is_floating_point()
        codes = _without_chance(codes, columns, targets, classes)
    if labels is not None:
        count = len(columns)
        marks = _label_codes(labels, count, call)
        codes = _connected(codes, marks + count, count + int(marks.max()) + 1)[codes]
        if (codes == codes[0]).all():
            advice = "Leave groups out, or name another column"
            raise InvalidValueError(call, "at least two groups", "one", advice)
    codes = np.unique(codes, return_inverse=True)[1].ravel()
    return torch.from_numpy(codes if codes.any() else np.arange(len(codes)))


def all_single(groups: Tensor) -> bool:
    """Return whether every row is a group of its own."""
    return int(groups.max()) + 1 == len(groups)


def split_groups(order: Tensor, groups: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Split the row indices in a random `order` into parts of about `counts` rows, and the rest."""
    if all_single(groups):
        return list(order.split([*counts, len(order) - sum(counts)]))
    codes = groups[order].numpy()
    sizes, first = np.bincount(codes), np.unique(codes, return_index=True)[1]
    large = np.where(sizes > min(filter(None, counts), default=0), sizes, 0)
    drawn = np.lexsort((first, large))  # groups larger than a part come last
    ends, cuts = np.concatenate(([0], np.cumsum(sizes[drawn]))), [0]
    for count, end in zip(counts, np.cumsum(counts), strict=True):
        nearest = int(np.abs(ends - end).argmin())
        cuts.append(min(max(nearest, cuts[-1] + 1), len(sizes) - 1) if count else cuts[-1])
    part = np.empty(len(sizes), dtype=np.int64)
    part[drawn] = np.searchsorted(cuts[1:], np.arange(len(sizes)), side="right")
    return [order[torch.from_numpy(part[codes] == index)] for index in range(len(cuts))]


def deal_groups(order: Tensor, groups: Tensor, folds: int) -> Tensor:
    """Return the fold (batch,) of each row; larger groups are dealt first."""
    if all_single(groups):
        return (torch.arange(len(order)) % folds)[order.argsort()]
    codes = groups[order].numpy()
    sizes = np.bincount(codes)
    middle = np.bincount(codes, np.arange(len(codes))) / sizes
    fold, totals = np.empty(len(sizes), dtype=np.int64), [(0, index) for index in range(folds)]
    for group in np.lexsort((middle, -sizes)):
        total, fold[group] = totals[0]
        heapq.heapreplace(totals, (total + int(sizes[group]), int(fold[group])))
    return torch.from_numpy(fold)[groups]


def _copies(rows: Array) -> Array:
    """Return codes of rows (batch, columns), equal for copies."""
    low, high = np.quantile(rows[:: 1 + len(rows) // SAMPLE], (0.05, 0.95), axis=0)
    span = np.ptp(rows, axis=0)
    span = np.where(high > low, np.minimum(span, MAX_RANGE_RATIO * (high - low)), span)
    with np.errstate(over="ignore", invalid="ignore"):  # of cells that are not finite
        rows = rows[:, span > 0] / span[span > 0]
        weights = np.random.default_rng(0).uniform(0.5, 1.5, rows.shape[1])
        keys = np.zeros(len(rows))
        for column, weight in zip(rows.T, weights, strict=True):
            keys += column * weight  # in a fixed order: equal rows get equal keys
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        new = np.concatenate(([True], (rows[1:] != rows[:-1]).any(1)))
        near = _near_copies(rows[new], keys[new], COPY_TOLERANCE * weights.sum())
    codes = np.empty(len(rows), dtype=np.int64)
    codes[order] = near[np.cumsum(new) - 1]
    return codes


def _near_copies(rows: Array, keys: Array, window: float) -> Array:
    """Return for each row the index of its first near copy, among rows sorted by keys."""
    own, links = np.arange(len(keys)), [np.empty((2, 0), dtype=np.int64)]
    left = own
    for lag in range(1, LAGS):
        left = left[: np.searchsorted(left, len(keys) - lag)]
        left = left[keys[left + lag] - keys[left] <= window]
        if not len(left):
            break
        close = left
        for column in rows.T:
            close = close[np.abs(column[close + lag] - column[close]) <= COPY_TOLERANCE]
        links.append(np.stack((close, close + lag)))
    pairs = np.concatenate(links, axis=1)
    if not pairs.size:
        return own
    joined = _connected(pairs[0], pairs[1], len(keys))
    first = np.unique(joined, return_index=True)[1][joined]
    later = np.flatnonzero(first != own)
    gaps = np.abs(rows[later] - rows[first[later]])
    far = (gaps > MAX_DIAMETER * COPY_TOLERANCE).any(1)  # links of a chain
    first[later[far]] = later[far]
    return first


def _connected(left: Array, right: Array, count: int) -> Array:
    """Return the connected component of each node; edges join `left` and `right`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)


def _without_chance(codes: Array, columns: Array, targets: Array, classes: bool) -> Array:
    """Return codes of copies; rows that are equal by chance get codes of their own.

    Equality is by chance if rows of equal x have different targets, unless the whole table is
    repeated, or if many rows have few distinct x, although no column distinguishes all of these.
    """
    equal = _copies(columns)
    cells = len(np.unique(equal))
    alike = _equal_pairs(codes) / _equal_pairs(equal)
    chance = _equal_pairs(_copies(targets)) if targets.size else 0.0
    noisy = alike - chance < AGREE * (1 - chance) and (classes or alike < CHANCE_FACTOR * chance)
    noisy = noisy and np.gcd.reduce(np.unique(codes, return_counts=True)[1]) == 1
    few = len(codes) > CHANCE_FACTOR * cells
    if noisy or (few and all(len(np.unique(column)) < cells for column in columns.T)):
        return np.arange(len(codes))
    return equal if classes else codes


def _equal_pairs(codes: Array) -> float:
    """Return the share of pairs of rows that have equal codes."""
    counts = np.unique(codes, return_counts=True)[1].astype(float)
    return float((counts * (counts - 1)).sum() / (len(codes) * (len(codes) - 1.0)))


def _label_codes(labels: Any, rows: int, call: str) -> Array:
    """Return codes of the labels of rows."""
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.shape != (rows,):
        got = f"shape {values.shape}"
        raise ShapeError(call, f"groups of shape ({rows},)", got, "Give each row a label")
    codes = np.asarray(pd.factorize(values)[0], dtype=np.int64)
    if (codes < 0).any():
        got = f"an empty cell in row {int(codes.argmin())}"
        raise DataError(call, "a group for every row", got, "Fill it")
    return codes
