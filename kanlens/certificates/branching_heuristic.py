"""Branching heuristic: halve a box along the feature that the width of its bounds comes from.

None of this touches soundness; a poor choice only costs boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.certificates.intervals import Interval
from kanlens.certificates.relaxation import LayerBounds
from kanlens.model.network import KAN

CENTRAL = 0.3  # a knot is preferred to the middle when it is this near to it, in widths


def spread(model: KAN, layers: list[LayerBounds], amounts: list[Tensor]) -> Tensor:
    """Attribute widths that arise at the inputs of layers to the features.

    From the `amounts` that arise at the inputs of each layer, the last layer first; a node passes
    its own to the inputs of its edges in proportion to how much these vary on the box.
    """
    total = torch.zeros_like(layers[-1].low)
    for index, amount in zip(reversed(range(len(layers))), amounts, strict=True):
        total = total + _bounded(amount.reshape(total.shape))
        if index == 0:
            return total
        below = layers[index - 1]
        sums = total[:, model.nodes[index - 1].owner]  # (box, sub)
        widths = _bounded(below.edges[1] - below.edges[0])  # (box, sub, in)
        share = widths / widths.sum(-1, keepdim=True).clamp_min(1e-300)
        total = (sums[..., None] * share).sum(1)
    return total


def gains(model: KAN, layers: list[LayerBounds], steepest: list[Tensor]) -> list[Tensor]:
    """Bound the total rate of change of every layer's inputs with the features.

    Shape (box, in) for each layer, from the steepest slope of every edge, (box, out, in) each.
    """
    now = (1 / model.input_scale.abs()).expand(len(layers[0].low), -1)
    found = [now]
    for nodes, steep in zip(list(model.nodes)[:-1], steepest[:-1], strict=True):
        sums = (_bounded(steep) * now[:, None]).sum(-1)  # (box, sub)
        now = sums.new_zeros(len(sums), nodes.grouping.nodes).index_add(1, nodes.owner, sums)
        found.append(now)
    return found


def uncertain(slopes: list[Interval], gain: list[Tensor]) -> list[Tensor]:
    """Return the width of the gradient that each node's width causes, the last layer first."""
    found = [
        _bounded(high - low) * speed for (low, high), speed in zip(slopes, gain[:0:-1], strict=True)
    ]
    return [*found, torch.zeros_like(gain[0])]


def scores(worth: Tensor, goals: Tensor) -> Tensor:  # (box, in)
    """Score every feature of every box by what cutting it is worth to the box's goal.

    Parameters
    ----------
    worth : Tensor, shape (box, 3, in)
        For the value; for slopes, by the nodes and by each feature itself.
    goals : Tensor, shape (box,)
        A feature, for its slope; -1 for values, -2 for norms of the gradient.

    Returns
    -------
    Tensor, shape (box, in)
        At most 1.
    """
    value, bend, own = worth.unbind(1)
    mine = goals[:, None] == torch.arange(worth.shape[2], device=worth.device)
    slope = bend / worth.shape[2] + torch.where(mine, own, 0.0)
    picked = torch.where(goals[:, None] >= 0, slope, bend + own)
    picked = torch.where(goals[:, None] == -1, value, picked)
    return (picked / picked.amax(1, keepdim=True).clamp_min(1e-300)).nan_to_num(0.0)


def _bounded(width: Tensor) -> Tensor:
    return width.nan_to_num(1e30, posinf=1e30, neginf=0.0).clamp(0.0, 1e30)


def halved(
    low: Tensor, high: Tensor, feature: Tensor, knots: Tensor, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """Bisect boxes, at a knot near the middle where there is one.

    Parameters
    ----------
    low, high : Tensor, shape (box, in)
    feature : Tensor, shape (box,)
        Which feature to cut.
    knots : Tensor, shape (in, knot)
        In units of the data.
    usable : Tensor, shape (box,)
        Whether the box can be cut there at all; others are repeated.

    Returns
    -------
    low, high : Tensor, shape (2 * box, in)
        The lower halves, then the upper ones.

    Examples
    --------
    >>> low, high = torch.zeros(1, 1), torch.ones(1, 1)
    >>> one = torch.zeros(1, dtype=torch.long), torch.tensor([[0.4]]), torch.tensor([True])
    >>> halved(low, high, *one)
    (tensor([[0.0000],
            [0.4000]]), tensor([[0.4000],
            [1.0000]]))
    """
    rows = torch.arange(len(low), device=low.device)
    left, right = low[rows, feature], high[rows, feature]
    middle = 0.5 * (left + right)
    near = knots[feature]  # (box, knot)
    distance = (near - middle[:, None]).abs()
    best = distance.argmin(1)
    at = near[rows, best]
    good = distance[rows, best] <= CENTRAL * (right - left)
    cut = torch.where(good, at, middle)
    cut = torch.where(usable, cut, right)
    lower_high, upper_low = high.clone(), low.clone()
    lower_high[rows, feature] = cut
    upper_low[rows, feature] = torch.where(usable, cut, left)
    return torch.cat([low, upper_low]), torch.cat([lower_high, high])
