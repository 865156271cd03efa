"""The price in accuracy of known directions of columns, of networks and of other models.

Models are fitted with and without them to the same rows of a table, and attacked alike.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import kanlens
from benchmarks.data import TABLES, data_file, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import load, missing, version_of
from benchmarks.readable.constraints import (
    ATTACKED,
    SMOKE_PAIRS,
    WORDS,
    NetworkOutputs,
    Outputs,
    attack,
    constrained,
)
from benchmarks.readable.models import INTERPRET, training_digest
from benchmarks.readable.tables import MAX_ROWS, SMOKE_ROWS, Problem, prices, stored
from kanlens._resources import one_thread
from kanlens.data._cell_parsing import Array
from kanlens.data._table_reader import read_table

if TYPE_CHECKING:
    import pandas as pd

    from kanlens import KAN

Predictions: TypeAlias = "Callable[[pd.DataFrame], Array]"  # of rows: (batch,)
Fitted: TypeAlias = "tuple[Predictions, Outputs, KAN | None]"

SECONDS = 1.0  # for a certificate of which only the constraints are read
KNOWN: dict[str, dict[str, int]] = {  # directions, by table
    "concrete": {"cement": 1, "age": 1, "water": -1, "blast_furnace_slag": 1},
    "california_housing": {"median_income": 1, "population": -1, "total_bedrooms": 1},
    "adult": {"education-num": 1, "hours-per-week": 1, "capital-gain": 1, "capital-loss": 1},
    "prices": {"age": -1, "distance": -1, "power": 1},
}


def table_of(name: str, folder: Path | None) -> Problem:
    """Return a table with known directions, of a large one rows drawn at random."""
    import pandas as pd

    if name == "prices":
        return prices()
    if name == "adult":
        frame = pd.read_csv(data_file(folder, "tabular/adult_train.csv")).drop_duplicates()
        income = (frame.pop("income") == ">50K").astype(int)
        texts = frame.select_dtypes(exclude="number").columns
        frame = frame.assign(**{text: frame[text].fillna("?") for text in texts}, income=income)
        own = Problem(frame=frame, target="income", classes=True)
    else:
        own = stored(name, folder)
    frame = own.frame.sample(min(len(own.frame), MAX_ROWS), random_state=0).reset_index(drop=True)
    return Problem(frame=frame, target=own.target, classes=own.classes)


def fit_kanlens(own: Problem, train: pd.DataFrame, signs: Mapping[str, int], seed: int) -> Fitted:
    """Fit the simplest network of the frontier."""
    table = read_table(train, target=own.target, task="classification" if own.classes else None)
    shapes = {column: WORDS[sign] for column, sign in signs.items()}
    kan = constrained(table, "small", shapes, seed)
    outputs = NetworkOutputs(kan)

    def predicted(rows: pd.DataFrame) -> Array:
        values = outputs(rows)[:, 0]
        return 1 / (1 + np.exp(-values)) if own.classes else values

    return predicted, outputs, kan


def fit_boosting(own: Problem, train: pd.DataFrame, signs: Mapping[str, int], seed: int) -> Fitted:
    """Fit scikit-learn's gradient boosting by histograms."""
    from sklearn import ensemble

    kind = "Classifier" if own.classes else "Regressor"
    texts = list(train.select_dtypes(exclude="number").columns)
    levels = {text: sorted(set(own.frame[text])) for text in texts}

    def coded(rows: pd.DataFrame) -> pd.DataFrame:
        codes = {t: rows[t].map({v: float(k) for k, v in enumerate(levels[t])}) for t in texts}
        return rows.drop(columns=own.target, errors="ignore").assign(**codes)

    options = {"monotonic_cst": dict(signs), "categorical_features": texts, "random_state": seed}
    model = getattr(ensemble, f"HistGradientBoosting{kind}")(**options)
    return _outputs(model.fit(coded(train), train[own.target]), own, coded)


def fit_ebm(own: Problem, train: pd.DataFrame, signs: Mapping[str, int], seed: int) -> Fitted:
    """Fit an explainable boosting machine without pairs."""
    glassbox = load("interpret.glassbox")
    kind = "Classifier" if own.classes else "Regressor"
    x = train.drop(columns=own.target)
    cone = [signs.get(str(column), 0) for column in x]
    options = {"interactions": 0, "n_jobs": 1, "random_state": seed}
    model = getattr(glassbox, f"ExplainableBoosting{kind}")(monotone_constraints=cone, **options)
    model.fit(x, train[own.target].to_numpy())
    return _outputs(model, own, lambda rows: rows[list(x)])


def fit_kanboost(own: Problem, train: pd.DataFrame, signs: Mapping[str, int], seed: int) -> Fitted:
    """Fit boosted sums of splines."""
    kind = "Classifier" if own.classes else "Regressor"
    x = train.drop(columns=own.target)
    options: dict[str, Any] = {"gam": True, "kan_hidden": 1, "random_state": seed}
    options |= {"categorical_cols": list(x.select_dtypes(exclude="number").columns)}
    model = getattr(load("kanboost"), f"KANBoost{kind}")(
        monotone_constraints=dict(signs) or None, **options
    )
    model.fit(x, train[own.target])
    return _outputs(model, own, lambda rows: rows[list(x)])


def _outputs(model: Any, own: Problem, coded: Callable[[pd.DataFrame], pd.DataFrame]) -> Fitted:
    """Return predictions of a model, and its outputs before a link where it has them."""

    def predicted(rows: pd.DataFrame) -> Array:
        x = coded(rows)
        values = model.predict_proba(x)[:, 1] if own.classes else model.predict(x)
        return np.asarray(values, dtype=float)

    def outputs(rows: pd.DataFrame, column: str, values: Any) -> Array:
        rows = rows.assign(**{column: values})
        if own.classes and hasattr(model, "decision_function"):
            return np.asarray(model.decision_function(coded(rows)), dtype=float).reshape(-1, 1)
        return predicted(rows)[:, None]

    return predicted, outputs, None


PEERS: dict[str, tuple[Callable[..., Fitted], str]] = {  # and the distribution of each
    "kanlens": (fit_kanlens, ""),
    "boosting": (fit_boosting, "scikit-learn"),
    "EBM additive": (fit_ebm, "interpret-core"),
    "kanboost": (fit_kanboost, "kanboost"),
}
PACKAGES = {"EBM additive": INTERPRET, "kanboost": "kanboost"}


def _version(peer: str) -> str:
    return version_of(PEERS[peer][1]) if PEERS[peer][1] else training_digest()


def _plan(setup: Setup) -> Units:
    stems = {name: name for name in KNOWN if name in TABLES} | {"adult": "adult_train"}
    names, lacking = there(stems, lambda name: data_file(setup.data, f"tabular/{stems[name]}.csv"))
    names = ["prices"] if setup.smoke else [*names, "prices"]
    reasons = {peer: missing(package) for peer, package in PACKAGES.items() if missing(package)}
    if "kanboost" in reasons:
        reasons["kanboost"] = "not installed: pip install kanboost"
    peers = [peer for peer in PEERS if peer not in reasons]
    peers = peers[:2] if setup.smoke else peers
    keys = [(name, seed, peer) for peer in peers for seed in setup.seeds for name in names]
    return Units(keys=tuple(keys), skipped=(lacking if not setup.smoke else {}) | reasons)


def _run(setup: Setup, key: Key) -> Rows:
    """Fit a model with and without directions, judge both on rows held out, and attack one."""
    from sklearn.metrics import log_loss, r2_score

    name, seed, peer = str(key[0]), int(key[1]), str(key[2])
    own, signs = table_of(name, setup.data), KNOWN[name]
    train, test = own.split(seed, SMOKE_ROWS if setup.smoke else MAX_ROWS)
    true, row = test[own.target].to_numpy(), dict[str, Any]()
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, asked in (("free", {}), ("score", signs)):
            start = time.process_time()
            predicted, outputs, kan = PEERS[peer][0](own, train, asked, seed)
            row["seconds"] = time.process_time() - start
            values = predicted(test)
            judged = log_loss(true, np.clip(values, 1e-7, 1 - 1e-7)) if own.classes else 0.0
            row[kind] = -judged if own.classes else r2_score(true, values)
        shapes = {column: WORDS[sign] for column, sign in signs.items()}
        proof = kan and kanlens.certify(kan, max_boxes=1, time_limit=SECONDS, progress=False)
        proven = len(proof.constraints) if proof else 0
        rows = train.drop(columns=own.target)
        attacked = attack(outputs, shapes, rows, seed, SMOKE_PAIRS if setup.smoke else ATTACKED)
    about = {"metric": "log loss" if own.classes else "R2", "shapes": len(shapes), "proven": proven}
    return [{**about, **row, **attacked, "rows": len(train), "version": _version(peer)}]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    """Return whether a peer was measured as it is now."""
    return bool(rows) and rows[0]["version"] == _version(str(key[2]))


def losses(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean scores of each table and peer, the score paid, and attacks, as rows."""
    groups = frame.assign(paid=frame.free - frame.score).groupby(["table", "peer"], sort=False)
    means = groups[["free", "score", "paid", "seconds"]].mean()
    sums = groups[["shapes", "proven", "pairs", "broken"]].sum().assign(worst=groups["worst"].max())
    return means.join(sums).reset_index()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"R2, or minus log loss, without and with directions": losses(frame)}


DIRECTIONS = Experiment(
    name="directions",
    question="What accuracy do known directions of columns cost, beside other models?",
    keys=("table", "seed", "peer"),
    tables={
        "constraints-tables": (
            *("metric", "free", "score", "shapes", "proven", "pairs", "broken", "worst"),
            *("rows", "seconds", "version"),
        )
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("version",),
    current=_current,
)
