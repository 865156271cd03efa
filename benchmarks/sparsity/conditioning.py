"""How well a network's parameters determine its output: the spectrum of its Jacobian."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.core.network import KAN

__all__ = ["Spectrum", "jacobian", "spectrum"]

NEGLIGIBLE = 1e-8  # of the largest singular value, below which a direction changes nothing


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What the singular values of a Jacobian say about training by gradients.

    Attributes
    ----------
    parameters, rank : int
        Number of parameters, and of directions among them that change the output on the rows.
    condition : float
        Largest over median curvature of the squared error in these directions: the squared ratio
        of singular values. (Over the smallest it only tells where directions are counted out.)
    effective : float
        Number of directions that share the curvature evenly: (sum s^2)^2 / sum s^4.
    """

    parameters: int
    rank: int
    condition: float
    effective: float


def jacobian(model: KAN, x: Tensor) -> Tensor:  # (rows, parameter)
    """Return the derivatives of a model's first output by its parameters, in scaled units.

    Parameters
    ----------
    model : KAN
        The network.
    x : Tensor, shape (rows, in)
        In the units of the data.

    Examples
    --------
    >>> jacobian(KAN([2, 1], grid_size=5), torch.rand(4, 2)).shape
    torch.Size([4, 21])
    """
    weights = [each for each in model.parameters() if each.requires_grad]
    output = model(x)[:, 0] / model.output_scale[0]
    rows = []
    for value in output:
        slopes = torch.autograd.grad(value, weights, retain_graph=True)
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    return torch.stack(rows)


def spectrum(matrix: Tensor) -> Spectrum:
    """Describe a Jacobian (rows, parameter).

    Examples
    --------
    >>> spectrum(torch.diag(torch.tensor([2.0, 1.0, 0.0])))
    Spectrum(parameters=3, rank=2, condition=4.0, effective=1.4705882352941178)
    """
    values = torch.linalg.svdvals(matrix.double())
    alive = values[values > NEGLIGIBLE * values.max()]
    square = alive.square()
    return Spectrum(
        parameters=matrix.shape[1],
        rank=len(alive),
        condition=float(square[0] / square.median()),
        effective=float(square.sum().square() / square.square().sum()),
    )
