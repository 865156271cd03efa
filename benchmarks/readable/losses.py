"""Networks of other losses beside linear models and boosting, each by its loss, on six tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

import kanlens
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import load, missing
from benchmarks.readable.models import training_digest
from benchmarks.readable.tables import SHARE, SMOKE_ROWS, STATSMODELS
from kanlens._resources import one_thread
from kanlens.functions._elementary import Array
from kanlens.model._survival import concordance

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 4000
POWERS = {"poisson": 1.0, "tweedie": 1.5, "gamma": 2.0}
LIFELINES, SURVIVAL, SMOKE = "lifelines", "sksurv", "diabetes"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A table of numbers, its target and loss; of survival, times with a column of events."""

    read: Callable[[], pd.DataFrame]
    target: str
    loss: str
    quantile: float | None = None
    event: str = ""
    package: str = ""


def _published(name: str) -> pd.DataFrame:
    found: pd.DataFrame = load(f"statsmodels.datasets.{name}").load_pandas().data
    return found


def _survival(name: str) -> pd.DataFrame:
    """Return a table of lifelines, its texts as codes."""
    frame: pd.DataFrame = getattr(load(f"{LIFELINES}.datasets"), f"load_{name}")()
    texts = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{text: frame[text].astype("category").cat.codes for text in texts})


def _diabetes() -> pd.DataFrame:
    from sklearn import datasets

    found: pd.DataFrame = datasets.load_diabetes(as_frame=True).frame
    return found


CASES = {
    "randhie": Case(
        read=partial(_published, "randhie"), target="mdvis", loss="poisson", package=STATSMODELS
    ),
    "fair": Case(
        read=partial(_published, "fair"), target="affairs", loss="tweedie", package=STATSMODELS
    ),
    "diabetes": Case(read=_diabetes, target="target", loss="gamma"),
    "engel": Case(
        read=partial(_published, "engel"),
        target="foodexp",
        loss="quantile",
        quantile=0.9,
        package=STATSMODELS,
    ),
    "rossi": Case(
        read=partial(_survival, "rossi"),
        target="week",
        loss="cox",
        event="arrest",
        package=LIFELINES,
    ),
    "gbsg2": Case(
        read=partial(_survival, "gbsg2"),
        target="time",
        loss="cox",
        event="cens",
        package=LIFELINES,
    ),
}
Data: TypeAlias = tuple[Array, Array]  # x (batch, in), and y, signed times of survival


def _network(case: Case, train: Data, x: Array, seed: int, *, small: bool) -> Array:
    options: dict[str, Any] = {"loss": case.loss, "quantile": case.quantile, "progress": False}
    options["generator"] = torch.Generator().manual_seed(seed)
    if small:
        model = kanlens.frontier(train, **options).simplest
    else:
        model = kanlens.fit_default(train, **options).model
    return kanlens.predict(model, x).to_numpy()[:, 0]


def _linear(case: Case, train: Data, x: Array, seed: int) -> Array:
    """Fit a generalized linear model, quantile regression or Cox's model of statsmodels."""
    api, (rows, y) = load("statsmodels.api"), train
    if case.loss == "cox":
        model = load("statsmodels.duration.hazard_regression").PHReg
        params = model(abs(y), rows, status=y > 0, ties="breslow").fit().params
        return np.asarray(x @ params)
    rows, x = (api.add_constant(part, has_constant="add") for part in (rows, x))
    if case.loss == "quantile":
        return np.asarray(api.QuantReg(y, rows).fit(q=case.quantile).predict(x))
    log = api.families.links.Log()
    family = api.families.Tweedie(log, var_power=POWERS[case.loss])
    return np.asarray(api.GLM(y, rows, family=family).fit().predict(x))


def _boosting(case: Case, train: Data, x: Array, seed: int) -> Array:
    """Fit gradient boosting of scikit-learn, or of scikit-survival; the loss nearest to tweedie."""
    rows, y = train
    if case.loss == "cox":
        ensemble, util = load(f"{SURVIVAL}.ensemble"), load(f"{SURVIVAL}.util")
        model = ensemble.GradientBoostingSurvivalAnalysis(random_state=seed)
        return np.asarray(model.fit(rows, util.Surv.from_arrays(y > 0, abs(y))).predict(x))
    from sklearn.ensemble import HistGradientBoostingRegressor

    loss = "poisson" if case.loss == "tweedie" else case.loss
    own = HistGradientBoostingRegressor(loss=loss, quantile=case.quantile, random_state=seed)
    return np.asarray(own.fit(rows, y).predict(x))


PEERS: dict[str, Callable[[Case, Data, Array, int], Array]] = {
    "kanlens simplest": partial(_network, small=True),
    "kanlens default": partial(_network, small=False),
    "linear": _linear,
    "boosting": _boosting,
}


def measure(case: Case, y: Array, predicted: Array) -> float:
    """Return D2 of scikit-learn, or the concordance."""
    from sklearn import metrics

    if case.loss == "cox":
        return concordance(predicted, y)
    if case.loss == "quantile":
        return float(metrics.d2_pinball_score(y, predicted, alpha=case.quantile))
    least = 1e-9 * y.mean()
    return float(metrics.d2_tweedie_score(y, predicted.clip(least), power=POWERS[case.loss]))


def _plan(setup: Setup) -> Units:
    reasons = {name: missing(case.package) if case.package else "" for name, case in CASES.items()}
    for name, case in CASES.items():
        reasons[name] = reasons[name] or (missing(SURVIVAL) if case.loss == "cox" else "")
    names = [SMOKE] if setup.smoke else [name for name in CASES if not reasons[name]]
    skipped = {name: reason for name, reason in reasons.items() if reason and not setup.smoke}
    keys = [(name, seed, peer) for peer in PEERS for seed in setup.seeds for name in names]
    return Units(keys=tuple(keys), skipped=skipped)


def _run(setup: Setup, key: Key) -> Rows:
    """Fit a model to four fifths of a table, and judge it by the others."""
    from sklearn.model_selection import train_test_split

    case, seed = CASES[str(key[0])], int(key[1])
    frame = case.read()
    frame = frame.sample(min(len(frame), SMOKE_ROWS if setup.smoke else MAX_ROWS), random_state=0)
    x = frame.drop(columns=[case.target, case.event], errors="ignore").to_numpy(float)
    y = frame[case.target].to_numpy(float)
    if case.event:
        y = np.where(frame[case.event] > 0, y, -y)
    parts = train_test_split(x, y, test_size=SHARE, random_state=seed)
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")  # of rows outside the training data, and of convergence
        predicted = PEERS[str(key[2])](case, (parts[0], parts[2]), parts[1], seed)
    metric = "concordance" if case.loss == "cox" else "D2"
    shape = {"rows": len(parts[0]), "columns": x.shape[1], "version": training_digest()}
    return [
        {"loss": case.loss, "metric": metric, "score": measure(case, parts[3], predicted), **shape}
    ]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    ours = "kanlens" in str(key[2])
    return bool(rows) and (not ours or rows[0]["version"] == training_digest())


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean scores by table and peer."""
    own = frame.pivot_table("score", ["table", "loss", "metric"], "peer", sort=False)
    return own.reset_index()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"D2 or concordance on rows held out": summary(frame)}


LOSSES = Experiment(
    name="losses",
    question="Are networks of other losses as good as boosting and linear models of these?",
    keys=("table", "seed", "peer"),
    tables={
        "readable-losses": (*("loss", "metric", "score", "rows", "columns", "version"),),
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("version",),
    current=_current,
)
