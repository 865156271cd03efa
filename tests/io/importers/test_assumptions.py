"""What a state dict does not tell: said in the result and its file, and tested on rows."""

import json
import re
from functools import partial

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kanlens
from kanlens.cli import main
from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import BASES
from kanlens.io.importers import import_model
from kanlens.io.importers._settings import SUMS
from tests.io.importers import doubles, series_doubles
from tests.io.importers.test_efficient_kan import (
    EfficientKAN,
    network_state,
    points,
    reference_network,
)

FORMS = {name: getattr(torch, name, getattr(F, name, None)) for name in [*BASES, *SUMS]}
FORMS |= {"identity": lambda x: x, "zero": torch.zeros_like}
FORMS["softplus"] = partial(F.softplus, threshold=100.0)
MODULES = {
    "elu": nn.ELU(),
    "elu(0.5)": nn.ELU(0.5),
    "leaky_relu(0.2)": nn.LeakyReLU(0.2),
    "softplus(2.0)": nn.Softplus(beta=2),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "sigmoid": nn.Sigmoid(),
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "logsigmoid": nn.LogSigmoid(),
}
LINE = (
    "efficient-kan, imported from the state dict; "
    "base_activation='silu', layers='layers.0,layers.1', forward='efficient-kan' assumed "
    "(not in the tensors)"
)


def small_network():
    """Return tensors with base weights that matter, and their layers."""
    return network_state((3, 4, 1))


def rows_of(layers, base, count=200, noise=0.0):
    x = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    x = 1.6 * x - 0.8
    y = reference_network(x, layers, 3, base)
    draw = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    return x, y + noise * y.std() * draw


def equal(model, expected, x, size=1e-12):
    assert (model(x) - expected).abs().max() <= size * expected.abs().max()


# --- any base function -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BASES, *SUMS])
@pytest.mark.slow  # many cases
def test_every_base_of_the_list_is_the_function_of_that_name(name):
    state, layers = small_network()
    x = points(layers[0], rows=4)
    expected = reference_network(x, layers, 3, FORMS[name])
    equal(import_model(state, base_activation=name), expected, x)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.slow  # many cases
def test_the_base_of_a_module_is_read_with_its_parameters(tmp_path, name):
    _, layers = small_network()
    x = points(layers[0], rows=4)
    form = MODULES[name]
    if isinstance(form, nn.Softplus):
        form = partial(F.softplus, beta=2, threshold=100.0)
    expected = reference_network(x, layers, 3, form)
    module = EfficientKAN(layers, lambda: MODULES[name])
    torch.save(module, tmp_path / "whole.pt")
    for source in (module, tmp_path / "whole.pt"):
        model = import_model(source)
        equal(model, expected, x)
        assert "base_activation" not in model.provenance


@pytest.mark.parametrize("form", [torch.tanh, torch.cos, F.leaky_relu])
def test_the_base_of_a_pickled_module_may_be_a_function(tmp_path, form):
    _, layers = small_network()
    module = EfficientKAN(layers, lambda: form)
    torch.save(module, tmp_path / "whole.pt")
    x = points(layers[0], rows=4)
    for source in (module, tmp_path / "whole.pt"):
        equal(import_model(source), reference_network(x, layers, 3, form), x)


def test_an_approximate_gelu_is_refused_in_a_pickle_too(tmp_path):
    _, layers = small_network()
    module = EfficientKAN(layers, lambda: nn.GELU(approximate="tanh"))
    torch.save(module, tmp_path / "whole.pt")
    with pytest.raises(InvalidValueError, match=r"got torch\.nn\.modules\.activation\.GELU\."):
        import_model(tmp_path / "whole.pt")


def test_a_registered_function_is_a_base():
    import sympy

    state, layers = small_network()
    x = points(layers[0], rows=4)
    with kanlens.register_function("bent", torch.asinh, sympy.asinh, turning=()):
        model = import_model(state, base_activation="bent")
        assert [layer.base_name for layer in model.layers] == ["bent"] * 2
        equal(model, reference_network(x, layers, 3, torch.asinh), x)
    with pytest.raises(InvalidValueError, match=r"got 'bent'\. Register it first, with kanlens"):
        import_model(state, base_activation="bent")


def test_kangam_says_its_base(tmp_path):
    double = doubles.kangam()
    state = {key: one for key, one in double.state.items() if key.startswith("models.")}

    class KANGAMModule(nn.Module):
        def __init__(self):
            super().__init__()
            self.models, self.linear = nn.ModuleList(), nn.Linear(3, 2).double()
            for i in range(3):
                parts = [
                    {k.rpartition(".")[2]: v for k, v in state.items() if k.startswith(start)}
                    for start in (f"models.{i}.layers.0.", f"models.{i}.layers.1.")
                ]
                self.models.append(EfficientKAN(parts, nn.GELU))

    globals()["KANGAMModule"] = KANGAMModule  # where pickle looks for it
    KANGAMModule.__qualname__ = "KANGAMModule"
    torch.save(KANGAMModule(), tmp_path / "gam.pt")
    for source in (KANGAMModule(), tmp_path / "gam.pt"):
        model = import_model(source)
        assert [layer.base_name for layer in model.layers] == ["gelu", "gelu", "identity"]


# --- said --------------------------------------------------------------------------------------


def test_what_is_assumed_is_said_in_the_result_and_its_file(tmp_path, capsys):
    state, _ = small_network()
    model = import_model(state)
    assert model.provenance == LINE
    assert "efficient-kan, imported from the state dict; base_activation='silu'" in repr(model)
    path = kanlens.save(model, tmp_path / "m.safetensors")
    assert kanlens.load(path).provenance == LINE
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] == LINE
    said = import_model(state, base_activation="silu", layers="layers.0,layers.1")
    start = "efficient-kan, imported from the state dict; forward='efficient-kan' assumed "
    assert said.provenance == start + "(not in the tensors)"
    assert import_model(model).provenance == LINE
    assert kanlens.KAN([1, 1]).config.to_json().count("provenance") == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            partial(series_doubles.network, series_doubles.fast_kan, (2, 2, 1)),
            "denominator=1.0, base_activation='silu', layers",
        ),
        (doubles.torchkan, "base_activation='gelu', layers"),
        (doubles.normed_row, "base_activation='silu', eps=1e-05, layers"),
    ],
)
def test_other_libraries_say_what_they_assume(make, words):
    assert f"; {words}" in import_model(make().state).provenance


# --- tested ------------------------------------------------------------------------------------


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("name", ["tanh", "elu", "relu"])
def test_the_base_that_fits_the_rows_is_taken(name):
    state, layers = small_network()
    x, y = rows_of(layers, FORMS[name], noise=0.0 if name == "relu" else 0.02)
    assert (import_model(state)(x) - y).square().mean() > 4 * 0.02**2 * y.var()
    model = import_model(state, data=(x, y))
    equal(model, reference_network(x, layers, 3, FORMS[name]), x)
    assert model.layers[0].base_name == name
    assert f"base_activation='{name}' as it fits the rows" in model.provenance
    assert re.search(r"; R2 (0\.999\d|1) on 200 rows$", model.provenance)
    alike = "as good on these rows: base_activation 'relu6'"
    assert (alike in model.provenance) == (name == "relu")
    assert model.background is not None
    assert model.statistics is not None


def test_a_right_assumption_stays_and_r2_is_said():
    state, layers = small_network()
    x, y = rows_of(layers, F.silu, noise=0.02)
    model = import_model(state, data=(x, y))
    assert model.layers[0].base_name == "silu"
    assert re.fullmatch(re.escape(LINE) + r"; R2 0\.999\d on 200 rows", model.provenance)


def test_a_base_that_the_caller_or_a_module_says_is_not_tried():
    state, layers = small_network()
    data = rows_of(layers, torch.tanh)
    model = import_model(state, data=data, base_activation="silu")
    assert model.layers[0].base_name == "silu"
    assert import_model(EfficientKAN(layers), data=data).layers[0].base_name == "silu"


def test_rows_that_do_not_tell_leave_the_assumption():
    state, layers = small_network()
    state = {k: v * 1e-3 if k.endswith("base_weight") else v for k, v in state.items()}
    layers = [layer | {"base_weight": 1e-3 * layer["base_weight"]} for layer in layers]
    model = import_model(state, data=rows_of(layers, torch.tanh, noise=0.5))
    assert model.layers[0].base_name == "silu"
    assert LINE in model.provenance


def test_classes_tell_the_base_too():
    state, layers = network_state((3, 4, 3))
    x = torch.rand(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7)) * 2 - 1
    logits = 30 * reference_network(x, layers, 3, torch.tanh)
    state = {
        k: v * 30 if k in ("layers.1.base_weight", "layers.1.spline_scaler") else v
        for k, v in state.items()
    }
    draw = torch.rand(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = (logits - (-draw.log()).log()).argmax(1)  # drawn by their probabilities
    frame = pd.DataFrame(x.numpy(), columns=["a", "b", "c"]).assign(kind=y.numpy())
    model = import_model(state, data=frame, target="kind", task="classification")
    equal(model, logits, x)
    said = (
        "as good on these rows: base_activation 'sin'; base_activation='tanh' as it fits the rows; "
    )
    assert re.search(rf"; {said}accuracy 0\.929 on 1000 rows$", model.provenance)


@pytest.mark.slow  # takes a while
def test_the_width_of_gaussians_is_found():
    double = series_doubles.network(series_doubles.fast_kan, (2, 3, 1))
    state = {key: one for key, one in double.state.items() if "denominator" not in key}
    x = (
        torch.rand(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
        - 1.5
    )
    y = import_model(state, denominator=1.3)(x).detach()
    assert (import_model(state)(x) - y).abs().max() > 0.1 * y.abs().max()
    model = import_model(state, data=(x, y))
    equal(model, y, x)
    assert "denominator=1.3 as it fits the rows" in model.provenance


def test_worse_than_the_mean_is_warned_of():
    state, layers = small_network()
    x, y = rows_of(layers, F.silu)
    text = (
        "import_model: expected outputs nearer to the targets than their mean, got R2 -3 on 200 "
        "rows. Scale the rows as for its training, or pass base_activation or its other settings."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        model = import_model(state, data=(x, 2 * y.mean() - y))
    assert model.layers[0].base_name == "silu"
    assert model.provenance.endswith("R2 -3 on 200 rows")


def test_the_command_says_it(tmp_path, capsys):
    state, layers = small_network()
    x, y = rows_of(layers, torch.tanh)
    pd.DataFrame(torch.cat([x, y], 1).numpy(), columns=[*"abc", "y"]).to_csv(
        tmp_path / "d.csv", index=False
    )
    torch.save(state, tmp_path / "m.pt")
    words = ["import", f"{tmp_path}/m.pt", "-o", f"{tmp_path}/m.safetensors", "--json"]
    assert main(words) == 0
    assert "base_activation='silu'" in json.loads(capsys.readouterr().out)["provenance"]
    assert main([*words, "--data", f"{tmp_path}/d.csv", "--target", "y"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "base_activation='tanh' as it fits the rows" in facts["provenance"]
    assert facts["R2"] == pytest.approx(1.0)
    assert main([*words, "--set", "base_activation=tanh"]) == 0
    assert "'silu'" not in json.loads(capsys.readouterr().out)["provenance"]
