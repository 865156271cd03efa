"""Tutorials run, keep what their prose promises, and the notebooks are made from them."""

from __future__ import annotations

import ast
import json
import re
import runpy
import time
from pathlib import Path

import jupytext
import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot

FOLDER = Path(__file__).parent.parent / "tutorials"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def faults(script: str, notebook: dict) -> list[str]:
    """Say in what a notebook is not the executed form of a script."""
    source = [c.source for c in jupytext.reads(script, fmt="py:percent").cells]
    cells = notebook["cells"]
    found = []
    if source != ["".join(cell["source"]) for cell in cells]:
        found.append("cells differ from the script's")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        found.append("not executed in order")
    if any(out["output_type"] == "error" for cell in code for out in cell["outputs"]):
        found.append("an output holds an error")
    if any(out.get("name") == "stderr" for cell in code for out in cell["outputs"]):
        found.append("a warning was printed")
    for cell in code:
        source = "".join(cell["source"])
        drawn = re.search(r"\bplot\.(?!save|to_svg)|\bplt\.(?:subplots|figure)", source)
        if drawn and not any("image/png" in out.get("data", {}) for out in cell["outputs"]):
            found.append("a picture is not shown")
    return found


def inner(script: str) -> list[str]:
    """List what a script imports of this project beyond its public names."""
    found = []
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return [name for name in found if name.startswith(("kanlens.", "benchmarks", "tests"))]


def test_there_are_tutorials():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_imports_public_names_only(script):
    assert inner(script.read_text()) == []


def test_an_import_of_inner_names_is_noticed():
    assert inner("import kanlens\nfrom kanlens import fit\nimport torch") == []
    script = "def f():\n    from kanlens.splines import spline\nimport benchmarks.machine"
    assert sorted(inner(script)) == ["benchmarks.machine", "kanlens.splines"]


@pytest.fixture
def settings_kept():
    """What tutorials set for themselves is as before."""
    with matplotlib.rc_context():
        yield
    pyplot.close("all")
    for name in ("display.max_columns", "display.width", "display.max_colwidth"):
        pd.reset_option(name)


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_runs(script, tmp_path, monkeypatch, settings_kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KANLENS_SMOKE", "1")
    monkeypatch.setattr(time, "monotonic", time.process_time)  # searches end by what they worked
    runpy.run_path(str(script), run_name="__main__")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_is_made_from_the_script(script):
    notebook = json.loads(script.with_suffix(".ipynb").read_text())
    assert faults(script.read_text(), notebook) == []


def test_a_stale_notebook_is_noticed():
    script = "# %%\nx = 1\n"
    cell = {"cell_type": "code", "source": ["x = 1"], "execution_count": 1, "outputs": []}
    assert faults(script, {"cells": [cell]}) == []
    assert faults(script, {"cells": [{**cell, "source": ["x = 2"]}]}) != []
    assert faults(script, {"cells": [{**cell, "execution_count": None}]}) != []
    broken = {**cell, "outputs": [{"output_type": "error"}]}
    assert faults(script, {"cells": [broken]}) != []
    warned = {**cell, "outputs": [{"output_type": "stream", "name": "stderr"}]}
    assert faults(script, {"cells": [warned]}) != []
    script = "# %%\nkanlens.plot.network(model)\n"
    cell = {**cell, "source": ["kanlens.plot.network(model)"]}
    assert faults(script, {"cells": [cell]}) == ["a picture is not shown"]
    shown = {**cell, "outputs": [{"output_type": "display_data", "data": {"image/png": ""}}]}
    assert faults(script, {"cells": [shown]}) == []
