"""`fit` and `discover` with restarts; the best result comes first."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

from kanlens._checks import check_count, check_generator
from kanlens._runtime import Interruption, interrupts_pass, progress_bar
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.discovery._discover import Discovery
from kanlens.discovery._discover import discover as discover_once
from kanlens.distributed._jobs import Workers, completed, new_seed, seeded, workers_for
from kanlens.errors import DataError, DTypeError, InvalidValueError, TrainingError
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows, Targets
from kanlens.symbolic._pareto_front import choose
from kanlens.training._fit import fit as fit_once
from kanlens.training._result import FitResult


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
    """Train copies of a model from other weights; the best comes first.

    The first copy has the weights of the model. All are scored on the same held-out rows. The loss
    of the best of many is too optimistic, so keep test rows out of `data`.

    Parameters
    ----------
    model : KAN or fitted estimator
        A model of spline layers. Not changed.
    data, **options
        As for `kanlens.fit`, without a checkpoint; of a source, all rows are read.
    restarts : int
        Number of copies.
    generator : torch.Generator, optional
        Draws the seed of the generators of all copies, so that the results do not depend on the
        workers. Default: a random seed.
    workers : int, str or Client, optional
        As for `attribute` in this module.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    list of FitResult
        Sorted by their loss on the held-out rows (the training rows if there are none).

    Raises
    ------
    InvalidValueError, DataError, ShapeError, TrainingError, DTypeError, MethodError
        As `kanlens.fit`; DTypeError also if a layer has no splines, whose weights could be drawn,
        and MethodError if no scheduler or worker answers.

    Examples
    --------
    >>> from kanlens import KAN
    >>> x = torch.rand(40, 1, dtype=torch.float64)
    >>> fits = fit(KAN([1, 2, 1]).double(), (x, x.sin()), restarts=2, steps=2, progress=False)
    >>> fits[0].validation_loss <= fits[1].validation_loss
    True
    """
    kan = check_model("fit", model)
    check_generator("fit", generator)
    kind = next((layer.edge_kind for layer in kan.layers if not layer.splines_alone), None)
    if kind is not None:
        advice = "Train it once, with kanlens.fit"
        raise DTypeError("fit", "layers of splines for restarts", f"one of kind {kind!r}", advice)
    if named := sorted(options.keys() & {"checkpoint", "resume"}):
        raise InvalidValueError("fit", "no checkpoint for restarts", named[0], "Leave it out")
    if isinstance(data, Source):
        if data.held() < data.rows:
            advice = "Train once, with kanlens.fit, or pass data.sample(100_000)"
            got = f"{data.rows:,} rows"
            raise DataError("fit", "rows that fit in memory for restarts", got, advice)
        data = data.read(0, data.rows)
    job = (fit_again, kan, data, options, new_seed(generator))
    fits: list[FitResult] = _run("fit", job, restarts, workers, progress)
    return sorted(fits, key=lambda fit: fit.validation_loss if len(fit.held_out) else fit.loss)


def discover(
    x: Rows,
    y: Targets,
    feature_names: Iterable[str] | None = None,
    *,
    time_limit: float = 60.0,
    restarts: int = 4,
    generator: torch.Generator | None = None,
    workers: Workers = None,
    progress: bool | None = None,
) -> list[Discovery]:
    """Search a table for a formula several times; the best comes first.

    Each search draws its held-out rows and the weights of its networks. The first is the one of
    `kanlens.discover`.

    Parameters
    ----------
    x, y, feature_names, time_limit
        As for `kanlens.discover`; the limit applies to each search.
    generator : torch.Generator, optional
        Draws the seed of the searches. Default: seed 0; the first search has no generator.
    restarts, workers, progress
        As for `fit` in this module.

    Returns
    -------
    list of Discovery
        The best one of the joint Pareto front, then the others by loss.

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
    results: list[Discovery] = _run("discover", job, restarts, workers, progress)
    results.sort(key=_loss)
    lengths = [int(result.get_best()["complexity"]) for result in results]
    best = choose(lengths, [*map(_loss, results)], "best", negligible=1e-12)
    return [results.pop(best), *results]


def _run(call: str, job: Any, restarts: int, workers: Workers, progress: bool | None) -> list[Any]:
    """Return the results of all restarts, or of those before an interrupt."""
    check_count(call, "restarts", restarts)
    outcomes: dict[int, Any] = {}
    stop = Interruption()
    with (
        workers_for(call, workers) as client,
        progress_bar(call, restarts, shown=progress) as advance,
        stop.kept(),
        interrupts_pass(),
    ):
        for number, (outcome,) in completed(client, call, attempt, job, range(restarts)):
            outcomes[number] = outcome
            advance()
    done = [outcomes[number] for number in sorted(outcomes)]
    results = [outcome for outcome in done if not isinstance(outcome, TrainingError)]
    if not results:
        raise done[0] if done else KeyboardInterrupt
    stop.warn(call, f"The best of {len(results)} of {restarts} restarts is returned")
    return results


def attempt(job: tuple[Any, ...], number: int) -> list[Any]:
    """Return a list of the result or the TrainingError of a restart."""
    function, *arguments = job
    try:
        return [function(*arguments, number)]
    except TrainingError as error:  # other weights may do better
        return [error]


def fit_again(kan: KAN, data: Any, options: dict[str, Any], seed: int, number: int) -> FitResult:
    """Train one copy."""
    model, draws = copy.deepcopy(kan).cpu(), seeded(seed, number)
    for layer in model.layers if number else ():
        layer.reset_parameters(generator=draws)
    model.to(kan.input_shift.device)
    return fit_once(model, data, generator=seeded(seed, 0), progress=False, **options)


def discover_again(
    x: Rows, y: Targets, names: Iterable[str] | None, limit: float, seed: int | None, number: int
) -> Discovery:
    """Search once."""
    draws = seeded(seed or 0, number) if number or seed is not None else None
    return discover_once(x, y, names, time_limit=limit, generator=draws, progress=False)


def _loss(result: Discovery) -> float:
    loss = result.receipt.loss
    return float("inf") if loss is None else loss
