"""Losses are those of scikit-learn and statsmodels, and networks are fitted by them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

import kanlens
from kanlens.errors import DataError, FileFormatError, InvalidValueError, MethodError
from kanlens.model import _survival
from kanlens.model._config import KANConfig
from kanlens.model._losses import LOSSES
from kanlens.training._objective import row_losses, score
from kanlens.training._options import choose_loss

TWEEDIE = {"poisson": 1, "tweedie": 1.5, "gamma": 2}
COLUMNS = ["first", "second"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(loss, rows=300, seed=0):
    """Return x, its linear predictor, and targets; of Cox's loss, signed times with ties."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (rows, 2))
    eta = 1 + x[:, 0] - 0.5 * x[:, 1]
    if loss == "cox":
        times, ends = draw.exponential(np.exp(-eta)), draw.exponential(1, rows)
        return x, eta, np.ceil(np.minimum(times, ends) * 20) / 20 * np.where(times < ends, 1, -1)
    if loss == "poisson":
        return x, eta, draw.poisson(np.exp(eta)).astype(float)
    if loss in TWEEDIE:
        return x, eta, draw.gamma(3, np.exp(eta) / 3)
    return x, eta, eta + 0.5 * draw.standard_t(3, rows)


def trained(loss, x, y, **options):
    options = {"hidden": (), "progress": False, "generator": seeded(), **options}
    return kanlens.fit_default((x, y), loss=loss, **options)


def model_of(loss, outputs=1, **parameter):
    model = kanlens.KAN([2, outputs], generator=seeded()).double()
    names = {"quantile": None, "power": None, **parameter}
    model.schema = choose_loss(model.schema, loss, **names, call="fit")
    return model


def sklearn_scores(loss):
    """Return mean loss and D2 of scikit-learn, of targets and responses."""
    if loss in TWEEDIE:
        power = {"power": TWEEDIE[loss]}
        names = metrics.mean_tweedie_deviance, metrics.d2_tweedie_score
    elif loss == "quantile":
        power, names = {"alpha": 0.8}, (metrics.mean_pinball_loss, metrics.d2_pinball_score)
    else:
        power, names = {}, (metrics.mean_absolute_error, metrics.d2_absolute_error_score)
    return [lambda *pair, own=own, **w: own(*pair, **power, **w) for own in names]


@pytest.mark.parametrize("loss", [*TWEEDIE, "quantile", "absolute_error"])
def test_losses_and_scores_are_those_of_scikit_learn(loss):
    _x, eta, y = drawn(loss)
    model = model_of(loss, **({"quantile": 0.8} if loss == "quantile" else {}))
    rows, targets = torch.tensor(eta)[:, None], torch.tensor(y)[:, None]
    weights = torch.tensor(np.random.default_rng(1).uniform(0.5, 1.5, len(y)))
    mean, d2 = sklearn_scores(loss)
    response = model.loss.response(eta)
    assert float(row_losses(model, rows, targets).mean()) == pytest.approx(mean(y, response))
    assert score(model, rows, targets) == pytest.approx(d2(y, response))
    weighted = d2(y, response, sample_weight=weights.numpy())
    assert score(model, rows, targets, weights) == pytest.approx(weighted, abs=1e-3)
    assert score(model, rows + 0.1, targets) != pytest.approx(d2(y, response), abs=1e-4)


def test_hubers_loss_is_that_of_scikit_learn():
    from sklearn._loss.loss import HuberLoss

    _x, eta, y = drawn("huber")
    model = model_of("huber")
    model.output_scale.fill_(0.4)
    own = row_losses(model, torch.tensor(eta)[:, None], torch.tensor(y)[:, None])
    theirs = HuberLoss(quantile=0.9, delta=0.4).loss(y, eta)
    assert np.allclose(own.numpy() * 0.4**2, theirs)


@pytest.mark.parametrize("name", [*TWEEDIE, "squared_error", "huber", "cox"])
def test_working_errors_are_slopes_of_losses(name):
    _x, eta, y = drawn(name, 60)
    loss, sums, weights = LOSSES[name](), 0.3 * eta, np.linspace(0.5, 1.5, 60)
    own, errors = loss.working(sums, y, weights)
    step = np.full(60, 1e-6)
    for row in range(0, 60, 7):
        move = np.where(np.arange(60) == row, step, 0)
        change = weights @ (
            loss.losses(sums + move, y, weights) - loss.losses(sums - move, y, weights)
        )
        assert change / 2e-6 == pytest.approx(-2 * own[row] * errors[row], rel=1e-4, abs=1e-4)


@pytest.mark.slow  # trains networks
def test_the_partial_likelihood_is_that_of_statsmodels():
    from statsmodels.duration.hazard_regression import PHReg

    x, _, y = drawn("cox")
    other = PHReg(abs(y), x, status=(y > 0).astype(int), ties="breslow")
    targets, own = torch.tensor(y)[:, None], []
    for slopes in ([0.0, 0.0], [0.5, -1.0]):
        rows = LOSSES["cox"]().rows(torch.tensor(x @ slopes)[:, None], targets)
        own.append(float(rows.sum()) + other.loglike(slopes))
    assert own[0] == pytest.approx(own[1])
    fit = other.fit()
    result = trained("cox", x, y)
    outputs = result.model(torch.tensor(x)).detach().numpy()[:, 0]
    assert np.corrcoef(outputs, x @ fit.params)[0, 1] > 0.97
    assert result.metric_name == "concordance"
    assert 0.6 < result.metric < 1


def test_rows_of_weight_zero_are_in_no_risk_set_but_their_own():
    _x, eta, y = drawn("cox", 40)
    weights = np.where(np.arange(40) % 3 == 0, 0.0, 1.5)
    own = LOSSES["cox"]().losses(eta, y, weights)
    for row in range(40):
        at_risk = weights * (abs(y) >= abs(y[row])) + (weights == 0) * (np.arange(40) == row)
        expected = 2 * (y[row] > 0) * (1 + np.log(at_risk @ np.exp(eta) / at_risk.sum()) - eta[row])
        assert own[row] == pytest.approx(expected)
    output = torch.tensor(eta)[:, None].requires_grad_()
    targets, used = torch.tensor(y)[:, None], torch.tensor(weights)
    (LOSSES["cox"]().rows(output, targets, weights=used)[:, 0] * used).sum().backward()
    kept = weights > 0
    part = torch.tensor(eta[kept])[:, None].requires_grad_()
    LOSSES["cox"]().rows(part, targets[kept]).sum().backward()
    assert output.grad[kept].numpy() == pytest.approx(1.5 * part.grad.numpy())
    assert output.grad[~kept].abs().max() < 1e-9


def test_hazards_and_concordance_are_those_of_all_pairs():
    _x, eta, y = drawn("cox", 50)
    output, weights = eta.round(1), np.linspace(0.5, 1.5, 50)
    right = total = 0
    for i in range(50):
        for j in range(50):
            later = abs(y[j]) > abs(y[i]) or (abs(y[j]) == abs(y[i]) and y[j] < 0)
            if y[i] > 0 and later:
                total += 1
                right += 0.5 if output[i] == output[j] else float(output[i] > output[j])
    assert _survival.concordance(output, y) == pytest.approx(right / total)
    assert _survival.concordance(-output, y) == pytest.approx(1 - right / total)
    hazard = _survival.cumulative_hazard(output, y, weights)
    for time in (0.0, 0.1, 0.33, 9.0):
        steps = [
            weights[k] / (weights * np.exp(output))[abs(y) >= y[k]].sum()
            for k in range(50)
            if 0 < y[k] <= time
        ]
        assert hazard(np.array([time]))[0] == pytest.approx(sum(steps))


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("loss", list(TWEEDIE))
@pytest.mark.usefixtures("few_folds")
def test_log_linear_means_are_found_as_by_a_generalized_linear_model(loss):
    import statsmodels.api as sm

    x, eta, y = drawn(loss)
    family = {
        "poisson": sm.families.Poisson(),
        "gamma": sm.families.Gamma(sm.families.links.Log()),
        "tweedie": sm.families.Tweedie(var_power=1.5),
    }[loss]
    fit = sm.GLM(y, sm.add_constant(x), family=family).fit()
    own = kanlens.predict(trained(loss, x, y).model, torch.tensor(x))["y"].to_numpy()
    mean, _d2 = sklearn_scores(loss)
    assert np.log(own).std() == pytest.approx(np.log(fit.fittedvalues).std(), rel=0.15)
    assert mean(np.exp(eta), own) < 0.2 * mean(np.exp(eta), np.full(len(y), y.mean()))


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("loss", ["quantile", "absolute_error", "huber"])
@pytest.mark.usefixtures("few_folds")
def test_robust_losses_follow_the_quantile_and_no_outlier(loss):
    x, _eta, y = drawn(loss)
    options = {"quantile": 0.8} if loss == "quantile" else {}
    model = trained(loss, x, y, **options).model
    own = kanlens.predict(model, torch.tensor(x))["y"].to_numpy()
    assert (y < own).mean() == pytest.approx(options.get("quantile", 0.5), abs=0.05)
    y[::30] += 1000
    far = kanlens.predict(trained(loss, x, y, **options).model, torch.tensor(x))["y"].to_numpy()
    assert abs(far - own).mean() < 0.4


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("small", [False, True])
def test_several_quantiles_do_not_cross(small, tmp_path):
    levels = [0.1, 0.5, 0.51]
    x, _, y = drawn("quantile", 200)
    frame = pd.DataFrame(x, columns=COLUMNS).assign(cost=y)
    table = kanlens.read_table(frame, target="cost")
    own = {"max_edges": 12} if small else {"hidden": ()}
    way = {"loss": "quantile", "quantile": levels, "progress": False, "generator": seeded()}
    model = kanlens.fit_default(table, **own, **way).model
    rows = np.random.default_rng(1).uniform(-1, 1, (500, 2))
    assert (model(torch.tensor(rows)).diff(dim=1) < 0).any()
    values = kanlens.predict(model, rows)
    assert list(values) == [f"cost quantile {level:g}" for level in levels]
    assert (values.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    shares = (y[:, None] < kanlens.predict(model, x).to_numpy()).mean(0)
    assert shares == pytest.approx(levels, abs=0.06)
    kanlens.save(model, tmp_path / "model.safetensors")
    loaded = kanlens.load(tmp_path / "model.safetensors")
    assert loaded.loss.levels == tuple(levels)
    pd.testing.assert_frame_equal(kanlens.predict(loaded, rows), values)


@pytest.mark.slow  # trains networks
def test_growth_finds_products_on_the_log_scale():
    x, _, _ = drawn("poisson", 600)
    y = np.random.default_rng(3).poisson(np.exp(1 + 2 * x[:, 0] * x[:, 1])).astype(float)
    front = kanlens.frontier((x, y), loss="poisson", progress=False, generator=seeded())
    assert [step.added for step in front.steps][:2] == ["curves alone", "x1 * x2"]
    assert front.metric_name == "D2"
    assert front.steps[1].score > front.steps[0].score + 0.1
    assert all("link" not in step.added for step in front.steps)


def test_networks_with_hidden_layers_are_trained_by_the_loss():
    x, _eta, y = drawn("gamma", 120)
    model = kanlens.KAN([2, 3, 1], generator=seeded()).double()
    result = kanlens.fit(model, (x, y), loss="gamma", steps=4, progress=False, generator=seeded())
    assert result.metric_name == "D2"
    assert result.metric > 0.3
    again = kanlens.fit(model, (x, y), steps=1, progress=False, generator=seeded())
    assert again.model.loss.name == "gamma"


@pytest.mark.slow  # trains networks
def test_exposure_and_offset_have_the_likelihood_of_an_offset():
    import statsmodels.api as sm

    x, eta, _ = drawn("poisson")
    draw = np.random.default_rng(2)
    years = draw.uniform(0.2, 3, len(x))
    frame = pd.DataFrame(x, columns=COLUMNS).assign(years=years)
    frame["claims"] = draw.poisson(np.exp(eta) * years)
    table = kanlens.read_table(frame, target="claims")
    options = {"loss": "poisson", "hidden": (), "progress": False}
    model = kanlens.fit_default(table, exposure="years", generator=seeded(), **options).model
    assert model.feature_names == tuple(COLUMNS)
    assert model.output_names == ("claims per years",)
    rates = kanlens.predict(model, frame)["claims per years"].to_numpy()
    assert (rates * years).sum() == pytest.approx(frame["claims"].sum(), rel=1e-2)
    fit = sm.GLM(frame["claims"], sm.add_constant(x), sm.families.Poisson(), exposure=years).fit()
    assert np.log(rates) == pytest.approx(sm.add_constant(x) @ fit.params.to_numpy(), abs=0.25)
    logs = kanlens.fit_default(
        (x, frame["claims"]), offset=np.log(years), generator=seeded(), **options
    ).model
    assert logs(torch.tensor(x)).detach().numpy()[:, 0] == pytest.approx(np.log(rates))


@pytest.mark.slow  # trains networks
def test_events_are_signs_of_times():
    x, _, y = drawn("cox", 150)
    frame = pd.DataFrame(x, columns=COLUMNS).assign(time=abs(y), dead=(y > 0).astype(int))
    table = kanlens.read_table(frame, target="time")
    options = {"loss": "cox", "hidden": (), "progress": False}
    named = kanlens.fit_default(table, event="dead", generator=seeded(), **options).model
    signed = kanlens.fit_default((x, y), generator=seeded(), **options).model
    assert torch.equal(named(torch.tensor(x)), signed(torch.tensor(x)))
    assert named.output_names == ("hazard of dead",)
    assert kanlens.predict(named, x[:3]).to_numpy() == pytest.approx(
        np.exp(named(torch.tensor(x[:3])).detach().numpy())
    )


@pytest.mark.slow  # trains networks
def test_survival_is_that_of_breslows_baseline():
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (500, 1))
    times = draw.exponential(np.exp(-x[:, 0]))
    y = np.where(draw.uniform(size=500) < 0.8, times, -times)
    model = trained("cox", x, y).model
    frame = kanlens.predict(model, x, times=[0.5, 1.0])
    for time, share in ((0.5, frame["survival 0.5"]), (1.0, frame["survival 1"])):
        assert abs(share - np.exp(-0.8 * time * np.exp(x[:, 0]))).mean() < 0.05
    assert (frame["survival 1"] < frame["survival 0.5"]).all()
    with pytest.raises(MethodError, match="a loss with intervals"):
        kanlens.predict(model, x, interval=0.9)
    with pytest.raises(MethodError, match="times only with loss='cox'"):
        kanlens.predict(trained("gamma", x, times).model, x, times=[1.0])


def test_files_keep_the_loss(tmp_path):
    x, _, y = drawn("tweedie", 60)
    model = trained("tweedie", x, y, power=1.2).model
    kanlens.save(model, tmp_path / "model.safetensors")
    loaded = kanlens.load(tmp_path / "model.safetensors")
    assert (loaded.loss.name, loaded.loss.parameter) == ("tweedie", 1.2)
    pd.testing.assert_frame_equal(kanlens.predict(loaded, x), kanlens.predict(model, x))
    data = json.loads(model.config.to_json())
    for wrong in ({"loss": "other"}, {"loss_parameter": "one"}):
        changed = {**data, "schema": {**data["schema"], **wrong}}
        with pytest.raises(FileFormatError, match="kanlens configuration"):
            KANConfig.from_json(json.dumps(changed))
    plain = dataclasses.replace(model.schema, loss="squared_error", loss_parameter=None)
    assert "loss" not in json.dumps(dataclasses.replace(model.config, schema=plain).to_json())


@pytest.mark.slow  # trains networks
def test_intervals_are_those_of_responses():
    x, _eta, y = drawn("gamma")
    model = trained("gamma", x, y).model
    frame = kanlens.predict(model, x, interval=0.9)
    covered = (frame["y low"] <= y) & (y <= frame["y high"])
    assert covered.mean() == pytest.approx(0.9, abs=0.04)
    assert (frame["y low"] >= 0).all()
    halves = frame["y high"] - frame["y"]
    assert halves.std() < 1e-9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "poison"}, "poisson"),
        ({"loss": "quantile", "quantile": 1.0}, "quantile to be shares between 0 and 1"),
        ({"loss": "tweedie", "power": 3}, "power to be from 1 to 2"),
        ({"loss": "poisson", "quantile": 0.9}, "quantile only with loss='quantile'"),
        ({"loss": "gamma"}, "numbers above 0"),
        ({"loss": "log_loss"}, "classes for loss='log_loss'"),
        ({"loss": "cox"}, "with an event"),
        ({"exposure": np.ones(30)}, "exposure only with loss poisson, gamma or tweedie"),
        ({"loss": "poisson", "event": np.ones(30)}, "event only with loss cox"),
        ({"loss": "poisson", "exposure": np.zeros(30)}, "exposure to be 30 positive numbers"),
        (
            {"loss": "poisson", "exposure": np.ones(30), "sample_weight": np.ones(9)},
            "sample_weight to be 30 numbers",
        ),
        ({"loss": "cox", "event": np.ones(30), "hidden": (5,)}, "no hidden layer"),
    ],
)
def test_wrong_losses_and_values_are_refused_in_a_line(options, words):
    x = np.linspace(-1, 1, 30)[:, None]
    y = np.arange(30.0)
    y = y + 1 if "hidden" in options else y
    with pytest.raises((InvalidValueError, DataError), match=words) as raised:
        kanlens.fit_default((x, y), **{"progress": False, "hidden": (), **options})
    assert "\n" not in str(raised.value)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_estimators_take_losses_and_class_weights():
    from sklearn.base import clone
    from sklearn.utils.class_weight import compute_sample_weight

    x, _, y = drawn("poisson", 150)
    years = np.linspace(0.5, 2, 150)
    own = kanlens.KANRegressor(hidden=(), loss="poisson", random_state=0)
    own = clone(own).fit(x, y, exposure=years)
    assert own.network_.loss.name == "poisson"
    assert own.predict(x) == pytest.approx(
        np.exp(own.network_(torch.tensor(x)).detach().numpy()[:, 0])
    )
    both = kanlens.KANRegressor(hidden=(), loss="quantile", quantile=[0.2, 0.8], random_state=0)
    assert (np.diff(both.fit(x, y).predict(x), axis=1) >= 0).all()
    x, _, times = drawn("cox", 150)
    cox = kanlens.KANRegressor(hidden=(), loss="cox", random_state=0).fit(x, times)
    assert cox.score(x, times) == _survival.concordance(cox.predict(x), times)
    noise = np.random.default_rng(5).normal(size=150)
    labels = np.where(x[:, 0] + noise > 1, "rare", "usual")
    weights = compute_sample_weight("balanced", labels)
    balanced = kanlens.KANClassifier(hidden=(), class_weight="balanced", random_state=0)
    weighted = kanlens.KANClassifier(hidden=(), random_state=0)
    shares = balanced.fit(x, labels).predict_proba(x)
    assert np.array_equal(shares, weighted.fit(x, labels, sample_weight=weights).predict_proba(x))
    assert shares[:, 0].mean() > weighted.fit(x, labels).predict_proba(x)[:, 0].mean() + 0.05
    with pytest.raises(InvalidValueError, match="no class_weight"):
        kanlens.KANRegressor(class_weight="balanced").fit(x, times)


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_prune_bands_formulas_and_labels_are_of_the_log_scale():
    x, _, y = drawn("gamma")
    model = trained("gamma", x, y).model
    assert kanlens.attribution.effect(model, "x1", x).unit == "log mean"
    terms = kanlens.attribution.terms(model, x, y)
    assert terms.unit == "log mean"
    bands = {term.name: term.factors[0][0] for term in terms.terms}
    line = np.asarray(bands["x1"].settings[0].x)
    low, high = bands["x1"].band.numpy()
    assert np.mean((low <= line - line.mean()) & (line - line.mean() <= high)) > 0.7
    assert (high - low).mean() < 0.8
    pruned = kanlens.prune(model, x, y, budget=10.0, progress=False)
    deviance = metrics.mean_gamma_deviance(y, kanlens.predict(model, x))
    assert pruned.loss_before == pytest.approx(deviance)
    assert pruned.edges_after < 2
    result = kanlens.symbolize(model, x, y, progress=False)
    gap = result.predict(x)[:, 0] - model(torch.tensor(x)).detach().numpy()[:, 0]
    assert np.sqrt(np.mean(gap**2)) < 0.15
    assert result.receipt.r2 > 0.3


@pytest.mark.slow  # trains networks
@pytest.mark.usefixtures("few_folds")
def test_commands_train_by_a_loss_and_exports_name_its_scale(tmp_path):
    from kanlens.cli import main

    x, eta, _ = drawn("poisson", 150)
    years = np.linspace(0.5, 2, 150)
    frame = pd.DataFrame(x, columns=COLUMNS).assign(years=years)
    frame["claims"] = np.random.default_rng(0).poisson(np.exp(eta) * years)
    frame.to_csv(tmp_path / "claims.csv", index=False)
    path = tmp_path / "model.safetensors"
    words = ["train", str(tmp_path / "claims.csv"), "--target", "claims", "--loss", "poisson"]
    assert main([*words, "--exposure", "years", "--hidden", "0", "-o", str(path), "--quiet"]) == 0
    model = kanlens.load(path)
    assert (model.loss.name, model.output_names) == ("poisson", ("claims per years",))
    kanlens.export(model, tmp_path / "model.py", to="numpy")
    assert "(log rate; take exp)" in (tmp_path / "model.py").read_text().splitlines()[0]
    assert main([*words[:-1], "quantile", "--quantile", "high", "-o", str(path)]) == 2
