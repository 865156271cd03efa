"""A partition of the domain into boxes that is refined where a statement is still open.

All statements about an output share one partition: every box is bounded once, for all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from kanlens.certificates.intervals import Interval, meet
from kanlens.certificates.propagation import Propagation
from kanlens.certificates.sampling import NORMS, dual_norms
from kanlens.certificates.splitting import halved, scores
from kanlens.core.analysis import BUDGET
from kanlens.deadlines import Deadline
from kanlens.interruption import Interruption
from kanlens.progress import progress_bar

BATCH = 64  # boxes that are cut at once
CUTTING = 0.8  # share of the time after which no more boxes are cut
NUMBERS = 2**29  # that all boxes may take
QUICK = 2**17  # numbers that take about as long as fewer
FLAT = 1e-9  # a change this small next to the output's size is none
SIGN = 1e-6  # a slope this near 0, relative to the largest, is not cut for its sign


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """Boxes that cover the domain, and what is known of the output on each.

    Attributes
    ----------
    low, high : Tensor, shape (box, in)
        In units of the data.
    value_low, value_high, apart_low, apart_high : Tensor, shape (box,)
    slope_low, slope_high : Tensor, shape (box, in)
    worth : Tensor, shape (box, 3, in)
        As in `BoxBounds`.
    """

    low: Tensor
    high: Tensor
    value_low: Tensor
    value_high: Tensor
    apart_low: Tensor
    apart_high: Tensor
    slope_low: Tensor
    slope_high: Tensor
    worth: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def pick(self, rows: Tensor) -> Boxes:
        """Return some of the boxes, by index or mask."""
        return Boxes(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def joined(self, other: Boxes) -> Boxes:
        """Return these boxes and others."""
        both: dict[str, Any] = {
            one.name: torch.cat([getattr(self, one.name), getattr(other, one.name)])
            for one in fields(self)
        }
        return Boxes(**both)

    def value(self) -> Interval:
        """Bound the output on the domain."""
        return self.value_low.amin(), self.value_high.amax()

    def apart(self) -> Interval:
        """Bound the output minus the additive function on the domain."""
        return self.apart_low.amin(), self.apart_high.amax()

    def slope(self) -> Interval:
        """Bound the derivatives (in,) on the domain."""
        return self.slope_low.amin(0), self.slope_high.amax(0)

    def norms(self) -> Tensor:  # (box, 3)
        """Bound the norms of the gradient on every box."""
        return dual_norms(torch.maximum(self.slope_low.abs(), self.slope_high.abs()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What was seen at points of the domain, to which bounds are compared.

    Attributes
    ----------
    value, apart : tuple of float
    slope_low, slope_high : Tensor, shape (in,)
    norms : Tensor, shape (3,)
    """

    value: tuple[float, float]
    apart: tuple[float, float]
    slope_low: Tensor
    slope_high: Tensor
    norms: Tensor


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to stop.

    Attributes
    ----------
    tolerance : float
        Bounds this near to what was seen, relative to it, are good enough.
    max_boxes : int
        Boxes to bound in all.
    deadline : Deadline
    progress : bool or None
    seconds : float
        That bounding the output on the domain takes, about.
    row_seconds : float
        That evaluating the output and its gradient at a point takes.
    left_out : list of str
        What there was no time for.
    stop : Interruption
        An interrupt ends the cutting, and leaves no time for what follows.
    """

    tolerance: float
    max_boxes: int
    deadline: Deadline
    progress: bool | None
    seconds: float = 0.0
    row_seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    stop: Interruption = field(default_factory=Interruption)

    def cost(self, boxes: int, size: int) -> float:
        """Estimate the seconds that bounding some boxes of a size takes at first."""
        return self.seconds * max(1.0, boxes * size / max(size, QUICK))

    def allows(self, what: str, seconds: float) -> bool:
        """Tell whether there is time for what takes some seconds, and note it when there is not."""
        if self.deadline.left > seconds:
            return True
        self.left_out.append(what)
        return False


def refine(
    propagation: Propagation, seen: Seen, knots: Tensor, budget: Budget, label: str
) -> tuple[Boxes, int, bool]:
    """Bound the output on the domain, cutting boxes until every statement is decided.

    Returns
    -------
    boxes : Boxes
    count : int
        Boxes that were bounded.
    decided : bool
        Whether nothing was left open when it stopped.
    """
    domain, most = propagation.domain, _most(propagation, budget)
    if budget.allows("slopes and relaxation on the box", budget.seconds):
        boxes = bounded(propagation, domain[None, :, 0], domain[None, :, 1])
    else:
        boxes = unrefined(propagation)
    count, batch = 1, max(1, min(BATCH, BUDGET // (2 * propagation.size)))
    gaps = open_gaps(boxes, seen, domain, budget.tolerance)  # (goal, box)
    cutting = budget.deadline.portion(CUTTING)
    with progress_bar(label, most, shown=budget.progress) as advance, budget.stop.kept():
        for _ in cutting.paced(itertools.count(), budget.cost(2 * batch, propagation.size)):
            cuttable = _cuttable(boxes, domain).any(1)
            wanted = torch.where(cuttable, gaps, -torch.inf)
            room = (most - count) // 2
            if room < 1 or not bool((wanted > 0).any()):
                return boxes, count, not bool((gaps > 0).any())
            rows, goals = _chosen(wanted, len(domain), min(batch, room))
            children = _children(propagation, boxes.pick(rows), goals, knots)
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


def _most(propagation: Propagation, budget: Budget) -> int:
    """Return how many boxes are bounded at most: one where cutting can not help.

    Fewer than features is no help in a model so large that no more fit into `NUMBERS`.
    """
    if not propagation.bounded:
        return 1
    room = NUMBERS // propagation.size
    if room >= budget.max_boxes:
        return budget.max_boxes
    return room if room >= len(propagation.domain) else 1


def unrefined(propagation: Propagation) -> Boxes:
    """Return the domain with the bound of the output that its first pass gave, and no other."""
    domain = propagation.domain
    value = propagation.plain_value(propagation.levels)
    some = torch.full_like(value[0], torch.inf)
    slopes = torch.full_like(domain[None, :, 0], torch.inf)
    return Boxes(
        low=domain[None, :, 0],
        high=domain[None, :, 1],
        value_low=value[0],
        value_high=value[1],
        apart_low=-some,
        apart_high=some,
        slope_low=-slopes,
        slope_high=slopes,
        worth=torch.zeros_like(slopes).expand(3, -1)[None],
    )


def bounded(propagation: Propagation, low: Tensor, high: Tensor) -> Boxes:
    """Bound the output on boxes (box, in)."""
    found = propagation.bounds(low, high)
    return Boxes(
        low=low,
        high=high,
        value_low=found.value[0],
        value_high=found.value[1],
        apart_low=found.apart[0],
        apart_high=found.apart[1],
        slope_low=found.slope[0],
        slope_high=found.slope[1],
        worth=found.worth,
    )


def open_gaps(boxes: Boxes, seen: Seen, domain: Tensor, tolerance: float) -> Tensor:  # (goal, box)
    """Return how far every box leaves every statement open; positive ones are worth cutting.

    The goals are the largest and the least output, the same of its distance from the additive
    function, the largest and the least slopes, their signs, and the norms of the gradient.
    """
    width, flat = seen.value[1] - seen.value[0], FLAT * max(abs(end) for end in seen.value)
    apart = max(seen.apart[1] - seen.apart[0], tolerance * width)
    room, far = max(tolerance * width, flat), max(tolerance * apart, flat)
    steep = torch.maximum(seen.slope_low.abs(), seen.slope_high.abs())
    whole = (domain[:, 1] - domain[:, 0]).clamp_min(1e-300)
    steep = torch.maximum(steep, 1e-3 * width / whole)
    slack = tolerance * steep
    can_rise, can_fall = seen.slope_low >= 0, seen.slope_high <= 0
    never = torch.full_like(boxes.slope_low, -torch.inf)
    rows = [
        boxes.value_high - seen.value[1] - room,
        seen.value[0] - boxes.value_low - room,
        boxes.apart_high - seen.apart[1] - far,
        seen.apart[0] - boxes.apart_low - far,
        *(boxes.slope_high - seen.slope_high - slack).mT,
        *(seen.slope_low - boxes.slope_low - slack).mT,
        *torch.where(can_rise, -boxes.slope_low - SIGN * steep, never).mT,
        *torch.where(can_fall, boxes.slope_high - SIGN * steep, never).mT,
        *(boxes.norms() - seen.norms * (1 + tolerance)).mT,
    ]
    return torch.stack(rows)


def _cuttable(boxes: Boxes, domain: Tensor) -> Tensor:  # (box, in)
    size = torch.maximum(boxes.low.abs(), boxes.high.abs())
    whole = domain[:, 1] - domain[:, 0]
    return (boxes.high - boxes.low) > 1e-9 * torch.maximum(whole, size)


def _chosen(gaps: Tensor, n_in: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the boxes that leave most open, and what is asked of each.

    A quarter of them are for the output and another for signs of slopes while one is open. Of what
    is asked, a number is the feature of a slope, -1 a value, -2 a norm.
    """
    kinds = [-1] * 4 + list(range(n_in)) * 4 + [-2] * len(NORMS)
    signs = slice(4 + 2 * n_in, 4 + 4 * n_in)
    found: dict[int, int] = {}
    for part, most in ((slice(2), count // 4), (signs, count // 2), (slice(None), count)):
        for box, kind in _worst(gaps[part], kinds[part], most):
            if len(found) < most:
                found.setdefault(box, kind)
    device = gaps.device
    return torch.tensor(list(found), device=device), torch.tensor(
        list(found.values()), device=device
    )


def _worst(gaps: Tensor, kinds: list[int], count: int) -> list[tuple[int, int]]:
    """Return boxes with the kind of goal that they leave open, the worst of every goal first."""
    open_ones = (gaps > 0).any(1)
    gaps = gaps[open_ones]
    kinds = [kind for kind, wanted in zip(kinds, open_ones.tolist(), strict=True) if wanted]
    if not kinds or not count:
        return []
    each = min(gaps.shape[1], -(-count // len(gaps)))
    top = gaps.topk(each, dim=1)
    asked = torch.tensor(kinds, device=gaps.device)[:, None].expand_as(top.indices)
    wanted = (top.values > 0).mT
    return list(zip(top.indices.mT[wanted].tolist(), asked.mT[wanted].tolist(), strict=True))


def _children(propagation: Propagation, parents: Boxes, goals: Tensor, knots: Tensor) -> Boxes:
    """Cut boxes where it is worth most, and bound the halves."""
    domain = propagation.domain
    rows = torch.arange(len(parents), device=domain.device)
    wide = (parents.high - parents.low) / (domain[:, 1] - domain[:, 0]).clamp_min(1e-300)
    score = scores(parents.worth, goals) + 0.1 * wide
    usable = _cuttable(parents, domain)
    feature = score.masked_fill(~usable, -torch.inf).argmax(1)
    low, high = halved(parents.low, parents.high, feature, knots, usable[rows, feature])
    found, both = bounded(propagation, low, high), torch.cat([rows, rows])
    value = meet(
        (found.value_low, found.value_high), (parents.value_low[both], parents.value_high[both])
    )
    apart = meet(
        (found.apart_low, found.apart_high), (parents.apart_low[both], parents.apart_high[both])
    )
    slope = meet(
        (found.slope_low, found.slope_high), (parents.slope_low[both], parents.slope_high[both])
    )
    return Boxes(
        low=low,
        high=high,
        value_low=value[0],
        value_high=value[1],
        apart_low=apart[0],
        apart_high=apart[1],
        slope_low=slope[0],
        slope_high=slope[1],
        worth=found.worth,
    )
