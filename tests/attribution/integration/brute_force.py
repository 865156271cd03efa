"""Integrated gradients the slow way: one line at a time, its pieces found by scanning it."""

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from kanlens.attribution.integration._lines import Lines
from kanlens.model._network import KAN

SCAN = np.linspace(0.0, 1.0, 1001)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def gradient(model: KAN, x: Tensor, target: int) -> Tensor:
    """Products of edge derivatives, layer by layer, in the units of the data."""
    hidden, inputs, sums = model.scale_inputs(x), [], []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        inputs.append(hidden)
        sums.append(layer(hidden))
        hidden = nodes(sums[-1])
    slopes = torch.zeros_like(hidden)
    slopes[:, target] = model.output_scale[target]
    for index in reversed(range(len(inputs))):
        slopes = model.nodes[index].pull(slopes, sums[index])
        slopes = torch.einsum(
            "bo,boi->bi", slopes, model.layers[index].edge_derivatives(inputs[index])
        )
    return slopes / model.input_scale


def crossings(model: KAN, sample: Tensor, row: Tensor) -> list[float]:
    """Every place from 0 to 1 at which an input of a layer passes one of its breakpoints."""

    def reaching(level: int, t: np.ndarray) -> np.ndarray:
        x = model.scale_inputs(row + torch.as_tensor(t)[:, None] * (sample - row))
        for index in range(level):
            x = model.through(index, x)
        return x.numpy()

    found = []
    for level, layer in enumerate(model.layers):
        curves = reaching(level, SCAN)
        for unit, places in enumerate(layer.breakpoints().numpy()):
            for place in np.unique(places):
                above = curves[:, unit] > place
                for k in np.flatnonzero(above[1:] != above[:-1]):

                    def distance(t, level=level, unit=unit, place=place):
                        return reaching(level, np.array([t]))[0, unit] - place

                    found.append(brentq(distance, SCAN[k], SCAN[k + 1], xtol=1e-15, rtol=1e-14))
    return sorted(found)


def along(model: KAN, sample: Tensor, row: Tensor, target: int) -> Tensor:
    """The integral for one sample and one background row, shape (in,)."""
    cuts = np.array([0.0, *crossings(model, sample, row), 1.0])
    low, high = cuts[:-1, None], cuts[1:, None]
    t = torch.as_tensor((0.5 * (low + high) + 0.5 * (high - low) * NODES).reshape(-1))
    weights = torch.as_tensor((0.5 * (high - low) * WEIGHTS).reshape(-1))
    slopes = gradient(model, row + t[:, None] * (sample - row), target)
    return (sample - row) * (weights[:, None] * slopes).sum(0)


def integrated_gradients(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """Averaged over the background."""
    with torch.no_grad():
        lines = [[along(model, sample, row, target) for row in rows] for sample in x]
    return torch.stack([torch.stack(line).mean(0) for line in lines])


def sizes(lines: Lines) -> Tensor:
    """The sum of what the last layer adds up, at whichever end of a line it is larger."""
    model, found = lines.model, []
    for end in (lines.start, lines.end):
        hidden = end
        for index in range(len(model.layers) - 1):
            hidden = model.through(index, hidden)
        edges = model.layers[-1].edge_values(hidden).abs().sum(2) + model.layers[-1].bias.abs()
        found.append(model.nodes[-1](edges)[:, lines.target].abs())
    return torch.maximum(*found) * model.output_scale[lines.target].abs()
