"""Data that training cannot use, or not well, is refused or named before work begins."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

import kanlens
from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError
from kanlens.estimators import KANRegressor
from kanlens.training._options import FitOptions
from kanlens.training._training_loop import check_footprint


def frame(rows=40, **columns):
    x = np.random.default_rng(0).normal(size=(rows, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x[:, 0] ** 2 + x[:, 1]}).assign(**columns)


def trained(data, **options):
    table = data if isinstance(data, kanlens.Table) else kanlens.read_table(data, target="y")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([2, len(table.schema.outputs)], generator=generator).double()
    return kanlens.fit(model, table, steps=3, progress=False, generator=generator, **options)


@pytest.mark.parametrize("column", ["a", "y"])
@pytest.mark.parametrize("value", [1e308, -1.7e308, 1e155])
def test_a_cell_that_no_square_can_hold_is_refused_with_its_place(column, value):
    data = frame()
    data.loc[3, column] = value
    with pytest.raises(DataError, match=re.escape(f"column {column!r}, got {value:.6g} in row 3")):
        trained(data)
    with pytest.raises(DataError, match=r"^fit: expected numbers of size at most 1e\+151"):
        KANRegressor(steps=1).fit(data[["a", "b"]], data["y"])
    later = kanlens.read_table(data, target="y").take(range(2, 40))  # rows keep their numbers
    with pytest.raises(DataError, match=re.escape(f"got {value:.6g} in row 3")):
        trained(later)


def test_magnitude_follows_the_dtype():
    x = torch.rand(30, 1)
    x[4] = 1e20
    model = kanlens.KAN([1, 1])
    text = r"^fit: expected numbers of size at most 1e\+16 in column 'x1', got 1e\+20 in row 4\."
    with pytest.raises(DataError, match=text):
        kanlens.fit(model, (x, torch.rand(30)), steps=1, progress=False)


@pytest.mark.parametrize("factor", [1e-200, 1e-100, 1.0, 1e100, 1e149])
@pytest.mark.slow  # many cases
def test_a_target_of_any_size_is_learned_alike(factor):
    data = frame()
    result = trained(data.assign(y=data["y"] * factor), validation=0.0)
    assert result.metric == pytest.approx(trained(data, validation=0.0).metric, abs=1e-6)
    assert result.metric > 0.9


@pytest.mark.parametrize("y", [3.0, 0.0, 1e9 + 1e-9 * np.arange(40), 1e-320 * np.arange(40)])
def test_a_constant_target_is_named(y):
    with pytest.warns(UserWarning, match="got 'y', constant up to rounding"):
        result = trained(frame(y=y))
    values = result.model(torch.zeros(3, 2, dtype=torch.float64))
    assert bool(torch.isfinite(values).all())
    assert np.isnan(result.metric)  # no share of a variance that is none


def test_a_constant_target_chooses_no_network(recwarn):
    data = frame(y=3.0)
    for rows in (kanlens.read_table(data, target="y"), (data[["a", "b"]].to_numpy(), data["y"])):
        with pytest.raises(DataError, match=r"^fit_default: expected targets that vary"):
            kanlens.fit_default(rows, progress=False)
    assert not recwarn.list


@pytest.mark.parametrize("a", [3.0, 1e9 + 1e-9 * np.arange(40), 1e-320 * np.arange(40)])
def test_a_constant_feature_leaves_the_model_finite(a):
    result = trained(frame(a=a))
    assert all(bool(torch.isfinite(p).all()) for p in result.model.parameters())
    assert np.isfinite(result.metric)


def test_one_row_is_refused():
    with pytest.raises(ShapeError, match="fit: expected at least 2 rows, got 1"):
        trained(frame(1))
    assert np.isfinite(trained(frame(2)).history[-1]["loss"])


@pytest.mark.parametrize(
    ("y", "count"),
    [(np.arange(200) / 7, 200), (np.arange(200), 200), (np.arange(200) % 30 / 4, 30)],
)
def test_quantities_called_classes_are_named(y, count):
    text = (
        f"read_table: expected classes, got {count} different numbers in 200 cells of column 'y'. "
        "If it is a quantity, use task='regression'."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        table = kanlens.read_table(frame(200, y=y), target="y", task="classification")
    assert len(table.schema.class_labels) == count


@pytest.mark.parametrize(
    "y", [np.arange(200) % 100, [f"c{k % 90}" for k in range(200)], range(200)]
)
def test_classes_that_repeat_and_few_of_them_pass_without_a_word(y):
    data = frame(200, y=y) if len(set(y)) < 200 else frame(20, y=range(20))
    assert kanlens.read_table(data, target="y", task="classification").y is not None


def test_work_that_does_not_fit_is_refused_before_it_begins(monkeypatch):
    monkeypatch.setattr("kanlens._resources.available_memory", lambda: 2_000_000_000)
    text = (
        "KANLinear: expected work that fits into the 2.0 GB of memory available, got a layer of "
        "10 x 1,000,000 edges on 5 intervals that takes at least 5.0 GB. "
        "Make it narrower, or its grid coarser."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        kanlens.KAN([10, 1_000_000, 1])
    text = (
        "fit: expected work that fits into the 1.0 GB of memory available, got training of "
        "[300, 1] on 200,000 rows that takes at least 1.2 GB. Take fewer nodes or rows."
    )
    monkeypatch.setattr("kanlens._resources.available_memory", lambda: 1_000_000_000)
    model, x = kanlens.KAN([300, 1]), torch.zeros(1, 300).expand(200_000, 300)
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        check_footprint(model, FitOptions(), x)
    check_footprint(model, FitOptions(), x[:100_000])
    monkeypatch.setattr("kanlens._resources.available_memory", lambda: None)
    check_footprint(model, FitOptions(), x)


def test_fit_asks_before_it_begins(monkeypatch):
    monkeypatch.setattr("kanlens._resources.ALWAYS_ALLOWED_BYTES", 0)
    monkeypatch.setattr("kanlens._resources.available_memory", lambda: 50_000)
    with pytest.raises(InvalidValueError, match=r"^fit: expected work that fits into the 0\.0 GB"):
        trained(frame())


def test_masked_cells_are_missing_cells():
    x = np.ma.masked_array(np.random.default_rng(0).normal(size=(40, 2)))
    y = np.ma.masked_array(x[:, 0].data)
    assert kanlens.fit(kanlens.KAN([2, 1]), (x, y), steps=1, progress=False).history
    for array, row in ((x, (7, 1)), (y, 9)):
        array[row] = np.ma.masked
        with pytest.raises(DataError, match=r"^fit: expected finite numbers, got nan at row [79]"):
            kanlens.fit(kanlens.KAN([2, 1]), (x, y), steps=1, progress=False)
        array.mask = False


@pytest.mark.parametrize("sparse", [torch.Tensor.to_sparse, lambda t: csr_matrix(t.numpy())])
def test_sparse_data_are_refused(sparse):
    x, model = torch.rand(40, 2), kanlens.KAN([2, 1])
    text = r"^fit: expected x to be dense, got a sparse \w+\. Pass x\.to_dense\(\), or x\.toarray"
    with pytest.raises(DTypeError, match=text):
        kanlens.fit(model, (sparse(x), x[:, 0]), steps=1, progress=False)
    with pytest.raises(DTypeError, match=text.replace("fit", "attribute", 1)):
        kanlens.attribute(model, sparse(x), background=x)
    with pytest.raises(DTypeError, match=r"^fit: expected y to be dense"):
        kanlens.fit(model, (x, sparse(x[:, :1])), steps=1, progress=False)


def test_advice_for_a_frame_names_who_takes_it():
    data, model = frame(), kanlens.KAN([2, 1])
    y = data.pop("y")
    data.loc[3, "a"] = np.nan
    with pytest.raises(ShapeError, match=r"as the model has, got 3 \('a', 'a=missing', 'b'\)"):
        kanlens.fit(model, (data, y), steps=1, progress=False)
    with pytest.raises(DataError, match=r"leave it out with read_table\(\.\.\., drop='b'\)\.$"):
        times = pd.to_timedelta(range(len(data)), unit="s")
        kanlens.fit(model, (data.assign(a=0.0, b=times), y), steps=1, progress=False)
    kanlens.fit(model, (data.fillna(0.0), y), steps=1, progress=False)
    with pytest.warns(UserWarning, match="1 missing in 'a', as "):
        kanlens.attribute(model, data)


def test_columns_of_truth_values_are_no_column_of_classes():
    y = pd.get_dummies(pd.Series(list("abcb" * 10)))
    text = "got 3 columns of labels or booleans. Pass one label for each row; y.idxmax('columns')"
    for outputs in (1, 3):
        with pytest.raises(ShapeError, match=re.escape(text)):
            kanlens.fit(kanlens.KAN([2, outputs]), (frame()[["a", "b"]], y), steps=1)
    labels = y.idxmax(axis=1)
    fit = kanlens.fit(kanlens.KAN([2, 3]), (frame()[["a", "b"]], labels), steps=1, progress=False)
    assert fit.model.class_labels == ("a", "b", "c")
