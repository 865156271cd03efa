"""Checks, split and scaling of a table: origin and unit of every column."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import sympy
import torch

from kanlens._checks import check_finite
from kanlens._runtime import ending
from kanlens.data._cell_parsing import Column, as_tensor, listed, parse_numbers
from kanlens.data._groups import row_groups, split_groups
from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, ErrorScale, relative_error, solve, spread_rows
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._smoothness import (
    distant_rows,
    even,
    loo_error,
    other_outliers,
    outlier_rows,
)
from kanlens.errors import DTypeError, KanlensWarning, ShapeError
from kanlens.model._network import Rows, Targets
from kanlens.symbolic._composition import Expr

CALL = "discover"
_ZERO, _TEN = sympy.Integer(0), sympy.Integer(10)
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly


@dataclass(frozen=True)
class Scale:
    """Scaling of a column by a round shift and a power of ten."""

    shift: Expr = _ZERO  # 0 unless the values are far from zero, relative to their spread
    power: int = 0  # 0 unless the shifted values are very large or small
    distance: float = 0.0  # from zero to the middle of the values, over their spread

    @classmethod
    def of(cls, values: Array) -> Scale:
        """Choose the scale of a column."""
        quantiles = (tuned.CORE[0], 0.5, tuned.CORE[1])
        low, middle, high = np.quantile(values, quantiles, method="nearest")
        spread = float(high / 2 - low / 2) or float(values.max() / 2 - values.min() / 2)
        distance = abs(float(middle)) / spread if spread else 0.0
        shift = _ZERO
        if distance > tuned.RECENTER_DISTANCE:  # the nearest multiple of a power of ten
            power = math.ceil(math.log10(spread))
            shift = round(float(middle) / 10.0**power) * _TEN**power
        size = float(np.abs(values - float(shift)).max())
        low, high = tuned.SOUND_SIZES
        sound = size == 0 or low <= size <= high
        return cls(shift, 0 if sound else round(math.log10(size)), distance)

    @property
    def moved(self) -> bool:
        """True if the scale changes anything."""
        return bool(self.shift) or self.power != 0

    @property
    def origin(self) -> Expr:
        """Position of zero on the scale; 0 if that is too far away to matter."""
        return _ZERO if self.distance > tuned.DIGITS_LOST else self.shift / _TEN**self.power

    def scaled(self, values: Array) -> Array:
        """Return the scaled values."""
        return (values - float(self.shift)) / 10.0**self.power


def resolved(values: Array) -> bool:
    """Return whether values differ by more than rounding."""
    return bool(values.max() - values.min() > tuned.ROUNDING_STEPS * rounding_step(values))


def rounding_step(values: Array) -> float:
    """Return the spacing of floats at the largest size of values."""
    return float(np.spacing(np.abs(values).max()))


def shortest(value: float, room: float) -> Expr:
    """Return the number with the fewest decimals within a distance of a value."""
    rounded = (round(value, digits) for digits in range(tuned.DECIMALS))
    return number(next((short for short in rounded if abs(short - value) <= room), value))


def number(value: float) -> Expr:
    """Return an Integer for whole numbers below 1e18 in size, else a Float."""
    whole = value.is_integer() and abs(value) < 1e18
    return sympy.Integer(int(value)) if whole else sympy.Float(value)


def _apart(u: Expr) -> Expr:
    """Return log(u), split into log(u / c) + log(c) if a factor c is very large or small."""
    factor, rest = u.as_coeff_Mul()
    usual = 1 / tuned.LARGEST_FACTOR < factor < tuned.LARGEST_FACTOR
    if not factor.is_Float or factor <= 0 or usual:
        return sympy.log(u)
    return sympy.log(rest) + sympy.Float(math.log(factor))


_Rows = tuple[Array, Array]  # (row, feature) and (row,)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledTable:
    """Rows of a table in the units of the data, with the scales of the search."""

    x: Array  # (row, feature)
    y: Array  # (row,)
    feature_names: tuple[str, ...]
    output_name: str
    useful: tuple[int, ...]  # columns that vary and are not affine functions of an earlier one
    scales: tuple[Scale, ...]
    y_scale: Scale
    held_out: Array  # bool (row,): validation rows; none if there are only a few rows
    choosing: _Rows  # half of the rows beyond 2000, if 200 or more: to choose a formula
    judging: _Rows  # the other half: test rows
    aside: _Rows  # outliers

    def without(self, rows: Array) -> ScaledTable:
        """Return the table without some rows, which are kept in `aside`."""
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
        """The x and y of the receipt, rows fitted to, and whether the formula was chosen on x."""
        if len(self.judging[1]):
            return (*self.judging, self.x, False)
        if len(self.choosing[1]):
            return (*self.choosing, self.x, True)
        if not self.held_out.any():
            return self.x, self.y, None, False
        return self.x[self.held_out], self.y[self.held_out], self.x[~self.held_out], True

    def all_choosing(self) -> ScaledTable:
        """Return the table with its test rows among the validation rows."""
        empty = self.judging[0][:0], self.judging[1][:0]
        rows = _joined(self.choosing, self.judging)
        return dataclasses.replace(self, choosing=rows, judging=empty)

    def scaled(self) -> SearchProblem:
        """Return the search problem of y and the useful columns, scaled."""
        columns = np.stack([self.scales[i].scaled(self.x[:, i]) for i in self.useful], axis=1)
        names = tuple(self.symbols[i] for i in self.useful)
        target, scale = self.y_scale.scaled(self.y), self.error_scale
        scale = ErrorScale(scale.unit / 10.0**self.y_scale.power)
        slope = 1 / np.hypot(1, target / scale.unit) if scale.unit else None
        return SearchProblem(columns, names, target, self.held_out, slope=slope, scale=scale)

    @cached_property
    def error_scale(self) -> ErrorScale:
        """The scale of errors of y, in its units."""
        return scale_of(self.x[:, self.useful], self.y)

    def from_both_zeros(self, problem: SearchProblem) -> list[SearchProblem]:
        """Return the problem, and the problem without shifts if any column is shifted."""
        zeros = [self.scales[i].origin for i in self.useful]
        above = self.y_scale.origin
        if not any((*zeros, above)):
            return [problem]
        unmoved = dataclasses.replace(
            problem,
            columns=problem.columns + np.array([float(zero) for zero in zeros]),
            names=tuple(name + zero for name, zero in zip(problem.names, zeros, strict=True)),
            target=problem.target + float(above),
            rebuild=lambda e: e - above,
        )
        return [problem, unmoved]

    @property
    def moved(self) -> bool:
        """True if the scales shift or rescale any column or y."""
        return any(scale.moved for scale in (*self.scales, self.y_scale))

    @property
    def rounding(self) -> float:
        """Relative squared error due to rounding of y, and of the columns up to a limit."""
        single = bool((self.y.astype(np.float32) == self.y).all())
        errors = [_rounding_of(self.y) * (tuned.SINGLE_STEPS**2 if single else 1.0)]
        errors += [_rounding_of(self.x[:, i]) for i in self.useful]
        least = tuned.EXACT_SINGLE if single else tuned.EXACT
        return max(least, *(min(error, tuned.ROUNDING_ERROR) for error in errors))

    def in_units(self, expression: Expr) -> Expr:
        """Undo the scaling of the columns and y in a formula, but not their shifts."""
        pairs = zip(self.symbols, self.scales, strict=True)
        back = {s: s / _TEN**scale.power for s, scale in pairs if scale.power}
        return expression.xreplace(back).replace(sympy.log, _apart) * _TEN**self.y_scale.power

    def in_common_units(self, expression: Expr) -> Expr:
        """Convert a formula to the units of the data if the columns have usual sizes."""
        powers = [scale.power for scale in (*self.scales, self.y_scale)]
        common = all(abs(power) <= tuned.COMMON_POWER for power in powers)
        return self.in_units(expression) if common else expression

    def from_origin(self, expression: Expr) -> Expr:
        """Add the origins of columns and y to a formula."""
        pairs = zip(self.symbols, self.scales, strict=True)
        back = {s: s - scale.shift for s, scale in pairs if scale.shift}
        return expression.xreplace(back) + self.y_scale.shift


def table_of(
    x: Rows,
    y: Targets,
    feature_names: Iterable[str] | None,
    generator: torch.Generator | None,
    *,
    seconds: float = math.inf,
) -> ScaledTable:
    """Check a table, choose rows, and remove outliers while there is time."""
    names, columns, target = _checked(x, y, feature_names)
    pick, held_out = _rows(columns, target, generator)
    unseen = np.setdiff1d(np.arange(len(columns)), pick)
    unseen = unseen[: len(unseen) * (len(unseen) >= tuned.MAX_UNSEEN_ROWS)]
    more, columns = (columns[unseen], target[unseen]), columns[pick]
    target, useful = target[pick], _useful(columns)
    wrong, more_wrong = (distant_rows(columns, some) for some in (columns, more[0]))
    with ending(time.monotonic() + seconds):
        wrong[~wrong] = outlier_rows(columns[~wrong][:, useful], target[~wrong])
        sound = columns[~wrong][:, useful], target[~wrong]
        near = ~more_wrong
        more_wrong[near] = other_outliers(*sound, more[0][near][:, useful], more[1][near])
    aside = columns[wrong], target[wrong]
    columns, target, held_out = columns[~wrong], target[~wrong], _telling(held_out, target, wrong)
    rest = more[0][~more_wrong], more[1][~more_wrong]
    choosing, judging = ((rest[0][k::2], rest[1][k::2]) for k in range(2))
    return ScaledTable(
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
        aside=_joined(aside, (more[0][more_wrong], more[1][more_wrong])),
    )


def _checked(x: Any, y: Any, feature_names: Iterable[str] | None) -> tuple[list[str], Array, Array]:
    """Return checked names, columns and target."""
    names = list(map(str, getattr(x, "columns", ())) if feature_names is None else feature_names)
    if hasattr(x, "iloc") and len(getattr(x, "columns", ())):
        numeric = numeric_columns(x, partial(warnings.warn, stacklevel=6))
        if len(names) == len(x.columns):
            names = [names[k] for k in numeric]
        x = np.column_stack([parse_numbers(x.iloc[:, k]) for k in numeric])
    columns, target = as_array(x, "x"), as_array(y, "y")
    if columns.ndim == 1:
        columns = columns[:, None]
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise ShapeError(CALL, "x of shape (row, feature)", str(columns.shape), "Pass columns")
    if target.ndim != 1 or len(target) != len(columns):
        expected = f"y of shape ({len(columns)},)"
        raise ShapeError(CALL, expected, str(target.shape), "Pass one target per row")
    if len(columns) < 2:
        raise ShapeError(CALL, "at least 2 rows", str(len(columns)), "Pass more data")
    width = columns.shape[1]
    names = names or [f"x{i + 1}" for i in range(width)]
    if len(names) != width or len(set(names)) != width:
        expected = f"{width} different feature_names"
        raise ShapeError(CALL, expected, ", ".join(names), "Name every column of x once")
    check_finite(CALL, torch.from_numpy(columns), names)
    check_finite(CALL, torch.from_numpy(target))
    return names, columns, target


def scale_of(columns: Array, target: Array) -> ErrorScale:
    """Return the scale of errors: logarithmic if the target is smoother on that scale."""
    wide = ErrorScale.of(target)
    if not wide.unit:
        return ErrorScale()
    level = min(tuned.HARDLY_SMOOTH, loo_error(columns, target))
    size, powers = wide(target), np.column_stack((np.ones(len(target)), even(columns)))
    power_law = relative_error(powers @ solve(powers, size), size)
    return wide if min(power_law, loo_error(columns, size)) < level else ErrorScale()


def numeric_columns(frame: Any, warn: Callable[[Warning], object]) -> list[int]:
    """Return the positions of numeric columns; warn about others."""
    left_out = {}
    for k, name in enumerate(map(str, frame.columns)):
        if Column(name=name, cells=frame.iloc[:, k], call=CALL).unreadable.any():
            left_out[k] = name
    if left_out:
        expected, got = "columns of numbers", f"text or dates in {listed(list(left_out.values()))}"
        if len(left_out) == len(frame.columns):
            raise DTypeError(CALL, expected, got, "Convert them to numbers")
        warn(KanlensWarning(CALL, expected, got, "They are left out"))
    return [k for k in range(len(frame.columns)) if k not in left_out]


def as_array(values: object, what: str) -> Array:
    """Return numbers of any kind as a float64 array, or raise a DTypeError."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    tensor = as_tensor(values, f"{CALL} ({what})" if what != "x" else CALL)
    return np.array(tensor.detach().cpu().double().numpy())


def _rows(columns: Array, target: Array, generator: torch.Generator | None) -> tuple[Array, Array]:
    """Return the indices of chosen rows, and the mask of held-out ones and their copies."""
    count = len(columns)
    if generator is None:
        pick = spread_rows(count, tuned.MAX_ROWS)
        order = np.argsort(np.arange(len(pick)) * _GOLDEN % 1.0, kind="stable")
    else:
        pick = torch.randperm(count, generator=generator)[: tuned.MAX_ROWS].numpy()
        order = np.arange(len(pick))
    held_out = np.zeros(len(pick), dtype=bool)
    rows = torch.from_numpy(columns[pick]), torch.from_numpy(target[pick][:, None])
    share = [max(1, round(tuned.HELD_OUT * len(pick)))]
    held_out[split_groups(torch.as_tensor(order), row_groups(*rows, call=CALL), share)[0]] = True
    if len(pick) <= tuned.NONE_HELD_OUT:
        held_out[:] = False
    return pick, held_out


def _telling(held_out: Array, target: Array, wrong: Array) -> Array:
    """Return the mask of held-out rows, chosen evenly by target if their targets hardly vary."""
    held_out, target = held_out[~wrong], Scale.of(target[~wrong]).scaled(target[~wrong])
    count = int(held_out.sum())
    if count and target[held_out].var() < tuned.TELLING * target.var():
        ranks = (np.arange(count) + 0.5) * len(target) / count
        held_out = np.isin(np.arange(len(target)), np.argsort(target)[ranks.astype(int)])
    return held_out


def _useful(columns: Array) -> tuple[int, ...]:
    """Return the columns that are not affine functions of an earlier one."""
    units: dict[int, Array] = {}
    for i, column in enumerate(columns.T):
        if resolved(column):
            size = np.abs(column).max()
            own = column / size - (column / size).mean()
            own = own / np.sqrt(own @ own)
            gaps = (np.abs(own - np.sign(own @ u) * u).max() for u in units.values())
            if all(gap > tuned.SAME_COLUMN for gap in gaps):
                units[i] = own
    return tuple(units)


def _joined(*tables: _Rows) -> _Rows:
    """Return the concatenated rows and targets."""
    x, y = map(np.concatenate, zip(*tables, strict=True))
    return x, y


def _rounding_of(values: Array) -> float:
    """Return the relative squared error due to rounding of values, with a margin."""
    spread = float(np.std(values / np.abs(values).max())) * float(np.abs(values).max())
    return (rounding_step(values) / spread) ** 2 if spread else 0.0
