"""`fit` and `discover` begun several times, as tasks; the best comes first."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

from kanlens.checks import check_count, check_generator
from kanlens.data.source import Source
from kanlens.data.tables import Table
from kanlens.discovery.finding import Discovery
from kanlens.discovery.finding import discover as discover_once
from kanlens.distributed.jobs import new_seed, seeded
from kanlens.distributed.tasks import Workers, completed, workers_for
from kanlens.errors import DataError, DTypeError, InvalidValueError, KanlensError, TrainingError
from kanlens.long_work import Interruption, interrupts_pass, progress_bar
from kanlens.model.analysis import Model, check_model
from kanlens.model.network import KAN, Rows
from kanlens.symbolic.front import choose
from kanlens.training.loop import fit as fit_once
from kanlens.training.result import FitResult


def fit(
    model: Model,
    data: Table | Source | tuple[Any, Any],
    *,
    restarts: int = 4,
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
    InvalidValueError, DataError, ShapeError, TrainingError, DTypeError, MethodError
        As `kanlens.fit`; the last two also if a layer has no splines, whose weights could be drawn,
        and if no scheduler or worker answers.

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
    wrong = next((one.edge_kind for one in kan.layers if not one.splines_alone), None)
    if wrong is not None:
        advice = "Train it once, with kanlens.fit"
        raise DTypeError("fit", "layers of splines for restarts", f"one of kind {wrong!r}", advice)
    if named := sorted(options.keys() & {"checkpoint", "resume"}):
        raise InvalidValueError("fit", "no checkpoint for restarts", named[0], "Leave it out")
    if isinstance(data, Source):
        if data.held() < data.rows:
            advice = "Train once, with kanlens.fit, or allow more max_memory"
            got = f"{data.rows:,} rows"
            raise DataError("fit", "rows that memory holds for restarts", got, advice)
        data = data.read(0, data.rows)
    job = (fit_again, kan, data, options, new_seed(generator))
    found: list[FitResult] = _begun("fit", job, restarts, workers, progress)
    return sorted(found, key=lambda one: one.validation_loss if len(one.held_out) else one.loss)


def discover(
    x: Rows,
    y: Any,
    feature_names: Iterable[str] | None = None,
    *,
    time_limit: float = 60.0,
    restarts: int = 4,
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
    generator : torch.Generator, optional
        Draws the seed of the searches. Default: seed 0, and none for the first.
    restarts, workers, progress
        As for `fit` in this module.

    Returns
    -------
    list of Discovery
        The one that a front of all would name best, then by loss.

    Raises
    ------
    ShapeError, DTypeError, DataError, InvalidValueError, MethodError
        As `kanlens.discover`; the last if no scheduler or worker answers.

    Examples
    --------
    >>> x = torch.rand(100, 2, dtype=torch.float64) + 1
    >>> discover(x, x[:, 0] * x[:, 1] ** 2, restarts=2, progress=False)[0].sympy()
    x1*x2**2
    """
    check_generator("discover", generator)
    names = None if feature_names is None else list(feature_names)
    seed = None if generator is None else new_seed(generator)
    job = (discover_again, x, y, names, time_limit, seed)
    found: list[Discovery] = _begun("discover", job, restarts, workers, progress)
    found.sort(key=_loss)
    lengths = [int(one.get_best()["complexity"]) for one in found]
    best = found.pop(choose(lengths, [_loss(one) for one in found], "best", negligible=1e-12))
    return [best, *found]


def _begun(
    call: str, job: Any, restarts: int, workers: Workers, progress: bool | None
) -> list[Any]:
    """Return what each start came to; after an interrupt, with a warning, what is done."""
    check_count(call, "restarts", restarts)
    found: dict[int, list[Any]] = {}
    stop = Interruption()
    with (
        workers_for(call, workers) as client,
        progress_bar(call, restarts, shown=progress) as advance,
        stop.kept(),
        interrupts_pass(),
    ):
        for number, one in completed(client, call, attempt, job, range(restarts)):
            found[number] = one
            advance()
    done = [one for number in sorted(found) for one in found[number]]
    results = [one for one in done if not isinstance(one, TrainingError)]
    if not results:
        raise done[0] if done else KeyboardInterrupt
    stop.warn(call, f"The best of {len(results)} of {restarts} restarts is returned")
    return results


def attempt(job: Any, number: int) -> list[Any] | KanlensError:
    """Begin once; what is refused is returned, since it would be refused again."""
    function, *given = job
    try:
        return [function(*given, number)]
    except TrainingError as error:  # other weights may do better
        return [error]
    except KanlensError as error:
        return error


def fit_again(given: KAN, data: Any, options: dict[str, Any], seed: int, number: int) -> FitResult:
    """Train one copy."""
    model, draws = copy.deepcopy(given).cpu(), seeded(seed, number)
    for layer in model.layers if number else ():
        layer.reset_parameters(generator=draws)
    model.to(given.input_shift.device)
    return fit_once(model, data, generator=seeded(seed, 0), progress=False, **options)


def discover_again(
    x: Any, y: Any, names: Any, limit: float, seed: int | None, number: int
) -> Discovery:
    """Search once."""
    draws = seeded(seed or 0, number) if number or seed is not None else None
    return discover_once(x, y, names, time_limit=limit, generator=draws, progress=False)


def _loss(found: Discovery) -> float:
    loss = found.receipt.loss
    return float("inf") if loss is None else loss
