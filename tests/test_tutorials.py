"""Tutorials run, keep what their prose promises, and the notebooks are made from them."""

from __future__ import annotations

import ast
import json
import re
import runpy
import time
from pathlib import Path

import jupytext
import pytest
from matplotlib import pyplot

FOLDER = Path(__file__).parent.parent / "tutorials"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
SMALLER = {  # what a tutorial takes, and what it takes here, to be quick
    "01": {"torch.rand(1000, 2": "torch.rand(500, 2"},
    "02": {"strengths, steps = [0.01, 0.03, 0.1, 0.3], 10": "strengths, steps = [0.01, 0.03], 2"},
    "04": {
        "table = kanlens": "frame = measured(rows=150, noise=0.005, seed=0)\ntable = kanlens",
        "KAN([4, 4, 1]": "KAN([4, 2, 1]",
        "steps=60": "steps=12",
        "starts=2": "starts=1",
        "time_limit=20": "time_limit=1",
        'frame["v"], progress=False)\nprint(read)': (
            'frame["v"], progress=False, functions=["x", "exp", "log"])\nprint(read)'
        ),
        "random_state=0).fit(x[train], y[train])": "random_state=0).fit(x[:60], y[:60])",
    },
    "05": {
        "n_samples=600": "n_samples=200",
        "steps=100": "steps=5",
        "frame[:100], frame[:50]": "frame[:20], frame[:10]",
        "rows[:30]": "rows[:3]",
        "background=background[:20]": "background=background[:3]",
    },
    "06": {"rows = 800": "rows = 300", "steps=120": "steps=20", "max_boxes=4096": "max_boxes=256"},
    "07": {"(300, 3)": "(80, 3)", "max_boxes=400": "max_boxes=50", "max_rows=100": "max_rows=20"},
    "08": {"rows = 2000": "rows = 250"},
    "09": {"rows = 600": "rows = 450"},
}


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


def smaller(script: str, number: str) -> str:
    """Return a script with the sizes that tests take."""
    for size, small in SMALLER.get(number, {}).items():
        if size not in script:
            raise LookupError(size)
        script = script.replace(size, small)
    return script


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
    script = (
        "def f():\n    from kanlens.splines import _spline as spline\nimport benchmarks.machine"
    )
    assert sorted(inner(script)) == ["benchmarks.machine", "kanlens.splines"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_opens_with_one_line_of_imports(script):
    first = next(c for c in jupytext.read(script).cells if c.cell_type == "code")
    nodes = ast.parse(first.source).body
    assert isinstance(nodes[0], ast.Import)
    rest = [node for node in nodes[1:] if isinstance(node, ast.Import)]
    assert rest == [], "plain imports stand on the first line"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_picture_is_explained_in_words(script):
    cells = jupytext.read(script).cells
    drawn = [i for i, cell in enumerate(cells) if "kanlens.plot." in cell.source]
    silent = [i for i in drawn if cells[i + 1 : i + 2] == [] or cells[i + 1].cell_type == "code"]
    assert [cells[i].source for i in silent] == []


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_tutorial_runs(script, tmp_path, monkeypatch):
    here = tmp_path / "tutorials"
    here.mkdir()
    (tmp_path / "figures").symlink_to(FOLDER.parent / "figures")
    (here / "checkpoints").symlink_to(FOLDER / "checkpoints")
    small = tmp_path / script.name
    small.write_text(smaller(script.read_text(), script.name[:2]))
    monkeypatch.chdir(here)
    monkeypatch.setattr(time, "monotonic", time.process_time)  # searches end by what they worked
    runpy.run_path(str(small), run_name="__main__")
    pyplot.close("all")
    assert [path.name for path in here.iterdir()] == ["checkpoints"]


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
