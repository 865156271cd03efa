"""Networks without a hidden layer, fitted in closed form."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

import kanlens
from kanlens.data._schema import class_schema
from kanlens.training import _closed_form as closed
from kanlens.training import _curve_design as curves
from kanlens.training import _fit_default as default
from kanlens.training import _small_network as small
from kanlens.training import _variance_components as components
from tests.training.conftest import seeded


def fitted(x, y, **options):
    x = torch.as_tensor(x, dtype=torch.float64)
    return kanlens.fit_default((x, y), hidden=(), progress=False, **options)


def rows(count=120, columns=3, seed=0):
    x = np.random.default_rng(seed).uniform(-1, 1, (count, columns))
    signal = np.sin(3 * x[:, 0]) + x[:, 1] ** 2
    return x, signal + 0.1 * np.random.default_rng(seed + 1).normal(size=count)


@pytest.fixture
def fits(monkeypatch):
    """Return the list of the networks, one for each output, that models are made of."""
    kept, convert = [], closed.to_kan
    monkeypatch.setattr(closed, "to_kan", lambda *a: (kept.append(a[1]), convert(*a))[1])
    return kept


def outputs_of(networks):
    return np.stack([network.outputs() for network in networks], 1)


def levels(value):
    return np.array(["a", "b", "c"])[np.digitize(value, [0, 0.6])]


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
@pytest.mark.parametrize("kind", ["one", "two outputs", "two classes", "three classes"])
def test_the_network_computes_the_outputs_of_the_fit(fits, kind):
    x, y = rows()
    targets = {
        "one": y,
        "two outputs": np.column_stack((y, x[:, 2] - y)),
        "two classes": np.where(y > 0.3, "yes", "no"),
        "three classes": levels(y),
    }
    result = fitted(x, targets[kind])
    model = result.model
    outputs = model.scale_outputs(torch.from_numpy(outputs_of(fits[0])))
    torch.testing.assert_close(model(torch.tensor(x)), outputs, rtol=1e-12, atol=1e-12)
    assert result.metric > 0.8
    assert sorted(result.held_out.tolist()) == list(range(120))
    assert result.folds.bincount().tolist() == [60] * 2
    assert model.widths == (3, {"two outputs": 2, "three classes": 3}.get(kind, 1))


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("classes", [False, True])
def test_rows_of_a_fold_have_no_part_in_their_predictions(monkeypatch, classes):
    judged, score = [], closed.score

    def keep(model, held_out, y, weights):
        judged.append(held_out)
        return score(model, held_out, y, weights)

    monkeypatch.setattr(closed, "score", keep)
    monkeypatch.setattr(closed, "settle_scaling", lambda *_: None)
    x, y = rows()
    folds, place = torch.arange(120) % 6, torch.tensor(x)
    targets = torch.tensor(y > 0.3).long() if classes else torch.tensor(y)[:, None]
    moved = targets.clone()
    moved[folds == 2] = 1 - moved[folds == 2] if classes else 100.0
    for part in (targets, moved):
        model = kanlens.KAN([3, 1]).double()
        if classes:
            model.schema = class_schema("y", ("no", "yes"))
            model.schema = replace(model.schema, features=kanlens.KAN([3, 1]).schema.features)
        closed.fit_additive(model, place, part, None, folds, torch.arange(120))
    first, second = judged
    torch.testing.assert_close(first[folds == 2], second[folds == 2], rtol=1e-9, atol=1e-9)
    assert float((first - second)[folds != 2].abs().max()) > 1e-3


@pytest.mark.slow  # hundreds of passes over three classes
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_a_penalized_logistic_regression(monkeypatch, fits, classes):
    for module in (closed, small):
        monkeypatch.setattr(module, "CHANGE", 0.0)
    monkeypatch.setattr(closed, "CYCLES", 8)
    monkeypatch.setattr(default, "MEMBERS", 2)  # folds: only the choice of curves depends on them
    monkeypatch.setattr(small, "PASSES", 5)
    for module in (components, curves):
        monkeypatch.setattr(module, "MIN_INFORMATION", 0.0)
    x, y = rows(40, 2)
    y = y + np.random.default_rng(5).normal(size=40)
    fitted(x, levels(y) if classes == 3 else np.where(y > 0, "yes", "no"))
    networks = fits[0]
    count = len(networks)
    design = networks[0].linear()[0]
    columns = design.columns(np.arange(40), np.arange(len(design.owners)))
    variances = [network.variances[network.owners] for network in networks]
    live = [np.flatnonzero(own > components.MIN_VARIANCE) for own in variances]
    own = [part[places] for part, places in zip(variances, live, strict=True)]
    truth = np.stack([network.targets for network in networks], 1)
    ends = np.cumsum([1 + len(part) for part in live])[:-1]

    def outputs(vector):
        parts = np.split(vector, ends)
        return np.stack([p[0] + columns[:, k] @ p[1:] for p, k in zip(parts, live, strict=True)], 1)

    def objective(vector):
        """Return half the penalized deviance, and its gradient."""
        values = outputs(vector)
        alone = np.column_stack((np.zeros(40), values)) if count == 1 else values
        codes = truth[:, 0].astype(int) if count == 1 else truth.argmax(1)
        log = (alone[np.arange(40), codes] - logsumexp(alone, 1)).sum()
        errors = (softmax(alone, 1) - np.eye(alone.shape[1])[codes])[:, -count:]
        parts = np.split(vector, ends)
        size = sum((p[1:] ** 2 / v).sum() for p, v in zip(parts, own, strict=True)) / 2
        pulls = [
            np.append(e.sum(), columns[:, k].T @ e + p[1:] / v)
            for e, k, p, v in zip(errors.T, live, parts, own, strict=True)
        ]
        return size - log, np.concatenate(pulls)

    start = np.zeros(ends[-1] + 1 + len(live[-1]) if count > 1 else 1 + len(live[0]))
    scale = np.concatenate([np.append(1, np.sqrt(part)) for part in own])

    def scaled(vector):
        value, gradient = objective(vector * scale)
        return value, gradient * scale

    best = minimize(scaled, start, jac=True, options={"gtol": 1e-7})
    expected = outputs(best.x * scale)
    difference = outputs_of(networks) - expected
    if count > 1:  # the same constant for all classes changes nothing
        difference = difference - difference.mean(1, keepdims=True)
    assert abs(difference).max() < 1e-3
    assert expected.std(0).max() > 0.1


@pytest.mark.slow  # trains networks
def test_weights_of_rows_equal_repeated_rows_and_zeros_leave_rows_out():
    x, y = rows()
    counts = np.random.default_rng(3).integers(1, 4, 120)
    repeated = np.repeat(np.arange(120), counts)
    several, once = fitted(x[repeated], y[repeated]), fitted(x, y, sample_weight=counts)
    plain = fitted(x, y)
    place = torch.tensor(x)
    with torch.no_grad():
        change = (several.model(place) - once.model(place)).std()
        other = (plain.model(place) - once.model(place)).std()
    assert float(change) < 0.2 * float(other)
    copies = fitted(np.tile(x, (3, 1)), np.tile(y, 3))
    torch.testing.assert_close(copies.model(place), plain.model(place), rtol=1e-6, atol=1e-6)
    assert copies.metric == pytest.approx(plain.metric, abs=0.01)
    bad = np.where(np.arange(120) < 100, y, 50.0)
    without = fitted(x, bad, sample_weight=(np.arange(120) < 100) * 1.0)
    assert float((without.model(place)[:, 0] - torch.tensor(y)).detach().square().mean()) < 0.05


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
@pytest.mark.parametrize("columns", [30, 100])
def test_noise_in_many_columns_is_not_predicted(columns):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(100, columns)), draw.normal(size=100)
    result = fitted(x, y)
    fresh = torch.tensor(draw.normal(size=(2000, columns)))
    assert -0.2 < result.metric < 0.05
    assert float(result.model(fresh).detach().var()) < 0.2


@pytest.mark.slow  # trains networks
def test_levels_of_a_category_share_a_variance(fits):
    draw = np.random.default_rng(0)
    kinds = draw.choice(list("abcdef"), 200)
    frame = pd.DataFrame({"kind": kinds, "size": draw.uniform(size=200)})
    frame["y"] = frame["kind"].map(dict(zip("abcdef", range(6), strict=True))) + frame["size"]
    result = kanlens.fit_default(kanlens.read_table(frame, target="y"), hidden=(), progress=False)
    assert result.metric > 0.99
    (network,) = fits[0]
    kind, size = network.columns
    assert len(kind.design.curves) == 6
    assert set(kind.design.owners.tolist()) == {0}
    assert len(size.design.curves) == 1


def heavy(x, y):
    x[:, 2] = np.random.default_rng(9).standard_cauchy(len(x))
    return x, y


def constant_column(x, y):
    x[:, 2] = 4.0
    return x, y


def two_values(x, y):
    x[:, 2] = x[:, 2] > 0
    return x, y + x[:, 2]


CASES = {
    "heavy tails": heavy,
    "constant column": constant_column,
    "two values": two_values,
    "exact": lambda x, y: (x, 2 * x[:, 0] - np.abs(x[:, 1])),
    "linear": lambda x, y: (x, 1e6 * x[:, 0]),
}


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("case", CASES)
def test_unusual_columns_and_targets(case):
    x, y = CASES[case](*rows())
    result = fitted(x, y)
    assert result.metric > (0.999 if case in ("exact", "linear") else 0.9)
    if case == "constant column":
        assert result.model.layers[0].mask.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.slow  # many cases
def test_few_rows(count, classes):
    x, y = rows(count)
    result = fitted(x, np.where(np.arange(count) % 2, "a", "b") if classes else y)
    assert np.isfinite([result.loss, result.validation_loss]).all()
    assert bool(result.model(torch.tensor(x)).isfinite().all())


@pytest.mark.slow  # trains networks
@pytest.mark.filterwarnings("ignore:.*constant up to rounding")
def test_a_constant_target_is_predicted():
    x, y = rows()
    outputs = fitted(x, np.column_stack((y, np.full(120, 7.0)))).model(torch.tensor(x))
    torch.testing.assert_close(outputs[:, 1], torch.full((120,), 7.0, dtype=torch.float64))
    assert float(outputs[:, 0].detach().std()) > 0.5


@pytest.mark.slow  # trains networks
def test_separable_classes_do_not_fail():
    x, _ = rows()
    result = fitted(x, np.where(x[:, 0] > 0, "a", "b"))
    assert result.metric > 0.95
    assert bool(result.model(torch.tensor(x)).isfinite().all())


def test_weights_that_leave_one_fold_do_not_fail():
    x, y = rows()
    weights = np.zeros(120)
    weights[:2] = 1
    result = fitted(x, y, sample_weight=weights)
    assert np.isfinite([result.loss, result.validation_loss, result.metric]).all()


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
@pytest.mark.parametrize(
    ("extrapolation", "dtype"),
    [("constant", torch.float32), ("linear", torch.float64), ("zero", torch.float32)],
)
def test_models_of_each_kind(tmp_path, extrapolation, dtype):
    x, y = rows()

    def build(hidden, grid_size):
        widths = [3, *hidden, 1]
        return kanlens.KAN(widths, extrapolation=extrapolation, generator=seeded()).to(dtype)

    result = kanlens.fit_default((x, y), hidden=(), build=build, progress=False)
    model, place = result.model, torch.tensor(x, dtype=dtype)
    assert model.dtype == dtype
    assert result.metric > 0.9
    kanlens.save(model, tmp_path / "m.safetensors")
    again = kanlens.load(tmp_path / "m.safetensors")
    assert torch.equal(again(place), model(place))
    assert bool(model(3 * place).isfinite().all())


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_many_columns_keep_the_equations_small(fits):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(100, 200))
    result = fitted(x, x[:, 0] + 0.3 * draw.normal(size=100))
    assert sum(len(column.design.owners) for column in fits[0][0].columns) == 200
    assert result.metric > 0.5


def columns_of(x, y, pooled):
    model = kanlens.KAN([x.shape[1], 1]).double()
    columns = closed.make_columns(model, x)
    network = small.SmallNetwork(columns, y, np.ones(len(x)), fine=True, pooled=pooled)
    every = [c.design.columns(np.arange(len(x)), np.arange(len(c.design.owners))) for c in columns]
    return network, np.concatenate(every, 1)


def test_pooled_variances_are_those_of_maximal_likelihood():
    x, y = rows(150)
    network, matrix = columns_of(x, y - y.mean(), True)
    assert len(network.variances) == 3 < len(columns_of(x, y, False)[0].variances)
    contrasts = np.linalg.svd(np.ones((1, 150)))[2][1:]

    def criterion(variances):
        covariance = (matrix * variances[network.owners]) @ matrix.T + network.noise * np.eye(150)
        covariance, rest = contrasts @ covariance @ contrasts.T, contrasts @ (y - y.mean())
        prior = min(small.PRIOR[0], small.PRIOR[1] * 3 / 149)
        value = np.linalg.slogdet(covariance)[1] + rest @ np.linalg.solve(covariance, rest)
        return value + 2 * prior * np.log(variances + components.NO_EFFECT).sum()

    best = criterion(network.variances)
    for factor, place in itertools.product((1 / 3, 1.5, 3), range(3)):
        changed = network.variances.copy()
        changed[place] *= factor
        assert criterion(changed) > best - components.MIN_CHANGE
    assert criterion(network.variances * [9, 1, 1]) > best + 1


@pytest.mark.slow  # trains networks
def test_variances_are_pooled_where_that_predicts_better(fits):
    draws = np.random.default_rng(3)
    x = draws.normal(size=(300, 12)) + draws.normal(size=(300, 1))
    classes = x.sum(1) + draws.normal(size=300) > 0
    fitted(x, np.where(classes, "yes", "no"))
    assert fits[-1][0].pooled
    x = draws.uniform(-1, 1, (200, 12))
    fitted(x, np.sin(3 * x[:, 0]) + 0.3 * draws.normal(size=200))
    assert not fits[-1][0].pooled


@pytest.mark.slow  # trains networks
def test_curves_have_rough_parts_where_these_predict_better():
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    noise = 0.1 * np.random.default_rng(1).normal(size=400)
    steps = np.sin(40 * np.floor(6 * x[:, 0])) + x[:, 1]
    held = [np.arange(start, 400, 5) for start in range(5)]
    for y, parts in ((steps, 3), (np.sin(2 * x[:, 0]) + x[:, 1], 2)):
        model = kanlens.KAN([2, 1]).double()
        targets = (y + noise - y.mean())[:, None]
        columns, _ = closed.choose_curves(model, torch.tensor(x), targets, np.ones(400), held)
        assert [len(column.design.curves[0].parts) for column in columns] == [parts] * 2


def test_copies_of_rows_do_not_choose_rough_parts():
    x = np.random.default_rng(2).uniform(-1, 1, (60, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + 0.3 * np.random.default_rng(3).normal(size=60)
    chosen = []
    for copies in (1, 40):
        held = [np.flatnonzero(np.arange(60 * copies) % 60 % 5 == fold) for fold in range(5)]
        weights = np.full(60 * copies, 1 / copies)
        targets, rows = (
            np.tile(y - y.mean(), copies)[:, None],
            torch.tensor(np.tile(x, (copies, 1))),
        )
        columns, _ = closed.choose_curves(
            kanlens.KAN([2, 1]).double(), rows, targets, weights, held
        )
        chosen.append([len(column.design.curves[0].parts) for column in columns])
    assert chosen == [[2, 2]] * 2


@pytest.mark.parametrize("edges", [None, 6])
def test_a_wrong_cell_is_clipped_where_its_row_is_held_out(edges):
    """Networks clip new rows; without this, the fit of the others would extrapolate."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 2))
    y = x @ [1.0, 2.0] + 0.1 * draw.normal(size=60)
    x[7, 0] = 1e9
    options = {"max_edges": edges} if edges else {"hidden": ()}
    data = torch.from_numpy(x), torch.from_numpy(y)
    assert kanlens.fit_default(data, progress=False, generator=seeded(), **options).metric > 0.9
