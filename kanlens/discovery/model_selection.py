"""Model selection: the formula chosen from a front, those shown beside it, in data units."""

from __future__ import annotations

import dataclasses

import numpy as np

from kanlens.discovery import settings as tuned
from kanlens.discovery.front import Entry, Front
from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.scaling import ScaledTable, number, resolved, rounding_step, shortest
from kanlens.symbolic.composition import Expr, evaluator
from kanlens.symbolic.constants import can_refine, snap
from kanlens.symbolic.front import front as lowest
from kanlens.symbolic.front import scores
from kanlens.symbolic.simplification import complexity, count_numbers, shorten
from kanlens.symbolic.term_collection import multiplied_in
from kanlens.threads import one_blas_thread, one_thread


def chosen_entry(table: ScaledTable, front: Front) -> tuple[ScaledTable, Entry]:
    """Return what the front chose, unless a shorter formula is better on rows nobody has seen.

    Rows that only judge choose too where they show that one is better by more than chance.
    """
    best = front.chosen()
    if not len(table.choosing[1]):
        return table, best
    able = [*(entry for entry in front.entries if entry.length < best.length), best]
    lengths = [entry.length for entry in able]
    chosen = lowest(lengths, _errors(table, able, *table.choosing))[-1]
    judged = _errors(table, able, *table.judging)
    shorter = [e for e, size in zip(judged, lengths, strict=True) if size < lengths[chosen]]
    if judged[chosen] > tuned.WORSE * min(shorter, default=np.inf):
        table = table.all_choosing()
        chosen = lowest(lengths, _errors(table, able, *table.choosing))[-1]
    return table, able[chosen]


def _errors(table: ScaledTable, entries: list[Entry], x: Array, y: Array) -> list[float]:
    """Return the errors of formulas on rows in the units of the data."""
    every = (table.from_origin(table.in_units(entry.expression)) for entry in entries)
    made = evaluator(tuple(every), table.symbols)(x)
    return [max(relative_error(values, y), table.rounding) for values in made.T]


def shown(entries: list[Entry], chosen: Entry) -> list[Entry]:
    """Return the front, simplest first, without what says the same as the chosen formula.

    Of formulas with equal errors the chosen one stays, and none that is longer may have the
    higher score. The mean is always there.
    """
    level = max(chosen.error, tuned.EXACT)
    ranked = sorted(entries, key=lambda e: e.complexity)
    differ = [e for e in ranked if e.error > 1.5 * level or not e.expression.free_symbols]
    found = [*(e for e in differ if e.complexity < chosen.complexity), chosen]
    for entry in ranked:
        better = entry.error < found[-1].error / 1.001 and max(entry.error, tuned.EXACT) != level
        if entry.complexity > chosen.complexity and better:
            row = [*found, entry]
            values = scores([e.complexity for e in row], [e.error for e in row])
            if values[-1] < values[found.index(chosen)]:
                found.append(entry)
    return found


def constant(table: ScaledTable) -> Entry:
    """Return the formula of a target that is constant, or of which the columns say nothing."""
    first = float(table.y[0])
    mean = first + float((table.y - first).mean())
    if resolved(table.y):
        return Entry(number(mean), 1.0, 1)
    return Entry(shortest(mean, 0.0), 0.0, 1)


def in_units(table: ScaledTable, entry: Entry) -> Entry:
    """Write a formula in the units of the data, its numbers exact where they are round there.

    One half of 10,000 was 0.5 in the search, and 5000 is a number that the data have to show. The
    origins of the columns and of y go back to where they are at the end, so that no digits are
    lost before.
    """
    if not table.moved:
        return dataclasses.replace(entry, expression=multiplied_in(entry.expression))
    with one_thread(), one_blas_thread(), np.errstate(all="ignore"):
        found = _snapped(table, entry)
        limit = max(tuned.RISE * found.error, table.rounding)
        for form in _forms(table, found.expression):
            if _error(table, form, table.x, table.y) <= limit:
                return dataclasses.replace(found, expression=form)
    return dataclasses.replace(found, expression=table.from_origin(found.expression))


def _snapped(table: ScaledTable, entry: Entry) -> Entry:
    """Write a formula in the units of the data, as a difference from their origins."""
    expression = multiplied_in(table.in_units(entry.expression))
    unmoved = dataclasses.replace(entry, expression=expression)
    if not count_numbers(expression) or not can_refine(expression):
        return unmoved
    x, y = table.from_zero()
    rows = ~table.held_out
    found = snap(expression, table.symbols, x[rows], y[rows])
    short = shorten(found.expression, table.symbols, _few(x))
    if _error(table, short, x, y) > max(tuned.RISE * entry.error, table.rounding):
        return unmoved
    return dataclasses.replace(entry, expression=short, snapped=(*entry.snapped, *found.snapped))


def _forms(table: ScaledTable, expression: Expr) -> list[Expr]:
    """Return ways of writing a formula with its origins put back, the shortest first."""
    moved = table.from_origin(expression)
    if moved == expression:
        return [expression]
    known = 2 * rounding_step(table.y)
    every = [moved, shorten(moved, table.symbols, _few(table.x))]
    even = [_rounded_term(form, known) for form in every]
    return [*sorted(even, key=lambda e: (count_numbers(e), complexity(e))), *every]


def _rounded_term(total: Expr, room: float) -> Expr:
    """Round the constant term of a sum as far as the target does not show it.

    A fraction of many digits becomes a number with a point.
    """
    term, rest = total.as_coeff_Add()
    long = term.is_Rational and not term.is_Integer and abs(int(term.p)) > tuned.LONG_FRACTION
    return shortest(float(term), room) + rest if term.is_Float or long else total


def _few(x: Array) -> Array:
    return x[:: max(1, len(x) // tuned.CHECKED_ROWS)]


def _error(table: ScaledTable, expression: Expr, x: Array, y: Array) -> float:
    """Return the error of a formula on the rows that judge."""
    judged = table.held_out if table.held_out.any() else ~table.held_out
    values = evaluator((expression,), table.symbols)(x)[:, 0]
    return relative_error(values[judged], y[judged])
