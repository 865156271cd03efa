"""Networks of growing size, scored by cross-validation of the whole growth.

Each fold grows its own networks, including the choice of terms: scores of terms chosen on all rows
would be biased. The score of a size is that of the folds' networks with its number of terms.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_count
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens._resources import one_thread
from kanlens._runtime import Deadline, Interruption, progress_bar
from kanlens.data._cell_parsing import Array
from kanlens.errors import InvalidValueError
from kanlens.model._held_out import keep_held_out
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from kanlens.model._training_record import FrontierStep, GrowthRecord, fingerprint
from kanlens.training._checkpointing import Checkpoint, check_identity, identity_of
from kanlens.training._closed_form import (
    choose_curves,
    closed_form_result,
    column_names,
    cross_fit,
    distinct_weights,
    held_rows,
    joint_edges,
    offsets,
    scaled_targets,
    to_kan,
)
from kanlens.training._constraints import check_proven, settle_ends
from kanlens.training._curve_design import ColumnCurves
from kanlens.training._growth import GrowthPath, GrowthStep, read_interactions
from kanlens.training._objective import row_losses, score, task_loss
from kanlens.training._options import FitOptions
from kanlens.training._result import FitResult, mean_and_error
from kanlens.training._training_loop import settle_range, settle_scaling

GROWTH_ROWS = 10_000  # most rows to grow on, evenly spread; the last fit uses all rows
PATIENCE = 4  # terms without a gain on held-out rows
CYCLES = 3  # of the last fit over the classes
MIN_EDGES = 30  # default limit, or two for each column


class Growth:
    """The growth of small networks on the rows of a table."""

    def __init__(
        self,
        model: KAN,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        copies: Tensor,
        max_edges: int | str | None,
        interactions: int | Sequence[tuple[str, str]] | None,
    ) -> None:
        names = column_names(model)
        most = max(MIN_EDGES, 2 * len(set(names))) if max_edges in (None, "few") else max_edges
        check_count("fit", "max_edges", cast("int", most), least=len(model.output_names))
        self.max_edges, self.interactions = int(most), read_interactions(interactions, names)
        for pair in self.interactions.pairs or ():
            if shapes := sorted({names[place] for place in pair} & model.constraints.keys()):
                expected, got = "interactions of columns without constraints", repr(shapes[0])
                raise InvalidValueError("fit", expected, got, "Leave it out of one of the two")
        self.options = {"max_edges": self.max_edges, "interactions": repr(interactions)}
        settle_range(model, x, beyond=True)
        settle_ends(model, x)
        settle_scaling(model, x, y, None)
        self.model, self.x, self.y, self.sample_weight = model, x, y, weights
        self.targets = scaled_targets(model, y)
        self.weights = distinct_weights(len(x), weights, copies)
        even = np.linspace(0, len(x) - 1, min(len(x), GROWTH_ROWS))
        self.rows = np.unique(even.round().astype(int))
        self.columns: list[ColumnCurves] = []
        self.paths: list[list[GrowthPath]] = []  # by output: on all rows, then without each fold
        self.held: list[Array] = []

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Data, model and options, for a checkpoint."""
        weights = torch.from_numpy(self.weights)
        identity = identity_of(self.model, FitOptions(), self.x, self.y, weights)
        return identity | {"options": self.options}

    @property
    def held_order(self) -> Array:
        """Rows held out, fold by fold."""
        return np.asarray(self.rows[np.concatenate(self.held)])

    def start(self, folds: Tensor) -> None:
        """Fit curves alone to all rows, and without each of the `folds` (batch,)."""
        self.folds = folds
        weights, targets = self.weights[self.rows], self.targets[self.rows]
        most, names = self.max_edges // targets.shape[1], column_names(self.model)
        self.held = held_rows(np.where(weights > 0, folds.numpy()[self.rows], -1))
        own = (self.model, self.x, targets, weights, self.held, self.rows)
        self.columns, pooled = choose_curves(*own)
        sample = [column.take(self.rows) for column in self.columns]
        started = cross_fit(sample, targets, weights, self.model.loss, self.held, pooled=pooled)
        for place in range(targets.shape[1]):
            networks = [parts[place].copy() for parts in started]
            for network, parts in zip(networks, started, strict=True):
                network.offsets = offsets(parts, place)
            self.paths.append([GrowthPath(own, most, self.interactions, names) for own in networks])

    def state(self) -> dict[str, Any]:
        """Return the growth so far as arrays and plain types."""
        paths = [[path.state() for path in paths] for paths in self.paths]
        return {"identity": self.identity, "folds": self.folds, "paths": paths}

    def grow(
        self, deadline: Deadline, advance: Callable[..., None], note: Callable[[], None]
    ) -> None:
        """Grow the networks of each output on all rows and without each fold, side by side.

        Each gets a term in turn until the held-out loss stops falling.
        """
        for paths in self.paths:
            shown = 0
            while not all(path.ended for path in paths) and not deadline.passed:
                for path in (path for path in paths if not path.ended):
                    path.grow()
                most = max(path.terms for path in paths)
                losses = [self._loss(paths, terms) for terms in range(most + 1)]
                advance(max(paths[0].edges[-1] - shown, 0))
                shown = max(shown, paths[0].edges[-1])
                if len(losses) - int(np.argmin(losses)) > PATIENCE:
                    for path in paths:
                        path.ended = True
                note()

    def _loss(self, paths: list[GrowthPath], terms: int) -> float:
        """Return the total loss of an output on held-out rows, for a number of terms."""
        parts, weights = zip(paths[1:], self.held, strict=True), self.weights[self.rows]
        return float(sum(weights[rows] @ path.at(terms).losses[rows] for path, rows in parts))

    def held_out(self, terms: int) -> Tensor:
        """Return held-out predictions (row, out), by fold, of networks of at most `terms` terms."""
        outputs = [
            np.stack([paths[1 + fold].at(terms).outputs[rows] for paths in self.paths], 1)
            for fold, rows in enumerate(self.held)
        ]
        return torch.from_numpy(np.concatenate(outputs))

    def finished(self, chosen: Sequence[GrowthStep]) -> KAN:
        """Return the chosen networks of all outputs as one, refitted with rough parts."""
        networks = [
            step.network.refined(self.columns, targets, self.weights)
            for step, targets in zip(chosen, self.targets.T, strict=True)
        ]
        for _ in range(CYCLES if len(networks) > 1 and self.model.loss.classes else 0):
            for own, network in enumerate(networks):
                network.offsets = offsets(networks, own)
                network.step(1)
        with torch.no_grad():
            model = to_kan(self.model, networks, flat=True)
        store_statistics(model, self.x)
        return model


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Frontier(Displayed):
    """Networks of growing size and their cross-validated scores.

    Attributes
    ----------
    steps : tuple of FrontierStep
        The sizes, increasing.
    metric_name : str
        "R2", "accuracy", "D2" or "concordance".
    rows, folds : int
        Numbers of rows that networks grew on, and of folds.
    seconds : float
        Time taken.
    interrupted : bool
        Whether growth ended by an interrupt or by the time limit.
    references : dict of str to float
        Scores of other models on the same held-out rows.
    """

    steps: tuple[FrontierStep, ...]
    metric_name: str
    rows: int
    folds: int
    seconds: float
    interrupted: bool
    references: dict[str, float] = field(default_factory=dict)
    _growth: Growth
    _networks: Sequence[Sequence[GrowthStep]] = ()  # for each size, one for each output
    _losses: Tensor
    _outputs: Sequence[Tensor] = ()  # of the rows held out, in the order of the folds

    def _line(self) -> str:
        step = self.steps[self.index()]
        words = f"{len(self.steps)} sizes; simplest of {step.edges} edges"
        return f"{words}, {self.metric_name} {step.score:.4g} on {self.rows:,} held-out rows"

    def index(self, edges: int | None = None) -> int:
        """Return the index of the smallest network within one standard error of the best [1]_.

        The error is that of the difference of their losses over the rows; only networks of at most
        `edges` edges count.

        References
        ----------
        .. [1] L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
        """
        sizes = [step.edges for step in self.steps]
        last = len(sizes) if edges is None else int(np.searchsorted(sizes, edges, side="right"))
        if not last:
            expected, advice = f"to be at least {sizes[0]}, the smallest size", "Allow more edges"
            raise InvalidValueError("frontier", expected, repr(edges), advice, argument="edges")
        best = min(range(last), key=lambda place: self.steps[place].loss)
        for place in range(best):
            rise, error = mean_and_error(self._losses[place] - self._losses[best])
            if rise <= error:
                return place
        return best

    @property
    def simplest(self) -> KAN:
        """The smallest network within one standard error of the best."""
        return self.model()

    def model(self, edges: int | None = None) -> KAN:
        """Return the network of `index`, fitted to all rows with all parts of its curves."""
        model = self._growth.finished(self._networks[self.index(edges)])
        check_proven(model)
        order = torch.from_numpy(self._growth.held_order)
        x, y = self._growth.x[order], self._growth.y[order]
        keep_held_out(model, x, self._outputs[self.index(edges)], y)
        model.growth = replace(self.record(edges), weights=fingerprint(model.state_dict().values()))
        return model

    def record(self, edges: int | None = None) -> GrowthRecord:
        """Return the record of all sizes that is stored in the network of `index`."""
        return GrowthRecord(
            metric_name=self.metric_name,
            rows=self.rows,
            steps=self.steps,
            chosen=self.index(edges),
            references=tuple(self.references.items()),
        )

    def result(self, edges: int | None = None) -> FitResult:
        """Return the network of `index` as a `FitResult`, with one step for each size."""
        started, growth, model = time.perf_counter(), self._growth, self.model(edges)
        records = [
            {"edges": step.edges, "validation_loss": step.loss, "metric": step.score}
            for step in self.steps
        ]
        with torch.no_grad():
            loss = float(task_loss(model, model(growth.x), growth.y, growth.sample_weight))
        place, started = self.index(edges), started - self.seconds
        result = closed_form_result(model, loss, records, place, growth.folds, started)
        return replace(result, interrupted=self.interrupted)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per size."""
        return pd.DataFrame([vars(step) for step in self.steps])

    def to_json(self) -> str:
        """Return the sizes and scores as JSON."""
        fields = {name: value for name, value in vars(self).items() if name[0] != "_"}
        return json.dumps(to_plain({**fields, "steps": [vars(step) for step in self.steps]}))


@one_thread()
def trace_frontier(
    growth: Growth,
    folds: Tensor,
    saved: Checkpoint,
    *,
    deadline: Deadline,
    stop: Interruption,
    progress: bool | None,
) -> Frontier:
    """Grow networks on all rows and without each fold; return their scores."""
    started, begun = time.perf_counter(), saved.begun
    if begun is not None:
        check_identity(begun, growth.identity, call="fit")
    with progress_bar("growing", growth.max_edges, shown=progress) as advance:
        growth.start(folds if begun is None else begun["folds"])
        for paths, states in zip(growth.paths, (begun or {}).get("paths", ()), strict=False):
            for path, state in zip(paths, states, strict=True):
                path.restore(state)
        saved.note(growth.state)
        with stop.kept():
            growth.grow(deadline, advance, lambda: saved.note(growth.state))
    if stop.happened:  # maybe within a round
        saved.write()
    else:
        saved.note(growth.state, last=True)
    return _scored(growth, time.perf_counter() - started, stop.happened or deadline.passed)


def _scored(growth: Growth, seconds: float, cut: bool) -> Frontier:
    """Return the frontier of the networks of a growth."""
    model, paths, networks = growth.model, growth.paths, list[list[GrowthStep]]()
    order = growth.held_order
    y, steps, losses = growth.y[torch.from_numpy(order)], list[FrontierStep](), list[Tensor]()
    held_outputs = list[Tensor]()
    weights = torch.from_numpy(growth.weights[order]).to(growth.x)
    for terms in range(max(path.terms for path, *_ in paths) + 1):
        chosen = [path.at(terms) for path, *_ in paths]
        edges = joint_edges([step.network for step in chosen])
        if networks and (chosen == networks[-1] or edges > growth.max_edges):
            continue
        stop = bisect_left(steps, edges, key=lambda step: step.edges)
        del networks[stop:], steps[stop:], losses[stop:]
        networks.append(chosen)
        held_out = model.scale_outputs(growth.held_out(terms).to(growth.x))
        losses.append(row_losses(model, held_out, y, weights) * weights)
        held_outputs.append(held_out)
        mean, error = mean_and_error(losses[-1])
        step = FrontierStep(
            edges=edges,
            score=score(model, held_out, y, weights),
            loss=mean,
            standard_error=error,
            added="; ".join(dict.fromkeys(step.added for step in chosen)),
        )
        steps.append(step)
    return Frontier(
        steps=tuple(steps),
        metric_name=model.loss.metric,
        rows=len(order),
        folds=len(growth.held),
        seconds=seconds,
        interrupted=cut,
        _growth=growth,
        _networks=networks,
        _losses=torch.stack(losses),
        _outputs=held_outputs,
    )
