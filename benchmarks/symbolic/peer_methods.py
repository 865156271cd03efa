"""Other ways from a table to a formula, each with settings for about 1000 rows and a minute.

Every function takes the rows, the time and a seed, and returns a sympy expression in the symbols
``X0``, ``X1``, ...; nothing in the packages is mended. Run as a module with a question in JSON, one
method looks for one equation in a process of its own, which ends when the time is over.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from benchmarks.equations import sample
from benchmarks.harness import Setup
from benchmarks.machine import load, version_of
from benchmarks.symbolic.drawn import equation_of
from benchmarks.symbolic.equivalence import judge
from kanlens.discovery.finding import discover
from kanlens.resources import one_thread

if TYPE_CHECKING:
    import sympy

__all__ = ["METHODS", "Method", "from_gplearn", "from_operon"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Found: TypeAlias = "tuple[sympy.Expr, str]"  # the formula, and why the search ended
OVERTIME = 1.1  # times the limit, after which an answer counts as none
_EXACT = 1e-14  # share of the variance below which a formula explains everything
_SHARE = 0.9  # of the time, at which a search that can be told so ends its last generation
_FOR_SUGGESTIONS = 200  # rows on which pykan compares functions; its time grows with them


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way.

    Attributes
    ----------
    package, distribution : str
        What is imported, and what is installed.
    fit : callable
        From x (row, variable), y (row,), seconds and a seed to a formula and why it ended.
    """

    package: str
    distribution: str
    fit: Callable[[Array, Array, float, int], Found]


def _kanlens(x: Array, y: Array, seconds: float, seed: int) -> Found:
    """Run `discover` as it is."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    names = [f"X{i}" for i in range(x.shape[1])]
    found = discover(x, y, names, time_limit=seconds, generator=generator, progress=False)
    return found.sympy(), found.stopped_because


def _pykan(x: Array, y: Array, seconds: float, seed: int) -> Found:
    """Train a small network of pykan, prune it, and have auto_symbolic read it.

    A [n, k, 1] network, k the number of inputs but 2 or 3, grid 5, order 3; 20 steps of LBFGS with
    ``lamb=0.002`` on y divided by its deviation, prune() as it is, 20 steps without a penalty;
    auto_symbolic with its whole library, on 200 rows, for it takes about 14 seconds an edge on
    1000; 20 steps of the constants. What pykan does on the way is part of the result: the function
    0 has complexity 0 and wins against genuine edges; constants end at the resolution of a grid;
    training after auto_symbolic may give NaN, and then the formula from before is taken; and a grid
    may fail to update once edges are symbolic, so that grids are updated in the first steps only.
    """
    kan = load("kan")
    scale = float(y.std()) or 1.0
    rows = torch.tensor(x, dtype=torch.float32)
    target = torch.tensor(y / scale, dtype=torch.float32)[:, None]
    cut = int(0.8 * len(rows))
    data = dict(zip(("train_input", "test_input"), (rows[:cut], rows[cut:]), strict=True))
    data |= dict(zip(("train_label", "test_label"), (target[:cut], target[cut:]), strict=True))
    width = [x.shape[1], min(max(x.shape[1], 2), 3), 1]
    silent = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(silent),
        contextlib.redirect_stderr(silent),
    ):
        model = kan.KAN(width=width, grid=5, k=3, seed=seed, ckpt_path=folder)
        model.fit(data, opt="LBFGS", steps=20, lamb=0.002)
        model = model.prune()
        model.fit(data, opt="LBFGS", steps=20, update_grid=False)
        model(rows[:_FOR_SUGGESTIONS])
        model.auto_symbolic(verbose=0)
        formula = model.symbolic_formula()[0][0]
        losses = model.fit(data, opt="LBFGS", steps=20, update_grid=False)
        if math.isfinite(float(losses["test_loss"][-1])):
            formula = model.symbolic_formula()[0][0]
    return scale * _renamed(formula, "x_", 1, x.shape[1]), "the formula was read"


def _gplearn(x: Array, y: Array, seconds: float, seed: int) -> Found:
    """Evolve with gplearn, generation by generation until the time is over.

    1000 programs, tournaments of 20, its functions add, sub, mul, div, sqrt, log, neg, inv, sin and
    cos with exp added, constants in [-5, 5], the mean squared error with a thousandth of the
    variance for every node. Nothing in it tunes constants.
    """
    genetic, functions = load("gplearn.genetic"), load("gplearn.functions")
    exp = functions.make_function(function=_bounded_exp, name="exp", arity=1)
    names = ("add", "sub", "mul", "div", "sqrt", "log", "neg", "inv", "sin", "cos")
    model = genetic.SymbolicRegressor(
        population_size=1000,
        generations=1,
        tournament_size=20,
        function_set=(*names, exp),
        const_range=(-5.0, 5.0),
        metric="mse",
        parsimony_coefficient=1e-3 * float(y.var()),
        stopping_criteria=0.0,
        warm_start=True,
        low_memory=True,
        random_state=seed,
    )
    best, text, because = math.inf, "0", "the time was over"
    start = last = time.monotonic()
    longest = 0.0
    while last - start + longest < _SHARE * seconds:
        model.fit(x, y)
        model.set_params(generations=model.generations + 1)
        program = model._program  # the best of the last generation
        if program.raw_fitness_ < best:
            best, text = float(program.raw_fitness_), str(program)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        if best < _EXACT * float(y.var()):
            because = "an exact formula was found"
            break
    return from_gplearn(text, x.shape[1]), because


def _bounded_exp(x: Array) -> Array:
    found: Array = np.exp(np.clip(x, -50.0, 50.0))
    return found


def from_gplearn(text: str, variables: int) -> sympy.Expr:
    """Read a program of gplearn; its protected roots and logarithms take the absolute value.

    Examples
    --------
    >>> from_gplearn("div(sqrt(X0), add(X1, 0.5))", 2)
    sqrt(Abs(X0))/(X1 + 0.5)
    """
    import sympy

    table: dict[str, Any] = {f"X{i}": sympy.Symbol(f"X{i}") for i in range(variables)}
    table |= {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "neg": lambda a: -a,
        "inv": lambda a: 1 / a,
        "sqrt": lambda a: sympy.sqrt(sympy.Abs(a)),
        "log": lambda a: sympy.log(sympy.Abs(a)),
    }
    return sympy.sympify(text, locals=table)


def _operon(x: Array, y: Array, seconds: float, seed: int) -> Found:
    """Evolve with Operon until the time is over.

    1000 trees of at most 50 nodes, R2 and length as objectives, ten steps of Levenberg-Marquardt on
    the constants of every tree, one thread. Its own choice, by description length, supposes errors
    of the size of 1; taken is the shortest formula whose error is a tenth above the least of the
    front, or a millionth of the deviation.
    """
    module = load("pyoperon.sklearn")
    symbols = "add,sub,mul,div,sin,cos,exp,log,sqrt,square,constant,variable"
    model = module.SymbolicRegressor(
        allowed_symbols=symbols,
        objectives=["r2", "length"],
        optimizer_iterations=10,
        population_size=1000,
        generations=100_000,
        max_evaluations=10**9,
        max_length=50,
        n_threads=1,
        max_time=max(1, int(_SHARE * seconds)),
        random_state=seed,
    )
    model.fit(x, y)
    errors = [float(each["mean_squared_error"]) for each in model.pareto_front_]
    most = max(1.1 * min(errors), 1e-12 * float(y.var()))
    near = [e for e, error in zip(model.pareto_front_, errors, strict=True) if error <= most]
    best = min(near, key=lambda each: int(each["length"]))
    text = model.get_model_string(best["tree"], precision=16)
    return from_operon(text, x.shape[1]), "the time was over"


def from_operon(text: str, variables: int) -> sympy.Expr:
    """Read a formula of Operon, which counts variables from 1.

    Examples
    --------
    >>> from_operon("(2.0 * (sin(X1) ^ 2))", 1)
    2.0*sin(X0)**2
    """
    import sympy

    table: dict[str, Any] = {f"X{i + 1}": sympy.Symbol(f"X{i}") for i in range(variables)}
    table["square"] = lambda a: a**2
    return sympy.sympify(text, locals=table)


def _renamed(expression: Any, prefix: str, first: int, variables: int) -> Any:
    """Return a formula with its variables called X0, X1, ..."""
    import sympy

    table = {f"{prefix}{i + first}": sympy.Symbol(f"X{i}") for i in range(variables)}
    known = {symbol: table.get(symbol.name, symbol) for symbol in expression.free_symbols}
    return sympy.sympify(expression).xreplace(known)


METHODS = {
    "kanlens": Method(package="kanlens", distribution="kanlens", fit=_kanlens),
    "pykan": Method(package="kan", distribution="pykan", fit=_pykan),
    "gplearn": Method(package="gplearn", distribution="gplearn", fit=_gplearn),
    "operon": Method(package="pyoperon", distribution="pyoperon", fit=_operon),
}


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Look for an equation by a method.

    Parameters
    ----------
    question : dict
        `method`; and, unless it is only to be imported, `source`, `name`, `noise`, `seed`,
        `limit`, `data` and `smoke`.

    Returns
    -------
    dict
        `version` when nothing was to be found; the columns of `judge`, `seconds` and `stopped`;
        or `failed` with the reason, and `late` when it was the time.
    """
    method = METHODS[question["method"]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(method.package)
            if "name" not in question:
                return {"version": version_of(method.distribution)}
            return _found(method, question)
    except Exception as error:  # noqa: BLE001 - a peer that fails is a row, not the end
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:200]}


def _found(method: Method, question: dict[str, Any]) -> dict[str, Any]:
    import sympy

    data = Path(question["data"]) if question["data"] else None
    setup = Setup(data=data, smoke=question["smoke"])
    equation = equation_of(setup, question["source"], question["name"])
    x, y = sample(equation, question["noise"], question["seed"])
    watch = threading.Timer(OVERTIME * question["limit"], _give_up, [question["limit"]])
    watch.daemon = True
    watch.start()
    start = time.perf_counter()
    try:
        with one_thread():
            formula, stopped = method.fit(x, y, question["limit"], question["seed"])
    finally:
        watch.cancel()
    seconds = time.perf_counter() - start
    own = {sympy.Symbol(f"X{i}"): sympy.Symbol(v) for i, v in enumerate(equation.variables)}
    named = sympy.sympify(formula).xreplace(own)
    verdict = judge(named, equation, stopped, question["seed"])
    return {**verdict, "seconds": seconds, "stopped": stopped, "rows": len(x)}


def _give_up(limit: float) -> None:
    """Answer that the time is over, and end the process."""
    _write({"failed": f"no answer after {OVERTIME * limit:.0f} s", "late": True})
    os._exit(0)


def _write(found: dict[str, Any]) -> None:
    """Write to the output of the process, wherever a method has turned sys.stdout to."""
    sys.stdout.flush()
    os.write(1, f"\n{json.dumps(found)}\n".encode())


if __name__ == "__main__":
    _write(answer(json.loads(sys.argv[1])))
