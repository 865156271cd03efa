"""Twelve tables of named columns: of the data folder, of two packages, and one that is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.data import TABLES, table_file, there
from benchmarks.harness import Setup
from benchmarks.machine import load, missing

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 3000  # of a table; boosting with pairs takes a minute
SMOKE_ROWS = 150
SHARE = 0.2  # of the rows, held out
STATSMODELS = "statsmodels"


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A table, the column to predict, and whether that holds classes, 0 and 1."""

    frame: pd.DataFrame
    target: str
    classes: bool = False

    def split(self, seed: int, rows: int = MAX_ROWS) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows to train on and those to judge by."""
        from sklearn.model_selection import train_test_split

        frame = self.frame.head(rows)
        strata = frame[self.target] if self.classes else None
        parts = train_test_split(frame, test_size=SHARE, random_state=seed, stratify=strata)
        return parts[0].reset_index(drop=True), parts[1].reset_index(drop=True)


def stored(name: str, folder: Path | None) -> Problem:
    """Return a table of the data folder without repeated rows, with medians in missing cells."""
    import pandas as pd

    frame = pd.read_csv(table_file(name, folder)).drop_duplicates()
    frame = frame.fillna(frame.median(numeric_only=True))
    return Problem(frame=frame, target=TABLES[name])


def prices(count: int = MAX_ROWS, seed: int = 7) -> Problem:
    """Draw prices of cars, which lose a share of their value a year and a kilometer."""
    import pandas as pd

    draw = np.random.default_rng(seed)
    makes = dict(zip("ABCDEFGH", (0, 0.15, -0.1, 0.4, 0.9, 0.2, -0.3, 1.4), strict=True))
    fuels = {"petrol": (0, 0.09), "diesel": (0.1, 0.1), "hybrid": (0.2, 0.08)}
    fuels |= {"electric": (0.45, 0.16)}
    shares = (0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.04, 0.02)
    make = draw.choice(list(makes), count, p=shares)
    fuel = draw.choice(list(fuels), count, p=(0.5, 0.3, 0.15, 0.05))
    region = draw.integers(0, 12, count)
    age = draw.integers(0, 16, count)
    distance = age * draw.gamma(4, 4, count) + draw.gamma(2, 3, count)
    power = np.round(draw.normal(120, 35, count).clip(45, 300))
    level, rate = np.array([fuels[name] for name in fuel]).T
    level = 3 + level + np.array([makes[name] for name in make]) + 0.05 * (region % 3)
    log = level + 0.006 * (power - 120) - rate * age - 0.0015 * distance
    columns = {"make": make, "fuel": fuel, "region": [f"r{place}" for place in region]}
    columns |= {"age": age, "distance": distance.round(1), "power": power}
    price = np.exp(log) * (1 + 0.08 * draw.normal(size=count))
    return Problem(frame=pd.DataFrame({**columns, "price": price}), target="price")


def friedman1() -> Problem:
    """Draw Friedman's first function, of five columns out of ten."""
    import pandas as pd
    from sklearn import datasets

    x, y = datasets.make_friedman1(600, noise=1.0, random_state=0)
    frame = pd.DataFrame(x, columns=[f"x{index}" for index in range(x.shape[1])])
    return Problem(frame=frame.assign(y=y), target="y")


def bundled(name: str, *, classes: bool = False) -> Problem:
    """Return a table of scikit-learn."""
    from sklearn import datasets

    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    return Problem(frame=frame, target="target", classes=classes)


def _published(name: str) -> pd.DataFrame:
    found: pd.DataFrame = load(f"statsmodels.datasets.{name}").load_pandas().data
    return found


def grunfeld() -> Problem:
    """Return investments of firms, by year."""
    frame = _published("grunfeld")
    return Problem(frame=frame.astype({"firm": str}), target="invest")


def randhie() -> Problem:
    """Return visits to doctors of the insured, in logarithms."""
    frame = _published("randhie")
    return Problem(frame=frame.assign(mdvis=np.log1p(frame["mdvis"])), target="mdvis")


def anes96() -> Problem:
    """Return votes in the election of 1996."""
    frame = _published("anes96").drop(columns="logpopul")
    return Problem(frame=frame.astype({"vote": int}), target="vote", classes=True)


PUBLISHED: dict[str, Callable[[], Problem]] = {
    find.__name__: find for find in (grunfeld, randhie, anes96)
}
DRAWN: dict[str, Callable[[], Problem]] = {
    "diabetes": partial(bundled, "diabetes"),
    "friedman1": friedman1,
    "prices": prices,
    "breast_cancer": partial(bundled, "breast_cancer", classes=True),
}
SMOKE = ("friedman1", "breast_cancer")


def present(setup: Setup) -> tuple[list[str], dict[str, str]]:
    """Return the names of the tables, and why others are left out."""
    if setup.smoke:
        return list(SMOKE), {}
    found, lacking = there(TABLES, lambda name: table_file(name, setup.data))
    reason = missing(STATSMODELS)
    lacking |= {name: reason for name in PUBLISHED if reason}
    return [*found, *DRAWN, *(name for name in PUBLISHED if not reason)], lacking


@cache
def problem(name: str, folder: Path | None) -> Problem:
    """Return a table, of a large one rows drawn at random."""
    own: dict[str, Any] = {**DRAWN, **PUBLISHED}
    found: Problem = own[name]() if name in own else stored(name, folder)
    frame = found.frame.sample(min(len(found.frame), MAX_ROWS), random_state=0)
    return Problem(frame=frame.reset_index(drop=True), target=found.target, classes=found.classes)
