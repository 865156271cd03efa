"""Result of pruning, and the log that restores the network after any step."""

from __future__ import annotations

import copy
import dataclasses
import json
import numbers
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanlens._display import Displayed
from kanlens._pandas import pd
from kanlens._plain_json import to_plain
from kanlens.errors import InvalidValueError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._spline_forward import means_and_norms
from kanlens.model._statistics import summarize
from kanlens.pruning._propagation import Edge, Propagation

COLUMNS = (
    *("step", "layer", "out", "in", "name", "score", "relative_score", "reason"),
    *("loss_before", "loss_after", "edges_left", "loss_against"),
)


class RemovalLog:
    """Log of removals and fine-tuning on `rows`, to rebuild any earlier network."""

    def __init__(self, model: KAN, rows: Tensor) -> None:
        # removed edges, the biases () of their sums, and layers before that were refitted
        self.rows, self.changes = rows, list[tuple[Edge, Tensor, KANLinear | None]]()
        # numbers of changes, and whole networks: the first, and those after fine-tuning
        self.networks = [(0, copy.deepcopy(model))]

    @torch.no_grad()
    def at(self, step: int) -> KAN:
        """Return a copy of the network after `step` changes, in its original shape."""
        start, network = next(pair for pair in reversed(self.networks) if pair[0] <= step)
        model = copy.deepcopy(network)
        for (index, out, in_), bias, refitted in self.changes[start:step]:
            if refitted is not None:
                cast("nn.ModuleList", model.layers)[index] = copy.deepcopy(refitted)
            layer = model.layers[index]
            layer.mask[out, in_] = 0
            layer.bias[out] = bias
        if step > start:
            renew_statistics(model, self.rows)
        return model


def renew_statistics(model: KAN, rows: Tensor) -> None:
    """Update the statistics of a network, if any, after removals."""
    if model.statistics is None:
        return
    first, *deeper = model.layers
    old, mask = model.statistics[0], (first.mask != 0).cpu()
    first.statistics = dataclasses.replace(
        old, edge_mean=old.edge_mean * mask, edge_std=old.edge_std * mask
    )
    values = Propagation(model, rows).values
    for layer, x in zip(deeper, values[1:-1], strict=True):
        layer.statistics = summarize(x, *means_and_norms(layer, x))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PruneResult(Displayed):
    """A pruned model, the removed edges, and the loss after each removal.

    Attributes
    ----------
    model : KAN
        A new model; the one passed in is unchanged.
    removed : tuple of dict
        One record per removed edge, in the order of removal: step, layer, out, in, name, score,
        relative_score (to the layer's largest), reason ("score", "node" for edges that leave a
        node removed whole, "dead end" and "constant node" for edges that no longer do anything),
        loss_before, loss_after, edges_left. Indices and names are those of the model passed in.
    loss_before, loss_after : float
        Loss of the model before and after pruning. With fine-tuning, on rows not used for it.
    loss_against : {"targets", "outputs"}
        The training loss against y or, without y, the mean squared change of the model's outputs
        divided by their variance.
    loss_allowed : float, optional
        The largest loss that the budget allowed: loss_before plus the budget times loss_before
        (times 1 without y), or plus 1e-6 of the loss of the best constant (the variance of y, or
        the entropy of its classes) if that is more. None with a threshold.
    edges_before, edges_after : int
        Unmasked edges.
    dropped_features : tuple of str
        Features that lost their last edge.
    constant_outputs : tuple of str
        Outputs that no longer depend on any feature.
    score : str
        The score that ordered the edges.
    tuned : tuple of dict
        One record per refit of all edges, or fine-tuning, that lowered the loss: step (removals
        before it), loss_before, loss_after.
    stopped_because : str
        The reason why no more edges were removed, for example an interrupt.
    journal : RemovalLog, optional
        The record that `at` uses; it refers to the rows.
    """

    model: KAN
    removed: tuple[dict[str, Any], ...]
    loss_before: float
    loss_after: float
    loss_against: str
    loss_allowed: float | None = None
    edges_before: int
    edges_after: int
    dropped_features: tuple[str, ...]
    constant_outputs: tuple[str, ...] = ()
    score: str
    tuned: tuple[dict[str, Any], ...] = ()
    stopped_because: str
    journal: RemovalLog | None = None

    @property
    def curve(self) -> pd.DataFrame:
        """Losses and edges left: step (removals so far), edges_left, loss.

        The first row is the model before; a refit, or fine-tuning, adds a row with the number of
        edges of the row above it.
        """
        rows = [(0, self.edges_before, self.loss_before)]
        rows += [(r["step"] + 1, r["edges_left"], r["loss_after"]) for r in self.removed]
        edges = [left for _, left, _ in rows]
        rows += [(r["step"], edges[r["step"]], r["loss_after"]) for r in self.tuned]
        rows.sort(key=lambda row: row[0])
        return pd.DataFrame(rows, columns=["step", "edges_left", "loss"])

    def at(self, step: int) -> KAN:
        """Return the network after `step` removals and their refits and fine-tuning.

        Parameters
        ----------
        step : int
            Number of removals: 0 for the model passed in, ``len(removed)`` for the last network;
            negative numbers count from the end.

        Returns
        -------
        KAN
            A new model with the features, layers and widths of the one passed in; its removed
            edges are masked and their means are in the biases, exactly as they were then.
            `kanlens.pruning.compact` removes nodes without edges.

        Raises
        ------
        InvalidValueError
            If `step` is out of range.

        Examples
        --------
        >>> import torch, kanlens
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = kanlens.KAN([3, 4, 1], generator=generator)
        >>> x = torch.rand(50, 3, generator=generator)
        >>> result = kanlens.prune(model, x, threshold=0.3)
        >>> result.at(2).edges_alive == result.edges_before - 2
        True
        """
        count = len(self.removed)
        whole = isinstance(step, numbers.Integral) and not isinstance(step, bool)
        if self.journal is None or not whole or not -count - 1 <= step <= count:
            expected, got = f"a step from 0 to {count}", repr(step)
            advice = "Count removals; `curve` lists them"
            raise InvalidValueError("PruneResult.at", expected, got, advice)
        return self.journal.at(int(step) if step >= 0 else count + 1 + int(step))

    def to_frame(self) -> pd.DataFrame:
        """Return `removed` as one row per edge, with a column `loss_against`."""
        frame = pd.DataFrame(list(self.removed), columns=list(COLUMNS))
        return frame.assign(loss_against=self.loss_against)

    def to_json(self) -> str:
        """Return all but the model as JSON; NaN and infinity become null."""
        names = [field.name for field in dataclasses.fields(self)]
        names = [name for name in names if name not in ("model", "loss_allowed", "journal")]
        return json.dumps(to_plain({name: getattr(self, name) for name in names}))

    def _line(self) -> str:
        lost = f", without {', '.join(self.dropped_features)}" if self.dropped_features else ""
        return (
            f"edges {self.edges_before} to {self.edges_after}, loss against {self.loss_against} "
            f"{self.loss_before:.4g} to {self.loss_after:.4g}, by {self.score}{lost}"
        )
