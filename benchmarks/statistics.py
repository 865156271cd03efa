"""Means with 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Interval = tuple[float, float]  # mean, and half of the width


def interval(values: Sequence[float]) -> Interval:
    """Return the mean and half of its 95 % interval by Student's t; NaN is left out.

    Examples
    --------
    >>> interval([1.0, 2.0, 3.0])
    (2.0, 2.484...)
    """
    import numpy as np
    from scipy import stats

    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return (float(known[0]), 0.0) if len(known) else (math.nan, math.nan)
    half = stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known))
    return float(known.mean()), float(half)


def over_seeds(frame: pd.DataFrame, value: str) -> Interval:
    """Return the interval over seeds of a column's mean over all else.

    Problems are the same for every seed, so that only what a seed draws makes the interval wide.
    """
    return interval(frame.dropna(subset=[value]).groupby("seed")[value].mean().tolist())


def grouped(
    frame: pd.DataFrame, by: list[str], columns: Mapping[str, tuple[str, bool]]
) -> pd.DataFrame:
    """Return one row per group and one text per column: mean and interval over seeds.

    `columns` names for every column of the result one of the frame, and whether the mean is that
    of its logarithms.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"seed": [0, 1], "way": ["a", "a"], "f1": [0.5, 1.0]})
    >>> grouped(frame, ["way"], {"F1": ("f1", False)}).to_dict("records")
    [{'way': 'a', 'F1': '0.75 ± 3.2'}]
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

    if not logarithmic:
        mean, half = over_seeds(group, column)
        return f"{mean:.3g} ± {half:.2g}"
    logs = group.assign(**{column: np.log(group[column].astype(float).clip(lower=1e-300))})
    mean, half = over_seeds(logs, column)
    return f"{math.exp(mean):.3g} x/÷ {math.exp(half):.2f}"
