"""A measurement in a process of its own: a module is run with JSON, and answers with JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]  # holds the benchmarks, wherever they are run
TIMEOUT = 180.0  # seconds


def ask(module: str, question: Mapping[str, Any], *, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Run a module in a new process and return its answer.

    Parameters
    ----------
    module : str
        Run as ``python -m module``; takes JSON as its only argument and writes a JSON object as
        its last line.
    question : mapping
        What it is asked.
    timeout : float
        Seconds after which the process is ended.

    Returns
    -------
    dict
        The answer, or ``{"failed": reason}``; with ``"late": True`` where it was the time.

    Examples
    --------
    >>> ask("json.tool", {})["failed"].startswith("process ended with code")
    True
    """
    places = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-W", "ignore", "-m", module, json.dumps(dict(question))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"process ended after {timeout:.0f} s without an answer", "late": True}
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        return {"failed": f"process ended with code {done.returncode}: {last}"}
    try:
        answer = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        answer = None
    return answer if isinstance(answer, dict) else {"failed": "process gave no answer"}


def ask_all(module: str, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ask several questions, two processes at a time; for what does not depend on time.

    Examples
    --------
    >>> ask_all("json.tool", [])
    []
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda question: ask(module, question), questions))
