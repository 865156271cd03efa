"""Which rows a formula is fitted to, which choose it among others, and which only judge it.

A formula that was fitted to some rows may break down on others, so that others choose; and those
that chose are flattered by the choice, so that a third part takes no share in either [1]_.

References
----------
.. [1] T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2009,
   section 7.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CHOOSING, JUDGING = 0.2, 0.1  # shares of the rows
MOST = 2000  # rows that formulas are fitted to
FEW = 20  # rows below which all are fitted to
SUFFICIENT = 1000  # rows from which on some only judge
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly


class Partition(NamedTuple):
    """Indices of rows, each of one part."""

    fitted: Tensor  # (row,)
    choosing: Tensor
    judging: Tensor


def partition(rows: int, generator: torch.Generator | None, *, judging: bool = True) -> Partition:
    """Split rows into those that fit, choose and judge a formula.

    Parameters
    ----------
    rows : int
        With fewer than 20 all are fitted to; with fewer than 1000 none only judge.
    generator : torch.Generator or None
        Draws the parts; None spreads them evenly.
    judging : bool
        Whether some rows are to judge; there may be others for it.

    Returns
    -------
    Partition

    Examples
    --------
    >>> [len(part) for part in partition(1000, None)]
    [700, 200, 100]
    >>> [len(part) for part in partition(100, None)]
    [80, 20, 0]
    """
    if generator is None:
        order = (torch.arange(rows, dtype=torch.float64) * _GOLDEN % 1.0).argsort()
    else:
        order = torch.randperm(rows, generator=generator)
    choose = round(CHOOSING * rows) if rows >= FEW else 0
    judge = round(JUDGING * rows) if judging and rows >= SUFFICIENT else 0
    parts = order.split([choose, judge, rows - choose - judge])
    first, second, rest = (part.sort().values for part in parts)
    return Partition(fitted=rest, choosing=first, judging=second)


def thinned(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Choose rows: all when they are few, else some, with the ends of every feature among them.

    Parameters
    ----------
    x : Tensor, shape (batch, in)
    generator : torch.Generator or None
        Draws them; None spreads them evenly.

    Returns
    -------
    Tensor of int, shape (row,)

    Examples
    --------
    >>> len(thinned(torch.rand(9000, 1), None)) <= 2002
    True
    """
    rows = len(x)
    if rows <= MOST:
        return torch.arange(rows)
    if generator is not None:
        some = torch.randperm(rows, generator=generator)[:MOST]
    else:
        some = torch.linspace(0, rows - 1, MOST).round().long()
    places: Tensor = torch.cat((x.argmin(0), x.argmax(0), some)).unique()
    return places


def places_of(
    x: Tensor, generator: torch.Generator | None, *, split: bool = True, judging: bool = True
) -> Partition:
    """Return the rows of each part when no more than 2000 are fitted to; the others choose too.

    Parameters
    ----------
    x : Tensor, shape (batch, in)
    generator : torch.Generator or None
    split : bool
        Whether rows are set aside; there may be others that choose.
    judging : bool
        As for `partition`.

    Returns
    -------
    Partition

    Examples
    --------
    >>> fitted, choosing, judging = places_of(torch.rand(9000, 1), None)
    >>> len(fitted) <= 2002, len(judging), len(fitted) + len(choosing) + len(judging)
    (True, 900, 9000)
    """
    if not split:
        none = torch.arange(0)
        return Partition(thinned(x, generator), none, none)
    parts = partition(len(x), generator, judging=judging)
    fitted = parts.fitted[thinned(x[parts.fitted], generator)]
    left = torch.ones(len(x), dtype=torch.bool)
    left[torch.cat((fitted, parts.judging))] = False
    return Partition(fitted, left.nonzero()[:, 0], parts.judging)
