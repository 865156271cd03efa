"""How many functions of kanlens a call enters: what there is to read to follow it."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import torch

import kanlens
from benchmarks.harness import Experiment, Key, Rows, Setup, Units

if TYPE_CHECKING:
    import pandas as pd

LIMITS = {
    "model(x)": 15,
    "fit": 184,  # of which 16 are of the loss, and 6 keep predictions of held-out rows
    "prune": 137,  # 124 where no edge goes
    "symbolize": 411,  # depends on the network that is found
    "attribute": 130,
    "report": 521,  # with results passed
}  # the most functions each may enter
_PACKAGE = str(Path(kanlens.__file__).parent)
_PARTS = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>", "<module>"}  # of a function


def entered(call: Callable[[], Any]) -> set[CodeType]:
    """Return the functions of kanlens that a call enters.

    Examples
    --------
    >>> sorted(code.co_name for code in entered(lambda: kanlens.KAN([1, 1]).widths))[-1]
    'widths'
    """
    found = set()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
    return {
        code
        for code in found
        if code.co_filename.startswith(_PACKAGE) and code.co_name not in _PARTS
    }


def calls(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return the calls of `LIMITS`, on a table of 300 rows and a network of 4, 3 and 1 nodes."""
    import pandas as pd

    generator = torch.Generator().manual_seed(0)
    frame = pd.DataFrame(
        (2 * torch.rand(300, 4, generator=generator) - 1).numpy(), columns=[*"abcd"]
    )
    frame["y"] = torch.sin(3 * torch.tensor(frame.a)).numpy() + frame.b**2
    table = kanlens.read_table(frame, target="y")

    def train() -> kanlens.FitResult:
        new = kanlens.KAN([4, 3, 1], generator=torch.Generator().manual_seed(0)).double()
        return kanlens.fit(new, table, steps=10, progress=False)

    fit, x, y = train(), table.x, table.y
    model, path = fit.model, folder / "report.html"

    @functools.cache
    def results() -> list[object]:
        quiet: dict[str, Any] = {"background": x[::3], "progress": False}
        pairs = kanlens.attribute(model, x[:100], method="interactions", **quiet)
        return [fit, pairs, kanlens.compare(model, x[:40], **quiet)]

    return {
        "model(x)": lambda: model(x),
        "fit": train,
        "prune": lambda: kanlens.prune(model, x, y, budget=0.05, progress=False),
        "symbolize": lambda: kanlens.symbolize(model, x, y, progress=False),
        "attribute": lambda: kanlens.attribute(model, x[:5], method="shapley", background=x[:20]),
        "report": lambda: kanlens.report(model, table, path, results=results(), progress=False),
    }


def _plan(setup: Setup) -> Units:
    return Units(keys=tuple((name,) for name in [*LIMITS][: 1 if setup.smoke else None]))


def _run(setup: Setup, key: Key) -> Rows:
    """Count the functions of one call that was made once before."""
    (name,) = key
    with tempfile.TemporaryDirectory() as folder:
        call = calls(Path(folder))[name]
        call()
        found = entered(call)
    files = {code.co_filename for code in found}
    return [{"functions": len(found), "limit": LIMITS[name], "files": len(files)}]


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"functions entered": frame[["call", "functions", "limit", "files"]]}


FUNCTIONS = Experiment(
    name="functions",
    question="How many functions does a call enter?",
    keys=("call",),
    tables={"workflow-functions": ("functions", "limit", "files")},
    plan=_plan,
    run=_run,
    summary=_summary,
)
