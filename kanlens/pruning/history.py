"""Every step of pruning written down, so that the network can be had as it was after any."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.model.network import KAN
from kanlens.model.recording import edge_moments
from kanlens.model.statistics import summarize
from kanlens.pruning.compensation import scale_edges
from kanlens.pruning.propagation import Edge, Propagation

__all__ = ["Change", "Journal", "renew_statistics"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """What the removal of an edge changed.

    Attributes
    ----------
    edge : tuple of int
        Layer, out and in.
    bias : Tensor, shape ()
        Of the edge's sum, afterwards.
    factors : Tensor, shape (in,), optional
        What the other edges of the sum were multiplied with.
    """

    edge: Edge
    bias: Tensor
    factors: Tensor | None = None


class Journal:
    """A network before pruning, every change since, and the networks that training made anew.

    Parameters
    ----------
    model : KAN
        As it is before the first change; copied.
    rows : Tensor, shape (batch, in)
        Rows it is pruned on; kept by reference, for statistics.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> journal = Journal(model, torch.rand(4, 2))
    >>> journal.note(Change(edge=(0, 0, 1), bias=torch.tensor(0.5)))
    >>> journal.at(1).edges_alive, journal.at(0).edges_alive
    (1, 2)
    """

    def __init__(self, model: KAN, rows: Tensor) -> None:
        self.rows = rows
        self._wholes = [(0, copy.deepcopy(model))]  # after how many changes, and the network
        self._changes: list[Change] = []

    def note(self, change: Change) -> None:
        """Write a change down."""
        self._changes.append(change)

    def note_whole(self, model: KAN) -> None:
        """Write down that everything is different now."""
        self._wholes.append((len(self._changes), copy.deepcopy(model)))

    def forget(self, step: int) -> None:
        """Cross out the changes that came after the first `step`."""
        del self._changes[step:]

    @torch.no_grad()
    def at(self, step: int) -> KAN:
        """Return a copy of the network after `step` changes, in the shape it had at first."""
        start, whole = next(pair for pair in reversed(self._wholes) if pair[0] <= step)
        model = copy.deepcopy(whole)
        for change in self._changes[start:step]:
            index, out, in_ = change.edge
            layer = model.layers[index]
            layer.mask[out, in_] = 0
            if change.factors is not None:
                scale_edges(layer, out, change.factors)
            layer.bias[out] = change.bias
        if step > start:
            renew_statistics(model, self.rows)
        return model


def renew_statistics(model: KAN, rows: Tensor) -> None:
    """Bring the statistics of a model up to date, if it has any, after edges were removed.

    Features keep those of the training data; what reaches deeper layers is taken from `rows`.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> renew_statistics(model, torch.rand(4, 2))
    >>> model.statistics is None
    True
    """
    if model.statistics is None:
        return
    first, *deeper = model.layers
    known, alive = model.statistics[0], (first.mask != 0).cpu()
    first.statistics = dataclasses.replace(
        known, edge_mean=known.edge_mean * alive, edge_std=known.edge_std * alive
    )
    values = Propagation(model, rows).values
    for layer, x in zip(deeper, values[1:-1], strict=True):
        layer.statistics = summarize(x, edge_moments(layer, x))
