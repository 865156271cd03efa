"""Joint refit of the parameters of all symbolic edges of a network.

Redundant parameters are not fixed: damping handles them, and fixed ones led away from the minimum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.symbolic._least_squares import Array, minimize
from kanlens.symbolic._library import library

_MAX_NUMBERS = 400  # free numbers of a model that is refitted
_MAX_RESIDUALS = 6000  # rows times outputs in the Jacobian
_FREE = {"none": (2,), "shift": (1, 2), "scale": (0, 2), "both": (0, 1, 2)}  # of a, b and c


@torch.no_grad()
def refit(model: KAN, x: Tensor, target: Tensor, *, steps: int = 60) -> float:
    """Refit the functions of a model in place and return its loss.

    Constants d are first moved into biases. Splines, parameters that a family does not have (the
    scale of a power), and models with more than 400 parameters stay unchanged.
    """
    for layer in model.layers:
        if layer.affine is not None:
            live = (1 - layer.spline_mask) * layer.mask
            layer.bias.add_((layer.affine[..., 3] * live).sum(1))
            layer.affine[..., 3] *= layer.spline_mask
            for o, i, name in live_functions(layer):
                if name == "constant":
                    layer.mask[o, i] = 0.0
    rows = max(50, _MAX_RESIDUALS // target.shape[1])
    pick = torch.linspace(0, len(x) - 1, min(rows, len(x))).round().long()
    problem = _NetworkResiduals(model, x[pick], target[pick])
    start, before = problem.read(), relative_loss(model(x), target)
    if not 0 < len(start) <= _MAX_NUMBERS:
        return before
    minimum = minimize(problem.residuals, problem.jacobian, start, steps=steps)
    problem.write(minimum.parameters)
    after = relative_loss(model(x), target)
    if not after <= before:  # the picked rows misled
        problem.write(start)
        return before
    return after


def relative_losses(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared errors over the target variances, (out,)."""
    variance = target.var(0, unbiased=False)
    losses = (output - target).square().mean(0) / torch.where(variance > 0, variance, 1.0)
    return losses.nan_to_num(nan=torch.inf, posinf=torch.inf)


def relative_loss(output: Tensor, target: Tensor) -> float:
    """Return the mean over the outputs of `relative_losses`."""
    return float(relative_losses(output, target).mean())


def live_functions(layer: KANLinear) -> list[tuple[int, int, str]]:
    """Return out, in and function of the unmasked function edges."""
    edges = (layer.mask != 0).nonzero().tolist()
    return [(o, i, layer.functions[o][i]) for o, i in edges if layer.functions[o][i] != SPLINE]


def affine_derivatives(layer: KANLinear, x: Tensor) -> Tensor:
    """Return derivatives of edges by a, b, c, d, (batch, out, in, 4)."""
    derivatives = x.new_zeros(len(x), layer.out_features, layer.in_features, 4)
    for term in layer.edge_terms():
        inputs = x[:, term.in_]
        u, c = term.inner(inputs), term.affine[:, 2]
        slope, value = c * term.g.derivative(u), term.g.value(u)
        columns = torch.stack((slope * inputs, slope, value, torch.ones_like(u)), dim=-1)
        derivatives[:, term.out, term.in_] = columns * term.mask.unsqueeze(-1)
    return derivatives


def reaches(model: KAN, x: Tensor, unit: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield for each layer, last first, its index, inputs and the outputs' slopes (row, out, sum).

    Rows x are scaled; the slopes are those of outputs over their units (out,) by the layer's sums.
    """
    inputs, sums = model.levels(x)
    reach = torch.diag(model.output_scale / unit).expand(len(x), -1, -1)  # (row, out, node)
    for index in range(len(sums) - 1, -1, -1):
        reach = model.nodes[index].pull(reach, sums[index][:, None])
        yield index, inputs[index], reach
        if index:
            reach = reach @ model.layers[index].edge_derivatives(inputs[index])


class _NetworkResiduals:
    """Residuals and Jacobian of a network by its free parameters."""

    def __init__(self, model: KAN, x: Tensor, target: Tensor) -> None:
        self.model, self.target, self.start = model, target, model.scale_inputs(x)
        deviation = target.std(0, unbiased=False)
        self.deviation = torch.where(deviation > 0, deviation, 1.0)
        self.free: list[tuple[Tensor, tuple[Tensor, ...]]] = []  # tensors and indices into them
        self.places: list[tuple[Tensor, Tensor]] = []  # of each layer: (3, n) and (sum,)
        numbers = {family.name: _FREE[family.moves] for family in library()}
        for layer in model.layers:
            functions = live_functions(layer)
            entries = [(o, i, k) for o, i, g in functions for k in numbers.get(g, ())]
            affine = torch.tensor(entries, dtype=torch.long).reshape(-1, 3).T
            bias = torch.tensor(sorted({o for o, _, _ in functions}), dtype=torch.long)
            self.places.append((affine, bias))
            if layer.affine is not None:
                self.free.append((layer.affine, tuple(affine)))
            self.free.append((layer.bias, (bias,)))

    def read(self) -> Array:
        """Return the free parameters of all layers."""
        return np.array(torch.cat([numbers[index] for numbers, index in self.free]).numpy())

    def write(self, theta: Array) -> None:
        """Set the free parameters of all layers."""
        values = torch.from_numpy(theta).split([len(index[0]) for _, index in self.free])
        for (numbers, index), part in zip(self.free, values, strict=True):
            numbers[index] = part

    def residuals(self, theta: Array) -> Array:
        """Return the errors of all outputs divided by the standard deviation, (row * out,)."""
        self.write(theta)
        output = self.model.scale_outputs(self.model.run(self.start))
        return np.asarray(((output - self.target) / self.deviation).reshape(-1).numpy())

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of the residuals, (row * out, parameter)."""
        self.write(theta)
        blocks: list[Tensor] = []
        for index, inputs, reach in reaches(self.model, self.start, self.deviation):
            layer, (affine, bias) = self.model.layers[index], self.places[index]
            block = [reach[:, :, bias]]
            if layer.affine is not None:
                o, i, k = affine
                slopes = affine_derivatives(layer, inputs)[:, o, i, k]
                block.insert(0, reach[:, :, o] * slopes[:, None, :])
            blocks = [*block, *blocks]
        return np.asarray(torch.cat(blocks, dim=2).reshape(-1, len(theta)).numpy())
