"""Raw cells, class labels and probabilities: every format against the model."""

import contextlib
import dataclasses
import json
import re
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens._model_inputs import adopt_data
from kanlens.data._schema import Feature
from kanlens.errors import OutputError
from kanlens.exporters import FORMATS, export
from kanlens.exporters import _exported_model as exported
from kanlens.exporters._dialects import NUMPY
from kanlens.exporters._exported_model import (
    Cell,
    Export,
    blank_numbers,
    cell_rule,
    column_kinds,
    date_part,
)
from kanlens.exporters._text_files import STRICT, U, load_module
from kanlens.model._network import KAN
from tests.exporters.raw import CLASSES, answers, described, gaps, wanted
from tests.made import draw

NAMES = ["numpy", "onnx", "c", "sql", "excel"]
NEEDS = {"onnx": "onnxruntime", "sql": "duckdb", "excel": "formulas"}


@pytest.fixture(params=NAMES)
def name(request):
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    if request.param == "c" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return request.param


def probabilities(model, frame):
    logits = torch.tensor(wanted(model, frame))
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits.softmax(1).numpy()


@pytest.mark.slow  # writes and runs every kind of file
@pytest.mark.parametrize("impute", [None, "median"])
def test_blank_unseen_and_other_cells_are_read_as_the_model_does(name, impute, tmp_path):
    model = described("numbers of y", impute)
    for found in answers(model, name, tmp_path, gaps()):
        np.testing.assert_allclose(found, wanted(model, gaps()), rtol=1e-11)


@pytest.mark.slow  # writes and runs every kind of file
@pytest.mark.parametrize("kind", CLASSES)
def test_a_classifier_has_labels_and_probabilities(name, kind, tmp_path):
    model = described(kind)
    right = probabilities(model, gaps())
    found = answers(model, name, tmp_path, gaps())
    labels = [values.tolist() for values in found if values.ndim == 1]
    chances = [values for values in found if values.ndim == 2]
    assert labels == [np.array(CLASSES[kind], object)[right.argmax(1)].tolist()] * len(chances)
    for values in chances:
        np.testing.assert_allclose(values, right, rtol=1e-9)


@pytest.mark.slow  # writes and runs files
@pytest.mark.parametrize(
    "written", ["numpy", "onnx", "c", "sql", pytest.param("excel", marks=pytest.mark.slow)]
)
def test_raw_cells_and_classes_are_checked_before_a_file_is_left(written, tmp_path):
    result = export(described("three"), tmp_path / "model.file", to=written)
    assert result.error < 1e-12
    assert result.rows > 80


@pytest.mark.slow
def test_probabilities_far_apart_are_numbers(name, tmp_path):
    model = described("three")
    frame = gaps()
    sharp = KAN.from_layers(model.layers, model.schema, nodes=list(model.nodes))
    sharp.load_state_dict(model.state_dict())
    sharp.output_scale.mul_(1e6)
    for values in answers(sharp, name, tmp_path, frame):
        if values.ndim == 2:
            np.testing.assert_allclose(values, probabilities(sharp, frame), atol=1e-12)


def test_wrong_labels_and_probabilities_are_not_left(tmp_path, monkeypatch):
    right = FORMATS["numpy"].run

    def relabeled(subject, path):
        *chances, labels = right(subject, path)
        return [*chances, np.roll(labels, 1)]

    def shifted(subject, path):
        return [values * 1.001 if values.ndim == 2 else values for values in right(subject, path)]

    for run, what in ((relabeled, "labels"), (shifted, "outputs")):
        monkeypatch.setitem(FORMATS, "numpy", dataclasses.replace(FORMATS["numpy"], run=run))
        with pytest.raises(OutputError, match=f"within 1e-10 of the model's {what}, got "):
            export(described("three"), tmp_path / "model.py")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # writes and runs files
@pytest.mark.parametrize("wrong", ["numpy", "sql", "c", "onnx"])
def test_a_file_that_reads_blanks_in_another_way_is_not_left(wrong, tmp_path, monkeypatch):
    def shifted(feature):
        return cell_rule(feature)._replace(blank=0.25)

    monkeypatch.setattr(exported, "cell_rule", shifted)
    with pytest.raises(OutputError, match="within 1e-10 of the model's outputs"):
        export(described("numbers of y"), tmp_path / "model.file", to=wrong)
    assert not list(tmp_path.iterdir())


def test_the_rows_that_are_compared_have_blank_and_unseen_cells():
    frame = Export(model=described("three"), path=None).frame
    assert frame.iloc[0].isna().all()
    assert (frame.iloc[1:].isna().any() | frame.isin([-9.0, "?"]).any()).all()
    assert "Yörk #1?" in set(frame["town"])


# --- each format in its own words ---------------------------------------------------------------


def test_the_module_reads_columns_by_name_and_no_rows(tmp_path):
    export(described("three"), tmp_path / "model.py")
    module, frame = load_module(tmp_path / "model.py"), gaps()
    assert list(module.CLASSES) == CLASSES["three"]
    x = module.encode(frame.to_dict("list"))
    assert x.shape == (5, len(module.FEATURES))
    np.testing.assert_array_equal(module.predict(frame), module.predict(x))
    for rows in (np.empty((0, x.shape[1])), frame.iloc[:0]):
        assert module.predict(rows).shape == (0, 3)
        assert module.predict_proba(rows).shape == (0, 3)
        assert module.predict_label(rows).shape == (0,)
    code = (
        "import sys; sys.modules.update(torch=None, kanlens=None, pandas=None, sympy=None)\n"
        "import json, model; print(json.dumps(list(model.predict_label(json.load(sys.stdin)))))"
    )
    command, text = [sys.executable, "-c", code], json.dumps(frame.to_dict("list"))
    done = {"cwd": tmp_path, "capture_output": True, "text": True}
    said = subprocess.run(command, check=True, input=text, **done).stdout
    assert json.loads(said) == module.predict_label(frame).tolist()


def test_the_module_fills_what_an_array_lacks(tmp_path):
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draws.normal(size=30), "b": draws.normal(size=30)})
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    adopt_data(model, kanlens.read_table(frame.assign(y=frame.a), target="y"))
    export(model, tmp_path / "model.py")
    module = load_module(tmp_path / "model.py")
    rows = [[np.nan, 0.5], [frame["a"].median(), 0.5]]
    assert len(set(module.predict(rows)[:, 0].tolist())) == 1


def test_a_row_that_is_not_finite_has_no_label(tmp_path):
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    adopt_data(model, (draw(30, 2), np.array(["a", "b"] * 15)))
    export(model, tmp_path / "model.py")
    module = load_module(tmp_path / "model.py")
    assert module.predict_label([[np.nan, 0.0], [0.0, 0.0]]).tolist()[0] is None


def test_the_graph_has_an_input_for_each_column_and_the_outputs_of_scikit_learn(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = described("numbers")
    export(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    kinds = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    assert list(kinds) == list(gaps().columns)
    assert kinds["town"] == ("tensor(string)", ["batch", 1])
    assert kinds["rooms"] == kinds["sold"] == ("tensor(double)", ["batch", 1])
    outputs = {one.name: one.type for one in session.get_outputs()}
    assert outputs == {"label": "tensor(int64)", "probabilities": "tensor(double)"}


def test_a_graph_of_numbers_has_one_input_and_fills_it(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    frame = pd.DataFrame(draw(40, 2).numpy(), columns=["label", "b"])
    table = kanlens.read_table(frame.assign(y=["on", "off"] * 20), target="y")
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0))
    adopt_data(model, table)
    export(model, tmp_path / "model.onnx", explain=True)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    x = np.array([[np.nan, 0.5], [frame["label"].median(), 0.5]], dtype=np.float32)
    label, chances, scores = session.run(None, {"x": x})
    assert [one.name for one in session.get_outputs()] == ["label", "probabilities", "scores"]
    assert label[0] == label[1]
    assert set(label) <= {"on", "off"}
    np.testing.assert_array_equal(chances[0], chances[1])
    assert scores.shape == (2, 1, 2)


def test_a_column_may_be_called_as_an_output(tmp_path):
    pytest.importorskip("onnxruntime")
    frame = pd.DataFrame({"label": ["a", "b", "c"] * 9, "y": range(27), "z": range(27)})
    model = KAN([4, 1], generator=torch.Generator().manual_seed(0)).double()
    adopt_data(model, kanlens.read_table(frame, target="z"))
    assert export(model, tmp_path / "model.onnx").error < 1e-12


@pytest.mark.slow  # writes and runs files
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_a_header_has_the_labels_as_texts(tmp_path):
    export(described("three"), tmp_path / "house.h")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "house.h"\nint main(void)\n{\n'
        '    return !printf("%s|%s|%s", house_labels[0], house_labels[1], house_labels[2]);\n}\n'
    )
    command = ["gcc", *STRICT, "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = subprocess.run(tmp_path / "main", check=True, capture_output=True).stdout.decode()
    assert text.split("|") == CLASSES["three"]


@pytest.mark.slow  # writes and runs files
def test_a_query_names_the_label_and_each_probability(tmp_path):
    export(described("numbers"), tmp_path / "model.sql", table="raw")
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        gaps().to_sql("raw", base, index=False)
        cursor = base.execute((tmp_path / "model.sql").read_text())
        names = [one[0] for one in cursor.description]
        rows = cursor.fetchall()
    assert names[-3:] == ["label", "probability 3", "probability 7"]
    for *_, label, low, high in rows:
        assert label == (3 if low >= high else 7)
        assert low + high == pytest.approx(1.0)


DATES = ["29.02.2020", "2/29/2020", "2020-02-29", "2020-02-29 13:07:00", ""]
NUMBERS = ["1.5", " -2e-3 ", "7", "$1.5", "1,500", "junk", "1.5 kg"]


@pytest.mark.slow  # writes and runs files
@pytest.mark.parametrize(
    ("column", "cells", "missing"),
    [("sold", DATES, [True] * 2 + [False] * 3), ('si"ze', NUMBERS, [False] * 3 + [True] * 4)],
)
def test_a_query_has_no_output_for_other_texts(column, cells, missing, tmp_path):
    export(described("numbers of y"), tmp_path / "model.sql", table="raw")
    frame = pd.concat([gaps().iloc[:1]] * len(cells)).assign(**{column: cells})
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        frame.to_sql("raw", base, index=False)
        *_, values = zip(*base.execute((tmp_path / "model.sql").read_text()), strict=True)
    assert [value is None for value in values] == missing


# --- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["year", "month", "weekday", "hour", "days"])
def test_parts_of_dates_are_those_of_the_calendar(part):
    times = pd.date_range("1895-12-30", "2104-03-02", freq="17h13min").as_unit("s")
    more = pd.date_range("1999-12-31", "2000-03-02", freq="7min").as_unit("s")
    times = times.append(more)
    days = ((times - pd.Timestamp("1970-01-01")) / pd.Timedelta("1D")).to_numpy()
    right = {"weekday": times.day_of_week, "hour": times.hour + times.minute / 60, "days": days}
    function = eval(f"lambda u: {NUMPY.text(date_part(part, U))}", {"np": np})
    found = right[part] if part in right else getattr(times, part)
    np.testing.assert_allclose(function(days), np.asarray(found, dtype=float), atol=1e-12)


def test_rules_of_features():
    true = Feature(name="on", column="on", category="True", categories=("False", "True"))
    assert cell_rule(true).content == ("True", "true", "TRUE", "1", "1.0")
    code = Feature(
        name="zone=2", column="zone", category="2", categories=("2", "x"), imputation="2"
    )
    assert cell_rule(code) == Cell("zone", "text", ("2", "2.0"), 1.0)
    lost = Feature(name="zone=missing", column="zone", kind="missing", categories=("2", "x"))
    assert cell_rule(lost) == Cell("zone", "text", (), 1.0)
    assert cell_rule(Feature(name="a", column="a", typical=2.5)).blank == 2.5
    assert np.isnan(cell_rule(Feature(name="a", column="a")).blank)


def test_columns_are_what_their_features_read():
    schema = described("two").schema
    kinds = column_kinds(schema)
    assert [kinds[name] for name in ("rooms", "town", "sunny", "sold")] == [
        "number",
        "text",
        "text",
        "date",
    ]
    assert blank_numbers(schema) == [-9.0]
    alone = [k for k, feature in enumerate(schema.features) if feature.name == "sold=missing"]
    assert column_kinds(schema.select(alone)) == {"sold": "number"}


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["rooms=missing", "town=missing", "sold=missing", "sold.month"])
def test_a_part_of_a_column_is_enough(name, keep, tmp_path):
    whole = described("numbers of y").schema
    picks = [k for k, feature in enumerate(whole.features) if feature.name in (keep, 'si"ze')]
    schema = whole.select(picks)
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    model.schema = dataclasses.replace(schema, outputs=model.schema.outputs)
    frame = gaps()[['si"ze', re.split(r"[.=]", keep)[0]]]
    if keep == "sold=missing":
        frame = frame.assign(sold=[1.0, None, 2.0, 3.0, 4.0])
    for found in answers(model, name, tmp_path, frame):
        np.testing.assert_allclose(found, wanted(model, frame), rtol=1e-11)


def test_spellings_of_a_category_are_listed_unless_another_has_them():
    feature = Feature(name="c", column="c", kind="binary", category="Yes", categories=("no", "Yes"))
    assert cell_rule(feature).content == ("Yes", "yes", "YES")
    apart = dataclasses.replace(feature, category="m", categories=("M", "m"))
    assert cell_rule(apart).content == ("m",)
