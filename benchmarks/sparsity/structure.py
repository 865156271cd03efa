"""How much of a true graph a network has found.

Hidden nodes have no names, so a found graph is compared with the true one under the matching of
hidden nodes that makes the most edges agree. With one hidden layer that matching is an assignment
problem and is solved exactly; with several, layers are matched in turn until nothing improves, from
both ends, and the better result is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.errors import ShapeError

__all__ = ["Recovery", "live", "recovered_edges", "recovered_inputs"]

SWEEPS = 20


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How two sets agree: the found one and the true one.

    Attributes
    ----------
    found, true, shared : int
        Sizes of the two and of what they share.
    """

    found: int
    true: int
    shared: int

    @property
    def precision(self) -> float:
        """Share of what was found that is true; 0 when nothing was found."""
        return self.shared / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of what is true that was found."""
        return self.shared / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall.

        Examples
        --------
        >>> Recovery(found=4, true=2, shared=2).f1
        0.6666666666666666
        """
        return 2 * self.shared / (self.found + self.true) if self.found + self.true else 0.0


def live(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return the edges that lie on a path from an input to an output.

    An edge that leaves a node nothing enters is a constant, and one whose node nothing leaves does
    nothing.

    Parameters
    ----------
    masks : sequence of Tensor, each of shape (out, in)
        Which edges there are.

    Returns
    -------
    list of Tensor, truth values (out, in)

    Examples
    --------
    >>> live([torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 0]])])[0]
    tensor([[ True,  True],
            [False, False]])
    """
    masks = [mask != 0 for mask in masks]
    for index in range(1, len(masks)):
        masks[index] = masks[index] & masks[index - 1].any(1)
    for index in range(len(masks) - 1, 0, -1):
        masks[index - 1] = masks[index - 1] & masks[index].any(0)[:, None]
    return masks


def recovered_inputs(found: Sequence[Tensor], relevant: Sequence[int]) -> Recovery:
    """Compare the inputs that live edges leave with the relevant ones.

    Examples
    --------
    >>> recovered_inputs([torch.tensor([[1, 0, 1]])], [0, 1])
    Recovery(found=2, true=2, shared=1)
    """
    used = set(live(found)[0].any(0).nonzero()[:, 0].tolist())
    return Recovery(found=len(used), true=len(relevant), shared=len(used & set(relevant)))


def recovered_edges(found: Sequence[Tensor], true: Sequence[Tensor]) -> Recovery:
    """Compare the live edges of a network with the true ones, up to the order of hidden nodes.

    Parameters
    ----------
    found, true : sequence of Tensor, each of shape (out, in)
        As many layers each, with the same inputs and outputs; hidden layers may be of any width.

    Returns
    -------
    Recovery

    Raises
    ------
    ShapeError
        If depths, inputs or outputs differ.

    Examples
    --------
    >>> swapped = [torch.tensor([[0, 1], [1, 1]]), torch.tensor([[1, 1]])]
    >>> true = [torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 1]])]
    >>> recovered_edges(swapped, true).f1
    1.0
    """
    _check_ends(found, true)
    alive, wanted = live(found), live(true)
    pairs = [_padded(a, b) for a, b in zip(alive, wanted, strict=True)]
    a = [pair[0].double() for pair in pairs]
    b = [pair[1].double() for pair in pairs]
    shared = max(_shared(a, b, forwards=True), _shared(a, b, forwards=False))
    count = [sum(int(mask.sum()) for mask in masks) for masks in (alive, wanted)]
    return Recovery(found=count[0], true=count[1], shared=shared)


def _check_ends(found: Sequence[Tensor], true: Sequence[Tensor]) -> None:
    shapes = [
        (len(masks), masks[0].shape[1], masks[-1].shape[0]) if masks else (0, 0, 0)
        for masks in (found, true)
    ]
    if shapes[0] != shapes[1] or not found:
        expected = "graphs with the same layers, inputs and outputs"
        got = f"{shapes[0]} and {shapes[1]}"
        raise ShapeError("recovered_edges", expected, got, "Compare those")


def _padded(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both masks in one shape: the wider of each axis, the rest empty."""
    shape = [max(m, n) for m, n in zip(a.shape, b.shape, strict=True)]
    both = []
    for mask in (a, b):
        wide = torch.zeros(*shape, dtype=torch.bool)
        wide[: mask.shape[0], : mask.shape[1]] = mask
        both.append(wide)
    return both[0], both[1]


def _shared(a: list[Tensor], b: list[Tensor], *, forwards: bool) -> int:
    """Match the hidden nodes of `a` with those of `b` and count the edges that agree."""
    from scipy.optimize import linear_sum_assignment

    ends = [torch.arange(a[0].shape[1]), torch.arange(a[-1].shape[0])]
    order: list[Tensor | None] = [ends[0], *[None] * (len(a) - 1), ends[1]]
    hidden = list(range(1, len(a)))
    best = -1
    for _ in range(SWEEPS):
        for level in hidden if forwards else hidden[::-1]:
            gain = _gain(a, b, order, level)
            order[level] = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
        count = _agreeing(a, b, order)
        if count <= best:
            break
        best = count
    return best


def _gain(a: list[Tensor], b: list[Tensor], order: list[Tensor | None], level: int) -> Tensor:
    """Return the edges that agree when node i of `a` is node j of `b`: (i, j), one level."""
    gain = torch.zeros(a[level].shape[1], b[level].shape[1], dtype=torch.double)
    before, after = order[level - 1], order[level + 1]
    if before is not None:
        gain = gain + a[level - 1] @ b[level - 1][:, before].mT
    if after is not None:
        gain = gain + a[level].mT @ b[level][after]
    return gain


def _agreeing(a: list[Tensor], b: list[Tensor], order: list[Tensor | None]) -> int:
    total = 0.0
    for level, (left, right) in enumerate(zip(a, b, strict=True)):
        before, after = order[level], order[level + 1]
        if before is not None and after is not None:  # always, after one sweep
            total += float((left * right[after][:, before]).sum())
    return round(total)
