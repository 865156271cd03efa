"""Formulas of drawn structure, which no suite of equations holds.

Eight kinds of structure in turn, 200 formulas a suite: one to tune the search with, one to judge
it. Features are drawn, 2 to 6 of them, and where they stand, functions, powers and coefficients.
A draw counts where its values are finite, where no part is lost beside another or straight in what
it is a function of, and where every feature matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from benchmarks.equations import Array, Equation, evaluate

Draw: TypeAlias = np.random.Generator
SUITES = {"tuning": 0, "judging": 1}  # by the seeds that they are drawn with
COUNT = 200
MOST_DRAWS = 5000
POWERS = (*("1",) * 6, "2", "-1", "1/2")
RANGES = ((1.0, 3.0), (1.0, 5.0), (0.5, 2.0), (0.2, 1.5), (-1.0, 2.0), (-2.0, 2.0))
_FELT = 0.05  # least share of the spread of a sum's largest term that the others have
_MATTERS = 0.02  # least share of the variance that goes with a feature
_BENT = 0.01  # least share of the variance of a function that is not straight in its argument
_CLEAR = 0.02  # least over largest size of what divides
_LONGEST = 24  # operations
_WIDEST = 12.0  # range of the argument of a function
_LARGEST = 1e4  # value, and one over the least spread
_PEAK = 10.0  # deviations from the mean of the farthest value


def _coefficient(draw: Draw) -> Any:
    """Return 1, or a number of two digits."""
    import sympy

    return sympy.Rational(10 if draw.random() < 0.5 else int(draw.integers(3, 31)), 10)


def _groups(draw: Draw, names: Sequence[Any], count: int) -> list[list[Any]]:
    """Deal features out to so many groups, none of them empty."""
    order = [names[i] for i in draw.permutation(len(names))]
    cuts = sorted(draw.choice(np.arange(1, len(order)), count - 1, replace=False))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]


def _product(draw: Draw, names: Iterable[Any]) -> Any:
    """Return a product of powers, most of them 1."""
    import sympy

    return math.prod(name ** sympy.Rational(POWERS[draw.integers(len(POWERS))]) for name in names)


def _argument(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a product, a difference or a sum."""
    if len(names) > 1 and draw.random() < 0.4:
        one, two = _groups(draw, names, 2)
        sign = 1 if draw.random() < 0.3 else -1
        return _product(draw, one) + sign * _product(draw, two)
    return _product(draw, names)


def _applied(draw: Draw, argument: Any, of: str = "exp sin cos root square inverse log") -> Any:
    """Return a function of an argument times a coefficient."""
    import sympy

    sign = 1 if draw.random() < 0.4 else -1
    functions: dict[str, Callable[[Any], Any]] = {
        "exp": lambda u: sympy.exp(sign * u),
        "sin": sympy.sin,
        "cos": sympy.cos,
        "root": lambda u: sympy.sqrt(u + draw.integers(2)),
        "square": lambda u: u**2,
        "inverse": lambda u: 1 / (u + draw.integers(2)),
        "log": lambda u: sympy.log(u + draw.integers(2)),
        "tanh": sympy.tanh,
        "atan": sympy.atan,
    }
    return functions[str(draw.choice(of.split()))](_coefficient(draw) * argument)


def _sum(draw: Draw, terms: Sequence[Any]) -> Any:
    signs = draw.choice([1, 1, -1], len(terms))
    return sum(int(s) * _coefficient(draw) * t for s, t in zip(signs, terms, strict=True))


def _shared(draw: Draw, names: Sequence[Any], count: int) -> list[list[Any]]:
    """Deal features out to groups, then give some of them to a second group."""
    groups = _groups(draw, names, min(count, len(names)))
    for name in draw.choice(np.array(names), size=draw.integers(1, 3)):
        groups[draw.integers(len(groups))].append(name)
    return [list(dict.fromkeys(group)) for group in groups]


def _several(draw: Draw, names: Sequence[Any], most: int = 3) -> list[list[Any]]:
    """Deal features out to two groups or more."""
    return _groups(draw, names, int(draw.integers(2, min(most, len(names)) + 1)))


def _outer(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a function of a sum of products."""
    total = _sum(draw, [_product(draw, group) for group in _several(draw, names)])
    return _applied(draw, total, "exp sin cos root inverse log tanh atan")


def _parts(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a product of functions whose arguments are products, differences or sums."""
    return math.prod(_applied(draw, _argument(draw, g)) for g in _several(draw, names))


def _quotient(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a quotient of two sums that share factors."""
    above = [_product(draw, group) for group in _shared(draw, names, 2)]
    below = [_product(draw, group) for group in _shared(draw, names[::-1], 2)]
    return _sum(draw, above) / _sum(draw, below)


def _terms(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a sum of products with functions, whose terms share features."""
    terms = []
    for group in _shared(draw, names, 2):
        inside, *outside = _groups(draw, group, min(2, len(group)))
        terms.append(_product(draw, chain(*outside)) * _applied(draw, _argument(draw, inside)))
    return _sum(draw, terms)


def _additive(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a sum of products and of functions of single features."""
    groups = _several(draw, names, 4)
    terms = [_applied(draw, g[0]) if len(g) == 1 else _product(draw, g) for g in groups]
    return _sum(draw, terms)


def _monomial(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a product of powers with a sum of two."""
    one, two, *rest = _groups(draw, names, min(3, len(names)))
    total = _sum(draw, [_product(draw, one), _product(draw, two)])
    powers = [-2, -1, 1, 2] if rest else [-2, -1, 2]
    return _product(draw, chain(*rest)) * total ** int(draw.choice(powers))


def _nested(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a function of a sum of functions of single features."""
    inner = [_applied(draw, _product(draw, group)) for group in _several(draw, names)]
    return _applied(draw, _sum(draw, inner), "exp sin root inverse log square tanh")


def _fraction(draw: Draw, names: Sequence[Any]) -> Any:
    """Return a product of powers over one and a product."""
    above, below = _groups(draw, names, 2)
    share = 1 + _coefficient(draw) * _product(draw, below)
    return _coefficient(draw) * _product(draw, above) / share


KINDS: Mapping[str, Callable[[Draw, Sequence[Any]], Any]] = {
    "outer": _outer,
    "parts": _parts,
    "quotient": _quotient,
    "terms": _terms,
    "additive": _additive,
    "monomial": _monomial,
    "nested": _nested,
    "fraction": _fraction,
}


def is_sound(equation: Equation, x: Array) -> bool:
    """Say whether a formula is finite, all of it is felt, and every feature matters."""
    import sympy

    y = equation.values(x)
    if not np.isfinite(y).all() or np.abs(y).max() > _LARGEST or y.std() < 1 / _LARGEST:
        return False
    peak = np.abs(y - y.mean()).max() > _PEAK * y.std()
    if peak or not all(_matters(equation, x, y, i) for i in range(x.shape[1])):
        return False
    every = sympy.preorder_traversal(equation.expression)
    return all(_felt(node, equation, x) for node in every if node.args and node.free_symbols)


def _matters(equation: Equation, x: Array, y: Array, i: int) -> bool:
    moved = x.copy()
    moved[:, i] = np.roll(x[:, i], 1)
    change = float(np.nanmean(np.square(equation.values(moved) - y)))
    return not change < 2 * _MATTERS * y.var()


@np.errstate(all="ignore")
def _felt(node: Any, equation: Equation, x: Array) -> bool:
    """Say whether the terms of a sum are of like spread, and a function is not straight."""
    parts = [arg for arg in node.args if arg.free_symbols]
    values = [evaluate(part, equation.variables, x) for part in parts]
    if not all(np.isfinite(v).all() for v in values) or node.is_Mul:
        return bool(node.is_Mul)
    if node.is_Add:
        spreads = [float(v.std()) for v in values]
        return min(spreads) > _FELT * max(spreads)
    if node.is_Pow and node.exp.is_Rational and not _is_plain(node, values[0]):
        return False
    made = evaluate(node, equation.variables, x)
    straight = float(np.corrcoef(values[0], made)[0, 1]) ** 2 if np.ptp(made) > 0 else 1.0
    return straight < 1 - _BENT and (node.is_Pow or float(np.ptp(values[0])) < _WIDEST)


def _is_plain(power: Any, base: Array) -> bool:
    """Say whether a power is of halves, and what it divides by is clear of zero."""
    clear = np.abs(base).min() > _CLEAR * np.abs(base).max() and (base * base[0] > 0).all()
    return bool((2 * power.exp).is_Integer and (power.exp > 0 or clear))


def names_of(count: int = COUNT) -> list[str]:
    """Return the names of the formulas of a suite: kind and number."""
    return [f"{list(KINDS)[number % len(KINDS)]} {number:03d}" for number in range(count)]


def drawn(suite: str, name: str) -> Equation:
    """Draw one formula of a suite, until it is sound.

    Examples
    --------
    >>> drawn("tuning", "fraction 031").text
    'a**2/(b + 1)'
    """
    import sympy

    kind, number = name.split()
    draw = np.random.default_rng([SUITES[suite], int(number)])
    names = tuple("abcdfg"[: draw.integers(2, 7)])
    symbols = [sympy.Symbol(each, real=True) for each in names]
    for _ in range(MOST_DRAWS):
        made = KINDS[kind](draw, symbols)
        equation = Equation(
            source=suite,
            name=name,
            text=str(made),
            variables=names,
            ranges=tuple(RANGES[k] for k in draw.integers(len(RANGES), size=len(names))),
            tier=kind,
        )
        short = made.free_symbols == set(symbols) and made.count_ops() <= _LONGEST
        if short and is_sound(equation, equation.draw(np.random.default_rng([0, 1]))):
            return equation
    raise ValueError(f"drawn: no sound formula {name} in {MOST_DRAWS} draws")
