"""Models without finite weights, and tensors without values, are refused by every public call."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kanlens
from kanlens import distributed, plot
from kanlens.errors import DTypeError, InvalidValueError

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = X[:, 0]
BOX = dict.fromkeys(("x1", "x2", "x3"), (0.0, 1.0))
Call = Callable[[Any, Path], object]
CALLS: dict[str, Call] = {
    "attribute": lambda model, folder: kanlens.attribute(model, X, background=X),
    "certify": lambda model, folder: kanlens.certify(model, BOX),
    "compare": lambda model, folder: kanlens.compare(model, X, background=X),
    "edge_scores": lambda model, folder: kanlens.edge_scores(model, X),
    "export": lambda model, folder: kanlens.export(model, folder / "m.py"),
    "fit": lambda model, folder: kanlens.fit(model, (X, Y), steps=1),
    "importance": lambda model, folder: kanlens.importance(model, X),
    "prune": lambda model, folder: kanlens.prune(model, X, Y, budget=0.1),
    "report": lambda model, folder: kanlens.report(model, (X, Y), folder / "r.html"),
    "save": lambda model, folder: kanlens.save(model, folder / "m.safetensors"),
    "sparsity_path": lambda model, folder: kanlens.sparsity_path(model, (X, Y)),
    "suggest": lambda model, folder: kanlens.suggest(model, X),
    "symbolize": lambda model, folder: kanlens.symbolize(model, X, Y),
    "to_splines": lambda model, folder: kanlens.to_splines(model),
    "trace": lambda model, folder: kanlens.trace(model, X),
    "import_model": lambda model, folder: kanlens.import_model(model),
    "plot.network": lambda model, folder: plot.network(model),
    "plot.edge": lambda model, folder: plot.edge(model, 0, 0, 0),
    "plot.edges": lambda model, folder: plot.edges(model, 0),
    "plot.effect": lambda model, folder: plot.effect(model, "x1", X),
    "distributed.attribute": lambda model, folder: distributed.attribute(model, X, folder / "o"),
    "distributed.fit": lambda model, folder: distributed.fit(model, (X, Y), restarts=2),
}


def test_every_public_function_of_a_model_is_listed():
    public = {name: getattr(kanlens, name) for name in kanlens.__all__}
    takes_model = {
        name
        for name, call in public.items()
        if inspect.isfunction(call) and next(iter(inspect.signature(call).parameters)) == "model"
    }
    assert takes_model <= set(CALLS)
    assert len(takes_model) > 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", CALLS)
def test_weights_that_are_not_finite_are_refused(name, value, tmp_path):
    model = kanlens.KAN([3, 4, 1]).double()
    with torch.no_grad():
        model.layers[1].base_weight[0, 1] = value
    text = (
        f"{name.removeprefix('distributed.')}: expected finite numbers in layers.1.base_weight, "
        "got 1 of 4 that are NaN or infinite. The training diverged; train it again."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        CALLS[name](model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CALLS)
def test_weights_without_values_are_refused(name, tmp_path):
    text = (
        f"{name.removeprefix('distributed.')}: expected values in input_shift, got a tensor on "
        "the meta device. Load the weights into the model first."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        CALLS[name](kanlens.KAN([3, 4, 1]).to("meta"), tmp_path)


def test_rows_without_values_are_refused():
    model, nothing = kanlens.KAN([3, 1]).double(), X.to("meta")
    calls = {
        "attribute": lambda: kanlens.attribute(model, nothing, background=X),
        "trace": lambda: kanlens.trace(model, nothing),
        "prune": lambda: kanlens.prune(model, nothing, budget=0.1),
        "fit": lambda: kanlens.fit(model, (nothing, Y)),
    }
    for name, call in calls.items():
        text = f"{name}: expected x to have values, got a tensor on the meta device. "
        with pytest.raises(DTypeError, match=f"^{re.escape(text)}Pass x with its values\\.$"):
            call()
    with pytest.raises(DTypeError, match=r"^fit: expected y to have values, got a tensor on the"):
        kanlens.fit(model, (X, nothing[:, 0]))


def test_features_without_a_range_are_no_fault():
    model = kanlens.KAN([3, 1], extrapolation="linear").double()
    assert not bool(model.input_low.isfinite().any())
    assert kanlens.trace(model, X)
