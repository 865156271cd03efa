"""Lines in place of the last layer's functions that make bounds on the whole domain tightest.

For every slope of the lines, relaxation gives a sound bound: the output is a sum of functions of
the last nodes, and lines in these, which the layers before bound, may be moved from the one to the
other. They act as Lagrange multipliers, and the bound is a convex function of them when there are
two layers [1]_. One set of slopes is found for each of four bounds; smaller boxes share them.

References
----------
.. [1] K. Dvijotham et al., A Dual Approach to Scalable Verification of Deep Networks, 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanlens.certificates import relaxation
from kanlens.certificates.intervals import Interval, add, shift
from kanlens.deadlines import NEVER, Deadline

if TYPE_CHECKING:
    from kanlens.certificates.propagation import Level, Propagation

STEPS = 80
NUMBERS = 2**24  # that all steps may take; large models get fewer
RATE = 0.1  # of a step, in widths of a function's slopes


def ends(own: Propagation, levels: list[Level], lines: Tensor) -> Tensor:  # (box, 4)
    """Bound the output, then the output minus the additive function: from below, from above.

    Parameters
    ----------
    own : Propagation
    levels : list of Level
        Two at least.
    lines : Tensor, shape (4, node)
        Slopes by the inputs of the last layer, for each of the bounds.
    """
    last, (weights, margin) = len(levels) - 1, _weights(own, levels)
    bounds, rest, first, _ = own.relax(levels, last, weights, lines)
    left = first[:, 2:, :, None] - own.additive
    hull = add(relaxation.combine(levels[0].values, left).hull())
    apart = _plus(hull, (rest[0][:, 2:], rest[1][:, 2:]))
    both = (
        torch.cat([bounds[0][:, :2], apart[0]], 1),
        torch.cat([bounds[1][:, :2], apart[1]], 1),
    )
    low, high = shift(_plus(both, margin), own.model.output_shift[own.target])
    return torch.stack([low[:, 0], high[:, 1], low[:, 2], high[:, 3]], 1)


def _plus(first: Interval, second: Interval) -> Interval:
    return add((torch.stack([first[0], second[0]], -1), torch.stack([first[1], second[1]], -1)))


def _weights(own: Propagation, levels: list[Level]) -> tuple[Tensor, Interval]:
    """Return the output as a form in the last sums, and the margin of that."""
    model = own.model
    slopes = torch.zeros_like(model.output_scale).expand(len(levels[0].low), 4, -1).clone()
    slopes[..., own.target] = model.output_scale[own.target]
    return relaxation.through_nodes(model.nodes[-1], slopes, *levels[-1].sums)


def best_lines(own: Propagation, deadline: Deadline = NEVER) -> Tensor | None:
    """Find the slopes (4, node) that make the bounds on the domain tightest, as time allows.

    Returns
    -------
    Tensor or None
        None when there is one layer only, or a bound is infinite.
    """
    levels = own.levels
    if len(levels) < 2:
        return None
    weights, _ = _weights(own, levels)
    start = relaxation.combine(levels[-1].values, weights).slopes()[0]
    slopes = own.enclosures[-1].slopes(levels[-1].low, levels[-1].high)
    steep = relaxation.combine(slopes, weights).hull()
    unit = (steep[1] - steep[0])[0]
    sign = torch.tensor([-1.0, 1.0, -1.0, 1.0]).to(start)
    best, least = start, sign * ends(own, levels, start)[0]
    if not bool(torch.isfinite(unit).all() & torch.isfinite(least).all()):
        return None
    moved = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=RATE)
    steps = max(1, min(STEPS, NUMBERS // own.size))
    with torch.enable_grad():
        for step in deadline.paced(range(steps)):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            lines = start + unit * moved
            found = sign * ends(own, levels, lines)[0]
            now = found.detach()
            if not bool(torch.isfinite(now).all()):
                break
            best = torch.where((now < least)[:, None], lines.detach(), best)
            least = torch.minimum(now, least)
            (moved.grad,) = torch.autograd.grad(found.sum(), moved)
            optimizer.step()
    return best
