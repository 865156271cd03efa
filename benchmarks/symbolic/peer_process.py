"""One method and one equation in a process of its own, which ends when the time is over.

Run as ``python -m benchmarks.symbolic.peer_process QUESTION``, both in JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.campaign import Setup
from benchmarks.packages import load, version_of
from benchmarks.symbolic.judging import judge
from benchmarks.symbolic.peer_methods import METHODS, Method
from benchmarks.symbolic.recovery_equations import sample
from benchmarks.symbolic.suites import equations_of
from kanlens.threads import one_thread

OVERTIME = 1.1  # times the limit, after which an answer counts as none


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
    equation = equations_of(setup)[question["source"], question["name"]]
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
