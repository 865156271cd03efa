"""Layers far from their initial state, and points all over and beyond their grids."""

import re

import pytest
import torch
from torch import Tensor

from kanlens.errors import KanlensError
from kanlens.model._kan_linear import KANLinear

ORDERS = (1, 2, 3, 4, 5)
MODES = ("linear", "zero")
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def refused(kind: type[KanlensError], text: str):
    """Expect an error with exactly this text."""
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


SERIES = {
    "bumps": ("gaussian",) * 4,
    "hyperbolic bumps": ("sech^2",) * 4,
    "quartic bumps": ("relu(1-x^2)^2",) * 4,
    "waves": ("sin",) * 4,
    "polynomials of tanh": ("T1(tanh)", "T2(tanh)", "T3(tanh)", "T7(tanh)"),
    "wavelets": ("mexican hat", "dog", "morlet"),
    "kinks and powers": ("x", "relu", "abs", "x^2"),
}


def rich(
    n_in: int = 3, n_out: int = 2, *, seed: int = 0, kind: type = KANLinear, **options: object
) -> KANLinear:
    """A float64 layer whose tensors are all far from their initial values."""
    layer = kind(n_in, n_out, generator=seeded(seed), **options).double()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=seed + 10 + number))
        width = 0.1 + torch.rand(layer.grid.shape, generator=seeded(seed), dtype=torch.float64)
        k = layer.spline_order
        knots = width.cumsum(1)
        layer.grid.copy_(knots - knots[:, k : k + 1] - 1.0)
        if options.get("series"):
            layer.series_affine.copy_(normal(*layer.series_affine.shape, seed=seed + 20))
    return layer


def inside(layer: KANLinear, count: int = 50, seed: int = 2) -> Tensor:
    low, high = layer.domain()
    share = torch.rand(count, layer.in_features, generator=seeded(seed), dtype=torch.float64)
    return (low + (high - low) * share).to(layer.grid)


def everywhere(layer: KANLinear, seed: int = 3) -> Tensor:
    """Random points, all knots, far points."""
    low, high = layer.domain()
    share = 4 * torch.rand(9, layer.in_features, generator=seeded(seed), dtype=torch.float64) - 1.5
    far = torch.tensor([[-30.0], [30.0]], dtype=torch.float64).expand(2, layer.in_features)
    return torch.cat([low + (high - low) * share, layer.grid.mT, far]).to(layer.grid)
