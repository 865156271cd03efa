"""Models of tables with raw cells of every kind, and tables with cells that training had not."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import kanlens
from kanlens._model_inputs import adopt_data
from kanlens.exporters import FORMATS
from kanlens.exporters._exported_model import Export
from kanlens.model._network import KAN

CLASSES = {
    "two": ["no", "yes"],
    "numbers": [3, 7],
    "three": ["O'Hara", "plain", 'say "é"'],
    "codes": [0, 1, 2],
}
GAPS = {  # a table that begins with a full row: blanks and unseen texts follow
    'si"ze': [20.5, None, 80.0, 30.0, 44.0],
    "rooms": [3.0, 2.0, None, 5.0, -9.0],
    "flag": [0.0, None, 1.0, 1.0, 0.0],
    "town": ["Rome", None, "Oslo", "rome", "?"],
    "garden": ["yes", "no", "perhaps", None, "no"],
    "sunny": ["True", "False", None, "True", "False"],
    "zone": ["2", "30", "10", None, "2"],
    "sold": [
        "2020-02-29 13:07:00",
        None,
        "2021-12-31 23:59:59",
        "2019-11-04 00:00:00",
        "2021-01-01 06:30:00",
    ],
}


def gaps() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in GAPS.items()})


def houses(rows: int = 60) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    days = pd.Timestamp("2019-11-03 05:00") + pd.to_timedelta(draws.uniform(0, 900, rows), unit="D")
    frame = pd.DataFrame(
        {
            'si"ze': draws.uniform(10, 90, rows),
            "rooms": draws.integers(1, 6, rows).astype(float),
            "flag": draws.integers(0, 2, rows).astype(float),
            "town": draws.choice(["O'Fallon", "Rome", "Yörk #1"], rows),
            "garden": draws.choice(["no", "yes"], rows),
            "sunny": draws.choice([True, False], rows),
            "zone": draws.choice([2, 10, 30], rows).astype(str),
            "sold": days.strftime("%Y-%m-%d %H:%M:%S"),
        }
    ).astype(object)
    for row, name in enumerate(["rooms", "flag", "town", "sold"]):
        frame.loc[row, name] = None
        frame.loc[row + 20, name] = {"rooms": -9.0, "town": "?"}.get(name)
    return frame


@functools.cache
def described(kind: str, impute: str | None = None) -> KAN:
    """A network that knows that table: for numbers, or for one of the CLASSES."""
    frame, draws = houses(), np.random.default_rng(1)
    values: Any = draws.uniform(1, 2, len(frame))
    task = "regression" if kind == "numbers of y" else "classification"
    if task == "classification":
        values = draws.choice(np.array(CLASSES[kind], dtype=object), len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = kanlens.read_table(
            frame.assign(y=values),
            target="y",
            task=task,
            impute=impute,
            na=["-9", "?"],
            categorical=["zone"],
        )
        outputs = max(1, len(table.schema.outputs))
        widths = [len(table.schema.features), 2, outputs]
        small = {"grid_size": 2, "spline_order": 2}
        model = KAN(widths, **small, generator=torch.Generator().manual_seed(0)).double()
        model.input_shift.copy_(table.x.mean(0))
        model.input_scale.copy_(table.x.std(0))
        adopt_data(model, table)
    return model


def answers(model: KAN, name: str, folder: Path, frame: pd.DataFrame) -> list[np.ndarray]:
    """Write a file, and return what it says of a frame that was not there when it was written."""
    path = folder / f"model{FORMATS[name].ending}"
    FORMATS[name].write(Export(model=model, path=path), path)
    subject = Export(model=model, path=path)
    vars(subject)["frame"] = frame.astype(object).where(frame.notna(), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(FORMATS[name].run(subject, path))


def wanted(model: KAN, frame: pd.DataFrame) -> np.ndarray:
    """What the model says of a frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(frame).detach().numpy()
