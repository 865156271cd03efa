"""The registry of elementary functions.

A symbolic edge is ``c * g(a * u + b) + d`` with g one entry of `FUNCTIONS`.
"""

from __future__ import annotations

import copyreg
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kanlens._checks import check_choice, nearest
from kanlens._lazy import sympy
from kanlens.errors import InvalidValueError
from kanlens.functions import _activations as activations
from kanlens.functions import _families as families
from kanlens.functions._elementary import Domain, ElementaryFunction, Scalar, Symmetry, of_sympy

_REGISTER = "Register it first, with kanlens.register_function"
_IN_TANH = re.compile(r"T([1-9][0-9]?)\(tanh\)")
USUAL = {"approximate": "none", "alpha": 1.0, "beta": 1.0, "negative_slope": 0.01, "threshold": 20}
"""Parameter values of torch's activations that the functions of the catalog assume."""


def find_function(name: str, *, call: str = "find_function") -> ElementaryFunction:
    """Return the function of a name or alias."""
    if family := _IN_TANH.fullmatch(name):
        return families.chebyshev_in_tanh(int(family[1]))
    if families.RATIONAL.fullmatch(name):
        return families.rational(name)
    name = ALIASES.get(name, name)
    check_choice(call, "function", name, FUNCTIONS)
    return FUNCTIONS[name]


copyreg.pickle(ElementaryFunction, lambda entry: (find_function, (entry.name,)))


def check_functions(call: str, names: Iterable[str]) -> None:
    """Refuse names that are not in the registry."""
    for name in sorted(set(names) - set(FUNCTIONS)):
        if nearest(name, FUNCTIONS) is not None:
            check_choice(call, "function", name, FUNCTIONS)
        raise InvalidValueError(call, "registered functions", repr(name), _REGISTER)


def base_name(base: object, *, call: str = "base_activation", others: Iterable[str] = ()) -> str:
    """Return the key in `BASES` for a name, torch class or function; errors list `others` too."""
    if isinstance(base, str) and base in BASES:
        return base
    kind = base if isinstance(base, type) else type(base)
    usual = all(getattr(base, name, value) == value for name, value in USUAL.items())
    for name, entry in BASES.items():
        if usual and any(base is form or kind is form for form in (entry, *entry.torch_forms)):
            return name
    names = sorted({*BASES, *others})
    hint = nearest(base, names) if isinstance(base, str) else None
    advice = f"Did you mean {hint!r}?" if hint else _REGISTER
    expected = f"to be one of {', '.join(names)}"
    got = base.__name__ if isinstance(base, type) else repr(base)
    raise InvalidValueError(call, expected, got, advice, argument="base_activation")


def _analyzed(**facts: Any) -> ElementaryFunction:
    """Return a function without turning points, unless `turns` or a closed form has some."""
    turns = () if facts.get("closed_form") else ((), (), ())
    return ElementaryFunction(**{"turns": turns, **facts})


def _power(name: str, exponent: float, complexity: int) -> ElementaryFunction:
    """Return u**exponent for a whole (int) or half (float) exponent."""
    whole, positive = isinstance(exponent, int), exponent > 0
    domain: Domain = "nonnegative" if positive else "positive"
    if whole:
        domain = "real" if positive else "nonzero"
    symmetry: Symmetry = "even" if exponent % 2 == 0 else "odd"
    return _analyzed(
        name=name,
        value=lambda u: u**exponent,
        derivative=lambda u: exponent * u ** (exponent - 1),
        expression=lambda u: u ** sympy.Rational(round(2 * exponent), 2),
        complexity=complexity,
        domain=domain,
        symmetry=symmetry if whole else None,
        degree=float(exponent),
        closed_form=(
            lambda u, n: np.asarray(math.perm(int(exponent), n) * u ** max(exponent - n, 0))
        )
        if whole and positive
        else None,
    )


def _cubic(name: str, slope: int) -> ElementaryFunction:
    """Return u**3 + slope * u, for a slope of -1 or 1."""
    return _analyzed(
        name=name,
        value=lambda u: u**3 + slope * u,
        derivative=lambda u: 3 * u**2 + slope,
        expression=lambda u: u**3 + slope * u,
        complexity=4,
        symmetry="odd",
        turns=((-(3**-0.5), 3**-0.5) if slope < 0 else (), (0.0,), ()),
    )


def _common(name: str, complexity: int, derivative: Scalar, **facts: Any) -> ElementaryFunction:
    """Return a function that has the same name in torch and sympy, except for "arc"."""
    return _analyzed(
        name=name,
        value=getattr(torch, name),
        derivative=derivative,
        expression=of_sympy(name.replace("arc", "a")),
        complexity=complexity,
        **facts,
    )


_ALGEBRAIC = (
    _analyzed(
        name="constant",
        value=torch.zeros_like,
        derivative=torch.zeros_like,
        expression=lambda u: sympy.Integer(0),
        complexity=0,
        line=0.0,
        closed_form=lambda u, n: np.zeros_like(u),
        primitive=np.zeros_like,
    ),
    _analyzed(
        name="x",
        value=lambda u: u,
        derivative=torch.ones_like,
        expression=lambda u: u,
        complexity=1,
        symmetry="odd",
        degree=1.0,
        line=1.0,
        torch_forms=(nn.Identity,),
        closed_form=lambda u, n: u.copy() if n == 0 else np.full_like(u, float(n == 1)),
        primitive=lambda u: 0.5 * u * u,
    ),
    _power("x^2", 2, 2),
    _power("x^3", 3, 3),
    _power("x^4", 4, 3),
    _power("x^5", 5, 3),
    _power("1/x", -1, 2),
    _power("1/x^2", -2, 2),
    _power("1/x^3", -3, 3),
    _power("1/x^4", -4, 4),
    _cubic("x^3-x", -1),  # with x^3 and x^3+x, every cubic up to a, b, c, d
    _cubic("x^3+x", 1),
    _power("sqrt", 0.5, 2),
    _power("1/sqrt", -0.5, 3),
    _power("x^1.5", 1.5, 4),
    _power("1/x^1.5", -1.5, 4),
    _analyzed(
        name="1/(1+x^2)",
        value=lambda u: 1 / (1 + u**2),
        derivative=lambda u: -2 * u / (1 + u**2) ** 2,
        expression=lambda u: 1 / (1 + u**2),
        complexity=4,
        symmetry="even",
        turns=((0.0,), (-(3**-0.5), 3**-0.5), (-1.0, 0.0, 1.0)),
    ),
    _analyzed(
        name="sqrt(1+x^2)",
        value=lambda u: torch.sqrt(1 + u**2),
        derivative=lambda u: u / torch.sqrt(1 + u**2),
        expression=lambda u: sympy.sqrt(1 + u**2),
        complexity=4,
        symmetry="even",
        turns=((0.0,), (), (0.0,)),
    ),
    _analyzed(
        name="1/sqrt(1-x^2)",
        value=lambda u: torch.rsqrt(1 - u**2),
        derivative=lambda u: u * torch.rsqrt(1 - u**2) ** 3,
        expression=lambda u: 1 / sympy.sqrt(1 - u**2),
        complexity=5,
        domain="open unit",
        symmetry="even",
        turns=((0.0,), (), (0.0,)),
    ),
    _analyzed(
        name="abs",
        value=torch.abs,
        derivative=torch.sign,
        expression=of_sympy("Abs"),
        complexity=3,
        symmetry="even",
        degree=1.0,
        kinks=(0.0,),
        closed_form=lambda u, n: np.asarray(np.sign(u) * float(n == 1) if n else np.abs(u)),
        primitive=lambda u: 0.5 * u * np.abs(u),
    ),
    _analyzed(
        name="sign",
        value=lambda u: torch.where(torch.isnan(u), u, torch.sign(u)),
        derivative=torch.zeros_like,
        expression=of_sympy("sign"),
        complexity=3,
        symmetry="odd",
        degree=0.0,
        jumps=(0.0,),
    ),
    _analyzed(
        name="relu",
        value=torch.relu,
        derivative=lambda u: (u > 0).to(u.dtype),
        expression=lambda u: sympy.Max(u, 0),
        complexity=3,
        degree=1.0,
        kinks=(0.0,),
        torch_forms=(nn.ReLU, torch.relu, functional.relu),
        closed_form=lambda u, n: np.asarray((u > 0) * float(n == 1) if n else np.maximum(u, 0.0)),
        primitive=lambda u: 0.5 * np.maximum(u, 0.0) ** 2,
    ),
)

_TRANSCENDENTAL = (
    _common("exp", 2, torch.exp, closed_form=lambda u, n: np.exp(u), primitive=np.expm1),
    _common("log", 2, lambda u: torch.where(u >= 0, u, math.nan).reciprocal(), domain="positive"),
    _common(
        "sin",
        2,
        torch.cos,
        symmetry="odd",
        period=2 * math.pi,
        torch_forms=(torch.sin,),
        closed_form=lambda u, n: np.sin(u + 0.5 * math.pi * n) if n else np.sin(u),
        primitive=lambda u: 2 * np.sin(0.5 * u) ** 2,
    ),
    _common(
        "tan",
        3,
        lambda u: 1 + torch.tan(u) ** 2,
        domain="tangent",
        symmetry="odd",
        turns=((), (0.0,), ()),
        period=math.pi,
    ),
    _common(
        "tanh",
        3,
        activations.tanh_slope,
        symmetry="odd",
        torch_forms=(nn.Tanh, torch.tanh, functional.tanh),
        together=activations.tanh_pair,
        closed_form=activations.tanh_nth,
        primitive=activations.tanh_integral,
    ),
    _common(
        "arctan",
        4,
        lambda u: 1 / (1 + u**2),
        symmetry="odd",
        turns=((), (0.0,), (-(3**-0.5), 3**-0.5)),
    ),
    _common(
        "arcsin",
        4,
        lambda u: torch.rsqrt(1 - u**2),
        domain="unit",
        symmetry="odd",
        turns=((), (0.0,), ()),
    ),
    _common(
        "arctanh",
        4,
        lambda u: 1 / (1 - torch.where(u.abs() <= 1, u, math.nan) ** 2),
        domain="open unit",
        symmetry="odd",
        turns=((), (0.0,), ()),
    ),
    _analyzed(
        name="gaussian",
        value=lambda u: torch.exp(-(u**2)),
        derivative=lambda u: -2 * u * torch.exp(-(u**2)),
        expression=lambda u: sympy.exp(-(u**2)),
        complexity=3,
        symmetry="even",
        closed_form=families.gaussian_nth,
        primitive=families.gaussian_integral,
    ),
    _common("cosh", 3, torch.sinh, symmetry="even", turns=((0.0,), (), (0.0,))),
    _common("sinh", 4, torch.cosh, symmetry="odd", turns=((), (0.0,), ())),
)

FUNCTIONS: dict[str, ElementaryFunction] = {
    entry.name: entry
    for entry in (*_ALGEBRAIC, *_TRANSCENDENTAL, *activations.GATED, *families.LOCALIZED)
}
"""Every elementary function by name, in the order of a table of functions."""

_ALIKE = "silu gelu tanh softplus mish elu leaky_relu hardswish relu sin"
BASES: dict[str, ElementaryFunction] = {
    "identity": FUNCTIONS["x"],
    "zero": FUNCTIONS["constant"],
    "sigmoid": FUNCTIONS["logistic"],
    **{name: FUNCTIONS[name] for name in _ALIKE.split()},
}
"""The base activations by the names that layers and files give them, and registered functions."""

ALIASES: dict[str, str] = {
    "linear": "x",
    "cos": "sin",
    "sigmoid": "tanh",
    "square": "x^2",
    "1/x^0.5": "1/sqrt",
    "x^0.5": "sqrt",
    "lorentzian": "1/(1+x^2)",
}
"""Other names of the same families: with free phase and scale, cos is sin and sigmoid is tanh."""
