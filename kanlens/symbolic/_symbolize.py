"""`symbolize` and `suggest`: formulas of trained networks, functions of edges."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import sympy
import torch
from torch import Tensor

from kanlens._checks import check_choice, check_generator
from kanlens._lazy import pd
from kanlens._resources import Memory, one_thread, within_memory
from kanlens._runtime import Interruption, progress_bar
from kanlens.errors import InvalidValueError
from kanlens.model._analysis import Model, check_model
from kanlens.model._edge import Edge
from kanlens.model._network import KAN
from kanlens.symbolic._assignment import (
    EdgeChoice,
    assign_functions,
    finished,
    rank_layer,
    revert_until_accurate,
)
from kanlens.symbolic._beam import Beam
from kanlens.symbolic._composition import feature_symbols
from kanlens.symbolic._constants import fitted_constants
from kanlens.symbolic._error_budget import error_budget
from kanlens.symbolic._joint_refit import relative_losses
from kanlens.symbolic._library import library
from kanlens.symbolic._notation import edge_text
from kanlens.symbolic._pareto_front import READABLE, RULES
from kanlens.symbolic._partition import (
    Pair,
    PartitionedRows,
    Table,
    check_readable,
    goal_of,
    in_double,
    limits_of,
    parts_of,
    prepared,
    target_of,
    thinned,
)
from kanlens.symbolic._path import build_path
from kanlens.symbolic._receipt import Receipt, examine
from kanlens.symbolic._result import SymbolicResult
from kanlens.symbolic._simplification import complexity
from kanlens.training._objective import classes

if TYPE_CHECKING:
    from kanlens.model._network import Rows, Targets

_WORSE = 1.05  # factor by which a formula must be worse than a shorter one to be replaced
_MAX_SUGGESTIONS = 3  # candidates per edge in a table
_LOOSE_LIMITS = (0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3)  # loss limits tried for logits
_STEPS = 3  # of a bar, in addition to one per layer


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of `symbolize` that change the formula."""

    r2_min: float = 0.99
    functions: Sequence[str] | None = None
    refine: bool = True
    snap: bool = True
    model_selection: str = "best"


@within_memory
@torch.no_grad()
def symbolize(
    model: Model,
    x: Rows,
    y: Targets | None = None,
    *,
    r2_min: float = 0.99,
    functions: Sequence[str] | None = None,
    refine: bool = True,
    snap: bool = True,
    model_selection: str = "best",
    x_test: Rows | None = None,
    y_test: Targets | None = None,
    max_memory: Memory = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> SymbolicResult:
    """Derive a formula from a trained network, with a record of its accuracy.

    Every edge becomes the simplest function of a library that explains it; edges that none
    explains, or whose function would raise the loss of the whole network too much, stay splines.
    All numbers of the composed formula are refitted together, on at most 2000 rows, and replaced by
    exact constants where the data allow it. If its expression has more than 60 nodes, formulas of a
    few terms are fitted to the network too. With 20 or more rows, a fifth of them plus all rows not
    used for fitting or testing (at most 100,000) validate the candidates: the formula is never
    worse on them than a shorter one, or than the mean.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        In the units of the data.
    y : array-like, optional
        Targets. With the squared error, the formula is refitted to them, else to the model's
        outputs (of a classifier, the logits), and y only enters the receipt. Rows whose target is
        an extreme outlier (a thousand times the spread of nearly all targets away) are left out,
        with a warning.
    r2_min : float
        Smallest share of an edge's variance that a function must explain. The formula may explain
        up to ``1 - r2_min`` less of the target than the model.
    functions : sequence of str, optional
        Names of functions to choose from; default all.
    refine : bool
        Whether to refit the numbers; without it no terms are left out either.
    snap : bool
        Whether to replace numbers by exact constants.
    model_selection : {"best", "accuracy", "score"}
        Criterion that chooses a row of `equations_`. "best": the highest score among the rows with
        at most 1.5 times the lowest loss; if that has over 60 nodes, among shorter ones that
        `r2_min` allows; "accuracy": the lowest loss; "score": the highest score.
    x_test, y_test : optional
        Test rows for the receipt. If a shorter formula is clearly better on them, they join the
        selection and the receipt says so. Default: a tenth of the rows; with fewer than 1000 rows,
        those that validate the candidates.
    max_memory : str or int, optional
        As for `trace`.
    generator : torch.Generator, optional
        Draws the rows for fitting, validation and test. Default: they are evenly spread.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    SymbolicResult
        After an interrupt, the formulas found so far, with a warning: remaining edges stay splines,
        and the stages of remaining steps are missing.

    Raises
    ------
    InvalidValueError
        If `r2_min` is not in (0, 1], or a function or criterion is unknown.
    MethodError
        If more than 100 edges lead to an output: the formula would be too long to read.
    ShapeError, DTypeError, DataError
        If `x` or `y` does not fit the model, or `y_test` comes without `x_test`.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.
    .. [2] S.-M. Udrescu, M. Tegmark, AI Feynman, Science Advances 6, 2020.

    Examples
    --------
    >>> from kanlens.model._kan_linear import KANLinear
    >>> layer = KANLinear(1, 1, functions=[["x^2"]])
    >>> parabola = KAN.from_layers([layer], KAN([1, 1]).schema)
    >>> symbolize(parabola, torch.linspace(-1, 1, 50)[:, None]).sympy()
    x1**2
    """
    check_readable(check_model("symbolize", model))
    stop = Interruption()
    how = Reading(
        r2_min=r2_min,
        functions=functions,
        refine=refine,
        snap=snap,
        model_selection=model_selection,
    )
    tables = (x, y), (x_test, y_test)
    result = read(model, *tables, how, stop, generator=generator, progress=progress)
    stop.warn("symbolize")
    return result


@torch.no_grad()
@np.errstate(all="ignore")
def read(
    model: Model,
    data: Table,
    tests: Table,
    how: Reading,
    stop: Interruption,
    *,
    choosing: Pair | None = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> SymbolicResult:
    """Derive a formula as `symbolize` does, chosen on the rows `choosing` if any."""
    model = check_model("symbolize", model)
    check_choice("symbolize", "model_selection", how.model_selection, RULES)
    families = library(how.functions, call="symbolize")
    r2_min = how.r2_min
    if not isinstance(r2_min, numbers.Real) or not 0 < r2_min <= 1:
        fields = "symbolize", "above 0 and at most 1", repr(r2_min), "0.99 is usual"
        raise InvalidValueError(*fields, argument="r2_min")
    check_generator("symbolize", generator)
    exact = in_double(model)
    parts = parts_of(exact, data, tests, choosing, generator)
    goal = goal_of(exact, parts, r2_min, stop)
    work = copy.deepcopy(exact)
    with (
        one_thread(),
        progress_bar("symbolize", len(model.layers) + _STEPS, shown=progress) as advance,
    ):
        choices = assign_functions(work, goal.x, families, r2_min, advance=advance, stop=stop)
        if how.refine and not stop.happened:
            work = Beam(exact, families, r2_min, goal).search(work, choices)
        advance(note="refit")
        work, replaced = revert_until_accurate(work, goal, refine=how.refine)
        advance(note="formulas")
        networks, steps = (exact, replaced, work), {"refined": how.refine, "snapped": how.snap}
        stages, settled = build_path(*networks, goal, families, **steps)
        advance(note="receipt")
        result = SymbolicResult(
            stages=stages,
            receipt=Receipt(rows=0),
            model_selection=how.model_selection,
            feature_names=model.feature_names,
            output_names=model.output_names,
            negligible=() if goal.independent is None else settled,
            limit=limits_of(exact, *goal.judged, r2_min),
        )
        result = _following(result, exact, goal.judged, r2_min)
        if not stop.happened:
            result, parts = _rechosen(result, exact, parts, r2_min)
            if exact.task == "classification":
                result = _as_accurate(result, exact, parts, r2_min)
        receipt = _receipt(result, networks, parts)
    return dataclasses.replace(result, receipt=receipt, model=finished(work, model))


def _following(
    result: SymbolicResult, model: KAN, judged: tuple[Tensor, Tensor], r2_min: float
) -> SymbolicResult:
    """Raise the limits to allow a short formula whose R2 against the model is at least `r2_min`."""
    gaps, limits = _losses(result, judged[0], model(judged[0])), []
    for place, limit in enumerate(cast("tuple[float, ...]", result.limit)):
        pairs = zip(result.stages, gaps, strict=True)
        close = [stage for stage, gap in pairs if gap[place] <= 1 - r2_min]
        short = [s for s in close if complexity(s.expressions[place]) <= READABLE]
        limits.append(max(limit, min((s.losses[place] for s in short), default=limit)))
    return dataclasses.replace(result, limit=tuple(limits))


def _rechosen(
    result: SymbolicResult, model: KAN, parts: PartitionedRows, r2_min: float
) -> tuple[SymbolicResult, PartitionedRows]:
    """Choose again, on the test rows too, if a shorter formula is better there."""
    if parts.judging is None:
        return result, parts
    losses = _losses(result, *target_of(model, parts.judging))
    whole = [k for k, stage in enumerate(result.stages) if not stage.partial]
    if not any(
        losses[j][o] < losses[result.stages.index(best)][o] / _WORSE
        for o, best in enumerate(result.picked())
        for j in whole
        if complexity(result.stages[j].expressions[o]) < complexity(best.expressions[o])
    ):
        return result, parts
    joined = parts.all_choosing()
    x, target = target_of(model, joined.choosing or joined.fitted)
    pairs = zip(result.stages, _losses(result, x, target), strict=True)
    stages = tuple(dataclasses.replace(stage, losses=losses) for stage, losses in pairs)
    again = dataclasses.replace(result, stages=stages, limit=limits_of(model, x, target, r2_min))
    return _following(again, model, (x, target), r2_min), joined


def _as_accurate(
    result: SymbolicResult, model: KAN, parts: PartitionedRows, r2_min: float
) -> SymbolicResult:
    """Return the result with the first loss limit that gives short and accurate formulas."""
    pairs = [pair for pair in (parts.fitted, parts.choosing) if pair]
    x, y = torch.cat([x for x, _ in pairs]), [y for _, y in pairs if y is not None]
    output = model(x)
    truth = torch.cat(y) if y else classes(output)
    slack = 1 - r2_min + math.sqrt(r2_min * (1 - r2_min) / len(x))  # with its standard error
    threshold = float((classes(output) == truth).double().mean()) - slack
    limits = [(limit, READABLE) for limit in (result.limit, *_LOOSE_LIMITS)]
    for limit, most in [*limits, (result.limit, math.inf)]:
        trial = dataclasses.replace(result, limit=limit)
        sizes = [complexity(s.expressions[k]) for k, s in enumerate(trial.picked())]
        values = torch.from_numpy(trial.predict(x))
        right = (classes(values) == truth) & values.isfinite().all(1)
        if float(right.double().mean()) >= threshold and max(sizes) <= most:
            return trial
    return dataclasses.replace(result, limit=0.0)


def _losses(result: SymbolicResult, x: Tensor, target: Tensor) -> list[tuple[float, ...]]:
    """Return the loss of every output at every stage."""
    values = (torch.from_numpy(result.predict(x, k)) for k in range(len(result.stages)))
    return [tuple(relative_losses(output, target).tolist()) for output in values]


def _receipt(result: SymbolicResult, networks: Sequence[KAN], parts: PartitionedRows) -> Receipt:
    """Return the receipt of the picked formulas of a network."""
    exact, replaced, work = networks
    picked = result.picked()
    symbols = {sympy.Symbol(symbol.name): symbol for symbol in feature_symbols(work)}
    real = tuple(stage.expressions[k].xreplace(symbols) for k, stage in enumerate(picked))
    judged = parts.judging or parts.choosing or parts.fitted
    budget, mean_difference = error_budget(exact, replaced, work, real, judged[0])
    return examine(
        real,
        exact,
        *judged,
        fitted_to=None if judged is parts.fitted else parts.fitted[0],
        chosen_on=judged is parts.choosing,
        **fitted_constants(real, feature_symbols(work), *parts.fitted),
        budget=budget,
        mean_difference=mean_difference,
        snapped=tuple(c for k, s in enumerate(picked) if s.snapped for c in s.snapped[k]),
        snap_costs=tuple(c for k, s in enumerate(picked) if s.snap_costs for c in s.snap_costs[k]),
    )


@within_memory
@torch.no_grad()
@np.errstate(all="ignore")
def suggest(
    model: Model,
    x: Rows,
    *,
    functions: Sequence[str] | None = None,
    max_memory: Memory = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """List the functions that explain each unmasked edge best.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        In the units of the data.
    functions : sequence of str, optional
        Names of functions to choose from; default all.
    max_memory : str or int, optional
        As for `trace`.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    DataFrame
        One row per edge and rank: layer, out, in, rank (1 is best), function, r2, score (criterion
        minus that of the best function; less than 6 is a near tie), formula (of the feature, or of
        ``h<layer>_<n>`` for the nth hidden unit, counted from 1). After an interrupt, the rows
        finished so far, with a warning.

    Examples
    --------
    >>> suggest(KAN([1, 1]), torch.linspace(-1, 1, 50)[:, None]).columns.tolist()
    ['layer', 'out', 'in', 'rank', 'function', 'r2', 'score', 'formula']
    """
    model = check_model("suggest", model)
    families = library(functions, call="suggest")
    work = in_double(model)
    rows, _ = prepared(work, x, None, call="suggest")
    hidden, table, stop = work.scale_inputs(rows[thinned(rows, None)]), [], Interruption()
    bar = progress_bar("suggest", work.edges_alive, shown=progress)
    with one_thread(), bar as advance, stop.kept():
        for index in range(len(work.layers)):
            for choice in rank_layer(work, index, hidden, families):
                table += _suggestions(work, choice)
                advance()
            hidden = work.through(index, hidden)
    stop.warn("suggest")
    columns = ["layer", "out", "in", "rank", "function", "r2", "score", "formula"]
    return pd.DataFrame(table, columns=columns)


def _suggestions(model: KAN, choice: EdgeChoice) -> list[tuple[Any, ...]]:
    """Return the rows of `suggest` for one edge."""
    rows: list[tuple[Any, ...]] = []
    for rank, candidate in enumerate(choice.candidates[:_MAX_SUGGESTIONS], start=1):
        edge = Edge.of(candidate.function, *candidate.parameters)
        name = f"h{choice.layer}_{choice.in_ + 1}"
        if choice.layer == 0:
            shift, scale = model.input_shift[choice.in_], model.input_scale[choice.in_]
            edge = edge.in_units(float(shift), float(scale))
            name = model.feature_names[choice.in_]
        place = (choice.layer, choice.out, choice.in_, rank)
        quality = (candidate.function, candidate.r2, candidate.score)
        rows.append((*place, *quality, edge_text(edge, name)))
    return rows
