"""Branch and bound on one partition of the domain."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kanlens._display import escaped
from kanlens._runtime import Deadline, Interruption, progress_bar
from kanlens.certificates._bound_propagation import BoundPropagation, BoxBounds
from kanlens.certificates._sampling import NORMS, Extremes
from kanlens.model._analysis import BUDGET

BATCH = 64  # boxes that are cut at once
CUTTING = 0.8  # share of the time after which no more boxes are cut
NUMBERS = 2**29  # most numbers in the bounds on all boxes
CENTRAL = 0.3  # a knot is preferred to the middle when it is this near to it, in widths
QUICK = 2**17  # numbers; fewer take about as long
FLAT = 1e-9  # a smaller change, relative to the output's size, is rounding
SIGN = 1e-6  # a slope this near 0, relative to the largest, is not cut for its sign


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """Limits of a search: tolerance, boxes, time and interrupts."""

    tolerance: float  # relative distance from observed values at which bounds are tight enough
    max_boxes: int
    deadline: Deadline
    progress: bool | None
    seconds: float = 0.0  # approximate time of bounding the output on the domain
    row_seconds: float = 0.0  # time of evaluating the output and its gradient at a point
    left_out: list[str] = field(default_factory=list)  # steps for which there was no time
    stop: Interruption = field(default_factory=Interruption)

    def cost(self, boxes: int, size: int) -> float:
        """Estimate the seconds that a first batch of boxes takes."""
        return self.seconds * max(1.0, boxes * size / max(size, QUICK))

    def allows(self, what: str, seconds: float) -> bool:
        """Return whether there is time for a step; if not, record it as left out."""
        if self.deadline.left > seconds:
            return True
        self.left_out.append(what)
        return False


def refine(
    propagation: BoundPropagation, seen: Extremes, budget: SearchBudget
) -> tuple[BoxBounds, int, bool]:
    """Return boxes, the number of boxes that were bounded, and whether everything is decided."""
    domain, most = propagation.domain, _most(propagation, budget)
    if budget.allows("slopes and relaxation on the box", budget.seconds):
        boxes = propagation.bounds(domain[None, :, 0], domain[None, :, 1])
    else:
        boxes = propagation.unrefined()
    count, batch = 1, max(1, min(BATCH, BUDGET // (2 * propagation.size)))
    gaps = open_gaps(boxes, seen, domain, budget.tolerance)  # (goal, box)
    cutting = budget.deadline.portion(CUTTING)
    label = escaped(f"certify {propagation.model.output_names[propagation.target]}")
    with progress_bar(label, most, shown=budget.progress) as advance, budget.stop.kept():
        for _ in cutting.paced(itertools.count(), budget.cost(2 * batch, propagation.size)):
            wanted = torch.where(_cuttable(boxes, domain).any(1), gaps, -torch.inf)
            room = (most - count) // 2
            if room < 1 or not bool((wanted > 0).any()):
                return boxes, count, not bool((gaps > 0).any())
            rows, goals = _chosen(wanted, len(domain), min(batch, room))
            children = _children(propagation, boxes.pick(rows), goals)
            keep = torch.ones(len(boxes), dtype=torch.bool, device=rows.device)
            keep[rows] = False
            fresh = open_gaps(children, seen, domain, budget.tolerance)
            gaps = torch.cat([gaps[:, keep], fresh], 1)
            boxes, count = boxes.pick(keep).joined(children), count + len(children)
            advance(len(children), note=f"{int((wanted > 0).any(1).sum())} statements open")
    decided = not bool((gaps > 0).any())
    if not decided and most > count + 1:
        budget.left_out.append("smaller boxes")
    return boxes, count, decided


def _most(propagation: BoundPropagation, budget: SearchBudget) -> int:
    """Return the largest number of boxes to bound: one if bisection cannot help."""
    if not propagation.bounded:
        return 1
    room = NUMBERS // propagation.size
    if room >= budget.max_boxes:
        return budget.max_boxes
    return room if room >= len(propagation.domain) else 1


def open_gaps(
    boxes: BoxBounds, seen: Extremes, domain: Tensor, tolerance: float
) -> Tensor:  # (goal, box)
    """Return the gap of every bound on every box; those above 0 are undecided."""
    width, flat = seen.value[1] - seen.value[0], FLAT * max(abs(end) for end in seen.value)
    apart = max(seen.apart[1] - seen.apart[0], tolerance * width)
    room, far = max(tolerance * width, flat), max(tolerance * apart, flat)
    least, most = seen.slope_low.nan_to_num(0.0), seen.slope_high.nan_to_num(0.0)
    steep = torch.maximum(least.abs(), most.abs())
    whole = (domain[:, 1] - domain[:, 0]).clamp_min(1e-300)
    steep = torch.maximum(steep, 1e-3 * width / whole)
    slack = tolerance * steep
    low, high = boxes.slope
    rows = [
        boxes.value[1] - seen.value[1] - room,
        seen.value[0] - boxes.value[0] - room,
        boxes.apart[1] - seen.apart[1] - far,
        seen.apart[0] - boxes.apart[0] - far,
        *(high - most - slack).mT,
        *(least - low - slack).mT,
        *torch.where(least >= 0, -low - SIGN * steep, -torch.inf).mT,
        *torch.where(most <= 0, high - SIGN * steep, -torch.inf).mT,
        *(boxes.norms() - seen.norms * (1 + tolerance)).mT,
    ]
    return torch.stack(rows)


def _cuttable(boxes: BoxBounds, domain: Tensor) -> Tensor:  # (box, in)
    size = torch.maximum(boxes.low.abs(), boxes.high.abs())
    whole = domain[:, 1] - domain[:, 0]
    return (boxes.high - boxes.low) > 1e-9 * torch.maximum(whole, size)


def _chosen(gaps: Tensor, n_in: int, count: int) -> tuple[Tensor, Tensor]:
    """Select boxes with large gaps, and their goals: feature of a slope, -1 value, or -2 norm."""
    kinds = [-1] * 4 + list(range(n_in)) * 4 + [-2] * len(NORMS)
    signs = slice(4 + 2 * n_in, 4 + 4 * n_in)
    chosen: dict[int, int] = {}
    for part, most in ((slice(2), count // 4), (signs, count // 2), (slice(None), count)):
        for box, kind in _worst(gaps[part], kinds[part], most):
            if len(chosen) < most:
                chosen.setdefault(box, kind)
    boxes, goals = (torch.tensor(list(k), device=gaps.device) for k in (chosen, chosen.values()))
    return boxes, goals


def _worst(gaps: Tensor, kinds: list[int], count: int) -> list[tuple[int, int]]:
    """Return pairs (box, kind of bound) with the largest gaps, taking turns between the kinds."""
    open_ones = (gaps > 0).any(1)
    gaps = gaps[open_ones]
    kinds = [kind for kind, wanted in zip(kinds, open_ones.tolist(), strict=True) if wanted]
    if not kinds or not count:
        return []
    most = min(gaps.shape[1], -(-count // len(gaps)))
    top = gaps.topk(most, dim=1)
    goals = torch.tensor(kinds, device=gaps.device)[:, None].expand_as(top.indices)
    wanted = (top.values > 0).mT
    return list(zip(top.indices.mT[wanted].tolist(), goals.mT[wanted].tolist(), strict=True))


def _children(propagation: BoundPropagation, parents: BoxBounds, goals: Tensor) -> BoxBounds:
    """Bisect each box along the best feature, and bound the halves."""
    domain = propagation.domain
    rows = torch.arange(len(parents), device=domain.device)
    wide = (parents.high - parents.low) / (domain[:, 1] - domain[:, 0]).clamp_min(1e-300)
    score = _scores(parents.worth, goals) + 0.1 * wide
    usable = _cuttable(parents, domain)
    feature = score.masked_fill(~usable, -torch.inf).argmax(1)
    usable = usable[rows, feature]
    low, high = halved(parents.low, parents.high, feature, propagation.breakpoints, usable)
    return propagation.bounds(low, high).within(parents.pick(torch.cat([rows, rows])))


def _scores(worth: Tensor, goals: Tensor) -> Tensor:  # (box, in)
    """Score a cut of each box along each feature, at most 1, for the bound to tighten (box,)."""
    value, bend, own = worth.unbind(1)
    mine = goals[:, None] == torch.arange(worth.shape[2], device=worth.device)
    slope = bend / worth.shape[2] + torch.where(mine, own, 0.0)
    picked = torch.where(goals[:, None] >= 0, slope, bend + own)
    picked = torch.where(goals[:, None] == -1, value, picked)
    return (picked / picked.amax(1, keepdim=True).clamp_min(1e-300)).nan_to_num(0.0)


def halved(
    low: Tensor, high: Tensor, feature: Tensor, knots: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """Bisect boxes along `feature` (box,), at a knot if one is central; lower halves come first."""
    rows = torch.arange(len(low), device=low.device)
    left, right = low[rows, feature], high[rows, feature]
    middle = 0.5 * (left + right)
    near = knots[feature]  # (box, knot)
    distance = (near - middle[:, None]).abs()
    best = distance.argmin(1)
    central = distance[rows, best] <= CENTRAL * (right - left)
    cut = torch.where(central, near[rows, best], middle)
    cut = torch.where(usable, cut, right)
    lower_high, upper_low = high.clone(), low.clone()
    lower_high[rows, feature] = cut
    upper_low[rows, feature] = torch.where(usable, cut, left)
    return torch.cat([low, upper_low]), torch.cat([lower_high, high])
