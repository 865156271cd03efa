"""pykan, old and new: the same outputs, with products, masks, node affine and symbolic edges."""

import re

import pytest
import torch
from torch import nn

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import FUNCTIONS
from kanlens.io.importers import import_model
from kanlens.io.importers._pykan import translated
from tests.io.importers import doubles
from tests.io.importers.doubles import equal

NAMES = {
    (0, 0, 1): "cos",
    (0, 5, 2): "arctan",
    (0, 2, 0): "sigmoid",
    (1, 1, 2): "x^2",
    (1, 0, 0): "0",
}


class MultKAN(nn.Module):
    """A live module with the tensors and the attributes of pykan's."""

    def __init__(self, double):
        super().__init__()
        for name, value in double.facts.items():
            if "." not in name:
                setattr(self, name, value)
        self.act_fun, self.symbolic_fun = nn.ModuleList(), nn.ModuleList()
        for key, tensor in double.state.items():
            *path, name = key.split(".")
            if path:
                self._below(path, double).register_buffer(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def _below(self, path, double):
        row = getattr(self, path[0])
        if len(row) <= int(path[1]):
            row.append(nn.Module())
            row[-1].funs_name = double.facts[f"symbolic.funs_name.{path[1]}"]
        return row[int(path[1])]


@pytest.mark.parametrize("names", [{}, NAMES], ids=["splines", "symbolic"])
def test_a_live_model(names):
    double = doubles.pykan(names=names)
    model = equal(double, 3, MultKAN(double))
    assert model.shape == (3, (1, [2, 3]), 2)
    assert model.edges_alive == 3 * 6 + 3 * 2 - 2 + ((1, 0, 0) in names)


def test_edges_that_add_a_spline_and_a_function():
    names = {**NAMES, (0, 1, 1): "cos", (0, 3, 1): "cos", (0, 1, 2): "tanh"}
    both = [(0, 0, 1), (0, 1, 1), (0, 1, 2), (1, 1, 2)]
    double = doubles.pykan(names=names, both=both)
    model = equal(double, 3, MultKAN(double))
    assert model.layers[0].series == ("sin", "sin", "tanh")
    assert model.layers[0].functions[3][1] == "sin"
    assert model.layers[0].functions[1][1] == "spline"


def test_a_state_dict_of_sums_needs_nothing_else():
    double = doubles.pykan([(3, 0), (4, 0), (2, 0)], [(), (), ()])
    equal(double, 3, double.state)
    equal(double, 3, {f"model.{key}": tensor for key, tensor in double.state.items()})


def test_a_state_dict_with_products_asks_for_their_arity():
    double = doubles.pykan([(3, 0), (1, 2), (2, 0)], 2)
    text = (
        "import_model: expected mult_arity (the number of factors of every product), which the "
        "tensors of pykan do not determine, got none. "
        "Pass mult_arity=2, its default, or the value that was used."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(double.state)
    equal(double, 3, double.state, mult_arity=2)
    with pytest.raises(InvalidValueError, match="that combine 5 sums to 3 nodes"):
        import_model(double.state, mult_arity=4)


def test_a_state_dict_with_symbolic_edges_asks_for_their_names():
    text = (
        "import_model: expected names of the 3 symbolic edges of layer 0, (out, in), got none. "
        "Keep _config.yml next to the state of pykan, or pass the model itself."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(doubles.pykan(names=NAMES).state)


def test_symbolic_edges_count_only_where_they_are_enabled():
    double = doubles.pykan(names=NAMES)
    without = MultKAN(double)
    without.symbolic_enabled = False
    for tensor in (double.state["symbolic_fun.0.mask"], double.state["symbolic_fun.1.mask"]):
        tensor.zero_()
    double.steps[:] = doubles.pykan(names=dict.fromkeys(NAMES, "0")).steps
    model = import_model(without)
    assert all(layer.kind == "spline" for layer in model.layers)


@pytest.mark.parametrize("name", doubles.FUNCTIONS)
def test_functions_are_translated(name):
    u = torch.linspace(0.3, 0.9, 9, dtype=torch.float64)
    p = torch.tensor([0.7, 0.2, 1.3, -0.4], dtype=torch.float64)
    known, (a, b, c, d) = translated(name, p)
    expected = p[2] * doubles.FUNCTIONS[name](p[0] * u + p[1]) + p[3]
    torch.testing.assert_close(
        c * FUNCTIONS[known].value(a * u + b) + d, expected, rtol=1e-14, atol=1e-15
    )


def test_unknown_functions_are_refused():
    with pytest.raises(InvalidValueError, match=r"registered functions, got 'anonymous'\. Reg"):
        translated("anonymous", torch.ones(4))


@pytest.mark.parametrize("shared", [True, False])
def test_pykan_before_0_1(shared):
    double = doubles.old_pykan(shared=shared)
    model = equal(double, 3, double.state)
    assert model.layers[0].grid_size == (3 if shared else 4 * 10 - 7)


@pytest.mark.parametrize("library", ["kan", "microkan"])
def test_the_library_itself(library):
    live = pytest.importorskip(library, reason=f"{library} is not installed")
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        options = {"auto_save": False} if library == "kan" else {}
        model = live.KAN(
            width=[2, [2, 2], 1], mult_arity=[[], [2, 3], []], grid=3, seed=0, **options
        )
        x = torch.randn(50, 2)
        with torch.no_grad():
            expected = model(x)
            found = import_model(model)(x)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_rng_state(state)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
