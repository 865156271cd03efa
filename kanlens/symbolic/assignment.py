"""Give the edges of a network functions, layer by layer, and take back what does harm.

Layers are processed from the inputs to the outputs. After a layer has its functions, the edges
of the next are sampled anew, because what reaches them has moved. Near ties are decided by the
loss of the whole network after a short refit, and so is whether an edge that no function fits
is needed at all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from kanlens.core.function_layer import SPLINE, FunctionLinear
from kanlens.core.network import KAN
from kanlens.symbolic.edge_fitting import fit_edges
from kanlens.symbolic.joint_refit import refit, relative_loss
from kanlens.symbolic.library import Family
from kanlens.symbolic.sampling import sample_edges
from kanlens.symbolic.selection import Candidate, accepted, rank_candidates

_NEGLIGIBLE = 1e-3  # importance below which an edge is a constant
_DISPENSABLE = 0.05  # importance below which doing without an unfitted edge is tried
_TIE = 6.0  # difference of the criterion
_KEPT = 8  # candidates per edge
_TRIALS = 32  # refits spent on ties
_SOLVED = 1e-12  # loss at which nothing is left to try
_TRIAL_STEPS = 12
_ROWS = 500  # for losses that only compare


@dataclass(frozen=True, kw_only=True)
class EdgeChoice:
    """What was found for one edge.

    Attributes
    ----------
    layer, out, in_ : int
        The edge.
    candidates : tuple of Candidate
        Best first.
    importance : float
        Deviation of the edge over that of the sum it enters.
    """

    layer: int
    out: int
    in_: int
    candidates: tuple[Candidate, ...]
    importance: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """What the formula should reproduce, and how well.

    Attributes
    ----------
    x : Tensor, shape (batch, in)
    target : Tensor, shape (batch, out)
        In the units of the data.
    limit : float
        Largest loss that is accepted.
    independent : int or None
        Number of independent values in each target; None: all.
    """

    x: Tensor
    target: Tensor
    limit: float
    independent: int | None = None

    def few(self) -> Goal:
        """Return the goal on at most 500 of its rows."""
        pick = torch.linspace(0, len(self.x) - 1, min(_ROWS, len(self.x))).round().long()
        return Goal(x=self.x[pick], target=self.target[pick], limit=self.limit)

    def loss(self, model: KAN) -> float:
        """Return the loss of a model; infinite where it is not finite."""
        return relative_loss(model(self.x), self.target)


def rank_layer(
    model: KAN, index: int, inputs: Tensor, families: Sequence[Family]
) -> list[EdgeChoice]:
    """Rank functions for every live spline edge of one layer.

    Parameters
    ----------
    model : KAN
        In float64.
    index : int
        The layer.
    inputs : Tensor, shape (batch, in)
        What reaches it.
    families : sequence of Family

    Returns
    -------
    list of EdgeChoice
    """
    layer = model.layers[index]
    edges = sample_edges(layer, inputs)
    if not len(edges.out):
        return []
    fits = fit_edges(edges.samples, families)
    ranked = rank_candidates(fits, float(layer.degrees_of_freedom), kept=_KEPT)
    functions = getattr(layer, "functions", None)
    places = zip(edges.out.tolist(), edges.in_.tolist(), strict=True)
    rows = zip(places, ranked, edges.importance.tolist(), strict=True)
    return [
        EdgeChoice(layer=index, out=o, in_=i, candidates=found, importance=importance)
        for (o, i), found, importance in rows
        if functions is None or functions[o][i] == SPLINE
    ]


@torch.no_grad()
def assign_functions(
    model: KAN,
    x: Tensor,
    families: Sequence[Family],
    r2_min: float,
    *,
    advance: Callable[..., None],
) -> list[EdgeChoice]:
    """Replace edges of `model` in place by the best function that explains enough.

    Parameters
    ----------
    model : KAN
        In float64; its layers become `FunctionLinear`.
    x : Tensor, shape (batch, in)
    families : sequence of Family
    r2_min : float
        Least share of an edge's variance.
    advance : callable
        Called once per layer.

    Returns
    -------
    list of EdgeChoice
    """
    choices: list[EdgeChoice] = []
    hidden = model.scale_inputs(x)
    for index, old in enumerate(model.layers):
        layer = FunctionLinear.from_layer(old)
        cast("nn.ModuleList", model.layers)[index] = layer
        name_dead(layer, "constant")
        found = rank_layer(model, index, hidden, families)
        for choice in found:
            best = _constant(layer, choice, hidden) or accepted(choice.candidates, r2_min)
            if best is not None:
                layer.assign(choice.out, choice.in_, best.function, best.parameters)
        choices += found
        hidden = model.through(index, hidden)
        advance()
    return choices


def name_dead(layer: FunctionLinear, name: str) -> None:
    """Give all edges that are masked away one name.

    While a network is worked on they are constants, so that no spline is evaluated for them; in
    the end they are splines, as edges that no function stands on.
    """
    for o, i in (layer.mask == 0).nonzero().tolist():
        layer.assign(o, i, name, (1.0, 0.0, 0.0, 0.0))


def _constant(layer: FunctionLinear, choice: EdgeChoice, inputs: Tensor) -> Candidate | None:
    """Return the constant that stands for a negligible edge."""
    if choice.importance >= _NEGLIGIBLE:
        return None
    mean = float(layer.edge_values(inputs[:_ROWS])[:, choice.out, choice.in_].mean())
    return _flat(mean)


@torch.no_grad()
def settle_ties(model: KAN, choices: Sequence[EdgeChoice], r2_min: float, goal: Goal) -> KAN:
    """Try other functions where it is open which is right, and return the best network.

    Every trial is judged by the loss of the whole network after a short refit: near ties must
    halve it, candidates that fit their edge clearly worse must divide it by ten, and doing
    without an edge must not raise it.

    Parameters
    ----------
    model : KAN
        With functions assigned, not yet refitted; left as it is.
    choices : sequence of EdgeChoice
        What was found for each edge.
    r2_min : float
        Least share of an edge's variance.
    goal : Goal

    Returns
    -------
    KAN
        `model`, or a copy in which other functions stand; not refitted.
    """
    few, best = goal.few(), model
    loss = refit(copy.deepcopy(best), few.x, few.target, steps=_TRIAL_STEPS)
    trials = 0
    for choice, option in _options(model, choices, r2_min):
        if trials == _TRIALS or loss < _SOLVED:
            break
        if _layer(best, choice).functions[choice.out][choice.in_] == option.function:
            continue
        trials += 1
        trial = copy.deepcopy(best)
        place = (choice.out, choice.in_)
        _layer(trial, choice).assign(*place, option.function, option.parameters)
        new = refit(copy.deepcopy(trial), few.x, few.target, steps=_TRIAL_STEPS)
        if new <= _allowed(option) * loss:
            best, loss = trial, new
    return best


def _allowed(option: Candidate) -> float:
    """Return by which factor a trial may change the loss to be taken."""
    if option.function == "constant":
        return 1.02
    return 0.5 if option.score < _TIE else 0.1


def _options(
    model: KAN, choices: Sequence[EdgeChoice], r2_min: float
) -> list[tuple[EdgeChoice, Candidate]]:
    """Return what else edges may be, the most promising first.

    First constants for doubtful edges, then near ties, then what fits clearly worse.
    """
    found: list[tuple[float, EdgeChoice, Candidate]] = []
    for choice in choices:
        current = _layer(model, choice).functions[choice.out][choice.in_]
        if current == "constant":
            continue
        if choice.importance < _DISPENSABLE:
            found.append((-1.0, choice, _flat(0.0)))  # the refit finds its value
        if current != SPLINE:
            found += [(c.score, choice, c) for c in choice.candidates if c.r2 >= r2_min]
    found.sort(key=lambda item: (item[0] >= _TIE, item[0] >= 0, -item[1].importance, item[0]))
    return [(choice, option) for _, choice, option in found]


def _flat(value: float) -> Candidate:
    parameters = (1.0, 0.0, 0.0, value)
    return Candidate(function="constant", parameters=parameters, r2=1.0, score=0.0)


def _layer(model: KAN, choice: EdgeChoice) -> FunctionLinear:
    layer = model.layers[choice.layer]
    if not isinstance(layer, FunctionLinear):
        raise TypeError
    return layer


@torch.no_grad()
def back_off(model: KAN, goal: Goal, *, refine: bool) -> tuple[KAN, KAN]:
    """Refit the network; while its loss is too large, make functions splines again.

    Parameters
    ----------
    model : KAN
        With functions assigned, not yet refitted; left as it is.
    goal : Goal
    refine : bool
        Whether to refit.

    Returns
    -------
    tuple of KAN
        The network after the refit, and before it.
    """
    base = copy.deepcopy(model)
    few = goal.few()
    while True:
        work = copy.deepcopy(base)
        loss = refit(work, goal.x, goal.target) if refine else goal.loss(work)
        edges = function_edges(base)
        if loss <= goal.limit or not edges:
            return work, base
        damage = [_loss_without(base, edge, few) for edge in edges]
        order = sorted(range(len(edges)), key=lambda k: damage[k])
        for k in order[: max(1, len(edges) // 10)]:
            layer, out, in_ = edges[k]
            revert(base, layer, out, in_)


def function_edges(model: KAN) -> list[tuple[int, int, int]]:
    """Return layer, out and in of the live edges that are functions."""
    return [
        (index, o, i)
        for index, layer in enumerate(model.layers)
        if isinstance(layer, FunctionLinear)
        for o, row in enumerate(layer.functions)
        for i, name in enumerate(row)
        if name != SPLINE and bool(layer.mask[o, i] != 0)
    ]


def _loss_without(model: KAN, edge: tuple[int, int, int], goal: Goal) -> float:
    """Return the loss with one function made a spline again."""
    layer = model.layers[edge[0]]
    if not isinstance(layer, FunctionLinear):
        return math.inf
    name = layer.functions[edge[1]][edge[2]]
    parameters = layer.affine[edge[1], edge[2]].tolist()
    layer.assign(edge[1], edge[2], SPLINE, parameters)
    loss = goal.loss(model)
    layer.assign(edge[1], edge[2], name, parameters)
    return loss


def revert(model: KAN, index: int, out: int, in_: int) -> None:
    """Make a function the spline again that it was put in place of."""
    layer = model.layers[index]
    if isinstance(layer, FunctionLinear):
        layer.assign(out, in_, SPLINE, (1.0, 0.0, 1.0, 0.0))
