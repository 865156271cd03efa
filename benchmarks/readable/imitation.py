"""How closely small networks, additive boosted models and trees follow models of scikit-learn.

They are judged by the predictions for rows held out of everything. A network gets the rows that the
model was trained on, and asks for predictions of rows drawn between them; the others get the
predictions for the former.
"""

from __future__ import annotations

import time
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import kanlens
from benchmarks.data import TABLES, table_file, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import missing, source_digest, version_of
from benchmarks.readable.models import INTERPRET, TRAINING, fit_boosting
from benchmarks.readable.tables import MAX_ROWS, SMOKE_ROWS, Problem, problem
from kanlens._resources import one_thread
from kanlens.data._table_reader import read_features
from kanlens.imitation import _imitate
from kanlens.training._closed_form import count_edges

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.data._cell_parsing import Array

MAX_EDGES, SMOKE_EDGES, DEPTH = 30, 12, 5
SMOKE = ("friedman1",)
TEACHERS = ("forest", "boosting", "MLP")
PEERS = ("kanlens", "EBM additive", "tree")
OWN = Path(_imitate.__file__).parent


def new_teacher(name: str, frame: pd.DataFrame) -> Any:
    """Return an unfitted pipeline that takes the columns of a frame."""
    from sklearn import compose, ensemble, neural_network, pipeline, preprocessing

    scaler = preprocessing.StandardScaler()
    network = neural_network.MLPRegressor(
        hidden_layer_sizes=(64, 64), early_stopping=True, max_iter=500
    )
    models = {
        "forest": ensemble.RandomForestRegressor(200),
        "boosting": ensemble.HistGradientBoostingRegressor(),
        "MLP": compose.TransformedTargetRegressor(network, transformer=scaler),
    }
    texts = compose.make_column_selector(dtype_exclude="number")
    one_hot = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = compose.make_column_transformer((one_hot, texts), remainder=scaler)
    steps = pipeline.make_pipeline(columns, models[name])
    seeds = {key: 0 for key in steps.get_params() if key.endswith("random_state")}
    return steps.set_params(**seeds)


@cache
def taught(
    name: str, seed: int, teacher: str, folder: Path | None, rows: int
) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Return a fitted model, its rows, and the rows held out."""
    own = problem(name, folder)
    train, test = own.split(seed, rows)
    x = train.drop(columns=own.target)
    with one_thread():
        model = new_teacher(teacher, x).fit(x, train[own.target])
    return model, x, test.drop(columns=own.target)


def follow(
    peer: str, model: Any, rows: pd.DataFrame, test: pd.DataFrame, seed: int, edges: int
) -> tuple[Array, int]:
    """Return the predictions of a peer for rows, and its edges, terms or leaves."""
    if peer == "kanlens":
        options: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
        kan = kanlens.imitate(model, rows, max_edges=edges, progress=False, **options).model
        with torch.no_grad():
            output = kan(read_features(test, kan.schema, call="benchmarks").x)
        return output[:, 0].numpy(), count_edges(kan)
    train = rows.assign(**{"prediction ": model.predict(rows)})
    if peer.startswith("tree"):
        return _tree(train, test)
    own = Problem(frame=train, target="prediction ")
    fitted = fit_boosting(own, train, test.assign(**{"prediction ": 0.0}), seed, interactions=0)
    return fitted.predicted, fitted.size


def _tree(train: pd.DataFrame, test: pd.DataFrame) -> tuple[Array, int]:
    """Return the predictions and the number of leaves of a tree."""
    from sklearn.tree import DecisionTreeRegressor

    x, y = train.drop(columns="prediction "), train["prediction "]
    pipe = new_teacher("forest", x)
    pipe.steps[-1] = ("tree", DecisionTreeRegressor(max_depth=DEPTH, random_state=0))
    tree = pipe.fit(x, y)
    return tree.predict(test), int(tree.steps[-1][1].get_n_leaves())


def _version(peer: str) -> str:
    if peer == "kanlens":
        return source_digest(OWN, TRAINING)
    return version_of("interpret-core" if peer.startswith("EBM") else "scikit-learn")


def _plan(setup: Setup) -> Units:
    names, lacking = there(TABLES, lambda name: table_file(name, setup.data))
    names, lacking = (list(SMOKE), {}) if setup.smoke else (names, lacking)
    peers = [peer for peer in PEERS if not (peer.startswith("EBM") and missing(INTERPRET))]
    if len(peers) < len(PEERS):
        lacking["EBM additive"] = missing(INTERPRET)
    keys = [
        (name, teacher, seed, peer)
        for seed in setup.seeds
        for name in names
        for teacher in (TEACHERS[:1] if setup.smoke else TEACHERS)
        for peer in peers
    ]
    return Units(keys=tuple(keys), skipped=lacking)


def _run(setup: Setup, key: Key) -> Rows:
    """Have a peer follow a model, and judge it on rows held out."""
    from sklearn.metrics import r2_score

    name, teacher, seed, peer = str(key[0]), str(key[1]), int(key[2]), str(key[3])
    most = SMOKE_ROWS if setup.smoke else MAX_ROWS
    model, rows, test = taught(name, seed, teacher, setup.data, most)
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")  # of rows outside the training data
        start = time.process_time()
        edges = SMOKE_EDGES if setup.smoke else MAX_EDGES
        predicted, size = follow(peer, model, rows, test, seed, edges)
        seconds = time.process_time() - start
    row = {"fidelity": r2_score(model.predict(test), predicted), "size": size, "rows": len(rows)}
    return [{**row, "seconds": seconds, "version": _version(peer)}]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    """Return whether a peer was measured as it is now."""
    return bool(rows) and rows[0]["version"] == _version(str(key[3]))


def fidelities(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean fidelities by teacher and table, one column per peer."""
    index = ["teacher", "table"]
    return frame.pivot_table("fidelity", index, "peer", sort=False)[list(dict.fromkeys(frame.peer))]


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"R2 against the model on rows held out": fidelities(frame).reset_index()}


IMITATION = Experiment(
    name="imitation",
    question="How closely do networks of few edges follow models that cannot be read?",
    keys=("table", "teacher", "seed", "peer"),
    tables={"readable-imitation": ("fidelity", "size", "rows", "seconds", "version")},
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("version",),
    current=_current,
)
