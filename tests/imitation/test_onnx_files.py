"""ONNX files are teachers: of one input or one for each column, numbers or probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.errors import DataError, FileFormatError, MissingFileError, ShapeError
from kanlens.imitation import _imitate
from kanlens.imitation._teachers import _feed, _read_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def fewer(monkeypatch, few_folds):
    monkeypatch.setattr(_imitate, "BETWEEN", 300)
    monkeypatch.setattr(_imitate, "BEYOND", 200)


def frame() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    columns = pd.DataFrame(draw.uniform(0, 1, (200, 2)), columns=["dose", "age"])
    return columns.assign(town=draw.choice(["Aachen", "Basel", "Chartres"], 200))


def followed(model: object, x: object, **options: object) -> kanlens.Imitation:
    generator = torch.Generator().manual_seed(0)
    return kanlens.imitate(model, x, progress=False, generator=generator, **options)


def exported(path: Path, target: pd.Series) -> kanlens.KAN:
    """Write a network of the frame as ONNX, and return it."""
    table = kanlens.read_table(frame().assign(target=target), target="target")
    generator = torch.Generator().manual_seed(0)
    options = {"hidden": (), "progress": False, "generator": generator}
    model = kanlens.fit_default(table, **options).model
    kanlens.export(model, path)
    return model


def linear(path: Path, kind: int = 1) -> None:
    """Write a model of one input of two columns, their sum, of a type of ONNX."""
    from onnx import helper

    ends = [helper.make_tensor_value_info(n, kind, ["rows", w]) for n, w in (("x", 2), ("sum", 1))]
    axes = helper.make_tensor("axes", 7, [1], [1])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["sum"])
    graph = helper.make_graph([node], "sum", ends[:1], ends[1:], initializer=[axes])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("kind", [1, 11])
def test_one_input_of_all_columns(tmp_path, kind):
    linear(tmp_path / "sum.onnx", kind)
    found = followed(tmp_path / "sum.onnx", frame()[["dose", "age"]])
    assert found.teacher == "sum.onnx" and found.fidelity > 0.999
    with pytest.raises(ShapeError, match="2 columns, as the model has, got 3") as refused:
        followed(str(tmp_path / "sum.onnx"), frame().assign(town=1.0))
    assert "Drop columns that are not features" in str(refused.value)
    with pytest.raises(DataError, match="columns of numbers, got other cells in 'town'"):
        followed(tmp_path / "sum.onnx", frame()[["dose", "town"]])


@pytest.mark.slow  # trains networks
def test_one_input_may_have_the_name_of_a_column(tmp_path):
    linear(tmp_path / "sum.onnx")
    frame = pd.DataFrame(np.random.default_rng(0).uniform(size=(60, 2)), columns=["v", "x"])
    assert followed(tmp_path / "sum.onnx", frame).fidelity > 0.999


@pytest.mark.slow  # grows networks
def test_an_input_for_each_column(tmp_path):
    x, path = frame(), tmp_path / "model.onnx"
    model = exported(path, x["dose"] + (x["town"] == "Basel"))
    found = followed(path, x[["town", "age", "dose"]])
    assert found.fidelity > 0.99
    teacher = _read_onnx(path, x.head(1), (), {})
    own = kanlens.read_table(x).x[:, :]
    with torch.no_grad():
        torch.testing.assert_close(teacher(x), model(own), rtol=0, atol=1e-9)
    with pytest.raises(DataError, match="a column 'age', got columns 'dose'"):
        followed(path, x.drop(columns="age"))


def test_dates_are_days_since_1970_unless_the_input_is_text(tmp_path):
    days = pd.Series(pd.date_range("2019-12-30", periods=200, freq="61h"), name="day")
    texts = days.dt.strftime("%d/%m/%Y %H:%M:%S")
    target = days.dt.month + days.dt.year
    table = kanlens.read_table(texts.to_frame().assign(target=target), target="target")
    model = kanlens.KAN([table.x.shape[1], 1]).double()
    kanlens.fit(model, table, steps=1, progress=False)
    kanlens.export(model, tmp_path / "model.onnx")
    for column in (texts, days):
        teacher = _read_onnx(tmp_path / "model.onnx", column.to_frame().head(1), (), {"day": True})
        with torch.no_grad():
            outputs, expected = teacher(column.to_frame()), model(table.x)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-9)
    fed = _feed(texts.to_frame(), [("day", "tensor(string)", 1)], {"day": True})
    assert fed["day"].ravel().tolist() == texts.tolist()
    assert followed(tmp_path / "model.onnx", texts.to_frame(), max_edges=4).fidelity > 0.99


@pytest.mark.slow  # grows networks
def test_probabilities_are_followed(tmp_path):
    x, path = frame(), tmp_path / "model.onnx"
    target = np.where(x["dose"] + 0.3 * np.sin(40 * x["age"]) > 0.5, "yes", "no")
    exported(path, target)
    found = followed(path, x)
    assert found.model.class_labels == ("0", "1")
    assert found.agreement > 0.9
    found = followed(path, x, class_labels=["no", "yes"])
    assert found.model.class_labels == ("no", "yes")
    assert found.receipt.teacher == "model.onnx"


@pytest.mark.slow  # trains networks
def test_maps_of_probabilities_name_the_classes(tmp_path):
    from onnx import helper

    nodes = [
        helper.make_node("ArgMax", ["x"], ["output_label"], axis=1, keepdims=0),
        helper.make_node("Softmax", ["x"], ["shares"], axis=1),
        helper.make_node(
            "ZipMap", ["shares"], ["output_probability"], domain="ai.onnx.ml",
            classlabels_strings=["low", "high"],
        ),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info("x", 1, ["rows", 2])]
    ends.append(helper.make_tensor_value_info("output_label", 7, ["rows"]))
    value = helper.make_tensor_type_proto(1, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(8, value))
    ends.append(helper.make_value_info("output_probability", maps))
    graph = helper.make_graph(nodes, "classes", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    found = followed(tmp_path / "m.onnx", frame()[["dose", "age"]])
    assert found.model.class_labels == ("high", "low") and found.fidelity > 0.999
    rows = frame()[["dose", "age"]]
    teacher = _read_onnx(tmp_path / "m.onnx", rows.head(1), (), {})
    difference = torch.tensor((rows["dose"] - rows["age"]).tolist()).double()[:, None]
    torch.testing.assert_close(teacher(rows), difference, rtol=0, atol=1e-5)


def test_files_that_are_no_models_are_one_line(tmp_path):
    with pytest.raises(MissingFileError, match="imitate: expected a file, got no file"):
        followed(tmp_path / "gone.onnx", frame())
    (tmp_path / "m.onnx").write_text("nonsense")
    with pytest.raises(FileFormatError, match=r"ONNX model that runs on these rows, got 'm.onnx'"):
        followed(tmp_path / "m.onnx", frame())
    for name in ("forest.pkl", "forest.joblib", "net.pt"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(FileFormatError, match="Load it in Python, and pass the model"):
            followed(tmp_path / name, frame())
