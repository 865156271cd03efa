"""Additive approximation of an output by the first layer's edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from kanlens._runtime import NEVER, Deadline
from kanlens.certificates import _relaxation as relaxation
from kanlens.certificates._bound_propagation import BoundPropagation
from kanlens.certificates._branch_and_bound import FLAT
from kanlens.certificates._relaxation import SUM_EPS, Interval
from kanlens.certificates._sampling import spread_points
from kanlens.model._analysis import BUDGET, features_read
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN

MAX_COLUMNS = 512  # of a fit with a weight for every edge; larger fits have one for every sum
ROUNDS = 12
FIT_POINTS = 16384  # of the sample, which begins with Sobol points
NUMBERS = 2**20  # largest number of edges times these points
MAX_SLICES, MIN_SLICES = 256, 32  # slices of one feature's function, at most and at least
EDGES = 2**22  # evaluated on all slices
QUADS = 4096  # rectangles of mixed differences
CACHED = 2**17  # numbers of a basis that stay in the cache


@dataclass(frozen=True, kw_only=True, eq=False)
class AdditiveFunction:
    """A constant plus functions of single features."""

    model: KAN
    target: int = 0
    weights: Tensor | None = None  # (out, in): of the first layer's edges, which are summed
    center: Tensor | None = None  # (in,): values at which other features are held
    constant: float = 0.0

    @torch.no_grad()
    def terms(self, x: Tensor) -> Tensor:
        """Return the function of each feature at x (batch, in), shape (batch, in)."""
        x = x.to(self.model.dtype)
        at_once = _rows_in_cache(self.model.layers[0])
        return torch.cat([self._terms(part) for part in x.split(at_once)])

    def _terms(self, x: Tensor) -> Tensor:
        if self.weights is not None:
            edges = self.model.layers[0].edge_values(self.model.scale_inputs(x))
            return torch.where(self.weights == 0, 0.0, edges * self.weights).sum(1)
        center = cast("Tensor", self.center)
        rows = center.expand(x.shape[1], *x.shape).clone()  # (in, batch, in)
        index = torch.arange(x.shape[1], device=x.device)
        rows[index, :, index] = x.mT
        values: Tensor = self.model(rows)[..., self.target].mT - self.model(center)[self.target]
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Return the sum at x (batch, in), shape (batch,)."""
        return self.terms(x).sum(1) + self.constant


def additive_part(
    propagation: BoundPropagation, x: Tensor, value: Tensor, *, fit: bool = True
) -> AdditiveFunction | None:
    """Fit `propagation.additive` if `fit`; return the output itself if additive, else None."""
    edges = propagation.additive.numel()
    columns = edges if edges <= MAX_COLUMNS else len(propagation.additive)
    count = min(FIT_POINTS, max(8 * columns, NUMBERS // edges))
    if fit:
        propagation.additive = fitted_weights(propagation, x[:count], value[:count])
    model, target = propagation.model, propagation.target
    free = propagation.domain[:, 1] > propagation.domain[:, 0]
    if bool((features_read(model, target)[:, free].sum(1) > 1).any()):
        return None
    center = propagation.domain.mean(1)
    constant = float(model(center)[target])
    return AdditiveFunction(model=model, target=target, center=center, constant=constant)


def weighted(propagation: BoundPropagation, x: Tensor) -> Tensor:
    """Evaluate the additive approximation at x (batch, in), shape (batch,)."""
    if not bool(propagation.additive.any()):
        return x.new_zeros(len(x))
    if propagation.additive.numel() > MAX_COLUMNS:
        columns, weights = _columns(propagation.model, x), propagation.additive[:, 0]
        return torch.where(weights == 0, 0.0, columns * weights).sum(1)
    return AdditiveFunction(model=propagation.model, weights=propagation.additive)(x)


def _columns(model: KAN, x: Tensor) -> Tensor:  # (batch, column)
    """Return the design matrix: edges, or sums in large layers."""
    layer, x = model.layers[0], model.scale_inputs(x)
    if layer.mask.numel() <= MAX_COLUMNS:
        parts = x.split(_rows_in_cache(layer))
        return torch.cat([layer.edge_values(part).flatten(1) for part in parts])
    at_once = max(1, BUDGET // (16 * layer.in_features))
    return torch.cat([layer(part) for part in x.split(at_once)]) - layer.bias


def _rows_in_cache(layer: KANLinear) -> int:
    """Return the number of rows whose basis and edges are `CACHED` numbers."""
    return max(1, CACHED // (layer.grid.numel() + layer.mask.numel()))


def fitted_weights(propagation: BoundPropagation, x: Tensor, value: Tensor) -> Tensor:
    """Return the weights (out, in) with the least range of residuals.

    Candidates are least squares, reweighted toward the smallest maximum distance [1]_, and chords
    of the later layers on the domain.

    References
    ----------
    .. [1] C. L. Lawson, Contributions to the Theory of Linear Least Maximum Approximations, 1961.
    """
    columns = _columns(propagation.model, x)
    good = torch.isfinite(value) & torch.isfinite(columns).all(1)
    columns, value = columns[good], value[good]
    if len(value) < 2 or float(value.amax() - value.amin()) <= FLAT * float(value.abs().amax()):
        return propagation.additive
    first = propagation.relaxed(propagation.layers)[3][0, 0]  # weights by the later layers' chords
    chords = torch.where(torch.isfinite(first), first, 0.0)[:, None]
    candidates = [propagation.additive, chords.expand_as(propagation.additive)]
    candidates += _least_squares(columns, value, propagation.additive)
    spans = []
    for weights in candidates:
        by_edge = columns.shape[1] == weights.numel()
        left = value - columns @ (weights.flatten() if by_edge else weights[:, 0])
        finite = len(left) and bool(torch.isfinite(left).all())
        spans.append(float(left.amax() - left.amin()) if finite else float("inf"))
    return candidates[spans.index(min(spans))]


def _least_squares(columns: Tensor, value: Tensor, like: Tensor) -> list[Tensor]:
    """Return least-squares weights, then those of each step of Lawson's algorithm."""
    largest = columns.abs().amax(0)
    columns = columns - columns.mean(0)
    sizes = columns.abs().amax(0)
    sizes = torch.where(sizes > FLAT * largest, sizes, 0.0)  # 0 for constant columns
    columns = torch.where(sizes > 0, columns / sizes, 0.0)
    design = torch.cat([columns, torch.ones_like(columns[:, :1])], 1)
    importance = torch.full_like(value, 1 / len(value))
    eye = torch.eye(design.shape[1]).to(design)
    solutions = []
    for _ in range(ROUNDS):
        weighted = design * importance[:, None]
        matrix = design.mT @ weighted
        ridge = 1e-10 * matrix.diagonal().amax() * eye
        solution = torch.linalg.solve(matrix + ridge, weighted.mT @ value)
        left = (value - design @ solution).abs()
        scaled = (solution[:-1] / torch.where(sizes > 0, sizes, 1.0)) * (sizes > 0)
        shaped = scaled.reshape(len(like), -1)  # (out, in), or (out, 1)
        solutions.append(shaped.expand_as(like).clone())
        importance = importance * left
        total = importance.sum()
        if not float(total) > 0:
            break
        importance = 0.99 * importance / total + 0.01 / len(value)
    return solutions


def additive_changes(
    propagation: BoundPropagation, apart: Interval, deadline: Deadline = NEVER
) -> Tensor | None:
    """Bound the rise and fall by each feature (in, 2), None if time is over.

    Each bound is that of the additive function plus the range of the output's distance from it.
    """
    low, high = propagation.domain.T[..., None]
    edges = propagation.additive.numel()
    share = torch.linspace(0, 1, min(MAX_SLICES, max(MIN_SLICES, EDGES // edges)) + 1).to(low)
    cuts = torch.cat([low + (high - low) * share, propagation.breakpoints], 1)
    cuts = torch.maximum(torch.minimum(cuts, high), low).sort(1).values.mT  # (cut, in)
    at_once = max(1, BUDGET // (8 * edges))  # 8: control points of an edge on a slice, about
    parts, ends = [], (cuts[:-1].split(at_once), cuts[1:].split(at_once))
    for begin, end in deadline.paced(zip(*ends, strict=True)):
        inputs = propagation.inwards(begin, end).meet(propagation.layers[0].inputs)
        weights = propagation.additive[None, None].expand(len(begin), -1, -1, -1)
        part = relaxation.combine(propagation.enclosures[0].values(*inputs), weights)
        parts.append(Interval.known(*part.bounds()).column())
    if at_once * len(parts) < len(cuts) - 1:
        return None
    least, most = (torch.cat(bounds) for bounds in zip(*parts, strict=True))
    rises = (most - least.cummin(0).values).amax(0)
    falls = (most.cummax(0).values - least).amax(0)
    width = apart.high - apart.low
    margin = SUM_EPS * (least.abs().amax(0) + most.abs().amax(0) + width)
    changes = torch.stack([rises, falls], 1) + (width + margin)[:, None]
    return changes.nan_to_num(torch.inf, posinf=torch.inf)


def least_distance(propagation: BoundPropagation, count: int = QUADS) -> float:
    """Return a lower bound on the distance to any additive function, by mixed differences."""
    domain, n_in = propagation.domain, len(propagation.domain)
    free = ((domain[:, 1] - domain[:, 0]) > 0).nonzero()[:, 0]
    if len(free) < 2:
        return 0.0
    points = spread_points(torch.cat([domain, domain]), count)
    low, high = domain[:, 0].repeat(2), domain[:, 1].repeat(2)
    ends = torch.where(points > 0.5 * (low + high), high, low)
    points = torch.cat([points, ends])[::2]  # the corners have the largest rectangles
    first, second = points[:, :n_in], points[:, n_in:]
    code = 1 + torch.arange(count, device=domain.device) % (2 ** min(len(free), 10) - 2)
    subset = torch.zeros(count, n_in, dtype=torch.bool, device=domain.device)
    for position, feature in enumerate(free.tolist()):
        subset[:, feature] = (code >> (position % 10)) & 1 == 1
    left, right = torch.where(subset, first, second), torch.where(subset, second, first)
    values = [propagation.outputs(rows) for rows in (first, second, left, right)]
    gaps = (values[0] + values[1] - values[2] - values[3]).abs()
    gaps = gaps[torch.isfinite(gaps)]
    most = float(gaps.amax()) if len(gaps) else 0.0
    return max(0.0, most / 4 - propagation.noise) if propagation.noise < float("inf") else 0.0
