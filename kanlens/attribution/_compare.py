"""`compare`: several methods on the same samples, side by side."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kanlens._checks import check_choice, check_generator
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens._resources import Memory, within_memory
from kanlens._runtime import interrupts_pass, progress_bar
from kanlens.attribution._attribute import METHODS, REFUSED
from kanlens.attribution._method_runs import RANDOM, Runs
from kanlens.attribution._problem import NO_BACKGROUND, Baseline
from kanlens.attribution._result import Attribution
from kanlens.attribution.metrics import METRICS, Score, rank_agreement
from kanlens.errors import DTypeError, InvalidValueError, MethodError, reworded
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows

ALL = "all"
EXACT = 1e-9  # largest relative error called exact
WHOLE = 1e-2  # largest relative gap called complete
CLOSE_ERROR = 0.1  # largest relative error called close
DEFAULT_METHODS = (
    "shapley",
    "integrated_gradients",
    "secant",
    "gradient_x_input",
    "captum_integrated_gradients",
    "captum_gradient_shap",
    "captum_deep_lift",
    "captum_shapley_value_sampling",
    "captum_kernel_shap",
    "captum_feature_ablation",
    "captum_input_x_gradient",
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Comparison(Displayed):
    """Attributions of the same samples by several methods.

    Attributes
    ----------
    attributions : dict of str to Attribution
        By method. The last one, "random", has random values, for comparison.
    frame : DataFrame
        One row per method: method, exact, complete, baseline, each metric, offgrid (share of the
        values outside their grids where metrics evaluated the model), evaluations for one sample,
        seconds, and a verdict in words.
    arrows : dict of str to str
        By metric: "↑" for more is better, "↓" for less, "" for neither.
    importance : DataFrame
        Mean ``|value|``, features x methods, in the units of the output; without the random one.
    agreement : DataFrame
        Spearman's correlation of the values over the features, mean over samples, methods x
        methods.
    scores : dict of str to dict of str to Score
        By method and metric, with a value for every sample, in the dtype of the model.
    skipped : dict of str to str
        Methods that did not run, with the reason.
    refusals : dict of str to MethodError
        Errors of the methods that could not run.
    """

    attributions: dict[str, Attribution]
    frame: pd.DataFrame
    arrows: dict[str, str]
    importance: pd.DataFrame
    agreement: pd.DataFrame
    scores: dict[str, dict[str, Score]]
    skipped: dict[str, str]
    refusals: dict[str, MethodError] = field(default_factory=dict)

    def _line(self) -> str:
        names = ", ".join(self.importance.columns)
        rows = len(next(iter(self.attributions.values())).values)
        left = f", {len(self.skipped)} skipped" if self.skipped else ""
        size = f"{self.importance.shape[1]} methods on {rows:,} rows"
        return f"{size} of {self.target}{left}: {names}"

    @property
    def target(self) -> str:
        """Name of the output that the methods explain."""
        return next(iter(self.attributions.values())).target

    def to_frame(self) -> pd.DataFrame:
        """Return `frame`: one row per method."""
        return self.frame

    def to_json(self) -> str:
        """Return the three tables and the skipped methods as JSON; NaN and infinity become null."""
        facts = {
            "target": self.target,
            "methods": self.frame.to_dict(orient="records"),
            "arrows": self.arrows,
            "importance": self.importance.to_dict(),
            "agreement": self.agreement.to_dict(),
            "skipped": self.skipped,
        }
        return json.dumps(to_plain(facts))


@within_memory
def compare(  # noqa: PLR0913 - one keyword per choice
    model: Model,
    x: Rows,
    *,
    background: Rows | None = None,
    target: int | str | None = None,
    methods: Sequence[str] | str | None = None,
    metrics: Sequence[str] | str | None = None,
    max_memory: Memory = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Compare several methods on the same samples.

    An interrupt (Ctrl-C) ends the comparison; the methods and metrics that are done are returned,
    with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    background, target, max_memory, generator, progress
        As for `attribute`.
    methods : sequence of str or "all", optional
        Local methods of features. Default: the well-known methods of kanlens and Captum that fit
        the model; "all": every method that fits.
    metrics : sequence of str or "all", optional
        Keys into ``METRICS``, columns of the frame in this order. Default: all but the slow ones,
        which need attributions of further samples or models. Some compare with exact Shapley values
        of the method's baseline, and are NaN if these are unknown.

    Raises
    ------
    InvalidValueError
        If a method, metric or output is unknown, or a method is global or explains hidden nodes.
    DTypeError
        If a method or metric is not a string.
    MethodError
        If a requested method does not fit the model, or none does.

    Examples
    --------
    >>> x = torch.rand(5, 2)
    >>> from kanlens.model._network import KAN
    >>> table = compare(KAN([2, 1]), x, background=x, methods=["shapley", "secant"]).frame
    >>> table["method"].tolist()
    ['shapley', 'secant', 'random']
    """
    model = check_model("compare", model)
    check_generator("compare", generator)
    optional = methods is None or (isinstance(methods, str) and methods == ALL)
    names = _checked_methods(methods)
    columns = _checked_metrics(metrics)
    if optional and background is None and model.background is None:
        raise MethodError("compare", "background rows", "None", NO_BACKGROUND, background=...)
    how: dict[str, Any] = {"background": background, "target": target, "generator": generator}
    return run_comparison(model, x, names, columns, optional=optional, progress=progress, **how)


def run_comparison(
    model: KAN, x: Rows, names: list[str], columns: list[str], *, optional: bool, **how: Any
) -> Comparison:
    """Return a comparison of methods by metrics; optional ones that do not fit are skipped."""
    runs = Runs(model, x, **how)
    runs.run(names, optional=optional)
    if not runs.done and runs.stop.happened:
        raise KeyboardInterrupt
    if not runs.done:
        raise reworded("compare", next(iter(runs.refusals.values())))
    scores, done = _scores(runs, columns), runs.done
    runs.stop.warn("compare", "The metrics so far are returned; the others are NaN")
    sizes = {name: values.values.abs().mean(0).cpu().numpy() for name, values in done.items()}
    features, methods = next(iter(done.values())).features, list(done)
    importance = pd.DataFrame(sizes, index=pd.Index(features, name="feature"))
    agreement = pd.DataFrame(math.nan, index=pd.Index(methods, name="method"), columns=methods)
    for a, b in itertools.combinations_with_replacement(methods, 2):
        ranks = rank_agreement(done[a].values, done[b].values)
        agreement.at[a, b] = agreement.at[b, a] = ranks
    return Comparison(
        attributions=done,
        frame=_frame(runs, scores),
        arrows={name: METRICS[name].arrow for name in columns},
        importance=importance.drop(columns=RANDOM),
        agreement=agreement,
        scores=scores,
        skipped=runs.skipped,
        refusals=runs.refusals,
    )


def comparable() -> list[str]:
    """Return the methods that can be compared: local ones, of features."""
    return [name for name, m in METHODS.items() if m.scope == "local" and not m.of_nodes]


def _checked_methods(methods: Sequence[str] | str | None) -> list[str]:
    """Return the methods to run, each once; refuse unknown, invalid and global ones."""
    choices = comparable()
    if methods is None:
        return list(DEFAULT_METHODS)
    names = _listed("methods", methods, choices)
    if not names:
        advice = "Leave out {methods} to run all that fit"
        raise InvalidValueError("compare", "at least one method", "none", advice, methods=...)
    for name in names:
        if name in METHODS and name not in choices:
            expected = "methods that return values for each sample and feature"
            other = "attribute" if METHODS[name].of_nodes else "importance"
            either = "Choose one of those", f"call {other} with {{method}}"
            raise InvalidValueError("compare", expected, repr(name), *either, method=name)
        if name not in REFUSED:  # attribute gives the reason
            check_choice("compare", "methods", name, choices)
    return names


def _checked_metrics(metrics: Sequence[str] | str | None) -> list[str]:
    if metrics is None:
        return [name for name, metric in METRICS.items() if metric.needs <= {"exact", "model"}]
    names = _listed("metrics", metrics, list(METRICS))
    for name in names:
        check_choice("compare", "metrics", name, METRICS)
    return names


def _listed(what: str, names: Sequence[str] | str, choices: list[str]) -> list[str]:
    """Return distinct names, or all choices for "all"; refuse other types."""
    if isinstance(names, str):
        return choices if names == ALL else [names]
    listed = list(names) if isinstance(names, Iterable) else [names]
    if not all(isinstance(name, str) for name in listed):
        expected, advice = f"{what} as names, or 'all'", f"Pass a list such as {choices[:2]}"
        raise DTypeError("compare", expected, repr(names), advice)
    return list(dict.fromkeys(listed))


def _scores(runs: Runs, columns: list[str]) -> dict[str, dict[str, Score]]:
    """Return every metric of every method; NaN for those after an interrupt."""
    compared = any(METRICS[column].needs_exact for column in columns)
    table: dict[str, dict[str, Score]] = {}
    for name, attribution in runs.done.items():
        nothing = Score.of(torch.full_like(attribution.values[:, 0], math.nan))
        table[name] = dict.fromkeys(columns, nothing)
    if runs.stop.happened:
        return table
    bar = progress_bar("metrics", len(table) * len(columns), shown=runs.progress)
    with bar as advance, runs.stop.kept(), interrupts_pass():
        for name, scores in table.items():
            case = runs.case(name, compared=compared)
            for column in columns:
                advance(0, note=f"{column} of {name}")
                score = METRICS[column].function(case)
                scores[column] = replace(score, rows=score.rows.to(case.attribution.values))
                advance()
    return table


def _frame(runs: Runs, scores: dict[str, dict[str, Score]]) -> pd.DataFrame:
    """Return one row per method: its properties, metrics, costs, and the verdict."""
    rows: list[dict[str, Any]] = []
    for name, attribution in runs.done.items():
        method, evaluations = METHODS.get(name), attribution.evaluations
        off = [score.offgrid for score in scores[name].values() if not math.isnan(score.offgrid)]
        row = {
            "method": name,
            "exact": method is not None and method.exact,
            "complete": method is not None and method.complete,
            "baseline": attribution.baseline,
            **{column: score.value for column, score in scores[name].items()},
            "offgrid": max(off, default=math.nan),
            "evaluations": math.nan if evaluations is None else evaluations,
            "seconds": runs.seconds.get(name, math.nan),
            "verdict": _verdict(runs, name, scores),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _verdict(runs: Runs, name: str, scores: dict[str, dict[str, Score]]) -> str:
    """Return the verdict on a method from its values and metrics."""
    if name == RANDOM:
        return "the floor: random values"
    attribution = runs.done[name]
    numbers = {column: score.value for column, score in scores[name].items()}
    floor = scores[RANDOM]["shapley_error"].value if "shapley_error" in numbers else math.nan
    return verdict(
        slopes=not attribution.shares,
        random=METHODS[name].random,
        baseline=attribution.baseline,
        gap=METRICS["relative_gap"].function(runs.case(name, compared=False)).value,
        error=numbers.get("shapley_error"),
        rank=numbers.get("shapley_rank", math.nan),
        floor=math.inf if math.isnan(floor) else floor,
        rounding=torch.finfo(attribution.values.dtype).eps,
    )


def verdict(
    *,
    slopes: bool,
    random: bool,
    baseline: str,
    gap: float,  # sum of |completeness gap| over that of |output - reference|
    error: float | None,  # L1 distance from the exact values over their norm; None: not computed
    rank: float,  # rank agreement with the exact values
    floor: float,  # error of a random attribution
    rounding: float = 0.0,  # machine epsilon of the dtype
) -> str:
    """Return a sentence on how reliable a method's values are; unknown numbers are NaN."""
    if slopes:
        return "slopes: how steep the output is, not what a feature adds"
    off = ""
    if error is not None and not math.isnan(error):
        off = f"{_percent(error)} off the Shapley values"
    if gap > WHOLE:
        start = f"incomplete: leaves {_percent(gap)} of the change unexplained"
        return f"{start}; {off}" if off else start
    if error is None:
        return "complete; not compared with the Shapley values"
    if not off:
        return "complete; there are no exact Shapley values to compare it with"
    where = "" if baseline == Baseline.MEAN_OUTPUT else f" counted from the {baseline}"
    if error <= max(EXACT, rounding):
        size = f" (error {error:.0e})" if error else ""
        return f"exact: these are the Shapley values{where}{size}"
    if error >= floor:
        return f"misleading: complete, but no nearer to the Shapley values than chance; {off}"
    word = "close" if error <= CLOSE_ERROR else "rough" if random else "different"
    if random:
        return f"{word}: an estimate of the Shapley values{where}, {_percent(error)} off"
    ranks = "" if math.isnan(rank) else f", ranks agree {rank:.2f}"
    return f"{word}: complete, {off}{where}{ranks}"


def _percent(share: float) -> str:
    """Format a share with two digits."""
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%"
