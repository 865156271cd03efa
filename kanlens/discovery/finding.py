"""From a table to a formula: `discover`, with what it chooses and shows of what was found."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from kanlens.checks import check_generator, check_positive
from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import POWER_LAW
from kanlens.discovery.front import Entry, Front
from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.scaling import (
    CALL,
    ScaledTable,
    number,
    resolved,
    rounding_step,
    shortest,
    table_of,
)
from kanlens.discovery.scheduling import BudgetedFront, Deferred
from kanlens.discovery.search import explore, search
from kanlens.discovery.smoothness import is_smooth, unfollowed
from kanlens.discovery.stopping import StopReason
from kanlens.discovery.univariate import SHORT_FORMULAS
from kanlens.long_work import Deadline, Interruption, ending, interrupts_pass, progress_bar
from kanlens.model.network import Rows
from kanlens.resources import one_thread
from kanlens.symbolic import front as pareto
from kanlens.symbolic.composition import Expr, evaluator, plain
from kanlens.symbolic.receipt import Receipt, examine
from kanlens.symbolic.result import Stage, SymbolicResult
from kanlens.symbolic.rewriting import multiplied_in
from kanlens.symbolic.simplification import can_refine, complexity, count_numbers, shorten, snap


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Discovery(SymbolicResult):
    """Formulas found in a table, with how the search ended.

    Attributes
    ----------
    stopped_because : StopReason
        "an exact formula was found", "only noise was left", "every way was tried", "the time was
        over" or "interrupted"; after the last two the best formula so far is there, and after an
        interrupt a warning says so.
    seconds : float
        How long it took.
    error_scale : {"absolute", "logarithmic"}
        What the losses are of: the target, or asinh(target / unit) of one over many decades, whose
        squares are of relative errors where a formula is close.
    """

    stopped_because: StopReason
    seconds: float
    error_scale: str = "absolute"


@np.errstate(all="ignore")
def discover(
    x: Rows,
    y: Any,
    feature_names: Iterable[str] | None = None,
    *,
    time_limit: float = 60.0,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> Discovery:
    """Find a formula for a target in a table.

    Errors are squared in units of the target; of a target over many decades, whose logarithm is
    the smoother one, errors of that count, which are relative errors of a close formula.

    The slopes of a smooth model tell which few products of powers of the columns the target is a
    function of, and which product divides it; those take the place of the columns, again and again.
    They also tell the functions of the columns whose sum some function of is the target.
    Models of one layer, sums of splines of columns, are solved by least squares for the target
    and functions of it; splines that fit are written as elementary functions. So are sums of few
    products of powers times functions of products, sums or differences of other columns. Around
    this goes a search over structure as in AI Feynman [1]_: factors and columns that the target
    does not need are taken away, and columns are put together as products, ratios, sums and
    differences.

    Where this finds nothing exact, small networks are trained on the rows. Their slopes and
    differences tell, in spite of noise, which columns are needed, and which only together; what
    is then simpler is searched again. The networks are also pruned and read as formulas, as
    `symbolize` does.

    All numbers of a candidate are refitted together and replaced by exact constants where the
    data allow it; what counts is its error on a share of the rows. Of more than 2200 rows half of
    those beyond 2000 choose too, so that no formula is taken that is worse on them than a shorter
    one, and the receipt is made on the other half, which choose nothing; else it is made on the
    rows that chose. Where a formula leaves
    nothing that the columns could explain, its parts that the data do not need are left out, and
    the search ends: at once if it holds no inexact number, else after waiting for a better one.
    Where none does, the best one of at most twelve terms is returned, and the receipt says that it
    is an approximation.

    Parameters
    ----------
    x : Tensor, ndarray or DataFrame, shape (row, feature)
        More than 2000 rows are thinned out. Columns of text or dates of a DataFrame are left out,
        with a warning.
    y : array-like, shape (row,)
    feature_names : iterable of str, optional
        Default: the names of the columns, or x1, x2, ...
    time_limit : float
        Seconds after which the best formula so far is returned.
    generator : torch.Generator, optional
        Draws the rows that judge, else they are spread evenly, and the weights of networks.
    progress : bool, optional
        False for no bar. Default: a bar where stderr is a terminal.

    Returns
    -------
    Discovery
        A `SymbolicResult` whose stages are the front of complexity and error.

    Raises
    ------
    ShapeError, DTypeError, DataError
        If x and y are no table and target of finite numbers.
    InvalidValueError
        If `time_limit` is not positive, or `generator` is none.

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
        entries, because, near = [constant(table)], StopReason.EXHAUSTED, False
        picked = chosen = entries[0]
    else:
        # with two threads, thousands of small least-squares problems took nine times as long
        with one_thread(), threadpool_limits(1, "blas"):
            table, front, because = _searched(table, start, time_limit, progress, generator)
            entries = front.entries
            table, chosen = chosen_entry(table, front)
            picked = in_units(table, chosen)
            settled = because in (StopReason.EXACT, StopReason.NOISE)
            near = not settled and chosen.error > table.rounding
    receipt = _receipt(table, picked, near=near)
    found = _result(table, entries, chosen, picked, receipt, because, start)
    Interruption(happened=because is StopReason.INTERRUPTED).warn(CALL)
    return found


def _searched(
    table: ScaledTable,
    start: float,
    time_limit: float,
    progress: bool | None,
    generator: torch.Generator | None,
) -> tuple[ScaledTable, Front, StopReason]:
    """Search to the end, anew without the few rows where a formula leaves nothing else."""
    reserved = max(time_limit - tuned.RESERVE, 0.3 * time_limit)
    deadline = Deadline(start, start + min(tuned.SEARCHING * time_limit, reserved))
    draws = torch.Generator() if generator is None else generator
    because, stop, front = StopReason.EXHAUSTED, Interruption(), _front(table, deadline)
    with progress_bar(CALL, max(1, round(time_limit)), shown=progress) as advance:
        for _ in range(tuned.PASSES):
            front.watch(advance)
            with stop.kept():
                _search(front, table, time_limit, draws)
            astray = front.exceptions(front.chosen()) if front.astray is None else front.astray
            if stop.happened or not astray.any():
                break
            formulas, table = [entry.expression for entry in front.entries], table.without(astray)
            front = _front(table, deadline, formulas)
    if front.best_error <= front.exact:
        because = StopReason.EXACT
    elif stop.happened:
        because = StopReason.INTERRUPTED
    elif front.settled:
        because = StopReason.NOISE
    elif deadline.passed:
        because = StopReason.TIME
    return table, front, because


def _front(table: ScaledTable, deadline: Deadline, known: Sequence[Expr] = ()) -> Front:
    """Return a front of some formulas, and of those that they become without the rows aside."""
    front = Front(table.scaled(), deadline, exact=table.rounding)
    front.in_units = table.in_common_units
    front.start(known)
    for expression in known:
        front.offer(expression)
    return front


def _search(front: Front, table: ScaledTable, time_limit: float, draws: torch.Generator) -> None:
    problem, given = front.problem, (front.x, front.y)
    every = table.beside_its_zero(problem)
    with interrupts_pass(), ending(front.deadline.end):
        networks = Deferred(
            lambda part: explore(problem, part, draws),
            tuned.EARLY_NETWORKS,
            # while more rows still tell more of a smooth target, the search does best
            more=lambda: tuned.MORE_SEARCH * int(is_smooth(*given)),
            share=tuned.NETWORKS,
        )
        for each in every[1:]:
            POWER_LAW.offer(each, BudgetedFront(front))
        for each in every:
            search(each, front, deferred=networks)
        networks.run(front, 1.0)
    cut_short = front.deadline.passed and not front.settled
    if front.astray is None and (cut_short or front.best_error > front.exact):
        last = Deadline.after(tuned.POLISHING * time_limit + min(front.deadline.left, 0.0))
        with ending(last.end):
            front.finish(last, SHORT_FORMULAS.formulas(every[0], BudgetedFront(front)))


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
        expression = table.from_origin(table.in_units(entry.expression))
        short = plain(picked.expression if entry is chosen else expression)
        return dataclasses.replace(entry, expression=short, complexity=complexity(short))

    every = {entry: written(entry) for entry in (*entries, chosen)}
    stages = (
        Stage(
            name="snapped" if entry.snapped else "fitted",
            expressions=(entry.expression,),
            losses=(entry.error,),
        )
        for entry in shown(list(every.values()), every[chosen])
    )
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


def _receipt(table: ScaledTable, picked: Entry, *, near: bool) -> Receipt:
    """Judge a formula on rows it was not fitted to, and on those set aside that it follows."""
    x, y, fitted_to, chosen_on = table.judged
    others, values = table.aside
    made = evaluator((picked.expression,), table.symbols)(np.concatenate((table.x, others)))
    lost = unfollowed(made[:, 0], np.concatenate((table.y, values)))[len(table.x) :]
    return examine(
        (picked.expression,),
        None,
        torch.from_numpy(np.concatenate((x, others[~lost]))),
        torch.from_numpy(np.concatenate((y, values[~lost])))[:, None],
        feature_names=table.feature_names,
        fitted_to=None if fitted_to is None else torch.from_numpy(fitted_to),
        chosen_on=chosen_on,
        snapped=picked.constants,
        unfollowed_rows=int(lost.sum()),
        approximate=near,
    )


def chosen_entry(table: ScaledTable, front: Front) -> tuple[ScaledTable, Entry]:
    """Return what the front chose, unless a shorter formula is better on rows nobody has seen."""
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
    every = tuple(table.from_origin(table.in_units(entry.expression)) for entry in entries)
    made = evaluator(every, table.symbols)(x)
    errors = (relative_error(values, y, table.error_scale) for values in made.T)
    return [max(error, table.rounding) for error in errors]


def shown(entries: list[Entry], chosen: Entry) -> list[Entry]:
    """Return the front, simplest first, without what says the same as the chosen formula.

    Of formulas with equal errors the chosen one stays, and none that is longer may be picked in
    its place. The mean is always there.
    """
    level = max(chosen.error, tuned.EXACT)
    ranked = sorted(entries, key=lambda e: e.complexity)
    differ = [e for e in ranked if e.error > 1.5 * level or not e.expression.free_symbols]
    rows = [*(e for e in differ if e.complexity < chosen.complexity), chosen]
    for entry in ranked:
        told = entry.is_short or entry.error <= tuned.EXACT
        better = entry.error < rows[-1].error / 1.001 and max(entry.error, tuned.EXACT) != level
        if told and better and entry.complexity > chosen.complexity:
            sizes, errors = zip(*((e.complexity, e.error) for e in (*rows, entry)), strict=True)
            if rows.index(chosen) == pareto.choose(sizes, errors, "best", **rule_of(chosen)):
                rows.append(entry)
    return rows


def rule_of(chosen: Entry) -> dict[str, float]:
    """Return what `SymbolicResult` goes by so that it gives the formula that was chosen."""
    return {"limit": chosen.error * (1 + 1e-9), "negligible": max(tuned.EXACT, chosen.error)}


def constant(table: ScaledTable) -> Entry:
    """Return the formula of a target that is constant, or of which the columns say nothing."""
    first = float(table.y[0])
    mean = first + float((table.y - first).mean())
    return Entry(number(mean), 1.0, 1) if resolved(table.y) else Entry(shortest(mean, 0.0), 0.0, 1)


def in_units(table: ScaledTable, entry: Entry) -> Entry:
    """Write a formula in the units of the data, its numbers exact where they are round there.

    One half of 10,000 was 0.5 in the search, and 5000 is a number that the data have to show. The
    origins of the columns and of y go back to where they are at the end, so that no digits are
    lost before.
    """
    if not table.moved:
        return dataclasses.replace(entry, expression=multiplied_in(entry.expression))
    snapped = _snapped(table, entry)
    limit = max(tuned.RISE * snapped.error, table.rounding)
    moved = table.from_origin(snapped.expression)
    if moved == snapped.expression:
        return snapped
    forms = [moved, shorten(moved, table.symbols, table.x)]
    room = 2 * rounding_step(table.y)
    even = [_rounded_term(form, room) for form in forms]
    even.sort(key=lambda e: (count_numbers(e), complexity(e)))
    for form in (*even, *forms):
        if _error(table, form, table.x, table.y) <= limit:
            return dataclasses.replace(snapped, expression=form)
    return dataclasses.replace(snapped, expression=moved)


def _snapped(table: ScaledTable, entry: Entry) -> Entry:
    """Write a formula in the units of the data, as a difference from their origins."""
    expression = multiplied_in(table.in_units(entry.expression))
    unmoved = dataclasses.replace(entry, expression=expression)
    if not count_numbers(expression) or not can_refine(expression):
        return unmoved
    x, y = table.from_zero()
    rows = ~table.held_out
    found = snap(expression, table.symbols, x[rows], y[rows], scale=table.error_scale)
    short = shorten(found.expression, table.symbols, x)
    if _error(table, short, x, y) > max(tuned.RISE * entry.error, table.rounding):
        return unmoved
    return dataclasses.replace(entry, expression=short, snapped=(*entry.snapped, *found.snapped))


def _rounded_term(total: Expr, room: float) -> Expr:
    """Round the constant of a sum as far as the target hides it; long fractions get a point."""
    term, rest = total.as_coeff_Add()
    long = term.is_Rational and not term.is_Integer and abs(int(term.p)) > tuned.LONG_FRACTION
    return shortest(float(term), room) + rest if term.is_Float or long else total


def _error(table: ScaledTable, expression: Expr, x: Array, y: Array) -> float:
    """Return the error of a formula on the rows that judge."""
    judged = table.held_out if table.held_out.any() else ~table.held_out
    values = evaluator((expression,), table.symbols)(x)[:, 0]
    return relative_error(values[judged], y[judged], table.error_scale)
