"""Assignment of functions to edges, and reversion to splines where the loss rises.

The edges of a layer are sampled after the layers before it have their functions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from kanlens._runtime import Interruption
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.symbolic._edge_fitting import AT_ONCE, EdgeFits, fit_edges, sample_edges
from kanlens.symbolic._joint_refit import live_functions, refit, relative_loss
from kanlens.symbolic._library import Family, library

_NEGLIGIBLE = 1e-3  # importance below which an edge is a constant
_MAX_CANDIDATES = 8  # per edge
_MAX_ROWS = 500  # for losses that only compare
_EPSILON = 1e-7  # noise of every edge, relative to its variance
_NOISE = 0.5  # further noise, relative to the misfit of the best function

Edge = tuple[int, int, int]  # layer, out, in


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One function for one edge."""

    function: str  # elementary function, or "constant" for an edge that does not vary
    parameters: tuple[float, float, float, float]  # a, b, c, d of c * g(a * x + b) + d
    r2: float  # explained share of the edge's variance
    score: float  # criterion above its least value on this edge; below 6 is a near tie


def flat(value: float) -> Candidate:
    """Return the candidate that is the constant `value`."""
    return Candidate(function="constant", parameters=(1.0, 0.0, 0.0, value), r2=1.0, score=0.0)


def information_scores(
    misfit: Tensor, families: Sequence[Family], coefficients: Tensor | float
) -> Tensor:
    """Return the criterion of every fit (edge, family); smaller is better."""
    # S = (n - p) ln(u + eps + least / 2) + 2 ln(2) complexity is -2 log(likelihood * prior), by the
    # marginal likelihood of p parameters that leave the share u of n values, with unknown noise (G.
    # L. Bretthorst, Bayesian Spectrum Analysis and Parameter Estimation, 1988, chapter 3).
    price = torch.tensor([2 * math.log(2.0) * family.function.complexity for family in families])
    used = torch.tensor([float(family.parameters) for family in families])
    left = misfit.clamp(min=0.0)
    least = left.nan_to_num(math.inf).amin(1, keepdim=True)
    independent = torch.as_tensor(coefficients, dtype=misfit.dtype).reshape(-1, 1)
    free = (independent - used.to(misfit)).clamp(min=1.0)
    share = (left + _EPSILON + _NOISE * least) / (1 + _EPSILON + _NOISE)  # at most 1
    return free * torch.log(share) + price.to(misfit)


def rank_candidates(
    fits: EdgeFits, n_effective: float, *, count: int = 3
) -> list[tuple[Candidate, ...]]:
    """Return the best functions of every edge; a constant edge has one."""
    independent = n_effective if fits.coefficients is None else fits.coefficients
    scores = information_scores(fits.misfit, fits.families, independent)
    finite = torch.isfinite(fits.parameters).all(-1) & torch.isfinite(fits.r2)
    scores = torch.where(finite, scores, math.inf)
    order = scores.argsort(dim=1, stable=True)[:, :count]
    columns = (order, scores, fits.r2, fits.parameters, fits.constant, fits.mean)
    return [
        (flat(mean),)
        if constant
        else tuple(
            Candidate(
                function=fits.families[f].name,
                parameters=tuple(parameters[f]),
                r2=r2[f],
                score=score[f] - score[best[0]],
            )
            for f in best
            if math.isfinite(score[f])
        )
        for best, score, r2, parameters, constant, mean in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


@dataclass(frozen=True, kw_only=True)
class EdgeChoice:
    """The candidates for one edge."""

    layer: int
    out: int
    in_: int
    candidates: tuple[Candidate, ...]  # best first
    importance: float  # standard deviation of the edge over that of its sum


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """The data for fitting and choosing a formula, and the limit of its loss."""

    x: Tensor  # (batch, in)
    target: Tensor  # (batch, out), in the units of the data
    limit: float  # largest loss that is accepted
    independent: int | None = None  # number of independent values in each target; None: all
    choosing: tuple[Tensor, Tensor] | None = None  # held-out x and target
    stop: Interruption = field(default_factory=Interruption)

    @property
    def judged(self) -> tuple[Tensor, Tensor]:
        """The validation x and target if any, else those fitted to."""
        return self.choosing or (self.x, self.target)

    def few(self) -> Goal:
        """Return the same data and limit with at most 500 rows."""
        pick = torch.linspace(0, len(self.x) - 1, min(_MAX_ROWS, len(self.x))).round().long()
        return Goal(x=self.x[pick], target=self.target[pick], limit=self.limit, stop=self.stop)

    def loss(self, model: KAN) -> float:
        """Return the loss of a model; infinite where it is not finite."""
        return relative_loss(model(self.x), self.target)


def rank_layer(
    model: KAN, index: int, inputs: Tensor, families: Sequence[Family]
) -> Iterator[EdgeChoice]:
    """Rank functions for the unmasked spline edges of a layer at its inputs."""
    layer = model.layers[index]
    edges = sample_edges(layer, inputs)
    for part in torch.arange(len(edges.out)).split(AT_ONCE) if len(edges.out) else ():
        fits = fit_edges(edges.samples.pick(part), families)
        ranked = rank_candidates(fits, float(layer.degrees_of_freedom), count=_MAX_CANDIDATES)
        columns = (column[part].tolist() for column in (edges.out, edges.in_, edges.importance))
        for o, i, importance, candidates in zip(*columns, ranked, strict=True):
            if layer.functions[o][i] == SPLINE:
                options = {"candidates": candidates, "importance": importance}
                yield EdgeChoice(layer=index, out=o, in_=i, **options)


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
    """Assign the best functions to edges in place, until an interrupt."""
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
                ranked = list(rank_layer(model, index, hidden, families))
                layer = copy.deepcopy(untouched)
                assign_layer(layer, ranked, r2_min, hidden)
                layers[index] = layer
                choices += ranked
                hidden = model.through(index, hidden)
        advance(note=f"{len(choices)} edges")
    return choices


def assign_layer(
    layer: KANLinear, choices: Sequence[EdgeChoice], r2_min: float, inputs: Tensor
) -> None:
    """Assign the best function that explains enough to each edge."""
    for choice in choices:
        column = inputs[:, choice.in_]
        able = (c for c in choice.candidates if c.r2 >= r2_min and _defined(c, column))
        best = next(able, None)
        if choice.importance < _NEGLIGIBLE:
            values = layer.edge_values(inputs[:_MAX_ROWS])[:, choice.out, choice.in_]
            best = flat(float(values.mean()))
        if best is not None:
            layer.assign(choice.out, choice.in_, best.function, best.parameters)


def fit_function(layer: KANLinear, inputs: Tensor, name: str) -> Candidate | None:
    """Return the best fit of a function to the only edge of a layer, if any."""
    edges = sample_edges(layer, inputs)
    if not len(edges.out):
        return None
    fits = fit_edges(edges.samples, library([name]))
    candidates = rank_candidates(fits, float(layer.degrees_of_freedom))[0]
    return next((each for each in candidates if _defined(each, inputs[:, 0])), None)


def _defined(candidate: Candidate, inputs: Tensor) -> bool:
    """Return whether a function is finite on all rows."""
    a, b, c, d = candidate.parameters
    values = c * FUNCTIONS[candidate.function].value(a * inputs + b) + d
    return bool(torch.isfinite(values).all())


def label_masked_edges(layer: KANLinear, name: str) -> None:
    """Set masked edges to constants, which is faster, or back to splines."""
    for o, i in (layer.mask == 0).nonzero().tolist():
        layer.assign(o, i, name, (1.0, 0.0, 0.0, 0.0))


@torch.no_grad()
def revert_until_accurate(model: KAN, goal: Goal, *, refine: bool) -> tuple[KAN, KAN]:
    """Return a copy with edges reverted to splines as needed, after and before the refit."""
    base, few, stop = copy.deepcopy(model), goal.few(), goal.stop
    while True:
        work, loss = copy.deepcopy(base), goal.loss(base)
        if refine and not stop.happened:
            with stop.kept():
                refitted = copy.deepcopy(base)
                loss, work = refit(refitted, goal.x, goal.target), refitted
        edges = function_edges(base)
        if loss <= goal.limit or not edges:
            return work, base
        damage = []
        for index, out, in_ in edges:
            layer = base.layers[index]
            name, parameters = layer.assigned(out, in_)
            layer.assign(out, in_, SPLINE)
            damage.append(few.loss(base))
            layer.assign(out, in_, name, parameters)
        order = sorted(range(len(edges)), key=damage.__getitem__)
        for k in order[: max(1, len(edges) // 10)]:
            index, out, in_ = edges[k]
            base.layers[index].assign(out, in_, SPLINE)


def function_edges(model: KAN) -> list[Edge]:
    """Return the unmasked edges that are elementary functions."""
    layers = enumerate(model.layers)
    return [(index, o, i) for index, layer in layers for o, i, _ in live_functions(layer)]


def finished(work: KAN, model: KAN) -> KAN:
    """Convert a working copy in place to the dtype and mode of its model, without clipping."""
    work.holds_inputs = False
    work.input_low.fill_(-torch.inf)
    work.input_high.fill_(torch.inf)
    for layer in work.layers:
        if layer.affine is not None:
            label_masked_edges(layer, SPLINE)
    work.requires_grad_(True).to(dtype=model.dtype, device=model.input_shift.device)
    return work.train(model.training)
