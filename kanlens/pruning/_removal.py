"""Greedy removal of edges by score, with fine-tuning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kanlens._runtime import Interruption, progress_bar
from kanlens.errors import MethodError, TrainingError
from kanlens.model._network import KAN, Targets
from kanlens.pruning._compaction import compact, reached, varying
from kanlens.pruning._history import RemovalLog, renew_statistics
from kanlens.pruning._propagation import Edge, Propagation
from kanlens.pruning._scores import EdgeScore, LossEvaluator, Scorer
from kanlens.training._options import FitOptions
from kanlens.training._training_loop import TrainingRun

PARTS = 200  # edges are scored again after every removal of this part of them


class EdgeRemover:
    """A network whose edges are being removed, its loss, and the record of every removal.

    The model is changed; options are those of `kanlens.prune`. The loss is of the rows (batch, in),
    in the units of the data, or of those `held_out` of fine-tuning.
    """

    def __init__(
        self,
        model: KAN,
        rows: Tensor,
        y: Targets | None,
        score: EdgeScore,
        *,
        rescore: bool,
        finetune: int,
        held_out: Tensor | None,
        budget: float | None,
    ) -> None:
        if not bool(reached(model).any()):
            expected = "a model with a path from some feature to an output"
            advice = "Its output is constant; there is nothing to prune"
            raise MethodError("prune", expected, "none", advice)
        self.score, self.rescore, self.finetune = score, rescore, finetune
        self.rows, self.held_out = rows, held_out
        self.model, self.journal = model, RemovalLog(model, rows)
        self.state = Propagation(model, rows)
        self.evaluator = LossEvaluator(
            model, self.state.output, y, rows=held_out, budget=budget, call="prune"
        )
        self.scorer = Scorer(score, self.state, self.evaluator)
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
        masks = [layer.mask.clone() for layer in self.model.layers]
        for layer, out, in_ in edges:
            masks[layer][out, in_] = 0
        got = f"a threshold of {threshold} that cuts every path from the features to an output"
        if not bool(reached(self.model, masks).any()):
            raise MethodError("prune", "a path from the features to an output", got, "Lower it")
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self._remove(edge, "score")
                advance(note=f"loss {self.current_loss:.3e}")
        if not bool(reached(self.model).any()):  # a factor has become zero
            raise MethodError("prune", "a path from the features to an output", got, "Lower it")
        if not math.isfinite(self.current_loss):
            got = f"a threshold of {threshold} that makes it {self.current_loss}"
            raise MethodError("prune", "the loss to stay finite", got, "Lower it")
        if self.finetune and self._tune():
            self.rank(relative=True)

    def cut_within(self, allowed: float, progress: bool | None) -> None:
        """Remove edges, smallest score first, up to the loss allowed."""
        with (
            progress_bar("pruning", self.model.edges_alive, shown=progress) as advance,
            self.stop.kept(),
        ):
            while self._round(allowed, advance) and self.finetune and self._tune():
                continue
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

    def _round(self, allowed: float, advance: Callable[..., None]) -> bool:
        """Try to remove every edge once, and return whether any could be removed."""
        before, refused = len(self.removed), set[Edge]()
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
                return len(self.removed) > before

    def _record(self, edge: Edge, reason: str, loss: float) -> None:
        """Record the removal of an edge and its loss."""
        index, out, in_ = edge
        self.journal.changes.append((edge, self.model.layers[index].bias[out].detach().clone()))
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
                "loss_before": self.current_loss,
                "loss_after": loss,
                "edges_left": self.model.edges_alive,
            }
        )
        self.current_loss = loss

    @torch.no_grad()
    def _tune(self) -> bool:
        """Fine-tune the network if that lowers the loss; return if it does."""
        before, trained = self.current_loss, copy.deepcopy(self.model)
        if not fine_tune(trained, self.rows, self.evaluator.target, self.held_out, self.finetune):
            return False
        after = self.evaluator.loss(trained(self.rows))
        # Both losses are of full passes: `current_loss` is rounded differently.
        if not (math.isfinite(after) and after < self.evaluator.loss(self.model(self.rows))):
            return False
        self.model, self.state, self.current_loss = trained, Propagation(trained, self.rows), after
        self.journal.add_network(trained)
        step = len(self.removed)
        self.tuned.append({"step": step, "loss_before": before, "loss_after": after})
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
        unread = ~varies
        for index in range(len(model.layers) - 1, -1, -1):
            unmasked = model.layers[index].mask != 0
            dead = ~model.nodes[index].linked[~unread.to(unmasked.device)].any(0)
            for out, in_ in (unmasked & dead[:, None]).nonzero().tolist():
                self._remove((index, out, in_), "dead end")
            unread = ~(model.layers[index].mask != 0).any(0)
        small = compact(model)
        if self.removed:
            columns = [model.feature_names.index(name) for name in small.feature_names]
            renew_statistics(small, self.rows[:, columns])
        return small

    def _remove(self, edge: Edge, reason: str) -> None:
        self.state.remove(edge)
        self._record(edge, reason, self.evaluator.loss(self.state.output))


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
