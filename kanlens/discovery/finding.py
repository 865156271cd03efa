"""From a table to a formula: `discover`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kanlens.checks import check_generator, check_positive
from kanlens.deadlines import Deadline, ending
from kanlens.discovery.choosing import chosen_entry, shown
from kanlens.discovery.entries import EXACT, Entry
from kanlens.discovery.front import Front
from kanlens.discovery.outliers import unfollowed
from kanlens.discovery.problems import Problem
from kanlens.discovery.scales import resolved
from kanlens.discovery.search import power_formula, search
from kanlens.discovery.smoothness import loo_error, noise_of
from kanlens.discovery.structure import explore
from kanlens.discovery.tables import CALL, Sample, sample_of
from kanlens.discovery.time_budget import Interlude
from kanlens.discovery.units import constant, in_units
from kanlens.interruption import Interruption, interrupts_pass
from kanlens.progress import progress_bar
from kanlens.symbolic.composition import Expr, evaluator, plain
from kanlens.symbolic.receipt import Receipt, examine
from kanlens.symbolic.result import Stage, SymbolicResult
from kanlens.threads import one_blas_thread, one_thread

if TYPE_CHECKING:
    from kanlens.model.network import Rows

INTERRUPTED = "interrupted"
_SIFTING = 0.5  # of the time, at most, for what sets wrong rows aside
_RESERVE = 0.25  # seconds, for the receipt
_SHARE, _POLISHING = 0.85, 0.1  # of the time; the rest is for the receipt
_FIRST, _LATE = 0.5, 0.75  # of the search, after which networks are trained; without noise
_SMOOTH = 0.05  # loo_error of a target that smooth models can tell
_PASSES = 4  # searches, each without the rows that the one before did not follow
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
    sample = sample_of(x, y, feature_names, generator, seconds=_SIFTING * time_limit)
    if not resolved(sample.y) or not sample.useful:
        entries, because = [constant(sample)], "every way was tried"
        picked = chosen = entries[0]
    else:
        with one_thread(), one_blas_thread(), np.errstate(all="ignore"):
            sample, front, because = _searched(sample, start, time_limit, progress, generator)
            entries = front.entries
            sample, chosen = chosen_entry(sample, front)
        picked = in_units(sample, chosen)
    found = _result(sample, entries, chosen, picked, because, start)
    Interruption(happened=because == INTERRUPTED).warn(CALL)
    return found


def _searched(
    sample: Sample,
    start: float,
    time_limit: float,
    progress: bool | None,
    generator: torch.Generator | None,
) -> tuple[Sample, Front, str]:
    """Search until a formula is exact, everything was tried, or the time is over.

    Where a formula leaves nothing but for a few rows, the search begins anew without them.
    """
    deadline = Deadline(
        start, start + min(_SHARE * time_limit, max(time_limit - _RESERVE, 0.3 * time_limit))
    )
    draws = torch.Generator() if generator is None else generator
    because, stop, front = "every way was tried", Interruption(), _front(sample, deadline)
    with progress_bar(CALL, max(1, round(time_limit)), shown=progress) as advance:
        for _ in range(_PASSES):
            front.watch(advance)
            with stop.kept():
                _search(front, sample, time_limit, draws)
            astray = front.exceptions(front.chosen()) if front.astray is None else front.astray
            if stop.happened or not astray.any():
                break
            known, sample = [entry.expression for entry in front.entries], sample.without(astray)
            front = _front(sample, deadline, known)
    if stop.happened:
        because = INTERRUPTED
    if front.best_error <= front.exact:
        because = "an exact formula was found"
    elif front.settled and not stop.happened:
        because = "only noise was left"
    elif deadline.passed and not stop.happened:
        because = "the time was over"
    return sample, front, because


def _front(sample: Sample, deadline: Deadline, known: Sequence[Expr] = ()) -> Front:
    """Return a front of some formulas, and of those that they become without the rows aside."""
    columns, target = sample.scaled()
    symbols = tuple(sample.symbols[i] for i in sample.useful)
    front = Front(symbols, columns, target, sample.held_out, deadline, exact=sample.rounding)
    front.start()
    front.take(known)
    for expression in known:
        front.offer(expression)
    return front


def _search(front: Front, sample: Sample, time_limit: float, draws: torch.Generator) -> None:
    problem = Problem(front.x, front.symbols, front.y, sample.held_out, lambda e: e)
    with interrupts_pass(), ending(front.deadline.end):
        first = _LATE if _noiseless(problem) else _FIRST
        early = Interlude(front, first, _NETWORKS, lambda part: explore(problem, part, draws))
        every = _origins(problem, sample)
        for each in every[1:]:
            power_formula(each, early)
        for each in every:
            search(each, early)
        early.catch_up()
    cut_short = front.deadline.passed and not front.settled
    if front.astray is None and (cut_short or front.best_error > front.exact):
        last = Deadline.after(_POLISHING * time_limit + min(front.deadline.left, 0.0))
        with ending(last.end):
            front.finish(last)


def _origins(problem: Problem, sample: Sample) -> list[Problem]:
    """Return the problem, and as it is without its columns and target moved to round numbers.

    Powers of a year, and a target that is a product, need the zero that the data have.
    """
    zeros = [sample.scales[i].origin for i in sample.useful]
    above = sample.y_scale.origin
    if not any((*zeros, above)):
        return [problem]
    given = dataclasses.replace(
        problem,
        columns=problem.columns + np.array([float(zero) for zero in zeros]),
        names=tuple(name + zero for name, zero in zip(problem.names, zeros, strict=True)),
        target=problem.target + float(above),
        rebuild=lambda e: e - above,
    )
    return [problem, given]


def _noiseless(problem: Problem) -> bool:
    """Say whether more rows still tell more of a smooth target: then the search does best."""
    columns, target = problem.columns, problem.target
    return loo_error(columns, target) < _SMOOTH and noise_of(columns, target) == 0.0


def _result(
    sample: Sample,
    entries: list[Entry],
    chosen: Entry,
    picked: Entry,
    because: str,
    start: float,
) -> Discovery:
    stages = []
    for entry in shown(entries, chosen):
        expression = sample.from_origin(sample.in_units(entry.expression))
        stages.append(
            Stage(
                name="snapped" if entry.snapped else "fitted",
                expressions=(plain(picked.expression if entry is chosen else expression),),
                losses=(entry.error,),
            )
        )
    receipt = _receipt(sample, picked)
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


def _receipt(sample: Sample, picked: Entry) -> Receipt:
    """Judge a formula on rows it was not fitted to, and on those set aside that it follows."""
    x, y, fitted_to, chosen_on = sample.judged
    others, values = sample.aside
    made = evaluator((picked.expression,), sample.symbols)(np.concatenate((sample.x, others)))
    lost = unfollowed(made[:, 0], np.concatenate((sample.y, values)))[len(sample.x) :]
    return examine(
        (picked.expression,),
        None,
        torch.from_numpy(np.concatenate((x, others[~lost]))),
        torch.from_numpy(np.concatenate((y, values[~lost])))[:, None],
        feature_names=sample.feature_names,
        fitted_to=None if fitted_to is None else torch.from_numpy(fitted_to),
        chosen_on=chosen_on,
        snapped=picked.snapped,
        unfollowed_rows=int(lost.sum()),
    )
