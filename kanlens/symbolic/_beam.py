"""Beam search over edge functions by the network's loss after a refit.

A function replaces the first choice if it halves the loss and is a near tie, or if it divides the
loss by ten. Beam search is that of B. T. Lowerre, The Harpy speech recognition system, 1976.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter

import torch

from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.symbolic._assignment import (
    Candidate,
    Edge,
    EdgeChoice,
    Goal,
    assign_layer,
    flat,
    rank_layer,
)
from kanlens.symbolic._joint_refit import refit
from kanlens.symbolic._library import Family

_TIE = 6.0  # difference of the criterion
_TRIALS = 32  # most refits to remove edges and to try clearly worse functions, together
_MAX_TRIALS = 48  # refits spent on ties
_IDLE = 12  # refits spent on ties after which the search ends if the loss fell by less than a tenth
_OPTIONS = 3  # near ties of an edge that are tried
_MAX_RESAMPLED = 64  # edges of a network whose layers are sampled anew in every trial
_DISPENSABLE = 0.05  # importance below which removal of an edge is tried
_SOLVED = 1e-12  # loss at which the search ends
_STEPS = (4, 8)  # of a short refit: of all trials, and further ones of promising trials
_PROMISING = 4.0  # times the needed loss up to which a trial is promising
_MAX_CANDIDATES = 4  # candidates of an edge that are compared when its layer is sampled anew
_FREE = 1.02  # factor by which the loss may rise without an edge
# factors by which near ties and other functions must lower the loss
_NEAR_TIE_FACTOR, _REPLACEMENT_FACTOR = 0.5, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    """One network of the beam."""

    model: KAN  # with functions assigned, not refitted
    choices: dict[Edge, EdgeChoice]  # candidates of each edge, for the layers before it
    loss: float = math.inf  # after a short refit
    handicap: float = 0.0  # log of the factor by which its changes must have lowered the loss

    @property
    def cost(self) -> float:
        """Sort key of the beam."""
        return math.log(max(self.loss, 1e-300)) + self.handicap

    @property
    def functions(self) -> tuple[object, ...]:
        """The functions of all edges."""
        return tuple(layer.functions for layer in self.model.layers)

    def function(self, edge: Edge) -> str:
        """Return the name of an edge's function."""
        return self.model.layers[edge[0]].functions[edge[1]][edge[2]]


class Beam:
    """Beam search for the functions of a network."""

    width = 3  # networks that are kept

    def __init__(
        self, original: KAN, families: Sequence[Family], r2_min: float, goal: Goal
    ) -> None:
        self.original, self.families, self.r2_min = original, families, r2_min
        self.goal, self.follows = goal.few(), original.edges_alive <= _MAX_RESAMPLED

    @torch.no_grad()
    def search(self, model: KAN, choices: Sequence[EdgeChoice]) -> KAN:
        """Return the best network so far at the end or an interrupt, not refitted."""
        self.best = _State(model=model, choices={(c.layer, c.out, c.in_): c for c in choices})
        with self.goal.stop.kept():
            self.best = self._judged(self.best)
            needless = [(edge, flat(0.0)) for edge in self._ranked(below=_DISPENSABLE)]
            spent = self._climb(needless, _TRIALS, _FREE)  # the refit finds the constants' values
            self._between_ties()
            worse = [
                (edge, option)
                for edge in self._ranked()
                for option in self.best.choices[edge].candidates
                if self.best.function(edge) not in (SPLINE, "constant")
                and option.score >= _TIE
                and option.r2 >= self.r2_min
            ]
            self._climb(worse, _TRIALS - spent, _REPLACEMENT_FACTOR)
        return self.best.model

    def _climb(self, options: list[tuple[Edge, Candidate]], most: int, factor: float) -> int:
        """Accept functions one by one if the loss falls enough; return the number of refits."""
        spent = 0
        for edge, option in options:
            if spent == most or self.best.loss < _SOLVED:
                break
            if self.best.function(edge) in (option.function, "constant"):
                continue
            spent += 1
            needed = factor * self.best.loss
            trial = self._judged(self._changed(self.best, edge, option), needed)
            if trial.loss <= needed:
                self.best = trial
        return spent

    def _between_ties(self) -> None:
        """Try other functions on the most important edges with near ties, from the inputs on."""
        beam, seen, spent = [self.best], {self.best.functions}, 0
        first = least = self.best.loss
        doubtful = [edge for edge in self._ranked() if self._ties(self.best, edge)]
        for edge in sorted(doubtful[: _MAX_TRIALS // self.width], key=itemgetter(0)):
            if spent >= _IDLE and least > 0.9 * first:
                break
            children: list[_State] = []
            worst = beam[-1].cost if len(beam) == self.width else math.inf
            for state in beam:
                for option in self._ties(state, edge):
                    if spent == _MAX_TRIALS or self.best.loss < _SOLVED:
                        break
                    child = self._changed(state, edge, option)
                    if child.functions in seen:
                        continue
                    spent += 1
                    seen.add(child.functions)
                    child = replace(child, handicap=state.handicap - math.log(_NEAR_TIE_FACTOR))
                    children.append(self._judged(child, math.exp(worst - child.handicap)))
                    least = min(least, children[-1].loss)
                    if children[-1].cost < self.best.cost:
                        self.best = children[-1]
            beam = sorted([*beam, *children], key=attrgetter("cost"))[: self.width]
        self.best = replace(self.best, handicap=0.0)

    def _ties(self, state: _State, edge: Edge) -> list[Candidate]:
        """Return candidates nearly as good as an edge's best, without its present function."""
        current = state.function(edge)
        if current in (SPLINE, "constant"):
            return []
        near = (c for c in state.choices[edge].candidates if c.score < _TIE and c.r2 >= self.r2_min)
        return [c for c in near if c.function != current][:_OPTIONS]

    def _ranked(self, below: float = math.inf) -> list[Edge]:
        """Return edges with an importance of at most `below`, the most important first."""
        importance = {edge: choice.importance for edge, choice in self.best.choices.items()}
        edges = [edge for edge, value in importance.items() if value <= below]
        return sorted(edges, key=importance.__getitem__, reverse=True)

    def _judged(self, state: _State, needed: float = math.inf) -> _State:
        """Return a state with its loss after a short refit."""
        work, loss = copy.deepcopy(state.model), math.inf
        for steps in _STEPS:
            loss = refit(work, self.goal.x, self.goal.target, steps=steps)
            if loss > _PROMISING * needed or loss < _SOLVED:
                break
        return replace(state, loss=loss)

    def _changed(self, state: _State, edge: Edge, option: Candidate) -> _State:
        """Return a state with the function of one edge changed, and later layers reassigned."""
        model, choices = copy.deepcopy(state.model), dict(state.choices)
        index, out, in_ = edge
        model.layers[index].assign(out, in_, option.function, option.parameters)
        follows = self.follows and option.function != "constant"
        hidden = model.scale_inputs(self.goal.x)
        for later in range(len(model.layers)) if follows else ():
            if not torch.isfinite(hidden).all():
                break  # the loss will not be finite either
            if later > index:  # from their known candidates
                layer = model.layers[later]
                close = (
                    c.candidates[:_MAX_CANDIDATES] for e, c in choices.items() if e[0] == later
                )
                names = {candidate.function for candidates in close for candidate in candidates}
                few = [family for family in self.families if family.name in names]
                ranked = [
                    choice
                    for choice in rank_layer(self.original, later, hidden, few)
                    if layer.functions[choice.out][choice.in_] != "constant"
                ]
                assign_layer(layer, ranked, self.r2_min, hidden)
                choices |= {(later, c.out, c.in_): c for c in ranked}
            hidden = model.through(later, hidden)
        return replace(state, model=model, choices=choices)
