"""Greedy removal of edges by score, with fine-tuning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens.errors import MethodError, TrainingError
from kanlens.long_work import Interruption, progress_bar
from kanlens.model.network import KAN
from kanlens.pruning.compaction import compact, connected, varying
from kanlens.pruning.history import RemovalLog, renew_statistics
from kanlens.pruning.propagation import Edge, Propagation
from kanlens.pruning.scores import EdgeScore, LossEvaluator, Scorer
from kanlens.training.options import FitOptions
from kanlens.training.run import TrainingRun

PARTS = 200  # edges are scored anew after every removal of this part of them


@dataclass(frozen=True, eq=False)
class Tuner:
    """Fine-tuning without a penalty, kept only where held-out rows agree."""

    rows: Tensor  # (batch, in)
    target: Tensor
    held_out: Tensor  # rows whose best state is kept
    steps: int  # of LBFGS, ten iterations each

    def tuned(self, model: KAN, loss: Callable[[KAN], float]) -> tuple[KAN, float]:
        """Return a trained copy with its held-out loss, or the model where that is no better."""
        before, found = loss(model), copy.deepcopy(model)
        options = FitOptions(steps=self.steps, grid_updates=0, scale=False)
        run = TrainingRun(found, options, self.rows, self.target, torch.Generator())
        try:
            run.begin(held_out=self.held_out)
        except TrainingError:  # rows that do not count have a loss that is not finite
            return model, before
        run.train(lambda *_, **__: None)
        after = loss(found)
        found.zero_grad(set_to_none=True)
        return (found, after) if math.isfinite(after) and after < before else (model, before)


class EdgeRemover:
    """A network whose edges are being removed, its loss, and the record of every removal.

    The model is changed; options are those of `kanlens.prune`. Of the rows (batch, in), in the
    units of the data, those `held_out` of fine-tuning give the loss, or all of them.
    """

    def __init__(
        self,
        model: KAN,
        rows: Tensor,
        y: Any,
        score: EdgeScore,
        *,
        rescore: bool,
        finetune: int,
        held_out: Tensor | None,
    ) -> None:
        if not connected(model):
            expected = "a model with a path from some feature to an output"
            advice = "Its output is constant; there is nothing to prune"
            raise MethodError("prune", expected, "none", advice)
        self.score, self.rescore = score, rescore
        self.rows, self.journal = rows, RemovalLog(model, rows)
        self.model, self.state = model, Propagation(model, self.rows)
        self.evaluator = LossEvaluator(model, self.state.output, y, rows=held_out, call="prune")
        self.tuner = None
        if held_out is not None:
            self.tuner = Tuner(rows, self.evaluator.target, held_out, finetune)
        self.removed: list[dict[str, Any]] = []
        self.tuned: list[dict[str, Any]] = []
        self.current_loss = self.evaluator.first_loss
        self.stop, self.stopped_because = Interruption(), "every edge below the threshold is gone"
        self._score(Scorer(score, self.state, self.evaluator))

    def _score(self, scorer: Scorer) -> None:
        """Score every edge as the network is now."""
        matrices, largest = scorer.matrices(), []
        for scores in matrices:
            known = scores[torch.isfinite(scores)]
            most = float(known.max()) if len(known) else 0.0
            largest.append(most if most > 0 else 1.0)
        self.scorer, self.scores, self.largest = scorer, matrices, largest

    def candidates(self, *, relative: bool) -> list[tuple[float, Edge]]:
        """Rank live edges by score, smallest first; relative to their layer's largest or not."""
        found = []
        for index, layer in enumerate(self.model.layers):
            whole = self.largest[index] if relative else 1.0
            scores = (self.scores[index].double() / whole).tolist()
            for out, in_ in (layer.mask != 0).nonzero().tolist():
                found.append((scores[out][in_], (index, out, in_)))
        return sorted(found)

    def cut_below(self, threshold: float, progress: bool | None) -> None:
        """Remove every edge below `threshold`, relative to its layer's largest score."""
        edges = [edge for share, edge in self.candidates(relative=True) if share < threshold]
        masks = [layer.mask.clone() for layer in self.model.layers]
        for layer, out, in_ in edges:
            masks[layer][out, in_] = 0
        got = f"a threshold of {threshold} that cuts every path from the features to an output"
        if not connected(self.model, masks):
            raise MethodError("prune", "some path to be left", got, "Lower it")
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self._try(edge, None)
                advance(note=f"loss {self.current_loss:.3e}")
        if not connected(self.model):  # a factor has become zero
            raise MethodError("prune", "some path to be left", got, "Lower it")
        if not math.isfinite(self.current_loss):
            got = f"a threshold of {threshold} that makes it {self.current_loss}"
            raise MethodError("prune", "the loss to stay finite", got, "Lower it")
        self._tune()

    def cut_within(self, budget: float, progress: bool | None) -> None:
        """Remove edges, smallest score first, while the loss stays within `budget`."""
        allowed, edges = self.evaluator.allowed(budget), self.model.edges_alive
        with progress_bar("pruning", edges, shown=progress) as advance, self.stop.kept():
            while self._round(allowed, advance) and self._tune():
                continue
            self.stopped_because = (
                "no other edge can go within the budget and leave a path to an output"
            )
        if self.stop.happened:  # the network is as after the last removal that was written down
            count = len(self.removed)
            if not count:
                raise KeyboardInterrupt
            self.journal.forget(count)
            self.model = self.journal.at(count)
            self.state = Propagation(self.model, self.rows)
            self.current_loss = self.evaluator.loss(self.state.output)
            self.stopped_because = f"interrupted after {count} removals"

    def _round(self, allowed: float, advance: Callable[..., None]) -> bool:
        """Try every edge once, and tell whether any went."""
        before, refused = len(self.removed), set[Edge]()
        while True:
            found = self.candidates(relative=not self.score.of_network)
            edges = [edge for _, edge in found if edge not in refused]
            room = max(1, len(found) // PARTS) if self.rescore else len(found)
            for edge in edges:
                kept = self._try(edge, allowed)
                advance(int(kept), note=f"loss {self.current_loss:.3e}")
                room -= kept
                if not kept:
                    refused.add(edge)
                if not room:
                    break
            else:
                return len(self.removed) > before
            self._score(self.scorer)

    def _try(self, edge: Edge, allowed: float | None) -> bool:
        """Remove an edge unless the last path or, where there is one, the budget breaks."""
        self.state.remove(edge)
        loss = self.evaluator.loss(self.state.output)
        if allowed is None or (loss <= allowed and connected(self.model)):
            self._record(edge, "score", loss)
            return True
        self.state.undo()
        return False

    def _record(self, edge: Edge, reason: str, loss: float) -> None:
        """Record the removal of an edge and its loss."""
        index, out, in_ = edge
        self.journal.note(edge, self.model.layers[index].bias[out].detach().clone())
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
        """Fine-tune what is left, and tell whether that lowered the loss."""
        if self.tuner is None:
            return False
        before = self.current_loss
        found, loss = self.tuner.tuned(self.model, lambda k: self.evaluator.loss(k(self.rows)))
        if found is self.model:
            return False
        self.model, self.state = found, Propagation(found, self.rows)
        self.current_loss = loss
        self.journal.note_whole(found)
        step = len(self.removed)
        self.tuned.append({"step": step, "loss_before": before, "loss_after": loss})
        self._score(Scorer(self.score, self.state, self.evaluator))
        return True

    def finished(self) -> KAN:
        """Return the model without edges that do nothing, its tensors cut to size."""
        model, varies = self.model, torch.ones(self.model.widths[0], dtype=torch.bool)
        for index, layer in enumerate(model.layers):  # a constant makes the next one
            alive = layer.mask != 0
            self._remove_all(index, alive & ~varies.to(alive.device), "constant node")
            varies = varying(model, index, (layer.mask != 0).any(1).cpu())
        unread = ~varies
        for index in range(len(model.layers) - 1, -1, -1):
            alive = model.layers[index].mask != 0
            dead = ~model.nodes[index].linked[~unread.to(alive.device)].any(0)
            self._remove_all(index, alive & dead[:, None], "dead end")
            unread = ~(model.layers[index].mask != 0).any(0)
        small = compact(model)
        if self.removed:
            columns = [model.feature_names.index(name) for name in small.feature_names]
            renew_statistics(small, self.rows[:, columns])
        return small

    def _remove_all(self, index: int, edges: Tensor, reason: str) -> None:
        for out, in_ in edges.nonzero().tolist():
            edge = (index, out, in_)
            self.state.remove(edge)
            self._record(edge, reason, self.evaluator.loss(self.state.output))
