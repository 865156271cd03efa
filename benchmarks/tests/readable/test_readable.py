"""Tables are parted, pairs and edges are counted right, and the whole runs in its smallest form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from benchmarks.data import TABLES
from benchmarks.harness import Setup
from benchmarks.readable import (
    constraints,
    directions,
    experiments,
    imitation,
    losses,
    models,
    planted,
    tables,
)
from benchmarks.readable.experiments import READABLE, SCORES, means
from benchmarks.readable.planted import PAIRS, PLANTED, draw, f1, pairs_of
from benchmarks.readable.tables import DRAWN, PUBLISHED, problem
from kanlens.model._nodes import Grouping, Nodes
from kanlens.training._closed_form import count_edges

SMALL = Setup(seeds=(0,), smoke=True)


def product(*, extended: bool = False) -> kanlens.KAN:
    """Return a network of x1 + x2 x3, or of x1 + (x1 + x2) x3."""
    layer = kanlens.KANLinear(3, 3)
    with torch.no_grad():
        layer.mask.zero_()
        rows, columns = ([0, 1, 1, 2], [0, 0, 1, 2]) if extended else ([0, 1, 2], [0, 1, 2])
        layer.mask[rows, columns] = 1.0
    last = kanlens.KANLinear(2, 1)
    nodes = [Nodes(Grouping(1, (2,))), Nodes(Grouping(1))]
    return kanlens.KAN.from_layers([layer, last], kanlens.KAN([3, 1]).schema, nodes=nodes)


def test_pairs_are_those_of_columns_in_different_factors():
    assert pairs_of(product()) == {frozenset(("x2", "x3"))}
    assert pairs_of(product(extended=True)) == {
        frozenset(("x1", "x3")),
        frozenset(("x2", "x3")),
    }
    assert pairs_of(kanlens.KAN([3, 1])) == set()


def test_edges_of_a_category_count_as_one():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"kind": draw.choice(["a", "b", "c"], 60), "x": draw.normal(size=60)})
    frame["y"] = (frame["kind"] == "a") * 3.0 + frame["x"] + 0.1 * draw.normal(size=60)
    table = kanlens.read_table(frame, target="y")
    front = kanlens.frontier(table, generator=torch.Generator().manual_seed(0), progress=False)
    assert (
        front.simplest.edges_alive > count_edges(front.simplest) == front.steps[front.index()].edges
    )


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.slow  # many cases
def test_planted_pairs_and_no_others_interact(name, monkeypatch):
    monkeypatch.setattr(planted, "NOISES", (0.0, 0.0))
    points = iter(np.random.default_rng(0).uniform(-1, 1, (2, 2, planted.ROWS)))
    base = planted._columns(np.random.default_rng(1), name)

    def target(**columns: np.ndarray) -> np.ndarray:
        x = base.copy()
        for column, values in columns.items():
            x[:, int(column[1:])] = values
        monkeypatch.setattr(planted, "_columns", lambda *_: x)
        return draw(name, 0)["y"].to_numpy()

    (a, b), (c, d) = points
    found = set()
    for left in range(planted.COLUMNS):
        for right in range(left):
            one, two = f"x{left}", f"x{right}"
            mixed = target(**{one: a, two: b}) - target(**{one: c, two: b})
            mixed -= target(**{one: a, two: d}) - target(**{one: c, two: d})
            if np.abs(mixed).max() > 1e-9:
                found.add((right, left))
    assert found == set(PLANTED[name])


def test_f1_punishes_both_kinds_of_errors():
    assert [f1({1}, {1, 2}), f1({1, 2}, {1}), f1({3}, {1}), f1(set(), {1})] == [2 / 3, 2 / 3, 0, 0]


def test_no_row_is_on_both_sides_and_classes_are_shared_out():
    own = problem("breast_cancer", None)
    train, test = own.split(3)
    both = pd.concat([train, test])
    assert (len(train), len(test)) == (455, 114)
    assert len(both.drop_duplicates()) == len(own.frame.drop_duplicates())
    assert train["target"].mean() == pytest.approx(test["target"].mean(), abs=0.01)
    assert not train.equals(own.split(4)[0])


def test_prices_fall_with_age_and_large_tables_are_sampled():
    frame = problem("prices", None).frame
    assert len(frame) == tables.MAX_ROWS
    assert frame["price"].corr(frame["age"], method="spearman") < -0.5
    assert set(frame.dtypes[["make", "fuel", "region"]].map(pd.api.types.is_numeric_dtype)) == {
        False
    }


def test_tables_and_peers_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(tables, "missing", lambda package: f"no {package}")
    monkeypatch.setattr(models, "missing", lambda package: f"no {package}")
    units = SCORES.plan(Setup())
    assert {key[0] for key in units.keys} == set(DRAWN)
    assert {key[2] for key in units.keys} == {name for name in models.PEERS if "kanlens" in name}
    reasons = {**dict.fromkeys(PUBLISHED, "no statsmodels"), "EBM pairs": "no interpret"}
    assert reasons.items() <= units.skipped.items()
    assert set(TABLES) <= set(units.skipped)


def test_rows_of_other_code_are_measured_again_and_those_of_peers_kept():
    peer = models.PEERS["kanlens simplest"]
    for experiment, key in ((SCORES, ("friedman1", 0, "kanlens simplest")), (PAIRS, ("one", 0))):
        assert experiment.current(SMALL, key, [{"version": peer.version()}])
        assert not experiment.current(SMALL, key, [{"version": "k0000000"}])
        assert not experiment.current(SMALL, key, [])
    boosted = models.PEERS["EBM pairs"].version()
    assert SCORES.current(SMALL, ("friedman1", 0, "EBM pairs"), [{"version": boosted}])


def test_means_are_of_the_splits_that_all_peers_have():
    rows = [("t", 0, "a", 1.0), ("t", 1, "a", 3.0), ("t", 0, "b", 2.0)]
    frame = pd.DataFrame(rows, columns=["table", "seed", "peer", "score"])
    assert means(frame, "score").loc["t"].to_dict() == {"a": 1.0, "b": 2.0}


def attacked(shape, curve):
    """Return an attack on a curve of x of a table of two columns."""
    frame = pd.DataFrame({"x": np.linspace(-2, 3, 50), "z": 0.0})
    outputs = lambda rows, column, values: curve(values + 0 * rows["z"].to_numpy())[:, None]  # noqa: E731
    return constraints.attack(outputs, {"x": shape}, frame, 0, 4000)


@pytest.mark.parametrize(
    ("shape", "curve"),
    [
        ("increasing", np.arctan),
        ("decreasing", lambda x: -np.arctan(x)),
        ("convex", np.abs),
        ("concave", lambda x: -np.abs(x)),
        ("positive", lambda x: np.minimum(x**2, 4)),
        ("negative", lambda x: -np.minimum(x**2, 4)),
        ("periodic", lambda x: np.clip(x, -2, 3) ** 2 - np.clip(x, -2, 3)),
        ("increasing concave", lambda x: np.minimum(x, 1)),
    ],
)
def test_an_attack_finds_broken_shapes_and_no_others(shape, curve):
    assert attacked(shape, curve)["broken"] == 0
    broken = attacked(shape, lambda x: curve(x) - 3 * np.sin(4 * x))
    assert broken["broken"] > 0.1 * broken["pairs"] and broken["worst"] > 0.1


def test_an_attack_finds_a_fall_of_one_step_between_neighbors():
    place = np.linspace(-2, 3, 50)[20]
    found = attacked("increasing", lambda x: np.where(x > place, 1.0, 1.0 + 1e-6 * (x == place)))
    assert found["broken"] > 0


def few_columns(name, folder):
    """Return a table, one of classes with five of its thirty columns."""
    own = problem(name, folder)
    return replace(own, frame=own.frame.iloc[:, -6:]) if own.classes else own


@pytest.mark.slow  # runs an experiment
def test_smoke_scores_every_network(tmp_path, monkeypatch):
    networks = [name for name in models.PEERS if "kanlens" in name]
    monkeypatch.setattr(experiments, "taking_part", lambda: (networks, {"EBM": "left out"}))
    monkeypatch.setattr("kanlens.training._fit_default.FOLDS", 2)
    monkeypatch.setattr(experiments, "problem", few_columns)
    first = models._compiled  # a network of one kind loads what all of them need
    monkeypatch.setattr(models, "_compiled", lambda _: first(models.simplest))
    monkeypatch.setattr(imitation, "missing", lambda _: "left out")
    monkeypatch.setattr(directions, "missing", lambda _: "left out")
    found = READABLE.run(SMALL, tmp_path, progress=False)
    scores, pairs = found.tables["readable-tables"], found.tables["readable-planted"]
    assert list(scores["peer"]) == [name for name in networks for _ in tables.SMOKE]
    regression = scores[scores["metric"] == "R2"]
    assert regression["score"].between(0.5, 1).all()
    assert scores["score"][scores["metric"] == "log loss"].between(-1, 0).all()
    additive, simplest, default = regression["size"]
    assert additive <= 10 < simplest < default
    assert pairs["f1"].tolist() == [1.0, 1.0] and pairs["both"].tolist() == [0, 1]
    imitated = found.tables["readable-imitation"].set_index("peer")
    assert list(imitated.index) == ["kanlens", "tree"]
    assert imitated.fidelity["kanlens"] > imitated.fidelity["tree"] > 0
    assert imitated["size"]["kanlens"] <= 12 and imitated["size"]["tree"] <= 32
    of_losses = found.tables["readable-losses"].set_index("peer")["score"]
    assert list(of_losses.index) == list(losses.PEERS)
    assert of_losses["kanlens simplest"] > 0.2
    assert [path.name for path in found.files][-1] == "readable-tables.png"
    shapes, signed = found.tables["constraints-drawn"], found.tables["constraints-tables"]
    assert (shapes["proven"] == shapes["shapes"]).all() and (shapes["broken"] == 0).all()
    assert signed["proven"].tolist() == [3, 0] and (signed["broken"] == 0).all()
    assert (signed["pairs"] >= constraints.SMOKE_PAIRS).all()
    left_out = {"tables: EBM", "imitation: EBM additive", "directions: EBM additive"}
    assert found.skipped.pop("directions: kanboost") == "not installed: pip install kanboost"
    assert found.skipped == dict.fromkeys(left_out, "left out")
    again = READABLE.run(SMALL, tmp_path, progress=False, picture=False)
    assert again.measured == 0
