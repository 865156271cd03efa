"""The C99 header, compiled with every warning an error and called by ctypes."""

import shutil
import subprocess

import numpy as np
import pytest

from kanlens.errors import MissingDependencyError, OutputError
from kanlens.exporters import export
from kanlens.exporters._exported_model import Export
from kanlens.exporters._text_files import STRICT, _comment, _run_c
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.exporters.conftest import build
from tests.exporters.test_onnx_graph import with_function
from tests.made import made

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@needs_compiler
@pytest.mark.parametrize("model", ["products", "held", "zero", "series"], indirect=True)
@pytest.mark.slow  # many cases
def test_it_computes_what_the_model_does(model, tmp_path):
    assert export(model, tmp_path / "model.h").error < 1e-13


@pytest.mark.slow  # writes and runs files
@needs_compiler
def test_every_function_compiles_without_a_warning(tmp_path):
    edges = [with_function(name).layers[0] for name in FUNCTIONS]
    joined = KANLinear(len(edges), 1, functions=[list(FUNCTIONS)]).double()
    for k, (name, edge) in enumerate(zip(FUNCTIONS, edges, strict=True)):
        joined.assign(0, k, name, edge.affine[0, 0].tolist())
    model = KAN.from_layers([joined], KAN([len(edges), 1]).schema)
    assert export(model, tmp_path / "model.h").error < 1e-13


@pytest.mark.slow  # writes and runs files
@needs_compiler
def test_it_checks_itself_and_two_can_be_included_together(tmp_path):
    for name in ("first", "2nd"):
        export(build("held"), tmp_path / f"{name}.h")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "first.h"\n#include "2nd.h"\n#include "first.h"\n'
        "int main(void)\n{\n    const double x[2] = {NAN, 0.0};\n    double y[1];\n"
        "    first_predict(x, y);\n"
        '    printf("%g %d", fmax(first_check(), model_2nd_check()), isnan(y[0]));\n'
        "    return 0;\n}\n"
    )
    command = ["gcc", *STRICT, "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run(tmp_path / "main", check=True, capture_output=True, text=True).stdout
    error, missing = said.split()
    assert float(error) < 1e-13
    assert missing == "1"


@pytest.mark.slow  # writes and runs files
@needs_compiler
def test_a_header_with_another_coefficient_is_noticed(tmp_path):
    model = build("splines")
    export(model, tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text()
    subject = Export(model=model, path=tmp_path / "model.h")
    right = _run_c(subject, tmp_path / "model.h")[0]
    wrong = text.replace("y[0] = s[0] * 1.0", "y[0] = s[0] * 1.1", 1)
    (tmp_path / "model.h").write_text(wrong)
    assert np.abs(_run_c(subject, tmp_path / "model.h")[0] - right).max() > 1e-3


@needs_compiler
def test_what_does_not_compile_is_refused_in_one_line(tmp_path):
    (tmp_path / "model.h").write_text("int broken(\n")
    subject = Export(model=build("splines"), path=tmp_path / "model.h")
    with pytest.raises(OutputError, match=r"^export: expected a header that compiles, got [^\n]*$"):
        _run_c(subject, tmp_path / "model.h")


def test_names_of_columns_stand_in_a_comment_that_they_cannot_end():
    assert _comment(["a*/b", "/*", "ä\n"]) == "a* /b, / *, /xe4/n"


def test_a_machine_without_a_compiler_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    text = r"^export: expected a C compiler \(cc, gcc or clang\), got none\. Install one\.$"
    with pytest.raises(MissingDependencyError, match=text):
        export(made([1, 1]), tmp_path / "model.h")
    assert not list(tmp_path.iterdir())
