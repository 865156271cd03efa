"""Pages of models with losses of their own lead with the score of that loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

import kanlens
from kanlens.data._table_reader import read_features
from kanlens.model._survival import concordance
from kanlens.reporting._alerts import find_alerts
from kanlens.reporting._findings import _quality
from kanlens.reporting._report_data import Subject, measure_performance, read_subject
from tests.reporting.conftest import seeded
from tests.reporting.test_alerts import put


def rows() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (80, 2)), columns=["age", "dose"])
    mean, frame["years"] = np.exp(1 + frame["age"]), draw.uniform(0.5, 3, 80)
    frame["claims"] = draw.poisson(mean * frame["years"])
    frame["cost"] = draw.gamma(3, mean / 3)
    frame["time"], frame["died"] = draw.exponential(1 / mean), draw.integers(0, 2, 80)
    return frame


def trained(target: str, loss: str, **options: Any) -> tuple[Any, Any]:
    columns = [options[name] for name in ("exposure", "offset", "event") if name in options]
    table = kanlens.read_table(rows()[["age", "dose", target, *columns]], target=target)
    way: dict[str, Any] = {"hidden": (), "progress": False, "generator": seeded()}
    return kanlens.fit_default(table, loss=loss, **way, **options).model, table


def quality(subject: Subject) -> str:
    """Return the first sentence of a page."""
    data = {"source": "d.csv", "held_out_rows": 0, "rows": subject.rows}
    target = subject.model.output_names[subject.target]
    content = {"performance": measure_performance(subject), "meta": {"target": target}}
    return _quality({**content, "data": data, "baselines": None, "training": None})


@pytest.mark.parametrize(
    ("loss", "words", "judge"),
    [
        ("gamma", "gamma deviance", lambda *y: metrics.d2_tweedie_score(*y, power=2)),
        ("tweedie", "Tweedie deviance", lambda *y: metrics.d2_tweedie_score(*y, power=1.5)),
        ("quantile", "pinball loss", lambda *y: metrics.d2_pinball_score(*y, alpha=0.5)),
        ("absolute_error", "absolute error", metrics.d2_absolute_error_score),
        ("squared_error", "variance", metrics.r2_score),
    ],
)
@pytest.mark.slow  # many cases
def test_the_score_is_that_of_the_loss(loss: str, words: str, judge: Any) -> None:
    model, table = trained("cost", loss)
    subject = read_subject(model, table, None)
    value = judge(rows()["cost"], kanlens.predict(model, table.x)["cost"])
    performance: Any = measure_performance(subject)
    assert performance["score"] == pytest.approx(value)
    assert performance["outputs"][0]["score"] == pytest.approx(value)
    metric = "R²" if loss == "squared_error" else "D²"
    text = f"explains {100 * value:.0f}% of the {words} of cost ({metric} {value:.3f}); the median"
    assert text in quality(subject)


@pytest.mark.slow  # takes a while
def test_a_model_with_exposures_takes_the_table_it_was_trained_on(tmp_path: Path) -> None:
    model, table = trained("claims", "poisson", exposure="years")
    kanlens.save(model, tmp_path / "m.safetensors")
    model, frame = kanlens.load(tmp_path / "m.safetensors"), rows()
    frame.to_csv(tmp_path / "d.csv", index=False)
    rates = kanlens.predict(model, frame).iloc[:, 0]
    pair = frame["claims"] / frame["years"], rates
    value = metrics.d2_tweedie_score(*pair, power=1, sample_weight=frame["years"])
    for data in (table, frame, tmp_path / "d.csv", read_features(frame, model.schema, call="t")):
        performance: Any = measure_performance(read_subject(model, data, None))
        assert performance["score"] == pytest.approx(value, rel=1e-4)
        assert performance["explained"] == "Poisson deviance"
    assert read_subject(model, frame.drop(columns="years"), None).y is None
    less, table = trained("cost", "squared_error", offset="years")
    y: Any = read_subject(less, table, None).y
    assert y[:, 0].numpy() == pytest.approx(frame["cost"] - frame["years"])


@pytest.mark.slow  # makes the figures of two reports
@pytest.mark.usefixtures("blank")
def test_pages_of_hazards_and_of_several_quantiles(tmp_path: Path) -> None:
    model, table = trained("time", "cox", event="died")
    way: dict[str, Any] = {"progress": False, "methods": ["secant"], "max_rows": 20}
    written = kanlens.report(model, table, tmp_path / "r.html", **way)
    frame = rows()
    times = np.where(frame["died"], frame["time"], -frame["time"])
    value = concordance(kanlens.predict(model, frame).to_numpy()[:, 0], times)
    assert written.content["performance"]["score"] == pytest.approx(value)
    assert f"correctly (concordance {value:.3f})" in written.content["findings"][0]
    assert re.search("Concordance over 80 rows", written.path.read_text("utf-8"))
    model, table = trained("cost", "quantile", quantile=[0.1, 0.5, 0.9])
    written = kanlens.report(model, table, tmp_path / "r.html", **way)
    assert written.content["meta"]["target"] == "cost quantile 0.5"
    assert "of the pinball loss of cost quantile 0.5 (D² " in written.content["findings"][0]
    assert "D² over 80 rows" in written.path.read_text("utf-8")
    assert "Simple models reach" not in written.content["findings"][0]  # there are none


def test_alerts_depend_on_the_metric() -> None:
    for metric, value in (("D2", 0.15), ("concordance", 0.6)):
        own = {"task": "regression", "metric": metric, "score": value}
        assert find_alerts(put("performance", own)) == []
        assert find_alerts(put("performance", {**own, "score": value - 0.1}))
