"""Problems of known functions, and the front of what is found of them."""

import numpy as np
import sympy

from kanlens._runtime import Deadline
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._search_problem import SearchProblem
from tests.symbolic.conftest import clock, time_of_the_process

__all__ = ["clock", "time_of_the_process"]
NAMES = sympy.symbols("a b c d f g", real=True)


def problem(function, width=2, *, low=1.0, high=4.0, count=300, noise=0.0, seed=0):
    """Return the problem of a function of uniform columns, with noise relative to its size."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(low, high, (count, width))
    if isinstance(function, str):
        function = sympy.lambdify(NAMES[:width], sympy.sympify(function, locals=LOCALS), "numpy")
    y = function(*x.T)
    y = y + noise * np.sqrt(np.mean(y**2)) * draw.normal(size=count)
    return SearchProblem(x, NAMES[:width], y, np.arange(count) % 3 == 0)


LOCALS = {name.name: name for name in NAMES}


def front_of(given, seconds=600.0):
    front = Front(given, Deadline.after(seconds))
    front.start()
    return front


def solved(ansatz, given):
    """Return the formula that one ansatz finds, with its error."""
    front = front_of(given)
    ansatz.submit(given, front)
    front.refit()
    return front.chosen()
