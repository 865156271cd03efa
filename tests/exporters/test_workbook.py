"""The Excel workbook, its formulas evaluated by the library formulas."""

import re

import pytest
import torch

from kanlens.data._schema import default_schema
from kanlens.errors import MethodError
from kanlens.exporters import _unrolled_files as workbook
from kanlens.exporters import export
from kanlens.exporters._exported_model import Export
from tests.exporters.conftest import build
from tests.exporters.test_onnx_graph import with_function
from tests.made import made

pytest.importorskip("formulas", reason="formulas is not installed")


openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")


def sheet(path):  # rows of cells
    return [[cell.value for cell in row] for row in openpyxl.load_workbook(path).active]


@pytest.mark.slow  # writes and runs files
@pytest.mark.parametrize("name", ["functions", "mixed"])
def test_it_computes_what_the_model_does(name, tmp_path):
    assert export(build(name), tmp_path / "model.xlsx").error < 1e-13


@pytest.mark.parametrize("name", ["gelu", "exp", "arctanh", "x^1.5", "relu"])
@pytest.mark.slow  # many cases
def test_functions_have_their_names(name, tmp_path):
    assert export(with_function(name), tmp_path / "model.xlsx").error < 1e-13


def test_every_sample_is_a_row_with_what_the_model_says(tmp_path):
    export(build("functions"), tmp_path / "model.xlsx")
    head, _, third, *others = sheet(tmp_path / "model.xlsx")
    assert [head[0], head[3], *head[-2:]] == ["x1", "x1 (feature)", "y", "y (model)"]
    assert len(others) == 2
    formulas = [cell for cell in third if isinstance(cell, str)]
    assert any("(D3 - " in formula for formula in formulas)
    assert all(formula.startswith("=") and "\0" not in formula for formula in formulas)


@pytest.mark.slow  # writes and runs files
def test_the_weights_of_a_sum_are_a_row_below_what_they_multiply(tmp_path):
    export(build("splines"), tmp_path / "model.xlsx")
    book = openpyxl.load_workbook(tmp_path / "model.xlsx")
    sums = [cell for cell in book["model"][2] if "SUMPRODUCT" in str(cell.value)]
    assert len(sums) == 4 + 2
    for row, cell in enumerate(sums, start=2):
        text = r"=(.*) \+ SUMPRODUCT\((.*),weights!(.*)\)"
        bias, terms, weights = re.fullmatch(text, cell.value).groups()
        first, last = terms.split(":")
        assert weights == f"{first[:-1]}${row}:{last[:-1]}${row}"
        assert bias == f"weights!$B${row}"
        node, number, *_ = [one.value for one in book["weights"][row]]
        assert node == book["model"].cell(1, cell.column).value
        assert isinstance(number, float)


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [
        ("MAX_FORMULA_LENGTH", 30, r"terms of at most 30 characters, got \d+\. Use another format"),
        (
            "MAX_CHARACTERS",
            300,
            r"formulas of at most 300 characters, got \d+\. Prune the model first",
        ),
        ("MAX_COLUMNS", 9, r"a model of at most 9 columns, got \d+\. Prune the model first"),
    ],
)
def test_what_excel_has_no_room_for_is_refused(limit, value, text, tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, limit, value)
    with pytest.raises(MethodError, match=rf"^export: expected {text}\.$"):
        export(build("functions"), tmp_path / "model.xlsx")


def test_names_are_texts_whatever_they_are(tmp_path):
    model = made([2, 1], functions=True)
    names = default_schema(2, 1, feature_names=["=1+1", "a\x07b"], output_names=["<y>"])
    model.schema = names
    export(model, tmp_path / "model.xlsx")
    head = sheet(tmp_path / "model.xlsx")[0]
    assert [*head[:2], head[-2]] == ["=1+1", "ab", "<y>"]
    assert openpyxl.load_workbook(tmp_path / "model.xlsx").active["A1"].data_type == "s"


def test_another_number_in_a_formula_is_noticed(tmp_path):
    model = made([1, 1], functions=True)
    export(model, tmp_path / "model.xlsx")
    subject = Export(model=model, path=tmp_path / "model.xlsx")
    (right,) = workbook._run_workbook(subject, tmp_path / "model.xlsx")
    torch.testing.assert_close(torch.tensor(right), model(torch.tensor(subject.rows)).detach())
    book = openpyxl.load_workbook(tmp_path / "model.xlsx")
    for cell in book.active[2]:
        cell.value = cell.value.replace("SIN", "COS") if cell.data_type == "f" else cell.value
    book.save(tmp_path / "model.xlsx")
    (wrong,) = workbook._run_workbook(subject, tmp_path / "model.xlsx")
    assert abs(wrong - right).max() > 0.1
