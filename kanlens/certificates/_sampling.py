"""Inner (sampled) bounds: extremes of the output and its gradient.

Points are a Sobol sequence, corners and knots; local search starts at the best. Nothing is random.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from kanlens._runtime import NEVER, Deadline
from kanlens.model._analysis import BUDGET, rows_at_once
from kanlens.model._network import KAN

WORK = 2**27  # edges evaluated in each step, approximately; fewer points for large models
MIN_WORK = 2**20  # edges evaluated even without time
# points evaluated even without time, for large models and for others
MIN_POINTS_LARGE_MODEL, MIN_POINTS = 8, 256
POINTS = 2048
CORNERS = 8  # most features for which all corners are tried
STARTS, STEPS, TRIES = 8, 24, 4
MAX_GOALS = 512  # most objectives of the local search
LINES, STOPS = 128, 33
LOCAL_STEPS = (-0.01, -0.001, 0.001, 0.01)  # stops around a base, in widths of the domain
NORMS = ("2", "inf", "1")


class EvaluatedPoints(NamedTuple):
    """Points of the domain with the output and its gradient there."""

    x: Tensor  # (point, in)
    value: Tensor  # (point,)
    slope: Tensor  # (point, in)


@dataclass(frozen=True, kw_only=True, eq=False)
class Extremes:
    """Extremes at evaluated points, with which bounds are compared."""

    value: tuple[float, float]
    apart: tuple[float, float]  # of the output minus an additive function
    slope_low: Tensor  # (in,), NaN where the slope is defined at no point
    slope_high: Tensor
    norms: Tensor  # (3,)


@dataclass(frozen=True, kw_only=True, eq=False)
class PointPair:
    """Two points that differ in one feature, and their outputs."""

    x: Tensor  # (2, in)
    value: Tensor  # (2,)

    @functools.cached_property
    def rise(self) -> float:
        """Rise of the output from the first to the second."""
        return float(self.value[1] - self.value[0])


def dual_norms(slope: Tensor) -> Tensor:  # (..., in) -> (..., 3)
    """Return the dual norms of gradients, for distances in each of `NORMS`."""
    sizes = slope.abs()
    return torch.stack([sizes.square().sum(-1).sqrt(), sizes.sum(-1), sizes.amax(-1)], -1)


def spread_points(domain: Tensor, count: int, *, skip: int = 0) -> Tensor:  # (count, in)
    """Return Sobol points of a box (in, 2)."""
    engine = SobolEngine(len(domain))
    if skip:
        engine.fast_forward(skip)
    share = engine.draw(count, dtype=torch.float64).to(domain)
    points = domain[:, 0] + (domain[:, 1] - domain[:, 0]) * share
    return points.clamp(domain[:, 0], domain[:, 1])


def explore(
    model: KAN, target: int, domain: Tensor, knots: Tensor, *, deadline: Deadline = NEVER
) -> EvaluatedPoints:
    """Evaluate an output at spread points, then search locally from the best."""
    low, high = domain[:, 0], domain[:, 1]
    margin = 1e-12 * (high - low) + 1e-15 * torch.maximum(low.abs(), high.abs())
    margin = torch.minimum(margin, 0.25 * (high - low))
    inner = torch.stack([low + margin, high - margin], 1)  # slopes at ends may be from outside
    if deadline.passed:
        few = affordable(model, MIN_POINTS, work=MIN_WORK)
        return evaluate(model, target, spread_points(inner, few))
    points = spread_points(domain, affordable(model, POINTS))
    snapped = []  # to the nearest knot
    for part in points[: len(points) // 2].split(max(1, BUDGET // knots.numel())):
        distance = (part[:, :, None] - knots).abs()  # (point, in, knot)
        nearest = knots.expand(len(part), -1, -1).gather(2, distance.argmin(2, keepdim=True))
        snapped.append(nearest[..., 0].clamp(low, high))
    count = min(len(domain), CORNERS)
    bits = torch.arange(len(domain), device=domain.device) % count
    share = (torch.arange(2**count, device=domain.device)[:, None] >> bits) & 1
    corners = low + (high - low) * share
    points = torch.cat([points, *snapped, corners]).clamp(inner[:, 0], inner[:, 1])
    return _climbed(model, target, inner, evaluate(model, target, points, deadline), deadline)


def affordable(model: KAN, most: int, *, work: int = WORK) -> int:
    """Return the largest number of rows for which at most `work` edges are evaluated."""
    edges = sum(layer.mask.numel() for layer in model.layers)
    return max(MIN_POINTS_LARGE_MODEL, min(most, work // edges))


def evaluate(model: KAN, target: int, x: Tensor, deadline: Deadline = NEVER) -> EvaluatedPoints:
    """Evaluate an output and its gradient while there is time."""
    values, slopes = [], []
    first = affordable(model, MIN_POINTS, work=MIN_WORK)
    rest = x[first:].split(rows_at_once(model)) if len(x) > first else ()
    for part in itertools.chain([x[:first]], deadline.paced(rest)):
        with torch.enable_grad():
            point = part.detach().clone().requires_grad_()
            y = model(point)[:, target]
            slope = torch.zeros_like(point)
            if y.requires_grad:  # not when every function is a constant
                (slope,) = torch.autograd.grad(y.sum(), point)
        values.append(y.detach())
        slopes.append(torch.where(torch.isfinite(y.detach())[:, None], slope, torch.nan))
    value = torch.cat(values)
    return EvaluatedPoints(x=x[: len(value)], value=value, slope=torch.cat(slopes))


def _climbed(
    model: KAN, target: int, domain: Tensor, sample: EvaluatedPoints, deadline: Deadline
) -> EvaluatedPoints:
    """Add the points of a pattern search from the best points of every objective."""
    chosen = _goals(model)
    pulls = _objectives(sample)[chosen]  # (goal, point)
    starts = pulls.topk(min(STARTS, pulls.shape[1]), dim=1).indices  # (goal, start)
    best = pulls.gather(1, starts)
    x = sample.x[starts]  # (goal, start, in)
    width = domain[:, 1] - domain[:, 0]
    collected = [sample]
    goals = torch.arange(len(pulls), device=x.device)[:, None, None]
    for step in deadline.paced(range(STEPS)):
        unit = torch.tensor([[-1.0, 1.0]]).to(domain).expand(len(domain), 2)
        moves = spread_points(unit, TRIES * STARTS, skip=1 + step * TRIES * STARTS)
        moves = moves.reshape(1, starts.shape[1], -1, len(domain))[:, :, :TRIES]
        single = torch.arange(moves.shape[2] * starts.shape[1], device=x.device) + step
        mask = torch.nn.functional.one_hot(single % len(domain), len(domain)).to(x)
        mask = mask.reshape(1, starts.shape[1], -1, len(domain))
        moves = moves * (mask if step % 2 else 1.0) * width * 0.5 * 0.75**step
        tries = (x[:, :, None] + moves).clamp(domain[:, 0], domain[:, 1])
        trial = evaluate(model, target, tries.reshape(-1, len(domain)), deadline)
        collected.append(trial)
        if len(trial.x) < tries[..., 0].numel():
            break
        values = _objectives(trial)[chosen].reshape(len(pulls), len(pulls), starts.shape[1], -1)
        mine = values[goals[:, 0, 0], goals[:, 0, 0]]  # (goal, start, try)
        top, which = mine.max(2)
        better = top > best
        moved = tries.gather(2, which[:, :, None, None].expand(-1, -1, 1, len(domain)))[:, :, 0]
        x, best = torch.where(better[..., None], moved, x), torch.where(better, top, best)
    return EvaluatedPoints(*map(torch.cat, zip(*collected, strict=True)))


def _goals(model: KAN) -> Tensor:
    """Select the objectives of the search; large models omit slopes by single features."""
    count = 2 + 2 * model.widths[0] + len(NORMS)
    rows = affordable(model, count * STEPS * STARTS * TRIES, work=8 * WORK)
    goals = torch.arange(count, device=model.input_shift.device)
    if count <= MAX_GOALS and rows == count * STEPS * STARTS * TRIES:
        return goals
    return torch.cat([goals[:2], goals[-len(NORMS) :]])


def _objectives(sample: EvaluatedPoints) -> Tensor:  # (goal, point)
    """Return the objectives: the output, the slopes and the gradient's norms."""
    value, slope = sample.value[:, None], sample.slope
    columns = torch.cat([value, -value, slope, -slope, dual_norms(slope)], dim=1)
    return columns.mT.nan_to_num(-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def extremes(sample: EvaluatedPoints, apart: Tensor) -> Extremes:
    """Return the extremes of a sample, and of its distances (point,) from an additive function."""
    value = defined(sample.value)
    slope = torch.where(torch.isfinite(sample.slope), sample.slope, torch.nan)
    low = slope.nan_to_num(torch.inf).amin(0)
    high = slope.nan_to_num(-torch.inf).amax(0)
    none = torch.isinf(low)
    rest = defined(apart)
    return Extremes(
        value=(float(value.amin()), float(value.amax())),
        apart=(float(rest.amin()), float(rest.amax())),
        slope_low=low.masked_fill(none, torch.nan),
        slope_high=high.masked_fill(none, torch.nan),
        norms=dual_norms(slope.nan_to_num(0.0)).amax(0),
    )


def defined(values: Tensor, *, otherwise: float = 0.0) -> Tensor:
    """Return the finite values, or `otherwise` alone if none is finite."""
    good = values[torch.isfinite(values)]
    return good if len(good) else values.new_full((1,), otherwise)


def steepest_pairs(
    evaluate_rows: Callable[[Tensor], Tensor],
    domain: Tensor,
    feature: int,
    bases: Tensor,
    knots: Tensor,
) -> tuple[PointPair, PointPair]:
    """Return the largest rise and fall along one feature, on lines through `bases`."""
    low, high = domain[feature]
    even = low + (high - low) * torch.linspace(0, 1, STOPS).to(domain)
    shared = torch.cat([even, knots]).expand(len(bases), -1)
    near = bases[:, feature, None] + (high - low) * torch.tensor(LOCAL_STEPS).to(domain)
    stops = torch.cat([shared, near], 1).clamp(low, high).sort(1).values  # (base, stop)
    rows = bases[:, None].repeat(1, stops.shape[1], 1)
    rows[..., feature] = stops
    values = evaluate_rows(rows.reshape(-1, len(domain))).reshape(len(bases), -1)
    pairs, bad = [], ~torch.isfinite(values)
    for sign in (1.0, -1.0):
        lowest, where = (sign * values).masked_fill(bad, torch.inf).cummin(1)
        gain = (sign * values - lowest).masked_fill(bad, -torch.inf)
        base, end = divmod(int(gain.argmax()), stops.shape[1])
        ends = [int(where[base, end]), end]
        pairs.append(PointPair(x=rows[base, ends], value=values[base, ends]))
    return pairs[0], pairs[1]
