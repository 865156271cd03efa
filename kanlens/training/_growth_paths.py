"""Growth of small networks on the rows of a table, with rows held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens._runtime import Deadline
from kanlens.data._cell_parsing import Array
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from kanlens.training._closed_form import (
    choose_curves,
    column_names,
    cross_fit,
    distinct_weights,
    held_rows,
    offsets,
    scaled_targets,
    take_rows,
    to_kan,
)
from kanlens.training._curve_design import ColumnCurves
from kanlens.training._growth import Interactions, grow
from kanlens.training._small_network import SmallNetwork
from kanlens.training._training_loop import settle_range, settle_scaling

Growing: TypeAlias = dict[int, Iterator[tuple[SmallNetwork, str]]]
Advance: TypeAlias = Callable[..., None]

GROWTH_ROWS = 10_000  # most rows to grow on, evenly spread; the last fit uses all rows
PATIENCE = 8  # edges without a gain on held-out rows, after which growth ends
CYCLES = 3  # of the last fit over the classes


@dataclass
class GrowthPath:
    """Networks of one output in the order of growth, with their edges and last terms."""

    edges: list[int] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    losses: list[Array] = field(default_factory=list)
    networks: list[SmallNetwork] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def add(self, network: SmallNetwork, words: str) -> None:
        """Add a step, in place of those with as many edges or more."""
        edges, outputs = network.curves(), network.outputs()
        losses, copy = network.losses(network.sums()), network.copy()
        while self.edges and self.edges[-1] >= edges:
            for steps in (self.edges, self.outputs, self.losses, self.networks, self.added):
                steps.pop()
        self.edges.append(edges)
        self.outputs.append(outputs)
        self.losses.append(losses)
        self.networks.append(copy)
        self.added.append(words)

    def at(self, edges: int) -> int:
        """Return the last step of at most `edges`, or the first step."""
        return max(int(np.searchsorted(self.edges, edges, side="right")) - 1, 0)


class Growth:
    """The growth of small networks on the rows of a table."""

    def __init__(
        self,
        model: KAN,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        copies: Tensor,
        max_edges: int,
        interactions: Interactions,
    ) -> None:
        settle_range(model, x, beyond=True)
        settle_scaling(model, x, y, None)
        self.model, self.x, self.y = model, x, y
        self.max_edges, self.interactions = max_edges, interactions
        self.targets = scaled_targets(model, y)
        self.weights = distinct_weights(len(x), weights, copies)
        self.classes = model.task == "classification"
        self.rows = np.unique(
            np.linspace(0, len(x) - 1, min(len(x), GROWTH_ROWS)).round().astype(int)
        )
        self.columns: list[ColumnCurves] = []
        self.paths: list[list[GrowthPath]] = []  # by output: on all rows, then without each fold
        self.growing: list[Growing] = []  # likewise
        self.held: list[Array] = []
        self.places: list[tuple[int, ...]] = []

    def start(self, folds: Array) -> None:
        """Fit curves alone to all rows, and without each of the `folds` (batch,)."""
        weights, targets = self.weights[self.rows], self.targets[self.rows]
        most, names = self.max_edges // targets.shape[1], column_names(self.model)
        self.held = held_rows(np.where(weights > 0, folds, -1))
        own = (self.model, self.x, targets, weights, self.held, self.rows)
        self.columns, pooled = choose_curves(*own)
        sample = take_rows(self.columns, self.rows)
        started = cross_fit(sample, targets, weights, self.classes, self.held, pooled=pooled)
        for place in range(targets.shape[1]):
            networks = [parts[place].copy() for parts in started]
            for network, parts in zip(networks, started, strict=True):
                network.offsets = offsets(parts, place)
            growing = [grow(network, most, self.interactions, names) for network in networks]
            self.paths.append([GrowthPath() for _ in networks])
            self.growing.append(dict(enumerate(growing)))
            for path, steps in zip(self.paths[-1], growing, strict=True):
                path.add(*next(steps))

    def grow(self, deadline: Deadline, advance: Advance) -> None:
        """Grow the networks of each output on all rows and without each fold, side by side."""
        for paths, growing in zip(self.paths, self.growing, strict=True):
            self._grow_output(paths, growing, deadline, advance)

    def _grow_output(
        self, paths: list[GrowthPath], growing: Growing, deadline: Deadline, advance: Advance
    ) -> None:
        """Add a term to each network in turn until the held-out loss stops falling."""
        shown = 0
        while growing and not deadline.passed:
            for part, steps in list(growing.items()):
                state = next(steps, None)
                if state is None:
                    del growing[part]
                else:
                    paths[part].add(*state)
            first, last = (min(path.edges[end] for path in paths) for end in (0, -1))
            losses = [self._loss(paths, size) for size in range(first, last + 1)]
            advance(max(paths[0].edges[-1] - shown, 0))
            shown = max(shown, paths[0].edges[-1])
            if len(losses) - int(np.argmin(losses)) > PATIENCE:
                break

    def _loss(self, paths: list[GrowthPath], size: int) -> float:
        """Return the total loss of an output on held-out rows, at a size."""
        parts = zip(paths[1:], self.held, strict=True)
        return float(sum(path.losses[path.at(size)][rows].sum() for path, rows in parts))

    def finished(self, place: int, edges: int | None = None) -> KAN:
        """Return the network of a size, fitted to all rows, with rough parts of its curves."""
        chosen = [
            path.networks[step]
            for (path, *_), step in zip(self.paths, self.places[place], strict=True)
        ]
        zeros = np.zeros(len(self.x)) if self.classes else None
        most = (self.max_edges if edges is None else edges) // len(chosen)
        chosen = [
            network.refined(self.columns, targets, self.weights, zeros, max_edges=most)
            for network, targets in zip(chosen, self.targets.T, strict=True)
        ]
        for _ in range(CYCLES if len(chosen) > 1 and self.classes else 0):
            for own, network in enumerate(chosen):
                network.offsets = offsets(chosen, own)
                network.step(1)
        with torch.no_grad():
            model = to_kan(self.model, chosen)
        store_statistics(model, self.x)
        return model
