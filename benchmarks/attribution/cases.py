"""Formulas that attributions are tried on: sums, products and layers of functions, and traps.

Every formula is written twice: as text and as edges. Tests compare the two.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution.writing import EVEN, UNIT, Planted, Sheet

CURVED: dict[str, Any] = {"order": 5, "pieces": 48}  # for functions that are no polynomials
STEP = 0.05  # half the width of the step of the threshold
SIGN = 0.1  # half the width of the slope that stands for a sign
WEIGHTS = torch.tensor([1 / i for i in range(1, 11)], dtype=torch.float64)  # of the cosine
SOBOL_G = (0.0, 1.0, 4.5, 9.0, 99.0, 99.0)
FULL = (-math.pi, math.pi)
UNEVEN = (np.exp(np.linspace(math.log(0.8), math.log(12.0), 49)) - 0.5).tolist()


def wave(x: Tensor) -> Tensor:
    """Return sin(pi x)."""
    return torch.sin(torch.pi * x)


def same(x: Tensor) -> Tensor:
    """Return x."""
    return x


def step(u: Tensor) -> Tensor:
    """Rise from 0 to 1 around 1, as two parabolas."""
    t = ((u - 1 + STEP) / (2 * STEP)).clamp(0, 1)
    return torch.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2)


def sign(x: Tensor) -> Tensor:
    """Return the sign of x, with a slope around 0."""
    return (x / SIGN).clamp(-1, 1)


def factor(x: Tensor, a: float) -> Tensor:
    """Return a factor of Sobol's g function."""
    return ((4 * x - 2).abs() + a) / (1 + a)


CASES: dict[str, Planted] = {
    "additive": Planted(
        formula=lambda x: wave(x[:, 0]) + x[:, 1] ** 2 - x[:, 2].exp() / 2 + x[:, 3] ** 3,
        sheets=(
            Sheet(
                edges={
                    (0, 0): wave,
                    (0, 1): torch.square,
                    (0, 2): lambda x: -x.exp() / 2,
                    (0, 3): lambda x: x**3,
                },
                cuts=[EVEN] * 5,
                **CURVED,
            ),
        ),
        null=(4,),
    ),
    "bilinear": Planted(
        formula=lambda x: 2 * x[:, 0] * x[:, 1] + x[:, 2],
        sheets=(
            Sheet(
                edges={(0, 0): same, (0, 1): same, (1, 0): same, (1, 1): torch.neg, (2, 2): same},
                cuts=[EVEN] * 4,
                order=2,
            ),
            Sheet(
                edges={(0, 0): lambda h: h**2 / 2, (0, 1): lambda h: -(h**2) / 2, (0, 2): same},
                cuts=[(-2.0, 2.0), (-2.0, 2.0), EVEN],
                order=2,
            ),
        ),
        null=(3,),
    ),
    "product": Planted(
        formula=lambda x: (1 + x[:, 0] / 2) * x[:, 1] * (x[:, 2] - 0.5) + x[:, 3] ** 2,
        sheets=(
            Sheet(
                edges={
                    (0, 3): torch.square,
                    (1, 0): lambda x: 1 + x / 2,
                    (2, 1): same,
                    (3, 2): lambda x: x - 0.5,
                },
                cuts=[EVEN] * 5,
                order=2,
                products=(3,),
            ),
            Sheet(edges={(0, 0): same, (0, 1): same}, cuts=[UNIT, (-2.25, 2.25)], order=1),
        ),
        null=(4,),
    ),
    "friedman": Planted(
        formula=lambda x: (
            10 * wave(x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
        ),
        sheets=(
            Sheet(
                edges={
                    (0, 2): lambda x: 20 * (x - 0.5) ** 2,
                    (0, 3): lambda x: 10 * x,
                    (0, 4): lambda x: 5 * x,
                    (1, 0): same,
                    (2, 1): same,
                },
                cuts=[UNIT] * 10,
                order=2,
                products=(2,),
            ),
            Sheet(
                edges={(0, 0): same, (0, 1): lambda p: 10 * wave(p)},
                cuts=[(0.0, 20.0), UNIT],
                **CURVED,
            ),
        ),
        null=(5, 6, 7, 8, 9),
    ),
    "ishigami": Planted(
        formula=lambda x: (
            x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin()
        ),
        sheets=(
            Sheet(
                edges={
                    (0, 0): torch.sin,
                    (0, 1): lambda x: 7 * x.sin() ** 2,
                    (1, 0): torch.sin,
                    (2, 2): lambda x: 0.1 * x**4,
                },
                cuts=[FULL] * 3,
                products=(2,),
                order=5,
                pieces=96,
            ),
            Sheet(edges={(0, 0): same, (0, 1): same}, cuts=[(-1.0, 8.0), (-9.8, 9.8)], order=1),
        ),
    ),
    "sobol_g": Planted(
        formula=lambda x: torch.stack([factor(x[:, i], a) for i, a in enumerate(SOBOL_G)]).prod(0),
        sheets=(
            Sheet(
                edges={(i, i): partial(factor, a=a) for i, a in enumerate(SOBOL_G)},
                cuts=[(0.0, 0.5, 1.0)] * len(SOBOL_G),
                order=1,
                products=(len(SOBOL_G),),
            ),
        ),
        kinks=tuple(({i: 1.0}, 0.5) for i in range(len(SOBOL_G))),
    ),
    "exp_sin": Planted(
        formula=lambda x: (wave(x[:, 0]) + x[:, 1] ** 2).exp(),
        sheets=(
            Sheet(edges={(0, 0): wave, (0, 1): torch.square}, cuts=[EVEN] * 2, **CURVED),
            Sheet(edges={(0, 0): torch.exp}, cuts=[(-1.0, 2.0)], **CURVED),
        ),
    ),
    "cosine": Planted(
        formula=lambda x: torch.cos(x @ WEIGHTS),
        sheets=(
            Sheet(
                edges={(0, i): partial(torch.mul, weight) for i, weight in enumerate(WEIGHTS)},
                cuts=[EVEN] * len(WEIGHTS),
            ),
            Sheet(edges={(0, 0): torch.cos}, cuts=[(-2.96, 2.96)], **CURVED),
        ),
    ),
    "deep": Planted(
        formula=lambda x: (
            0.5 + (wave(x[:, 0]) + x[:, 1] ** 2).exp() + (x[:, 2] + x[:, 3]) ** 2
        ).log(),
        sheets=(
            Sheet(
                edges={(0, 0): wave, (0, 1): torch.square, (1, 2): same, (1, 3): same},
                cuts=[EVEN] * 5,
                **CURVED,
            ),
            Sheet(
                edges={(0, 0): torch.exp, (0, 1): torch.square},
                cuts=[(-1.0, 2.0), (-2.0, 2.0)],
                **CURVED,
            ),
            Sheet(edges={(0, 0): lambda u: (0.5 + u).log()}, cuts=[UNEVEN], order=5),
        ),
        null=(4,),
    ),
    "cancellation": Planted(
        formula=lambda x: (1.5 * x[:, 0]).exp() - (1.5 * x[:, 1]).exp(),
        sheets=(
            Sheet(edges={(0, 0): same, (1, 1): same}, cuts=[EVEN] * 3),
            Sheet(
                edges={(0, 0): lambda h: (1.5 * h).exp(), (0, 1): lambda h: -(1.5 * h).exp()},
                cuts=[EVEN] * 2,
                **CURVED,
            ),
        ),
        ties={1: (0, 0.98)},
        null=(2,),
    ),
    "duplicate_both": Planted(
        formula=lambda x: wave((x[:, 0] + x[:, 1]) / 2) + x[:, 2],
        sheets=(
            Sheet(edges={(0, 0): same, (0, 1): same, (1, 2): same}, cuts=[EVEN] * 3),
            Sheet(
                edges={(0, 0): lambda h: wave(h / 2), (0, 1): same},
                cuts=[(-2.0, 2.0), EVEN],
                **CURVED,
            ),
        ),
        ties={1: (0, 1.0)},
    ),
    "duplicate_one": Planted(
        formula=lambda x: wave(x[:, 0]) + x[:, 2],
        sheets=(
            Sheet(edges={(0, 0): same, (1, 2): same}, cuts=[EVEN] * 3),
            Sheet(edges={(0, 0): wave, (0, 1): same}, cuts=[EVEN] * 2, **CURVED),
        ),
        ties={1: (0, 1.0)},
        null=(1,),
    ),
    "threshold": Planted(
        formula=lambda x: step(x[:, 0] + x[:, 1]) + x[:, 2] / 4,
        sheets=(
            Sheet(
                edges={(0, 0): same, (0, 1): same, (1, 2): lambda x: x / 4},
                cuts=[UNIT] * 4,
                order=2,
            ),
            Sheet(
                edges={(0, 0): step, (0, 1): same},
                cuts=[(0.0, 1 - STEP, 1.0, 1 + STEP, 2.0), (0.0, 0.0625, 0.125, 0.1875, 0.25)],
                order=2,
            ),
        ),
        kinks=tuple(({0: 1.0, 1: 1.0}, 1 + shift) for shift in (-STEP, 0.0, STEP)),
        null=(3,),
    ),
    "xor": Planted(
        formula=lambda x: sign(x[:, 0]) * sign(x[:, 1]),
        sheets=(
            Sheet(
                edges={(0, 0): sign, (1, 1): sign},
                cuts=[(-1.0, -SIGN, SIGN, 1.0)] * 3,
                order=1,
                products=(2,),
            ),
        ),
        kinks=tuple(({i: 1.0}, place) for i in (0, 1) for place in (-SIGN, SIGN)),
        null=(2,),
    ),
    "null_features": Planted(
        formula=lambda x: ((wave(x[:, 0]) + x[:, 1]) / 2).exp(),
        sheets=(
            Sheet(  # x3 is masked away, x4 has coefficients of zero, x5 is taken away again
                edges={
                    (0, 0): wave,
                    (0, 1): same,
                    (0, 3): torch.zeros_like,
                    (1, 4): wave,
                    (2, 4): wave,
                },
                cuts=[EVEN] * 5,
                **CURVED,
            ),
            Sheet(
                edges={
                    (0, 0): lambda h: (h / 2).exp(),
                    (0, 1): torch.exp,
                    (0, 2): lambda h: -h.exp(),
                },
                cuts=[(-2.0, 2.0), EVEN, EVEN],
                **CURVED,
            ),
        ),
        null=(2, 3, 4),
    ),
}
