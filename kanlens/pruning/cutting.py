"""Cut a network down to the edges that matter, and say what each cut cost.

A removed edge leaves its mean over the data in the bias of its sum, so that what is lost is only
the part of the function that varies. Nodes and features that lose their last edge are taken out of
the tensors, and the remaining features keep their names. What happens to products is said in
`kanlens.pruning.compaction`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.checks import check_choice, check_positive, check_rows, message
from kanlens.core.acceptance import check_model
from kanlens.core.network import KAN
from kanlens.core.recording import edge_moments
from kanlens.core.statistics import summarize
from kanlens.errors import InvalidValueError, MethodError
from kanlens.progress import progress_bar
from kanlens.pruning.compaction import compact, connected, reached, varying
from kanlens.pruning.propagation import Edge, Propagation
from kanlens.pruning.result import PruneResult
from kanlens.sparsity import weight_l1
from kanlens.threads import threads_for
from kanlens.training.objective import task_loss
from kanlens.training.preparation import prepare_target

if TYPE_CHECKING:
    from kanlens.core.network import Rows

__all__ = ["prune"]

SCORES = ("l1",)
FLOOR = 1e-6  # smallest rise of the loss a budget allows, in units of the variance of y


def prune(
    model: KAN,
    x: Rows,
    y: Any = None,
    *,
    score: str = "l1",
    threshold: float | None = None,
    budget: float | None = None,
    progress: bool | None = None,
) -> PruneResult:
    """Remove the edges with the smallest scores.

    Some path from the features to an output always stays. Hidden layers of a model that knows
    statistics get those of `x`, as what reaches them is no longer the same.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Rows over which means are folded and the loss is measured.
    y : optional
        Targets, as for `fit`; without them the loss is against the model's own outputs.
    score : {"l1"}
        ``"l1"`` is `kanlens.sparsity.weight_l1` over the rows that reach the layer.
    threshold : float, optional
        Remove every edge whose score is below this share of its layer's largest.
    budget : float, optional
        Remove edges, smallest relative score first, as long as the loss rises by at most this
        share (at least by 1e-6 of the variance of y); 0 changes nothing at all. Without y the
        output may change by this share of its variance, in the mean square.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.

    Returns
    -------
    PruneResult

    Raises
    ------
    InvalidValueError
        If not exactly one of `threshold` and `budget` is given, or it is out of range.
    MethodError
        If a threshold would cut every path, the model has none, or its output is not finite.

    Examples
    --------
    >>> x = torch.rand(50, 3)
    >>> result = prune(KAN([3, 4, 1]), x, threshold=0.3)
    >>> result.edges_after + len(result.removed) == result.edges_before
    True
    """
    check_choice("prune", "score", score, SCORES)
    _check_limits(threshold, budget)
    check_model("prune", model)
    rows = model.prepare(x, call="prune")
    check_rows("prune", rows)
    widest = max(max(layer.out_features, layer.degrees_of_freedom) for layer in model.layers)
    with threads_for(len(rows) * widest):  # edges are evaluated node by node
        cutter = _Cutter(copy.deepcopy(model), rows, y)
        if threshold is not None:
            cutter.cut_below(threshold, progress)
        elif budget:
            cutter.cut_within(budget, progress)
        small = cutter.model if budget == 0 else cutter.finished()
        return _result(model, small, cutter, score)


@torch.no_grad()
def _result(model: KAN, small: KAN, cutter: _Cutter, score: str) -> PruneResult:
    names, kept = model.feature_names, set(small.feature_names)
    columns = [index for index, name in enumerate(names) if name in kept]
    alive = reached(small).tolist()
    return PruneResult(
        model=small,
        removed=tuple(cutter.removed),
        loss_before=cutter.first_loss,
        loss_after=cutter.loss_of(small(cutter.rows[:, columns])),
        edges_before=model.edges_alive,
        edges_after=small.edges_alive,
        dropped_features=tuple(name for name in names if name not in kept),
        constant_outputs=tuple(
            name for name, varies in zip(small.output_names, alive, strict=True) if not varies
        ),
        score=score,
    )


def _check_limits(threshold: float | None, budget: float | None) -> None:
    if (threshold is None) == (budget is None):
        got = "neither" if threshold is None else "both"
        advice = "Pass threshold=0.05 or budget=0.02, for example"
        text = message("prune", "one of threshold and budget", got, advice)
        raise InvalidValueError(text)
    if budget is not None:
        check_positive("prune", "budget", budget, zero=True)
    if threshold is not None:
        check_positive("prune", "threshold", threshold, zero=True)
        if threshold > 1:
            expected = "threshold to be a share of the layer's largest score, from 0 to 1"
            raise InvalidValueError(message("prune", expected, repr(threshold), "For example 0.05"))


class _Cutter:
    """A model whose edges are being removed, the rows it is judged on, and the record."""

    def __init__(self, model: KAN, rows: Tensor, y: Any) -> None:
        self.model, self.rows = model, rows
        self.against_targets = y is not None
        if not connected(model):
            expected = "a model with a path from some feature to an output"
            advice = "Its output is constant; there is nothing to prune"
            raise MethodError(message("prune", expected, "none", advice))
        self.state = Propagation(model, rows)
        if not bool(torch.isfinite(self.state.output).all()):
            advice = "Leave out the rows where it is not"
            text = message("prune", "finite outputs on x", "NaN or infinity", advice)
            raise MethodError(text)
        self.loss_tensor, self.floor = _loss_target(model, rows, y, self.state.output)
        self.removed: list[dict[str, Any]] = []
        self.first_loss = self.current_loss = self.loss_of(self.state.output)
        with torch.no_grad():
            pairs = zip(model.layers, self.state.values[:-1], strict=True)
            self.scores = [weight_l1(layer, x) * (layer.mask != 0) for layer, x in pairs]
        self.largest = [float(scores.max()) or 1.0 for scores in self.scores]

    def loss_of(self, output: Tensor) -> float:
        """Return the loss of an output (batch, out)."""
        return float(self.loss_tensor(output))

    def _masks(self) -> list[Tensor]:
        return [layer.mask for layer in self.model.layers]

    def candidates(self) -> list[tuple[float, Edge]]:
        """Return every live edge with its score relative to its layer's largest, smallest first."""
        found = []
        for index, mask in enumerate(self._masks()):
            relative = (self.scores[index].double() / self.largest[index]).tolist()
            for out, in_ in (mask != 0).nonzero().tolist():
                found.append((relative[out][in_], (index, out, in_)))
        return sorted(found)

    def cut_below(self, threshold: float, progress: bool | None) -> None:
        """Remove every edge below `threshold`, relative to its layer's largest score."""
        edges = [edge for relative, edge in self.candidates() if relative < threshold]
        masks = [mask.clone() for mask in self._masks()]
        for layer, out, in_ in edges:
            masks[layer][out, in_] = 0
        got = f"a threshold of {threshold} that cuts every path from the features to an output"
        if not connected(self.model, masks):
            raise MethodError(message("prune", "some path to be left", got, "Lower it"))
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self.remove(edge, "score")
                advance(note=f"loss {self.current_loss:.3e}")
        if not connected(self.model):  # a factor has become zero
            raise MethodError(message("prune", "some path to be left", got, "Lower it"))
        if not math.isfinite(self.current_loss):
            got = f"a threshold of {threshold} that makes it {self.current_loss}"
            raise MethodError(message("prune", "the loss to stay finite", got, "Lower it"))

    def cut_within(self, budget: float, progress: bool | None) -> None:
        """Remove edges, smallest relative score first, while the loss stays within `budget`."""
        rise = budget * (self.first_loss if self.against_targets else 1.0)
        allowed = self.first_loss + max(rise, self.floor)
        edges = [edge for _, edge in self.candidates()]
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self._try(edge, allowed)
                advance(note=f"loss {self.current_loss:.3e}")

    def _try(self, edge: Edge, allowed: float) -> None:
        """Remove an edge unless the last path or the budget breaks."""
        before = self.current_loss
        self.remove(edge, "score")
        if self.current_loss <= allowed and connected(self.model):
            return
        self.state.undo()
        self.removed.pop()
        self.current_loss = before

    def remove(self, edge: Edge, reason: str) -> None:
        """Mask an edge, leave its mean in the bias of its sum, and record what it cost."""
        index, out, in_ = edge
        before = self.current_loss
        self.state.remove(edge)
        self.current_loss = self.loss_of(self.state.output)
        score = float(self.scores[index][out, in_])
        self.removed.append(
            {
                "step": len(self.removed),
                "layer": index,
                "out": out,
                "in": in_,
                "name": self.model.edge_name(index, out, in_),
                "score": score,
                "relative_score": score / self.largest[index],
                "reason": reason,
                "loss_before": before,
                "loss_after": self.current_loss,
                "edges_left": self.model.edges_alive,
            }
        )

    def finished(self) -> KAN:
        """Return the model without what no longer does anything, its tensors cut to size."""
        self._cascade()
        small = compact(self.model)
        if self.removed:
            columns = [self.model.feature_names.index(name) for name in small.feature_names]
            _renew_statistics(small, self.rows[:, columns])
        return small

    def _cascade(self) -> None:
        """Remove edges that come from a node that no longer varies, or lead nowhere."""
        layers = self.model.layers
        for index, layer in enumerate(layers):  # towards the outputs: a constant makes the next one
            if index:
                alive = (layer.mask != 0) & ~self._varying(index - 1).to(layer.mask.device)
                self._remove_all(index, alive, "constant node")
        unread = ~self._varying(len(layers) - 1)
        for index in range(len(layers) - 1, -1, -1):
            alive = layers[index].mask != 0
            dead = unread.to(alive.device)[self.model.nodes[index].owner]
            self._remove_all(index, alive & dead[:, None], "dead end")
            unread = ~(layers[index].mask != 0).any(0)

    def _varying(self, index: int) -> Tensor:  # (node,)
        """Tell which nodes of a layer vary, all edges from constant nodes being gone."""
        return varying(self.model, index, (self.model.layers[index].mask != 0).any(1).cpu())

    def _remove_all(self, index: int, edges: Tensor, reason: str) -> None:
        for out, in_ in edges.nonzero().tolist():
            self.remove((index, out, in_), reason)


def _renew_statistics(model: KAN, rows: Tensor) -> None:
    """Bring the statistics of a model up to date, if it has any, after edges were removed."""
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


def _loss_target(
    model: KAN, rows: Tensor, y: Any, first: Tensor
) -> tuple[Callable[[Tensor], Tensor], float]:
    """Return the loss as a function of the model's output, and the rise that is always allowed."""
    if y is not None:
        target = prepare_target(model, y, len(rows), call="prune")
        floor = FLOOR
        if model.task == "regression":
            spread = target.var(0, correction=0) / model.output_scale.square()
            floor *= float(spread.mean())
        return lambda output: task_loss(model, output, target), floor
    spread, size = first.var(0, correction=0), first.abs().amax(0)
    varies = spread > (10 * torch.finfo(first.dtype).eps * size).square()
    scale = torch.where(varies, spread, torch.where(size > 0, size.square(), 1.0))
    return lambda output: ((output - first).square() / scale).mean(), FLOOR
