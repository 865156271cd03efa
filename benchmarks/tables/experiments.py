"""Scores on rows held out and seconds to fit of estimators with no setting chosen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.data import TABLES, data_file, rows_of, there
from benchmarks.harness import Benchmark, Experiment, Key, Rows, Setup, Units
from benchmarks.tables.intervals import INTERVALS
from kanlens.model import kernels

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.2  # of the rows, held out
SMOKE_ROWS = 60
PEERS = ("kanlens", "MLP", "boosting")

Data = tuple[Any, Any]  # x (rows, in), and y (rows,)


def heavy_tailed(seed: int) -> Data:
    """Draw 209 rows of log-normal features and a target made of products of these."""
    generator = np.random.default_rng(seed)
    x = np.exp(1.2 * generator.normal(size=(209, 6)))
    y = 0.3 * x[:, 0] + 0.02 * x[:, 1] * x[:, 2] + 0.2 * np.sqrt(x[:, 3]) * x[:, 4]
    return x, y * np.exp(0.15 * generator.normal(size=209))


def bad_cells(seed: int) -> Data:
    """Draw 400 rows of which some cells are a thousand times too large."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(400, 6))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * generator.normal(size=400)
    x[generator.random(x.shape) < 0.01] *= 1000
    return x, y


def wide(seed: int) -> Data:
    """Draw 300 rows of 60 features, of which four matter."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(300, 60))
    y = 2 * x[:, 0] + np.sin(2 * x[:, 1]) + x[:, 2] * x[:, 3]
    return x, y + 0.3 * generator.normal(size=300)


def small(seed: int) -> Data:
    """Draw 75 rows of four features, of which two matter."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(75, 4))
    return x, x[:, 0] + 0.5 * x[:, 1] ** 2 + 0.3 * generator.normal(size=75)


def _bundled(name: str) -> Callable[[int], Data]:
    def draw(seed: int) -> Data:
        from sklearn import datasets

        if name.startswith("friedman"):
            make, noise = getattr(datasets, f"make_{name}"), [1.0, 50.0, 0.1][int(name[-1]) - 1]
            x, y = make(600, noise=noise, random_state=seed)
        else:
            x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return x, y

    return draw


DRAWN = {draw.__name__: draw for draw in (heavy_tailed, bad_cells, wide, small)} | {
    name: _bundled(name) for name in ("diabetes", "friedman1", "friedman2", "friedman3")
}
CLASSES = {name: _bundled(name) for name in ("breast_cancer", "digits", "wine")}
ADULT = "adult"


def _plan(setup: Setup) -> Units:
    files = {**{name: f"tabular/{name}.csv" for name in TABLES}, ADULT: "tabular/adult_train.csv"}
    found, missing = there(files, lambda name: data_file(setup.data, files[name]))
    names = ["small", "wine"] if setup.smoke else [*DRAWN, *CLASSES, *found]  # the largest last
    keys = tuple((name, seed, peer) for name in names for seed in setup.seeds for peer in PEERS)
    return Units(keys=keys, skipped={} if setup.smoke else missing)


def parts_of(name: str, setup: Setup, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return x and y to train on, and x and y to judge by; adult has parts of its own."""
    from sklearn.model_selection import train_test_split

    if name == ADULT:
        return _adult(setup)
    if name in TABLES:
        x, y = (part.numpy() for part in rows_of(name, setup.data))
        y = y[:, 0]
    else:
        x, y = (DRAWN | CLASSES)[name](seed)
    classes = y if name in CLASSES else None
    size: dict[str, Any] = {"test_size": SHARE}
    if setup.smoke:
        size["train_size"] = SMOKE_ROWS / len(x) if len(x) > 2 * SMOKE_ROWS else None
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, random_state=seed, stratify=classes, **size
    )
    return train_x, train_y, test_x, test_y


def _adult(setup: Setup) -> tuple[Any, Any, Any, Any]:
    import pandas as pd

    from kanlens.data._table_reader import read_features, read_table

    frames = [
        pd.read_csv(data_file(setup.data, f"tabular/adult_{p}.csv")) for p in ("train", "test")
    ]
    train = read_table(frames[0].drop_duplicates(), target="income", impute="median")
    test = read_features(
        frames[1][frames[1]["native-country"] != "Holand-Netherlands"], train.schema, call="adult"
    )
    numbers: list[Any] = [train.x, train.y, test.x, test.y]
    return tuple(part.numpy() for part in numbers)


def estimator(peer: str, seed: int, *, classes: bool) -> Any:
    """Return an estimator without settings; the network of scikit-learn gets scaled data."""
    from sklearn import ensemble, neural_network
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import kanlens

    if peer == "kanlens":
        return (kanlens.KANClassifier if classes else kanlens.KANRegressor)(random_state=seed)
    kind = "Classifier" if classes else "Regressor"
    if peer == "boosting":
        return getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=seed)
    network = getattr(neural_network, f"MLP{kind}")(random_state=seed)
    if not classes:
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(StandardScaler(), network)


@cache
def _loaded() -> None:
    """Have kernels loaded and compiled before any time is taken."""
    with warnings.catch_warnings(), kernels.use("sparse"):
        warnings.simplefilter("ignore")
        estimator("kanlens", 0, classes=False).fit(*small(0))


def _run(setup: Setup, key: Key) -> Rows:
    from sklearn.metrics import log_loss, r2_score

    name, seed, peer = key
    classes = name in (*CLASSES, ADULT)
    train_x, train_y, test_x, test_y = parts_of(name, setup, seed)
    made = estimator(peer, seed, classes=classes)
    _loaded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations, and of rows outside the training data
        start = time.perf_counter()
        made.fit(train_x, train_y)
        seconds = time.perf_counter() - start
        if classes:
            score = log_loss(test_y, made.predict_proba(test_x), labels=made.classes_)
        else:
            score = r2_score(test_y, made.predict(test_x))
    metric = "log loss" if classes else "R2"
    return [{"metric": metric, "score": score, "seconds": seconds, "rows": len(train_x)}]


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    found = {}
    for metric, part in frame.groupby("metric", sort=False):
        means = part.pivot_table("score", ["table", "rows"], "peer", sort=False)
        seconds = part.pivot_table("seconds", ["table", "rows"], "peer", sort=False)
        times = seconds.rename(columns=lambda peer: f"{peer} s")
        found[f"{metric} on rows held out"] = means.join(times).reset_index()
    return found


DEFAULTS = Experiment(
    name="defaults",
    question="How well do estimators predict tables when nothing is chosen, and in what time?",
    keys=("table", "seed", "peer"),
    tables={"tables": ("metric", "score", "seconds", "rows")},
    plan=_plan,
    run=_run,
    summary=_summary,
    alone=True,
)

PREDICTION = Benchmark(name="tables", experiments=(DEFAULTS, INTERVALS))
