"""The module that needs NumPy alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import kanlens
from kanlens.exporters import export
from kanlens.exporters._text_files import load_module
from tests.exporters.conftest import build
from tests.made import draw, made


def test_it_computes_what_the_model_does(model, tmp_path):
    result = export(model, tmp_path / "model.py")
    assert result.error < 1e-13
    x = 2 * draw(50, model.widths[0], seed=9)
    found = load_module(result.path).predict(x.numpy())
    wanted = model(x).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-13 * np.abs(wanted).max(), rtol=0)


def test_every_base_has_its_text(tmp_path):
    for base in ("gelu", "identity", "zero"):
        model = kanlens.KAN([2, 2, 1], base_activation=base).double()
        assert export(model, tmp_path / "model.py").error < 1e-13


def test_a_float32_model_is_written_exactly(tmp_path):
    model = made([2, 3, 1]).float()
    result = export(model, tmp_path / "model.py")
    x = draw(20, 2).float()
    found = load_module(result.path).predict(x.numpy())
    assert result.error < 1e-13  # of the same weights in float64
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-5)


def test_it_needs_numpy_alone_and_checks_itself(tmp_path):
    export(build("functions"), tmp_path / "model.py")
    code = (
        "import sys; sys.modules.update(torch=None, kanlens=None, scipy=None, sympy=None)\n"
        "import model; print(model.check() < 1e-12, model.FEATURES)\n"
        "model.CHECK_Y[0][0] += 1; print(model.check() > 0.9)"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["True ['x1', 'x2', 'x3']", "True"]


def test_it_refuses_another_number_of_columns(tmp_path):
    export(build("held"), tmp_path / "model.py")
    with pytest.raises(ValueError, match=r"^predict: expected x of shape \(batch, 2\), got \(3,\)"):
        load_module(tmp_path / "model.py").predict(torch.zeros(3))
