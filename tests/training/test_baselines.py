"""Simple models on the rows that judge a network, and columns that give its target away."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

import kanlens
from kanlens.training import _baselines as baselines
from kanlens.training import _default_ensemble as ensemble
from kanlens.training._baselines import add_record, baseline_scores, giveaways
from kanlens.training._objective import score


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(ensemble, "UPDATES", (60, 1000, 60))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def table(rows=120, *, classes=0, outputs=1):
    x = np.random.default_rng(0).uniform(-1, 1, (rows, 3))
    frame = pd.DataFrame(x, columns=list("abc"))
    value = x[:, 0] + x[:, 1] * x[:, 2]
    if classes:
        frame["y"] = np.array(["low", "mid", "top"])[(value > 0).astype(int) + (value > 0.5)]
        return kanlens.read_table(frame, target="y")
    names = [f"y{i}" for i in range(outputs)]
    for power, name in enumerate(names):
        frame[name] = value ** (power + 1)
    return kanlens.read_table(frame, target=names)


@pytest.mark.slow  # trains networks
def test_scores_are_over_all_folds_of_the_network():
    data = table(60)
    found = kanlens.fit_default(data, generator=seeded(), progress=False)
    add_record(found, data, None)
    record, folds = found.model.record, found.folds.numpy()
    x, y = data.x.numpy(), data.y.numpy()
    said = np.empty_like(y)
    for fold in range(6):
        mine = folds == fold
        said[mine] = LinearRegression().fit(x[~mine], y[~mine]).predict(x[mine])
    assert record.scores["linear"] == pytest.approx(r2_score(y, said), rel=1e-9)
    assert record.scores["network"] == found.metric
    assert list(record.scores) == ["network", "mean", "linear", "boosting"]
    assert (record.metric, record.rows, record.folds) == ("R2", 60, 6)
    assert record.held_out == ""


def test_a_value_beyond_those_learned_counts_as_the_nearest():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    y, splits = 2 * x, [(torch.arange(30), torch.arange(30, 40))]
    model = kanlens.KAN([1, 1]).double()
    model.input_low.copy_(x[0])
    model.input_high.copy_(x[29])
    inside = baseline_scores(model, x.clamp(max=float(x[29])), y, splits, ["linear"])
    x[35] = 1e12
    assert baseline_scores(model, x, y, splits, ["linear"]) == pytest.approx(inside)


def test_scores_of_classes_are_accuracies_on_the_rows_held_out():
    data = table(classes=3)
    model = kanlens.KAN([3, 3], generator=seeded()).double()
    found = kanlens.fit(model, data, steps=3, generator=seeded(), progress=False)
    add_record(found, data, None)
    held, y = found.held_out.numpy(), data.y.numpy()
    kept = np.setdiff1d(np.arange(120), held)
    often = DummyClassifier().fit(y[kept, None], y[kept]).predict(y[held, None])
    assert model.record.scores["mean"] == (often == y[held]).mean()
    with torch.no_grad():
        assert model.record.scores["network"] == score(model, model(data.x[held]), data.y[held])
    assert (model.record.metric, model.record.rows, model.record.folds) == ("accuracy", 24, 1)


def test_rows_for_testing_judge_where_no_others_do_and_are_known_again(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_BOOSTING_WIDTH", 5)  # no boosting
    data = table(outputs=2)
    training, test = data.split(0.25, seeded())
    model = kanlens.KAN([3, 2], generator=seeded()).double()
    found = kanlens.fit(model, training, steps=3, validation=0, generator=seeded(), progress=False)
    add_record(found, training, test)
    record, x, y = model.record, training.x.numpy(), training.y.numpy()
    inside = test.x.clamp(model.input_low, model.input_high)
    said = LinearRegression().fit(x, y).predict(inside.numpy())
    assert record.scores["linear"] == pytest.approx(r2_score(test.y.numpy(), said), rel=1e-9)
    with torch.no_grad():
        assert record.scores["network"] == score(model, model(test.x), test.y)
    assert (record.rows, record.folds) == (30, 1)
    assert list(record.scores) == ["network", "mean", "linear"]
    for rows, count in ((test, 30), (training, 0), (data, 30)):
        assert record.count_held_out(baselines.row_hashes(rows.x, rows.y)) == count
    add_record(found, training, None)  # nothing judges
    assert (model.record.scores, model.record.rows) == ({}, 0)


@pytest.mark.slow  # trains networks
def test_the_last_rows_judge_whatever_training_held_out(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_BOOSTING_WIDTH", 2)  # no boosting
    data = table()
    training, test = data.split(0.25, last=True)
    found = kanlens.fit_default(training, generator=seeded(), progress=False)
    model = kanlens.KAN([3, 1], generator=seeded()).double()
    single = kanlens.fit(model, training, steps=3, generator=seeded(), progress=False)
    for result in (found, single):
        add_record(result, training, test, last=True)
        record = result.model.record
        inside = test.x.clamp(result.model.input_low, result.model.input_high)
        said = LinearRegression().fit(training.x, training.y).predict(inside)
        assert (record.rows, record.folds) == (30, 1)
        assert record.scores["linear"] == pytest.approx(r2_score(test.y.numpy(), said), rel=1e-9)
        with torch.no_grad():
            own = score(result.model, result.model(test.x), test.y)
        assert record.scores["network"] == own
        assert record.count_held_out(baselines.row_hashes(test.x, test.y)) == 30
    assert record.count_held_out(baselines.row_hashes(data.x, data.y)) == 30 + len(single.held_out)


def test_an_interrupt_keeps_the_model(monkeypatch):
    data = table()
    model = kanlens.KAN([3, 1], generator=seeded()).double()
    found = kanlens.fit(model, data, steps=1, generator=seeded(), progress=False)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(baselines, "baseline_scores", interrupted)
    with pytest.warns(kanlens.errors.InterruptedWarning) as caught:
        add_record(found, data, None)
    text = "train: interrupted. The model is kept, without "
    assert str(caught[0].message) == f"{text}scores of simple models."
    assert model.record is None


def test_wide_tables_and_single_classes_are_judged_too(monkeypatch):
    data = table(classes=3)
    model = kanlens.KAN([3, 3], generator=seeded()).double()
    kanlens.fit(model, data, steps=1, progress=False)
    one = (data.y == 0).nonzero()[:, 0]
    rest = (data.y != 0).nonzero()[:, 0]
    assert set(baseline_scores(model, data.x, data.y, [(one, rest)]).values()) == {0.0}
    monkeypatch.setattr(baselines, "MAX_BOOSTING_WIDTH", 8)
    few = baseline_scores(model, data.x, data.y, [(rest, one)])
    assert list(few) == ["mean", "linear"]


# --- columns that give the target away -------------------------------------------------------


def given_away(frame, **about):
    data = kanlens.read_table(frame, target="y", **about)
    return giveaways(data.schema, data.x, data.y)


def frame(rows, seed=0):
    draw = np.random.default_rng(seed)
    return pd.DataFrame(draw.normal(size=(rows, 3)), columns=list("abc")), draw


def test_a_column_that_is_the_target_is_named():
    for rows in (40, 400):
        some, draw = frame(rows)
        asleep = (3 + 4 * draw.gamma(3, 1, rows)).round(1)
        names = {
            "awake": 24 - asleep,
            "squared": asleep**2,
            "late": asleep + draw.normal(size=rows),
        }
        found = given_away(some.assign(y=asleep, **names))
        assert set(found) == {"awake", "squared"}
        assert all(0.995 <= one <= 1 for one in found.values())


def test_a_good_feature_does_not_give_the_target_away():
    for seed in range(10):
        some, draw = frame(100, seed)
        near = some.assign(y=some["a"] + 0.15 * draw.normal(size=100))  # R2 0.98
        assert given_away(near) == {}
        assert given_away(some.assign(y=some["a"] + some["b"])) == {}
        labels = np.where(some["a"] + 0.2 * draw.normal(size=100) > 0, "yes", "no")
        assert given_away(some.assign(y=labels)) == {}


def test_a_column_gives_classes_away():
    some, draw = frame(150)
    kind = draw.choice(["cat", "dog", "eel"], 150)
    codes = pd.Series(kind).map({"cat": "c9", "dog": "a1", "eel": "b4"}).to_numpy()
    ranges = (kind == "dog") * 10 + (kind == "eel") * 20 + draw.uniform(size=150)
    found = given_away(some.assign(code=codes, range=ranges, y=kind))
    assert set(found) == {"code", "range"}
    swapped = np.where(draw.uniform(size=150) < 0.1, codes[::-1], codes)
    assert given_away(some.assign(code=swapped, y=kind)) == {}


def test_the_order_of_rows_and_their_copies_give_nothing_away():
    some, draw = frame(200)
    some["flag"] = draw.integers(0, 2, 200)
    ordered = some.assign(y=np.sort(draw.normal(size=200)))
    assert given_away(ordered) == {}
    assert given_away(pd.concat([ordered] * 300, ignore_index=True)) == {}
    labels = ordered.assign(y=np.sort(draw.integers(0, 2, 200)).astype(str))
    assert given_away(pd.concat([labels] * 300, ignore_index=True)) == {}


def test_a_table_of_one_column_or_of_few_rows_is_left_alone():
    some, _ = frame(60)
    some["y"] = 2 * some["a"]
    assert given_away(some, features=["a"]) == {}
    assert given_away(some, features=["a", "b"]) != {}
    assert given_away(some[:15]) == {}
