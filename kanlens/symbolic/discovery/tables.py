"""What a user passes to `discover`, checked, scaled and split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.checks import check_finite, message
from kanlens.core.rows import as_tensor
from kanlens.errors import ShapeError
from kanlens.symbolic.composition import Expr
from kanlens.symbolic.discovery.front import EXACT
from kanlens.symbolic.discovery.regression import Array
from kanlens.symbolic.discovery.splines import varies

CALL = "discover"
_MOST_ROWS = 2000
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly
_HELD_OUT = 0.3
EXACT_SINGLE = 1e-12
_FEW = 4  # rows with which nothing can be held out
_MANY = 200  # rows beyond those of the search that choose and judge
_SOUND = (1e-3, 1e4)  # largest sizes of a column that are left as they are


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Rows to find a formula for.

    Attributes
    ----------
    x : ndarray, shape (row, feature)
        In the units of the data.
    y : ndarray, shape (row,)
    feature_names : tuple of str
    output_name : str
    useful : tuple of int
        The columns that vary and repeat no other.
    powers : tuple of int
        Column i is divided by ten to this power before the search.
    y_power : int
        Likewise for y.
    held_out : ndarray of bool, shape (row,)
        Rows that judge; all rows where they are few.
    choosing, judging : tuple of ndarray
        Further x and y, that the search does not see: of 200 or more rows beyond 2000 half choose
        what it found, half choose nothing.
    """

    x: Array
    y: Array
    feature_names: tuple[str, ...]
    output_name: str
    useful: tuple[int, ...]
    powers: tuple[int, ...]
    y_power: int
    held_out: Array
    choosing: tuple[Array, Array]
    judging: tuple[Array, Array]

    @property
    def symbols(self) -> tuple[Expr, ...]:
        """One real symbol per feature."""
        return tuple(sympy.Symbol(name, real=True) for name in self.feature_names)

    @property
    def judged(self) -> tuple[Array, Array, Array | None, bool]:
        """X and y to judge a formula by, the rows it was fitted to, and whether these chose it."""
        if len(self.judging[1]):
            return (*self.judging, self.x, False)
        if len(self.choosing[1]):
            return (*self.choosing, self.x, True)
        if not self.held_out.any():
            return self.x, self.y, None, False
        return self.x[self.held_out], self.y[self.held_out], self.x[~self.held_out], True

    def all_choosing(self) -> Sample:
        """Return the same rows when those that judge choose too."""
        x, y = (np.concatenate(each) for each in zip(self.choosing, self.judging, strict=True))
        none = self.judging[0][:0], self.judging[1][:0]
        return dataclasses.replace(self, choosing=(x, y), judging=none)

    def scaled(self) -> tuple[Array, Array]:
        """Return the useful columns and y as the search sees them."""
        columns = [self.x[:, i] / 10.0 ** self.powers[i] for i in self.useful]
        return np.stack(columns, axis=1), self.y / 10.0**self.y_power

    @property
    def moved(self) -> bool:
        """Whether the search sees anything in other units than those of the data."""
        return any((*self.powers, self.y_power))

    @property
    def rounding(self) -> float:
        """Relative squared error that is rounding: larger where y has single precision."""
        single = bool((self.y.astype(np.float32) == self.y).all())
        return EXACT_SINGLE if single else EXACT

    def in_units(self, expression: Expr) -> Expr:
        """Write a formula of scaled columns in the units of the data."""
        back = {
            s: s / sympy.Integer(10) ** p
            for s, p in zip(self.symbols, self.powers, strict=True)
            if p
        }
        return expression.xreplace(back) * sympy.Integer(10) ** self.y_power


def sample_of(
    x: Any, y: Any, feature_names: Iterable[str] | None, generator: torch.Generator | None
) -> Sample:
    """Check a table and its target.

    Parameters
    ----------
    x, y : Tensor, ndarray, DataFrame or nested list
        (row, feature) and (row,) or (row, 1); x may be (row,) for one feature.
    feature_names : iterable of str, optional
        Default: the names of the columns, or x1, x2, ...
    generator : torch.Generator, optional
        Draws the rows that are used and held out; else these are spread evenly.

    Returns
    -------
    Sample

    Raises
    ------
    ShapeError, DTypeError, DataError
        If x and y are no table and target of finite numbers.
    """
    names = list(feature_names) if feature_names is not None else _column_names(x)
    columns, target = as_array(x, "x"), as_array(y, "y")
    if columns.ndim == 1:
        columns = columns[:, None]
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    _check_shapes(columns, target)
    names = names or [f"x{i + 1}" for i in range(columns.shape[1])]
    _check_names(names, columns.shape[1])
    check_finite(CALL, torch.from_numpy(columns), names)
    check_finite(CALL, torch.from_numpy(target))
    pick, held_out = _rows(len(columns), generator)
    unseen = np.setdiff1d(np.arange(len(columns)), pick)
    unseen = unseen[: len(unseen) * (len(unseen) >= _MANY)]
    choosing, judging = ((columns[k], target[k]) for k in (unseen[::2], unseen[1::2]))
    columns, target = columns[pick], target[pick]
    return Sample(
        x=columns,
        y=target,
        feature_names=tuple(names),
        output_name=str(getattr(y, "name", None) or "y"),
        useful=_useful(columns),
        powers=tuple(_power(c) for c in columns.T),
        y_power=_power(target),
        held_out=held_out,
        choosing=choosing,
        judging=judging,
    )


def as_array(values: Any, what: str) -> Array:
    """Return numbers of any kind as a float64 array.

    Raises
    ------
    DTypeError
        If they are no numbers.

    Examples
    --------
    >>> as_array([1, 2], "x")
    array([1., 2.])
    """
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    tensor = as_tensor(values, f"{CALL} ({what})" if what != "x" else CALL)
    return np.array(tensor.detach().cpu().double().numpy())


def _column_names(x: Any) -> list[str]:
    return [str(name) for name in x.columns] if hasattr(x, "columns") else []


def _check_shapes(columns: Array, target: Array) -> None:
    if columns.ndim != 2 or columns.shape[1] == 0:
        expected = "x of shape (row, feature)"
        raise ShapeError(message(CALL, expected, str(columns.shape), "Pass a table"))
    if target.ndim != 1 or len(target) != len(columns):
        expected = f"y of shape ({len(columns)},)"
        raise ShapeError(message(CALL, expected, str(target.shape), "Pass one target per row"))
    if len(columns) < 2:
        raise ShapeError(message(CALL, "at least 2 rows", str(len(columns)), "Pass more data"))


def _check_names(names: list[str], width: int) -> None:
    if len(names) != width or len(set(names)) != width:
        expected = f"{width} different feature_names"
        raise ShapeError(message(CALL, expected, ", ".join(names), "Name every column of x once"))


def _rows(count: int, generator: torch.Generator | None) -> tuple[Array, Array]:
    """Choose rows, and those of them that are held out."""
    if generator is None:
        pick = np.linspace(0, count - 1, min(count, _MOST_ROWS)).round().astype(int)
        order = np.argsort(np.arange(len(pick)) * _GOLDEN % 1.0, kind="stable")
    else:
        pick = torch.randperm(count, generator=generator)[:_MOST_ROWS].numpy()
        order = np.arange(len(pick))
    held_out = np.zeros(len(pick), dtype=bool)
    held_out[order[: max(1, round(_HELD_OUT * len(pick)))]] = True
    if len(pick) <= _FEW:
        held_out[:] = False
    return pick, held_out


def _useful(columns: Array) -> tuple[int, ...]:
    """Return the columns that vary and repeat no column before them."""
    found: list[int] = []
    for i, column in enumerate(columns.T):
        if varies(column) and not any(np.array_equal(column, columns[:, j]) for j in found):
            found.append(i)
    return tuple(found)


def _power(values: Array) -> int:
    """Return the power of ten that a column is divided by: 0 where its size is sound."""
    size = float(np.abs(values).max())
    if size == 0 or _SOUND[0] <= size <= _SOUND[1]:
        return 0
    return round(math.log10(size))
