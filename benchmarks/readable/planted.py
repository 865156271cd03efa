"""Ten drawn tables whose pairs of columns are known, and the pairs of a network's products."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.readable.models import simplest, training_digest
from kanlens._resources import one_thread
from kanlens.data._cell_parsing import Array
from kanlens.data._table_reader import read_table
from kanlens.training._closed_form import column_names, count_edges

if TYPE_CHECKING:
    import pandas as pd

    from kanlens import KAN

Pair: TypeAlias = tuple[int, int]

ROWS, COLUMNS = 1000, 8
NOISES = (0.5, 0.3)  # of even and odd tables, in deviations of the function
CORRELATION = 0.6
PLANTED: dict[str, tuple[Pair, ...]] = {  # the pairs of columns in a product of each table
    "none": (),
    "one": ((0, 1),),
    "two": ((0, 1), (2, 3)),
    "one, correlated": ((0, 4),),
    "star": ((0, 1), (0, 2), (0, 3)),
    "two, of a few values": ((0, 1), (2, 6)),
    "one, without curves": ((5, 7),),
    "none, correlated": (),
    "three": ((1, 2), (3, 4), (5, 6)),
    "two, apart": ((0, 7), (4, 6)),
}
SMOKE = ("none", "one")
FORMS = (
    lambda a, b: 2 * a * b,
    lambda a, b: np.sin(3 * a) * b,
    lambda a, b: 1.5 * np.maximum(a, b),
    lambda a, b: 2 * (a > 0) * b,
)


def draw(name: str, seed: int) -> pd.DataFrame:
    """Draw a table: curves of six columns of eight, its pairs, and noise."""
    import pandas as pd

    index = list(PLANTED).index(name)
    generator = np.random.default_rng((seed, index))
    x = _columns(generator, name)
    y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2 + np.abs(x[:, 2]) + np.exp(x[:, 3]) + x[:, 4]
    y = y + np.tanh(4 * x[:, 6])
    for place, (left, right) in enumerate(PLANTED[name], index):
        y = y + FORMS[place % len(FORMS)](x[:, left], x[:, right])
    y = y + NOISES[index % 2] * y.std() * generator.normal(size=ROWS)
    return pd.DataFrame(x, columns=[f"x{column}" for column in range(COLUMNS)]).assign(y=y)


def _columns(generator: np.random.Generator, name: str) -> Array:
    """Draw columns (batch, in), most of them even in [-1, 1]."""
    if "correlated" in name:
        shared = generator.normal(size=(ROWS, 1))
        own = generator.normal(size=(ROWS, COLUMNS))
        normal = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
        return np.asarray(np.clip(normal, -3, 3) / 2)
    x = generator.uniform(-1, 1, (ROWS, COLUMNS))
    if "few values" in name:
        x[:, 0] = np.round(2 * x[:, 0]) / 2
        x[:, 1] = np.sign(x[:, 1])
    return x


def pairs_of(kan: KAN) -> set[frozenset[str]]:
    """Return the pairs of columns in different factors of a product of the first layer."""
    names, mask, grouping = column_names(kan), kan.layers[0].mask, kan.nodes[0].grouping
    pairs = set()
    for node in range(grouping.sums, grouping.nodes):
        factors = [
            {names[in_] for in_ in mask[row].nonzero()[:, 0].tolist()}
            for row in grouping.members(node)
        ]
        for left, right in itertools.combinations(factors, 2):
            pairs |= {frozenset(pair) for pair in itertools.product(left, right)}
    return pairs


def f1(found: Collection[object], true: Collection[object]) -> float:
    """Return the F1 of pairs; 1 where there are none and none are found.

    Examples
    --------
    >>> f1({1, 2}, {2, 3, 4}), f1(set(), set()), f1({1}, set())
    (0.4, 1.0, 0.0)
    """
    both = len(set(found) & set(true))
    return 2 * both / (len(found) + len(true)) if found or true else 1.0


def _plan(setup: Setup) -> Units:
    names = SMOKE if setup.smoke else tuple(PLANTED)
    return Units(keys=tuple((name, seed) for seed in setup.seeds for name in names))


def _run(setup: Setup, key: Key) -> Rows:
    """Grow networks on a table, and compare the pairs of the simplest with the true ones."""
    name, seed = str(key[0]), int(key[1])
    frame = draw(name, seed)
    with one_thread():
        start = time.process_time()
        kan = simplest(read_table(frame, target="y"), seed)
        seconds = time.process_time() - start
    found = pairs_of(kan)
    true = {frozenset((f"x{left}", f"x{right}")) for left, right in PLANTED[name]}
    row = {"f1": f1(found, true), "true_pairs": len(true), "found_pairs": len(found)}
    size = {"edges": count_edges(kan), "seconds": seconds, "version": training_digest()}
    return [{**row, "both": len(found & true), **size}]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    return bool(rows) and rows[0]["version"] == training_digest()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = ["f1", "true_pairs", "found_pairs", "both", "edges", "seconds"]
    means = frame.groupby("table", sort=False)[columns].mean().reset_index()
    return {"pairs of columns in products": means}


PAIRS = Experiment(
    name="planted",
    question="Are the pairs of columns in the products of the simplest network the true ones?",
    keys=("table", "seed"),
    tables={
        "readable-planted": (
            *("f1", "true_pairs", "found_pairs", "both", "edges", "seconds", "version"),
        )
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("table", "version"),
    current=_current,
)
