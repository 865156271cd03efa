"""Proximal gradient for the group lasso on edge functions.

The objective is F = f + strength * sum over edges of c * ||phi||, where ||phi|| is the edge's
deviation (`kanlens.sparsity.activation_l2`), f is the loss with every other penalty, and c is the
root mean square of the output's slope in the node the edge ends in (1 in a single layer). Without c
the norms of first layers were measured to shrink to a twentieth, and hardly any edge to vanish.

A smooth optimizer moves the nonzero edges, with c fixed. After each of its steps a few proximal
gradient steps over all rows move every edge:

    v = w - step * M^-1 grad f(w),    w = max(0, 1 - step * strength * c / ||v||_G) * v

where M holds the mean products of the edge's basis over the rows that reach it, and G their
covariances (`kanlens.sparsity.prox_group`). An edge at zero stays there exactly when
||grad f||_{M^-1} is at most strength * c. The step of a node is 1 / c^2 (Gauss and Newton), halved
until F falls. The dependence of the norms of deeper layers on earlier weights is part of f.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.errors import MethodError
from kanlens.model._kan_linear import KANLinear
from kanlens.model._spline_forward import Moments, rooted
from kanlens.sparsity import activation_l2
from kanlens.sparsity._penalties import shrink
from kanlens.training._objective import Objective, task_loss

HALVINGS = 20
LARGEST = 2.0  # of a step; 1 is exact for one edge and a quadratic loss
FLATTEST = 1e-6  # least curvature of a node, relative to the largest
MIN_METRIC = 1e-30  # least size of a metric
RIDGE = 1e-6  # on the metric, relative to its largest entry


@dataclass
class ProximalSteps:
    """Proximal steps of a training run with penalty ``"activation_l2"``."""

    objective: Objective
    size: float = 1.0  # of the next step

    def begin(self, x: Tensor) -> None:
        """Initialize node weights and the zero set, over the rows of x."""
        for index, layer in enumerate(self.objective.model.layers):
            if not layer.splines_alone:
                expected = "layers of splines for a proximal step"
                got = f"one of kind {layer.edge_kind!r} as layer {index}"
                raise MethodError("fit", expected, got, "Train with {proximal}", proximal=False)
        self.update_node_weights(x)
        self.record_zeros()

    def update_node_weights(self, x: Tensor) -> None:
        """Update node weights to the root mean square of the output gradient."""
        model = self.objective.model
        with torch.enable_grad():
            levels, sums = model.levels(model.scale_inputs(x.detach().requires_grad_()))
            output = model.scale_outputs(levels[-1]) / model.output_scale
            source = torch.Generator().manual_seed(0)  # the same signs every time
            signs = 2 * torch.randint(2, output.shape, generator=source).to(output) - 1
            slopes = torch.autograd.grad((signs * output).sum(), sums)
        curvatures = [slope.square().mean(0) for slope in slopes]
        least = FLATTEST * max(float(values.max()) for values in curvatures)
        least = max(least, torch.finfo(output.dtype).tiny)
        self.objective.node_weights = [values.clamp_min(least).sqrt() for values in curvatures]

    @property
    def strength(self) -> float:
        """Factor of the L2 norms in the objective."""
        return self.objective.strength * self.objective.penalty["activation_l2"]

    def record_zeros(self) -> None:
        """Record the zero set, which the optimizer leaves unchanged."""
        with torch.no_grad():
            self.zeros = [~layer.nonzero_edges() for layer in self.objective.model.layers]

    def mask_gradients(self, *, weights: bool = False) -> None:
        """Set the gradients (or the weights) of edges in the zero set to 0."""
        for layer, zero in zip(self.objective.model.layers, self.zeros, strict=True):
            held = zero & (layer.mask != 0)
            for parameter in (layer.spline_weight, layer.base_weight):
                tensor = parameter.data if weights else parameter.grad
                if tensor is not None:
                    tensor[held] = 0.0

    def iterate(self, x: Tensor, y: Tensor, most: int, *, gain: float = 1e-4) -> bool:
        """Take up to `most` steps while each gains `gain`; return whether the zero set changed."""
        before = self.zeros
        for _ in range(most):
            if self.step(x, y) < gain:
                break
        return any(not torch.equal(a, b) for a, b in zip(before, self.zeros, strict=True))

    def step(self, x: Tensor, y: Tensor) -> float:
        """Take one step; return the share by which the objective fell."""
        value, moves = self._moves(x, y)
        reached = value
        if not moves:
            return 0.0
        for _ in range(HALVINGS):
            for move in moves:
                move.make(self.size, self.strength)
            with torch.no_grad():
                reached = float(self.objective.total(x, y))
            if reached < value:
                break
            self.size /= 2
            for move in moves:
                move.undo()
        self.size = min(2 * self.size, LARGEST)
        self.update_node_weights(x)
        self.record_zeros()
        return max(0.0, 1 - reached / value) if value > 0 else 0.0

    @torch.enable_grad()
    def _moves(self, x: Tensor, y: Tensor) -> tuple[float, list[_Move]]:
        """Return the objective and each layer's descent direction."""
        model, nodes = self.objective.model, self.objective.node_weights or []
        (*inputs, last), _ = model.levels(model.scale_inputs(x))
        total = task_loss(model, model.scale_outputs(last), y)
        total = total + self.objective.penalty_term(inputs)
        if not bool(torch.isfinite(total)):
            return math.nan, []
        free = [
            (layer, rows.detach(), node)
            for layer, rows, node in zip(model.layers, inputs, nodes, strict=True)
            if all(parameter.requires_grad for parameter in layer.parameters())
        ]
        local = 0 * total
        for layer, rows, node in free:
            local = local + (node.unsqueeze(1) * activation_l2(layer, rows)).sum()
        weights = [tensor for layer, _, _ in free for tensor in _weights(layer)]
        slopes = torch.autograd.grad(total - self.strength * local, weights)
        moves = [
            _Move(layer, rows, node, slopes[3 * i : 3 * i + 3])
            for i, (layer, rows, node) in enumerate(free)
        ]
        return float(total.detach()), moves


def _weights(layer: KANLinear) -> tuple[Tensor, Tensor, Tensor]:
    return layer.spline_weight, layer.base_weight, layer.bias


class _Move:
    """Preconditioned descent direction of one layer, with undo."""

    @torch.no_grad()
    def __init__(self, layer: KANLinear, x: Tensor, node: Tensor, slopes: Sequence[Tensor]) -> None:
        by_spline, by_base, self.by_bias = slopes
        self.layer, self.node, self.moments = layer, node, Moments.over(layer, x)
        self.start = [p.detach().clone() for p in _weights(layer)]
        scale = self._scale()
        by_coef = torch.where(scale != 0, by_spline / torch.where(scale != 0, scale, 1.0), 0.0)
        slope = torch.cat([by_coef, by_base.unsqueeze(-1)], -1).double()  # (out, in, basis + 1)
        covariances, means = self.moments.matrix()
        metric = covariances + means.unsqueeze(1) * means.unsqueeze(2)
        largest = metric.diagonal(dim1=1, dim2=2).amax(1)[:, None, None].clamp_min(MIN_METRIC)
        metric = metric + RIDGE * largest * torch.eye(metric.shape[1]).to(metric)
        down = torch.cholesky_solve(slope.permute(1, 2, 0), torch.linalg.cholesky(metric))
        down = down.permute(2, 0, 1)  # (out, in, basis + 1)
        mean = (down * means).sum(-1, keepdim=True)  # constants are moved by the bias alone
        masked = (layer.mask == 0).unsqueeze(-1)
        self.by_coef = (down[..., :-1] - mean).masked_fill(masked, 0.0).to(by_spline)
        self.by_base = down[..., -1].masked_fill(masked[..., 0], 0.0).to(by_base)

    def _scale(self) -> Tensor:  # (out, in, 1): from spline weights to coefficients
        layer = self.layer
        scale = layer.spline_scaler if layer.enable_standalone_scale_spline else layer.mask
        return scale.detach().unsqueeze(-1)

    @torch.no_grad()
    def make(self, size: float, strength: float) -> None:
        """Take a gradient step of `size`, then soft-threshold every edge."""
        scale, layer, rates = self._scale(), self.layer, size / self.node.square()
        down = rates[:, None, None] * self.by_coef
        down = torch.where(scale != 0, down / torch.where(scale != 0, scale, 1.0), 0.0)
        layer.spline_weight.sub_(down)
        layer.base_weight.sub_(rates.unsqueeze(1) * self.by_base)
        layer.bias.sub_(rates * self.by_bias)
        mean, variance = self.moments.edges(layer)
        shrink(layer, mean, rooted(variance), strength * (rates * self.node).double().unsqueeze(1))

    @torch.no_grad()
    def undo(self) -> None:
        """Restore the weights."""
        for parameter, start in zip(_weights(self.layer), self.start, strict=True):
            parameter.copy_(start)
