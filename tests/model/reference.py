"""Layers and networks from the definition of their splines, and efficient-kan's formula."""

import numpy as np
import torch
from torch import Tensor

from tests.model.kernels.definition import base_function, values_and_slopes, wide


def edge_values(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """phi_oi(x_i) of a KANLinear, (batch, out, in), in float64."""
    tensors = {name: wide(tensor) for name, tensor in layer.state_dict().items()}
    points, mode = wide(x), layer.extrapolation
    columns = [
        values_and_slopes(points[:, i], knots, layer.spline_order, mode)[0]
        for i, knots in enumerate(tensors["grid"])
    ]
    scaler = tensors.get("spline_scaler", np.ones_like(tensors["mask"]))
    splines = np.einsum("ibk,oik->boi", np.stack(columns), tensors["spline_weight"]) * scaler
    bases = base_function(layer.base_name, points)[0][:, None] * tensors["base_weight"]
    return torch.from_numpy(((splines + bases) * tensors["mask"]).astype(float))


def kan_linear(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """y (batch, out) of a KANLinear."""
    return edge_values(layer, x).sum(2) + layer.bias.detach().double()


def kan(model: torch.nn.Module, x: Tensor) -> Tensor:
    """y (batch, out) of a KAN, scaling included."""
    hidden = (x.double() - model.input_shift.double()) / model.input_scale.double()
    for layer in model.layers:
        hidden = kan_linear(layer, hidden)
    return hidden * model.output_scale.double() + model.output_shift.double()
