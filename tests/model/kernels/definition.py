"""A spline layer and its gradients from their definitions, in a wider floating type.

Nothing here is shared with the package: the Cox-de Boor recursion is taken literally, and every
gradient is written out by hand.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from kanlens.model._kan_linear import KANLinear

Array = np.ndarray
WIDE = {torch.float32: np.float64, torch.float64: np.longdouble}  # the widest takes longest
SURE = 32  # numbers of a tensor from which its largest is no chance product of cancellation


@dataclass(frozen=True)
class Wanted:
    """What a tensor should hold, and how large the terms are whose sum it is."""

    value: Array
    terms: float

    @property
    def scale(self) -> float:
        """What errors are measured by: the largest value, or for a few numbers the terms."""
        largest = float(np.abs(self.value).max()) if self.value.size else 0.0
        return largest if self.value.size >= SURE else max(largest, self.terms)


def recursion(x: Array, knots: Array, degree: int, *, top: int) -> Array:
    """The Cox-de Boor recursion: (point, basis). The interval that ends at `top` is closed."""
    found = ((knots[:-1] <= x[:, None]) & (x[:, None] < knots[1:])).astype(x.dtype)
    at_top = x == knots[top]
    found[at_top] = 0
    found[at_top, top - 1] = 1
    for p in range(1, degree + 1):
        rise = (x[:, None] - knots[: -p - 1]) / (knots[p:-1] - knots[: -p - 1])
        fall = (knots[p + 1 :] - x[:, None]) / (knots[p + 1 :] - knots[1:-p])
        found = rise * found[:, :-1] + fall * found[:, 1:]
    return found


def values_and_slopes(x: Array, knots: Array, degree: int, mode: str) -> tuple[Array, Array]:
    """All basis functions of one input and their derivatives, (point, basis) each."""
    top = len(knots) - degree - 1
    inside = np.clip(x, knots[degree], knots[top]) if mode == "linear" else x
    lower = recursion(inside, knots, degree - 1, top=top)
    shares = degree * lower / (knots[degree:] - knots[:-degree])
    slopes = shares[:, :-1] - shares[:, 1:]
    values = recursion(inside, knots, degree, top=top)
    return values + (x - inside)[:, None] * slopes, slopes


def piecewise(name: str, x: Array) -> tuple[Array, Array]:
    """The sine, or a base function with kinks, and its derivative."""
    if name == "sin":
        return np.sin(x), np.cos(x)
    if name in ("relu", "leaky_relu"):
        kind = x.dtype.type
        slope = np.where(x > 0, kind(1), kind(name == "leaky_relu") / 100)
        return x * slope, slope
    if name == "elu":
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0))), np.exp(np.minimum(x, 0))
    inside, beyond = np.abs(x) < 3, (x > 0).astype(x.dtype)  # hardswish
    value = np.where(inside, x * (x + 3) / 6, x * beyond)
    return value, np.where(inside, (2 * x + 3) / 6, beyond)


def base_function(name: str, x: Array) -> tuple[Array, Array]:
    """The base function and its derivative."""
    if name == "identity":
        return x, np.ones_like(x)
    if name == "zero":
        return np.zeros_like(x), np.zeros_like(x)
    if name == "tanh":
        return np.tanh(x), 1 - np.tanh(x) ** 2
    if name == "gelu":
        share = ndtr(x.astype(float)).astype(x.dtype)
        return x * share, share + x * np.exp(-x * x / 2) / np.sqrt(2 * x.dtype.type(np.pi))
    if name in ("sin", "relu", "leaky_relu", "elu", "hardswish"):
        return piecewise(name, x)
    decay = np.exp(-np.abs(x))
    gate, rest = (np.where(side, decay, 1) / (1 + decay) for side in (x < 0, x >= 0))
    if name == "sigmoid":
        return gate, gate * rest
    soft = np.maximum(x, 0) + np.log1p(decay)
    if name == "softplus":
        return soft, gate
    if name == "mish":
        return x * np.tanh(soft), np.tanh(soft) + x * gate / np.cosh(np.minimum(soft, 5000)) ** 2
    return x * gate, gate + x * gate * rest  # silu


def wide(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(WIDE[tensor.dtype])


def layer_and_gradients(layer: KANLinear, x: Tensor, grad: Tensor) -> dict[str, Wanted]:
    """y (batch, out) of a layer under "y", and the gradients of sum(y * grad) by name."""
    tensors = {name: wide(tensor) for name, tensor in layer.state_dict().items()}
    points, given, mask = wide(x), wide(grad), tensors["mask"]
    columns = range(layer.in_features)
    pairs = [
        values_and_slopes(points[:, i], tensors["grid"][i], layer.spline_order, layer.extrapolation)
        for i in columns
    ]
    values, slopes = (np.stack(each, axis=1) for each in zip(*pairs, strict=True))
    base, base_slope = base_function(layer.base_name, points)
    scaler = tensors.get("spline_scaler", np.ones_like(mask))
    spline, weight = tensors["spline_weight"], mask * tensors["base_weight"]
    coef = spline * (mask * scaler)[..., None]

    def through(values: Array, base: Array, coef: Array, weight: Array) -> Array:  # edges
        return np.einsum("bik,oik->boi", values, coef) + base[:, None] * weight

    def found(value: Array, *terms: Array) -> Wanted:
        return Wanted(value, float(sum(np.abs(each).max(initial=0) for each in terms)))

    size = np.maximum(1, np.abs(values))
    steep = np.abs(slopes) + layer.spline_order / np.diff(tensors["grid"]).min()
    per_spline = np.einsum("bo,bik->oik", given, values)
    terms = np.einsum("bo,bik->oik", np.abs(given), size)
    plain = through(values, base, coef, weight)
    rows = through(size, np.abs(base), np.abs(coef), np.abs(weight)).sum(2) + np.abs(
        tensors["bias"]
    )
    edges = through(slopes, base_slope, coef, weight)
    rising = through(steep, np.abs(base_slope), np.abs(coef), np.abs(weight))
    per_base, base_terms = given.T @ base, np.abs(given).T @ np.abs(base)
    per_x = np.einsum("bo,boi->bi", given, edges)
    result = {
        "y": found(plain.sum(2) + tensors["bias"], rows),
        "x": found(per_x, np.einsum("bo,boi->bi", np.abs(given), rising)),
        "spline_weight": found(
            per_spline * (mask * scaler)[..., None], terms * np.abs(scaler).max()
        ),
        "base_weight": found(per_base * mask, base_terms),
        "bias": found(given.sum(0), np.abs(given).sum(0)),
    }
    if "spline_scaler" in tensors:
        scale_terms = (terms * np.abs(spline)).sum(2)
        result["spline_scaler"] = found((per_spline * spline).sum(2) * mask, scale_terms)
    return result


def misfit(got: Tensor, wanted: Wanted) -> float:
    """The largest error over the scale; infinite for NaN, a wrong shape or a wrong sign of it.

    Below the smallest normal number of the dtype there are no digits to compare.
    """
    if got.shape != wanted.value.shape:
        return np.inf
    if not wanted.value.size:
        return 0.0
    error = float(np.abs(wide(got) - wanted.value).max())
    if not np.isfinite(error):
        return np.inf
    error = max(0.0, error - torch.finfo(got.dtype).tiny)
    return error / wanted.scale if wanted.scale else (0.0 if error == 0 else np.inf)
