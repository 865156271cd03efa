"""`fit` and `discover` begun several times, as tasks; the best comes first."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

from kanlens.checks import check_count, check_generator
from kanlens.data.source import Source
from kanlens.discovery.finding import Discovery
from kanlens.discovery.finding import discover as discover_once
from kanlens.distributed.jobs import new_seed, seeded
from kanlens.distributed.tasks import Workers, completed, workers_for
from kanlens.errors import DataError, DTypeError, InterruptedWarning, KanlensError, message
from kanlens.long_work import interrupts_pass, progress_bar
from kanlens.model.analysis import Model, check_model
from kanlens.model.layers import KANLinear
from kanlens.symbolic.front import choose
from kanlens.training.loop import fit as fit_once
from kanlens.training.result import FitResult

if TYPE_CHECKING:
    from kanlens.data.tables import Table
    from kanlens.model.network import Rows

RESTARTS = 4


def fit(
    model: Model,
    data: Table | Source | tuple[Any, Any],
    *,
    restarts: int = RESTARTS,
    generator: torch.Generator | None = None,
    workers: Workers = None,
    progress: bool | None = None,
    **options: Any,
) -> list[FitResult]:
    """Train copies of a model that begin with other weights; the best one comes first.

    The first copy begins as the model is. All are judged by the same held-out rows; the loss on
    them flatters the best of many a little, so keep rows to test on out of `data`.

    Parameters
    ----------
    model : KAN or fitted estimator
        Of spline layers. Left as it is.
    data, **options
        As for `kanlens.fit`, but for a checkpoint; of a source, all rows are read.
    restarts : int
        How many copies.
    generator : torch.Generator, optional
        Draws a seed, from which each copy has a generator of its own, so that the results do not
        depend on the workers. Default: one of the system's choice.
    workers : int, str or Client, optional
        As for `attribute` in this module.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    list of FitResult
        By their loss on the held-out rows (the training rows where none are).

    Raises
    ------
    InvalidValueError, DataError, ShapeError, TrainingError
        As `kanlens.fit`.
    MethodError
        If no scheduler or worker answers.
    DTypeError
        If a layer has no splines, whose weights could be drawn.

    Examples
    --------
    >>> from kanlens import KAN
    >>> x = torch.rand(40, 1, dtype=torch.float64)
    >>> found = fit(KAN([1, 2, 1]).double(), (x, x.sin()), restarts=2, steps=2, progress=False)
    >>> found[0].validation_loss <= found[1].validation_loss
    True
    """
    kan = check_model("fit", model)
    check_generator("fit", generator)
    if isinstance(data, Source):
        if data.held() < data.rows:
            advice = "Train once, with kanlens.fit, or allow more max_memory"
            got = f"{data.rows:,} rows"
            raise DataError(message("fit", "rows that memory holds for restarts", got, advice))
        data = data.read(0, data.rows)
    for layer in kan.layers:
        if type(layer) is not KANLinear:
            advice = "Train it once, with kanlens.fit"
            got = type(layer).__name__
            raise DTypeError(message("fit", "layers of splines for restarts", got, advice))
    job = (kan, data, options, new_seed(generator))
    found: list[FitResult] = _begun("fit", fit_again, job, restarts, workers, progress)
    return sorted(found, key=_held_out_loss)


def discover(
    x: Rows,
    y: Any,
    feature_names: Iterable[str] | None = None,
    *,
    time_limit: float = 60.0,
    restarts: int = RESTARTS,
    generator: torch.Generator | None = None,
    workers: Workers = None,
    progress: bool | None = None,
) -> list[Discovery]:
    """Search a table for a formula several times, with other draws; the best one comes first.

    Each search draws the rows that judge and the weights of its networks anew. The first is the
    one that `kanlens.discover` returns.

    Parameters
    ----------
    x, y, feature_names, time_limit
        As for `kanlens.discover`; the limit is of each search.
    restarts, generator, workers, progress
        As for `fit` in this module.

    Returns
    -------
    list of Discovery
        The one that a front of all would name best, then by loss.

    Raises
    ------
    ShapeError, DTypeError, DataError, InvalidValueError
        As `kanlens.discover`.
    MethodError
        If no scheduler or worker answers.

    Examples
    --------
    >>> x = torch.rand(100, 2, dtype=torch.float64) + 1
    >>> discover(x, x[:, 0] * x[:, 1] ** 2, restarts=2, progress=False)[0].sympy()
    x1*x2**2
    """
    check_generator("discover", generator)
    names = None if feature_names is None else list(feature_names)
    seed = None if generator is None else new_seed(generator)
    job = (x, y, names, time_limit, seed)
    found = _begun("discover", discover_again, job, restarts, workers, progress)
    found.sort(key=_loss)
    lengths = [int(one.get_best()["complexity"]) for one in found]
    best = found.pop(choose(lengths, [_loss(one) for one in found], "best", negligible=1e-12))
    return [best, *found]


def _begun(
    call: str,
    function: Callable[..., Any],
    job: Any,
    restarts: int,
    workers: Workers,
    progress: bool | None,
) -> list[Any]:
    """Return what each start came to; after an interrupt, with a warning, what is done."""
    check_count(call, "restarts", restarts)
    found: dict[int, Any] = {}
    bar = progress_bar(call, restarts, shown=progress)
    try:
        with workers_for(call, workers) as client, bar as advance, interrupts_pass():
            for number, one in completed(client, call, function, job, range(restarts)):
                found[number] = one
                advance()
    except KeyboardInterrupt:
        if not found:
            raise
        got = f"an interrupt after {len(found)} of {restarts} restarts"
        text = message(call, "to come to an end", got, "The best of these is returned")
        warnings.warn(text, InterruptedWarning, stacklevel=3)
    return [found[number] for number in sorted(found)]


def fit_again(job: Any, number: int) -> FitResult | KanlensError:
    """Train one copy; return why not where that would be refused again."""
    given, data, options, seed = job
    model, draws = copy.deepcopy(given), seeded(seed, number)
    for layer in model.layers if number else ():
        layer.reset_parameters(generator=draws)
    try:
        return fit_once(model, data, generator=seeded(seed, 0), progress=False, **options)
    except KanlensError as error:
        return error


def discover_again(job: Any, number: int) -> Discovery | KanlensError:
    """Search once; return why not where that would be refused again."""
    x, y, names, limit, seed = job
    draws = seeded(seed or 0, number) if number or seed is not None else None
    try:
        return discover_once(x, y, names, time_limit=limit, generator=draws, progress=False)
    except KanlensError as error:
        return error


def _held_out_loss(found: FitResult) -> float:
    return found.validation_loss if len(found.held_out) else found.loss


def _loss(found: Discovery) -> float:
    loss = found.receipt.loss
    return float("inf") if loss is None else loss
