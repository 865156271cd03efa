"""Saving and loading: every bit comes back, old files stay readable, bad files are refused."""

import copy
import dataclasses
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from kanlens.data._schema import Feature, Output, Schema
from kanlens.errors import DTypeError, FileFormatError, MissingFileError, OutputError
from kanlens.io import _checkpoint as checkpoint
from kanlens.io._checkpoint import CHECKSUM, checksum, load, read_metadata, save
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.model._trace import store_statistics

DATA = Path(__file__).parents[1] / "data"


def trained(dtype=torch.float64, seed=0, widths=(3, 4, 2), scaled_nodes=False, **options):
    """A network with every part that a file has room for."""
    generator = torch.Generator().manual_seed(seed)
    model = KAN(list(widths), generator=generator, **options)
    if scaled_nodes:
        nodes = [Nodes(one.grouping, scaled=True) for one in model.nodes]
        model = KAN.from_layers(list(model.layers), model.schema, nodes=nodes)
        for one in nodes:
            one.scale.copy_(torch.randn(one.scale.shape, generator=generator))
            one.shift.copy_(torch.randn(one.shift.shape, generator=generator))
    model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model.layers[0].mask[0, 0] = 0
        model.input_scale.fill_(2.5)
        model.output_shift.fill_(-0.1)
    x = torch.rand(20, widths[0], generator=generator).to(dtype) * 4 - 2
    with kernels.use("torch"):  # the others would be compiled for every order and type
        model.update_grid(x)
        store_statistics(model, x, background=7)
    model.scaled = True
    return model


def same_bits(one, two):
    assert (one.dtype, one.shape) == (two.dtype, two.shape)
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    assert torch.equal(one.contiguous().view(kind), two.contiguous().view(kind))


def same_model(one, two):
    assert one.config == two.config
    states = one.state_dict(), two.state_dict()
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        same_bits(tensor, states[1][name])
    for first, second in zip(one.layers, two.layers, strict=True):
        assert (first.statistics is None) == (second.statistics is None)
        if first.statistics is not None:
            for field in ("quantiles", "edge_mean", "edge_std"):
                same_bits(getattr(first.statistics, field), getattr(second.statistics, field))
    assert (one.background is None) == (two.background is None)
    if one.background is not None:
        same_bits(one.background, two.background)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def rewritten(path, change_tensors=None, model=None, **metadata):
    """Save a model, then write the file again with other metadata or tensors, unchecked."""
    save(model or trained(), path)
    tensors, text = load_file(path), read_metadata(path, call="load")
    del text[CHECKSUM]
    if change_tensors:
        change_tensors(tensors)
    text.update(metadata)
    save_file(tensors, path, {key: value for key, value in text.items() if value is not None})


def refused(path, text, error=FileFormatError):
    with pytest.raises(error, match=f"^{re.escape(f'load: expected {text}')}$"):
        load(path)


# --- golden files ------------------------------------------------------------------------------
# They are never written again: a newer version must still read them. expected.json has their
# outputs, at rows of which some lie far outside the grid. All but version 2 are in float64.
# model_v1: a masked edge, scaling, a numeric and a binary feature with unit, categories and
# imputation, a grid moved to data, statistics and background rows.
# model_v1_products: products, scaled and shifted nodes. model_v2: inputs held in their ranges.
# model_v3: trained on a table with a category and imputation; normalized hidden nodes.
# model_v4: layers with a series, functions and a masked edge, a series, and functions alone.

GOLDEN = {"v1": 1e-12, "v1_products": 1e-12, "v2": 1e-6, "v3": 1e-12, "v4": 1e-12}


def golden(name, path=None):
    """Return a model, and whether it computes what was written down."""
    file = f"model_{name}.safetensors"
    model = load(path or DATA / file)
    expected = json.loads((DATA / "expected.json").read_text())[file]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    bound = {"rtol": 0 if name == "v2" else GOLDEN[name], "atol": GOLDEN[name]}
    return model, torch.allclose(model(x).to(y), y, **bound)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_compute_the_same(name):
    assert golden(name)[1]


def test_a_golden_file_notices_a_changed_weight(path):
    tensors = load_file(DATA / "model_v1.safetensors")
    tensors["layers.0.spline_weight"][0, 0, 3] += 1e-6
    save_file(tensors, path, read_metadata(DATA / "model_v1.safetensors", call="load"))
    assert not golden("v1", path)[1]


def test_golden_files_hold_what_they_did():
    model = golden("v1")[0]
    assert (model.widths, model.feature_names) == ((2, 3, 1), ("mass", "größe"))
    assert model.schema.features[1].categories == ("nein", "ja")
    assert (model.schema.features[0].unit, model.schema.outputs[0].unit) == ("kg", "N")
    assert model.layers[0].mask.tolist() == [[1, 1], [0, 1], [1, 1]]
    assert model.scaled
    assert model.background.shape == (5, 2)
    assert [layer.quantiles.shape for layer in model.statistics] == [(2, 33), (3, 33)]
    assert not model.holds_inputs
    assert model.input_low.isneginf().all()
    assert model.input_high.isposinf().all()
    assert golden("v2")[0].holds_inputs
    model = golden("v3")[0]
    assert model.feature_names == ("mass", "kind=a", "kind=b", "kind=ü", "flag")
    assert [one.imputation for one in model.schema.features[3:]] == ["b", "yes"]


def test_a_golden_file_with_functions_has_one_kind_of_layer():
    model = golden("v4")[0]
    assert {type(layer) for layer in model.layers} == {KANLinear}
    assert model.layers[0].functions == (("x^2", "spline"), ("spline", "sin"), ("log", "spline"))
    series = [layer.series for layer in model.layers[:2]]
    assert series == [("gaussian", "sin"), ("relu", "T3(tanh)")]
    assert not model.layers[2].functions[0].count("spline")
    assert model.layers[0].mask.tolist() == [[1, 1], [0, 1], [1, 1]]


def test_a_golden_file_with_products_has_their_arities():
    model = golden("v1_products")[0]
    assert model.shape == (2, (1, [2, 3]), (1, 1))
    assert model.nodes[0].scale.tolist() == [0.5, 1.25, -2.0]
    assert model.nodes[0].shift.tolist() == [0.125, 0.0, 0.75]
    assert not model.nodes[1].scaled
    assert model.layers[0].mask[4].tolist() == [0, 1]
    assert model.output_names == ("u", "v")
    assert [layer.edge_mean.shape for layer in model.statistics] == [(6, 2), (3, 3)]


# --- round trip --------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@st.composite
def models(draw):
    arities = st.lists(st.integers(2, 3), min_size=1, max_size=2)
    width = st.integers(1, 3) | st.tuples(st.integers(0, 2), arities)
    later = draw(st.lists(width, min_size=1, max_size=3))
    widths = [draw(st.integers(1, 3)), *later]
    model = trained(
        draw(st.sampled_from([torch.float32, torch.float64])),
        widths=widths,
        scaled_nodes=draw(st.booleans()),
        grid_size=draw(st.integers(1, 6)),
        spline_order=draw(st.integers(1, 5)),
        base_activation=draw(st.sampled_from(["silu", "identity", "zero", "tanh", "gelu"])),
        extrapolation=draw(st.sampled_from(["linear", "zero"])),
        enable_standalone_scale_spline=draw(st.booleans()),
        grid_eps=draw(st.floats(0, 1)),
    )
    names = draw(st.lists(NAMES, min_size=widths[0], max_size=widths[0], unique=True))
    fillers = st.none() | st.floats(allow_nan=False) | NAMES
    features = tuple(
        Feature(name=name, column=draw(NAMES), unit=draw(NAMES), imputation=draw(fillers))
        for name in names
    )
    outputs = tuple(Output(name=f"ŷ{i}", unit=draw(NAMES)) for i in range(model.widths[-1]))
    labels = draw(st.lists(NAMES, max_size=3).map(tuple))
    model.schema = Schema(features=features, outputs=outputs, class_labels=labels)
    if draw(st.booleans()):
        model.background = None
    if draw(st.booleans()):
        model.layers[-1].statistics = None
    return model


@pytest.mark.slow  # reads many files
@given(model=models())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # compiles
def test_round_trip_keeps_every_bit(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    assert save(model, path) == path
    same_model(load(path), model)
    shutil.rmtree(path.parent)


def negative_zero(model):
    with torch.no_grad():
        model.layers[0].base_weight[0] = -0.0


def with_a_function(model):
    model.layers[1] = copy.deepcopy(model.layers[1])
    model.layers[1].assign(0, 1, "sin", [1.0, 2.0, 3.0, 4.0])


def tied_and_transposed(model):
    model.layers[1].base_weight = model.layers[0].base_weight
    model.layers[0].mask = model.layers[0].mask.T


def renamed(model):
    first, *others = model.schema.features
    features = (dataclasses.replace(first, unit="µm"), *others)
    model.schema = dataclasses.replace(model.schema, features=features)


@pytest.mark.parametrize("change", [negative_zero, with_a_function, tied_and_transposed, renamed])
def test_round_trip_of_what_is_unusual(path, change):
    model = trained(widths=(2, 2, 2))
    change(model)
    save(model, path)
    same_model(load(path), model)
    x = torch.rand(5, 2, dtype=torch.float64)
    torch.testing.assert_close(load(path)(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_round_trip_of_other_dtypes(path, dtype):
    model = KAN([2, 3, 1]).to(dtype)
    save(model, path)
    torch.set_default_dtype(torch.float64)
    try:
        same_model(load(path), model)
    finally:
        torch.set_default_dtype(torch.float32)


def test_comparison_of_models_notices_one_bit(path):
    model = trained()
    save(model, path)
    with torch.no_grad():
        weight = model.layers[1].spline_weight
        weight[0, 0, 0] = torch.nextafter(weight[0, 0, 0], torch.tensor(9.0, dtype=torch.float64))
    with pytest.raises(AssertionError):
        same_model(load(path), model)


def test_same_model_gives_the_same_bytes(tmp_path):
    files = [save(trained(), tmp_path / f"{i}.safetensors") for i in range(5)]
    assert len({file.read_bytes() for file in files}) == 1
    again = save(load(files[0]), tmp_path / "again.safetensors")
    assert again.read_bytes() == files[0].read_bytes()


def test_file_is_plain_safetensors(path):
    model = trained()
    save(model, str(path))
    assert set(model.state_dict()) < set(load_file(path))
    metadata = read_metadata(path, call="load")
    assert (metadata["format"], metadata["format_version"]) == ("kanlens.model", "5")
    assert metadata["config"] == model.config.to_json()
    assert "nodes" not in json.loads(metadata["config"])  # without products
    assert not [name for name in load_file(path) if name.startswith("nodes")]
    header = path.read_bytes()[8:].decode("latin-1")
    assert header.index('"config"') < header.index('"format"') < header.index('"kanlens_version"')


def test_save_and_load_leave_model_random_state_and_file(path):
    model = trained()
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    save(model, path)
    loaded = load(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    for name, tensor in model.state_dict().items():
        same_bits(tensor, before[name])
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    path.write_bytes(b"")  # which is not mapped
    same_model(loaded, model)


# --- writing -----------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    save(trained(seed=0), path)
    before = path.read_bytes()

    def full_disk(self, content):
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError):
        save(trained(seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


class Other(KANLinear):
    pass


SHAPE = "tensor layers.0.base_weight of shape (4, 3) and float64, got shape (4, 3) and float32"
UNSAVED = [
    (
        lambda model: model.layers.__setitem__(1, Other(4, 2).double()),
        "layers of kind spline, got Other as layer 1. Replace that layer.",
    ),
    (
        lambda model: model.layers[0].float(),
        f"{SHAPE}. Give the model the tensors of its configuration.",
    ),
    (
        lambda model: setattr(model, "extra", nn.Parameter(torch.ones(2))),
        "no tensor extra, got one of shape (2,) and float32.",
    ),
    (lambda model: setattr(model.layers[0], "grid_size", 1.5), ""),
]


@pytest.mark.parametrize(("change", "text"), UNSAVED)
def test_save_refuses_what_it_could_not_build_again(path, change, text):
    model = trained()
    change(model)
    with pytest.raises(DTypeError, match=rf"^save: expected {re.escape(text)}[^\n]*$"):
        save(model, path)
    text = "save: expected a KAN, got Linear. Bring it in with import_model first."
    with pytest.raises(DTypeError, match=re.escape(text)):
        save(nn.Linear(2, 1), path)
    assert not path.exists()


# --- checksum ----------------------------------------------------------------------------------


@pytest.mark.slow  # reads many files
def test_any_flipped_bit_is_noticed_or_changes_nothing(path):
    model = trained(widths=(2, 1))
    save(model, path)
    content, refusals = bytearray(path.read_bytes()), 0
    start = 8 + int.from_bytes(content[:8], "little")
    places = [*range(8, start, 5), *range(start, len(content), 11), len(content) - 1]
    for place in places:
        flipped = content.copy()
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = load(path)
        except FileFormatError:
            refusals += 1
        else:  # the flip is in the name of the checksum or in its absence
            assert place < start
            same_model(loaded, model)
    assert refusals > 0.95 * len(places)


def test_a_flipped_bit_of_a_weight_is_named(path):
    rewritten(path)
    same_model(load(path), trained())  # files without a checksum are read
    save(trained(), path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    refused(
        path,
        "the checksum of 'model.safetensors', got other content: the file is damaged. "
        "Copy the file again, or save it again.",
    )


def test_checksums_are_of_the_bytes_of_any_shape():
    tensors = {"a": torch.zeros(()), "b": torch.zeros(0, 3)}
    whole = checksum({}, tensors)
    assert whole != checksum({}, {"a": torch.zeros(1), "b": torch.zeros(0, 3)})
    assert whole != checksum({}, {"a": -torch.zeros(()), "b": torch.zeros(0, 3)})
    assert whole != checksum({"c": ""}, tensors)
    assert whole == checksum({CHECKSUM: "any"}, tensors)


# --- versions ----------------------------------------------------------------------------------

WHOLE = "a whole number as format_version of 'model.safetensors', got {!r}. Save the model again."


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("6", "format version 5 or older, got 6 in 'model.safetensors'. Upgrade kanlens."),
        (
            "0",
            "format_version of 'model.safetensors' to be at least 1, got 0. Save the model again.",
        ),
        *[(text, WHOLE.format(text)) for text in ("", "1.5", "-1", "²", "1" * 5000, None)],
    ],
)
def test_versions_that_are_refused(path, version, text):
    rewritten(path, format_version=version)
    refused(path, text)


def test_old_versions_are_upgraded_step_by_step(path, monkeypatch):
    def upgrade_5(config, tensors):
        config["steps"] = ["2"]
        tensors["input_shift"] = tensors.pop("center")

    def upgrade_6(config, tensors):
        assert config.pop("steps") == ["2"]
        for layer in config["layers"]:
            layer["grid_eps"] = layer.pop("eps")

    assert sorted(checkpoint._UPGRADES) == list(range(1, checkpoint.FORMAT_VERSION))
    model = trained()
    config = json.loads(model.config.to_json())
    for layer in config["layers"]:
        layer["eps"] = layer.pop("grid_eps")
    rewritten(
        path,
        lambda tensors: tensors.update(center=tensors.pop("input_shift")),
        config=json.dumps(config),
    )
    with pytest.raises(FileFormatError):
        load(path)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 7)
    monkeypatch.setattr(checkpoint, "_UPGRADES", {5: upgrade_5, 6: upgrade_6})
    same_model(load(path), model)


def test_failed_upgrade_is_one_line(path, monkeypatch):
    def upgrade_5(config, tensors):
        del config["no such key"]

    save(trained(), path)
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 6)
    monkeypatch.setattr(checkpoint, "_UPGRADES", {5: upgrade_5})
    refused(
        path,
        "a configuration that can be built in 'model.safetensors', got KeyError: 'no such key'. "
        "Save the model again.",
    )


# --- files that are refused --------------------------------------------------------------------


def test_what_is_no_file_of_a_model(tmp_path, path):
    refused(path, f"a file, got no file at {str(path)!r}. Check the path.", MissingFileError)
    with pytest.raises(FileNotFoundError):
        load("bad\0name")
    refused(tmp_path, f"a file, got a folder, {str(tmp_path)!r}. Name a file.")
    refused(3, "a path, got int. Pass the name of a file.", DTypeError)
    save_file({"weight": torch.ones(2)}, path)
    refused(
        path,
        "a kanlens model, got 'model.safetensors', which is of format None. "
        "Models of other libraries are read by import_model.",
    )
    path.write_text("mass,force\n1,2\n")
    with pytest.raises(FileFormatError, match=r"It is truncated or of another format\.$"):
        load(path)


class Trap:
    """Leaves a trace if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_pickles_are_refused_and_not_run(tmp_path, kind):
    trace, path = tmp_path / "trace", tmp_path / "model.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(str(trace))))
    else:
        torch.save(Trap(str(trace)), path, _use_new_zipfile_serialization=kind == "torch")
    text = "a .safetensors file, got a PyTorch file, 'model.pt'. Read it with import_model."
    refused(path, text)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Trap(str(trace))))  # noqa: S301 - the trap works
    assert trace.exists()


def test_every_truncation_is_refused(path):
    save(KAN([1, 1]), path)
    content = path.read_bytes()
    for size in [*range(64), *range(64, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(FileFormatError, match=r"^load: expected a \.safetensors file, got"):
            load(path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "KANConfig|JSONDecodeError"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'layers'"),
        ("[" * 100_000, "RecursionError|too many nested brackets"),
        ('{"layers": [], "schema": {"features": [], "outputs": []}}', "got none"),
    ],
)
def test_configuration_that_cannot_be_read(path, config, reason):
    rewritten(path, config=config)
    with pytest.raises(FileFormatError, match=rf"^load: [^\n]*({reason})[^\n]*$"):
        load(path)


LAYER = [
    *(("kind", value) for value in ("fourier", ["spline"])),
    *(("in_features", value) for value in (-3, 10**9, "3", 2)),
    *(("grid_size", value) for value in (10**9, 1.5)),
    *(("spline_order", value) for value in (0, None)),
    *(("base_activation", value) for value in ("cube", None)),
    *(("extrapolation", "cubic"), ("unknown", 1)),
]
NODES = [("arities", value) for value in ([2, 2, 9], [1], [-2, 3], [True, 2], "22", [[2]])]


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [*(("layers", *pair) for pair in LAYER), *(("nodes", *pair) for pair in NODES)],
)
@pytest.mark.slow  # many cases
def test_configuration_that_cannot_be_built(path, part, key, value):
    model = trained(widths=(2, (1, 2), 1)) if part == "nodes" else trained()
    config = json.loads(model.config.to_json())
    config[part][0][key] = value
    rewritten(path, model=model, config=json.dumps(config))
    with pytest.raises(FileFormatError, match=r"^load: expected [^\n]*\.$"):
        load(path)


def test_configuration_far_larger_than_the_file(path):
    config = json.loads(trained().config.to_json())
    config["layers"][1]["grid_size"] = 10**6
    rewritten(path, config=json.dumps(config))
    text = (
        "a tensor of at least 1000000 numbers for layer 1, got at most 132. Save the model again."
    )
    refused(path, text)


MISMATCHES = {  # other tensors (None: none): what is expected and what there is
    "layers.1.grid": (None, "shape (4, 12) and float64", "none"),
    "nodes.0.shift": (None, "shape (3,) and float64", "none"),
    "layers.0.mask": (
        torch.ones(3, 4, dtype=torch.float64),
        "shape (4, 3) and float64",
        "shape (3, 4) and float64",
    ),
    "layers.0.bias": (torch.ones(4), "shape (4,) and float64", "shape (4,) and float32"),
    "statistics.layers.0.edge_std": (None, "shape (4, 3) and float64", "none"),
    "statistics.layers.1.quantiles": (
        torch.ones(4, 5),
        "shape (4, 33) and float32",
        "shape (4, 5) and float32",
    ),
    "background": (
        torch.ones(9, 3, dtype=torch.int64),
        "shape (9, 3) and float64",
        "shape (9, 3) and int64",
    ),
    "input_shift": (
        torch.ones(3, dtype=torch.int32),
        "shape (3,) and float32",
        "shape (3,) and int32",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_first_tensor_that_does_not_fit_is_named(path, name):
    tensor, expected, got = MISMATCHES[name]
    change = (lambda t: t.pop(name)) if tensor is None else (lambda t: t.update({name: tensor}))
    products = {"widths": (2, (1, 2), 1), "scaled_nodes": True}
    rewritten(path, change, trained(**products) if "nodes" in name else None)
    text = f"tensor {name} of {expected} in 'model.safetensors', got {got}. Save the model again."
    refused(path, text)


def test_a_tensor_too_many_is_named(path):
    rewritten(path, lambda tensors: tensors.update(extra=torch.ones(1)))
    text = "no tensor extra in 'model.safetensors', got one of shape (1,) and float32. "
    refused(path, f"{text}Save the model again.")
