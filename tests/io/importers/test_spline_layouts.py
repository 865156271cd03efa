"""Networks of B-splines, as other libraries keep them: the same outputs, everywhere."""

import pytest
import torch

from kanlens.io.checkpoint import load, save
from kanlens.io.importers import import_model
from tests.io.importers import doubles
from tests.io.importers.doubles import rows

CASES = [
    ("LKAN", doubles.lkan(), 3, {}),
    ("LKAN, one scale", doubles.lkan(shared=True), 3, {}),
    ("KANLib", doubles.kanlib(), 3, {}),
    ("KANLib, bare", doubles.kanlib(bare=True), 3, {}),
    ("kanx", doubles.kanx(), 3, {}),
    ("inkan", doubles.cubic(), 3, {}),
    ("flashkan", doubles.cubic(packed=False), 3, {}),
    ("torchkan", doubles.torchkan(), 3, {}),
    ("KANGAM", doubles.kangam(), 3, {}),
    ("KANGAM of one feature", doubles.kangam(1), 1, {}),
    ("convkan", doubles.convkan(), 6, {}),
    ("KANditioned", doubles.kanditioned(), 3, {"spline_width": 3.0}),
    ("layers of torch between", doubles.normed_row(), 3, {}),
]


def equal(double, width, state, **settings):
    x = rows(double, width)
    expected = double(x)
    model = import_model(state, **settings)
    with torch.no_grad():
        error = (model(x) - expected).abs().max()
    assert error <= 1e-12 * expected.abs().max()
    return model


@pytest.mark.parametrize(("name", "double", "width", "settings"), CASES, ids=[c[0] for c in CASES])
def test_outputs_are_those_of_the_formula(name, double, width, settings, tmp_path):
    model = equal(double, width, double.state, **settings)
    equal(double, width, {f"net.module.{k}": v for k, v in double.state.items()}, **settings)
    loaded = load(save(model, tmp_path / "m.safetensors"))
    x = rows(double, width)
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "double", "width", "settings"), CASES, ids=[c[0] for c in CASES])
def test_the_comparison_notices_a_change_of_any_tensor(name, double, width, settings):
    for key, tensor in double.state.items():
        if tensor.is_floating_point() and "kan_layer.grid" not in key:
            spoiled = tensor * (1 + 1e-6)
            with pytest.raises(AssertionError):
                equal(double, width, {**double.state, key: spoiled}, **settings)
