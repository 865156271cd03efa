"""Files whose outputs are predictions with the ends of their intervals, and ordered quantiles."""

import contextlib
import sqlite3

import duckdb
import numpy as np
import onnxruntime
import pandas as pd
import pytest

import kanlens
from kanlens.errors import InvalidValueError, MethodError
from kanlens.exporters._export import FORMATS
from kanlens.exporters._text_files import load_module
from tests.made import LOSSES, calibrated

FILES = [form.ending for form in FORMATS.values() if form.predicts]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ending", FILES)
@pytest.mark.slow  # many cases
def test_a_file_has_the_columns_of_predict(ending, loss, tmp_path):
    model, x = calibrated(loss)
    expected, path = kanlens.predict(model, x, interval=0.9), tmp_path / f"model{ending}"
    assert kanlens.export(model, path, interval=0.9).error < 1e-12
    frame = pd.DataFrame(x.numpy(), columns=["x1", "x2"])
    if ending == ".py":
        module = load_module(path)
        assert list(expected) == module.OUTPUTS and module.check() < 1e-12
        values = module.predict(frame)
    elif ending == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (values,) = session.run(None, {"x": x.numpy()})
    elif ending == ".sql":
        with contextlib.closing(sqlite3.connect(":memory:")) as base:
            frame.to_sql("data", base, index=False)
            answer = pd.read_sql(path.read_text(), base)
        assert list(answer)[2:] == list(expected)
        values = answer.to_numpy()[:, 2:]
    else:  # compared when it was written
        return
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    below = expected.filter(like="low").to_numpy()
    assert (below == 0).any() if loss == "poisson" else (below < 0).any()


@pytest.mark.parametrize("ending", FILES)
@pytest.mark.slow  # many cases
def test_quantiles_are_in_order(ending, tmp_path):
    model, x = calibrated("quantile")
    assert bool((model(x).diff(dim=1) < 0).any())
    path = tmp_path / f"model{ending}"
    assert kanlens.export(model, path).error < 1e-12
    if ending == ".sql":
        with contextlib.closing(duckdb.connect(":memory:")) as base:
            frame = pd.DataFrame(x.numpy(), columns=["x1", "x2"])
            base.register("data", frame)
            values = base.execute(path.read_text()).df().iloc[:, 2:]
        np.testing.assert_allclose(values, kanlens.predict(model, x), rtol=1e-9, atol=1e-9)


def test_intervals_need_numbers_rows_held_out_and_a_format(tmp_path):
    model, _ = calibrated("squared_error")
    for ending in (".tex", ".txt", ".pt2"):
        with pytest.raises(
            InvalidValueError, match="onnx, numpy, c, sql, excel for intervals, got a regression"
        ):
            kanlens.export(model, tmp_path / f"a{ending}", interval=0.9)
    with pytest.raises(MethodError, match="export: expected at least 99 rows held out"):
        kanlens.export(model, tmp_path / "a.py", interval=0.99)
    with pytest.raises(InvalidValueError, match="between 0 and 1"):
        kanlens.export(model, tmp_path / "a.py", interval=9)
    assert not list(tmp_path.iterdir())
