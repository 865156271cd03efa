"""Formulas of curves: elementary functions and sums of powers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import sympy
import torch

from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, eliminate, relative_error, solve
from kanlens.discovery._search_problem import TRANSFORMS, Transform
from kanlens.functions._catalog import FUNCTIONS
from kanlens.symbolic._composition import Expr, stretched
from kanlens.symbolic._edge_fitting import EdgeSamples, fit_edges
from kanlens.symbolic._library import library

U = sympy.Symbol("_u", real=True)


@dataclass(frozen=True, eq=False)
class CurveFormula:
    """A formula for a curve."""

    error: float  # the lesser of the relative squared errors of curve and transform
    price: float  # for its length
    make: Callable[[], Expr]

    def score(self, epsilon: float) -> float:
        """Return a criterion of error and length; epsilon is the noise."""
        return float(tuned.INDEPENDENT * np.log(self.error + epsilon) + self.price)

    @cached_property
    def expression(self) -> Expr:
        """Formula in the symbol `U`."""
        return self.make()


_UNDO = {"id": "id", "sq": "sqrt", "inv": "inv", "sqrt": "sq", "log": "exp", "exp": "log"}
_BY_NAME = {transform.name: transform for transform in TRANSFORMS}
_INNER = {name: _BY_NAME[undone] for name, undone in _UNDO.items()}  # by the name of its inverse


def _fits_inside(name: str, x: Array) -> bool:
    """Return whether the inner function `name` is allowed on the values of a column."""
    if name == "exp":
        return bool(np.abs(x).max() < tuned.EXPONENT_INSIDE)
    if name == "sq":
        return bool(x.min() < 0 < x.max() or x.min() > 0)
    return name == "id" or clear(x)


def clear(x: Array) -> bool:
    """Return whether a column is positive, and not close to zero."""
    return bool(x.min() > tuned.CLEAR_OF_ZERO * x.max() and x.min() > 0)


def written(
    x: Array, values: Sequence[Array], names: Sequence[Expr], *, most: int, **options: Any
) -> Iterator[list[Expr]]:
    """Yield lists of one formula per curve: the best ones, then with one replaced at a time."""
    for curves in fit_curves(x, values, **options):
        for choice in itertools.islice(_choices(curves), most):
            pairs = zip(choice, names, strict=True)
            yield [curve.expression.xreplace({U: name}) for curve, name in pairs]


def _choices(options: list[list[CurveFormula]]) -> Iterator[list[CurveFormula]]:
    ranks = range(3 if len(options) > 1 else 1)
    yield from ([curves[min(r, len(curves) - 1)] for curves in options] for r in ranks)
    best = [curves[0] for curves in options]
    swaps = ((rank, k) for k, curves in enumerate(options) for rank in range(1, len(curves)))
    for rank, k in sorted(swaps):
        yield [*best[:k], options[k][rank], *best[k + 1 :]]


def fit_curves(
    x: Array,
    values: Sequence[Array],
    *,
    outer: Sequence[str] = ("id",),
    inner: Sequence[str] = ("id",),
    epsilon: float = tuned.CURVE_ERROR,
    count: int = tuned.CURVES_KEPT,
) -> Iterator[list[list[CurveFormula]]]:
    """Yield a list of formulas for each curve, given x (curve, point); short ones first."""
    formulas = [_powers(x[k], v, outer) for k, v in enumerate(values)]
    own, level = {"id"}, min(tuned.AS_NEAR * epsilon, tuned.NEAR_CURVE)
    rest, nothing = set(inner) - own, set[str]()
    turns = (nothing, 1, tuned.SHORT_SUM), (own, count, np.inf), (rest, count, np.inf)
    for names, most, price in turns:
        jobs = [
            (k, transform, under)
            for k, value in enumerate(values)
            for transform in TRANSFORMS
            if transform.name in outer and transform.fits(value)
            for under in inner
            if under in names and _fits_inside(under, x[k])
        ]
        for (k, *_), curves in zip(jobs, _families(jobs, x, values), strict=True):
            formulas[k] += curves
        ranked = [_ranked(curves, epsilon)[:most] for curves in formulas]
        near = [[c for c in curves if c.error < level and c.price < price] for curves in ranked]
        if names <= own and all(near):
            yield near
    yield ranked


def _ranked(curves: list[CurveFormula], epsilon: float) -> list[CurveFormula]:
    """Order by score, alternating between two noise levels."""
    levels = (epsilon, tuned.LESS_WELL) if epsilon < tuned.LESS_WELL else (epsilon,)
    orders = [sorted(curves, key=lambda c: c.score(level)) for level in levels]
    return list(dict.fromkeys(curve for turn in zip(*orders, strict=True) for curve in turn))


_CurveJob = tuple[int, Transform, str]  # curve, transform of its values, name of the inner function


def _families(jobs: list[_CurveJob], x: Array, values: Sequence[Array]) -> list[list[CurveFormula]]:
    """Fit every function to the curves of all jobs."""
    if not jobs:
        return []
    inputs, targets, points = [], [], len(x[0])
    for k, transform, under in jobs:
        u, t = _INNER[under].inverse(x[k]), transform.value(values[k])
        grid = np.linspace(u.min(), u.max(), points)
        rising = np.argsort(u)
        even = np.interp(grid, u[rising], t[rising]) if under != "id" else t
        inputs.append(np.concatenate((grid, u)))
        targets.append(np.concatenate((even, t)))
    count = points if all(under == "id" for *_, under in jobs) else 2 * points
    xs, ys = (torch.from_numpy(np.stack(each)[:, :count]) for each in (inputs, targets))
    samples = EdgeSamples(x=xs, y=ys, low=xs.amin(1), high=xs.amax(1), uniform=points)
    fits = fit_edges(samples, library(), most=tuned.FAMILIES)
    orders = fits.r2.nan_to_num(-1e9).argsort(1, descending=True)[:, : tuned.FAMILIES].tolist()
    return [
        [
            _curve(job, fits.families[f].name, fits.parameters[row, f], x, values)
            for f in order
            if bool(torch.isfinite(fits.parameters[row, f]).all())
        ]
        for row, (job, order) in enumerate(zip(jobs, orders, strict=True))
    ]


def _curve(
    job: _CurveJob, name: str, parameters: torch.Tensor, x: Array, values: Sequence[Array]
) -> CurveFormula:
    k, transform, under = job
    a, b, c, d = (float(p) for p in parameters)
    function, inner = FUNCTIONS[name], _INNER[under]
    with np.errstate(all="ignore"):
        u = torch.from_numpy(a * inner.inverse(x[k]) + b)
        fit = c * function.value(u).numpy() + d
    numbers = 2 + (a != 1.0) + (abs(b) > 1e-6 * abs(a))
    size = function.complexity + tuned.TRANSFORM_PRICE[transform.name] + tuned.INNER_PRICE[under]

    def make() -> Expr:
        expression = stretched(name, (a, b, c, d), inner.expression(U))
        return transform.side(values[k]) * transform.expression(expression)

    return CurveFormula(_error(transform, fit, values[k]), _price(numbers, size), make)


def _price(numbers: int, size: int) -> float:
    return float(numbers * np.log(tuned.INDEPENDENT) + tuned.CURVE_NODE * size)


def _error(transform: Transform, fit: Array, value: Array) -> float:
    """Return the smaller of the errors with and without the transform."""
    with np.errstate(all="ignore"):
        back = transform.side(value) * transform.inverse(fit)
        return min(relative_error(back, value), relative_error(fit, transform.value(value)))


def _powers(x: Array, value: Array, outer: Sequence[str]) -> list[CurveFormula]:
    """Fit short sums of powers to one curve and its transforms."""
    positive = x.min() > tuned.CLEAR_OF_ZERO * x.max()
    return [
        formula
        for transform in TRANSFORMS
        if transform.name in outer and transform.fits(value)
        for powers in (*tuned.POWER_SUMS, *(tuned.POSITIVE_POWER_SUMS if positive else ()))
        for formula in _sums(x, value, transform, powers)
    ]


def _sums(
    x: Array, value: Array, transform: Transform, powers: Sequence[float]
) -> list[CurveFormula]:
    every, target = (0.0, *powers), transform.value(value)
    matrix = np.stack([x**p for p in every], axis=1)

    def make(terms: list[int], coefficients: Array) -> Expr:
        pairs = zip(coefficients.tolist(), terms, strict=True)
        total = sympy.Add(*(sympy.Float(c) * U ** sympy.Rational(every[k]) for c, k in pairs))
        return transform.side(value) * transform.expression(total)

    formulas = []
    for _, terms in eliminate(matrix, target)[:2]:
        coefficients = solve(matrix[:, terms], target)
        error = _error(transform, matrix[:, terms] @ coefficients, value)
        price = _price(len(terms), 2 * len(terms) + tuned.TRANSFORM_PRICE[transform.name])
        formulas.append(CurveFormula(error, price, partial(make, terms, coefficients)))
    return formulas
