"""Means with intervals over seeds, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "Interval", "Paired", "compare", "grouped", "interval", "over_seeds"]

LEVEL = 0.95
Column: TypeAlias = tuple[str, bool]  # name, and whether its mean is taken of logarithms


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its confidence interval by Student's t.

    Attributes
    ----------
    mean, low, high : float
        The interval has no width when there is one value.
    count : int
        Number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 3) -> str:
        """Return the mean and half the width of the interval, if there is one.

        Examples
        --------
        >>> interval([1.0, 2.0, 3.0]).text(2)
        '2.0 ± 2.5'
        """
        half = (self.high - self.low) / 2
        if self.count < 2:
            return _short(self.mean, digits)
        return f"{_short(self.mean, digits)} ± {_short(half, 2)}"


def _short(value: float, digits: int) -> str:
    text = f"{value:#.{digits}g}"
    return f"{value:.0f}" if "e" in text and abs(value) >= 1 else text.removesuffix(".")


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of values and its 95 % confidence interval; NaN is left out.

    Examples
    --------
    >>> interval([0.0, 1.0]).mean
    0.5
    """
    from scipy import stats

    known = [float(value) for value in values if value == value]
    count = len(known)
    if not count:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, count=0)
    mean = sum(known) / count
    if count == 1:
        return Interval(mean=mean, low=mean, high=mean, count=1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / (count - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean=mean, low=mean - half, high=mean + half, count=count)


def over_seeds(frame: pd.DataFrame, value: str) -> Interval:
    """Return the interval over seeds of a column's mean over all else.

    Problems are the same for every seed, so that only what a seed draws makes the interval wide.

    Examples
    --------
    >>> import pandas as pd
    >>> over_seeds(pd.DataFrame({"seed": [0, 0, 1, 1], "f1": [0.0, 1.0, 0.5, 0.5]}), "f1").mean
    0.5
    """
    known = frame.dropna(subset=[value])
    return interval(known.groupby("seed")[value].mean().tolist())


def grouped(frame: pd.DataFrame, by: list[str], columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return one row per group, one text per column: mean and interval over seeds.

    Parameters
    ----------
    frame : DataFrame
        With a column seed.
    by : list of str
        Columns whose values name a group, kept in the order they come.
    columns : mapping of str to (str, bool)
        Columns of the result: which column, and whether of its logarithms.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"seed": [0, 1], "way": ["a", "a"], "f1": [0.5, 1.0]})
    >>> grouped(frame, ["way"], {"F1": ("f1", False)}).to_dict("records")
    [{'way': 'a', 'F1': '0.750 ± 3.2'}]
    """
    import pandas as pd

    rows = []
    for values, group in frame.groupby(by, sort=False):
        row: dict[str, Any] = dict(zip(by, values, strict=True))
        for title, (column, logarithmic) in columns.items():
            row[title] = _cell(group, column, logarithmic)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(group: pd.DataFrame, column: str, logarithmic: bool) -> str:
    import numpy as np

    if not group[column].notna().any():
        return "-"
    if not logarithmic:
        return over_seeds(group, column).text()
    logs = group.assign(**{column: np.log(group[column].astype(float).clip(lower=1e-300))})
    found = over_seeds(logs, column)
    factor = f" x/÷ {np.exp((found.high - found.low) / 2):.2f}" if found.count > 1 else ""
    return f"{np.exp(found.mean):.3g}{factor}"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two ways compared on the same problems and seeds.

    Attributes
    ----------
    difference : Interval
        Of the values of the first minus those of the second, the mean over problems for each seed.
    pairs, better, equal : int
        Pairs of problem and seed, those where the first has the larger value, and ties.
    p : float
        Of Wilcoxon's signed-rank test over the pairs; 1 when all are ties.
    """

    difference: Interval
    pairs: int
    better: int
    equal: int
    p: float


def compare(frame: pd.DataFrame, column: str, ways: tuple[str, str], value: str) -> Paired:
    """Compare two values of a column, pair by pair of problem and seed.

    Parameters
    ----------
    frame : DataFrame
        With columns problem, seed, `column` and `value`.
    column : str
        The column that tells the ways apart.
    ways : tuple of str
        Two of its values.
    value : str
        What is compared; rows without are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"problem": ["p"] * 4, "seed": [0, 0, 1, 1], "way": ["a", "b"] * 2}
    >>> frame = pd.DataFrame({**rows, "f1": [1.0, 0.5, 0.5, 0.5]})
    >>> compare(frame, "way", ("a", "b"), "f1").better
    1
    """
    import pandas as pd
    from scipy import stats

    sides = [
        frame[frame[column] == way].set_index(["problem", "seed"])[value].astype(float)
        for way in ways
    ]
    both = pd.concat(sides, axis=1, keys=["first", "second"], join="inner").dropna()
    gap = both["first"] - both["second"]
    some = bool((gap != 0).any())
    return Paired(
        difference=interval(gap.groupby("seed").mean().tolist()),
        pairs=len(gap),
        better=int((gap > 0).sum()),
        equal=int((gap == 0).sum()),
        p=float(stats.wilcoxon(gap, zero_method="zsplit").pvalue) if some else 1.0,
    )
