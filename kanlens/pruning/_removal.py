"""Greedy removal of nodes and of edges by score, with refits and fine-tuning.

Edges are linear in their coefficients: what the removal of a node costs follows from the inverse of
the normal matrix (Hassibi and Stork, Optimal brain surgeon, 1993).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanlens._resources import check_memory
from kanlens._runtime import Interruption, progress_bar
from kanlens.errors import MethodError, TrainingError
from kanlens.model._analysis import BUDGET
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._spline_forward import summed
from kanlens.pruning._propagation import (
    Edge,
    Propagation,
    compact,
    reached,
    renew_statistics,
    varying,
)
from kanlens.pruning._scores import EdgeScore, LossEvaluator, Scorer
from kanlens.training._options import FitOptions
from kanlens.training._training_loop import TrainingRun

RIDGE = 1e-8  # of the mean square of a basis function: on changes of coefficients
COPIES = 6  # of the normal matrix, at most at once, in addition to the inverses


class LayerFit:
    """Fits of a layer to its `target` sums (batch, out), given inputs x (batch, in).

    Coefficients (coefficient, out) are those of the edges, one input after the other, and last the
    bias. Sums (out,) that read the same nodes share one of `fits`: indices, free coefficients,
    the inverse of the normal matrix of these, and their best values.
    """

    @torch.no_grad()
    def __init__(self, layer: KANLinear, x: Tensor, target: Tensor, weights: Tensor) -> None:
        self.layer = layer
        base = layer.base_weights()[..., None][..., : layer.base_name != "zero"]
        edges = torch.cat([layer.coefficients(), base, layer.series_weights()], 2)
        self.start = torch.cat([edges.flatten(1), layer.bias[:, None]], 1).mT.double()
        needed = (COPIES + layer.out_features) * 8 * len(self.start) ** 2
        advice = "Pass a larger max_memory, or refit=False"
        check_memory("prune", needed, "the normal matrix of a refit", advice)
        places = torch.arange(len(self.start), device=edges.device)
        self.owner = places // edges.shape[2]  # input (coefficient,), past the last for the bias

        def products(rows: Tensor) -> Tensor:
            basis = layer.basis(x[rows]).double().flatten(1)
            design = torch.cat([basis, torch.ones_like(basis[:, :1])], 1)
            values = torch.cat([design, target[rows].double()], 1)
            return (design * weights[rows, None].double()).mT @ values

        chunks = torch.arange(len(x)).split(max(1, BUDGET // len(places)))
        total = summed(chunks, products, again=False) / weights.double().sum()
        self.fits = list(self._solved(*total.split([len(places), layer.out_features], 1)))

    def _solved(self, gram: Tensor, right: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield one fit for all sums that depend on the same nodes."""
        mask, ridge = self.layer.mask != 0, RIDGE * gram.diagonal().mean()
        for pattern in mask.unique(dim=0):
            outs = (mask == pattern).all(1).nonzero()[:, 0]
            free = torch.cat([pattern, pattern.new_ones(1)])[self.owner].nonzero()
            start, own = self.start[free, outs], gram[free, free[:, 0]]
            inverse = _inverse(own + ridge * torch.eye(len(free)).to(own))
            yield outs, free, inverse, start + inverse @ (right[free, outs] - own @ start)

    @torch.no_grad()
    def remove_cheapest(self) -> int:
        """Remove the node whose removal costs least, and refit the others; return the node."""
        costs = torch.where((self.layer.mask != 0).any(0), 0.0, torch.inf).double()
        for _, free, inverse, best in self.fits:
            for node in self.owner[free[:-1, 0]].unique().tolist():
                at = self.owner[free[:, 0]] == node
                costs[node] += (best[at] * (_inverse(inverse[at][:, at]) @ best[at])).sum()
        node = int(costs.argmin())
        for place, (outs, free, inverse, best) in enumerate(self.fits):
            at = self.owner[free[:, 0]] == node
            change = inverse[~at][:, at] @ _inverse(inverse[at][:, at])
            others = inverse[~at][:, ~at] - change @ inverse[at][:, ~at]
            self.fits[place] = outs, free[~at], others, best[~at] - change @ best[at]
        return node

    @torch.no_grad()
    def best(self) -> KANLinear:
        """Return the layer with the best coefficients; those of removed nodes are zero."""
        layer, coefficients = copy.deepcopy(self.layer), torch.zeros_like(self.start)
        for outs, at, _, values in self.fits:
            coefficients[at, outs] = values
        edges = coefficients[:-1].mT.unflatten(1, (layer.in_features, -1)).to(layer.mask)
        splines, free = layer.spline_weight.shape[2], layer.mask != 0
        layer.spline_weight[free] = edges[free][:, :splines]
        if layer.enable_standalone_scale_spline:
            layer.spline_scaler[free] = 1.0
        if layer.base_name != "zero":
            layer.base_weight[free] = edges[free][:, splines]
        if layer.series:
            layer.series_weight[free] = edges[free][:, -len(layer.series) :]
        layer.bias.copy_(coefficients[-1])
        return layer


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverse; it is not finite if the matrix is singular."""
    inverse: Tensor = torch.linalg.inv_ex(matrix)[0]
    return inverse


# Weight of targets against outputs. At 1 the default network of the concrete data keeps 93 of 432
# edges at a budget of 10 %, and its test loss rises by 30 %; at 0.5 94 edges and 13 %; at 0 190
SHARE = 0.5
PARTS = 200  # edges are scored again after one in 200 has been removed


class RemovalLog:
    """Log of removals and fine-tuning on `rows`, to rebuild any earlier network."""

    def __init__(self, model: KAN, rows: Tensor) -> None:
        # removed edges, the new biases () of their sums, and refitted layers, if any
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


class EdgeRemover:
    """Removal of edges from a network, with its loss and a record of each removal."""

    def __init__(
        self,
        state: Propagation,
        evaluator: LossEvaluator,
        score: EdgeScore,
        *,
        rescore: bool,
        refit: bool,
        finetune: int,
        held_out: Tensor | None,
    ) -> None:
        self.model, self.rows, self.state = state.model, state.rows, state
        self.evaluator, self.held_out = evaluator, held_out
        if not bool(reached(self.model).any()):
            expected = "a model with a path from some feature to an output"
            advice = "Its output is constant; there is nothing to prune"
            raise MethodError("prune", expected, "none", advice)
        self.score, self.rescore, self.refit, self.finetune = score, rescore, refit, finetune
        self.journal = RemovalLog(self.model, self.rows)
        self.scorer = Scorer(score, state, evaluator)
        step, self.weights = evaluator.newton_step(state.output)
        self.sums = list(state.sums)  # targets of refits
        if self.model.nodes[-1].plain:
            self.sums[-1] = state.sums[-1] + SHARE * step / self.model.output_scale
        self.removed: list[dict[str, Any]] = []
        self.tuned: list[dict[str, Any]] = []
        self.current_loss = self.evaluator.first_loss
        self.stop, self.stopped_because = Interruption(), "every edge below the threshold is gone"

    def rank(self, *, relative: bool) -> list[tuple[float, Edge]]:
        """Score and list all edges in ascending order of their scores."""
        self.scores, self.largest = self.scorer.matrices(), list[float]()
        ranking: list[tuple[float, Edge]] = []
        for index, (layer, scores) in enumerate(zip(self.model.layers, self.scores, strict=True)):
            finite = scores[torch.isfinite(scores)]
            largest = float(finite.max()) if len(finite) else 0.0
            self.largest.append(largest if largest > 0 else 1.0)
            shares = (scores.double() / (self.largest[index] if relative else 1.0)).tolist()
            for out, in_ in (layer.mask != 0).nonzero().tolist():
                ranking.append((shares[out][in_], (index, out, in_)))
        return sorted(ranking)

    def cut_below(self, threshold: float, progress: bool | None) -> None:
        """Remove edges with scores below a share of the layer's largest."""
        edges = [edge for share, edge in self.rank(relative=True) if share < threshold]
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self._remove(edge, "score")
                advance(note=f"loss {self.current_loss:.3e}")
        if not bool(reached(self.model).any()):
            got = f"a threshold of {threshold} that cuts every path from the features to an output"
            raise MethodError("prune", "a path from the features to an output", got, "Lower it")
        if not math.isfinite(self.current_loss):
            got = f"a threshold of {threshold} that makes it {self.current_loss}"
            raise MethodError("prune", "the loss to stay finite", got, "Lower the threshold")
        if self._trained():
            self.rank(relative=True)

    def cut_within(self, allowed: float, progress: bool | None) -> None:
        """Remove edges, smallest score first, up to the loss allowed."""
        with (
            progress_bar("pruning", self.model.edges_alive, shown=progress) as advance,
            self.stop.kept(),
        ):
            before = -1
            while before < len(self.removed) and (before < 0 or self._trained()):
                before = len(self.removed)
                if self.refit:
                    self._cut_nodes(allowed, advance)
                self._cut_edges(allowed, advance)
            self.stopped_because = (
                "no other edge can go within the budget and leave a path to an output"
            )
        if self.stop.happened:  # the network becomes that of the last recorded removal
            count = len(self.removed)
            if not count:
                raise KeyboardInterrupt
            del self.journal.changes[count:]
            self.model = self.journal.at(count)
            self.state = Propagation(self.model, self.rows)
            self.current_loss = self.evaluator.loss(self.state.output)
            self.stopped_because = f"interrupted after {count} removals"

    def _cut_nodes(self, allowed: float, advance: Callable[..., None]) -> None:
        """Remove hidden nodes of one level after the other, the cheapest first."""
        self.rank(relative=not self.score.of_network)
        for index in range(len(self.model.layers) - 1, 0, -1):
            if self.model.layers[index].affine is None:  # linear in its coefficients
                before, fit = len(self.removed), self._fit(self.state, index)
                while self._remove_node(index, fit, allowed):
                    count, before = len(self.removed) - before, len(self.removed)
                    advance(count, note=f"loss {self.current_loss:.3e}")
        self.scorer = Scorer(self.score, self.state, self.evaluator)

    def _fit(self, state: Propagation, index: int) -> LayerFit:
        """Return the fits of a layer to its sums before pruning; the last layer also to targets."""
        rows = torch.ones(len(self.rows), dtype=torch.bool)
        rows[[] if self.held_out is None else self.held_out] = False
        data = (part[rows] for part in (state.values[index], self.sums[index], self.weights))
        return LayerFit(state.model.layers[index], *data)

    def _remove_node(self, index: int, fit: LayerFit, allowed: float) -> bool:
        """Remove the cheapest node and refit the next layer; return whether the loss allows it."""
        before, node = fit.layer, fit.remove_cheapest()
        layer = fit.best()
        layer.mask[:, node] = 0
        self.state.replace(index, layer)
        loss = self.evaluator.loss(self.state.output)
        if not (loss <= allowed and bool(reached(self.model).any())):
            self.state.replace(index, before)
            return False
        layer.mask.copy_(before.mask)  # the functions of its edges are zero
        fit.layer, refitted = layer, copy.deepcopy(layer)
        for place, out in enumerate(before.mask[:, node].nonzero()[:, 0].tolist()):
            self._remove((index, out, node), "node", None if place else refitted)
        self._remove_dead_ends()
        return True

    def _cut_edges(self, allowed: float, advance: Callable[..., None]) -> None:
        """Try to remove every edge once."""
        refused = set[Edge]()
        while True:
            ranking = self.rank(relative=not self.score.of_network)
            room = max(1, len(ranking) // PARTS) if self.rescore else len(ranking)
            for _, edge in ranking:
                if edge in refused:
                    continue
                self.state.remove(edge)
                loss = self.evaluator.loss(self.state.output)
                removable = loss <= allowed and bool(reached(self.model).any())
                if removable:
                    self._record(edge, "score", loss)
                else:
                    self.state.undo()
                    refused.add(edge)
                advance(int(removable), note=f"loss {self.current_loss:.3e}")
                room -= removable
                if not room:
                    break
            else:
                return

    def _record(
        self, edge: Edge, reason: str, loss: float, refitted: KANLinear | None = None
    ) -> None:
        """Record the removal of an edge and, after a refit, its refitted layer."""
        index, out, in_ = edge
        bias = self.model.layers[index].bias[out].detach().clone()
        self.journal.changes.append((edge, bias, refitted))
        score = float(self.scores[index][out, in_])
        record: dict[str, Any] = {"step": len(self.removed), "layer": index, "out": out, "in": in_}
        record |= {"name": self.model.edge_name(index, out, in_), "score": score}
        record |= {"relative_score": score / self.largest[index], "reason": reason}
        record |= {"loss_before": self.current_loss, "loss_after": loss}
        self.removed.append({**record, "edges_left": self.model.edges_alive})
        self.current_loss = loss

    @torch.no_grad()
    def _trained(self) -> bool:
        """Refit and fine-tune the network where that lowers the loss; return whether it does."""
        better = False
        if self.refit:
            state = Propagation(copy.deepcopy(self.model), self.rows)
            for index in range(1, len(self.model.layers)):
                if state.model.layers[index].affine is None:
                    state.replace(index, self._fit(state, index).best())
            renew_statistics(state.model, self.rows)
            better = self._keep_if_better(state.model)
        if self.finetune > 0:
            trained = copy.deepcopy(self.model)
            data = self.rows, self.evaluator.target, self.held_out
            tuned = fine_tune(trained, *data, self.finetune) and self._keep_if_better(trained)
            better = tuned or better
        return better

    @torch.no_grad()
    def _keep_if_better(self, trained: KAN) -> bool:
        """Continue with a trained network if its loss is lower; return whether it is."""
        before, after = self.current_loss, self.evaluator.loss(trained(self.rows))
        # Both losses are of full passes: `current_loss` is rounded differently.
        if not (math.isfinite(after) and after < self.evaluator.loss(self.model(self.rows))):
            return False
        self.model, self.state, self.current_loss = trained, Propagation(trained, self.rows), after
        self.journal.networks.append((len(self.journal.changes), copy.deepcopy(trained)))
        self.tuned.append({"step": len(self.removed), "loss_before": before, "loss_after": after})
        self.scorer = Scorer(self.score, self.state, self.evaluator)
        return True

    def finished(self) -> KAN:
        """Return the compacted network, without edges that have no effect."""
        model, varies = self.model, torch.ones(self.model.widths[0], dtype=torch.bool)
        for index, layer in enumerate(model.layers):  # constant nodes make others constant
            unmasked = layer.mask != 0
            for out, in_ in (unmasked & ~varies.to(unmasked.device)).nonzero().tolist():
                self._remove((index, out, in_), "constant node")
            varies = varying(model, index, (layer.mask != 0).any(1).cpu())
        self._remove_dead_ends(varies)
        small = compact(model)
        if self.removed:
            columns = [model.feature_names.index(name) for name in small.feature_names]
            renew_statistics(small, self.rows[:, columns])
        return small

    def _remove_dead_ends(self, outputs: Tensor | None = None) -> None:
        """Remove edges into nodes without a path to `outputs` (mask (out,), default: all)."""
        model = self.model
        read = torch.ones(model.widths[-1], dtype=torch.bool) if outputs is None else outputs
        for index in range(len(model.layers) - 1, -1, -1):
            unmasked = model.layers[index].mask != 0
            dead = ~model.nodes[index].linked[read.to(unmasked.device)].any(0)
            for out, in_ in (unmasked & dead[:, None]).nonzero().tolist():
                self._remove((index, out, in_), "dead end")
            read = (model.layers[index].mask != 0).any(0)

    def _remove(self, edge: Edge, reason: str, refitted: KANLinear | None = None) -> None:
        self.state.remove(edge)
        self._record(edge, reason, self.evaluator.loss(self.state.output), refitted)


def fine_tune(model: KAN, x: Tensor, y: Tensor, held_out: Tensor | None, steps: int) -> bool:
    """Train a network; return False if training cannot start."""
    options = FitOptions(steps=steps, grid_updates=0, scale=False)
    run = TrainingRun(model, options, x, y, torch.Generator())
    try:
        run.begin(held_out=held_out)
    except TrainingError:  # rows that are not held out have a loss that is not finite
        return False
    run.train(lambda *_, **__: None)
    model.zero_grad(set_to_none=True)
    return True
