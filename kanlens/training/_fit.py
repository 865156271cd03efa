"""`fit`: training of a network on a table."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_generator
from kanlens._model_inputs import prepare_data
from kanlens._resources import Memory, threads_for, within_memory
from kanlens._runtime import Interruption, progress_bar
from kanlens.data._groups import row_groups
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.errors import DTypeError, InvalidValueError, KanlensWarning, LostProcessError
from kanlens.model._analysis import Model, check_model
from kanlens.model._config import UNTRAINED
from kanlens.model._losses import loss_of
from kanlens.model._network import KAN, PerRow
from kanlens.training._checkpointing import EVERY, Checkpoint
from kanlens.training._exposures import Data, adjusted, split_column
from kanlens.training._options import FitOptions, choose_loss
from kanlens.training._process_group import Ranks, joined
from kanlens.training._result import FitResult
from kanlens.training._streaming import streamed_run
from kanlens.training._training_loop import TrainingRun

SAMPLE = 200_000  # most rows to keep in memory of a source larger than memory


@within_memory
def fit(
    model: Model,
    data: Table | Source | tuple[Any, Any],
    options: FitOptions | None = None,
    *,
    loss: str | None = None,
    quantile: float | Sequence[float] | None = None,
    power: float | None = None,
    exposure: PerRow = None,
    offset: PerRow = None,
    event: PerRow = None,
    sample_weight: PerRow = None,
    groups: PerRow = None,
    strategy: str | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = EVERY,
    resume: bool = False,
    max_memory: Memory = None,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
    **overrides: Any,
) -> FitResult:
    """Train a model in place and leave it in its best state.

    The best state, before training or after a step, has the lowest loss on the held-out rows (else
    the training rows) plus penalty. The first fit of a model also sets its scaling, so that each
    feature spans the grid and a regression target has mean 0 and standard deviation 1. The model
    stores statistics of the training data.

    Training stops at the first loss that is not finite; a non-finite loss within an LBFGS line
    search only shortens the step. An interrupt (Ctrl-C) ends training, with a warning: the model is
    in its best state, has statistics of at least some rows, and can resume from `checkpoint`. A
    second Ctrl-C raises KeyboardInterrupt.

    Parameters
    ----------
    model : KAN or fitted estimator
        Trained in place. Names, units, kinds and task of the data become the model's; a model
        with feature names finds its columns by these.
    data : Table, Source or tuple (x, y)
        x of shape (batch, in), y of shape (batch,) or (batch, out). Class labels (text, booleans,
        or for models with several outputs one whole number per row) make the task a classification.
        For a source larger than memory, batches are drawn from all rows in random order; scaling,
        grids, statistics and the loss for early stopping are computed on at most 200,000 evenly
        spread rows, of which `validation` is held out.
    options : FitOptions, optional
        Optimizer, steps, penalty and the other options of training. Default: ``FitOptions()``.
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson", "gamma", "tweedie", \
"log_loss", "cox"}, optional
        With "poisson", "gamma" and "tweedie" the output is the log of the mean, with "cox" that of
        the hazard, by the partial likelihood with Breslow's ties. Targets of "cox" are times,
        negative where censored. "huber" is linear for a tenth of the rows. Default: that of the
        model, which for classes is "log_loss", else at first "squared_error".
    quantile, power : float, optional
        Share of targets below the output of the loss "quantile", by default 0.5; for several, there
        is one output each, and predictions are sorted, so that they do not cross. Power of the mean
        in the variance of "tweedie", from 1 to 2, by default 1.5.
    exposure, offset : array-like, shape (batch,), or str, optional
        Exposures are times or sizes in which counts or amounts arose; offsets are added to the
        output in training. A name is that of their column, which is then not a feature. Predictions
        are for an exposure of 1 and an offset of 0.
    event : array-like, shape (batch,), or str, optional
        For "cox", 1 where the time is that of an event, 0 where censored; or the column name.
    sample_weight : array-like, shape (batch,), optional
        Weight of each row in the loss, at least 0. Default: 1 each.
    groups : array-like, shape (batch,), or str, optional
        Label of each row, or the column of labels, which is then not a feature; rows of one label,
        such as those of one person, are held out together, and so are copies of a row (within 1e-6
        of the range of every column). Default: the `groups` of the table.
    strategy : {"ddp"}, optional
        Train in all processes of ``torchrun``, each on its share of the rows of a step. Losses,
        penalties and gradients are summed over all of them (by gloo, or nccl on CUDA) and equal
        those of one process. Pass the same data to each. Weights and draws are those of the first
        process, which alone writes the checkpoint and shows the bar. If a process is lost, all
        stop.
    checkpoint : path, optional
        File for the state of training, written every `checkpoint_every` seconds, at an interrupt,
        when another process is lost, and at the end.
    checkpoint_every : float
        Seconds between checkpoints; with 0 one is written after every step and batch.
    resume : bool
        Continue from `checkpoint` if it exists, with the same model, data and options, in any
        number of processes; the result is bit for bit that of an uninterrupted run.
    max_memory : str or int, optional
        Memory for the rows of a source and for the computation, in bytes or as text such as "1GB".
        Default: a quarter of the free memory.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws held-out rows and batches. Default: one seeded by torch's default generator.
    **overrides
        Fields of `FitOptions` that replace those of `options`, for example ``steps=20``.

    Returns
    -------
    FitResult

    Raises
    ------
    InvalidValueError
        If an option is out of range.
    DTypeError
        If `model` or `options` has another type.
    DataError, ShapeError
        If the data does not fit the model.
    FileFormatError
        If `checkpoint` belongs to another run.
    TrainingError
        If the loss is not finite before the first step.
    LostProcessError
        If another process ends before all are done.

    Examples
    --------
    >>> x = torch.rand(64, 1, dtype=torch.float64)
    >>> from kanlens.model._network import KAN
    >>> fit(KAN([1, 1]).double(), (x, x**2), steps=10).metric > 0.99
    True
    """
    started = time.perf_counter()
    if not isinstance(options, FitOptions | None):
        expected, got = "to be FitOptions or None", type(options).__name__
        raise DTypeError("fit", expected, got, "Pass FitOptions(...)", argument="options")
    for name in overrides:
        check_choice("fit", "an option", name, FitOptions.__dataclass_fields__)
    options = replace(options or FitOptions(), **overrides)
    check_generator("fit", generator)
    if model is None:
        raise DTypeError("fit", "a KAN", "None", "Call fit_default(data) for one")
    data, labels = labelled(data, groups)
    model = check_model("fit", model)
    schema = choose_loss(model.schema, loss, quantile, power, call="fit")
    per_row = {"exposure": exposure, "offset": offset, "event": event}
    data, sample_weight = adjusted(data, sample_weight, loss_of(schema), per_row)
    if strategy is not None and not loss_of(schema).separable:
        fields = "fit", "one process for loss='cox'", repr(strategy), "Leave {strategy} out"
        raise InvalidValueError(*fields, strategy=None)
    with joined(strategy, model.input_shift.device, checkpoint) as ranks:
        way: dict[str, Any] = {"resume": resume, "written": ranks.index == 0}
        saved = Checkpoint("fit", checkpoint, checkpoint_every, **way)
        with unchanged_on_failure(model):
            model.schema, held = schema, 0
            if isinstance(data, Source):
                data, held = held_rows(data, sum(model.widths), ranks, model.input_shift.device)
            if not isinstance(data, Source):
                x, y = prepare_data(model, data)
                rows = row_groups(x, y, labels, call="fit") if options.validation else None
                weights = None if sample_weight is None else row_weights(sample_weight, x)
                run = TrainingRun(model, options, x, y, generator, weights, ranks, rows)
            elif sample_weight is None:
                run = streamed_run(model, options, data, held, generator=generator, ranks=ranks)
            else:
                expected = "no sample_weight for rows beyond memory"
                advice = "Leave it out, or allow more max_memory"
                raise InvalidValueError("fit", expected, "some", advice)
            run.begin(saved.begun)
        return carry_out(run, started, saved, Interruption(), progress)


def held_rows(data: Source, numbers: int, ranks: Ranks, device: torch.device) -> tuple[Any, int]:
    """Return a source, or its rows if they fit in memory, and the number of rows to keep there."""
    held = data.held(numbers)
    count = torch.tensor([held if held >= data.rows else min(held, SAMPLE)])
    ranks.copy([count], device)
    return data.read(0, data.rows) if int(count) >= data.rows else data, int(count)


def carry_out(
    run: TrainingRun, started: float, saved: Checkpoint, stop: Interruption, progress: bool | None
) -> FitResult:
    """Train to the end, or until an interrupt, with a warning."""
    note = saved.note if saved.path is not None else None
    options, shown = run.options, progress if run.ranks.index == 0 else False
    rows = len(run.train_x)
    size = run.widest * (rows if options.optimizer == "lbfgs" else min(rows, options.batch_size))
    try:
        with threads_for(size), progress_bar("training", options.steps, shown=shown) as advance:
            run.train(advance, note=note, stop=stop)
    except (ConnectionError, LostProcessError):
        saved.write()
        raise
    result = run.finish(time.perf_counter() - started)
    if stop.happened:
        saved.write()
        advice = f"The model has the state of step {result.best_step}, the best so far"
        warn_interrupted(stop, saved, advice)
    return result


def warn_interrupted(
    stop: Interruption,
    saved: Checkpoint,
    advice: str,
    *,
    call: str = "fit",
    time_limit: float | None = None,
) -> None:
    """Warn that training was interrupted, or else that it was cut short by a `time_limit`.

    The warning names the checkpoint to continue from, if there is one.
    """
    if saved.path is not None:
        advice += f"; {{resume}} continues from {saved.path.name!r}"
    stop.warn(call, advice, resume=True)
    if time_limit is not None and not stop.happened:
        fields = call, "growth to end within {time_limit}", "unfinished growth", advice
        warnings.warn(KanlensWarning(*fields, time_limit=time_limit, resume=True), stacklevel=3)


@contextmanager
def unchanged_on_failure(model: KAN) -> Iterator[None]:
    """Restore the state of a model if the block raises."""
    names = "schema", "scaled", "background", *UNTRAINED
    attributes = {name: getattr(model, name) for name in names}
    statistics = [layer.statistics for layer in model.layers]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    except BaseException:
        model.load_state_dict(state)
        for name, value in attributes.items():
            setattr(model, name, value)
        for layer, values in zip(model.layers, statistics, strict=True):
            layer.statistics = values
        raise


def row_weights(sample_weight: Any, x: Tensor) -> Tensor:  # (batch,)
    """Return weights of the rows x (batch, in), with mean 1."""
    weights = torch.as_tensor(sample_weight).detach().to(x)
    valid = weights.shape == (len(x),) and bool(weights.isfinite().all() & (weights >= 0).all())
    if not valid or not bool(weights.any()):
        expected = f"sample_weight to be {len(x)} numbers of at least 0, not all 0"
        got = f"shape {tuple(weights.shape)}" if weights.shape != (len(x),) else "other numbers"
        raise InvalidValueError("fit", expected, got, "Give one weight for each row")
    return weights / weights.mean()


def labelled(data: Data, groups: PerRow) -> tuple[Any, Any]:
    """Return data without the column of groups, and labels (batch,)."""
    if isinstance(data, Table) and groups is None:
        groups = data.groups
    return split_column(data, groups, "groups")
