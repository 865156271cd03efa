"""Refit the numbers of all symbolic edges of a network together.

The loss is the mean squared error in units of the targets' deviations; its Jacobian is exact.
Redundant numbers are left to the damping: held fixed, they made the refit end far from the minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.terms import SPLINE
from kanlens.symbolic.least_squares import Array, minimize
from kanlens.symbolic.library import library

_LARGEST = 400  # parameters
_CELLS = 6000  # rows times outputs in the Jacobian


class Places(NamedTuple):
    """Which numbers of a layer are free: affine entries (n, 3) and bias entries (m,)."""

    affine: Tensor
    bias: Tensor


@torch.no_grad()
def refit(model: KAN, x: Tensor, target: Tensor, *, steps: int = 60) -> float:
    """Refit the functions of `model` in place and return the loss.

    Constants d are first moved into the biases of their sums. Numbers that a family leaves out
    (the scale of a power) and splines stay what they are. Models with more than 400 free numbers
    are left alone. `target` (batch, out) is in the units of the data; the loss is `relative_loss`.
    """
    _gather_constants(model)
    places = free_places(model)
    count = sum(len(p.affine) + len(p.bias) for p in places)
    if not 0 < count <= _LARGEST:
        return relative_loss(model(x), target)
    rows = max(50, _CELLS // target.shape[1])
    pick = torch.linspace(0, len(x) - 1, min(rows, len(x))).round().long()
    problem = _NetworkResiduals(model, x[pick], target[pick], places)
    before = relative_loss(model(x), target)
    start = problem.read()
    found = minimize(problem.residuals, problem.jacobian, start, steps=steps)
    problem.write(found.parameters)
    after = relative_loss(model(x), target)
    if not after <= before:  # the picked rows misled
        problem.write(start)
        return before
    return after


def relative_losses(output: Tensor, target: Tensor) -> Tensor:
    """Return each output's mean squared error over its target's variance, 1 if constant, (out,)."""
    variance = target.var(0, unbiased=False)
    losses = (output - target).square().mean(0) / torch.where(variance > 0, variance, 1.0)
    return losses.nan_to_num(nan=torch.inf, posinf=torch.inf)


def relative_loss(output: Tensor, target: Tensor) -> float:
    """Return the mean over the outputs of `relative_losses`."""
    return float(relative_losses(output, target).mean())


def free_places(model: KAN) -> list[Places]:
    """Return the numbers of each layer that a refit may change."""
    moves = {family.name: family.moves for family in library()}
    letters = {"none": (2,), "shift": (1, 2), "scale": (0, 2), "both": (0, 1, 2), "constant": ()}
    found = []
    for live in map(live_functions, model.layers):
        entries = [(o, i, k) for o, i, g in live for k in letters[moves.get(g, "constant")]]
        affine = torch.tensor(entries, dtype=torch.long).reshape(-1, 3)
        sums = sorted({o for o, _, _ in live})
        found.append(Places(affine, torch.tensor(sums, dtype=torch.long)))
    return found


def live_functions(layer: KANLinear) -> list[tuple[int, int, str]]:
    """Return out, in and function of the live edges of a layer that are no splines."""
    places = (layer.mask != 0).nonzero().tolist()
    named = [(o, i, layer.functions[o][i]) for o, i in places]
    return [edge for edge in named if edge[2] != SPLINE]


def _gather_constants(model: KAN) -> None:
    """Move the constant of every function into the bias of its sum."""
    for layer in model.layers:
        if layer.affine is not None:
            live = (1 - layer.spline_mask) * layer.mask
            layer.bias.add_((layer.affine[..., 3] * live).sum(1))
            layer.affine[..., 3] *= layer.spline_mask
            for o, i, name in live_functions(layer):
                if name == "constant":
                    layer.mask[o, i] = 0.0


def affine_derivatives(layer: KANLinear, x: Tensor) -> Tensor:
    """Return derivatives of the edges by a, b, c, d, zero for splines: (batch, out, in, 4)."""
    found = x.new_zeros(len(x), layer.out_features, layer.in_features, 4)
    for term in layer.edge_terms():
        at = x[:, term.in_]
        u, c = term.inner(at), term.affine[:, 2]
        slope, value = c * term.g.derivative(u), term.g.value(u)
        columns = torch.stack((slope * at, slope, value, torch.ones_like(u)), dim=-1)
        found[:, term.out, term.in_] = columns * term.mask.unsqueeze(-1)
    return found


class _NetworkResiduals:
    """Residuals and Jacobian of a network in its free numbers."""

    def __init__(self, model: KAN, x: Tensor, target: Tensor, places: Sequence[Places]) -> None:
        self.model, self.target, self.places = model, target, places
        self.start = model.scale_inputs(x)
        deviation = target.std(0, unbiased=False)
        self.deviation = torch.where(deviation > 0, deviation, 1.0)
        self.free: list[tuple[Tensor, tuple[Tensor, ...]]] = []  # where the numbers are
        for layer, place in zip(model.layers, places, strict=True):
            if layer.affine is not None:
                self.free.append((layer.affine, tuple(place.affine.T)))
            self.free.append((layer.bias, (place.bias,)))

    def read(self) -> Array:
        """Return the free numbers of all layers."""
        return np.array(torch.cat([numbers[which] for numbers, which in self.free]).numpy())

    def write(self, theta: Array) -> None:
        """Set the free numbers of all layers."""
        values = torch.from_numpy(theta).split([len(which[0]) for _, which in self.free])
        for (numbers, which), some in zip(self.free, values, strict=True):
            numbers[which] = some

    def residuals(self, theta: Array) -> Array:
        """Return the errors of all outputs in units of their deviation, (row * out,)."""
        self.write(theta)
        output = self.model.scale_outputs(self.model.run(self.start))
        return np.asarray(((output - self.target) / self.deviation).reshape(-1).numpy())

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of the residuals, (row * out, number)."""
        self.write(theta)
        inputs, sums = self.model.levels(self.start)
        scale = self.model.output_scale / self.deviation
        reach = torch.diag(scale).expand(len(self.start), -1, -1)  # (row, out, node)
        blocks: list[Tensor] = []
        for index in range(len(sums) - 1, -1, -1):
            layer, place = self.model.layers[index], self.places[index]
            reach = self.model.nodes[index].pull(reach, sums[index][:, None])  # (row, out, sum)
            block = [reach[:, :, place.bias]]
            if layer.affine is not None:
                o, i, k = place.affine.T
                slopes = affine_derivatives(layer, inputs[index])[:, o, i, k]
                block.insert(0, reach[:, :, o] * slopes[:, None, :])
            blocks = [*block, *blocks]
            if index:
                reach = reach @ layer.edge_derivatives(inputs[index])
        return np.asarray(torch.cat(blocks, dim=2).reshape(-1, len(theta)).numpy())
