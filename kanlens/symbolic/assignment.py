"""Give the edges of a network functions, layer by layer, and take back what does harm.

Layers are processed from the inputs to the outputs. After a layer has its functions, the edges
of the next are sampled anew, because what reaches them has moved.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from kanlens.functions.catalog import FUNCTIONS
from kanlens.interruption import Interruption
from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.network import KAN
from kanlens.symbolic.edge_fitting import AT_ONCE, fit_edges
from kanlens.symbolic.joint_refit import refit, relative_loss
from kanlens.symbolic.library import Family
from kanlens.symbolic.sampling import sample_edges
from kanlens.symbolic.selection import Candidate, accepted, rank_candidates

_NEGLIGIBLE = 1e-3  # importance below which an edge is a constant
_KEPT = 8  # candidates per edge
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
    choosing : tuple of Tensor or None
        Other x and target, which judge formulas; None: there are none.
    """

    x: Tensor
    target: Tensor
    limit: float
    independent: int | None = None
    choosing: tuple[Tensor, Tensor] | None = None

    @property
    def judged(self) -> tuple[Tensor, Tensor]:
        """What formulas are judged by: x and target that nothing was fitted to, if any."""
        return self.choosing or (self.x, self.target)

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
    return [choice for some in rank_in_parts(model, index, inputs, families) for choice in some]


def rank_in_parts(
    model: KAN, index: int, inputs: Tensor, families: Sequence[Family]
) -> Iterator[list[EdgeChoice]]:
    """Rank functions as `rank_layer` does, some edges at a time."""
    layer = model.layers[index]
    edges = sample_edges(layer, inputs)
    if not len(edges.out):
        return
    functions = getattr(layer, "functions", None)
    for part in torch.arange(len(edges.out)).split(AT_ONCE):
        fits = fit_edges(edges.samples.pick(part), families)
        ranked = rank_candidates(fits, float(layer.degrees_of_freedom), kept=_KEPT)
        places = zip(edges.out[part].tolist(), edges.in_[part].tolist(), strict=True)
        rows = zip(places, ranked, edges.importance[part].tolist(), strict=True)
        yield [
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
    stop: Interruption | None = None,
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
    stop : Interruption, optional
        After an interrupt the edges of the other layers stay what they are.

    Returns
    -------
    list of EdgeChoice
    """
    stop = stop or Interruption()
    choices: list[EdgeChoice] = []
    hidden = model.scale_inputs(x)
    layers = cast("nn.ModuleList", model.layers)
    for index, old in enumerate(model.layers):
        untouched = FunctionLinear.from_layer(old)
        layers[index] = untouched
        name_dead(untouched, "constant")
        if not stop.happened:
            with stop.kept():
                found = rank_layer(model, index, hidden, families)
                layer = copy.deepcopy(untouched)
                assign_layer(layer, found, r2_min, hidden)
                layers[index] = layer
                choices += found
                hidden = model.through(index, hidden)
        advance(note=f"{len(choices)} edges")
    return choices


def assign_layer(
    layer: FunctionLinear, found: Sequence[EdgeChoice], r2_min: float, inputs: Tensor
) -> None:
    """Put the best function that explains enough on each edge, a constant where nothing varies.

    Parameters
    ----------
    layer : FunctionLinear
        Changed in place.
    found : sequence of EdgeChoice
        Edges of this layer; others stay what they are.
    r2_min : float
        Least share of an edge's variance.
    inputs : Tensor, shape (batch, in)
        What reaches the layer.
    """
    for choice in found:
        able = [c for c in choice.candidates if _defined(c, inputs[:, choice.in_])]
        best = _constant(layer, choice, inputs) or accepted(able, r2_min)
        if best is not None:
            layer.assign(choice.out, choice.in_, best.function, best.parameters)


def _defined(candidate: Candidate, inputs: Tensor) -> bool:
    """Say whether a function is finite on all rows; it was fitted to all but the rarest."""
    a, b, c, d = candidate.parameters
    values = c * FUNCTIONS[candidate.function].value(a * inputs + b) + d
    return bool(torch.isfinite(values).all())


def name_dead(layer: FunctionLinear, name: str) -> None:
    """Give all edges that are masked away one name.

    While a network is worked on they are constants, so that no spline is evaluated for them; in
    the end they are splines, as edges that no function stands on.
    """
    for o, i in (layer.mask == 0).nonzero().tolist():
        layer.assign(o, i, name, (1.0, 0.0, 0.0, 0.0))


def flat(value: float) -> Candidate:
    """Return the candidate that is a constant."""
    parameters = (1.0, 0.0, 0.0, value)
    return Candidate(function="constant", parameters=parameters, r2=1.0, score=0.0)


def _constant(layer: FunctionLinear, choice: EdgeChoice, inputs: Tensor) -> Candidate | None:
    """Return the constant that stands for a negligible edge."""
    if choice.importance >= _NEGLIGIBLE:
        return None
    mean = float(layer.edge_values(inputs[:_ROWS])[:, choice.out, choice.in_].mean())
    return flat(mean)


@torch.no_grad()
def back_off(
    model: KAN, goal: Goal, *, refine: bool, stop: Interruption | None = None
) -> tuple[KAN, KAN]:
    """Refit the network; while its loss is too large, make functions splines again.

    Parameters
    ----------
    model : KAN
        With functions assigned, not yet refitted; left as it is.
    goal : Goal
    refine : bool
        Whether to refit.
    stop : Interruption, optional
        After an interrupt nothing is refitted.

    Returns
    -------
    tuple of KAN
        The network after the refit, and before it.
    """
    stop = stop or Interruption()
    base = copy.deepcopy(model)
    few = goal.few()
    while True:
        work, loss = copy.deepcopy(base), math.inf
        if refine and not stop.happened:
            with stop.kept():
                loss = refit(work, goal.x, goal.target)
        if not refine or stop.happened:
            work = copy.deepcopy(base)
            loss = goal.loss(work)
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
