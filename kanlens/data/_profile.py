"""Column profiles in one pass: distinct cells, extremes, quantiles."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any, cast

import numpy as np

from kanlens._lazy import pd
from kanlens.data._cell_parsing import PLAIN, Array, CellFormat, Column, Place
from kanlens.data._column_types import Impute
from kanlens.errors import DataError

DISTINCT = 2000  # different cells of a column that are counted
DIGEST = 4000  # compression of the t-digest
RANK_ERROR = 0.002  # of its quantiles, measured


@dataclasses.dataclass(eq=False)
class ColumnProfile:
    """Statistics of a column, updated by blocks of its cells."""

    # [count, first row] of the first `DISTINCT` different cells; missing cells count as one
    distinct: dict[Any, list[int]] = dataclasses.field(default_factory=dict)
    overflow: int = 0  # other cells
    count: int = 0  # of finite numbers
    total: float = 0.0
    lowest: tuple[float, int] = (math.inf, 0)  # with its row
    highest: tuple[float, int] = (-math.inf, 0)
    categorical: bool = False  # whether cells were of pandas' category type
    ranked: bool = True  # whether quantiles are needed
    format: CellFormat = PLAIN

    @cached_property
    def digest(self) -> Any:
        """The t-digest of the finite numbers (Dunning, The t-digest, 2021)."""
        from datasketches import tdigest_double

        return tdigest_double(DIGEST)

    def add(self, cells: pd.Series, start: int) -> None:
        """Add a block of cells; the first is in row `start`."""
        self.categorical |= isinstance(cells.dtype, pd.CategoricalDtype)
        numbers = Column(name="", cells=cells, call="", format=self.format).numbers
        finite = np.flatnonzero(np.isfinite(numbers))
        values = numbers[finite]
        if len(values):
            if self.ranked:
                self.digest.update(values)
            self.count += len(values)
            self.total += float(values.sum())
            low, high = int(values.argmin()), int(values.argmax())
            self.lowest = min(self.lowest, (float(values[low]), start + int(finite[low])))
            self.highest = max(self.highest, (float(values[high]), start + int(finite[high])))
        self._add_cells(cells, start)

    def _add_cells(self, cells: pd.Series, start: int) -> None:
        """Count the cells; beyond `DISTINCT` different ones, new ones are not kept."""
        if self.overflow and cells.dtype.kind in "biuf" and not cells.isna().any():
            self.overflow += len(cells)
            return
        keys = cells
        if cells.dtype == object and pd.api.types.infer_dtype(cells) != "string":
            pairs = [(isinstance(cell, bool), cell) for cell in cells]  # True and 1 are two cells
            keys = pd.Series(pairs, dtype=object).where(cells.notna().to_numpy(), None)
        try:
            codes, values = pd.factorize(keys, use_na_sentinel=True)
        except TypeError:  # lists and the like, one of which is enough for the refusal
            row = int(keys.notna().to_numpy().argmax())
            self.distinct.setdefault((False, (str(cells.iloc[row]),)), [1, start + row])
            return
        counts = np.bincount(codes + 1, minlength=len(values) + 1)
        first = np.full(len(values) + 1, -1)
        first[codes[::-1] + 1] = np.arange(len(codes))[::-1]
        self.overflow += int(counts[DISTINCT + 1 :].sum())  # now counts are lower bounds
        few = [None, *values[:DISTINCT].tolist()]
        for value, count, row in zip(few, counts.tolist(), first.tolist(), strict=False):
            key = value if isinstance(value, tuple) else (isinstance(value, bool), value)
            if not count:
                continue
            if key in self.distinct:
                self.distinct[key][0] += count
            elif len(self.distinct) <= DISTINCT or value is None:
                self.distinct[key] = [count, start + row]
            else:
                self.overflow += count

    def column(self, name: str, place: Place, **about: Any) -> Column:
        """Return the distinct cells as a column with their counts."""
        cells = pd.Series([value for _, value in self.distinct], dtype=object).infer_objects()
        if self.categorical:
            cells = cells.astype("category")
        counts, rows = np.array([*self.distinct.values()], dtype=np.int64).reshape(-1, 2).T
        places = rows.tolist()
        about |= {"cells": cells, "counts": counts, "format": self.format}
        return Column(name=name, place=lambda row: place(places[row]), **about)

    def typical(self, impute: Impute, name: str, call: str) -> float:
        """Return the mean, median (to `RANK_ERROR`) or most frequent number."""
        if not self.count:
            return 0.0
        if impute == "mean":
            return self.total / self.count
        if impute == "median" and self.overflow:
            return float(self.digest.get_quantile(0.5))
        if self.overflow:
            expected = f"at most {DISTINCT} distinct numbers to find the most frequent of"
            got, advice = f"more in column {name!r}", "Choose {impute} or 'median'"
            raise DataError(call, expected, got, advice, impute="mean")
        column = self.column(name, str, call=call)
        finite = np.isfinite(column.numbers)
        values, counts = column.numbers[finite], cast("Array", column.counts)[finite]
        values, places = np.unique(values, return_inverse=True)  # "1" and 1 are one number
        counts = np.bincount(places.ravel(), counts)
        if impute == "most_frequent":
            return float(values[counts.argmax()])
        ends = np.cumsum(counts)
        middle = [(self.count - 1) // 2, self.count // 2]
        return float(values[np.searchsorted(ends, middle, side="right")].mean())
