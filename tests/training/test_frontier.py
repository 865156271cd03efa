"""Sizes are scored by rows that growth has not seen; the simplest good one is chosen."""

import json
import re
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.data._source import Source
from kanlens.errors import (
    FileFormatError,
    InterruptedWarning,
    InvalidValueError,
    KanlensWarning,
    MissingDependencyError,
)
from kanlens.training import _fit_default, _frontier, _frontier_result, _growth
from kanlens.training._closed_form import make_columns
from tests import interrupting
from tests.training.conftest import seeded


def table(rows=300, noise=0.2, seed=0):
    draws = np.random.default_rng(seed)
    frame = pd.DataFrame(draws.uniform(-1, 1, (rows, 4)), columns=["a", "b", "c", "d"])
    y = np.sin(2 * frame["a"]) + 2 * frame["b"] * frame["c"] + noise * draws.normal(size=rows)
    return kanlens.read_table(frame.assign(y=y), target="y")


def traced(data, **options):
    return kanlens.frontier(data, generator=seeded(1), progress=False, **options)


@pytest.fixture(scope="module")
def front():
    return traced(table())


@pytest.mark.slow  # trains networks
def test_the_product_pays_and_the_network_is_small(front):
    step = front.steps[front.index()]
    assert step.added == "b * c"
    assert step.edges <= 8
    assert step.score > front.steps[0].score + 0.2
    assert front.simplest.widths == (4, 2, 1)
    assert front.simplest.edges_alive == step.edges
    assert front.model(step.edges).edges_alive <= step.edges
    assert f"{step.edges} edges" in repr(front)


def test_sizes_grow_and_the_first_has_curves_alone(front):
    edges = [step.edges for step in front.steps]
    assert edges == sorted(set(edges))
    assert front.steps[0].added == "curves alone"
    assert front.model(4).widths == (4, 1)
    assert front.to_frame()["edges"].tolist() == edges
    assert json.loads(front.to_json())["steps"][0]["edges"] == edges[0]


def test_too_few_edges_are_refused(front):
    few = front.steps[0].edges
    expected = rf"^frontier: expected edges to be at least {few}, the smallest size, got {few - 1}"
    with pytest.raises(InvalidValueError, match=expected):
        front.model(few - 1)


def test_the_simplest_is_within_one_standard_error_of_the_best(front):
    losses = front._losses.numpy()
    best = losses.mean(1).argmin()
    for place in range(front.index() + 1):
        rise = losses[place] - losses[best]
        error = rise.std(ddof=1) / np.sqrt(len(rise))
        assert (rise.mean() <= error) == (place == front.index())


@pytest.mark.slow  # trains networks
def test_scores_are_of_rows_that_networks_have_not_seen(monkeypatch):
    """Targets that only held-out rows have leave their own predictions as they are."""
    found = {}

    def chosen(model, x, *_):
        return make_columns(model, model.scale_inputs(x).numpy()), False

    def outputs(change):
        def kept(growth, *given):
            found[str(change)] = growth
            return scored(growth, *given)

        scored = _frontier_result._scored
        with monkeypatch.context() as patch:
            patch.setattr(_frontier_result, "_scored", kept)
            patch.setattr(_fit_default, "row_groups", lambda x, *_, **__: torch.arange(len(x)))
            patch.setattr(_fit_default, "sorted_by_target", lambda order, y: order)
            patch.setattr(_frontier_result, "settle_scaling", lambda *_: None)
            patch.setattr(_frontier_result, "choose_curves", chosen)  # by all of them
            x = torch.rand(100, 2, generator=seeded(5), dtype=torch.float64)
            y = (x[:, :1] * x[:, 1:]).clone()
            y[change] += 5.0
            traced((x, y), max_edges=5)
            return found[str(change)]

    first = outputs(slice(0, 0))
    rows = first.held[2]
    second = outputs(slice(int(rows[0]), int(rows[0]) + 1))
    unseen, seen = (
        [paths[part].steps[0].outputs[rows] for paths in (first.paths[0], second.paths[0])]
        for part in (3, 1)
    )
    np.testing.assert_array_equal(*unseen)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


@pytest.mark.slow  # trains networks
def test_a_category_counts_once_and_its_levels_are_edges():
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({"kind": draws.choice(list("uvwxyz"), 300), "a": draws.normal(size=300)})
    y = frame["kind"].map(dict(zip("uvwxyz", range(6), strict=True))) * (2 + frame["a"])
    front = traced(kanlens.read_table(frame.assign(y=y + 0.1 * draws.normal(size=300)), target="y"))
    assert front.steps[0].edges <= 2
    assert "kind * a" in [step.added for step in front.steps]
    assert front.model(front.steps[0].edges).edges_alive > 4


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_several_outputs_and_classes():
    data = table(100)
    x, y = data.x, data.y
    both = traced((x, torch.cat((y, x[:, :1]), 1)))
    assert both.simplest(x).shape == (100, 2)
    assert both.steps[both.index()].score > both.steps[0].score
    labels = np.array(["low", "middle", "high"])[np.digitize(y[:, 0].numpy(), [-0.5, 0.5])]
    three = traced((x, labels), max_edges=6)
    assert three.metric_name == "accuracy"
    assert three.simplest(x).shape == (100, 3)
    assert three.steps[three.index()].score > 0.5


@pytest.mark.slow  # trains networks
def test_interactions_are_read_by_name():
    data = table()
    alone = traced(data, interactions=0)
    assert [step.added for step in alone.steps] == ["curves alone"]
    other = traced(data, interactions=[("a", "b")])
    assert all(step.added in ("curves alone", "a * b") for step in other.steps)
    for wrong, words in (
        ([("a", "e")], "'e'"),
        ([("a", "a")], "pairs of columns"),
        (["ab"], "pairs of columns"),
        (-1, "interactions"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            traced(data, interactions=wrong)
    with pytest.raises(InvalidValueError, match="max_edges"):
        traced(data, max_edges=0)


@pytest.mark.slow  # trains networks
def test_an_interrupt_leaves_the_sizes_so_far(monkeypatch):
    path = _growth.GrowthPath
    monkeypatch.setattr(path, "add", interrupting.once(path.add, 6))
    with pytest.warns(InterruptedWarning, match="^frontier: .*The sizes so far are returned"):
        front = traced(table())
    assert front.interrupted
    assert len(front.steps) == 1
    assert front.simplest.widths == (4, 1)


TIME = r"frontier: expected growth to end within time_limit=0.0, got unfinished growth. The sizes"


@pytest.mark.slow  # trains networks
def test_no_time_is_curves_alone():
    with pytest.warns(KanlensWarning, match=TIME):
        front = traced(table(), time_limit=0.0)
    assert len(front.steps) == 1
    assert front.interrupted


@pytest.mark.slow  # trains networks
def test_weights_and_groups():
    data = table(200)
    weights = np.ones(200)
    weights[:100] = 0.0
    x, y = data.x, data.y.clone()
    y[:100] = 50.0
    front = traced((x, y), sample_weight=weights)
    with torch.no_grad():
        rest = front.simplest(x[100:])[:, 0] - y[100:, 0]
    assert float(rest.square().mean()) < 0.3
    groups = np.repeat(np.arange(20), 10)
    assert traced((data.x, data.y), groups=groups).folds == 5


@pytest.mark.slow  # trains networks
def test_growth_is_on_some_rows_and_the_last_fit_on_all(monkeypatch):
    monkeypatch.setattr(_frontier_result, "GROWTH_ROWS", 120)
    front = traced(table())
    assert front.rows == 120
    assert len(front.simplest.background) == 100
    assert front._growth.columns[0].design.matrix.shape[0] == 300


@pytest.mark.slow  # trains networks
def test_a_small_network_is_a_choice_of_training_by_default(front):
    result = kanlens.fit_default(table(), max_edges="few", progress=False)
    assert result.model.widths == (4, 2, 1)
    step = result.history[result.best_step - 1]
    assert result.metric == step["metric"]
    assert result.metric == pytest.approx(front.steps[front.index()].score, abs=0.05)
    assert step["edges"] <= 8
    few = kanlens.fit_default(table(), max_edges=4, progress=False)
    assert few.model.edges_alive <= 4
    alone = kanlens.fit_default(table(), interactions=0, progress=False)
    assert alone.model.widths == (4, 1)
    with pytest.raises(InvalidValueError, match=r"^fit_default: expected either hidden or"):
        kanlens.fit_default(table(), hidden=(), max_edges=8)


@pytest.mark.slow  # trains networks
def test_training_by_default_and_growth_are_one_path(front):
    generator = seeded(1)

    def build(hidden, intervals):  # draws weights, too
        return kanlens.KAN([4, *hidden, 1], grid_size=intervals, generator=generator).double()

    options = {"max_edges": "few", "progress": False, "build": build, "generator": generator}
    result = kanlens.fit_default(table(), **options)
    assert result.model.growth == front.simplest.growth  # with a fingerprint of the weights


def test_a_source_larger_than_memory_is_sampled(monkeypatch):
    frame = table().frame
    monkeypatch.setattr(Source, "held", lambda *_: 100)
    source = kanlens.scan_table(frame, target="y", progress=False)
    front = traced(source, max_edges=5)
    assert front.rows == len(front.simplest.background) == 100


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_the_edges_of_a_size_are_those_of_its_model():
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.normal(size=(150, 4)), columns=list("abcd"))
    noise, product = draws.normal(size=150), frame["a"] * frame["b"]
    total = frame["a"] + frame["b"] + frame["c"]
    for columns in (
        {"y": noise},
        {"y": product + 0.1 * noise},
        {"y": np.exp(total) + frame["d"], "z": product + frame["c"]},
    ):
        front = traced(kanlens.read_table(frame.assign(**columns), target=list(columns)))
        edges = [step.edges for step in front.steps]
        assert edges == sorted(set(edges))
        for networks, size in zip(front._networks, edges, strict=True):
            assert front._growth.finished(networks).edges_alive == size
        assert max(edges) <= 30
    assert traced(kanlens.read_table(frame.assign(y=noise), target="y")).steps[0].edges == 0


@pytest.mark.slow  # trains networks
def test_an_interrupt_of_training_keeps_the_terms_so_far(monkeypatch, tmp_path):
    path = _growth.GrowthPath
    monkeypatch.setattr(path, "add", interrupting.once(path.add, 6))
    options = {"max_edges": "few", "checkpoint": tmp_path / "run", "progress": False}
    with pytest.warns(InterruptedWarning, match="The network has the terms so far"):
        result = kanlens.fit_default(table(), **options)
    assert result.interrupted
    assert result.model.widths == (4, 1)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_estimators_grow_small_networks():
    data = table()
    x, y = data.x.numpy(), data.y[:, 0].numpy()
    small = kanlens.KANRegressor(max_edges=8, random_state=0).fit(x, y)
    assert small.model_.edges_alive <= 8
    assert small.score(x, y) > 0.8
    named = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    free = kanlens.KANRegressor(interactions=[("b", "c")], random_state=0).fit(named, y)
    assert free.score(named, y) > 0.8
    labels = np.where(y > 0, "high", "low")
    assert (
        kanlens.KANClassifier(max_edges="few", random_state=0).fit(x, labels).score(x, labels) > 0.8
    )


@pytest.mark.slow  # trains networks
def test_fewer_edges_than_columns_are_the_strongest_columns():
    front = traced(table(100), max_edges=2, interactions=0)
    assert [step.edges for step in front.steps] == [2]
    model = front.simplest
    assert model.edges_alive <= 2
    assert bool(model.layers[0].mask[0, 0])  # a has the largest effect of its own
    data = table(100)
    both = traced((data.x, torch.cat((data.y, data.x[:, 3:]), 1)), max_edges=2, interactions=0)
    assert both.simplest.layers[0].mask.sum(1).tolist() == [1, 1]
    for wrong in (0, "some", True):
        with pytest.raises(InvalidValueError, match=r"^fit_default: expected max_edges"):
            kanlens.fit_default(data, max_edges=wrong, progress=False)
    with pytest.raises(InvalidValueError, match=r"^frontier: expected time_limit"):
        traced(data, time_limit=-1)


@pytest.mark.slow  # trains networks
def test_the_model_keeps_the_scores_of_all_sizes(front, tmp_path):
    model = front.simplest
    record = model.growth
    assert record.steps == front.steps
    assert record.steps[record.chosen].edges == model.edges_alive
    assert front.model(4).growth.chosen == 0
    loaded = kanlens.load(kanlens.save(model, tmp_path / "m.safetensors"))
    assert loaded.growth == record
    data = table(50)
    kanlens.fit(loaded, data, steps=1, progress=False)
    assert loaded.growth is None


@pytest.mark.slow  # trains networks
def test_columns_that_growth_left_at_zero_have_no_edge():
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.uniform(-1, 1, (150, 6)), columns=list("abcdef"))
    y = np.sin(6 * frame["a"]) + frame["b"] * frame["c"] + 0.3 * draws.normal(size=150)
    front = traced(kanlens.read_table(frame.assign(y=y), target="y"))
    for step in front.steps:
        model = front.model(step.edges)
        assert step.edges < 6 + step.edges * (len(model.layers) > 1)
        assert model.edges_alive == step.edges


@pytest.mark.slow  # trains networks
def test_growth_goes_on_where_an_interrupt_or_the_time_ended_it(monkeypatch, tmp_path):
    data = table(200)
    whole, path = traced(data, max_edges=12), tmp_path / "run"
    options = {"max_edges": 12, "checkpoint": path, "checkpoint_every": 0}
    with monkeypatch.context() as patch:
        grown = _growth.GrowthPath.grow
        patch.setattr(_growth.GrowthPath, "grow", interrupting.once(grown, 9))
        with pytest.warns(InterruptedWarning, match=r"resume=True.* continues from 'run'"):
            part = traced(data, **options)
    assert part.interrupted
    calls = []
    with monkeypatch.context() as patch:
        counted = lambda path: (calls.append(path), grown(path))  # noqa: E731
        patch.setattr(_growth.GrowthPath, "grow", counted)
        again = kanlens.frontier(
            data, resume=True, generator=seeded(7), progress=False, **options
        )  # whose folds are those of the checkpoint
    assert 0 < len(calls) < 6 * len(whole.steps)
    assert again.steps == whole.steps
    weights = again.simplest.state_dict(), whole.simplest.state_dict()
    torch.testing.assert_close(*weights, rtol=0, atol=1e-14)  # rounding: arrays that are read
    # again may lie in memory in another order, and outputs depend on whether a kernel is compiled
    done = traced(data, resume=True, **options)
    assert done.steps == whole.steps
    path.unlink()
    with pytest.warns(KanlensWarning, match=r"The sizes .*; resume=True continues from 'run'"):
        assert len(traced(data, time_limit=0.0, **options).steps) == 1
    assert traced(data, resume=True, **options).steps == whole.steps
    other = {**options, "max_edges": 9}
    for case, words in ((data, r"max_edges 12 there, 9 here"), (table(100), "other data")):
        with pytest.raises(FileFormatError, match=rf"^frontier: .*{words}"):
            traced(case, resume=True, **other)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_training_by_default_goes_on_with_growth(monkeypatch, tmp_path):
    data = (table(150).x, np.where(table(150).y[:, 0] > 0, "high", "low"))
    options = {"max_edges": 12, "progress": False}
    whole = kanlens.fit_default(data, generator=seeded(1), **options)
    options |= {"checkpoint": tmp_path / "run", "checkpoint_every": 0}
    with monkeypatch.context() as patch:
        grown = _growth.GrowthPath.grow
        patch.setattr(_growth.GrowthPath, "grow", interrupting.once(grown, 4))
        with pytest.warns(InterruptedWarning, match="continues from 'run'"):
            kanlens.fit_default(data, generator=seeded(1), **options)
    again = kanlens.fit_default(data, resume=True, **options)
    assert len(whole.history) == 2
    for own, expected in zip(again.history, whole.history, strict=True):
        assert own == pytest.approx(expected, rel=1e-12, nan_ok=True)  # rounding, as above
    torch.testing.assert_close(again.model(data[0]), whole.model(data[0]), rtol=0, atol=1e-12)


@pytest.mark.slow  # trains the default network
@pytest.mark.usefixtures("few_folds")
def test_other_models_are_scored_on_the_same_folds(monkeypatch):
    class Machine:
        """The mean of the target, by another library's interface."""

        def __init__(self, random_state):
            assert random_state == 0

        def fit(self, x, y):
            self.mean = y.mean()
            return self

        def predict(self, x):
            return np.full(len(x), self.mean)

    glassbox = ModuleType("interpret.glassbox")
    glassbox.ExplainableBoostingRegressor = Machine
    monkeypatch.setitem(sys.modules, "interpret", ModuleType("interpret"))
    monkeypatch.setitem(sys.modules, "interpret.glassbox", glassbox)
    data = table()
    kind = data.frame.assign(kind=np.resize(["u", "v", "w"], data.rows))
    front = traced(
        kanlens.read_table(kind, target="y"), max_edges=8, references=["ebm", "default", "boosting"]
    )
    first, *others = front.references
    assert re.fullmatch(r"the default network of \d+ edges", first)
    assert others == ["gradient boosting", "EBM"]
    assert front.references[first] > front.steps[0].score
    assert 0.3 < front.references["gradient boosting"] < 1
    assert -0.1 < front.references["EBM"] < 0
    assert dict(front.simplest.growth.references) == front.references
    assert json.loads(front.to_json())["references"] == front.references


def test_other_models_are_named_and_installed(monkeypatch):
    for wrong in (True, "forest", ["forest"]):
        with pytest.raises(InvalidValueError, match=r"^frontier: expected references to be one of"):
            traced(table(50), references=wrong)
    monkeypatch.setitem(sys.modules, "interpret.glassbox", None)
    with pytest.raises(
        MissingDependencyError, match=r"^frontier: .*pip install 'kanlens\[bench\]'"
    ):
        traced(table(50), references=["ebm"])


@pytest.mark.slow  # trains networks
def test_an_interrupt_of_other_models_keeps_the_sizes(monkeypatch):
    monkeypatch.setattr(_frontier, "fit_default", interrupting.once(kanlens.fit_default))
    with pytest.warns(InterruptedWarning, match="The sizes so far are returned"):
        front = traced(table(100), max_edges=5, references=["default"])
    assert front.interrupted and front.references == {} and front.steps
    with pytest.warns(KanlensWarning, match=TIME):
        short = traced(table(100), time_limit=0.0, references=["default"])
    assert short.references == {}
