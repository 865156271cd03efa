"""What a user passes to `discover`, checked, scaled and split."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.checks import check_finite, message
from kanlens.data.cell_parsing import as_tensor
from kanlens.deadlines import ending
from kanlens.discovery.entries import EXACT
from kanlens.discovery.outliers import distant_rows, wrong_beside, wrong_rows
from kanlens.discovery.regression import Array
from kanlens.discovery.scales import Scale, resolved, step
from kanlens.errors import ShapeError
from kanlens.symbolic.composition import Expr

CALL = "discover"
_MOST_ROWS = 2000
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly
_HELD_OUT = 0.3
EXACT_SINGLE = 1e-12
_FEW = 4  # rows with which nothing can be held out
_MANY = 200  # rows beyond those of the search that choose and judge
_SAME = 1e-8  # distance of columns of unit length, up to which they are one
_SINGLE = 2.0**29  # steps of rounding of double precision in one of single precision
_ROUGHEST = 1e-9  # squared error from which rounding is as any noise


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
    scales : tuple of Scale
        How the search sees each column.
    y_scale : Scale
        How it sees y.
    held_out : ndarray of bool, shape (row,)
        Rows that judge; all rows where they are few.
    choosing, judging : tuple of ndarray
        Further x and y, that the search does not see: of 200 or more rows beyond 2000 half choose
        what it found, half choose nothing.
    aside : tuple of ndarray, shapes (other row, feature) and (other row,)
        Rows that were set aside, as wrong for all that the others tell.
    """

    x: Array
    y: Array
    feature_names: tuple[str, ...]
    output_name: str
    useful: tuple[int, ...]
    scales: tuple[Scale, ...]
    y_scale: Scale
    held_out: Array
    choosing: tuple[Array, Array]
    judging: tuple[Array, Array]
    aside: tuple[Array, Array]

    def without(self, rows: Array) -> Sample:
        """Set rows aside."""
        return dataclasses.replace(
            self,
            x=self.x[~rows],
            y=self.y[~rows],
            held_out=self.held_out[~rows],
            aside=_joined(self.aside, (self.x[rows], self.y[rows])),
        )

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
        none = self.judging[0][:0], self.judging[1][:0]
        every = _joined(self.choosing, self.judging)
        return dataclasses.replace(self, choosing=every, judging=none)

    def scaled(self) -> tuple[Array, Array]:
        """Return the useful columns and y as the search sees them."""
        columns = [self.scales[i].scaled(self.x[:, i]) for i in self.useful]
        return np.stack(columns, axis=1), self.y_scale.scaled(self.y)

    @property
    def moved(self) -> bool:
        """Whether the search sees anything in other units than those of the data."""
        return any(scale.moved for scale in (*self.scales, self.y_scale))

    @property
    def rounding(self) -> float:
        """Relative squared error that is rounding: of y, and of the columns as far as it shows."""
        single = bool((self.y.astype(np.float32) == self.y).all())
        return max(
            EXACT_SINGLE if single else EXACT,
            min(_rounding_of(self.y, _SINGLE if single else 1.0), _ROUGHEST),
            *(min(_rounding_of(self.x[:, i]), _ROUGHEST) for i in self.useful),
        )

    def in_units(self, expression: Expr) -> Expr:
        """Write a formula of scaled columns in the units of the data, but for the origins."""
        back = {
            s: s / sympy.Integer(10) ** scale.power
            for s, scale in zip(self.symbols, self.scales, strict=True)
            if scale.power
        }
        return expression.xreplace(back) * sympy.Integer(10) ** self.y_scale.power

    def from_zero(self) -> tuple[Array, Array]:
        """Return all columns and y in the units of the data, but for the origins."""
        shifts = np.array([float(scale.shift) for scale in self.scales])
        return self.x - shifts, self.y - float(self.y_scale.shift)

    def from_origin(self, expression: Expr) -> Expr:
        """Put the origins of columns and y back into a formula."""
        back = {
            s: s - scale.shift
            for s, scale in zip(self.symbols, self.scales, strict=True)
            if scale.shift
        }
        return expression.xreplace(back) + self.y_scale.shift


def sample_of(
    x: Any,
    y: Any,
    feature_names: Iterable[str] | None,
    generator: torch.Generator | None,
    *,
    seconds: float = math.inf,
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
    seconds : float
        After which no more wrong rows are looked for.

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
    more, columns = (columns[unseen], target[unseen]), columns[pick]
    target, useful = target[pick], _useful(columns)
    wrong, more_wrong = (distant_rows(columns, some) for some in (columns, more[0]))
    with ending(time.monotonic() + seconds):
        wrong[~wrong] = wrong_rows(columns[~wrong][:, useful], target[~wrong])
        sound = columns[~wrong][:, useful], target[~wrong]
        near = ~more_wrong
        more_wrong[near] = wrong_beside(*sound, more[0][near][:, useful], more[1][near])
    aside = columns[wrong], target[wrong]
    columns, target, held_out = columns[~wrong], target[~wrong], held_out[~wrong]
    aside = _joined(aside, (more[0][more_wrong], more[1][more_wrong]))
    more = more[0][~more_wrong], more[1][~more_wrong]
    choosing, judging = ((more[0][k::2], more[1][k::2]) for k in range(2))
    return Sample(
        x=columns,
        y=target,
        feature_names=tuple(names),
        output_name=str(getattr(y, "name", None) or "y"),
        useful=useful,
        scales=tuple(Scale.of(c) for c in columns.T),
        y_scale=Scale.of(target),
        held_out=held_out,
        choosing=choosing,
        judging=judging,
        aside=aside,
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
    """Return the columns that vary and are no multiple, plus a number, of one before them."""
    found: list[int] = []
    even: list[Array] = []
    for i, column in enumerate(columns.T):
        if resolved(column):
            size = np.abs(column).max()
            own = column / size - (column / size).mean()
            own = own / np.sqrt(own @ own)
            if all(np.abs(own - np.sign(own @ e) * e).max() > _SAME for e in even):
                found.append(i)
                even.append(own)
    return tuple(found)


def _joined(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the rows of two tables with their targets."""
    return np.concatenate((one[0], two[0])), np.concatenate((one[1], two[1]))


def _rounding_of(values: Array, times: float = 1.0) -> float:
    """Return the relative squared error that rounding of values makes, some room included."""
    spread = float(np.std(values / np.abs(values).max())) * float(np.abs(values).max())
    return (times * step(values) / spread) ** 2 if spread else 0.0
