"""Functions that edges of planted networks have, and where they live."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

UNIT, EVEN = (0.0, 1.0), (-1.0, 1.0)
CURVED: dict[str, Any] = {"order": 5, "pieces": 48}  # for functions that are no polynomials
STEP = 0.05  # half the width of the step of the threshold
SIGN = 0.1  # half the width of the slope that stands for a sign


def wave(x: Tensor) -> Tensor:
    """Return sin(pi x)."""
    return torch.sin(torch.pi * x)


def same(x: Tensor) -> Tensor:
    """Return x."""
    return x


def opposite(x: Tensor) -> Tensor:
    """Return -x."""
    return -x


def step(u: Tensor) -> Tensor:
    """Rise from 0 to 1 around 1, as two parabolas.

    Examples
    --------
    >>> step(torch.tensor([0.0, 0.95, 1.0, 1.05, 2.0]))
    tensor([0.0000, 0.0000, 0.5000, 1.0000, 1.0000])
    """
    t = ((u - 1 + STEP) / (2 * STEP)).clamp(0, 1)
    return torch.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2)


def sign(x: Tensor) -> Tensor:
    """Return the sign of x, with a slope around 0.

    Examples
    --------
    >>> sign(torch.tensor([-1.0, 0.05, 1.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    return (x / SIGN).clamp(-1, 1)
