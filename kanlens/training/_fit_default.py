"""`fit_default`: a network without a hidden layer, an ensemble, or the better of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from kanlens._checks import check_generator
from kanlens._model_inputs import needed_widths, prepare_data
from kanlens._resources import Memory, threads_for, within_memory
from kanlens._runtime import NEVER, Interruption, interrupts_wait
from kanlens.data._groups import deal_groups, row_groups
from kanlens.data._schema import Schema, default_schema
from kanlens.data._source import Source
from kanlens.data._tables import Table
from kanlens.errors import DTypeError, InvalidValueError, rewording
from kanlens.model._losses import loss_of
from kanlens.model._network import KAN, PerRow
from kanlens.training._checkpointing import EVERY, Checkpoint, check_identity, identity_of
from kanlens.training._closed_form import fit_additive
from kanlens.training._constraints import read_constraints
from kanlens.training._default_ensemble import (
    MEMBERS,
    NODES,
    EnsembleRun,
    grid_intervals,
    sorted_by_target,
)
from kanlens.training._exposures import adjusted
from kanlens.training._fit import carry_out, fit, held_rows, labelled, row_weights, warn_interrupted
from kanlens.training._frontier_result import Frontier, Growth, trace_frontier
from kanlens.training._options import FitOptions, choose_loss
from kanlens.training._process_group import Ranks, joined
from kanlens.training._result import FitResult

REFINED = FitOptions(  # of a network chosen on some rows of a source, for all of them
    optimizer="adam", steps=2, batch_size=2000, learning_rate=1e-3, grid_updates=0
)

FOLDS = 5  # of growth
Rows: TypeAlias = "tuple[Table | Source | tuple[Any, Any], PerRow, PerRow]"  # weights, labels
Prepared: TypeAlias = "tuple[Tensor, Tensor, Tensor | None, Tensor]"  # x, y, weights, groups
Limits: TypeAlias = "tuple[int | Literal['few'] | None, int | Sequence[tuple[str, str]] | None]"
GAIN, LEAST = 0.01, 5e-4  # of the held-out loss, that a hidden layer must save: share, amount


@within_memory
def fit_default(
    data: Table | Source | tuple[Any, Any],
    *,
    hidden: Sequence[Any] | None = None,
    max_edges: int | Literal["few"] | None = None,
    interactions: int | Sequence[tuple[str, str]] | None = None,
    constraints: Mapping[str, str] | None = None,
    build: Callable[[list[Any], int], KAN] | None = None,
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
) -> FitResult:
    """Train a network whose shape is selected by cross-validation.

    A network without a hidden layer, of piecewise linear functions, is fitted in closed form. It is
    kept unless a network with one hidden layer lowers the held-out loss by more than 1% and by more
    than 0.0005. The latter is an ensemble of six members merged into one network; each member is
    trained without one fold. The metric is computed from predictions of held-out rows. For a source
    larger than memory, the network is selected on a sample and then trained for two passes over all
    rows; with `max_edges`, `interactions` or `constraints` it is fitted to the sample only.

    Parameters
    ----------
    data : Table, Source or tuple (x, y)
        As for `kanlens.fit`.
    hidden : sequence of int or pair, optional
        Nodes of the hidden layers, as for `KAN`: only this shape is trained. ``()`` is the network
        without a hidden layer. A single hidden layer of at least 16 nodes is trained as an ensemble
        whose members have at least 8 nodes each; any other shape is one network, with one sixth of
        the rows held out. Default: selected.
    max_edges : int or "few", optional
        Train a small network with at most this many edges: the smallest network of
        `kanlens.frontier` within one standard error of the best. "few": the default limit of
        `frontier`. Default: no small network.
    interactions : int or sequence of pairs of column names, optional
        Products of a small network, as for `kanlens.frontier`.
    constraints : mapping of column names, optional
        Shape of the effect of each column, at all values of the other columns: "increasing",
        "decreasing", "convex", "concave", "positive" (never below the output where the column is 0,
        or nearest to it), "negative" (never above it) or "periodic" (equal at the lowest and the
        highest value); several as "increasing concave". A small network is trained, or with
        ``hidden=()`` one without a hidden layer. These columns are not part of any product. With
        several classes, the logit of every class has the shape. Beyond the data, a convex or
        concave curve is linear.
    build : callable, optional
        Returns a `KAN` for a list of hidden widths and a number of grid intervals. Default: one in
        float64 of the features and outputs of `data`.
    loss, quantile, power, exposure, offset, event
        As for `kanlens.fit`; with the loss "cox" there is no hidden layer.
    sample_weight, groups, strategy, checkpoint, checkpoint_every, resume, max_memory, progress
        As for `kanlens.fit`. While the network without a hidden layer is fitted, the checkpoint has
        only the state of the generator, and an interrupt waits.
    generator : torch.Generator, optional
        Draws weights and folds. Default: one seeded by torch's default generator.

    Returns
    -------
    FitResult

    Raises
    ------
    DTypeError
        If `hidden` is not a sequence.
    DataError, ShapeError, FileFormatError, TrainingError, LostProcessError, InvalidValueError
        As `kanlens.fit`.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    >>> generator = torch.Generator().manual_seed(0)
    >>> fit_default((x, x**2), progress=False, generator=generator).metric > 0.9
    True
    >>> fit_default((x, x**2), max_edges="few", progress=False).model.edges_alive
    1
    """
    check_generator("fit_default", generator)
    small = None if max_edges is None and interactions is None else (max_edges, interactions)
    if constraints:
        if hidden:
            expected, got = "constraints without a hidden layer", f"hidden={hidden!r}"
            advice = (
                "Pass hidden=(), or max_edges without hidden, or train this network by kanlens.fit"
            )
            raise InvalidValueError("fit_default", expected, got, advice)
        small = (None, None) if hidden is None and small is None else small
    if small is not None and hidden is not None:
        expected, advice = "either hidden or max_edges and interactions", "Leave one of them out"
        raise InvalidValueError("fit_default", expected, "both", advice)
    if hidden is not None and (isinstance(hidden, str) or not isinstance(hidden, Sequence)):
        expected, advice = "hidden to be a sequence of widths", "For example (5,)"
        raise DTypeError("fit_default", expected, repr(hidden), advice)
    with rewording("fit_default"), joined(strategy, torch.device("cpu"), checkpoint) as ranks:
        data, labels = labelled(data, groups)
        chosen = choose_loss(default_schema(1, 1), loss, quantile, power, call="fit")
        per_row = {"exposure": exposure, "offset": offset, "event": event}
        data, sample_weight = adjusted(data, sample_weight, loss_of(chosen), per_row)
        features, outputs = needed_widths(data)
        build = losing(build or default_build(data, generator), chosen)
        way: dict[str, Any] = {"resume": resume, "written": ranks.index == 0}
        saved = Checkpoint("fit_default", checkpoint, checkpoint_every, **way)
        task = _DefaultFit(build, hidden, constraints, ranks, saved, progress, generator)
        if small is not None:
            return task.grow((data, sample_weight, labels), small)
        numbers, held = features + MEMBERS * (NODES + outputs), 0
        if hidden is not None:
            numbers = sum(build(list(hidden), 3).widths)
        if isinstance(data, Source):
            data, held = held_rows(data, numbers, ranks, torch.device("cpu"))
        if not isinstance(data, Source):
            return task.run(data, sample_weight, labels)
        way = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every}
        way |= {"strategy": strategy, "progress": progress, "generator": generator}
        model = saved.model(REFINED)
        if model is not None:
            return fit(model.to(build([], 3).dtype), data, REFINED, resume=resume, **way)
        sample, labels = labelled(data.sample(held), None)
        first = task.run(sample, None, labels)
        return first if first.interrupted else fit(first.model, data, REFINED, **way)


@dataclass
class _DefaultFit:
    """Default training on rows that fit in memory."""

    build: Callable[[list[Any], int], KAN]
    hidden: Sequence[Any] | None
    constraints: Mapping[str, str] | None
    ranks: Ranks
    saved: Checkpoint
    progress: bool | None
    generator: torch.Generator | None
    stop: Interruption = field(default_factory=Interruption)
    started: float = field(default_factory=time.perf_counter)

    def run(
        self, data: Table | tuple[Any, Any], sample_weight: PerRow, labels: PerRow
    ) -> FitResult:
        """Train the networks with and without a hidden layer, or one; return the better."""
        intervals = grid_intervals(len(data[0]) if isinstance(data, tuple) else data.rows)
        draws = (self.saved.begun or {}).get("draws")  # of a run that only began
        if self.generator is not None and draws is not None:
            self.generator.set_state(draws)
        draws = None if self.generator is None else self.generator.get_state()
        model = self.build(list(self.hidden or []), intervals)
        rows, copies = prepared_rows(model, data, sample_weight, labels)
        model.constraints = read_constraints(self.constraints, model.schema.features)
        if self.hidden and not model.loss.separable:
            expected, got = "no hidden layer with loss='cox'", f"hidden={self.hidden!r}"
            raise InvalidValueError("fit", expected, got, "Leave hidden out, or pass max_edges")
        if self.hidden:
            return self._ensemble(model, rows)
        identity = identity_of(model, FitOptions(), *rows)
        self.saved.begin({"identity": identity, "draws": draws})
        if self.hidden is not None and self.saved.begun is not None:  # of a hidden layer
            check_identity(self.saved.begun, identity, call="fit")
        additive = self._additive(model, rows, copies)
        if self.stop.happened or self.hidden is not None or not model.loss.separable:
            return additive
        wide = self.build([MEMBERS * NODES], intervals)
        wide.schema = model.schema
        ensemble = self._ensemble(wide, rows)
        gain = additive.validation_loss - ensemble.validation_loss
        if gain > max(LEAST, GAIN * additive.validation_loss):
            return ensemble
        if not self.stop.happened:
            return additive
        return replace(additive, stopped_because=ensemble.stopped_because, interrupted=True)

    def _additive(self, model: KAN, rows: Prepared, copies: Tensor) -> FitResult:
        """Fit a network without a hidden layer; interrupts wait."""
        x, y, weights, groups = rows
        folds, result = deal(y, groups, MEMBERS), None
        with threads_for(x.numel()), self.stop.kept(), interrupts_wait():
            result = fit_additive(model, x, y, weights, folds, copies)
        if result is None:  # an interrupt before its first line
            raise KeyboardInterrupt
        return self._shared(result, "The network without a hidden layer is returned")

    def grow(self, rows: Rows, limits: Limits) -> FitResult:
        """Return the simplest of small networks."""
        way: dict[str, Any] = {"ranks": self.ranks, "progress": self.progress}
        way |= {"deadline": NEVER, "stop": self.stop, "generator": self.generator}
        way["constraints"] = self.constraints
        front = grow_networks(self.build, rows, limits, self.saved, **way)
        with threads_for(0), self.stop.kept(), interrupts_wait():
            result = front.result()
        return self._shared(result, "The network has the terms so far")

    def _shared(self, result: FitResult, advice: str) -> FitResult:
        """Return a result: interrupted if any process is, else with the first process's model."""
        self.stop.happened = self.ranks.any(self.stop.happened)
        if not self.stop.happened:  # else networks may have grown differently far
            self.ranks.copy(result.model.state_dict().values(), torch.device("cpu"))
        warn_interrupted(self.stop, self.saved, advice)
        seconds = time.perf_counter() - self.started
        return replace(result, seconds=seconds, interrupted=self.stop.happened)

    def _ensemble(self, model: KAN, rows: Prepared) -> FitResult:
        """Train a network with hidden layers."""
        x, y, weights, groups = rows
        run = EnsembleRun(model, x, y, weights, self.generator, self.ranks, groups)
        run.begin(self.saved.begun)
        return carry_out(run, self.started, self.saved, self.stop, self.progress)


def default_build(
    data: Table | Source | tuple[Any, Any], generator: torch.Generator | None
) -> Callable[[list[Any], int], KAN]:
    """Return the function that builds networks for the features and outputs of data."""
    features, outputs = needed_widths(data)
    return lambda hidden, grid_size: KAN(
        [features, *hidden, outputs], grid_size=grid_size, generator=generator
    ).double()


def losing(build: Callable[[list[Any], int], KAN], chosen: Schema) -> Callable[..., KAN]:
    """Return `build` with the loss of a schema, unless that is the squared error."""

    def built(hidden: list[Any], grid_size: int) -> KAN:
        model = build(hidden, grid_size)
        own = {name: getattr(chosen, name) for name in ("loss", "loss_parameter")}
        if own["loss"] != "squared_error":
            model.schema = replace(model.schema, **own)
        return model

    return built


def grow_networks(
    build: Callable[[list[Any], int], KAN],
    rows: Rows,
    limits: Limits,
    saved: Checkpoint,
    *,
    constraints: Mapping[str, str] | None,
    ranks: Ranks,
    progress: bool | None,
    generator: torch.Generator | None,
    **way: Any,
) -> Frontier:
    """Return networks grown on `rows`, or on a sample of a source.

    `limits` is the pair (max_edges, interactions); `way` has arguments of `trace_frontier`. The
    state of the generator is restored after `build`, so that the folds do not depend on it.
    """
    data, sample_weight, labels = rows
    draws = generator or torch.default_generator
    state = draws.get_state()
    model = build([], 3)
    draws.set_state(state)
    if isinstance(data, Source):
        data, held = held_rows(data, sum(model.widths), ranks, torch.device("cpu"))
    if isinstance(data, Source):
        data, labels = labelled(data.sample(held), None)
    (x, y, weights, groups), copies = prepared_rows(model, data, sample_weight, labels)
    model.constraints = read_constraints(constraints, model.schema.features)
    growth, folds = Growth(model, x, y, weights, copies, *limits), deal(y, groups, FOLDS, draws)
    ranks.copy([folds], torch.device("cpu"))
    shown = progress if ranks.index == 0 else False
    return trace_frontier(growth, folds, saved, progress=shown, **way)


def prepared_rows(
    model: KAN, data: Table | tuple[Any, Any], sample_weight: PerRow, labels: PerRow
) -> tuple[Prepared, Tensor]:
    """Return x, y, weights and groups of rows, and the groups of copied rows ignoring labels."""
    x, y = prepare_data(model, data, constant=False)
    weights = None if sample_weight is None else row_weights(sample_weight, x)
    groups = row_groups(x, y, labels, call="fit")
    return (x, y, weights, groups), groups if labels is None else row_groups(x, y, call="fit")


def deal(y: Tensor, groups: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the fold (batch,) of every row, of at most `count`; by default always the same."""
    order = torch.randperm(len(y), generator=generator or torch.Generator())
    order = sorted_by_target(order, y)
    return deal_groups(order, groups, min(count, int(groups.max()) + 1))
