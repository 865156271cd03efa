"""`compare`: several methods on the same samples, side by side."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kanlens.attribution.dispatch import attribute
from kanlens.attribution.metrics import METRICS, rank_agreement
from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, ZERO
from kanlens.attribution.registry import METHODS, REFUSED
from kanlens.attribution.result import Attribution
from kanlens.checks import check_choice, message, reworded
from kanlens.core.acceptance import check_model
from kanlens.core.network import KAN
from kanlens.errors import InvalidValueError, KanlensError, MethodError

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.core.network import Rows

_NO_BACKGROUND = message(
    "compare",
    "background rows",
    "None",
    "Pass background=..., rows like those the model was trained on",
)


def finite(value: Any) -> Any:
    """Return numbers at full precision as JSON takes them; NaN and infinity become None.

    Examples
    --------
    >>> finite({"a": [1e-13, float("nan")]})
    {'a': [1e-13, None]}
    """
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Several methods on the same samples.

    Attributes
    ----------
    attributions : dict of str to Attribution
        By method.
    frame : DataFrame
        One row per method: method, exact, complete, baseline, each metric, seconds.
    importance : DataFrame
        Mean |value|, features x methods, in the units of the output.
    agreement : DataFrame
        Spearman's correlation of the values over the features, mean over samples, methods x
        methods.
    skipped : dict of str to str
        Methods that could not run, and why.
    """

    attributions: dict[str, Attribution]
    frame: pd.DataFrame
    importance: pd.DataFrame
    agreement: pd.DataFrame
    skipped: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """Return `frame`: one row per method."""
        return self.frame

    def to_json(self) -> str:
        """Return the three tables and the skipped methods as JSON; NaN and infinity become null."""
        return json.dumps(
            {
                "methods": finite(self.frame.to_dict(orient="records")),
                "importance": finite(self.importance.to_dict()),
                "agreement": finite(self.agreement.to_dict()),
                "skipped": self.skipped,
            }
        )


def compare(
    model: KAN,
    x: Rows,
    *,
    background: Rows | None = None,
    target: int | str | None = None,
    methods: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Run several methods on the same samples and put their numbers side by side.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    background, target, generator, progress
        As for `attribute`.
    methods : sequence of str, optional
        Local methods. Default: every one of them that fits the model.
    metrics : sequence of str, optional
        Keys into ``METRICS``, columns of the frame in this order. Default: all. Some compare
        with exact Shapley values counted from the same baseline as the method; they are NaN
        where these cannot be had.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidValueError
        If a method, metric or output is unknown, or a method is global.
    MethodError
        If a method that was asked for does not fit the model.

    Examples
    --------
    >>> x = torch.rand(5, 2)
    >>> table = compare(KAN([2, 1]), x, background=x, methods=["shapley", "secant"]).frame
    >>> table["method"].tolist()
    ['shapley', 'secant']
    """
    check_model("compare", model)
    names = _checked_methods(methods)
    columns = _checked_metrics(metrics)
    if methods is None and background is None and model.background is None:
        raise MethodError(_NO_BACKGROUND)
    given = {"background": background, "target": target, "progress": progress}
    runs = _Runs(model, x, {**given, "generator": generator})
    for name in names:
        runs.add(name, optional=methods is None)
    return Comparison(
        attributions=runs.done,
        frame=_frame(runs, columns),
        importance=_importance(runs.done),
        agreement=_agreement(runs.done),
        skipped=runs.skipped,
    )


class _Runs:
    """The attributions made so far, what they took, and those that could not be made."""

    def __init__(self, model: KAN, x: Rows, options: dict[str, Any]) -> None:
        self.model, self.x, self.options = model, x, options
        self.done: dict[str, Attribution] = {}
        self.seconds: dict[str, float] = {}
        self.skipped: dict[str, str] = {}
        self.references: dict[str, Attribution | None] = {}
        importlib.import_module("captum.attr")  # now, so that no method's seconds contain it

    def add(self, name: str, *, optional: bool) -> None:
        """Run one method; when it does not fit the model, skip an optional one."""
        started = time.perf_counter()
        try:
            found = attribute(self.model, self.x, method=name, **self.options)
        except MethodError as error:
            if not optional:
                raise reworded("compare", error) from error
            self.skipped[name] = str(error)
            return
        except KanlensError as error:
            raise reworded("compare", error) from error
        if isinstance(found, Attribution):
            self.done[name] = found
            self.seconds[name] = time.perf_counter() - started

    def exact(self, baseline: str) -> Attribution | None:
        """Return exact Shapley values counted from `baseline`; None when they cannot be had."""
        if baseline not in self.references:
            self.references[baseline] = self._exact(baseline)
        return self.references[baseline]

    def _exact(self, baseline: str) -> Attribution | None:
        if baseline == MEAN_OUTPUT and "shapley" in self.done:
            return self.done["shapley"]
        background = self.options["background"]
        if baseline == MEAN_ROW:
            rows = self.model.background if background is None else background
            prepared = self.model.prepare(rows, call="compare")
            background = prepared.double().mean(0, keepdim=True)
        elif baseline == ZERO:
            background = torch.zeros_like(self.model.input_shift)[None]
        options = {**self.options, "background": background}
        try:
            found = attribute(self.model, self.x, method="shapley", **options)
        except MethodError:  # too many features, or no background
            return None
        return found if isinstance(found, Attribution) else None


def _checked_methods(methods: Sequence[str] | None) -> list[str]:
    """Return the methods to run, each once; refuse unknown, refused and global ones."""
    local = [name for name, method in METHODS.items() if method.scope == "local"]
    names = local if methods is None else list(dict.fromkeys(methods))
    if not names:
        expected, advice = "at least one method", "Leave methods out to run all that fit"
        raise InvalidValueError(message("compare", expected, "none", advice))
    for name in names:
        if name not in REFUSED:  # attribute says why
            check_choice("compare", "methods", name, local)
    return names


def _checked_metrics(metrics: Sequence[str] | None) -> list[str]:
    names = list(METRICS) if metrics is None else list(dict.fromkeys(metrics))
    for name in names:
        check_choice("compare", "metrics", name, METRICS)
    return names


def _frame(runs: _Runs, columns: list[str]) -> pd.DataFrame:
    """Return one row per method: what it is, its metrics, and the seconds it took."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    compared = any(METRICS[column].needs_exact for column in columns)
    for name, found in runs.done.items():
        exact = runs.exact(found.baseline) if compared else None
        row = {"method": name, "exact": METHODS[name].exact, "complete": METHODS[name].complete}
        numbers = {column: METRICS[column].function(found, exact) for column in columns}
        seconds = runs.seconds[name]
        rows.append({**row, "baseline": found.baseline, **numbers, "seconds": seconds})
    return pd.DataFrame(rows)


def _importance(done: dict[str, Attribution]) -> pd.DataFrame:
    """Return the mean |value|, features x methods."""
    import pandas as pd

    columns = {name: found.values.abs().mean(0).cpu().numpy() for name, found in done.items()}
    features = next(iter(done.values())).features
    return pd.DataFrame(columns, index=pd.Index(features, name="feature"))


def _agreement(done: dict[str, Attribution]) -> pd.DataFrame:
    """Return the rank agreement of every pair of methods."""
    import pandas as pd

    names = list(done)
    table = pd.DataFrame(float("nan"), index=pd.Index(names, name="method"), columns=names)
    for a, b in itertools.combinations_with_replacement(names, 2):
        table.loc[a, b] = rank_agreement(done[a].values, done[b].values)
        table.loc[b, a] = table.loc[a, b]
    return table
