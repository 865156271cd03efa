"""Training, validation and test rows of a formula search."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from kanlens._checks import check_rows, warn_of_distant
from kanlens._model_inputs import prepare_target
from kanlens._runtime import Interruption
from kanlens.data._groups import row_groups, split_groups
from kanlens.errors import DataError, KanlensWarning, MethodError
from kanlens.model._analysis import over_rows, reaching, rows_at_once
from kanlens.model._network import KAN, Rows, Targets
from kanlens.symbolic._assignment import Goal
from kanlens.symbolic._joint_refit import relative_loss, relative_losses

CHOOSING, JUDGING = 0.2, 0.1  # shares of the rows
MAX_FIT_ROWS = 2000  # for fitting
MIN_SPLIT_ROWS = 20  # with fewer rows, all are fitted to
JUDGES = 100_000  # most rows for validation, and for test
SUFFICIENT = 1000  # least rows for a test set
_AS_GOOD = 1.01  # accepted ratio of the formula's loss to the network's
MAX_CLIPPED = 0.05  # share of rows left out
MAX_EDGES = 100  # with a path to one output
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly
_INDEPENDENT = 60  # independent values of a network's output

Table: TypeAlias = tuple[Any, Any]  # x and y as a user passes them
Pair: TypeAlias = tuple[Tensor, Tensor | None]


class Partition(NamedTuple):
    """Row indices of three disjoint parts: for training, validation and test."""

    fitted: Tensor  # (row,)
    choosing: Tensor
    judging: Tensor

    def of(self, x: Tensor, y: Tensor | None) -> PartitionedRows:
        """Return the rows for each purpose with their targets."""
        fitted, *others = ((x[rows], None if y is None else y[rows]) for rows in self)
        return PartitionedRows(fitted, *(pair if len(pair[0]) else None for pair in others))


def partition(
    rows: int,
    generator: torch.Generator | None,
    *,
    judging: bool = True,
    groups: Tensor | None = None,
) -> Partition:
    """Split row indices by the generator or evenly; rows of a group stay together.

    From 20 rows on, some are for validation; from 1000 rows on, some for test if `judging`.
    """
    if generator is None:
        order = (torch.arange(rows, dtype=torch.float64) * _GOLDEN % 1.0).argsort()
    else:
        order = torch.randperm(rows, generator=generator)
    choose = round(CHOOSING * rows) if rows >= MIN_SPLIT_ROWS else 0
    judge = round(JUDGING * rows) if judging and rows >= SUFFICIENT else 0
    parts = split_groups(order, torch.arange(rows) if groups is None else groups, [choose, judge])
    first, second, rest = (part.sort().values for part in parts)
    return Partition(fitted=rest, choosing=first, judging=second)


def thinned(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return indices of about 2000 rows, with the ends of each feature."""
    rows = len(x)
    if rows <= MAX_FIT_ROWS:
        return torch.arange(rows)
    even = torch.linspace(0, rows - 1, MAX_FIT_ROWS).round().long()
    some = even if generator is None else torch.randperm(rows, generator=generator)[:MAX_FIT_ROWS]
    places: Tensor = torch.cat((x.argmin(0), x.argmax(0), some)).unique()
    return places


def places_of(
    x: Tensor,
    generator: torch.Generator | None,
    y: Tensor | None = None,
    *,
    split: bool = True,
    judging: bool = True,
) -> Partition:
    """Return the row indices for each purpose; without `split`, all are for fitting."""
    if not split:
        none = torch.arange(0)
        return Partition(thinned(x, generator), none, none)
    groups = row_groups(x, y, call="symbolize")
    parts = partition(len(x), generator, judging=judging, groups=groups)
    fitted = parts.fitted[thinned(x[parts.fitted], generator)]
    left = torch.ones(len(x), dtype=torch.bool)
    left[torch.cat((fitted, parts.judging))] = False
    return Partition(fitted, _at_most(left.nonzero()[:, 0]), _at_most(parts.judging))


def _at_most(rows: Tensor) -> Tensor:
    """Return at most 100,000 of the rows, spread evenly."""
    places = torch.linspace(0, len(rows) - 1, min(len(rows), JUDGES), dtype=torch.float64)
    return rows[places.round().long()]


class PartitionedRows(NamedTuple):
    """Rows with targets for fitting, and for validation and test, if any."""

    fitted: Pair
    choosing: Pair | None
    judging: Pair | None

    def all_choosing(self) -> PartitionedRows:
        """Return the parts with the test rows among the validation rows."""
        x, y = zip(*(pair for pair in (self.choosing, self.judging) if pair), strict=True)
        joined = torch.cat(x), None if y[0] is None else torch.cat(y)
        return PartitionedRows(fitted=self.fitted, choosing=joined, judging=None)


def parts_of(
    model: KAN, data: Table, tests: Table, choosing: Pair | None, generator: torch.Generator | None
) -> PartitionedRows:
    """Return the rows for each purpose, encoded for a float64 model."""
    x, y = _unclipped(model, *prepared(model, *data))
    if tests[0] is None and tests[1] is not None:
        advice = "Pass the rows that y_test belongs to"
        raise DataError("symbolize", "x_test with y_test", "None", advice)
    judging = None if tests[0] is None else prepared(model, *tests)
    parts = places_of(x, generator, y, split=choosing is None, judging=judging is None).of(x, y)
    return PartitionedRows(parts.fitted, choosing or parts.choosing, judging or parts.judging)


def _unclipped(model: KAN, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Leave out rows that the model clips, unless they are many; no formula follows it there."""
    beyond = (x < model.input_low) | (x > model.input_high)
    rows = beyond.any(1)
    if not 0 < float(rows.double().mean()) <= MAX_CLIPPED:
        return x, y
    name = model.feature_names[int(beyond.any(0).nonzero()[0])]
    got = f"{int(rows.sum())} of {len(x)} rows with {name!r} or another feature outside it"
    advice = "These rows are left out, because the network clips them"
    fields = "symbolize", "rows within the range of the training data", got, advice
    warnings.warn(KanlensWarning(*fields), stacklevel=5)
    return x[~rows], None if y is None else y[~rows]


def prepared(
    model: KAN, x: Rows, y: Targets | None, *, call: str = "symbolize"
) -> tuple[Tensor, Tensor | None]:
    """Return x and y as tensors for a float64 model; refuse bad outputs."""
    rows = model.prepare(x, call=call).detach()
    check_rows(call, rows, least=2)
    (outputs,) = over_rows(lambda part: [model(part)], rows, rows_at_once(model))
    if not torch.isfinite(outputs.square()).all():
        expected, got = "a model with finite outputs", "NaN, or numbers too large to be squared"
        advice = "Train the model again, or leave out the rows on which it overflows"
        raise DataError(call, expected, got, advice)
    if y is None:
        return rows, None
    target = prepare_target(model, y, len(rows), call=call).cpu()
    if model.loss.linear:
        names, numbers, left = model.output_names, range(len(rows)), "such rows are left out"
        near = warn_of_distant(call, names, target, numbers, consequence=left)
        rows, target = rows[near], target[near]
    return rows, target


def in_double(model: KAN) -> KAN:
    """Return a copy of a model in float64 on the CPU."""
    return copy.deepcopy(model).cpu().double().eval()


def goal_of(model: KAN, parts: PartitionedRows, r2_min: float, stop: Interruption) -> Goal:
    """Return the data for fitting and choosing, and the limit of the loss."""
    x, target = target_of(model, parts.fitted)
    follows = parts.fitted[1] is None or not model.loss.linear
    return Goal(
        x=x,
        target=target,
        limit=max(relative_loss(model(x), target) + (1 - r2_min), 1e-10),
        independent=_INDEPENDENT if follows else None,
        choosing=target_of(model, parts.choosing) if parts.choosing else None,
        stop=stop,
    )


def target_of(model: KAN, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return x and the target there: y, or the outputs of the model."""
    x, y = pair
    return x, y if y is not None and model.loss.linear else model(x)


def limits_of(model: KAN, x: Tensor, target: Tensor, r2_min: float) -> tuple[float, ...]:
    """Return the largest accepted loss of the formula of each output."""
    losses = _AS_GOOD * relative_losses(model(x), target) + (1 - r2_min)
    return tuple(losses.clamp(min=1e-10).tolist())


def check_readable(model: KAN) -> None:
    """Refuse a network that is too wide for a readable formula."""
    edges = [layer.nonzero_edges() for layer in model.layers]
    ways = (zip(edges, reaching(model, k), strict=True) for k in range(len(model.output_names)))
    most = max(sum(int(layer[rows].sum()) for layer, rows in way) for way in ways)
    if most > MAX_EDGES:
        expected = f"at most {MAX_EDGES} edges that lead to an output"
        got = f"{most}: this network is too wide to read"
        advice = "Remove edges with prune, or train with a smaller hidden layer"
        raise MethodError("symbolize", expected, got, advice)
