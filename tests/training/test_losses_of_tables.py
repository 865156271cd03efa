"""Losses of tables as people have them: heavy tails, counts of 0 and 1, codes of events."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

import kanlens
from kanlens.cli import main
from kanlens.errors import DataError, InvalidValueError, KanlensWarning
from kanlens.model._losses import LOSSES
from tests.training.test_losses import COLUMNS, drawn, trained

pytestmark = pytest.mark.usefixtures("few_folds")


def test_growth_with_cox_survives_heavy_tails():
    draw = np.random.default_rng(0)
    x, times = draw.standard_t(1, (80, 2)) * 100, draw.exponential(1, 80)
    y = np.where(draw.uniform(size=80) < 0.25, times, -times)
    model = trained("cox", x, y, hidden=None, max_edges="few").model
    assert np.isfinite(kanlens.predict(model, x).to_numpy()).all()
    far = np.array([0.0, 800.0, -800.0, 1.0])
    weights, errors = LOSSES["cox"]().working(far, np.array([1.0, 2.0, -3.0, 4.0]), np.ones(4))
    assert np.isfinite(weights).all()
    assert np.isfinite(errors).all()


@pytest.mark.slow  # trains networks
def test_the_default_takes_several_quantiles():
    x, _, y = drawn("quantile", 60)
    model = kanlens.KANRegressor(loss="quantile", quantile=[0.1, 0.9], random_state=0).fit(x, y)
    assert (np.diff(model.predict(x)) >= 0).all()
    assert model.score(x, y) == pytest.approx(
        metrics.r2_score(np.tile(y[:, None], 2), model.predict(x))
    )
    assert model.partial_fit(x, y).predict(x).shape == (60, 2)
    kanlens.calibrate(model.network_, (x, y))  # one target is that of all of them


def test_several_quantiles_need_rows_in_memory(tmp_path):
    x, _, y = drawn("quantile", 60)
    pd.DataFrame(x, columns=COLUMNS).assign(y=y).to_csv(tmp_path / "d.csv", index=False)
    source = kanlens.scan_table(tmp_path / "d.csv", target="y")
    with pytest.raises(InvalidValueError, match="rows that fit in memory for several quantiles"):
        kanlens.fit_default(source, loss="quantile", quantile=[0.1, 0.9], progress=False)


def test_counts_of_0_and_1_and_codes_of_events_are_refused_in_words():
    x, _, y = drawn("poisson", 60)
    frame = pd.DataFrame(x, columns=COLUMNS).assign(
        claims=(y > 3).astype(int), years=1 + abs(x[:, 0])
    )
    table = kanlens.read_table(frame, target="claims")
    for exposure in (None, "years"):
        with pytest.raises(DataError, match="numbers, read with task='regression'"):
            kanlens.fit_default(table, loss="poisson", exposure=exposure, progress=False)
    with pytest.raises(InvalidValueError, match="event to be 60 numbers 0 or 1"):
        trained("cox", x, 1 + y, event=1 + frame["claims"])


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("levels", [[0.1, 0.9], [0.1, 0.5, 0.9]])
def test_several_quantiles_are_of_one_target(levels):
    x, _, y = drawn("quantile", 60)
    with pytest.raises(InvalidValueError, match="one target for several quantiles, got 2"):
        trained("quantile", x, np.column_stack((y, y + 1)), quantile=levels)
    with pytest.raises(InvalidValueError, match="quantile to be shares"):
        trained("quantile", x, y, quantile=[])
    assert len(trained("quantile", x, y, quantile=np.array(levels)).model.output_names) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "quantile", "quantile": "a"}, "shares between 0 and 1, increasing, got 'a'"),
        ({"loss": "tweedie", "power": "1.5"}, "power to be from 1 to 2, got '1.5'"),
        ({"loss": "poisson", "offset": np.full(9, 800.0)}, "to be 9 numbers from -100 to 100"),
        ({"loss": "poisson", "exposure": np.ones(10)}, "to be 9 positive numbers, got 10 numbers"),
        ({"loss": "poisson", "exposure": "years"}, "positive numbers, got 'years'. Pass the"),
    ],
)
def test_options_of_a_loss_of_the_wrong_kind_are_refused_in_a_line(options, words):
    with pytest.raises(InvalidValueError, match=words):
        trained(x=np.arange(9.0)[:, None], y=np.arange(9.0), **options)


@pytest.mark.slow
def test_few_events_have_finite_hazards_and_a_warning(monkeypatch):
    monkeypatch.setattr("kanlens.training._fit_default.FOLDS", 5)  # of two, each has one event
    draw = np.random.default_rng(4)
    x, times = draw.normal(size=(60, 3)), -draw.exponential(1, 60)
    times[np.argsort(x[:, 0])[-2:]] = 0.01, 0.011
    with pytest.warns(KanlensWarning, match="hazards whose ratios are below 1e.06") as caught:
        model = trained("cox", x, times, hidden=None, max_edges="few").model
    assert len(caught) == 1
    frame = kanlens.predict(model, x, times=[0.1, 1.0])
    assert np.isfinite(frame.to_numpy()).all()
    assert frame.iloc[:, 1:].min(axis=None) >= 0
    draw = np.random.default_rng(3)
    x, times = draw.normal(size=(60, 3)), -draw.exponential(1, 60)
    times[x[:, 0].argmax()] *= -1
    model = trained("cox", x, times).model
    assert model(torch.tensor(x)).detach().numpy() == pytest.approx(0, abs=1e-6)  # no drift


def test_times_are_numbers():
    x, _, y = drawn("cox", 60)
    model = trained("cox", x, y).model
    assert list(kanlens.predict(model, x, times=1)) == ["y", "survival 1"]
    assert list(kanlens.predict(model, x, times=[1e6, 1e6 + 1]))[2] == "survival 1000001"
    for times in (["a"], [np.nan], [-1.0], "soon"):
        with pytest.raises(InvalidValueError, match="times to be numbers of at least 0"):
            kanlens.predict(model, x, times=times)


@pytest.mark.slow  # five commands
def test_commands_of_hazards_and_of_several_quantiles(tmp_path, capsys):
    x, _, y = drawn("cox", 150)
    frame = pd.DataFrame(x, columns=COLUMNS).assign(time=abs(y), dead=(y > 0).astype(int))
    data, model, table = (str(tmp_path / name) for name in ("d.csv", "m.safetensors", "p.csv"))
    frame.to_csv(data, index=False)
    words = ["train", data, "--target", "time", "--loss", "cox", "--event", "dead"]
    assert main([*words, "--hidden", "0", "-o", model, "--quiet"]) == 0
    assert main(["predict", model, data, "--times", "0.5,1", "-o", table]) == 0
    assert "concordance" in capsys.readouterr().out
    shares = kanlens.predict(kanlens.load(model), frame, times=[0.5, 1])
    pd.testing.assert_frame_equal(pd.read_csv(table), shares)
    assert main(["predict", model, data, "--times", "soon", "-o", table]) == 2
    assert main(["symbolize", model, data, "-o", str(tmp_path / "s.safetensors")]) == 0
    assert "standard errors" not in capsys.readouterr().out
    frame.drop(columns="dead").to_csv(data, index=False)
    words = ["train", data, "--target", "time", "--loss", "quantile", "--quantile", "0.1,0.4,0.9"]
    assert main([*words, "--hidden", "0", "-o", model, "--quiet"]) == 0
    assert kanlens.load(model).output_index(None, call="test") == 1
    capsys.readouterr()
    assert main(["attribute", model, data, "-o", table, "--method", "secant"]) == 0
    assert "about time quantile 0.4, the middle quantile" in capsys.readouterr().err
