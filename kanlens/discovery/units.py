"""The chosen formula in the units of the data, where other numbers are round."""

from __future__ import annotations

import dataclasses

import numpy as np

from kanlens.discovery.entries import Entry
from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.scales import number, resolved, shortest, step
from kanlens.discovery.tables import Sample
from kanlens.discovery.term_collection import multiplied_in
from kanlens.symbolic.composition import Expr, evaluator
from kanlens.symbolic.constants import can_refine, snap
from kanlens.symbolic.simplification import complexity, count_numbers, shorten
from kanlens.threads import one_blas_thread, one_thread

_POINTS = 200  # where a shorter form is compared
_LONG = 10**4  # largest numerator of a fraction that is shown as one
_RISE = 1.03  # factor by which exact numbers and shorter forms may raise the error


def constant(sample: Sample) -> Entry:
    """Return the formula of a target that is constant, or of which the columns say nothing."""
    first = float(sample.y[0])
    mean = first + float((sample.y - first).mean())
    if resolved(sample.y):
        return Entry(number(mean), 1.0, 1)
    return Entry(shortest(mean, 0.0), 0.0, 1)


def in_units(sample: Sample, entry: Entry) -> Entry:
    """Write a formula in the units of the data, its numbers exact where they are round there.

    One half of 10,000 was 0.5 in the search, and 5000 is a number that the data have to show. The
    origins of the columns and of y go back to where they are at the end, so that no digits are
    lost before.
    """
    if not sample.moved:
        return dataclasses.replace(entry, expression=multiplied_in(entry.expression))
    with one_thread(), one_blas_thread(), np.errstate(all="ignore"):
        found = _snapped(sample, entry)
        limit = max(_RISE * found.error, sample.rounding)
        for form in _forms(sample, found.expression):
            if _error(form, sample.symbols, sample.x, sample.y, sample.held_out) <= limit:
                return dataclasses.replace(found, expression=form)
    return dataclasses.replace(found, expression=sample.from_origin(found.expression))


def _snapped(sample: Sample, entry: Entry) -> Entry:
    """Write a formula in the units of the data, as a difference from their origins."""
    expression = multiplied_in(sample.in_units(entry.expression))
    unmoved = dataclasses.replace(entry, expression=expression)
    if not count_numbers(expression) or not can_refine(expression):
        return unmoved
    x, y = sample.from_zero()
    rows = ~sample.held_out
    found = snap(expression, sample.symbols, x[rows], y[rows])
    short = shorten(found.expression, sample.symbols, _few(x))
    error = _error(short, sample.symbols, x, y, sample.held_out)
    if error > max(_RISE * entry.error, sample.rounding):
        return unmoved
    return dataclasses.replace(entry, expression=short, snapped=(*entry.snapped, *found.snapped))


def _forms(sample: Sample, expression: Expr) -> list[Expr]:
    """Return ways of writing a formula with its origins put back, the shortest first."""
    moved = sample.from_origin(expression)
    if moved == expression:
        return [expression]
    known = 2 * step(sample.y)
    every = [moved, shorten(moved, sample.symbols, _few(sample.x))]
    even = [_rounded_term(form, known) for form in every]
    return [*sorted(even, key=lambda e: (count_numbers(e), complexity(e))), *every]


def _rounded_term(total: Expr, room: float) -> Expr:
    """Round the constant term of a sum as far as the target does not show it.

    A fraction of many digits becomes a number with a point.
    """
    term, rest = total.as_coeff_Add()
    long = term.is_Rational and not term.is_Integer and abs(int(term.p)) > _LONG
    return shortest(float(term), room) + rest if term.is_Float or long else total


def _few(x: Array) -> Array:
    return x[:: max(1, len(x) // _POINTS)]


def _error(
    expression: Expr, symbols: tuple[Expr, ...], x: Array, y: Array, held_out: Array
) -> float:
    """Return the relative squared error on the rows that judge."""
    judged = held_out if held_out.any() else ~held_out
    values = evaluator((expression,), symbols)(x)[:, 0]
    return relative_error(values[judged], y[judged])
