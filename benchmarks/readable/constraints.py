"""Networks whose effects have shapes: proofs of them, attacks on them, and their price in accuracy.

Fifty networks of drawn tables are proven by `certify`, and attacked by pairs of rows that differ in
one column. On tables with known directions, networks and other models are fitted with and without
them to the same rows, and attacked alike.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

import kanlens
from benchmarks.data import TABLES, data_file, table_file, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import load, missing, version_of
from benchmarks.readable.models import INTERPRET, training_digest
from benchmarks.readable.tables import MAX_ROWS, SMOKE_ROWS, Problem, prices, stored
from kanlens._resources import one_thread
from kanlens.data._cell_parsing import Array
from kanlens.data._table_reader import read_features, read_table

if TYPE_CHECKING:
    import pandas as pd

    from kanlens import KAN, Table

Predictions: TypeAlias = "Callable[[pd.DataFrame], Array]"  # of rows: (batch,)
Outputs: TypeAlias = "Callable[[pd.DataFrame, str, Any], Array]"  # with values in a column

ATTACKED, CASES, SMOKE_CASES, SMOKE_PAIRS = 1_000_000, 50, (2, 18), 2000
AT_ONCE = 50_000  # pairs
SECONDS = 1.0  # for a certificate of which only the constraints are read
ROUNDING = 1e-12  # of the largest output, by which a pair may be off
FARTHEST = 6  # decades beyond the range of a column
SHAPES = (
    *("increasing", "decreasing", "convex", "concave", "positive", "negative", "periodic"),
    "increasing concave",
)
KNOWN: dict[str, dict[str, int]] = {  # directions, by table
    "concrete": {"cement": 1, "age": 1, "water": -1, "blast_furnace_slag": 1},
    "california_housing": {"median_income": 1, "population": -1, "total_bedrooms": 1},
    "adult": {"education-num": 1, "hours-per-week": 1, "capital-gain": 1, "capital-loss": 1},
    "prices": {"age": -1, "distance": -1, "power": 1},
}
WORDS = {1: "increasing", -1: "decreasing"}


# --- attacks ------------------------------------------------------------------------------------


def values_of(draw: np.random.Generator, seen: Array, count: int) -> Array:
    """Draw pairs (2, count) of values, the lower first: seen, within, far beyond, neighbors."""
    low, high = seen.min(), seen.max()
    width = max(float(high - low), 1e-9)
    decades = 10 ** draw.uniform(-1, FARTHEST, (2, count))
    ways = [
        draw.choice(seen, (2, count)),
        draw.uniform(low, high, (2, count)),
        (low + high) / 2 + draw.choice([-1, 1], (2, count)) * decades * width,
        np.repeat(draw.choice(seen, (1, count)), 2, axis=0),
    ]
    ways[3][1] = np.nextafter(ways[3][0], np.inf)
    way = draw.integers(0, len(ways), count)
    return np.sort(np.stack(ways)[way, :, np.arange(count)].T, axis=0)


def excess(shape: str, outputs: Outputs, rows: pd.DataFrame, column: str, pair: Array) -> Array:
    """Return by how much a shape is broken at pairs of values (batch,), over the outputs' size."""
    seen = rows.attrs["seen"][column]

    def at(values: Any) -> Array:
        return outputs(rows, column, values)

    low, high = at(pair[0]), at(pair[1])
    worst = np.zeros(len(rows))
    for word in shape.split():
        sign = -1.0 if word in ("decreasing", "concave", "negative") else 1.0
        if word in WORDS.values():
            gap, size = sign * (low - high), np.maximum(abs(low), abs(high))
        elif word in ("convex", "concave"):
            middle = at(pair[0] + (pair[1] - pair[0]) / 2)
            gap = sign * (middle - (low + high) / 2)
            size = abs(low) + abs(high) + abs(middle)
        elif word == "periodic":
            ends = at(seen.min() - abs(pair[0])), at(seen.max() + abs(pair[1]))
            gap, size = abs(ends[0] - ends[1]), abs(ends[0])
        else:
            zero = at(0.0)
            gap, size = sign * (zero - np.minimum(sign * low, sign * high) * sign), abs(zero)
        worst = np.maximum(worst, (gap / (size + 1)).max(1))
    return worst


def attack(
    outputs: Outputs, shapes: Mapping[str, str], frame: pd.DataFrame, seed: int, count: int
) -> dict[str, Any]:
    """Return the pairs that were tried on a model, those that broke a shape, and the worst."""
    draw, worst = np.random.default_rng(seed), [np.zeros(1)]
    for column, shape in shapes.items():
        seen = {column: frame[column].to_numpy(dtype=float)}
        for start in range(0, -(-count // len(shapes)), AT_ONCE):
            size = min(AT_ONCE, -(-count // len(shapes)) - start)
            rows = frame.iloc[draw.integers(0, len(frame), size)].reset_index(drop=True)
            rows.attrs["seen"] = seen
            worst.append(excess(shape, outputs, rows, column, values_of(draw, seen[column], size)))
    gaps = np.concatenate(worst[1:] or worst)
    return {"pairs": len(gaps), "broken": int((gaps > ROUNDING).sum()), "worst": gaps.max()}


class NetworkOutputs:
    """The function of rows that a network is; rows are encoded once."""

    def __init__(self, kan: KAN) -> None:
        self.kan, self.rows, self.x = kan, None, torch.zeros(0)

    @torch.no_grad()
    def __call__(self, rows: pd.DataFrame, column: str = "", values: Any = None) -> Array:
        """Return the outputs (batch, out)."""
        if rows is not self.rows:
            self.rows, self.x = rows, read_features(rows, self.kan.schema, call="benchmarks").x
        x = self.x.clone()
        if column:
            x[:, self.kan.feature_names.index(column)] = torch.as_tensor(values)
        return self.kan(x).numpy()


# --- networks of drawn tables ------------------------------------------------------------------


def drawn(case: int) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """Draw a table, the kind of network for it, and shapes of some of its columns."""
    import pandas as pd

    draw = np.random.default_rng(case)
    rows, columns = int(draw.choice([60, 200, 600, 2000])), int(draw.integers(2, 9))
    kinds = [
        lambda: draw.uniform(-3, 3, rows),
        lambda: draw.normal(20, 5, rows),
        lambda: draw.standard_t(2, rows),  # with outliers
        lambda: draw.integers(0, 12, rows).astype(float),
        lambda: draw.lognormal(0, 1.5, rows),
    ]
    frame = pd.DataFrame({f"x{k}": kinds[draw.integers(len(kinds))]() for k in range(columns)})
    curves = [np.sin, np.tanh, np.square, lambda x: -x, np.exp]
    sums = np.zeros(rows)
    for name in frame:
        scaled = (frame[name] - frame[name].median()) / (frame[name].std() + 1e-9)
        sums += draw.normal() * curves[draw.integers(len(curves))](scaled.clip(-3, 3))
    if draw.random() < 0.5:
        frame["kind"] = draw.choice(list("uvw"), rows)
        sums += frame["kind"].map({"u": 0.0, "v": 0.5, "w": -1.0})
    sums += 0.3 * sums.std() * draw.normal(size=rows)
    network = ("additive", "small", "deep")[case % 3]
    classes = int(draw.choice([0, 0, 2, 3]))
    frame["y"] = (
        pd.qcut(sums, classes, labels=list("abc"[:classes])).astype(str) if classes else sums
    )
    shapes = SHAPES[:2] if network == "deep" else SHAPES
    picked = draw.choice(columns, min(columns, int(draw.integers(1, 4))), replace=False)
    return frame, network, {f"x{k}": str(draw.choice(shapes)) for k in sorted(picked)}


def constrained(table: Table, network: str, shapes: Mapping[str, str], seed: int) -> KAN:
    """Train a network of a kind."""
    generator, quiet = torch.Generator().manual_seed(seed), {"progress": False}
    options: dict[str, Any] = {"constraints": shapes, "generator": generator, **quiet}
    if network == "deep":
        widths = [len(table.schema.features), 4, 3, len(table.schema.outputs)]
        kan = kanlens.KAN(widths, generator=generator).double()
        return kanlens.fit(kan, table, optimizer="adam", steps=20, **options).model
    how: dict[str, Any] = {"hidden": ()} if network == "additive" else {"max_edges": "few"}
    return kanlens.fit_default(table, **how, **options).model


def proofs(kan: KAN, shapes: Mapping[str, str]) -> dict[str, int]:
    """Return the numbers of shapes, of those proven everywhere, and of verdicts that agree."""
    certificate = kanlens.certify(kan, max_boxes=1, progress=False)
    verdicts = certificate.to_frame().groupby("feature")["verdict"].agg(set)
    monotone = {column for column, shape in shapes.items() if shape in WORDS.values()}
    agreed = [column for column in monotone if verdicts[column] <= {shapes[column], "constant"}]
    counts = {"monotone": len(monotone), "verdicts": len(agreed)}
    return {"shapes": len(shapes), "proven": len(certificate.constraints), **counts}


def _drawn_units(setup: Setup) -> Units:
    return Units(keys=tuple((case,) for case in (SMOKE_CASES if setup.smoke else range(CASES))))


def _run_drawn(setup: Setup, key: Key) -> Rows:
    """Train a network with shapes, prove them, and attack them."""
    frame, network, shapes = drawn(case := int(key[0]))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_table(frame, target="y")
        start = time.process_time()
        kan = constrained(table, network, shapes, case)
        seconds = time.process_time() - start
        count = SMOKE_PAIRS if setup.smoke else ATTACKED
        row = proofs(kan, shapes) | attack(NetworkOutputs(kan), shapes, frame, case, count)
    words = "; ".join(f"{column} {shape}" for column, shape in shapes.items())
    about = {"network": network, "task": kan.task, "rows": len(frame), "asked": words}
    return [{**about, **row, "seconds": seconds, "version": training_digest()}]


def _drawn_summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    sums = ["shapes", "proven", "monotone", "verdicts", "pairs", "broken"]
    groups = frame.groupby("network", sort=False)
    table = groups[sums].sum().assign(networks=groups.size(), worst=groups["worst"].max())
    return {"shapes of networks of drawn tables": table.reset_index()}


# --- tables with known directions ---------------------------------------------------------------


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


Fitted: TypeAlias = "tuple[Predictions, Outputs, KAN | None]"


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
    cone = [signs.get(column, 0) for column in x]
    options = {"interactions": 0, "n_jobs": 1, "random_state": seed}
    model = getattr(glassbox, f"ExplainableBoosting{kind}")(monotone_constraints=cone, **options)
    model.fit(x, train[own.target].to_numpy())
    return _outputs(model, own, lambda rows: rows[list(x)])


def fit_kanboost(own: Problem, train: pd.DataFrame, signs: Mapping[str, int], seed: int) -> Fitted:
    """Fit boosted sums of splines."""
    kind = "Classifier" if own.classes else "Regressor"
    x = train.drop(columns=own.target)
    options = {"gam": True, "kan_hidden": 1, "random_state": seed}
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
    paths: dict[str, Callable[[], Path]] = {
        name: lambda name=name: table_file(name, setup.data) for name in KNOWN if name in TABLES
    }
    paths["adult"] = lambda: data_file(setup.data, "tabular/adult_train.csv")
    names, lacking = there(paths, lambda name: paths[name]())
    names = ["prices"] if setup.smoke else [*names, "prices"]
    reasons = {peer: missing(package) for peer, package in PACKAGES.items() if missing(package)}
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
    version = _version(str(key[2])) if len(key) > 1 else training_digest()
    return bool(rows) and rows[0]["version"] == version


def losses(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean scores of each table and peer, the score paid, and attacks, as rows."""
    groups = frame.assign(paid=frame.free - frame.score).groupby(["table", "peer"], sort=False)
    means = groups[["free", "score", "paid", "seconds"]].mean()
    return means.join(groups[["shapes", "proven", "pairs", "broken"]].sum()).reset_index()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"R2, or minus log loss, without and with directions": losses(frame)}


DRAWN_SHAPES = Experiment(
    name="shapes",
    question="Do the effects of networks have the shapes asked for, at all inputs?",
    keys=("case",),
    tables={
        "constraints-drawn": (
            *("network", "task", "rows", "asked", "shapes", "proven", "monotone", "verdicts"),
            *("pairs", "broken", "worst", "seconds", "version"),
        )
    },
    plan=_drawn_units,
    run=_run_drawn,
    summary=_drawn_summary,
    text=("asked", "version"),
    current=_current,
)
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
