"""Conformal intervals and sets from rows held out of training, and calibrated probabilities."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

import kanlens
from kanlens.errors import FileFormatError, InvalidValueError, MethodError
from kanlens.model._config import KANConfig
from kanlens.model._held_out import HeldOut, probabilities
from kanlens.model._losses import Loss


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def noisy():
    """Two columns, one of them a category whose rows b are ten times as noisy."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"x": draw.uniform(-1, 1, 400), "kind": draw.choice(["a", "b"], 400)})
    noise = np.where(frame["kind"] == "b", 1.0, 0.1) * draw.normal(size=400)
    return kanlens.read_table(frame.assign(y=frame["x"] ** 2 + noise), target="y")


@pytest.fixture(scope="module")
def additive(noisy):
    return kanlens.fit_default(noisy, hidden=(), progress=False, generator=seeded()).model


@pytest.fixture(scope="module")
def classifier():
    draw = np.random.default_rng(1)
    x = draw.normal(size=(90, 2))
    labels = np.array(["low", "mid", "high"])[
        (x[:, 0] + draw.normal(size=90) > 0) + 1 * (x[:, 1] > 1)
    ]
    table = kanlens.read_table(pd.DataFrame(x, columns=["u", "v"]).assign(k=labels), target="k")
    return kanlens.fit_default(table, hidden=(), progress=False, generator=seeded()).model, table


def test_an_interval_has_the_width_that_enough_rows_held_out_needed(additive, noisy):
    outputs, targets = additive.held_out.arrays
    for level in (0.5, 0.9, 0.99):
        frame = kanlens.predict(additive, noisy, interval=level)
        half = (frame["y high"] - frame["y low"]) / 2
        errors = np.abs(targets - outputs)[:, 0] * float(additive.output_scale)
        place = int(np.ceil((len(errors) + 1) * level)) - 1
        np.testing.assert_allclose(half, np.sort(errors)[place], rtol=1e-12)
        np.testing.assert_allclose(frame["y high"] - half, frame["y"], rtol=1e-12)
        assert (errors <= half[0]).mean() >= level > (errors < half[0] * 0.9).mean()


@pytest.mark.parametrize("rows", [9, 19, 40])
def test_coverage_of_new_rows_is_that_of_the_theorem(rows):
    """With each row left out in turn, ceil((n + 1) level) of n + 1 are covered."""
    model = kanlens.KAN([1, 1], generator=seeded()).double()
    x = torch.rand(rows + 1, 1, generator=seeded(1), dtype=torch.float64)
    y = model(x).detach() + torch.randn(rows + 1, 1, generator=seeded(2), dtype=torch.float64)
    covered = 0
    for row in range(rows + 1):
        others = torch.arange(rows + 1) != row
        kanlens.calibrate(model, (x[others], y[others]))
        frame = kanlens.predict(model, x[row : row + 1], interval=0.9)
        covered += float(frame["y low"].iloc[0]) <= float(y[row]) <= float(frame["y high"].iloc[0])
    assert covered == np.ceil((rows + 1) * 0.9)


@pytest.mark.slow  # trains networks
def test_errors_of_rows_held_out_exceed_those_of_training(noisy):
    for how in ({"hidden": ()}, {"max_edges": 6}, {"hidden": (16,)}, {"hidden": (2,)}):
        model = kanlens.fit_default(noisy, progress=False, generator=seeded(), **how).model
        kept = model.held_out
        held = (kept.scores(Loss()) ** 2).mean() * float(model.output_scale) ** 2
        with torch.no_grad():
            train = float((model(model.prepare(noisy, call="t")) - noisy.y).square().mean())
        assert held > train > 0
        assert kept.rows == (400 if how != {"hidden": (2,)} else 67)


def test_fit_keeps_the_rows_of_its_validation_share(noisy):
    model = kanlens.KAN([2, 1], generator=seeded()).double()
    assert kanlens.fit(model, noisy, steps=2, progress=False).model.held_out.rows == 80
    kanlens.fit(model, noisy, steps=2, validation=0.0, progress=False)
    assert model.held_out is None


def test_each_category_has_the_width_of_its_own_rows(additive, noisy):
    frame = kanlens.predict(additive, noisy, interval=0.9, by="kind")
    widths = (frame["y high"] - frame["y low"]).groupby(noisy.frame["kind"]).agg(["min", "max"])
    np.testing.assert_allclose(widths["min"], widths["max"])
    assert widths.loc["b", "min"] > 5 * widths.loc["a", "min"]
    own = additive.held_out.codes["kind"] == 0
    level = np.sort(additive.held_out.scores(Loss())[own, 0])[
        int(np.ceil((own.sum() + 1) * 0.9)) - 1
    ]
    np.testing.assert_allclose(widths.loc["a"] / 2, level * float(additive.output_scale))


def test_a_category_with_few_rows_held_out_has_the_width_of_all(additive, noisy):
    rows = noisy.frame.head(2)
    wide = kanlens.predict(additive, rows, interval=0.999 - 1e-3 * 2, by="kind")
    plain = kanlens.predict(additive, rows, interval=0.999 - 1e-3 * 2)
    pd.testing.assert_frame_equal(wide, plain)


@pytest.mark.slow  # trains networks
def test_sets_hold_the_labels_that_are_probable_enough(classifier):
    model, table = classifier
    outputs, codes = model.held_out.arrays
    chances = torch.tensor(outputs).softmax(1).numpy()
    scores = np.sort(1 - chances[np.arange(len(codes)), codes[:, 0].astype(int)])
    least = 1 - scores[int(np.ceil((len(scores) + 1) * 0.8)) - 1]
    frame = kanlens.predict(model, table, interval=0.8)
    for label in model.class_labels:
        expected = frame[f"probability {label}"] >= least
        assert (frame[f"in set {label}"] == expected).mean() > 0.99  # float32 at the edge
    truth = [frame[f"in set {label}"][row] for row, label in enumerate(table.frame["k"])]
    assert np.mean(truth) > 0.75


def test_rows_held_out_are_in_the_file_and_not_read_when_damaged(additive, noisy, tmp_path):
    again = kanlens.load(kanlens.save(additive, tmp_path / "m.safetensors"))
    assert again.held_out == additive.held_out
    expected = kanlens.predict(additive, noisy, interval=0.9)
    pd.testing.assert_frame_equal(kanlens.predict(again, noisy, interval=0.9), expected)
    config = json.loads(additive.config.to_json())
    for change in (
        {"rows": 3},
        {"outputs": "AAAAfw=="},
        {"shrink": 2.0},
        {"levels": {"kind": ""}},
        {"outputs": "?"},
        {"targets": config["held_out"]["targets"] * 2},
        {"other": 1},
    ):
        broken = {**config, "held_out": {**config["held_out"], **change}}
        with pytest.raises(FileFormatError):
            KANConfig.from_json(json.dumps(broken))


def test_more_rows_than_are_kept_are_drawn(monkeypatch, noisy):
    monkeypatch.setattr("kanlens.model._held_out.MAX_ROWS", 50)
    model = kanlens.fit_default(noisy, hidden=(), progress=False, generator=seeded()).model
    assert model.held_out.rows == 50
    assert all(len(codes) == 50 for codes in model.held_out.codes.values())


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, "0.9", True, float("nan")])
def test_a_share_that_is_none_is_refused(additive, noisy, level):
    with pytest.raises(InvalidValueError, match="between 0 and 1"):
        kanlens.predict(additive, noisy, interval=level)


def test_a_model_without_rows_held_out_has_no_intervals(additive, noisy):
    fresh = kanlens.KAN([2, 1], generator=seeded())
    with pytest.raises(MethodError, match="calibrate"):
        kanlens.predict(fresh, torch.zeros(2, 2), interval=0.9)
    pruned = kanlens.prune(additive, noisy, threshold=1.0).model
    with pytest.raises(MethodError, match="calibrate"):
        kanlens.predict(pruned, noisy, interval=0.9)
    with pytest.raises(MethodError, match="at least 999 rows"):
        kanlens.predict(additive, noisy, interval=0.999)
    with pytest.raises(InvalidValueError, match="kind"):
        kanlens.predict(additive, noisy, interval=0.9, by="x")


def test_rows_of_the_user_take_the_place_of_those_of_training(additive, noisy):
    model = kanlens.calibrate(copied(additive), (noisy.frame.drop(columns="y"), noisy.y + 5))
    frame = kanlens.predict(model, noisy, interval=0.9)
    assert ((frame["y high"] - frame["y low"]) > 10).all()


def copied(model):
    """Return a copy of a model, made as a file would."""
    again = kanlens.KAN.from_config(model.config)
    again.load_state_dict(model.state_dict())
    return again


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.usefixtures("few_folds")
def test_probabilities_have_the_least_log_loss_of_a_scale_and_shifts(outputs):
    draw = np.random.default_rng(outputs)
    logits = draw.normal(size=(250, outputs)) * 3
    chances = probabilities(torch.tensor(logits / 3 + 0.5)).numpy()
    codes = np.array([draw.choice(len(p), p=p) for p in chances])
    names = [str(code) for code in range(max(outputs, 2))]
    frame = pd.DataFrame(logits).rename(columns=lambda c: f"x{c}")
    table = kanlens.read_table(
        frame.assign(k=[names[code] for code in codes]), target="k", task="classification"
    )
    model = kanlens.fit_default(table, hidden=(), progress=False, generator=seeded()).model
    with torch.no_grad():
        model.output_scale.mul_(3.0)
    before = kanlens.predict(model, table)
    kanlens.calibrate(model, table, probabilities=True)
    after = kanlens.predict(model, table)
    columns = [f"probability {name}" for name in model.class_labels]

    def loss(frame):
        own = [model.class_labels.index(names[code]) for code in codes]
        return -np.log(frame[columns].to_numpy()[np.arange(250), own]).mean()

    assert loss(after) < loss(before) - 0.02
    held, targets = model.held_out.arrays
    np.testing.assert_allclose(
        np.sort(held, axis=0),
        np.sort(model(model.prepare(table, call="t")).detach(), axis=0),
        rtol=1e-5,
        atol=1e-5,
    )
    for move in (0.97, 1.03):  # the loss of the rows held out rises on either side
        moved = probabilities(torch.tensor(held) * move).numpy()
        now = probabilities(torch.tensor(held)).numpy()
        places = np.arange(250), targets[:, 0].astype(int)
        assert -np.log(moved[places]).mean() > -np.log(now[places]).mean()


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_a_threshold_has_the_least_cost_of_rows_held_out():
    draw = np.random.default_rng(5)
    x = draw.normal(size=(300, 2))
    labels = x[:, 0] + draw.normal(size=300) > 0.5
    model = kanlens.KANClassifier(hidden=(), random_state=0).fit(x, labels)
    outputs, codes = model.model_.held_out.arrays
    chances, codes = 1 / (1 + np.exp(-outputs[:, 0])), codes[:, 0]

    def costs(threshold, pair):
        positive = chances >= threshold
        return (
            pair[0] * (positive & (codes == 0)).sum() + pair[1] * (~positive & (codes == 1)).sum()
        )

    for pair in ((1.0, 1.0), (1.0, 5.0), (20.0, 0.5), (1e-3, 1e3), (1e3, 1e-3)):
        threshold = model.find_threshold(cost=pair)
        least = min(costs(each, pair) for each in (0.0, *chances, 2.0))
        assert costs(threshold, pair) == pytest.approx(least, abs=1e-9) and 0 < threshold < 1
        scorer = make_scorer(
            lambda y, guess, pair=pair: -pair[0] * (guess > y).sum() - pair[1] * (guess < y).sum()
        )
        tuned = TunedThresholdClassifierCV(Logits(), scoring=scorer, cv="prefit", refit=False)
        tuned.fit(outputs, codes.astype(int))
        assert costs(threshold, pair) <= costs(tuned.best_threshold_, pair) + 1e-9
    for wrong in ((1.0,), (1.0, -1.0), (0.0, 1.0), 5.0, (1.0, float("nan")), "x"):
        with pytest.raises(InvalidValueError, match="costs of a false positive"):
            model.find_threshold(cost=wrong)
    three = kanlens.KANClassifier(hidden=(), random_state=0)
    three.fit(x[:40], x[:40, 0].round().clip(-1, 1))
    with pytest.raises(MethodError, match="two classes"):
        three.find_threshold()


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier of one logit, for scikit-learn."""

    classes_ = np.array([0, 1])

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, x):
        high = 1 / (1 + np.exp(-x[:, 0]))
        return np.stack([1 - high, high], 1)


def test_only_classes_have_probabilities(additive):
    with pytest.raises(MethodError, match="a classifier"):
        kanlens.calibrate(additive, probabilities=True)


@pytest.mark.slow  # trains networks
def test_estimators_return_intervals_and_sets():
    draw = np.random.default_rng(3)
    x = draw.uniform(-1, 1, (120, 2))
    y = x[:, 0] + 0.1 * draw.normal(size=120)
    values = kanlens.KANRegressor(hidden=(), random_state=0).fit(x, y).predict(x, interval=0.9)
    assert values.shape == (120, 3)
    assert ((values[:, 1] <= y) & (y <= values[:, 2])).mean() > 0.85
    both = kanlens.KANRegressor(hidden=(), random_state=0).fit(x, np.stack([y, -y], 1))
    assert both.predict(x, interval=0.9).shape == (120, 2, 3)
    model = kanlens.KANClassifier(hidden=(), random_state=0).fit(x, y > 0)
    sets, codes = model.predict_set(x, 0.9), (y > 0).astype(int)
    assert sets.shape == (120, 2)
    assert sets[np.arange(120), codes].mean() > 0.85


def test_scores_shrink_by_the_gain_of_the_mean():
    held = HeldOut(rows=1, outputs="AAAAAA==", targets="AACAPw==", shrink=0.5)
    assert held.scores(Loss()).tolist() == [[0.5]]
    assert dataclasses.replace(held, shrink=1.0).scores(Loss()).tolist() == [[1.0]]


def quantile_rows(rows, seed):
    """Return rows whose noise grows with a column."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (rows, 2))
    y = x[:, 0] ** 2 + (0.1 + np.abs(x[:, 1])) * draw.normal(size=rows)
    return torch.tensor(x), y


@pytest.mark.slow  # trains networks
def test_quantiles_are_moved_so_that_their_interval_covers():
    """The rule of Romano, Patterson and Candes (2019), and its coverage of new rows."""
    way = {"loss": "quantile", "quantile": (0.05, 0.5, 0.95), "hidden": (), "progress": False}
    x, y = quantile_rows(400, 0)
    model = kanlens.fit_default((x, y), generator=seeded(), **way).model
    new, truth = quantile_rows(4000, 1)
    shares = []
    for seed in range(2, 10):
        rows, targets = quantile_rows(199, seed)
        kanlens.calibrate(model, (rows, targets))
        frame = kanlens.predict(model, new, interval=0.9)
        low, _, high = kanlens.predict(model, rows).to_numpy().T
        errors = np.sort(np.maximum(low - targets, targets - high))
        plain = kanlens.predict(model, new).to_numpy()
        np.testing.assert_allclose(frame["low"], plain[:, 0] - errors[179], atol=1e-6)
        np.testing.assert_allclose(frame["high"], plain[:, 2] + errors[179], atol=1e-6)
        shares.append(((frame["low"] <= truth) & (truth <= frame["high"])).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)
    wide = (frame["high"] - frame["low"]).groupby(new[:, 1].abs().numpy() > 0.5).mean()
    assert wide[True] > 1.5 * wide[False]
    half = kanlens.predict(model, new[:3], interval=0.1)  # both ends start from the median
    np.testing.assert_allclose((half["low"] + half["high"]) / 2, half["y2"], atol=1e-9)


@pytest.mark.slow  # takes a while
def test_several_quantiles_have_one_interval(tmp_path, capsys):
    from kanlens.cli import main

    x, y = quantile_rows(60, 0)
    frame = pd.DataFrame(x.numpy(), columns=["a", "b"]).assign(y=y)
    model = kanlens.KANRegressor(hidden=(), loss="quantile", quantile=(0.1, 0.9), random_state=0)
    values = model.fit(frame[["a", "b"]], y).predict(frame[["a", "b"]], interval=0.8)
    assert values.shape == (60, 4)
    path, data, out = (tmp_path / name for name in ("m.safetensors", "d.csv", "p.csv"))
    kanlens.save(model.network_, path)
    frame.assign(**dict.fromkeys(model.network_.output_names, y)).to_csv(data, index=False)
    options = ["--interval", "0.8", "-o", str(out), "--json"]
    assert main(["predict", str(path), str(data), *options]) == 0
    told, inside = json.loads(capsys.readouterr().out), (values[:, 2] <= y)
    assert told["covered"] == (inside & (y <= values[:, 3])).mean()


def test_the_command_writes_intervals_and_the_share_covered(additive, noisy, tmp_path, capsys):
    from kanlens.cli import main

    model, data, out = (tmp_path / name for name in ("m.safetensors", "d.csv", "p.csv"))
    kanlens.save(additive, model)
    noisy.frame.to_csv(data, index=False)
    options = ["--interval", "0.9", "--by", "kind", "-o", str(out)]
    assert main(["predict", str(model), str(data), *options, "--json"]) == 0
    frame, facts = pd.read_csv(out), json.loads(capsys.readouterr().out)
    pd.testing.assert_frame_equal(frame, kanlens.predict(additive, noisy, interval=0.9, by="kind"))
    inside = (frame["y low"] <= noisy.frame["y"]) & (noisy.frame["y"] <= frame["y high"])
    assert facts["covered"] == inside.mean()


@pytest.mark.slow  # trains networks
def test_support_names_features_and_pairs_outside_the_data(tmp_path, capsys):
    from kanlens.cli import main

    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": draw.uniform(-1, 1, 300), "b": 0.0, "kind": draw.choice(["u", "v"], 300)}
    )
    frame["b"] = -frame["a"] + 0.05 * draw.normal(size=300)
    noise = 0.1 * draw.normal(size=300)
    table = kanlens.read_table(frame.assign(y=frame["a"] + noise), target="y")
    model = kanlens.fit_default(table, hidden=(), progress=False, generator=seeded()).model
    new = pd.DataFrame({"a": [0.5, 0.5, 9.0, 9.0], "b": [-0.5, 0.5, 0.5, 9.0], "kind": ["u"] * 4})
    words = ["", "1 pair (a x b)", "1 of 3 features (a)", "2 of 3 features (a, b)"]
    own = kanlens.predict(model, new, interval=0.9, support=True)
    assert own["outside the data"].tolist() == words
    pd.testing.assert_frame_equal(own.iloc[:, :-1], kanlens.predict(model, new, interval=0.9))
    assert not (kanlens.predict(model, frame, support=True)["outside the data"] != "").any()
    model.background = None
    assert kanlens.predict(model, new, support=True)["outside the data"].tolist()[:2] == ["", ""]
    path, data, out = (tmp_path / name for name in ("m.safetensors", "d.csv", "p.csv"))
    kanlens.save(kanlens.fit_default(table, hidden=(), progress=False).model, path)
    new.assign(y=0.5).to_csv(data, index=False)
    options = ["--support", "--interval", "0.9", "-o", str(out), "--json"]
    assert main(["predict", str(path), str(data), *options]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["outside"], facts["covered"]) == (3, 0.5)
    assert pd.read_csv(out)["outside the data"].fillna("").tolist() == words


def test_the_command_calibrates_a_model_that_has_changed(additive, noisy, tmp_path, capsys):
    from kanlens.cli import main

    model, data, out = (
        str(tmp_path / name) for name in ("m.safetensors", "d.csv", "c.safetensors")
    )
    kanlens.save(kanlens.prune(additive, noisy, threshold=1.0).model, model)
    noisy.frame.to_csv(data, index=False)
    assert main(["predict", model, data, "--interval", "0.9"]) == 1
    assert "calibrate" in capsys.readouterr().err
    assert main(["calibrate", model, data, "-o", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 400
    assert kanlens.load(out).held_out.rows == 400
