"""Constant against uniform initial weights, on MNIST and on tables.

efficient-kan first filled `base_weight` with `scale_base` and `spline_scaler` with `scale_spline`,
both 1; today it draws both as torch.nn.Linear draws its weights, evenly between -1/sqrt(in) and
1/sqrt(in).
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.data import TABLES, data_file, rows_of, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.problems import Pair
from benchmarks.sparsity.recipes import Recipe, parameters, train
from benchmarks.statistics import grouped
from kanlens.errors import FileFormatError
from kanlens.model.network import KAN

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MNIST_SEEDS",
    "MNIST_WIDTHS",
    "STARTS",
    "STARTS_BY_NAME",
    "Start",
    "images",
    "mnist",
    "small_digits",
]

MNIST_SEEDS = 3  # the first ones
MNIST_WIDTHS = (784, 64, 10)
TABLE_ROWS = 4000  # most rows of a table to train on
TABLE_STEPS = 2000  # about; as many passes as that takes
HIDDEN = 10
HEADERS = {"images": 16, "labels": 8}  # bytes
SHORT = 3  # passes of the starts that only tell which part of the first two matters


@dataclass(frozen=True, kw_only=True)
class Start:
    """Initial weights.

    Attributes
    ----------
    base, scaler : float or None
        Constants of the base weights and the scalers; None for drawn ones.
    beyond : str
        How splines go on beyond the grid, as `KANLinear` takes it.
    short : bool
        Whether it is trained for fewer passes, on MNIST alone.
    """

    base: float | None = None
    scaler: float | None = None
    beyond: str = "zero"
    short: bool = False


STARTS_BY_NAME = {
    "uniform": Start(),
    "constant 1": Start(base=1.0, scaler=1.0),
    "base constant 1": Start(base=1.0),
    "scaler constant 1": Start(scaler=1.0, short=True),
    "constant 0.1": Start(base=0.1, scaler=0.1, short=True),
    "constant 1, splines go on straight": Start(base=1.0, scaler=1.0, beyond="linear", short=True),
}


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        some = list(STARTS_BY_NAME)[:2]
        return Units(keys=tuple(("digits", start, 0) for start in some))
    keys: list[Key] = []
    found, skipped = there(("mnist", *TABLES), lambda name: _rows(name, setup.data))
    for name in found:
        seeds = setup.seeds[:MNIST_SEEDS] if name == "mnist" else setup.seeds
        starts = [key for key, s in STARTS_BY_NAME.items() if name == "mnist" or not s.short]
        keys += [(name, start, seed) for start in starts for seed in seeds]
    return Units(keys=tuple(keys), skipped=skipped)


def mnist(folder: Path | None) -> tuple[Pair, Pair]:
    """Return the images to train on (60,000) and to test on (10,000), pixels scaled to [-1, 1].

    Parameters
    ----------
    folder : Path, optional
        Holds mnist/ with the four files of the database.

    Raises
    ------
    MissingFileError
        If they are not there.
    FileFormatError
        If one of them is something else.
    """
    train, test = (
        (
            _read(folder, f"{part}-images-idx3-ubyte.gz"),
            _read(folder, f"{part}-labels-idx1-ubyte.gz"),
        )
        for part in ("train", "t10k")
    )
    return _scaled(*train), _scaled(*test)


def _read(folder: Path | None, name: str) -> Tensor:
    path = data_file(folder, f"mnist/{name}")
    raw = gzip.decompress(path.read_bytes())
    header = HEADERS["images" if "images" in name else "labels"]
    count = int.from_bytes(raw[4:8], "big")
    if raw[:2] != b"\0\0" or (len(raw) - header) % max(count, 1):
        raise FileFormatError("benchmarks", "an idx file", f"{path}", "Get it again")
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(count, -1)


def _scaled(pixels: Tensor, labels: Tensor) -> Pair:
    return pixels.float() / 127.5 - 1, labels[:, 0].long()


def small_digits() -> tuple[Pair, Pair]:
    """Return the 8 x 8 digits of scikit-learn: 1,400 to train on, 397 to test on.

    Examples
    --------
    >>> small_digits()[1][0].shape
    torch.Size([397, 64])
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).float() / 8 - 1
    y = torch.from_numpy(labels).long()
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


@functools.lru_cache(maxsize=2)
def images(name: str, folder: Path | None) -> tuple[Pair, Pair]:
    """Return MNIST, or the small digits that need no folder."""
    return small_digits() if name == "digits" else mnist(folder)


def _rows(name: str, folder: Path | None) -> Any:
    return images(name, folder) if name in ("mnist", "digits") else rows_of(name, folder)


def _run(setup: Setup, key: Key) -> Rows:
    """Train one network from one start."""
    name, start, seed = key
    pictures = name in ("mnist", "digits")
    if pictures:
        rows, test = images(name, setup.data)
        recipe = Recipe(epochs=1 if setup.smoke else Recipe().epochs)
        widths = MNIST_WIDTHS if name == "mnist" else (64, 8, 10)
    else:
        rows, test = _table(*rows_of(name, setup.data), seed)
        recipe = _table_recipe(len(rows[0]))
        widths = (rows[0].shape[1], HIDDEN, 1)
    weights = STARTS_BY_NAME[start]
    draw = torch.Generator().manual_seed(seed)
    model = KAN(widths, extrapolation=weights.beyond, generator=draw)
    epochs = min(recipe.epochs, SHORT) if weights.short else recipe.epochs
    recipe = dataclasses.replace(recipe, base=weights.base, scaler=weights.scaler, epochs=epochs)
    began = time.perf_counter()
    trained = train(model, rows, test, recipe, generator=draw)
    row: dict[str, Any] = {"metric": "accuracy" if pictures else "R2", "score": trained.scores[-1]}
    row |= {"first": trained.scores[0], "third": trained.scores[:SHORT][-1]}
    row |= {"best": max(trained.scores), "epochs": recipe.epochs}
    row |= {"parameters": parameters(model), "seconds": time.perf_counter() - began}
    return [row]


def _table(x: Tensor, y: Tensor, seed: int) -> tuple[Pair, Pair]:
    """Part a table at random; scale features to [-1, 1] and the target to deviation 1.

    A feature with one value in all rows to train on is only moved to -1.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    count = min(TABLE_ROWS, int(0.8 * len(x)))
    train, test = order[:count], order[count:]
    low, high = x[train].amin(0), x[train].amax(0)
    x = (2 * (x - low) / torch.where(high > low, high - low, 1.0) - 1).float()
    y = ((y - y[train].mean()) / y[train].std()).float()
    return (x[train], y[train]), (x[test], y[test])


def _table_recipe(rows: int) -> Recipe:
    """Return MNIST's recipe, with passes for as many steps and the same fall of the rate."""
    epochs = max(1, round(TABLE_STEPS * Recipe().batch / rows))
    return Recipe(epochs=epochs, gamma=Recipe().gamma ** (Recipe().epochs / epochs))


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "after one pass": ("first", False),
        "after three": ("third", False),
        "at the end": ("score", False),
        "passes": ("epochs", False),
        "seconds": ("seconds", True),
    }
    return {"initial weights": grouped(frame, ["problem", "metric", "start"], columns)}


_COLUMNS = ("metric", "score", "first", "third", "best", "epochs", "parameters", "seconds")

STARTS = Experiment(
    name="starts",
    question="Do constant initial weights keep a network from learning?",
    keys=("problem", "start", "seed"),
    tables={"sparsity-starts": _COLUMNS},
    plan=_plan,
    run=_run,
    summary=_summary,
)
