"""The ONNX graph, run by onnxruntime."""

import json

import numpy as np
import pytest
import sympy
import torch

import kanlens
from kanlens.errors import MethodError
from kanlens.exporters import export
from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from tests.exporters.conftest import build
from tests.made import draw, made
from tests.model.layers_for_tests import rich

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def outputs(path, x):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.numpy()})


def with_function(name, dtype=torch.float64):
    """A network of one edge, which is a function."""
    layer = KANLinear(1, 1, functions=[[name]]).to(dtype)
    layer.assign(0, 0, name, (0.45, 0.5, 0.7, -0.2))  # within every domain from -1 to 1
    return KAN.from_layers([layer], KAN([1, 1]).schema)


@pytest.mark.slow  # many cases
def test_it_computes_what_the_model_does(model, tmp_path):
    result = export(model, tmp_path / "model.onnx")
    assert result.error < 1e-13
    x = 2 * draw(50, model.widths[0], seed=9)
    torch.testing.assert_close(torch.tensor(outputs(result.path, x)[0]), model(x).detach())


def test_a_float32_model_is_a_float32_graph_also_at_knots(tmp_path):
    model = made([3, 4, 1]).float()
    assert 0 < export(model, tmp_path / "model.onnx").error < 2e-6
    cuts = model.layers[0].breakpoints().mT * model.input_scale + model.input_shift
    x = torch.cat([cuts + k * torch.finfo(torch.float32).eps for k in range(-2, 3)])
    found = outputs(tmp_path / "model.onnx", x)[0]
    assert found.dtype == np.float32
    torch.testing.assert_close(torch.tensor(found), model(x).detach())


def test_the_graph_is_of_plain_operators_and_any_batch(tmp_path):
    export(build("splines"), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    assert [(one.domain, one.version) for one in graph.opset_import] == [("", 17)]
    assert len(graph.graph.node) <= 50
    for rows in (0, 1, 7):
        assert outputs(tmp_path / "model.onnx", draw(rows, 3))[0].shape == (rows, 2)


def test_rows_to_check_are_in_the_file(tmp_path):
    model = build("products")
    export(model, tmp_path / "model.onnx")
    facts = {
        one.key: json.loads(one.value) for one in onnx.load(tmp_path / "model.onnx").metadata_props
    }
    assert (facts["features"], facts["outputs"]) == (["x1", "x2", "x3"], ["y1", "y2"])
    x = torch.tensor(facts["check_x"], dtype=torch.float64)
    torch.testing.assert_close(model(x), torch.tensor(facts["check_y"], dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_its_operators(name, tmp_path):
    assert export(with_function(name), tmp_path / "a.onnx").error < 1e-13
    assert export(with_function(name, torch.float32), tmp_path / "b.onnx").error < 1e-5


@pytest.mark.parametrize(("name", "ends"), [("arcsin", 1.0), ("gelu", 40.0), ("arctan", 1e6)])
def test_what_runtimes_lack_in_float64_is_exact_at_its_ends(name, ends, tmp_path):
    model = with_function(name)
    model.layers[0].assign(0, 0, name, (1.0, 0.0, 1.0, 0.0))
    export(with_function(name), tmp_path / "a.onnx")
    model.layers[0].grid.copy_(ends * model.layers[0].grid)
    x = ends * torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
    model.input_low.fill_(-ends)
    model.input_high.fill_(ends)
    assert export(model, tmp_path / "a.onnx").error < 1e-14
    found = torch.tensor(outputs(tmp_path / "a.onnx", x)[0])
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-13, atol=1e-14 * ends)


def test_polynomials_of_tanh_do_not_cancel_in_float32(tmp_path):
    layers = [rich(2, 3, series=["T12(tanh)", "T9(tanh)"])]
    model = KAN.from_layers(layers, KAN([2, 3]).schema).float()
    assert export(model, tmp_path / "a.onnx").error < 5e-6


def test_a_layer_of_constants_has_one_for_each_row(tmp_path):
    model = made([2, 2, 1])
    model.layers[1].mask.zero_()
    assert export(model, tmp_path / "a.onnx").error < 1e-14


def test_a_function_that_onnx_lacks_is_refused_in_one_line(tmp_path):
    with kanlens.register_function("lg", torch.lgamma, sympy.loggamma, domain=(0.0, 9.0)):
        model = with_function("lg")
        text = "^export: expected functions of ONNX, got loggamma. Choose another format.$"
        with pytest.raises(MethodError, match=text):
            export(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
