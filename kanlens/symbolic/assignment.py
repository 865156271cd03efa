"""Assign functions to edges, layer by layer, and revert those that raise the loss.

Layers are processed from the inputs to the outputs. After a layer has its functions, the edges
of the next are sampled anew, because what reaches them has moved.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from kanlens.functions.catalog import FUNCTIONS
from kanlens.long_work import Interruption
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.terms import SPLINE
from kanlens.symbolic.edge_fitting import AT_ONCE, EdgeFits, fit_edges, sample_edges
from kanlens.symbolic.joint_refit import live_functions, refit, relative_loss
from kanlens.symbolic.library import Family

_NEGLIGIBLE = 1e-3  # importance below which an edge is a constant
_KEPT = 8  # candidates per edge
_ROWS = 500  # for losses that only compare
_EPSILON = 1e-7  # noise of every edge, in parts of its variance
_NOISE = 0.5  # further noise, in parts of what the best function leaves

Edge = tuple[int, int, int]  # layer, out, in


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One function for one edge."""

    function: str  # elementary function, or "constant" for an edge that does not vary
    parameters: tuple[float, float, float, float]  # a, b, c, d of c * g(a * x + b) + d
    r2: float  # share of the edge's variance it explains
    score: float  # criterion above its least value on this edge; below 6 is a near tie


def flat(value: float) -> Candidate:
    """Return the candidate that is a constant."""
    parameters = (1.0, 0.0, 0.0, value)
    return Candidate(function="constant", parameters=parameters, r2=1.0, score=0.0)


def information_scores(
    misfit: Tensor, families: Sequence[Family], coefficients: Tensor | float
) -> Tensor:
    """Return the criterion of every fit (edge, family); smaller is better.

    ``S = (n - p) ln(u + eps + least / 2) + 2 ln(2) complexity``, 0 where nothing is explained, is
    the marginal likelihood [1]_ of p parameters that leave the part u of n values of unknown noise,
    and a prior. eps bounds how exact an edge can be; `least` is what the best function leaves.

    References
    ----------
    .. [1] G. L. Bretthorst, Bayesian Spectrum Analysis and Parameter Estimation, 1988, chapter 3.
    """
    price = torch.tensor([2 * math.log(2.0) * family.function.complexity for family in families])
    used = torch.tensor([float(family.parameters) for family in families])
    left = misfit.clamp(min=0.0)
    least = left.nan_to_num(math.inf).amin(1, keepdim=True)
    independent = torch.as_tensor(coefficients, dtype=misfit.dtype).reshape(-1, 1)
    free = (independent - used.to(misfit)).clamp(min=1.0)
    share = (left + _EPSILON + _NOISE * least) / (1 + _EPSILON + _NOISE)  # at most 1
    return free * torch.log(share) + price.to(misfit)


def rank_candidates(
    fits: EdgeFits, n_effective: float, *, kept: int = 3
) -> list[tuple[Candidate, ...]]:
    """Return the best functions of every edge, best first; of a constant edge "constant" alone."""
    independent = n_effective if fits.coefficients is None else fits.coefficients
    scores = information_scores(fits.misfit, fits.families, independent)
    finite = torch.isfinite(fits.parameters).all(-1) & torch.isfinite(fits.r2)
    scores = torch.where(finite, scores, math.inf)
    order = scores.argsort(dim=1, stable=True)[:, : min(kept, scores.shape[1])].tolist()
    table, r2s, values = scores.tolist(), fits.r2.tolist(), fits.parameters.tolist()
    ranked: list[tuple[Candidate, ...]] = []
    for edge, families in enumerate(order):
        if bool(fits.constant[edge]):
            ranked.append((flat(float(fits.mean[edge])),))
            continue
        least = table[edge][families[0]]
        ranked.append(
            tuple(
                Candidate(
                    function=fits.families[f].name,
                    parameters=tuple(values[edge][f]),
                    r2=r2s[edge][f],
                    score=table[edge][f] - least,
                )
                for f in families
                if math.isfinite(table[edge][f])
            )
        )
    return ranked


@dataclass(frozen=True, kw_only=True)
class EdgeChoice:
    """What was found for one edge."""

    layer: int
    out: int
    in_: int
    candidates: tuple[Candidate, ...]  # best first
    importance: float  # deviation of the edge over that of the sum it enters


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """What the formula should reproduce, and how well."""

    x: Tensor  # (batch, in)
    target: Tensor  # (batch, out), in the units of the data
    limit: float  # largest loss that is accepted
    independent: int | None = None  # number of independent values in each target; None: all
    choosing: tuple[Tensor, Tensor] | None = None  # other x and target, which judge formulas
    stop: Interruption = field(default_factory=Interruption)  # after which nothing more is tried

    @property
    def judged(self) -> tuple[Tensor, Tensor]:
        """What formulas are judged by: x and target that nothing was fitted to, if any."""
        return self.choosing or (self.x, self.target)

    def few(self) -> Goal:
        """Return the goal on at most 500 of its rows."""
        pick = torch.linspace(0, len(self.x) - 1, min(_ROWS, len(self.x))).round().long()
        x, target = self.x[pick], self.target[pick]
        return Goal(x=x, target=target, limit=self.limit, stop=self.stop)

    def loss(self, model: KAN) -> float:
        """Return the loss of a model; infinite where it is not finite."""
        return relative_loss(model(self.x), self.target)


def rank_layer(
    model: KAN, index: int, inputs: Tensor, families: Sequence[Family]
) -> list[EdgeChoice]:
    """Rank functions for every live spline edge of a layer; `inputs` (batch, in) reach it."""
    return [choice for some in rank_in_parts(model, index, inputs, families) for choice in some]


def rank_in_parts(
    model: KAN, index: int, inputs: Tensor, families: Sequence[Family]
) -> Iterator[list[EdgeChoice]]:
    """Rank functions as `rank_layer` does, some edges at a time."""
    layer = model.layers[index]
    edges = sample_edges(layer, inputs)
    if not len(edges.out):
        return
    for part in torch.arange(len(edges.out)).split(AT_ONCE):
        fits = fit_edges(edges.samples.pick(part), families)
        ranked = rank_candidates(fits, float(layer.degrees_of_freedom), kept=_KEPT)
        places = zip(edges.out[part].tolist(), edges.in_[part].tolist(), strict=True)
        rows = zip(places, ranked, edges.importance[part].tolist(), strict=True)
        yield [
            EdgeChoice(layer=index, out=o, in_=i, candidates=found, importance=importance)
            for (o, i), found, importance in rows
            if layer.functions[o][i] == SPLINE
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
    """Put the best function that explains enough on edges of `model`, until an interrupt."""
    stop = stop or Interruption()
    choices: list[EdgeChoice] = []
    hidden = model.scale_inputs(x)
    layers = cast("nn.ModuleList", model.layers)
    for index, old in enumerate(model.layers):
        untouched = copy.deepcopy(old)
        layers[index] = untouched
        label_masked_edges(untouched, "constant")
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
    layer: KANLinear, found: Sequence[EdgeChoice], r2_min: float, inputs: Tensor
) -> None:
    """Put the best function that explains enough on each edge, a constant where nothing varies."""
    for choice in found:
        column = inputs[:, choice.in_]
        able = (c for c in choice.candidates if c.r2 >= r2_min and _defined(c, column))
        best = next(able, None)
        if choice.importance < _NEGLIGIBLE:
            best = flat(float(layer.edge_values(inputs[:_ROWS])[:, choice.out, choice.in_].mean()))
        if best is not None:
            layer.assign(choice.out, choice.in_, best.function, best.parameters)


def _defined(candidate: Candidate, inputs: Tensor) -> bool:
    """Say whether a function is finite on all rows; it was fitted to all but the rarest."""
    a, b, c, d = candidate.parameters
    values = c * FUNCTIONS[candidate.function].value(a * inputs + b) + d
    return bool(torch.isfinite(values).all())


def label_masked_edges(layer: KANLinear, name: str) -> None:
    """Name the masked edges: constants while a network is worked on, for speed, then splines."""
    for o, i in (layer.mask == 0).nonzero().tolist():
        layer.assign(o, i, name, (1.0, 0.0, 0.0, 0.0))


@torch.no_grad()
def revert_until_accurate(model: KAN, goal: Goal, *, refine: bool) -> tuple[KAN, KAN]:
    """Revert edges of a copy to splines until the loss fits; return it refitted and not."""
    base, few, stop = copy.deepcopy(model), goal.few(), goal.stop
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
            revert(base, *edges[k])


def function_edges(model: KAN) -> list[Edge]:
    """Return the live edges that are functions."""
    layers = enumerate(model.layers)
    return [(index, o, i) for index, layer in layers for o, i, _ in live_functions(layer)]


def _loss_without(model: KAN, edge: Edge, goal: Goal) -> float:
    """Return the loss with one function made a spline again."""
    index, out, in_ = edge
    layer = model.layers[index]
    name, parameters = layer.assigned(out, in_)
    layer.assign(out, in_, SPLINE)
    loss = goal.loss(model)
    layer.assign(out, in_, name, parameters)
    return loss


def revert(model: KAN, index: int, out: int, in_: int) -> None:
    """Make a function the spline again that it was put in place of."""
    model.layers[index].assign(out, in_, SPLINE)


def finished(work: KAN, model: KAN) -> KAN:
    """Return the network in dtype, device and mode of its model; like a formula, without ranges."""
    work.holds_inputs = False
    work.input_low.fill_(-torch.inf)
    work.input_high.fill_(torch.inf)
    for layer in work.layers:
        if layer.affine is not None:
            label_masked_edges(layer, SPLINE)
    work.requires_grad_(True).to(dtype=model.dtype, device=model.input_shift.device)
    return work.train(model.training)
