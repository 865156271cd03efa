"""A model without some features takes the tables it was trained on, in any order of columns."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import kanlens
from kanlens.attribution import edge_band, effect, terms
from kanlens.errors import DataError, ShapeError

ROWS = 60


@cache
def pruned() -> tuple[kanlens.KAN, pd.DataFrame]:
    """A model of one number and a category; its table has two more columns, and the target."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(ROWS, 2)), columns=["noise", "size"])
    frame["town"] = random.choice(["A", "B", "C"], ROWS)
    frame["day"] = pd.date_range("2020-01-01", periods=ROWS).astype(str)
    frame["y"] = np.sin(frame["size"]) + (frame["town"] == "B")
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([len(table.feature_names), 1], generator=generator).double()
    model = kanlens.fit(model, table, steps=5, progress=False, generator=generator).model
    names = table.feature_names
    lost = [k for k, name in enumerate(names) if name.startswith(("noise", "day"))]
    with torch.no_grad():
        model.layers[0].mask[:, lost] = 0
    model = kanlens.prune(model, table, threshold=1e-9, progress=False).model
    assert set(model.feature_names) == set(names) - {names[k] for k in lost}
    return model, frame


@cache
def inputs() -> dict[str, Any]:
    _, frame = pruned()
    shuffled = frame[["y", "town", "day", "size", "noise"]]
    return {
        "frame": frame,
        "shuffled frame": shuffled,
        "table": kanlens.read_table(frame, target="y"),
        "shuffled table": kanlens.read_table(shuffled, target="y"),
        "table without a target": kanlens.read_table(shuffled.drop(columns="y")),
    }


def figure(draw: Any, *arguments: Any, **options: Any) -> np.ndarray[Any, Any]:
    """Return all numbers of the lines of a picture."""
    ax = draw(*arguments, ax=Figure().subplots(), **options)
    lines = [line for panel in [ax, *ax.child_axes] for line in panel.lines]
    return np.concatenate([np.asarray(line.get_xydata()).ravel() for line in lines])


CALLS: dict[str, Any] = {
    "the model": lambda model, x, y: model(x).detach(),
    "attribute": lambda model, x, y: kanlens.attribute(model, x).values,
    "attribute, background": lambda model, x, y: (
        kanlens.attribute(model, pruned()[1][:3], background=x).values
    ),
    "importance": lambda model, x, y: kanlens.importance(model, x)["importance"],
    "effect": lambda model, x, y: effect(model, "size", x).values,
    "terms": lambda model, x, y: terms(model, x).terms[0].values,
    "edge_band": lambda model, x, y: edge_band(model, 0, 0, "size", x, y),
    "trace": lambda model, x, y: kanlens.trace(model, x).x,
    "symbolize": lambda model, x, y: kanlens.symbolize(
        model, x, functions=["x", "sin"], refine=False, snap=False
    ).predict(x),
    "fit": lambda model, x, y: (
        kanlens.fit(copy.deepcopy(model), (x, y), steps=1, progress=False).loss
    ),
    "edit": lambda model, x, y: kanlens.edit(model, x).remove("town").diff(x, by="size").values,
    "plot.effect": lambda model, x, y: figure(kanlens.plot.effect, model, "size", x),
    "plot.terms": lambda model, x, y: figure(kanlens.plot.terms, model, x),
    "plot.edge": lambda model, x, y: figure(kanlens.plot.edge, model, 0, 0, "size", data=x),
}


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("call", CALLS)
def test_columns_are_found_by_name(call):
    model, frame = pruned()
    y = torch.from_numpy(frame["y"].to_numpy().copy())
    x = kanlens.read_table(frame, target="y").keep(model.feature_names).x
    generator = torch.random.get_rng_state()
    expected = np.asarray(CALLS[call](model, x, y), dtype=float)
    for name, rows in inputs().items():
        torch.random.set_rng_state(generator)
        values = np.asarray(CALLS[call](model, rows, y), dtype=float)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12, err_msg=name)


def test_arrays_of_another_width_and_tables_without_a_column_are_refused():
    model, frame = pruned()
    table = kanlens.read_table(frame, target="y")
    text = r"The model takes 4 features \(size, town=A, town=B, town=C\); pass only those"
    for x in (table.x, table.x.numpy()):
        with pytest.raises(ShapeError, match=text):
            effect(model, "size", x)
        with pytest.raises(ShapeError, match=text):
            model(x)
    with pytest.raises(DataError, match=r"effect: .*expected a column 'size'"):
        effect(model, "town", frame.drop(columns="size"))


@pytest.mark.slow  # takes a while
def test_an_estimator_with_a_pruned_network_predicts_from_its_table():
    _, frame = pruned()
    x = frame[["noise", "size", "town"]]
    estimator = kanlens.KANRegressor(hidden=(), random_state=0).fit(x, frame["y"])
    full = estimator.predict(x)
    network = copy.deepcopy(estimator.network_)
    with torch.no_grad():
        network.layers[0].mask[:, network.feature_names.index("noise")] = 0
    background = network.background
    estimator.model_ = kanlens.prune(network, background, threshold=1e-9, progress=False).model
    assert "noise" not in estimator.network_.feature_names
    expected = estimator.network_(x).detach()[:, 0]
    np.testing.assert_allclose(estimator.predict(x), expected, rtol=0, atol=1e-12)
    assert np.abs(full - expected.numpy()).max() > 0
