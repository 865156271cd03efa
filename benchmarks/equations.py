"""Known equations, their data, and whether a formula is one of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmarks.harness import Setup

if TYPE_CHECKING:
    import sympy

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
ROWS = 1000
_TOLERANCE = 1e-6
_RANGE = re.compile(r"(\w+):\[([^,]+),([^\]]+)\]")


@dataclass(frozen=True, kw_only=True)
class Equation:
    """A formula in sympy's syntax, with the ranges of its variables.

    `source` is the file it comes from, `sampling` "uniform:N" or "grid:step", and `tier` how hard
    it is, empty where the file does not say.
    """

    source: str
    name: str
    text: str
    variables: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    sampling: str = f"uniform:{ROWS}"
    tier: str = ""

    @cached_property
    def expression(self) -> sympy.Expr:
        """The formula, in real symbols."""
        import sympy

        symbols = {name: sympy.Symbol(name, real=True) for name in self.variables}
        return sympy.sympify(self.text, locals=symbols)

    @property
    def shape(self) -> str:
        """A text that equations have in common which differ in names and a factor only.

        It holds the formula once per variable, with `v` for that variable and `o` for all others.
        """
        symbols = self.expression.free_symbols
        factors = self.expression.as_independent(*symbols, as_Add=False)
        return " | ".join(sorted(_form(factors[1], name) for name in self.variables))

    def values(self, x: Array) -> Array:
        """Evaluate the formula on rows (row, variable); NaN where it is not real and finite."""
        return evaluate(self.expression, self.variables, x)

    def draw(self, generator: np.random.Generator) -> Array:
        """Return rows as the file says, (row, variable)."""
        kind, _, number = self.sampling.partition(":")
        if kind == "uniform":
            return uniform(self.ranges, int(number), generator)
        step = float(number)
        axes = [np.arange(low, high + step / 2, step) for low, high in self.ranges]
        return np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)

    def wider(self) -> tuple[tuple[float, float], ...]:
        """Return ranges twice as wide about the same middles."""
        half = [(high - low) / 2 for low, high in self.ranges]
        return tuple((a - h, b + h) for (a, b), h in zip(self.ranges, half, strict=True))


def _form(node: Any, own: str) -> str:
    """Write a formula with one variable as `v` and the others as `o`, terms in a fixed order."""
    if node.is_Symbol:
        return "v" if node.name == own else "o"
    if not node.args or not node.free_symbols:
        return str(node)
    parts = [_form(arg, own) for arg in node.args]
    if node.is_Add or node.is_Mul:
        return f"({(' + ' if node.is_Add else '*').join(sorted(parts))})"
    return "^".join(parts) if node.is_Pow else f"{type(node).__name__}({', '.join(parts)})"


def sample(equation: Equation, noise: float, seed: int) -> tuple[Array, Array]:
    """Draw rows (row, variable) where an equation has a value, and the values with noise.

    `noise` is a standard deviation in parts of the root mean square of the values.
    """
    numbers = np.random.default_rng([seed, 1])
    x = equation.draw(numbers)
    truth = equation.values(x)
    x, truth = x[np.isfinite(truth)], truth[np.isfinite(truth)]
    size = float(np.sqrt(np.mean(np.square(truth))))
    return x, truth + noise * size * numbers.normal(size=len(truth))


def uniform(
    ranges: tuple[tuple[float, float], ...], rows: int, generator: np.random.Generator
) -> Array:
    """Draw rows evenly from ranges, (row, variable)."""
    return np.stack([generator.uniform(low, high, rows) for low, high in ranges], axis=1)


def evaluate(expression: Any, variables: tuple[str, ...], x: Array) -> Array:
    """Evaluate a formula on rows (row, variable); NaN where it is not real and finite."""
    import sympy

    plain = {s: sympy.Symbol(s.name) for s in expression.free_symbols}
    arguments = [sympy.Symbol(name) for name in variables]
    function: Callable[..., Any] = sympy.lambdify(arguments, expression.xreplace(plain), "numpy")
    with np.errstate(all="ignore"):
        found = np.broadcast_to(np.asarray(function(*x.T)), (len(x),))
    if np.iscomplexobj(found):
        found = np.where(found.imag == 0, found.real, np.nan)
    found = found.astype(np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def read_equations(path: Path, source: str) -> list[Equation]:
    """Read equations from a CSV file with id, formula, ranges, and maybe sampling and tier."""
    import pandas as pd

    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    found = []
    for row in frame.to_dict("records"):
        parts = _RANGE.findall(row["ranges"])
        found.append(
            Equation(
                source=source,
                name=row["id"],
                text=row["formula"],
                variables=tuple(name for name, _, _ in parts),
                ranges=tuple((float(low), float(high)) for _, low, high in parts),
                sampling=row.get("sampling") or f"uniform:{ROWS}",
                tier=row.get("tier", ""),
            )
        )
    return found


def is_recovered(expression: Any, equation: Equation, generator: np.random.Generator) -> bool:
    """Return whether a formula is an equation but for a constant term or a constant factor.

    Both are compared on fresh rows and on ranges twice as wide, wherever the equation is finite.

    Examples
    --------
    >>> import sympy
    >>> line = Equation(source="", name="", text="2*a", variables=("a",), ranges=((1.0, 2.0),))
    >>> draw = np.random.default_rng(0)
    >>> [is_recovered(sympy.sympify(text), line, draw) for text in ("2*a + 1", "3*a", "a**2")]
    [True, True, False]
    """
    near = uniform(equation.ranges, ROWS, generator)
    x = np.concatenate((near, uniform(equation.wider(), ROWS, generator)))
    truth, found = equation.values(x), evaluate(expression, equation.variables, x)
    finite = np.isfinite(truth)
    inside = finite & (np.arange(len(x)) < len(near))
    if not inside.any() or not np.isfinite(found[finite]).all():
        return False
    scale = np.abs(truth) + float(truth[inside].std()) + 1e-300
    shift = float(np.median((found - truth)[inside]))
    with np.errstate(all="ignore"):
        factor = float(np.nanmedian((found / truth)[inside]))
    tests = (found - truth - shift, found / factor - truth if factor else np.full(len(x), np.inf))
    return any(bool((np.abs(gap) <= _TOLERANCE * scale)[finite].all()) for gap in tests)


def r2_score(expression: Any, equation: Equation, generator: np.random.Generator) -> float:
    """Return the share of an equation's variance on fresh rows that a formula explains."""
    x = uniform(equation.ranges, ROWS, generator)
    truth, found = equation.values(x), evaluate(expression, equation.variables, x)
    finite = np.isfinite(truth)
    gap = (found - truth)[finite]
    if not np.isfinite(gap).all():
        return float("-inf")
    return float(1 - np.mean(np.square(gap)) / truth[finite].var())


FILES = {"feynman": "feynman.csv", "univariate": "univariate.csv"}
EVERY = 3  # equations of which one is taken where all would take too long


def written(source: str, name: str, text: str, variables: str, low: float, high: float) -> Equation:
    """Return an equation whose variables, separated by spaces, have one range."""
    names = tuple(variables.split())
    ranges = ((low, high),) * len(names)
    return Equation(source=source, name=name, text=text, variables=names, ranges=ranges)


BUILT_IN = (
    written("smoke", "product", "a*b/c", "a b c", 1.0, 5.0),
    written("smoke", "wave", "a*sin(b)", "a b", 1.0, 5.0),
    written("smoke", "length", "sqrt(a**2 + b**2)", "a b", 1.0, 5.0),
    written("smoke", "decay", "exp(-a**2/2)", "a", 1.0, 3.0),
    written("smoke", "mean", "(a*b + c*d)/(a + c)", "a b c d", 1.0, 5.0),
)


def equations_of(setup: Setup) -> dict[tuple[str, str], Equation]:
    """Return the equations by source and name; for a smoke run five that need no file."""
    if setup.smoke:
        every = list(BUILT_IN)
    elif setup.data is None:
        every = []
    else:
        paths = {source: setup.data / name for source, name in FILES.items()}
        every = [
            equation
            for source, path in paths.items()
            if path.exists()
            for equation in read_equations(path, source)
        ]
    return {(equation.source, equation.name): equation for equation in every}


def thirds(setup: Setup) -> list[tuple[str, str]]:
    """Return source and name of every third equation; for a smoke run of the first."""
    names = list(equations_of(setup))
    return names[:1] if setup.smoke else names[::EVERY]
