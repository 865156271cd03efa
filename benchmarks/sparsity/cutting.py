"""Networks cut to a number of edges, by whatever scores their edges have."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.sparsity.structure import live
from kanlens.core.network import KAN
from kanlens.pruning.compaction import compact, kept_inputs
from kanlens.training import fit

__all__ = ["Cut", "cut", "nested"]

PATIENCE = 3  # steps without improvement after which tuning ends


def nested(scores: Sequence[Tensor], sizes: Sequence[int]) -> dict[int, list[Tensor]]:
    """Remove edges one by one, smallest score first, and keep the graphs of some sizes.

    Scores count relative to the largest of their layer. Edges that no longer lie on a path go with
    the one that cut them off; some path always stays.

    Parameters
    ----------
    scores : sequence of Tensor, each of shape (out, in)
        One matrix per layer.
    sizes : sequence of int
        Numbers of edges asked for.

    Returns
    -------
    dict of int to list of Tensor
        For each size the largest graph met that has no more edges; none where that is not one.

    Examples
    --------
    >>> nested([torch.tensor([[3.0, 1.0, 2.0]])], [2])
    {2: [tensor([[ True, False,  True]])]}
    """
    masks = [torch.ones_like(score, dtype=torch.bool) for score in scores]
    found: dict[int, list[Tensor]] = {}
    _note(found, masks, sizes)
    for layer, edge in _ascending(scores):
        if not bool(masks[layer].flatten()[edge]):
            continue
        tried = [mask.clone() for mask in masks]
        tried[layer].view(-1)[edge] = False
        tried = live(tried)
        if bool(tried[0].any()):
            masks = tried
            _note(found, masks, sizes)
    return found


def _ascending(scores: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return (layer, flat index) of every edge, smallest relative score first."""
    ranked = []
    for layer, score in enumerate(scores):
        largest = float(score.max()) or 1.0
        ranked += [(value / largest, layer, i) for i, value in enumerate(score.flatten().tolist())]
    return [(layer, i) for _, layer, i in sorted(ranked)]


def _note(found: dict[int, list[Tensor]], masks: list[Tensor], sizes: Sequence[int]) -> None:
    count = sum(int(mask.sum()) for mask in masks)
    for size in sizes:
        if count <= size and size not in found:
            found[size] = masks


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """What is left of a model.

    Attributes
    ----------
    model : KAN
        Without the nodes and inputs that no edge leaves.
    columns : tuple of int
        The inputs it still takes.
    """

    model: KAN
    columns: tuple[int, ...]

    @torch.no_grad()
    def misses(self, x: Tensor, y: Tensor) -> Tensor:  # (rows,)
        """Return the squared errors in variances of y (rows, 1), for x with all columns."""
        output: Tensor = self.model(x[:, list(self.columns)])
        return (output - y)[:, 0].square() / y.var(correction=0)

    def error(self, x: Tensor, y: Tensor) -> float:
        """Return the root mean square error in deviations of y."""
        return float(self.misses(x, y).mean().sqrt())

    @torch.no_grad()
    def rescaled(self, x: Tensor, y: Tensor) -> Cut:
        """Return it with the output scaled and shifted to fit y best.

        A penalty shrinks what a network says; this takes back what a straight line can.
        """
        model = copy.deepcopy(self.model)
        output = model(x[:, list(self.columns)])
        middle, target = output.mean(0), y.mean(0)
        spread = (output - middle).square().sum(0)
        slope = ((output - middle) * (y - target)).sum(0) / spread.clamp_min(1e-300)
        model.output_scale.mul_(slope)
        model.output_shift.copy_(slope * (model.output_shift - middle) + target)
        return Cut(model=model, columns=self.columns)

    def tuned(self, x: Tensor, y: Tensor, *, steps: int) -> Cut:
        """Return it trained further, without a penalty and without holding rows out."""
        model = copy.deepcopy(self.model)
        fit(
            model,
            (x[:, list(self.columns)], y),
            steps=steps,
            validation=0.0,
            grid_updates=1,
            patience=PATIENCE,
            progress=False,
            generator=torch.Generator(),  # nothing is drawn
        )
        return Cut(model=model, columns=self.columns)


@torch.no_grad()
def cut(model: KAN, masks: Sequence[Tensor], x: Tensor) -> Cut:
    """Return a copy that keeps only some edges; the others leave their means in the biases.

    Parameters
    ----------
    model : KAN
        Left as it is.
    masks : sequence of Tensor, each of shape (out, in)
        The edges to keep, in every layer at least one.
    x : Tensor, shape (batch, in)
        Rows over which the means are taken.

    Returns
    -------
    Cut

    Examples
    --------
    >>> cut(KAN([2, 1]), [torch.tensor([[False, True]])], torch.rand(9, 2)).columns
    (1,)
    """
    small = copy.deepcopy(model)
    hidden = small.scale_inputs(x)
    for layer, mask in zip(small.layers, masks, strict=True):
        means = layer.edge_values(hidden).mean(0)  # (out, in)
        layer.bias.add_((means * ~mask).sum(1))
        layer.mask.mul_(mask)
        hidden = layer(hidden)
    return Cut(model=compact(small), columns=tuple(kept_inputs(small)[0]))
