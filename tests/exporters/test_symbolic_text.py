"""Formulas as text, for sympy and in LaTeX."""

import copy
import shutil
import subprocess

import numpy as np
import pytest
import torch

from kanlens.errors import MethodError
from kanlens.exporters import export
from kanlens.model._network import KAN
from kanlens.symbolic._composition import evaluator, feature_symbols, plain
from kanlens.symbolic._notation import parse_formula
from tests.exporters.conftest import build
from tests.made import draw, made


@pytest.mark.parametrize("ending", ["txt", "tex"])
def test_it_computes_what_the_model_does(ending, tmp_path):
    assert export(build("functions"), tmp_path / f"model.{ending}").error < 1e-13


def test_sympy_reads_the_text(tmp_path):
    model = build("functions")
    export(model, tmp_path / "model.txt")
    head, line = (tmp_path / "model.txt").read_text().splitlines()
    assert head.startswith("# KAN [3, 2, 1]: y, exported by kanlens")
    name, text = line.split(" = ")
    assert name == "y"
    x = draw(20, 3)
    symbols = tuple(map(plain, feature_symbols(model)))
    found = evaluator((parse_formula(text),), symbols)(x.numpy())
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-12)


def test_where_features_are_held_is_said(tmp_path):
    model = made([2, 1], functions=True)
    model.input_low[0], model.input_high[0] = -1.0, 0.5
    for ending, sign in (("txt", "#"), ("tex", "%")):
        assert export(model, tmp_path / f"model.{ending}").error < 1e-13
        assert f"{sign} within" in (tmp_path / f"model.{ending}").read_text()


@pytest.mark.parametrize("ending", ["txt", "tex"])
@pytest.mark.parametrize(("kind", "count"), [("mixed", 3), ("series", 8)])
def test_edges_that_are_no_functions_have_no_formula(ending, kind, count, tmp_path):
    text = (
        f"^export: expected a model without splines, got {count} splines. "
        "Call symbolize and export its model.$"
    )
    with pytest.raises(MethodError, match=text):
        export(build(kind), tmp_path / f"model.{ending}")


@pytest.mark.slow  # writes and runs every kind of file
@pytest.mark.parametrize(("kind", "endings"), [("series", ["txt"]), ("lines", ["txt", "tex"])])
def test_what_stands_beside_splines_that_are_zero_is_written_out(kind, endings, tmp_path):
    lines = KAN([3, 2], base_activation="identity", output_names=["a", "b"]).double()
    series = KAN.from_layers(copy.deepcopy(build("series").layers[1:]), KAN([3, 1]).schema)
    model = lines if kind == "lines" else series
    with torch.no_grad():
        for layer in model.layers:
            layer.spline_weight.zero_()
    for ending in endings:
        assert export(model, tmp_path / f"model.{ending}").error < 1e-13
        assert "f_" not in (tmp_path / f"model.{ending}").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
def test_latex_can_be_set(tmp_path):
    export(build("functions"), tmp_path / "model.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "model.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
