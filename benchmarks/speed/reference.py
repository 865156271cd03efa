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
    """Output of a layer, and gradients of the sum of output times cotangent.

    Attributes
    ----------
    value : Tensor, shape (batch, out)
    input_gradient : Tensor, shape (batch, in)
    weight_gradient : Tensor
        With respect to the coefficients, shape (out, in, basis), or to the weights of a layer
        that has no splines.
    """

    value: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor


def cox_de_boor(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """Evaluate every B-spline of every input by the recursion that defines them.

    Parameters
    ----------
    x : Tensor, shape (batch, in)
        Points.
    knots : Tensor, shape (in, knot)
        Increasing along each row.
    degree : int
        Degree of the pieces.

    Returns
    -------
    Tensor, shape (batch, in, basis)
        With ``basis = knot - degree - 1``.

    References
    ----------
    .. [1] C. de Boor, A Practical Guide to Splines, 1978, chapter IX.

    Examples
    --------
    >>> knots = torch.arange(5.0).unsqueeze(0)
    >>> cox_de_boor(torch.tensor([[1.5], [2.0]]), knots, 2)
    tensor([[[0.7500, 0.1250]],
    <BLANKLINE>
            [[0.5000, 0.5000]]])
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
    """Compute y_o = sum_i base_weight_oi silu(x_i) + sum_k coefficients_oik B_ik(x_i).

    Parameters
    ----------
    x : Tensor, shape (batch, in)
    knots : Tensor, shape (in, knot)
    coefficients : Tensor, shape (out, in, basis)
    base_weight : Tensor, shape (out, in)
    cotangent : Tensor, shape (batch, out)

    Returns
    -------
    Expected

    Examples
    --------
    >>> x, knots = torch.zeros(1, 1), torch.arange(-2.0, 3.0).unsqueeze(0)
    >>> spline_layer(x, knots, torch.ones(1, 1, 3), torch.ones(1, 1), torch.ones(1, 1)).value
    tensor([[1.]])
    """
    degree = knots.shape[1] - coefficients.shape[2] - 1
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        weights = coefficients.detach().requires_grad_()
        values = cox_de_boor(x, knots, degree)
        y = torch.einsum("bik,oik->bo", values, weights)
        y = y + (x / (1 + torch.exp(-x))) @ base_weight.T
        return expected(y, x, weights, cotangent)


def expected(y: Tensor, x: Tensor, weights: Tensor, cotangent: Tensor) -> Expected:
    """Differentiate an output and collect what is expected of a layer.

    Examples
    --------
    >>> x, weights = torch.ones(1, 1).requires_grad_(), torch.ones(1, 1).requires_grad_()
    >>> expected(x @ weights.T, x, weights, torch.full((1, 1), 3.0)).weight_gradient
    tensor([[3.]])
    """
    dx, dw = torch.autograd.grad(y, [x, weights], cotangent)
    return Expected(value=y.detach(), input_gradient=dx, weight_gradient=dw)


def errors(found: Expected, right: Expected) -> tuple[float, float]:
    """Return the largest error of the output, and of the gradients, relative to the largest entry.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> right = Expected(value=one, input_gradient=one, weight_gradient=one)
    >>> found = Expected(value=one + 0.5, input_gradient=one, weight_gradient=2 * one)
    >>> errors(found, right)
    (0.5, 1.0)
    """
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
