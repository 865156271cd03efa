"""Least-squares refits of the splines of a layer to targets, with some edges fixed."""

from __future__ import annotations

import copy
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution._edge_bands import quadratic_loss
from kanlens.attribution._terms import MIN_CURVATURE
from kanlens.model._analysis import float64_copy
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.splines import _spline as spline
from kanlens.training._objective import task_loss

Rows: TypeAlias = tuple[Tensor, Tensor]

PASSES = 6  # over the sums of a layer, at most
GAIN = 1e-6  # relative decrease of the loss below which the passes end
SHARES = (1.0, 0.5, 0.25, 0.1)  # of a Newton step, tried until the loss falls
PLACES, ROWS_PER_PLACE = 12, 10  # most breakpoints of an edge's change, and rows for each
PART, MIN_ROWS = 5, 50  # every fifth row is for validation, if there are at least 50
LEAST = 1e-12  # curvature of the loss in a sum over its variance, to be fitted
RIDGE = 1e-9  # of the mean square of a column


@torch.no_grad()
def refit_layer(model: KAN, index: int, x: Tensor, y: Tensor, held: Tensor) -> KANLinear:
    """Return a layer with splines fitted to targets; edges in `held`, a mask (out, in), stay."""
    work, x, y = float64_copy(model), x.double(), y.double() if y.is_floating_point() else y
    layer = work.layers[index]
    splines = torch.tensor([[name == SPLINE for name in row] for row in layer.functions])
    free = layer.nonzero_edges() & splines.to(held.device) & ~held
    judging = torch.arange(len(x)) % PART == PART - 1
    judging = judging if len(x) >= MIN_ROWS else torch.ones_like(judging)
    learned = ~judging if len(x) >= MIN_ROWS else judging
    data, judged = (x[learned], y[learned]), (x[judging], y[judging])
    loss, before = float(task_loss(work, work(judged[0]), judged[1])), torch.inf
    for _ in range(PASSES):
        if not before - loss > GAIN * loss:
            break
        before = loss
        for out in free.any(1).nonzero()[:, 0].tolist():
            edges = free[out].nonzero()[:, 0].tolist()
            loss = _refit_sum(work, (index, out), data, judged, edges, loss)
    new = copy.deepcopy(model.layers[index])
    new.load_state_dict(layer.state_dict())
    return new


def _refit_sum(
    work: KAN, node: tuple[int, int], data: Rows, judged: Rows, edges: list[int], loss: float
) -> float:
    """Refit edges of a sum in place if the validation loss falls; return that loss."""
    (index, out), (x, y) = node, data
    layer = work.layers[index]
    arrays = quadratic_loss(work, index, out, x, y, call="edit.refit")
    inputs, curvature, slopes = (torch.from_numpy(array).to(x) for array in arrays)
    largest = float(curvature.max())
    if not largest * float(layer(inputs)[:, out].var()) > LEAST:  # such as if the other factor is 0
        return loss
    weights = curvature.clamp_min(MIN_CURVATURE * largest)
    basis = spline.basis(inputs, layer.grid, layer.spline_order, extrapolation=layer.extrapolation)
    modes = [_modes(layer, in_, inputs, len(edges)) for in_ in edges]
    columns = [basis[:, in_] @ mode for in_, mode in zip(edges, modes, strict=True)]
    design = torch.cat([*columns, torch.ones_like(inputs[:, :1])], 1)
    gram = design.mT @ (weights[:, None] * design)
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    steps = torch.linalg.lstsq(gram, (design.mT @ slopes)[:, None]).solution[:, 0]
    parts = steps.split([mode.shape[1] for mode in modes] + [1])
    state = copy.deepcopy(layer.state_dict())
    for share in SHARES:
        for in_, mode, part in zip(edges, modes, parts, strict=False):
            start = layer.weights().coefficients()[out, in_]
            layer.spline_weight[out, in_] = start + share * (mode @ part)
            if layer.enable_standalone_scale_spline:
                layer.spline_scaler[out, in_] = 1.0
        layer.bias[out] += share * parts[-1][0]
        if (after := float(task_loss(work, work(judged[0]), judged[1]))) < loss:
            return after
        layer.load_state_dict(state)
    return loss


def _modes(layer: KANLinear, in_: int, inputs: Tensor, edges: int) -> Tensor:
    """Return changes of control points (basis, mode): hat functions on few breakpoints."""
    places = spline.greville(layer.grid, layer.spline_order)[in_].cpu().numpy()
    count = min(max(len(inputs) // (ROWS_PER_PLACE * edges), 2), PLACES)
    if len(places) <= count:
        return torch.eye(len(places)).to(inputs)
    ends = np.unique(np.quantile(inputs[:, in_].cpu().numpy(), np.linspace(0, 1, count)))
    hats = [np.interp(places, ends, row) for row in np.eye(len(ends))]
    return torch.from_numpy(np.stack(hats, 1)).to(inputs)
