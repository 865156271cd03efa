"""What is right: a B-spline layer written from its definition, in float64, and its gradients.

Nothing here is shared with the package: the Cox-de Boor recursion is taken literally, function by
function, and torch differentiates it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-4  # of the largest value, for layers that compute in float32


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Output (batch, out) of a layer, and gradients of the sum of output times cotangent.

    The gradient of the weights is that of the coefficients (out, in, basis), or of the weights of a
    layer that has no splines.
    """

    value: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor


def cox_de_boor(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Evaluate every B-spline of every input by the recursion that defines them [1]_.

    Takes x (batch, in) and knots (in, knot), increasing along each row; returns (batch, in, basis)
    with ``basis = knot - degree - 1``.

    References
    ----------
    .. [1] C. de Boor, A Practical Guide to Splines, 1978, chapter IX.

    Examples
    --------
    >>> knots = torch.arange(5.0).unsqueeze(0)
    >>> cox_de_boor(torch.tensor([[1.5]]), knots, 2)
    tensor([[[0.7500, 0.1250]]])
    """
    t = knots.T  # (knot, in)
    functions = [((t[j] <= x) & (x < t[j + 1])).to(x.dtype) for j in range(len(t) - 1)]
    for p in range(1, degree + 1):
        functions = [
            (x - t[j]) / (t[j + p] - t[j]) * functions[j]
            + (t[j + p + 1] - x) / (t[j + p + 1] - t[j + 1]) * functions[j + 1]
            for j in range(len(functions) - 1)
        ]
    return torch.stack(functions, -1)


def spline_layer(
    x: Tensor, knots: Tensor, coefficients: Tensor, base_weight: Tensor, cotangent: Tensor
) -> Expected:
    """Compute y_o = sum_i base_weight_oi silu(x_i) + sum_k coefficients_oik B_ik(x_i)."""
    degree = knots.shape[1] - coefficients.shape[2] - 1
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        weights = coefficients.detach().requires_grad_()
        values = cox_de_boor(x, knots, degree)
        y = torch.einsum("bik,oik->bo", values, weights)
        y = y + (x / (1 + torch.exp(-x))) @ base_weight.T
        return expected(y, x, weights, cotangent)


def expected(y: Tensor, x: Tensor, weights: Tensor, cotangent: Tensor) -> Expected:
    """Differentiate an output and collect what is expected of a layer."""
    dx, dw = torch.autograd.grad(y, [x, weights], cotangent)
    return Expected(value=y.detach(), input_gradient=dx, weight_gradient=dw)


def errors(found: Expected, right: Expected) -> tuple[float, float]:
    """Return the largest errors of output and of gradients, relative to the largest entry."""
    gradients = (
        _error(found.input_gradient, right.input_gradient),
        _error(found.weight_gradient, right.weight_gradient),
    )
    worst = max(gradients, key=lambda error: (error != error, error))  # NaN is the worst
    return _error(found.value, right.value), worst


def _error(found: Tensor, right: Tensor) -> float:
    if found.shape != right.shape:
        return float("inf")
    largest = right.abs().max().clamp(min=torch.finfo(right.dtype).tiny)
    return float((found.to(right) - right).abs().max() / largest)
