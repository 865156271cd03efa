"""Every export is compared with the model, and what disagrees is not left."""

import dataclasses
import re

import numpy as np
import pytest
import torch

import kanlens
from kanlens.errors import DTypeError, InvalidValueError, MethodError, OutputError
from kanlens.exporters import FORMATS, export
from kanlens.exporters import _export as export_module
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.exporters.conftest import build
from tests.made import made


def refused(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.mark.parametrize(("fault", "got"), [(1 + 1e-8, "1e-08"), (np.nan, "nan")])
def test_a_file_that_disagrees_is_not_left(fault, got, tmp_path, monkeypatch):
    def run(subject, path):
        values = subject.exact(torch.from_numpy(subject.rows)).numpy()
        values[5 if np.isnan(fault) else 0 :] *= fault
        return [values]

    monkeypatch.setitem(FORMATS, "numpy", dataclasses.replace(FORMATS["numpy"], run=run))
    with refused(
        OutputError,
        f"export: expected a file for numpy within 1e-10 of the model's outputs, got {got}. "
        "Nothing was written; choose another format, or convert it with model.double().",
    ):
        export(build("splines"), tmp_path / "model.py")
    assert list(tmp_path.iterdir()) == []


def test_differences_are_relative_to_the_largest_output():
    wanted = np.array([[1.0, -4.0], [2.0, 0.0]])
    assert export_module._difference(wanted * [[1.0, 1.05], [1.0, 1.0]], wanted) == pytest.approx(
        0.05
    )
    assert export_module._difference(np.zeros((2, 1)), np.zeros((2, 1))) == 0.0


def test_what_is_not_a_number_or_lacks_columns_is_no_agreement():
    wanted = np.array([[1.0], [2.0]])
    assert np.isnan(export_module._difference(np.array([[1.0], [np.nan]]), wanted))
    assert np.isnan(export_module._difference(np.array([1.0, 2.0]), wanted))


def test_rows_without_an_output_do_not_count_but_most_must_have_one(tmp_path):
    layer = KANLinear(1, 1, functions=[["log"]]).double()
    layer.assign(0, 0, "log", (1.0, 0.5, 1.0, 0.0))
    model = KAN.from_layers([layer], KAN([1, 1]).schema)
    assert 60 < export(model, tmp_path / "model.py").rows < 90
    layer.assign(0, 0, "log", (1.0, -0.9, 1.0, 0.0))
    text = r"^export: expected finite outputs on most rows, got \d+% of rows\. Train it again\.$"
    with pytest.raises(MethodError, match=text):
        export(model, tmp_path / "model.py")


def test_the_ending_says_the_format_and_unknown_ones_are_refused(tmp_path):
    assert export(build("splines"), tmp_path / "a.py").format == "numpy"
    with pytest.raises(
        InvalidValueError, match=r"^export: expected format to be one of .*, got '\.r'"
    ):
        export(build("splines"), tmp_path / "a.r")
    with pytest.raises(
        InvalidValueError, match=r"^export: expected format to be one of .*, got 'R'"
    ):
        export(build("splines"), tmp_path / "a.py", to="R")


@pytest.mark.slow  # writes and runs every kind of file
@pytest.mark.parametrize("name", ["excel", "numpy"])
def test_a_file_may_be_called_anything_where_its_format_is_given(name, tmp_path):
    assert export(build("splines"), tmp_path / "model.v2", to=name).error < 1e-10
    assert [path.name for path in tmp_path.iterdir()] == ["model.v2"]


@pytest.mark.parametrize("ending", ["py", "onnx", "h", "sql", "xlsx", "txt", "tex"])
@pytest.mark.slow  # many cases
def test_names_may_hold_anything(ending, tmp_path):
    model = made([2, 1], functions=True)
    names = {"feature_names": ['a"b', "x = #'{}<&\\\n"], "output_names": ['"""*/ y = -- \\n`?%']}
    model.schema = KAN([2, 1], **names).schema
    assert export(model, tmp_path / f"1 model.{ending}").error < 1e-12


def test_other_dtypes_are_refused(tmp_path):
    with refused(
        DTypeError,
        "export: expected a model in float64 or float32, got torch.float16. "
        "Convert it with model.double().",
    ):
        export(KAN([2, 1]).half(), tmp_path / "a.py")


def test_the_model_is_left_as_it_was(tmp_path):
    model = kanlens.KAN([2, 2, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    export(model, tmp_path / "a.py")
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
