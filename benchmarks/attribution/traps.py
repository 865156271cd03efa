"""Formulas that mislead: parts that cancel, features that repeat or do nothing, steps, signs."""

from __future__ import annotations

import torch

from benchmarks.attribution.planted import Planted
from benchmarks.attribution.writing import (
    CURVED,
    EVEN,
    SIGN,
    STEP,
    UNIT,
    Sheet,
    same,
    sign,
    step,
    wave,
)

__all__ = ["TRAPS"]


def _cancellation() -> Planted:
    return Planted(
        name="cancellation",
        words="exp(3 x1 / 2) - exp(3 x2 / 2), x2 close to x1",
        formula=lambda x: (1.5 * x[:, 0]).exp() - (1.5 * x[:, 1]).exp(),
        sheets=(
            Sheet(edges={(0, 0): same, (1, 1): same}, cuts=[EVEN] * 3),
            Sheet(
                edges={(0, 0): lambda h: (1.5 * h).exp(), (0, 1): lambda h: -(1.5 * h).exp()},
                cuts=[EVEN] * 2,
                **CURVED,
            ),
        ),
        domain=(EVEN,) * 3,
        ties={1: (0, 0.98)},
        null=(2,),
        direction=(1, -1, 0),
    )


def _duplicate_both() -> Planted:
    return Planted(
        name="duplicate_both",
        words="sin(pi (x1 + x2)/2) + x3, x2 = x1",
        formula=lambda x: wave((x[:, 0] + x[:, 1]) / 2) + x[:, 2],
        sheets=(
            Sheet(edges={(0, 0): same, (0, 1): same, (1, 2): same}, cuts=[EVEN] * 3),
            Sheet(
                edges={(0, 0): lambda h: wave(h / 2), (0, 1): same},
                cuts=[(-2.0, 2.0), EVEN],
                **CURVED,
            ),
        ),
        domain=(EVEN,) * 3,
        ties={1: (0, 1.0)},
        direction=(0, 0, 1),
    )


def _duplicate_one() -> Planted:
    return Planted(
        name="duplicate_one",
        words="sin(pi x1) + x3, x2 = x1",
        formula=lambda x: wave(x[:, 0]) + x[:, 2],
        sheets=(
            Sheet(edges={(0, 0): same, (1, 2): same}, cuts=[EVEN] * 3),
            Sheet(edges={(0, 0): wave, (0, 1): same}, cuts=[EVEN] * 2, **CURVED),
        ),
        domain=(EVEN,) * 3,
        ties={1: (0, 1.0)},
        null=(1,),
        direction=(0, 0, 1),
    )


def _threshold() -> Planted:
    return Planted(
        name="threshold",
        words="step(x1 + x2 - 1) + x3/4",
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
        domain=(UNIT,) * 4,
        ties={},
        kinks=tuple(({0: 1.0, 1: 1.0}, 1 + shift) for shift in (-STEP, 0.0, STEP)),
        null=(3,),
        direction=(1, 1, 1, 0),
        panels=20,
        points=4,
    )


def _xor() -> Planted:
    return Planted(
        name="xor",
        words="sign(x1) sign(x2), signs with a slope at 0",
        formula=lambda x: sign(x[:, 0]) * sign(x[:, 1]),
        sheets=(
            Sheet(
                edges={(0, 0): sign, (1, 1): sign},
                cuts=[(-1.0, -SIGN, SIGN, 1.0)] * 3,
                order=1,
                products=(2,),
            ),
        ),
        domain=(EVEN,) * 3,
        ties={},
        kinks=tuple(({i: 1.0}, place) for i in (0, 1) for place in (-SIGN, SIGN)),
        null=(2,),
        direction=(0, 0, 0),
        points=4,
    )


def _null() -> Planted:
    return Planted(
        name="null_features",
        words="exp((sin(pi x1) + x2)/2)",
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
        domain=(EVEN,) * 5,
        ties={},
        null=(2, 3, 4),
        direction=(0, 1, 0, 0, 0),
    )


TRAPS = (
    _cancellation(),
    _duplicate_both(),
    _duplicate_one(),
    _threshold(),
    _xor(),
    _null(),
)
