"""Splines and layers written slowly from their definitions, one number at a time.

Nothing here is shared with the package: the Cox-de Boor recursion is taken literally, a layer is
a loop over rows, outputs and inputs.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BASES: dict[str, Callable[[float], float]] = {
    "silu": lambda x: x / (1 + math.exp(-x)),
    "identity": lambda x: x,
    "zero": lambda x: 0.0,
    "tanh": math.tanh,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "mish": lambda x: x * math.tanh(math.log(1 + math.exp(x))),
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: max(x, x / 100),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "sin": math.sin,
}


def basis_function(x: float, knots: list[float], i: int, degree: int, top: float) -> float:
    """B_i of a degree at x; the interval that ends at `top`, the grid's right end, is closed."""
    if degree == 0:
        if x == top:
            return float(knots[i + 1] == top)
        return float(knots[i] <= x < knots[i + 1])
    rise = (x - knots[i]) / (knots[i + degree] - knots[i])
    fall = (knots[i + degree + 1] - x) / (knots[i + degree + 1] - knots[i + 1])
    left = basis_function(x, knots, i, degree - 1, top)
    right = basis_function(x, knots, i + 1, degree - 1, top)
    return rise * left + fall * right


def slope_function(
    x: float, knots: list[float], i: int, degree: int, top: float, order: int
) -> float:
    """The derivative of B_i of some order, by the difference of two of a lower degree."""
    if order == 0:
        return basis_function(x, knots, i, degree, top)
    if degree == 0:
        return 0.0
    left = slope_function(x, knots, i, degree - 1, top, order - 1)
    right = slope_function(x, knots, i + 1, degree - 1, top, order - 1)
    return degree * (
        left / (knots[i + degree] - knots[i]) - right / (knots[i + degree + 1] - knots[i + 1])
    )


def basis_row(
    x: float, knots: list[float], degree: int, *, order: int = 0, extrapolation: str = "zero"
) -> list[float]:
    """All basis functions of one input at one point."""
    count = len(knots) - degree - 1
    low, high = knots[degree], knots[count]

    def at(point: float, n: int) -> list[float]:
        return [slope_function(point, knots, i, degree, high, n) for i in range(count)]

    if extrapolation == "zero" or low <= x <= high:
        return at(x, order)
    end = low if x < low else high
    if order == 0:
        return [v + s * (x - end) for v, s in zip(at(end, 0), at(end, 1), strict=True)]
    return at(end, 1) if order == 1 else [0.0] * count


def basis(
    x: Tensor, knots: Tensor, degree: int, *, order: int = 0, extrapolation: str = "zero"
) -> Tensor:
    """Like kanlens.splines.spline.basis for x (batch, in), in float64."""
    rows = [
        [
            basis_row(float(v), knots[i].tolist(), degree, order=order, extrapolation=extrapolation)
            for i, v in enumerate(row)
        ]
        for row in x
    ]
    count = knots.shape[1] - degree - 1
    return torch.tensor(rows, dtype=torch.float64).reshape(*x.shape, count)


def edge_values(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """phi_oi(x_i) of a KANLinear, (batch, out, in), in float64."""
    values = np.zeros((len(x), layer.out_features, layer.in_features))
    tensors = {name: tensor.tolist() for name, tensor in layer.state_dict().items()}
    scalers = tensors.get("spline_scaler")
    base = BASES[layer.base_name]
    for b in range(len(x)):
        for i in range(layer.in_features):
            point = float(x[b, i])
            row = basis_row(
                point, tensors["grid"][i], layer.spline_order, extrapolation=layer.extrapolation
            )
            for o in range(layer.out_features):
                weights = tensors["spline_weight"][o][i]
                total = sum(w * v for w, v in zip(weights, row, strict=True))
                total *= scalers[o][i] if scalers else 1.0
                total += tensors["base_weight"][o][i] * base(point)
                values[b, o, i] = tensors["mask"][o][i] * total
    return torch.from_numpy(values)


def kan_linear(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """y (batch, out) of a KANLinear."""
    return edge_values(layer, x).sum(2) + layer.bias.detach().double()


def kan(model: torch.nn.Module, x: Tensor) -> Tensor:
    """y (batch, out) of a KAN, scaling included."""
    hidden = (x.double() - model.input_shift.double()) / model.input_scale.double()
    for layer in model.layers:
        hidden = kan_linear(layer, hidden)
    return hidden * model.output_scale.double() + model.output_shift.double()


def efficient_kan(
    x: Tensor, grid: Tensor, base_weight: Tensor, spline_weight: Tensor, scaler: Tensor | None
) -> Tensor:
    """y (batch, out) by efficient-kan's formula: silu, and splines that run out."""
    degree = grid.shape[1] - spline_weight.shape[2] - 1
    points = x.unsqueeze(-1)
    values = ((points >= grid[:, :-1]) & (points < grid[:, 1:])).to(x.dtype)
    for p in range(1, degree + 1):
        rise = (points - grid[:, : -(p + 1)]) / (grid[:, p:-1] - grid[:, : -(p + 1)])
        fall = (grid[:, p + 1 :] - points) / (grid[:, p + 1 :] - grid[:, 1:-p])
        values = rise * values[..., :-1] + fall * values[..., 1:]
    weight = spline_weight if scaler is None else spline_weight * scaler.unsqueeze(-1)
    return F.linear(F.silu(x), base_weight) + F.linear(values.flatten(1), weight.flatten(1))
