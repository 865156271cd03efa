"""Ctrl-C at any step: what was found until then is returned, and said to be no more than that."""

import contextlib
import re

import numpy as np
import pytest
import torch

from kanlens.symbolic import _assignment as assignment
from kanlens.symbolic import _path as path
from kanlens.symbolic import _simplification as simplification
from kanlens.symbolic import _symbolize as symbolize_module
from kanlens.symbolic._symbolize import suggest, symbolize
from tests.symbolic.made import spline_network, toy

TEXT = "symbolize: interrupted. Results so far are returned."


@pytest.fixture(scope="module")
def made():
    return toy()


def raising(monkeypatch, module, name, *, call=1):
    """Make the n-th call of a function an interrupt."""
    original, count = getattr(module, name), []

    def interrupted(*arguments, **options):
        count.append(None)
        if len(count) == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "call", "splines"),
    [
        (assignment, "rank_candidates", 1, {"f_0_0_0", "f_0_0_1", "f_1_0_0"}),
        (assignment, "rank_candidates", 2, {"f_1_0_0"}),
        (assignment, "refit", 1, set()),
        (simplification, "refine", 1, set()),
        (simplification, "snap", 1, set()),
        (path, "_settled", 1, set()),
        (path, "_mixed_stages", 1, set()),
    ],
)
def test_formulas_found_until_then(made, monkeypatch, module, name, call, splines):
    model, x, y = made
    raising(monkeypatch, module, name, call=call)
    with pytest.warns(UserWarning, match=f"^{re.escape(TEXT)}$"):
        found = symbolize(model, x, y)
    assert set(found.receipt.spline_edges) == splines
    assert np.isfinite(found.predict(x)).all()
    assert found.get_best()["loss"] < 1e-3
    assert (found.model(x) - model(x)).abs().max() < 0.1
    snapped = found.get_best()["stage"] == "snapped"
    assert snapped == (name in ("_settled", "_mixed_stages"))
    if snapped:
        assert found.get_best()["equation"] == "exp(x2**2 + sin(pi*x1))"


def test_suggestions_of_a_wide_layer_come_in_parts(monkeypatch):
    model, x = spline_network([[[torch.sin] * 4] * 2], [(-2.0, 2.0)] * 4)
    whole = suggest(model, x, functions=["sin"])
    monkeypatch.setattr(assignment, "AT_ONCE", 3)
    assert suggest(model, x, functions=["sin"]).equals(whole)
    raising(monkeypatch, assignment, "rank_candidates", call=3)
    with pytest.warns(UserWarning, match="^suggest: "):
        some = suggest(model, x, functions=["sin"])
    assert some.equals(whole.iloc[: len(some)])
    assert len(some) == 6 * 2


@pytest.mark.slow  # derives formulas
def test_progress_is_shown(made, monkeypatch):
    model, x, y = made
    bars = []

    def bar(description, total, *, shown=None):
        bars.append([description, total, 0, shown])

        def advance(steps=1, note=""):
            bars[-1][2] += steps

        return contextlib.nullcontext(advance)

    monkeypatch.setattr(symbolize_module, "progress_bar", bar)
    suggest(model, x)
    symbolize(model, x, y, functions=["x"], refine=False, snap=False, progress=False)
    assert bars == [["suggest", 3, 3, None], ["symbolize", 5, 5, False]]
