"""KAN: scaling, kinds of input, names, configuration, copies, grids, and what it refuses."""

import copy
import io
import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kanlens.data._schema import default_schema
from kanlens.errors import DataError, DTypeError, FileFormatError, InvalidValueError, ShapeError
from kanlens.model._config import KANConfig, LayerConfig
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics
from tests.model import reference
from tests.model.layers_for_tests import MODES, refused, seeded


def rich(widths: list[int], seed: int = 0, **options: object) -> KAN:
    """A float64 network with weights of size one and a scaling of its own."""
    model = KAN(widths, generator=seeded(seed), **options).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            shape, generator = parameter.shape, seeded(seed + 10 + number)
            parameter.copy_(torch.randn(shape, generator=generator, dtype=torch.float64))
        model.input_shift += torch.arange(1, widths[0] + 1)
        model.input_scale *= 2.0
        model.output_shift -= 3.0
        model.output_scale *= torch.arange(1, widths[-1] + 1) * 0.5
    return model


def rows(model: KAN, count: int = 8, seed: int = 1) -> Tensor:
    n_in = model.widths[0]
    hidden = 2 * torch.rand(count, n_in, generator=seeded(seed), dtype=torch.float64) - 1
    return (hidden * model.input_scale + model.input_shift).to(model.dtype)


# --- what the network computes ---------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("widths", [[3, 4, 2], [1, 1], [2, 3, 1, 2]])
def test_forward_is_the_loop(widths, mode):
    model = rich(widths, extrapolation=mode)
    x = 2 * rows(model, 5)
    expected = reference.kan(model, x)
    assert_close(model(x), expected, rtol=1e-11, atol=1e-11 * expected.abs().max().item())


def test_scaling_is_the_units_of_the_data():
    model = rich([3, 2])
    x = rows(model)
    hidden = model.scale_inputs(x)
    assert_close(hidden, (x - model.input_shift) / model.input_scale)
    assert_close(model(x), model.layers[0](hidden) * model.output_scale + model.output_shift)
    plain = KAN([3, 2])
    assert_close(plain.scale_inputs(torch.ones(2, 3)), torch.ones(2, 3))
    names = ("input_shift", "input_scale", "output_shift", "output_scale")
    assert set(names) <= set(dict(plain.named_buffers()))
    assert not set(names) & set(dict(plain.named_parameters()))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (5, 3), (2, 5, 3), (2, 0, 3)])
def test_any_leading_shape_of_tensors_and_arrays(shape):
    model = rich([3, 4, 2])
    x = torch.randn(shape, generator=seeded(), dtype=torch.float64)
    y = model(x)
    assert y.shape == (*shape[:-1], 2)
    assert_close(y.reshape(-1, 2), model(x.reshape(-1, 3)))
    assert_close(model(x.numpy()), y)


def test_nan_gives_nan_in_its_own_row_alone():
    model = rich([2, 3, 2])
    x = rows(model, 3)
    x[1, 0] = torch.nan
    y = model(x)
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()
    assert_close(model(x.numpy()), y, equal_nan=True)


# --- kinds of input --------------------------------------------------------------------------


def test_arrays_frames_and_tensors_are_one_input():
    model = rich([2, 3, 1], feature_names=["a", "b"])
    x = rows(model)
    expected = model(x)
    array = x.numpy()
    frame = pd.DataFrame({"b": array[:, 1], "ignored": "text", "a": array[:, 0]})
    read_only = array.copy()
    read_only.flags.writeable = False
    kinds = [
        array,
        frame,
        read_only,
        frame[["a", "b"]].to_numpy(),
        np.asfortranarray(array),
        array[::-1][::-1],
        np.flip(np.flip(array, 0).copy(), 0),
        array.tolist(),
    ]
    for kind in kinds:
        assert_close(model(kind), expected)
    whole = torch.tensor([[1, 2], [3, 4]])
    assert_close(model(whole.numpy()), model(whole.double()))
    assert_close(model.float()(array), expected.float(), rtol=1e-4, atol=1e-4)


def test_prepare_copies_arrays_and_takes_the_models_dtype():
    model = KAN([2, 1])
    array = np.zeros((3, 2))
    found = model.double().prepare(array, call="c")
    found += 1.0
    assert not array.any()
    assert KAN([2, 1]).prepare(torch.zeros(3, 2, dtype=torch.int64), call="c").dtype is (
        torch.float32
    )


def test_output_index_takes_an_index_a_name_or_nothing_for_one_output():
    model = KAN([2, 3], output_names=["low", "mid", "high"])
    assert model.output_index(2, call="c") == 2
    assert model.output_index(np.int64(1), call="c") == 1
    assert type(model.output_index(np.int64(1), call="c")) is int
    assert model.output_index("mid", call="c") == 1
    assert KAN([2, 1]).output_index(None, call="c") == 0
    assert KAN([2, 1]).output_index("y", call="c") == 0


# --- names and configuration -----------------------------------------------------------------


def test_names_and_sizes():
    model = KAN([2, 3, 1], feature_names=["a", "b"], output_names=["z"])
    assert model.widths == (2, 3, 1)
    assert model.feature_names == ("a", "b")
    assert model.output_names == ("z",)
    assert model.node_name(0, 1) == "b"
    assert model.node_name(1, 2) == "h1_3"
    assert model.node_name(2, 0) == "z"
    assert model.edge_name(1, 0, 2) == "h1_3 -> z"
    assert (model.task, model.class_labels) == ("regression", ())
    assert model.edges_alive == 9
    model.layers[0].mask[0, 0] = 0.0
    assert model.edges_alive == 8
    assert KAN([1, 2]).output_names == ("y1", "y2")
    assert (KAN([1, 1]).dtype, KAN([1, 1]).double().dtype) == (torch.float32, torch.float64)


def test_options_reach_every_layer():
    options = {
        "grid_size": 4,
        "spline_order": 2,
        "base_activation": "tanh",
        "grid_eps": 0.5,
        "grid_range": (-3, 2),
        "enable_standalone_scale_spline": False,
        "extrapolation": "zero",
    }
    model = KAN([2, 3, 1], **options)
    for layer in model.layers:
        expected = KANLinear(layer.in_features, layer.out_features, **options)
        assert layer.config == expected.config
        assert_close(layer.grid, expected.grid)
    quiet = KAN([2, 3, 1], scale_noise=0.0, scale_base=0.0, scale_spline=0.0)
    assert not quiet(torch.ones(1, 2)).any()


def test_config_rebuilds_the_network():
    model = rich([3, 4, 2], grid_size=4, spline_order=2, feature_names=["a", "b", "c"])
    model.layers[1].refine(9)
    model.scaled = True
    before = torch.get_rng_state()
    text = model.config.to_json()
    again = KAN.from_config(KANConfig.from_json(text)).double()
    assert torch.equal(torch.get_rng_state(), before)
    assert again.scaled
    again.load_state_dict(model.state_dict())
    x = rows(model)
    assert_close(again(x), model(x), rtol=0, atol=0)
    assert again.config == model.config
    assert again.schema == model.schema


def test_from_layers_takes_their_dtype():
    layers = [KANLinear(2, 3).double(), KANLinear(3, 1).double()]
    model = KAN.from_layers(layers, KAN([2, 1]).schema)
    assert model.dtype == torch.float64
    x = torch.rand(4, 2, dtype=torch.float64, generator=seeded())
    assert_close(model(x), layers[1](layers[0](x)))


def test_construction_draws_from_its_generator_alone_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (KAN([3, 4, 2], generator=seeded(7)) for _ in range(2))
    other = KAN([3, 4, 2], generator=seeded(8))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    x = torch.ones(1, 3)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), other(x))
    assert not torch.equal(first.layers[0].base_weight[:2, :2], first.layers[1].base_weight[:, :2])
    assert list(tmp_path.iterdir()) == []


# --- copies ----------------------------------------------------------------------------------


def through_pickle(model: KAN) -> KAN:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - its own bytes


def through_state_dict(model: KAN) -> KAN:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    again = KAN.from_config(model.config).to(model.dtype)
    again.load_state_dict(torch.load(stream, weights_only=True))
    return again


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle, through_state_dict])
def test_copies_compute_the_same_and_are_apart(duplicate):
    model = rich([3, 4, 2])
    store_statistics(model, rows(model, 30))
    model.refine(7)
    again = duplicate(model)
    x = rows(model)
    expected = model(x).detach()
    assert_close(again(x), expected, rtol=0, atol=0)
    assert again.schema == model.schema
    if duplicate is not through_state_dict:
        assert_close(again.statistics[1].quantiles, model.statistics[1].quantiles)
        assert_close(again.background, model.background)
    with torch.no_grad():
        for tensor in again.state_dict().values():
            tensor.zero_()
    assert_close(model(x), expected, rtol=0, atol=0)


@pytest.mark.slow  # many layers of every kind
def test_compiled_network_is_the_network_in_one_graph():
    torch.compiler.reset()
    model = rich([3, 4, 2])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = rows(model).requires_grad_()
    other = x.detach().clone().requires_grad_()
    y, expected = compiled(x), model(other)
    assert_close(y, expected, rtol=1e-12, atol=1e-12)
    y.square().sum().backward()
    expected.square().sum().backward()
    assert_close(x.grad, other.grad, rtol=1e-12, atol=1e-12)


# --- grids -----------------------------------------------------------------------------------


def test_refine_keeps_the_function():
    model = rich([3, 4, 2])
    x = rows(model, 200)
    before = model(x).detach()
    error = model.refine(15)
    assert all(layer.grid_size == 15 for layer in model.layers)
    assert error < 1e-9
    assert ((model(x) - before).abs().amax(0) <= 1e-5 * before.std(0)).all()
    assert_close(model.input_shift, rich([3, 4, 2]).input_shift)


def test_update_grid_moves_every_grid_to_what_reaches_it():
    model = rich([3, 4, 2], grid_size=12)
    x = rows(model, 300)
    hidden = [model.scale_inputs(x)]
    hidden.append(model.layers[0](hidden[0]).detach())
    expected = [copy.deepcopy(layer) for layer in model.layers]
    worst = max(layer.update_grid(h) for layer, h in zip(expected, hidden, strict=True))
    assert model.update_grid(x) == worst
    for layer, other, h in zip(model.layers, expected, hidden, strict=True):
        assert_close(layer.grid, other.grid, rtol=0, atol=0)
        assert not layer.outside(h).any()


# --- messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [[3], [], [3, 0], [3, 2.0], [3, True], 4, [[2, 1], 1]])
def test_message_of_widths(widths):
    text = (
        f"KAN: expected widths of at least two whole numbers of at least 1, got {widths!r}. "
        "For example [4, 5, 1]."
    )
    with refused(InvalidValueError, text):
        KAN(widths)


def test_messages_of_names():
    with refused(InvalidValueError, "KAN: expected 2 feature_names, got 3. Name each one once."):
        KAN([2, 1], feature_names=["a", "b", "c"])
    text = "KAN: expected distinct output_names, got 'a' more than once. Rename one."
    with refused(InvalidValueError, text):
        KAN([2, 2], output_names=["a", "a"])


def test_messages_of_forward():
    model = KAN([3, 1])
    text = (
        "expected x of shape (batch, 3), got (2, 4). The model takes 3 features (x1, x2, x3); pass "
        "only those."
    )
    for x in (torch.zeros(2, 4), np.zeros((2, 4))):
        with refused(ShapeError, f"KAN.forward: {text}"):
            model(x)
    text = (
        "KAN.forward: expected x of dtype torch.float32, as the model's, got torch.float64. "
        "Convert x with x.to(dtype), or the model with model.double() or model.float()."
    )
    with refused(DTypeError, text):
        model(torch.zeros(2, 3, dtype=torch.float64))
    text = (
        "KAN.forward: expected x to be a Tensor, an ndarray or a DataFrame of numbers, got list "
        "(could not convert string to float: 'a'). Convert it first."
    )
    with refused(DTypeError, text):
        model([["a", "b", "c"]])


def test_complex_numbers_are_refused():
    text = "KAN.forward: expected x to be real, got complex numbers. Pass x.real or abs(x)."
    with refused(DTypeError, text):
        KAN([2, 1])(np.zeros((1, 2), dtype=complex))
    with refused(DTypeError, text.replace("KAN.forward", "c")):
        KAN([2, 1]).prepare(torch.zeros(1, 2, dtype=torch.complex64), call="c")


def test_messages_of_prepare():
    model = KAN([2, 1], feature_names=["a", "b"])
    text = "c: expected x of shape (batch, 2), got (2,). Pass a table: one row per sample."
    with refused(ShapeError, text):
        model.prepare(np.zeros(2), call="c")
    text = (
        "c: expected x of shape (batch, 2), got (1, 3). The model takes 2 features (a, b); "
        "pass only those."
    )
    with refused(ShapeError, text):
        model.prepare(np.zeros((1, 3)), call="c")
    text = (
        "c: expected finite numbers, got nan at row 1, column 'b' (1 such cell). "
        "Drop or impute those rows."
    )
    bad = np.array([[0.0, 0.0], [0.0, np.nan]])
    with refused(DataError, text):
        model.prepare(bad, call="c")
    assert model.prepare(bad, call="c", finite=False).isnan().sum() == 1
    text = "c: expected a column 'b', got columns 'a'. Add it."
    with refused(DataError, text):
        model.prepare(pd.DataFrame({"a": [1.0]}), call="c")


@pytest.mark.parametrize("target", [None, 2, -1, True, "hihg"])
def test_messages_of_output_index(target):
    model = KAN([2, 2], output_names=["low", "high"])
    advice = "Did you mean 'high'?" if target == "hihg" else "Pass an index below 2 or a name."
    text = f"c: expected target to be one of the 2 outputs ('low', 'high'), got {target!r}. "
    with refused(InvalidValueError, text + advice):
        model.output_index(target, call="c")


def config(*layers: LayerConfig, n_in: int = 2, n_out: int = 1) -> KANConfig:
    return KANConfig(layers=layers, schema=default_schema(n_in, n_out))


def layer_config(n_in: int, n_out: int, kind: str = "spline") -> LayerConfig:
    return LayerConfig(kind=kind, in_features=n_in, out_features=n_out)


def test_messages_of_from_config():
    text = "KAN.from_config: expected layers of kind spline, got 'wavelet'. Upgrade kanlens."
    with refused(FileFormatError, text):
        KAN.from_config(config(layer_config(2, 1, "wavelet")))
    text = "KAN.from_config: expected layers of kind spline, got none. "
    text += "Upgrade kanlens."
    with refused(FileFormatError, text):
        KAN.from_config(config())
    text = (
        "KAN.from_config: expected layers that fit together, got widths [2, 4, 1] after "
        "[2, 3, 1]. Save the model again."
    )
    with refused(FileFormatError, text):
        KAN.from_config(config(layer_config(2, 3), layer_config(4, 1)))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "{",
            "JSONDecodeError: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)",
        ),
        ("{}", "KeyError: 'layers'"),
        ("[]", "TypeError: list indices must be integers or slices, not str"),
    ],
)
def test_messages_of_config_files(text, cause):
    expected = f"KANConfig: expected a kanlens configuration, got {cause}. Save the model again."
    with refused(FileFormatError, expected):
        KANConfig.from_json(text)
