"""The Excel workbook, its formulas evaluated by the library formulas."""

import re
import zipfile

import pytest
import torch

from kanlens.errors import MethodError
from kanlens.exporters import export, workbook
from kanlens.exporters.subject import Subject
from tests.exporters.conftest import build
from tests.exporters.test_onnx_graph import with_function
from tests.made import made

pytest.importorskip("formulas", reason="formulas is not installed")


def sheet(path):
    with zipfile.ZipFile(path) as book:
        return book.read("xl/sheet.xml").decode()


@pytest.mark.parametrize("name", ["functions", "mixed"])
def test_it_computes_what_the_model_does(name, tmp_path):
    assert export(build(name), tmp_path / "model.xlsx").error < 1e-13


@pytest.mark.parametrize("name", ["gelu", "exp", "arctanh", "x^1.5", "relu"])
def test_functions_have_their_names(name, tmp_path):
    assert export(with_function(name), tmp_path / "model.xlsx").error < 1e-13


def test_every_sample_is_a_row_with_what_the_model_says(tmp_path):
    export(build("functions"), tmp_path / "model.xlsx")
    text = sheet(tmp_path / "model.xlsx")
    assert re.findall(r"<t>(x1|y|y \(model\))</t>", text) == ["x1", "y", "y (model)"]
    assert re.findall(r'<row r="(\d+)"', text) == ["1", "2", "3", "4", "5"]
    third = text.split('<row r="3">')[1].split("</row>")[0]
    assert "<f>(A3 - " in third
    assert "#" not in third


def test_a_sum_that_is_too_long_goes_on_in_another_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "LONGEST", 80)
    assert export(build("functions"), tmp_path / "model.xlsx").error < 1e-13
    text = sheet(tmp_path / "model.xlsx")
    assert "<t>s0_0, part</t>" in text
    assert max(map(len, re.findall("<f>(.*?)</f>", text))) <= 80


def test_an_edge_that_is_too_long_is_refused_with_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "LONGEST", 30)
    text = r"^export: expected terms of at most 30 characters, got \d+\. Symbolize it again\.$"
    with pytest.raises(MethodError, match=text):
        export(build("functions"), tmp_path / "model.xlsx")


def test_formulas_that_are_too_long_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "MOST", 300)
    text = r"^export: expected formulas of at most 300 characters, got \d+\. Prune the model first"
    with pytest.raises(MethodError, match=text):
        export(build("functions"), tmp_path / "model.xlsx")


def test_a_sheet_that_is_too_wide_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(workbook, "WIDEST", 9)
    text = r"^export: expected a model of at most 9 columns, got \d+\. Prune the model first\.$"
    with pytest.raises(MethodError, match=text):
        export(build("functions"), tmp_path / "model.xlsx")


def test_columns_are_called_as_excel_calls_them():
    found = [workbook._letters(k) for k in (0, 25, 26, 27, 701, 702, 16383)]
    assert found == ["A", "Z", "AA", "AB", "ZZ", "AAA", "XFD"]


def test_another_number_in_a_formula_is_noticed(tmp_path):
    model = made([1, 1], functions=True)
    export(model, tmp_path / "model.xlsx")
    subject = Subject(model=model, path=tmp_path / "model.xlsx")
    (right,) = workbook._run(subject, tmp_path / "model.xlsx")
    torch.testing.assert_close(torch.tensor(right), model(torch.tensor(subject.rows)).detach())
    text = sheet(tmp_path / "model.xlsx").replace("SIN", "COS")
    with zipfile.ZipFile(tmp_path / "model.xlsx", "w") as book:
        book.writestr("xl/sheet.xml", text)
    (wrong,) = workbook._run(subject, tmp_path / "model.xlsx")
    assert abs(wrong - right).max() > 0.1
