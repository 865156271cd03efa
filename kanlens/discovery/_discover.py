"""`discover`: search for a formula of a table's target."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from kanlens._checks import check_generator, check_positive
from kanlens._resources import one_thread
from kanlens._runtime import Deadline, Interruption, ending, interrupts_pass, progress_bar
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import POWER_LAW, short_formulas
from kanlens.discovery._pareto_front import Entry, Front
from kanlens.discovery._regression import Array, relative_error
from kanlens.discovery._scaling import (
    CALL,
    ScaledTable,
    number,
    resolved,
    rounding_step,
    shortest,
    table_of,
)
from kanlens.discovery._search import search
from kanlens.discovery._smoothness import unfollowed
from kanlens.model._network import Rows, Targets
from kanlens.symbolic import _pareto_front as pareto
from kanlens.symbolic._composition import Expr, evaluator, plain
from kanlens.symbolic._constants import fitted_constants
from kanlens.symbolic._receipt import Receipt, examine
from kanlens.symbolic._result import Stage, SymbolicResult
from kanlens.symbolic._rewriting import multiplied_in
from kanlens.symbolic._simplification import can_refine, complexity, count_numbers, shorten, snap


class StopReason(str, Enum):
    """Reason why a search ended, in words."""

    EXACT = "an exact formula was found"
    NOISE = "only noise was left"
    EXHAUSTED = "every form was tried"
    TIME = "the time limit was reached"
    INTERRUPTED = "interrupted"

    __str__ = str.__str__
    __repr__ = str.__repr__


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Discovery(SymbolicResult):
    """Formulas for the target of a table, and why the search ended.

    Attributes
    ----------
    stopped_because : StopReason
        "an exact formula was found", "only noise was left", "every form was tried", "the time
        limit was reached" or "interrupted"; after the last two the result holds the best formula so
        far, and an interrupt also warns.
    seconds : float
        Seconds of the search.
    error_scale : {"absolute", "logarithmic"}
        Scale of the target in the losses. "logarithmic": asinh(target / unit), for a target that
        spans many decades; small errors are then relative errors.
    """

    stopped_because: StopReason
    seconds: float
    error_scale: str = "absolute"


@np.errstate(all="ignore")
def discover(
    x: Rows,
    y: Targets,
    feature_names: Iterable[str] | None = None,
    *,
    time_limit: float = 60.0,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> Discovery:
    """Find a formula for a target in a table.

    Losses are squared errors in units of the target; if it spans decades and its logarithm is
    smoother, they are those of the logarithm (roughly relative errors).

    The slopes of a smooth model show whether the target is a function of a few products of powers
    of the columns, or has such a product as a factor; the products replace the columns, repeatedly.
    Sums of splines of columns are fitted to the target and to functions of the target, and
    rewritten as elementary functions, as are sums of a few products of powers times functions of
    other columns. These steps are part of a search over structure as in AI Feynman [1]_: factors
    and columns that the target does not need are removed, and columns are merged into products,
    ratios, sums and differences.

    If these find nothing, a small network is trained on the rows. Its slopes show, despite noise,
    which columns enter only in combination; the simplified problem is searched.

    All numbers of a candidate are refitted together and replaced by exact constants if the data
    allow it. Candidates are compared on held-out rows. From 2200 rows on, half of the rows beyond
    2000 also take part in the choice; the other half is a test set, used only for the receipt
    (accuracy report). With fewer rows, the receipt uses the rows that the formula was chosen on.
    The search ends when the columns explain nothing of the residuals of a formula: at once if all
    its numbers are exact, else after some time for a better one. Without such a formula, the best
    one of at most twelve terms is returned; the receipt calls it an approximation.

    Parameters
    ----------
    x : Tensor, ndarray or DataFrame, shape (row, feature)
        More than 2000 rows are thinned out. Columns of text or dates of a DataFrame are left out,
        with a warning.
    y : array-like, shape (row,)
        Target, one finite number per row.
    feature_names : iterable of str, optional
        Default: the names of the columns, or x1, x2, ...
    time_limit : float
        Seconds after which the best formula so far is returned.
    generator : torch.Generator, optional
        Draws held-out rows. Default: they are evenly spread.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    Discovery
        A `SymbolicResult` whose stages are the Pareto front of complexity and error.

    Raises
    ------
    ShapeError, DTypeError, DataError
        If x and y are not a table and a target of finite numbers.
    InvalidValueError
        If `time_limit` is not positive, or `generator` is not a Generator.

    References
    ----------
    .. [1] S.-M. Udrescu, M. Tegmark, AI Feynman: a physics-inspired method for symbolic
       regression, Science Advances 6, 2020.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(1.0, 3.0, (100, 2))
    >>> found = discover(x, x[:, 0] * np.exp(-x[:, 1]), progress=False)
    >>> found.sympy(), found.stopped_because
    (x1*exp(-x2), 'an exact formula was found')
    """
    check_positive(CALL, "time_limit", time_limit)
    check_generator(CALL, generator)
    start = time.monotonic()
    table = table_of(x, y, feature_names, generator, seconds=tuned.SIFTING * time_limit)
    if not resolved(table.y) or not table.useful:
        picked = chosen = constant(table)
        entries, because, near = [chosen], StopReason.EXHAUSTED, False
    else:
        # with two threads, thousands of small least-squares problems took nine times as long
        with one_thread(), threadpool_limits(1, "blas"):
            table, front, because = _searched(table, start, time_limit, progress)
            entries = front.entries
            table, chosen = chosen_entry(table, front)
            picked = in_units(table, chosen)
            settled = because in (StopReason.EXACT, StopReason.NOISE)
            near = not settled and chosen.error > table.rounding
    receipt = _receipt(table, picked, near=near, profiled=because is not StopReason.TIME)
    result = _result(table, entries, chosen, picked, receipt, because, start)
    Interruption(happened=because is StopReason.INTERRUPTED).warn(CALL)
    return result


def _searched(
    table: ScaledTable, start: float, time_limit: float, progress: bool | None
) -> tuple[ScaledTable, Front, StopReason]:
    """Search to the end; search again if a formula reveals outliers."""
    reserved = max(time_limit - tuned.RESERVE, 0.3 * time_limit)
    deadline = Deadline(start, start + min(tuned.SEARCHING * time_limit, reserved))
    stop, formulas = Interruption(), list[Expr]()
    with progress_bar(CALL, max(1, round(time_limit)), shown=progress) as advance:
        for remaining in reversed(range(tuned.PASSES)):
            options: dict[str, Any] = {"exact": table.rounding, "in_units": table.in_common_units}
            front = Front(table.scaled(), deadline, advance=advance, **options)
            front.start(formulas)
            with stop.kept():
                for expression in formulas:  # refitted without the outliers
                    front.submit(expression)
                _search(front, table, time_limit)
            outliers = front.outlier_rows
            if outliers is None:
                outliers = front.exceptions(front.chosen())
            if not remaining or stop.happened or not outliers.any():
                break
            formulas, table = [entry.expression for entry in front.entries], table.without(outliers)
    if front.best_error <= front.exact:
        return table, front, StopReason.EXACT
    if stop.happened:
        return table, front, StopReason.INTERRUPTED
    if front.converged:
        return table, front, StopReason.NOISE
    return table, front, StopReason.TIME if deadline.passed else StopReason.EXHAUSTED


def _search(front: Front, table: ScaledTable, time_limit: float) -> None:
    """Search, and polish the best formulas unless one is exact."""
    problems = table.from_both_zeros(front.problem)
    with interrupts_pass(), ending(front.deadline.end):
        for moved in problems[1:]:
            POWER_LAW.submit(moved, front)
        for start in problems:
            search(start, front)
            front.refit()
    cut_short = front.deadline.passed and not front.converged
    if front.outlier_rows is None and (cut_short or front.best_error > front.exact):
        last = Deadline.after(tuned.POLISHING * time_limit + min(front.deadline.left, 0.0))
        with ending(last.end):
            front.finish(last, short_formulas(front.problem, front))


def _result(
    table: ScaledTable,
    entries: list[Entry],
    chosen: Entry,
    picked: Entry,
    receipt: Receipt,
    because: StopReason,
    start: float,
) -> Discovery:
    def written(entry: Entry) -> Entry:
        moved = table.from_origin(table.in_units(entry.expression))
        short = plain(picked.expression if entry is chosen else moved)
        return dataclasses.replace(entry, expression=short, complexity=complexity(short))

    formulas = {entry: written(entry) for entry in (*entries, chosen)}
    stages = []
    for entry in shown(list(formulas.values()), formulas[chosen]):
        name = "snapped" if entry.snapped else "fitted"
        stages.append(Stage(name=name, expressions=(entry.expression,), losses=(entry.error,)))
    return Discovery(
        stages=tuple(stages),
        receipt=receipt,
        feature_names=table.feature_names,
        output_names=(table.output_name,),
        limit=rule_of(chosen)["limit"],
        negligible=(rule_of(chosen)["negligible"],),
        stopped_because=because,
        error_scale="logarithmic" if table.error_scale.unit else "absolute",
        seconds=time.monotonic() - start,
    )


def _receipt(table: ScaledTable, picked: Entry, *, near: bool, profiled: bool) -> Receipt:
    """Evaluate a formula on test rows if any, and on outliers that are close to it."""
    x, y, fitted_to, chosen_on = table.judged
    (others, values), formula = table.aside, (picked.expression,)
    fit = evaluator(formula, table.symbols)(np.concatenate((table.x, others)))
    lost = unfollowed(fit[:, 0], np.concatenate((table.y, values)))[len(table.x) :]
    fit_x, fit_y = (torch.from_numpy(p[~table.held_out]) for p in (table.x, table.y[:, None]))
    return examine(
        formula,
        None,
        torch.from_numpy(np.concatenate((x, others[~lost]))),
        torch.from_numpy(np.concatenate((y, values[~lost])))[:, None],
        feature_names=table.feature_names,
        fitted_to=None if fitted_to is None else torch.from_numpy(fitted_to),
        chosen_on=chosen_on,
        snapped=picked.constants,
        **fitted_constants(
            formula, table.symbols, fit_x, fit_y, table.error_scale, profiled=profiled
        ),
        unfollowed_rows=int(lost.sum()),
        approximate=near,
    )


def chosen_entry(table: ScaledTable, front: Front) -> tuple[ScaledTable, Entry]:
    """Return the choice of the front, or a shorter formula that is better on validation rows."""
    best = front.chosen()
    if not len(table.choosing[1]):
        return table, best
    able = [*(entry for entry in front.entries if entry.length < best.length), best]
    lengths = [entry.length for entry in able]
    chosen = pareto.front(lengths, _errors(table, able, *table.choosing))[-1]
    judged = _errors(table, able, *table.judging)
    shorter = [e for e, size in zip(judged, lengths, strict=True) if size < lengths[chosen]]
    if judged[chosen] > tuned.WORSE * min(shorter, default=np.inf):
        table = table.all_choosing()
        chosen = pareto.front(lengths, _errors(table, able, *table.choosing))[-1]
    return table, able[chosen]


def _errors(table: ScaledTable, entries: list[Entry], x: Array, y: Array) -> list[float]:
    """Return the errors of formulas on rows in the units of the data."""
    formulas = tuple(table.from_origin(table.in_units(entry.expression)) for entry in entries)
    values = evaluator(formulas, table.symbols)(x)
    errors = (relative_error(column, y, table.error_scale) for column in values.T)
    return [max(error, table.rounding) for error in errors]


def shown(entries: list[Entry], chosen: Entry) -> list[Entry]:
    """Return the front without formulas that are equivalent to the chosen one."""
    level = max(chosen.error, tuned.EXACT)
    ranked = sorted(entries, key=lambda e: e.complexity)
    differ = [e for e in ranked if e.error > 1.5 * level or not e.expression.free_symbols]
    rows = [*(e for e in differ if e.complexity < chosen.complexity), chosen]
    for entry in ranked:
        readable = entry.is_short or entry.error <= tuned.EXACT
        better = entry.error < rows[-1].error / 1.001 and max(entry.error, tuned.EXACT) != level
        if readable and better and entry.complexity > chosen.complexity:
            sizes, errors = zip(*((e.complexity, e.error) for e in (*rows, entry)), strict=True)
            if rows.index(chosen) == pareto.choose(sizes, errors, "best", **rule_of(chosen)):
                rows.append(entry)
    return rows


def rule_of(chosen: Entry) -> dict[str, float]:
    """Return the settings of `SymbolicResult` for the chosen formula."""
    return {"limit": chosen.error * (1 + 1e-9), "negligible": max(tuned.EXACT, chosen.error)}


def constant(table: ScaledTable) -> Entry:
    """Return the constant formula, for a target or columns that do not vary."""
    mean = float(table.y[0] + (table.y - table.y[0]).mean())
    return Entry(number(mean), 1.0, 1) if resolved(table.y) else Entry(shortest(mean, 0.0), 0.0, 1)


def in_units(table: ScaledTable, entry: Entry) -> Entry:
    """Convert a formula to the units of the data, with exact constants."""
    # an exact 1/2 of the search may be 5000 in these units, which the data have to support anew
    if not table.moved:
        return dataclasses.replace(entry, expression=multiplied_in(entry.expression))
    snapped = _snapped(table, entry)
    limit = max(tuned.RISE * snapped.error, table.rounding)
    moved = table.from_origin(snapped.expression)
    if moved == snapped.expression:
        return snapped
    forms = [moved, shorten(moved, table.symbols, table.x)]
    rounded = [_rounded_term(form, 2 * rounding_step(table.y)) for form in forms]
    rounded.sort(key=lambda e: (count_numbers(e), complexity(e)))
    near = (f for f in (*rounded, *forms) if _error(table, f, table.x, table.y) <= limit)
    return dataclasses.replace(snapped, expression=next(near, moved))


def _snapped(table: ScaledTable, entry: Entry) -> Entry:
    """Convert a formula to the units of the data, except for shifts, and snap its constants."""
    expression = multiplied_in(table.in_units(entry.expression))
    unmoved = dataclasses.replace(entry, expression=expression)
    if not count_numbers(expression) or not can_refine(expression):
        return unmoved
    shifts = np.array([float(scale.shift) for scale in table.scales])
    x, y = table.x - shifts, table.y - float(table.y_scale.shift)
    fitted = x[~table.held_out], y[~table.held_out]
    result = snap(expression, table.symbols, *fitted, scale=table.error_scale)
    short = shorten(result.expression, table.symbols, x)
    if _error(table, short, x, y) > max(tuned.RISE * entry.error, table.rounding):
        return unmoved
    return dataclasses.replace(entry, expression=short, snapped=(*entry.snapped, *result.snapped))


def _rounded_term(total: Expr, room: float) -> Expr:
    """Round the constant term of a sum, within the rounding of the target."""
    term, rest = total.as_coeff_Add()
    long = term.is_Rational and not term.is_Integer and abs(int(term.p)) > tuned.MAX_NUMERATOR
    return shortest(float(term), room) + rest if term.is_Float or long else total


def _error(table: ScaledTable, expression: Expr, x: Array, y: Array) -> float:
    """Return the error of a formula on the validation rows."""
    judged = table.held_out if table.held_out.any() else ~table.held_out
    values = evaluator((expression,), table.symbols)(x)[:, 0]
    return relative_error(values[judged], y[judged], table.error_scale)
