"""The equations of a run: those of the suites, or a few that need no file."""

from __future__ import annotations

from benchmarks.campaign import Setup
from benchmarks.symbolic.recovery_equations import Equation, read_equations

__all__ = ["BUILT_IN", "EVERY", "equations_of", "thirds"]

FILES = {"feynman": "feynman.csv", "univariate": "univariate.csv"}
EVERY = 3  # equations of which one is taken where all would take too long
BUILT_IN = (
    Equation(
        source="smoke",
        name="product",
        text="a*b/c",
        variables=("a", "b", "c"),
        ranges=((1.0, 5.0),) * 3,
    ),
    Equation(
        source="smoke", name="wave", text="a*sin(b)", variables=("a", "b"), ranges=((1.0, 5.0),) * 2
    ),
    Equation(
        source="smoke",
        name="length",
        text="sqrt(a**2 + b**2)",
        variables=("a", "b"),
        ranges=((1.0, 5.0),) * 2,
    ),
    Equation(
        source="smoke", name="decay", text="exp(-a**2/2)", variables=("a",), ranges=((1.0, 3.0),)
    ),
    Equation(
        source="smoke",
        name="mean",
        text="(a*b + c*d)/(a + c)",
        variables=("a", "b", "c", "d"),
        ranges=((1.0, 5.0),) * 4,
    ),
)


def equations_of(setup: Setup) -> dict[tuple[str, str], Equation]:
    """Return the equations by source and name; for a smoke run five that need no file.

    Examples
    --------
    >>> len(equations_of(Setup(smoke=True)))
    5
    """
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
    """Return source and name of every third equation; for a smoke run of the first.

    Examples
    --------
    >>> thirds(Setup(smoke=True))
    [('smoke', 'product')]
    """
    names = list(equations_of(setup))
    return names[:1] if setup.smoke else names[::EVERY]
