"""Models that take part: networks of three kinds, and boosted additive models."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

import kanlens
from benchmarks.machine import load, missing, source_digest, version_of
from benchmarks.readable.tables import Problem, friedman1
from kanlens._resources import one_thread
from kanlens.data._schema import Task
from kanlens.data._table_reader import read_features, read_table
from kanlens.training._closed_form import count_edges
from kanlens.training._objective import predict

if TYPE_CHECKING:
    import pandas as pd

    from kanlens import KAN, Table

TRAINING = Path(kanlens.__file__).parent / "training"
INTERPRET = "interpret"  # the package, of the distribution interpret-core


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Predictions of rows held out (batch,), number of edges or terms, and seconds of the fit."""

    predicted: Any
    size: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model: how it is fitted, the package that it needs, if any, and its version.

    `brief` are further options of the fit in a smoke run.
    """

    fit: Callable[..., Fitted]
    package: str = ""
    version: Callable[[], str]
    brief: Mapping[str, Any] = field(default_factory=dict)


def additive(table: Table, seed: int) -> KAN:
    """Return the network of curves alone."""
    columns = len({feature.column for feature in table.schema.features})
    options: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
    found = kanlens.frontier(table, max_edges=columns, interactions=0, progress=False, **options)
    return found.model(found.steps[0].edges)


def simplest(table: Table, seed: int) -> KAN:
    """Return the simplest network of at most 30 edges, or 2 for each of more than 15 columns."""
    generator = torch.Generator().manual_seed(seed)
    return kanlens.frontier(table, progress=False, generator=generator).simplest


def default(table: Table, seed: int) -> KAN:
    """Return the network of `kanlens.fit_default`."""
    generator = torch.Generator().manual_seed(seed)
    return kanlens.fit_default(table, progress=False, generator=generator).model


Train: TypeAlias = Callable[["Table", int], "KAN"]


@cache
def _compiled(train: Train) -> None:
    """Load and compile kernels before any time is taken."""
    drawn = friedman1()
    train(read_table(drawn.frame.head(60), target=drawn.target), 0)


def fit_network(
    problem: Problem, train: pd.DataFrame, test: pd.DataFrame, seed: int, *, network: Train
) -> Fitted:
    """Train a network."""
    task: Task = "classification" if problem.classes else "regression"
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")  # of rows outside the training data
        _compiled(network)
        start = time.process_time()
        kan = network(read_table(train, target=problem.target, task=task), seed)
        seconds = time.process_time() - start
        table = read_features(test, kan.schema, call="benchmarks")
        frame = predict(kan, table.x)
    return Fitted(predicted=frame.iloc[:, -1].to_numpy(), size=count_edges(kan), seconds=seconds)


def fit_boosting(
    problem: Problem, train: pd.DataFrame, test: pd.DataFrame, seed: int, **options: Any
) -> Fitted:
    """Fit an explainable boosting machine [1]_.

    References
    ----------
    .. [1] Y. Lou et al., Accurate intelligible models with pairwise interactions, 2013.
    """
    glassbox = load("interpret.glassbox")
    kind = "Classifier" if problem.classes else "Regressor"
    model = getattr(glassbox, f"ExplainableBoosting{kind}")(n_jobs=1, random_state=seed, **options)
    x, y = train.drop(columns=problem.target), train[problem.target].to_numpy()
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")
        start = time.process_time()
        model.fit(x, y)
        seconds = time.process_time() - start
        rows = test.drop(columns=problem.target)
        predicted = model.predict_proba(rows)[:, 1] if problem.classes else model.predict(rows)
    return Fitted(predicted=np.asarray(predicted), size=len(model.term_names_), seconds=seconds)


def _network(train: Train) -> Peer:
    return Peer(fit=partial(fit_network, network=train), version=training_digest)


@cache
def training_digest() -> str:
    """Return a letter and seven digits that change with any source file of training."""
    return source_digest(TRAINING)


def _boosting(**options: Any) -> Peer:
    return Peer(
        fit=partial(fit_boosting, **options),
        package=INTERPRET,
        version=partial(version_of, "interpret-core"),
        brief={"max_rounds": 10, "outer_bags": 2},
    )


PEERS = {
    "kanlens additive": _network(additive),
    "kanlens simplest": _network(simplest),
    "kanlens default": _network(default),
    "EBM additive": _boosting(interactions=0),
    "EBM pairs": _boosting(),
}


def taking_part() -> tuple[list[str], dict[str, str]]:
    """Return the names of the peers that are installed, and why others are left out."""
    reasons = {name: missing(peer.package) if peer.package else "" for name, peer in PEERS.items()}
    return [name for name in PEERS if not reasons[name]], {
        name: reason for name, reason in reasons.items() if reason
    }
