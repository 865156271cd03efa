"""What features did, as a second output of the ONNX graph."""

import numpy as np
import pytest
import torch

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.exporters import _onnx_file as onnx_file
from kanlens.exporters import export
from tests.exporters.conftest import build
from tests.exporters.test_onnx_graph import outputs
from tests.made import draw, made


@pytest.mark.slow
def test_scores_are_the_secants_of_attribute(model, tmp_path):
    result = export(model, tmp_path / "model.onnx", explain=True)
    assert result.explained_error < 1e-11
    x = draw(6, model.widths[0], seed=4)
    y, scores = outputs(result.path, x)
    rows = model.background
    if rows is None:
        return
    for target in range(y.shape[1]):
        known = {"background": rows.mean(0, keepdim=True), "target": target}
        wanted = kanlens.attribute(model, x, method="secant", **known)
        torch.testing.assert_close(torch.tensor(scores[:, target]), wanted.values)


def test_at_the_reference_nothing_did_anything(tmp_path):
    model = build("splines")
    export(model, tmp_path / "model.onnx", explain=True)
    rows = model.background.mean(0, keepdim=True)
    assert not outputs(tmp_path / "model.onnx", rows)[1].any()
    moved = outputs(tmp_path / "model.onnx", rows + 1e-9)[1]
    assert np.isfinite(moved).all()


def test_a_float32_model_has_them_from_float64(tmp_path):
    result = export(made([3, 4, 1]).float(), tmp_path / "model.onnx", explain=True)
    assert result.explained_error < 1e-6
    assert outputs(result.path, draw(2, 3).float())[1].dtype == np.float32


def test_wrong_scores_are_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "SAME", 0.5)
    with pytest.raises(kanlens.KanlensError, match="within 1e-06 of the model's scores, got "):
        export(build("splines"), tmp_path / "model.onnx", explain=True)
    assert not list(tmp_path.iterdir())


def test_other_formats_do_not_explain(tmp_path):
    text = r"^export: expected a format that explains \(onnx\), got 'c'\. Leave out explain=True\.$"
    with pytest.raises(InvalidValueError, match=text):
        export(build("splines"), tmp_path / "model.h", explain=True)
