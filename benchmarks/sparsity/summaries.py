"""The experiments' tables as tables to read: means over problems with intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.sparsity.statistics import compare, over_seeds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PAIRS", "summaries"]

Column = tuple[str, bool]  # name, and whether its mean is taken of logarithms
PAIRS = (
    ("activation_l1", "weight_l1"),
    ("activation_l1", "raw_l1"),
    ("weight_l1", "raw_l1"),
    ("weight_l1", "none"),
    ("activation_l1", "none"),
    ("raw_l1", "none"),
    ("activation_l2", "activation_l1"),
    ("activation_l1 + entropy", "activation_l1"),
)


def summaries(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return what there is to read, by title.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `read_tables` returns them.

    Returns
    -------
    dict of str to DataFrame
        Every mean is followed by half the width of its 95 % interval over seeds; of errors,
        conditions and times it is the geometric mean, with the interval's factor.

    Examples
    --------
    >>> summaries({})
    {}
    """
    found: dict[str, pd.DataFrame] = {}
    for name, summarise in SUMMARIES.items():
        if name in tables and len(tables[name]):
            found |= summarise(tables[name])
    return found


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


def _penalties(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    columns = {
        "edge F1": ("edge_f1", False),
        "precision": ("edge_precision", False),
        "recall": ("edge_recall", False),
        "edge F1 at true size": ("edge_f1_at_true", False),
        "... cut by deviation": ("edge_f1_at_true_by_deviation", False),
        "input F1": ("input_f1", False),
        "edges": ("edges", False),
        "test error": ("test", True),
        "seconds": ("seconds", True),
    }
    table = grouped(frame, ["penalty"], columns)
    wide = {
        f"{what} by problem": frame.dropna(subset=[column])
        .pivot_table(index="problem", columns="penalty", values=column, sort=False)
        .round(3)
        .reset_index()
        for what, column in {"edge F1": "edge_f1", "input F1": "input_f1"}.items()
    }
    pairs = [
        _pair(frame, *ways, value) for value in ("edge_f1", "input_f1", "test") for ways in PAIRS
    ]
    known = pd.DataFrame([pair for pair in pairs if pair])
    return {"penalties": table, **wide, "penalties compared": known}


def _pair(frame: pd.DataFrame, first: str, second: str, value: str) -> dict[str, Any]:
    """Compare two penalties; errors by their logarithms to the base 2."""
    import numpy as np

    if not {first, second} <= set(frame["penalty"]):
        return {}
    if value == "test":
        frame = frame.assign(test=np.log2(frame["test"].astype(float)))
    found = compare(frame, "penalty", (first, second), value)
    return {
        "of": "log2 test error" if value == "test" else value,
        "first": first,
        "second": second,
        "first - second": found.difference.text(2),
        "first larger": f"{found.better} of {found.pairs}, {found.equal} equal",
        "Wilcoxon p": f"{found.p:.2g}",
    }


def _costs(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    shown = frame[["rows", "width", "penalty", "ms", "passes", "mib"]]
    return {"cost of one forward and backward pass": shown.reset_index(drop=True)}


def _scaler(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "test error": ("test", True),
        "training loss": ("loss", True),
        "steps to a common loss": ("steps", True),
        "condition at start": ("condition_start", True),
        "condition at end": ("condition_end", True),
        "rank at end": ("rank_end", False),
        "parameters": ("parameters", False),
        "ms": ("ms", True),
    }
    table = grouped(frame, ["optimizer", "scale"], columns)
    return {"standalone spline scale": table}


def _starts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "after one pass": ("first", False),
        "after three": ("third", False),
        "at the end": ("score", False),
        "passes": ("epochs", False),
        "seconds": ("seconds", True),
    }
    return {"initial weights": grouped(frame, ["problem", "metric", "start"], columns)}


def _digits(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "accuracy": ("accuracy", False),
        "epochs": ("epochs", False),
        "parameters": ("parameters", False),
        "seconds": ("seconds", True),
    }
    return {"recipes for digits": grouped(frame, ["problem", "recipe"], columns)}


def _grids(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "test error": ("test", True),
        "seconds": ("seconds", True),
        "ms": ("ms", True),
    }
    ordered = frame.sort_values(["order", "way", "grid"])
    return {"grid and order": grouped(ordered, ["order", "way", "grid"], columns)}


def _damage(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    by_problem = frame.pivot_table(index="problem", columns="score", values="spearman", sort=False)
    return {
        "rank correlation with true damage": grouped(
            frame, ["score"], {"Spearman": ("spearman", False)}
        ),
        "rank correlation by problem": by_problem.round(3).reset_index(),
    }


def _budgets(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    frame = frame.assign(ratio=frame["test"].astype(float) / frame["test_before"].astype(float))
    columns = {
        "edges": ("edges", False),
        "features": ("features", False),
        "test loss": ("test", False),
        "/ before": ("ratio", True),
        "seconds": ("seconds", True),
    }
    found = grouped(frame, ["problem", "arm", "budget"], columns)
    return {f"budgets on {name}": part for name, part in found.groupby("problem", sort=False)}


SUMMARIES: dict[str, Callable[[pd.DataFrame], dict[str, pd.DataFrame]]] = {
    "sparsity-penalties": _penalties,
    "sparsity-costs": _costs,
    "sparsity-scaler": _scaler,
    "sparsity-starts": _starts,
    "sparsity-digits": _digits,
    "sparsity-grids": _grids,
    "sparsity-damage": _damage,
    "sparsity-budgets": _budgets,
}
