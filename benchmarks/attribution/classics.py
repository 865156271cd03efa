"""Formulas that attributions are often tried on, from a sum of functions to three layers.

Every formula stands here twice: once as it is written, and once as edges. Tests compare the two.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution import closed_forms
from benchmarks.attribution.planted import Planted
from benchmarks.attribution.writing import CURVED, EVEN, UNIT, Sheet, opposite, same, wave

__all__ = ["CLASSICS", "COSINE", "ISHIGAMI", "SOBOL_G"]

ISHIGAMI = (7.0, 0.1)
COSINE = tuple(1 / i for i in range(1, 11))
SOBOL_G = (0.0, 1.0, 4.5, 9.0, 99.0, 99.0)


def _additive() -> Planted:
    return Planted(
        name="additive",
        words="sin(pi x1) + x2^2 - exp(x3)/2 + x4^3",
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
        domain=(EVEN,) * 5,
        ties={},
        null=(4,),
        direction=(0, 0, -1, 1, 0),
        closed=closed_forms.additive,
    )


def _bilinear() -> Planted:
    return Planted(
        name="bilinear",
        words="2 x1 x2 + x3",
        formula=lambda x: 2 * x[:, 0] * x[:, 1] + x[:, 2],
        sheets=(
            Sheet(
                edges={
                    (0, 0): same,
                    (0, 1): same,
                    (1, 0): same,
                    (1, 1): opposite,
                    (2, 2): same,
                },
                cuts=[EVEN] * 4,
                order=2,
            ),
            Sheet(
                edges={
                    (0, 0): lambda h: h**2 / 2,
                    (0, 1): lambda h: -(h**2) / 2,
                    (0, 2): same,
                },
                cuts=[(-2.0, 2.0), (-2.0, 2.0), EVEN],
                order=2,
            ),
        ),
        domain=(EVEN,) * 4,
        ties={},
        null=(3,),
        direction=(0, 0, 1, 0),
        closed=closed_forms.bilinear,
    )


def _product() -> Planted:
    return Planted(
        name="product",
        words="(1 + x1/2) x2 (x3 - 1/2) + x4^2",
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
        domain=(EVEN,) * 5,
        ties={},
        null=(4,),
        direction=(0, 0, 0, 0, 0),
    )


def _friedman() -> Planted:
    return Planted(
        name="friedman",
        words="10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5",
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
        domain=(UNIT,) * 10,
        ties={},
        null=(5, 6, 7, 8, 9),
        direction=(0, 0, 0, 1, 1, 0, 0, 0, 0, 0),
        points=14,
    )


def _ishigami() -> Planted:
    a, b = ISHIGAMI
    full = (-math.pi, math.pi)
    return Planted(
        name="ishigami",
        words="sin(x1) + 7 sin(x2)^2 + 0.1 x3^4 sin(x1)",
        formula=lambda x: x[:, 0].sin() + a * x[:, 1].sin() ** 2 + b * x[:, 2] ** 4 * x[:, 0].sin(),
        sheets=(
            Sheet(
                edges={
                    (0, 0): torch.sin,
                    (0, 1): lambda x: a * x.sin() ** 2,
                    (1, 0): torch.sin,
                    (2, 2): lambda x: b * x**4,
                },
                cuts=[full] * 3,
                products=(2,),
                order=5,
                pieces=96,
            ),
            Sheet(edges={(0, 0): same, (0, 1): same}, cuts=[(-1.0, 8.0), (-9.8, 9.8)], order=1),
        ),
        domain=(full,) * 3,
        ties={},
        direction=(0, 0, 0),
        points=40,
        closed=lambda: closed_forms.ishigami(a, b),
    )


def _sobol_g() -> Planted:
    def factor(x: Tensor, a: float) -> Tensor:
        return ((4 * x - 2).abs() + a) / (1 + a)

    def formula(x: Tensor) -> Tensor:
        return torch.stack([factor(x[:, i], a) for i, a in enumerate(SOBOL_G)]).prod(0)

    d = len(SOBOL_G)
    return Planted(
        name="sobol_g",
        words="prod_i (|4 xi - 2| + ai) / (1 + ai), a = 0, 1, 4.5, 9, 99, 99",
        formula=formula,
        sheets=(
            Sheet(
                edges={(i, i): partial(factor, a=a) for i, a in enumerate(SOBOL_G)},
                cuts=[(0.0, 0.5, 1.0)] * d,
                order=1,
                products=(d,),
            ),
        ),
        domain=(UNIT,) * d,
        ties={},
        kinks=tuple(({i: 1.0}, 0.5) for i in range(d)),
        direction=(0,) * d,
        points=2,
        closed=lambda: closed_forms.sobol_g(SOBOL_G),
    )


def _exp_sin() -> Planted:
    return Planted(
        name="exp_sin",
        words="exp(sin(pi x1) + x2^2)",
        formula=lambda x: (wave(x[:, 0]) + x[:, 1] ** 2).exp(),
        sheets=(
            Sheet(edges={(0, 0): wave, (0, 1): torch.square}, cuts=[EVEN] * 2, **CURVED),
            Sheet(edges={(0, 0): torch.exp}, cuts=[(-1.0, 2.0)], **CURVED),
        ),
        domain=(EVEN,) * 2,
        ties={},
        direction=(0, 0),
    )


def _cosine() -> Planted:
    weights, d = torch.tensor(COSINE, dtype=torch.float64), len(COSINE)
    most = 1.01 * sum(COSINE)
    return Planted(
        name="cosine",
        words="cos(x1 + x2/2 + x3/3 + ... + x10/10)",
        formula=lambda x: torch.cos(x @ weights),
        sheets=(
            Sheet(
                edges={(0, i): partial(torch.mul, w) for i, w in enumerate(weights)},
                cuts=[EVEN] * d,
            ),
            Sheet(edges={(0, 0): torch.cos}, cuts=[(-most, most)], **CURVED),
        ),
        domain=(EVEN,) * d,
        ties={},
        direction=(0,) * d,
        closed=lambda: closed_forms.cosine(COSINE),
    )


def _deep() -> Planted:
    spread = np.exp(np.linspace(math.log(0.8), math.log(12.0), 49)) - 0.5
    return Planted(
        name="deep",
        words="log(1/2 + exp(sin(pi x1) + x2^2) + (x3 + x4)^2)",
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
            Sheet(edges={(0, 0): lambda u: (0.5 + u).log()}, cuts=[spread.tolist()], order=5),
        ),
        domain=(EVEN,) * 5,
        ties={},
        null=(4,),
        direction=(0, 0, 0, 0, 0),
    )


CLASSICS = (
    _additive(),
    _bilinear(),
    _product(),
    _friedman(),
    _ishigami(),
    _sobol_g(),
    _exp_sin(),
    _cosine(),
    _deep(),
)
