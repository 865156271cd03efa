"""Losses of tables as people have them: heavy tails, counts of 0 and 1, codes of events."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import kanlens
from kanlens.errors import DataError, InvalidValueError
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
    with pytest.raises(InvalidValueError, match="event 60 numbers 0 and 1"):
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
