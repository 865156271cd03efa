"""Which formula of a front is chosen, and which are shown beside it."""

from __future__ import annotations

import numpy as np

from kanlens.discovery.entries import Entry, length
from kanlens.discovery.front import Front
from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.tables import Sample
from kanlens.symbolic.composition import evaluator
from kanlens.symbolic.front import front as lowest
from kanlens.symbolic.front import scores

_ROUNDING = 1e-24  # errors below do not differ
_WORSE = 1.05  # factor by which a formula is worse than a shorter one by more than chance


def chosen_entry(sample: Sample, front: Front) -> tuple[Sample, Entry]:
    """Return what the front chose, unless a shorter formula is better on rows nobody has seen.

    Rows that only judge choose too where they show that one is better by more than chance.
    """
    best = front.chosen()
    if not len(sample.choosing[1]):
        return sample, best
    able = [*(entry for entry in front.entries if length(entry) < length(best)), best]
    lengths = [length(entry) for entry in able]
    errors = _errors(sample, able, *sample.choosing)
    chosen = lowest(lengths, errors)[-1]
    judged = _errors(sample, able, *sample.judging)
    shorter = [e for e, size in zip(judged, lengths, strict=True) if size < lengths[chosen]]
    if judged[chosen] > _WORSE * min(shorter, default=np.inf):
        sample = sample.all_choosing()
        chosen = lowest(lengths, _errors(sample, able, *sample.choosing))[-1]
    return sample, able[chosen]


def _errors(sample: Sample, entries: list[Entry], x: Array, y: Array) -> list[float]:
    """Return the relative squared errors of formulas on rows in the units of the data."""
    every = (sample.from_origin(sample.in_units(entry.expression)) for entry in entries)
    made = evaluator(tuple(every), sample.symbols)(x)
    return [max(relative_error(values, y), sample.rounding) for values in made.T]


def shown(entries: list[Entry], chosen: Entry) -> list[Entry]:
    """Return the front, simplest first, without what says the same as the chosen formula.

    Of formulas with equal errors the chosen one stays, and none that is longer may have the
    higher score.
    """
    least = 1.5 * max(chosen.error, _ROUNDING)
    simpler = [e for e in entries if e.complexity < chosen.complexity and _differs(e, least)]
    found = [*sorted(simpler, key=lambda e: e.complexity), chosen]
    for entry in sorted(entries, key=lambda e: e.complexity):
        if entry.complexity > chosen.complexity and entry.error < found[-1].error / 1.001:
            if max(entry.error, _ROUNDING) == max(chosen.error, _ROUNDING):
                continue
            row = [*found, entry]
            values = scores([e.complexity for e in row], [e.error for e in row])
            if values[-1] < values[found.index(chosen)]:
                found.append(entry)
    return found


def _differs(entry: Entry, least: float) -> bool:
    return entry.error > least or not entry.expression.free_symbols  # the mean is always there
