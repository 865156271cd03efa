"""Least-squares fits of the edges that leave the nodes of a level, and of all nodes but some.

Edges are linear in their coefficients: what the removal of a node costs follows from the inverse of
the normal matrix (Hassibi and Stork, Optimal brain surgeon, 1993).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from kanlens._resources import check_memory
from kanlens.model._analysis import BUDGET
from kanlens.model._kan_linear import KANLinear
from kanlens.model._spline_forward import summed

RIDGE = 1e-8  # of the mean square of a basis function: on changes of coefficients
COPIES = 6  # of the normal matrix, at most at once, beside the inverses


class LayerFit:
    """Fits of a layer to its `target` sums (batch, out), given inputs x (batch, in).

    Coefficients (coefficient, out) are those of the edges, one input after the other, and last the
    bias. Sums (out,) that read the same nodes share one of `fits`: indices, free coefficients,
    the inverse of the normal matrix of these, and their best values.
    """

    @torch.no_grad()
    def __init__(self, layer: KANLinear, x: Tensor, target: Tensor, weights: Tensor) -> None:
        self.layer = layer
        base = layer.base_weights()[..., None][..., : layer.base_name != "zero"]
        edges = torch.cat([layer.coefficients(), base, layer.series_weights()], 2)
        self.start = torch.cat([edges.flatten(1), layer.bias[:, None]], 1).mT.double()
        needed = (COPIES + layer.out_features) * 8 * len(self.start) ** 2
        advice = "Pass a larger max_memory, or refit=False"
        check_memory("prune", needed, "the normal matrix of a refit", advice)
        places = torch.arange(len(self.start), device=edges.device)
        self.owner = places // edges.shape[2]  # input (coefficient,), past the last for the bias

        def products(rows: Tensor) -> Tensor:
            basis = layer.basis(x[rows]).double().flatten(1)
            design = torch.cat([basis, torch.ones_like(basis[:, :1])], 1)
            values = torch.cat([design, target[rows].double()], 1)
            return (design * weights[rows, None].double()).mT @ values

        chunks = torch.arange(len(x)).split(max(1, BUDGET // len(places)))
        total = summed(chunks, products, again=False) / weights.double().sum()
        self.fits = list(self._solved(*total.split([len(places), layer.out_features], 1)))

    def _solved(self, gram: Tensor, right: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield one fit for all sums that depend on the same nodes."""
        mask, ridge = self.layer.mask != 0, RIDGE * gram.diagonal().mean()
        for pattern in mask.unique(dim=0):
            outs = (mask == pattern).all(1).nonzero()[:, 0]
            free = torch.cat([pattern, pattern.new_ones(1)])[self.owner].nonzero()
            start, own = self.start[free, outs], gram[free, free[:, 0]]
            inverse = _inverse(own + ridge * torch.eye(len(free)).to(own))
            yield outs, free, inverse, start + inverse @ (right[free, outs] - own @ start)

    @torch.no_grad()
    def remove_cheapest(self) -> int:
        """Remove the node whose removal costs least, and refit the others; return the node."""
        costs = torch.where((self.layer.mask != 0).any(0), 0.0, torch.inf).double()
        for _, free, inverse, best in self.fits:
            for node in self.owner[free[:-1, 0]].unique().tolist():
                at = self.owner[free[:, 0]] == node
                costs[node] += (best[at] * (_inverse(inverse[at][:, at]) @ best[at])).sum()
        node = int(costs.argmin())
        for place, (outs, free, inverse, best) in enumerate(self.fits):
            at = self.owner[free[:, 0]] == node
            change = inverse[~at][:, at] @ _inverse(inverse[at][:, at])
            others = inverse[~at][:, ~at] - change @ inverse[at][:, ~at]
            self.fits[place] = outs, free[~at], others, best[~at] - change @ best[at]
        return node

    @torch.no_grad()
    def best(self) -> KANLinear:
        """Return the layer with the best coefficients; those of removed nodes are zero."""
        layer, coefficients = copy.deepcopy(self.layer), torch.zeros_like(self.start)
        for outs, at, _, values in self.fits:
            coefficients[at, outs] = values
        edges = coefficients[:-1].mT.unflatten(1, (layer.in_features, -1)).to(layer.mask)
        splines, free = layer.spline_weight.shape[2], layer.mask != 0
        layer.spline_weight[free] = edges[free][:, :splines]
        if layer.enable_standalone_scale_spline:
            layer.spline_scaler[free] = 1.0
        if layer.base_name != "zero":
            layer.base_weight[free] = edges[free][:, splines]
        if layer.series:
            layer.series_weight[free] = edges[free][:, -len(layer.series) :]
        layer.bias.copy_(coefficients[-1])
        return layer


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverse; it is not finite if the matrix is singular."""
    inverse: Tensor = torch.linalg.inv_ex(matrix)[0]
    return inverse
