"""Edges that go one by one: which is next, whether it may, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import MethodError
from kanlens.interruption import Interruption
from kanlens.model.network import KAN
from kanlens.progress import progress_bar
from kanlens.pruning.compaction import compact, connected, varying
from kanlens.pruning.compensation import factors_for
from kanlens.pruning.finetuning import Tuner
from kanlens.pruning.history import Change, Journal, renew_statistics
from kanlens.pruning.loss import Judge
from kanlens.pruning.propagation import Edge, Propagation
from kanlens.pruning.scores import Score, Scorer

__all__ = ["Cutter", "Plan"]

PARTS = 200  # edges are scored anew after every removal of this part of them


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How edges are removed.

    Attributes
    ----------
    score : Score
        What they are ordered by.
    rescore, compensate : bool
        As `kanlens.prune` takes them.
    steps : int
        Of fine-tuning; 0 for none.
    """

    score: Score
    rescore: bool = True
    compensate: bool = False
    steps: int = 0


class Cutter:
    """A model whose edges are being removed, the rows it is judged on, and the record.

    Parameters
    ----------
    model : KAN
        Changed.
    rows : Tensor, shape (batch, in)
        In the units of the data.
    y : optional
        Targets, as for `fit`.
    plan : Plan
        How to go on.
    held_out : Tensor of int, optional
        The rows that the loss is of, and that fine-tuning never sees; all when None.
    """

    def __init__(
        self, model: KAN, rows: Tensor, y: Any, plan: Plan, held_out: Tensor | None = None
    ) -> None:
        self.model, self.rows, self.plan = model, rows, plan
        if not connected(model):
            expected = "a model with a path from some feature to an output"
            advice = "Its output is constant; there is nothing to prune"
            raise MethodError(message("prune", expected, "none", advice))
        self.state = Propagation(model, rows)
        self.judge = Judge(model, self.state.output, y, rows=held_out, call="prune")
        self.journal = Journal(model, rows)
        self.tuner = None
        if held_out is not None:
            self.tuner = Tuner(rows, self.judge.target, held_out, plan.steps)
        self.removed: list[dict[str, Any]] = []
        self.tuned: list[dict[str, Any]] = []
        self.current_loss = self.judge.first_loss
        self.stop, self.stopped_because = Interruption(), "every edge below the threshold is gone"
        self._start_scoring()

    def _start_scoring(self) -> None:
        self.scorer = Scorer(self.plan.score, self.state, self.judge)
        self._score()

    def _score(self) -> None:
        """Score every edge as the network is now."""
        scores = self.scorer.matrices()
        self.scores, self.largest = scores, [_largest(layer) for layer in scores]

    def _masks(self) -> list[Tensor]:
        return [layer.mask for layer in self.model.layers]

    def candidates(self, *, relative: bool) -> list[tuple[float, Edge]]:
        """Return every live edge with its score, smallest first.

        Scores are relative to their layer's largest, or as they are.
        """
        found = []
        for index, mask in enumerate(self._masks()):
            whole = self.largest[index] if relative else 1.0
            scores = (self.scores[index].double() / whole).tolist()
            for out, in_ in (mask != 0).nonzero().tolist():
                found.append((scores[out][in_], (index, out, in_)))
        return sorted(found)

    def cut_below(self, threshold: float, progress: bool | None) -> None:
        """Remove every edge below `threshold`, relative to its layer's largest score."""
        edges = [edge for share, edge in self.candidates(relative=True) if share < threshold]
        masks = [mask.clone() for mask in self._masks()]
        for layer, out, in_ in edges:
            masks[layer][out, in_] = 0
        got = f"a threshold of {threshold} that cuts every path from the features to an output"
        if not connected(self.model, masks):
            raise MethodError(message("prune", "some path to be left", got, "Lower it"))
        with progress_bar("pruning", len(edges), shown=progress) as advance:
            for edge in edges:
                self._try(edge, None)
                advance(note=f"loss {self.current_loss:.3e}")
        if not connected(self.model):  # a factor has become zero
            raise MethodError(message("prune", "some path to be left", got, "Lower it"))
        if not math.isfinite(self.current_loss):
            got = f"a threshold of {threshold} that makes it {self.current_loss}"
            raise MethodError(message("prune", "the loss to stay finite", got, "Lower it"))
        self._tune()

    def cut_within(self, budget: float, progress: bool | None) -> None:
        """Remove edges, smallest score first, while the loss stays within `budget`."""
        allowed, edges = self.judge.allowed(budget), self.model.edges_alive
        with progress_bar("pruning", edges, shown=progress) as advance, self.stop.kept():
            while self._round(allowed, advance) and self._tune():
                continue
            self.stopped_because = (
                "no other edge can go within the budget and leave a path to an output"
            )
        if self.stop.happened:
            self._back()

    def _back(self) -> None:
        """Take up the network as it was after the last removal that was written down."""
        count = len(self.removed)
        if not count:
            raise KeyboardInterrupt
        self.journal.forget(count)
        self.model = self.journal.at(count)
        self.state = Propagation(self.model, self.rows)
        self.current_loss = self.judge.loss(self.state.output)
        self.stopped_because = f"interrupted after {count} removals"

    def _round(self, allowed: float, advance: Callable[..., None]) -> bool:
        """Try every edge once, and tell whether any went."""
        before, refused = len(self.removed), set[Edge]()
        while True:
            found = self.candidates(relative=not self.plan.score.across)
            edges = [edge for _, edge in found if edge not in refused]
            room = max(1, len(found) // PARTS) if self.plan.rescore else len(found)
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
            self._score()

    def _try(self, edge: Edge, allowed: float | None) -> bool:
        """Remove an edge unless the last path or, where there is one, the budget breaks."""
        factors = self._factors(edge) if self.plan.compensate else None
        self.state.remove(edge)
        loss = self.judge.loss(self.state.output)
        if factors is not None:
            self.state.scale(*edge[:2], factors)
            made_up = self.judge.loss(self.state.output)
            if made_up < loss:
                loss = made_up
            else:
                factors = None
                self.state.undo()
        if allowed is None or (loss <= allowed and connected(self.model)):
            self._record(edge, "score", loss, factors)
            return True
        if factors is not None:
            self.state.undo()
        self.state.undo()
        return False

    def _factors(self, edge: Edge) -> Tensor | None:  # (in,)
        """Return what the other edges of a sum are multiplied with to make up for one."""
        index, out, in_ = edge
        alive = self.model.layers[index].mask[out] != 0
        alive[in_] = False
        others = alive.nonzero()[:, 0].tolist()
        if not others:
            return None
        factors = torch.ones_like(self.model.layers[index].mask[out])
        values = torch.stack([self.state.edge((index, out, i)) for i in others], dim=1)
        factors[others] = factors_for(self.state.edge(edge), values)
        return factors

    def _record(self, edge: Edge, reason: str, loss: float, factors: Tensor | None = None) -> None:
        """Write down the removal of an edge, and what it cost."""
        index, out, in_ = edge
        bias = self.model.layers[index].bias[out].detach().clone()
        self.journal.note(Change(edge=edge, bias=bias, factors=factors))
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
        """Train what is left, and tell whether that was worth it."""
        if self.tuner is None:
            return False
        before = self.current_loss
        found, loss = self.tuner.tuned(self.model, lambda model: self.judge.loss(model(self.rows)))
        if found is self.model:
            return False
        self.model, self.current_loss = found, loss
        self.state = Propagation(found, self.rows)
        self.journal.note_whole(found)
        step = len(self.removed)
        self.tuned.append({"step": step, "loss_before": before, "loss_after": loss})
        self._start_scoring()
        return True

    def finished(self) -> KAN:
        """Return the model without what no longer does anything, its tensors cut to size."""
        self._cascade()
        small = compact(self.model)
        if self.removed:
            columns = [self.model.feature_names.index(name) for name in small.feature_names]
            renew_statistics(small, self.rows[:, columns])
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
            edge = (index, out, in_)
            self.state.remove(edge)
            self._record(edge, reason, self.judge.loss(self.state.output))


def _largest(scores: Tensor) -> float:
    """Return the largest score that is a number, or 1 where there is none above 0."""
    known = scores[torch.isfinite(scores)]
    most = float(known.max()) if len(known) else 0.0
    return most if most > 0 else 1.0
