"""Which edges of a trained network carry anything, and which features that leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kanlens.model.network import KAN
from kanlens.sparsity import weight_l1

__all__ = ["active_features", "live_edges", "weighty_edges"]


@torch.no_grad()
def weighty_edges(model: KAN, inputs: Sequence[Tensor], threshold: float) -> list[Tensor]:
    """Tell which edges have at least `threshold` of their layer's largest weight L1 norm.

    Parameters
    ----------
    model : KAN
        Left as it is.
    inputs : sequence of Tensor, each of shape (batch, in)
        What reaches each layer.
    threshold : float
        As `kanlens.prune` takes it; at 0 every edge counts that is not exactly zero.

    Returns
    -------
    list of Tensor, each of shape (out, in)
        Masked edges and edges that are exactly zero are never among them.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> weighty_edges(model, [torch.rand(9, 2)], 0.0)
    [tensor([[True, True]])]
    """
    found = []
    for layer, x in zip(model.layers, inputs, strict=True):
        norms = weight_l1(layer, x) * (layer.mask != 0)
        found.append((norms > 0) & (norms >= threshold * norms.max()))
    return found


def live_edges(model: KAN, masks: Sequence[Tensor]) -> list[Tensor]:
    """Leave out the edges that no path leads through from a feature to an output.

    Parameters
    ----------
    model : KAN
        Gives the nodes: a product is reached by any of its factors.
    masks : sequence of Tensor, each of shape (out, in)
        Edges to begin with.

    Returns
    -------
    list of Tensor, each of shape (out, in)

    Examples
    --------
    >>> masks = [torch.tensor([[True], [False]]), torch.tensor([[False, True]])]
    >>> live_edges(KAN([1, 2, 1]), masks)
    [tensor([[False],
            [False]]), tensor([[False, False]])]
    """
    found = [mask.clone() for mask in masks]
    owners = [nodes.owner for nodes in model.nodes]
    reached = torch.ones(model.widths[0], dtype=torch.bool, device=masks[0].device)
    for mask, owner in zip(found, owners, strict=True):
        mask.logical_and_(reached)
        counts = torch.zeros(int(owner.max()) + 1, dtype=torch.long, device=mask.device)
        reached = counts.index_add(0, owner, mask.any(1).long()) > 0
    read = torch.ones_like(reached)
    for mask, owner in zip(reversed(found), reversed(owners), strict=True):
        mask.logical_and_(read[owner].unsqueeze(1))
        read = mask.any(0)
    return found


def active_features(model: KAN, masks: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the names of the features that edges leave.

    Examples
    --------
    >>> active_features(KAN([2, 1]), [torch.tensor([[False, True]])])
    ('x2',)
    """
    used = masks[0].any(0).tolist()
    return tuple(name for name, use in zip(model.feature_names, used, strict=True) if use)
