"""From a table to a formula: `discover`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
import torch

from kanlens.checks import check_generator, check_positive
from kanlens.interruption import Interruption, interrupts_pass
from kanlens.progress import progress_bar
from kanlens.symbolic.composition import evaluator, plain
from kanlens.symbolic.constants import can_refine, snap
from kanlens.symbolic.discovery.front import EXACT, Entry, Front, length
from kanlens.symbolic.discovery.portions import Interlude
from kanlens.symbolic.discovery.problems import Deadline, Problem
from kanlens.symbolic.discovery.regression import Array, relative_error
from kanlens.symbolic.discovery.search import search
from kanlens.symbolic.discovery.smoothness import noise_of, unevenness
from kanlens.symbolic.discovery.splines import varies
from kanlens.symbolic.discovery.structure import explore
from kanlens.symbolic.discovery.tables import CALL, Sample, sample_of
from kanlens.symbolic.discovery.tidying import multiplied_in
from kanlens.symbolic.front import front as lowest
from kanlens.symbolic.front import scores
from kanlens.symbolic.receipt import examine
from kanlens.symbolic.result import Stage, SymbolicResult
from kanlens.symbolic.simplification import count_numbers, shorten
from kanlens.threads import one_blas_thread, one_thread

if TYPE_CHECKING:
    from kanlens.core.network import Rows

INTERRUPTED = "interrupted"
_ROUNDING = 1e-24  # errors below do not differ
_RESERVE = 0.6  # seconds; a step of the search that has begun is not broken off
_SHARE = 0.85  # of the time that goes into the search; the rest polishes and checks
_FIRST, _LATE = 0.5, 0.75  # of the search, after which networks are trained; without noise
_SMOOTH = 0.05  # unevenness of a target that smooth models can tell
_WORSE = 1.05  # factor by which a formula is worse than a shorter one by more than chance
_POINTS = 200  # where a shorter form is compared
_RISE = 1.03  # factor by which exact numbers may raise the error
_NETWORKS = 0.8  # of what is then left, for them


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Discovery(SymbolicResult):
    """Formulas found in a table, with how the search ended.

    Attributes
    ----------
    stopped_because : str
        "an exact formula was found", "only noise was left", "every way was tried", "the time was
        over" or "interrupted"; after the last two the best formula so far is there, and after an
        interrupt a warning says so.
    seconds : float
        How long it took.
    """

    stopped_because: str
    seconds: float


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

    Models of one layer, sums of splines of columns, are solved by least squares for the target
    and functions of it; splines that fit are written as elementary functions. Around this goes a
    search over structure as in AI Feynman [1]_: factors and columns that the target does not need
    are taken away, columns are put together as products, ratios, sums and differences, and sums
    and ratios of monomials, and of monomials times functions of one combination, are fitted.

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

    Parameters
    ----------
    x : Tensor, ndarray or DataFrame, shape (row, feature)
        More than 2000 rows are thinned out.
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
    sample = sample_of(x, y, feature_names, generator)
    if not varies(sample.y) or not sample.useful:
        entries, because = [_constant(sample)], "every way was tried"
        chosen = entries[0]
    else:
        with one_thread(), one_blas_thread(), np.errstate(all="ignore"):
            front, because = _searched(sample, time_limit, progress, generator)
            entries = front.entries
            sample, chosen = _chosen(sample, front)
    found = _result(sample, entries, chosen, because, start)
    Interruption(happened=because == INTERRUPTED).warn(CALL)
    return found


def _constant(sample: Sample) -> Entry:
    """Return the mean as a formula; a whole number where that is what y is."""
    mean = float(sample.y.mean())
    first = float(sample.y[0])
    value = first if not varies(sample.y) else mean
    whole = value.is_integer() and abs(value) < 1e15
    number = sympy.Integer(int(value)) if whole else sympy.Float(value)
    error = 0.0 if not varies(sample.y) else 1.0
    return Entry(number / sympy.Integer(10) ** sample.y_power, error, 1)


def _searched(
    sample: Sample, time_limit: float, progress: bool | None, generator: torch.Generator | None
) -> tuple[Front, str]:
    """Search until a formula is exact, everything was tried, or the time is over."""
    columns, target = sample.scaled()
    symbols = tuple(sample.symbols[i] for i in sample.useful)
    held_out = sample.held_out
    deadline = Deadline.after(
        min(_SHARE * time_limit, max(time_limit - _RESERVE, 0.3 * time_limit))
    )
    front = Front(symbols, columns, target, held_out, deadline, exact=sample.rounding)
    front.start()
    problem = Problem(columns, symbols, target, held_out, lambda e: e)
    draws = torch.Generator() if generator is None else generator
    because, stop = "every way was tried", Interruption()
    with progress_bar(CALL, max(1, round(time_limit)), shown=progress) as advance:
        front.watch(advance)
        with stop.kept():
            first = _LATE if _noiseless(problem) else _FIRST
            early = Interlude(front, first, _NETWORKS, lambda part: explore(problem, part, draws))
            with interrupts_pass():
                search(problem, early)
                early.catch_up()
            if front.best_error > front.exact:
                front.finish(Deadline.after(max(0.1 * time_limit, 0.0)))
    if stop.happened:
        because = INTERRUPTED
    if front.best_error <= front.exact:
        because = "an exact formula was found"
    elif front.settled and not stop.happened:
        because = "only noise was left"
    elif deadline.passed and not stop.happened:
        because = "the time was over"
    return front, because


def _chosen(sample: Sample, front: Front) -> tuple[Sample, Entry]:
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
    made = evaluator(tuple(sample.in_units(e.expression) for e in entries), sample.symbols)(x)
    return [max(relative_error(values, y), sample.rounding) for values in made.T]


def _noiseless(problem: Problem) -> bool:
    """Say whether more rows still tell more of a smooth target: then the search does best."""
    columns, target = problem.columns, problem.target
    return unevenness(columns, target) < _SMOOTH and noise_of(columns, target) == 0.0


def _result(
    sample: Sample, entries: list[Entry], chosen: Entry, because: str, start: float
) -> Discovery:
    picked = _snapped_in_units(sample, chosen)
    stages = []
    for entry in _shown(entries, chosen):
        expression = sample.in_units(entry.expression)
        stages.append(
            Stage(
                name="snapped" if entry.snapped else "fitted",
                expressions=(plain(picked.expression if entry is chosen else expression),),
                losses=(entry.error,),
            )
        )
    x, y, fitted_to, chosen_on = sample.judged
    receipt = examine(
        (picked.expression,),
        None,
        torch.from_numpy(x),
        torch.from_numpy(y)[:, None],
        feature_names=sample.feature_names,
        fitted_to=None if fitted_to is None else torch.from_numpy(fitted_to),
        chosen_on=chosen_on,
        snapped=picked.snapped,
    )
    return Discovery(
        stages=tuple(stages),
        receipt=receipt,
        feature_names=sample.feature_names,
        output_names=(sample.output_name,),
        limit=chosen.error * (1 + 1e-9),
        negligible=(EXACT,),
        stopped_because=because,
        seconds=time.monotonic() - start,
    )


def _snapped_in_units(sample: Sample, entry: Entry) -> Entry:
    """Write a formula in the units of the data, where other numbers are exact than in those scaled.

    One half of 10,000 was 0.5 in the search, and 5000 is a number that the data have to show.
    """
    expression = multiplied_in(sample.in_units(entry.expression))
    unmoved = dataclasses.replace(entry, expression=expression)
    if not sample.moved or not count_numbers(expression) or not can_refine(expression):
        return unmoved
    rows = ~sample.held_out
    with one_thread(), one_blas_thread(), np.errstate(all="ignore"):
        found = snap(expression, sample.symbols, sample.x[rows], sample.y[rows])
        points = sample.x[:: max(1, len(sample.x) // _POINTS)]
        short = shorten(found.expression, sample.symbols, points)
        values = evaluator((short,), sample.symbols)(sample.x)[:, 0]
    error = relative_error(values[~rows], sample.y[~rows]) if (~rows).any() else found.loss
    if error > max(_RISE * entry.error, sample.rounding):
        return unmoved
    return dataclasses.replace(entry, expression=short, snapped=(*entry.snapped, *found.snapped))


def _differs(entry: Entry, least: float) -> bool:
    return entry.error > least or not entry.expression.free_symbols  # the mean is always there


def _shown(entries: list[Entry], chosen: Entry) -> list[Entry]:
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
