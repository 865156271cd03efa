"""Saving and loading: every bit comes back, old files stay readable, bad files are refused."""

import copy
import dataclasses
import json
import os
import pickle
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from kanlens.data.schema import Feature, Output, Schema
from kanlens.errors import DTypeError, FileFormatError, MissingFileError, OutputError
from kanlens.io import checkpoint
from kanlens.io.checkpoint import load, save
from kanlens.io.tensor_files import CHECKSUM, checksum, read_metadata
from kanlens.model import kernels
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.products import Nodes
from kanlens.model.recording import store_statistics

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
    assert one.dtype == two.dtype
    assert one.shape == two.shape
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


def rewritten(path, change_tensors=None, **metadata):
    """Save a model, then write the file again with other metadata or tensors, unchecked."""
    save(trained(), path)
    tensors, text = load_file(path), read_metadata(path, call="load")
    del text[CHECKSUM]
    if change_tensors:
        change_tensors(tensors)
    text.update(metadata)
    save_file(tensors, path, {key: value for key, value in text.items() if value is not None})


# --- golden file -------------------------------------------------------------------------------
# model_v1.safetensors is a KAN([2, 3, 1], grid_size=4) in float64 with normally drawn weights,
# edge (1, 0) of layer 0 masked, input and output scaling, a numeric and a binary feature with
# unit, categories and imputation, its first grid moved to data, statistics and 5 background rows,
# written by format version 1. expected.json has its outputs at six rows, one far outside the
# grid. Neither is ever written again: a newer version must still read them.


def test_golden_file():
    model = load(DATA / "model_v1.safetensors")
    expected = json.loads((DATA / "expected.json").read_text())["model_v1.safetensors"]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
    assert model.widths == (2, 3, 1)
    assert model.feature_names == ("mass", "größe")
    assert model.schema.features[1].categories == ("nein", "ja")
    assert (model.schema.features[0].unit, model.schema.outputs[0].unit) == ("kg", "N")
    assert model.layers[0].mask.tolist() == [[1, 1], [0, 1], [1, 1]]
    assert model.scaled
    assert model.background.shape == (5, 2)
    assert [layer.quantiles.shape for layer in model.statistics] == [(2, 33), (3, 33)]


def test_golden_file_notices_a_changed_weight(path):
    tensors = load_file(DATA / "model_v1.safetensors")
    tensors["layers.0.spline_weight"][0, 0, 3] += 1e-6
    save_file(tensors, path, read_metadata(DATA / "model_v1.safetensors", call="load"))
    expected = json.loads((DATA / "expected.json").read_text())["model_v1.safetensors"]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(load(path)(x), y, rtol=1e-12, atol=1e-12)


def test_golden_file_of_version_2():
    model = load(DATA / "model_v2.safetensors")
    expected = json.loads((DATA / "expected.json").read_text())["model_v2.safetensors"]
    x = torch.tensor(expected["x"], dtype=torch.float64)
    assert model.holds_inputs
    y = torch.tensor(expected["y"], dtype=torch.float64)
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-6)


# model_v3.safetensors was trained on a table with a category and imputation; its hidden nodes are
# normalized.


def test_golden_file_of_version_3():
    model = load(DATA / "model_v3.safetensors")
    expected = json.loads((DATA / "expected.json").read_text())["model_v3.safetensors"]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
    assert model.feature_names == ("mass", "kind=a", "kind=b", "kind=ü", "flag")
    assert [one.imputation for one in model.schema.features[3:]] == ["b", "yes"]


# model_v4.safetensors is a KAN([2, 3, 2, 1]) in float64 with normally drawn weights: a layer with a
# series, three functions and a masked edge, one with a series, and one of functions alone; with
# input and output scaling, statistics and 3 background rows.


def test_golden_file_of_version_4():
    model = load(DATA / "model_v4.safetensors")
    expected = json.loads((DATA / "expected.json").read_text())["model_v4.safetensors"]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
    assert {type(layer) for layer in model.layers} == {KANLinear}
    assert model.layers[0].functions == (("x^2", "spline"), ("spline", "sin"), ("log", "spline"))
    assert [layer.series for layer in model.layers[:2]] == [
        ("gaussian", "sin"),
        ("relu", "T3(tanh)"),
    ]
    assert not model.layers[2].functions[0].count("spline")
    assert model.layers[0].mask.tolist() == [[1, 1], [0, 1], [1, 1]]


def test_version_1_holds_nothing():
    model = load(DATA / "model_v1.safetensors")
    assert not model.holds_inputs
    assert model.input_low.isneginf().all()
    assert model.input_high.isposinf().all()


# model_v1_products.safetensors is a KAN([2, (1, [2, 3]), (1, 1)], grid_size=4) in float64, the
# nodes of its first layer scaled and shifted, edge (4, 0) of layer 0 masked, with input and output
# scaling, units, statistics and 4 background rows; its last inputs lie far outside the grid.


def test_golden_file_with_products():
    model = load(DATA / "model_v1_products.safetensors")
    expected = json.loads((DATA / "expected.json").read_text())["model_v1_products.safetensors"]
    x, y = (torch.tensor(expected[key], dtype=torch.float64) for key in "xy")
    torch.testing.assert_close(model(x), y, rtol=1e-12, atol=1e-12)
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


@given(model=models())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # compiles
def test_round_trip_keeps_every_bit(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    assert save(model, path) == path
    same_model(load(path), model)
    shutil.rmtree(path.parent)


def test_files_without_products_know_nothing_of_them(path):
    save(trained(), path)
    assert "nodes" not in json.loads(read_metadata(path, call="load")["config"])
    assert not [name for name in load_file(path) if name.startswith("nodes")]


@pytest.mark.parametrize("arities", [[2, 2, 9], [1], [-2, 3], [True, 2], "22", [[2]]])
def test_impossible_products_are_refused(path, arities):
    model = trained(widths=(2, (1, 2), 1))
    save(model, path)
    config = json.loads(model.config.to_json())
    config["nodes"][0]["arities"] = arities
    save_file(
        load_file(path),
        path,
        {**read_metadata(path, call="load"), "config": json.dumps(config)},
    )
    with pytest.raises(FileFormatError, match=r"^load: .*Save the model again\.$"):
        load(path)


def test_a_missing_scale_of_nodes_is_refused(path):
    model = trained(widths=(2, (1, 2), 1), scaled_nodes=True)
    save(model, path)
    tensors = load_file(path)
    del tensors["nodes.0.shift"]
    save_file(tensors, path, read_metadata(path, call="load"))
    text = (
        "load: expected tensor nodes.0.shift of shape (3,) and float64 in 'model.safetensors', "
        "got none. Save the model again."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


def test_round_trip_keeps_the_sign_of_zero(path):
    model = trained()
    with torch.no_grad():
        model.layers[0].base_weight[0] = -0.0
    save(model, path)
    same_model(load(path), model)


def test_round_trip_of_elementary_functions(path):
    model = trained()
    layer = copy.deepcopy(model.layers[1])
    layer.assign(0, 1, "sin", [1.0, 2.0, 3.0, 4.0])
    model.layers[1] = layer
    save(model, path)
    same_model(load(path), model)
    x = torch.rand(5, 3, dtype=torch.float64)
    torch.testing.assert_close(load(path)(x), model(x), rtol=0, atol=0)


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
    assert metadata["format"] == "kanlens.model"
    assert metadata["format_version"] == "5"
    assert metadata["config"] == model.config.to_json()
    header = path.read_bytes()[8:].decode("latin-1")
    assert header.index('"config"') < header.index('"format"') < header.index('"kanlens_version"')


def test_save_and_load_leave_model_and_random_state(path):
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


def test_loaded_model_does_not_depend_on_the_file(path):
    model = trained()
    save(model, path)
    loaded = load(path)
    path.write_bytes(b"")
    same_model(loaded, model)


def test_load_under_another_default_dtype(path):
    model = trained(torch.float32)
    save(model, path)
    torch.set_default_dtype(torch.float64)
    try:
        same_model(load(path), model)
    finally:
        torch.set_default_dtype(torch.float32)


def test_tied_and_transposed_tensors(path):
    model = trained(widths=(2, 2, 2))
    model.layers[1].base_weight = model.layers[0].base_weight
    model.layers[0].mask = model.layers[0].mask.T
    save(model, path)
    same_model(load(path), model)


# --- writing -----------------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file(path, monkeypatch):
    save(trained(seed=0), path)
    before = path.read_bytes()

    def broken(self, content):
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OutputError):
        save(trained(seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_interrupted_write_leaves_the_old_file(path, monkeypatch):
    save(trained(seed=0), path)
    before = path.read_bytes()

    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(trained(seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
def test_permissions_and_links(path):
    old = os.umask(0o027)
    try:
        save(trained(), path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = path.with_name("latest.safetensors")
    link.symlink_to(path.name)
    model = trained(seed=5)
    save(model, link)
    assert link.is_symlink()
    same_model(load(path), model)
    same_model(load(link), model)


def test_save_creates_folders(tmp_path):
    assert save(trained(), tmp_path / "a" / "b" / "model").exists()


def test_save_refuses_other_modules(path):
    text = "save: expected a KAN, got Linear. Bring it in with import_model first."
    with pytest.raises(DTypeError, match=re.escape(text)):
        save(nn.Linear(2, 1), path)
    assert not path.exists()


def test_save_refuses_layers_it_could_not_rebuild(path):
    class Other(KANLinear):
        pass

    model = trained()
    model.layers[1] = Other(4, 2).double()
    text = "save: expected layers of kind spline, got Other as layer 1. "
    text += "Replace that layer."
    with pytest.raises(DTypeError, match=re.escape(text)):
        save(model, path)


def test_save_refuses_tensors_it_could_not_rebuild(path):
    model = trained()
    model.layers[0].float()
    text = (
        "save: expected tensor layers.0.base_weight of shape (4, 3) and float64, "
        "got shape (4, 3) and float32. Undo what was done to the model's tensors."
    )
    with pytest.raises(DTypeError, match=re.escape(text)):
        save(model, path)
    model = trained()
    model.extra = nn.Parameter(torch.ones(2))
    text = "save: expected no tensor extra, got one of shape (2,) and float32."
    with pytest.raises(DTypeError, match=re.escape(text)):
        save(model, path)
    assert not path.exists()


def test_save_refuses_what_could_not_be_built_again(path):
    model = trained()
    model.layers[0].grid_size = 1.5
    with pytest.raises(DTypeError, match=r"^save: expected [^\n]*\.$"):
        save(model, path)
    assert not path.exists()


# --- checksum ----------------------------------------------------------------------------------


def test_any_flipped_bit_is_noticed_or_changes_nothing(path):
    model = trained(widths=(2, 1))
    save(model, path)
    content, refused = bytearray(path.read_bytes()), 0
    start = 8 + int.from_bytes(content[:8], "little")
    places = [*range(8, start, 5), *range(start, len(content), 11), len(content) - 1]
    for place in places:
        flipped = content.copy()
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = load(path)
        except FileFormatError:
            refused += 1
        else:  # the flip is in the name of the checksum or in its absence
            assert place < start
            same_model(loaded, model)
    assert refused > 0.95 * len(places)


def test_a_flipped_bit_of_a_weight_is_named(path):
    save(trained(), path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    text = (
        "load: expected the checksum of 'model.safetensors', got other content: the file is "
        "damaged. Copy the file anew, or save it again."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


def test_files_without_a_checksum_are_read(path):
    rewritten(path)
    same_model(load(path), trained())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_checksums_are_of_the_bytes_of_any_dtype_and_shape(path, dtype):
    model = KAN([2, 3, 1]).to(dtype)
    save(model, path)
    same_model(load(path), model)
    tensors = {"a": torch.zeros(()), "b": torch.zeros(0, 3)}
    whole = checksum({}, tensors)
    assert whole != checksum({}, {"a": torch.zeros(1), "b": torch.zeros(0, 3)})
    assert whole != checksum({}, {"a": -torch.zeros(()), "b": torch.zeros(0, 3)})
    assert whole != checksum({"c": ""}, tensors)
    assert whole == checksum({CHECKSUM: "any"}, tensors)


# --- versions ----------------------------------------------------------------------------------


def test_newer_version_is_refused_by_name(path):
    rewritten(path, format_version="6")
    text = (
        "load: expected format version 5 or older, got 6 in 'model.safetensors'. Upgrade kanlens."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


@pytest.mark.parametrize("version", ["", "1.5", "-1", "one", "²", "1" * 5000, None])
def test_version_that_is_no_number(path, version):
    rewritten(path, format_version=version)
    text = (
        "load: expected a whole number as format_version of 'model.safetensors', "
        f"got {version!r}. Save the model again."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


def test_version_zero(path):
    rewritten(path, format_version="0")
    text = "load: expected format_version of 'model.safetensors' to be at least 1, got 0."
    with pytest.raises(FileFormatError, match=re.escape(text)):
        load(path)


def test_every_old_version_has_an_upgrade():
    assert sorted(checkpoint._UPGRADES) == list(range(1, checkpoint.FORMAT_VERSION))


def test_old_versions_are_upgraded_step_by_step(path, monkeypatch):
    def upgrade_5(config, tensors):
        config["steps"] = ["2"]
        tensors["input_shift"] = tensors.pop("center")

    def upgrade_6(config, tensors):
        assert config.pop("steps") == ["2"]
        for layer in config["layers"]:
            layer["grid_eps"] = layer.pop("eps")

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
    text = (
        "load: expected a configuration that can be built in 'model.safetensors', "
        "got KeyError: 'no such key'. Save the model again."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


# --- files that are refused --------------------------------------------------------------------


def test_missing_file(tmp_path):
    path = tmp_path / "none.safetensors"
    text = f"load: expected a file, got no file at {str(path)!r}. Check the path."
    with pytest.raises(MissingFileError, match=f"^{re.escape(text)}$"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load("bad\0name")


def test_folder(tmp_path):
    text = f"load: expected a file, got a folder, {str(tmp_path)!r}. Name a file."
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(tmp_path)


def test_no_path():
    text = "load: expected a path, got int. Pass the name of a file."
    with pytest.raises(DTypeError, match=f"^{re.escape(text)}$"):
        load(3)


def test_foreign_safetensors(path):
    save_file({"weight": torch.ones(2)}, path)
    text = (
        "load: expected a kanlens model, got 'model.safetensors', which is of format None. "
        "Models of other libraries are read by import_model."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
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
    text = (
        "load: expected a .safetensors file, got a PyTorch file, 'model.pt'. "
        "Read it with import_model."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)
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


def test_text_is_refused(path):
    path.write_text("mass,force\n1,2\n")
    with pytest.raises(FileFormatError, match=r"It is truncated or of another format\.$"):
        load(path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "KANConfig|JSONDecodeError"),
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'layers'"),
        ("[" * 100_000, "RecursionError|endless nesting"),
        ('{"layers": [], "schema": {"features": [], "outputs": []}}', "got none"),
    ],
)
def test_configuration_that_cannot_be_read(path, config, reason):
    rewritten(path, config=config)
    with pytest.raises(FileFormatError, match=reason) as caught:
        load(path)
    assert str(caught.value).startswith("load: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "fourier"),
        ("kind", ["spline"]),
        ("in_features", -3),
        ("in_features", 10**9),
        ("in_features", "3"),
        ("in_features", 2),
        ("grid_size", 10**9),
        ("grid_size", 1.5),
        ("spline_order", 0),
        ("spline_order", None),
        ("base_activation", "cube"),
        ("base_activation", None),
        ("extrapolation", "cubic"),
        ("unknown", 1),
    ],
)
def test_configuration_that_cannot_be_built(path, key, value):
    config = json.loads(trained().config.to_json())
    config["layers"][0][key] = value
    rewritten(path, config=json.dumps(config))
    with pytest.raises(FileFormatError, match=r"^load: expected [^\n]*\.$"):
        load(path)


def test_configuration_far_larger_than_the_file(path):
    config = json.loads(trained().config.to_json())
    config["layers"][1]["grid_size"] = 10**6
    rewritten(path, config=json.dumps(config))
    text = (
        "load: expected a tensor of at least 1000000 numbers for layer 1, got at most 132. "
        "Save the model again."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(text)}$"):
        load(path)


MISMATCHES = [
    (
        lambda t: t.pop("layers.1.grid"),
        "tensor layers.1.grid of shape (4, 12) and float64 in 'model.safetensors', got none",
    ),
    (
        lambda t: t.update({"layers.0.mask": torch.ones(3, 4, dtype=torch.float64)}),
        "tensor layers.0.mask of shape (4, 3) and float64 in 'model.safetensors', "
        "got shape (3, 4) and float64",
    ),
    (
        lambda t: t.update({"layers.0.bias": torch.ones(4)}),
        "tensor layers.0.bias of shape (4,) and float64 in 'model.safetensors', "
        "got shape (4,) and float32",
    ),
    (
        lambda t: t.update(extra=torch.ones(1)),
        "no tensor extra in 'model.safetensors', got one of shape (1,) and float32",
    ),
    (
        lambda t: t.pop("statistics.layers.0.edge_std"),
        "tensor statistics.layers.0.edge_std of shape (4, 3) and float64 in 'model.safetensors', "
        "got none",
    ),
    (
        lambda t: t.update({"statistics.layers.1.quantiles": torch.ones(4, 5)}),
        "tensor statistics.layers.1.quantiles of shape (4, 33) and float32 in 'model.safetensors', "
        "got shape (4, 5) and float32",
    ),
    (
        lambda t: t.update(background=torch.ones(9, 2)),
        "tensor background of shape (9, 3) and float32 in 'model.safetensors', "
        "got shape (9, 2) and float32",
    ),
    (
        lambda t: t.update(background=torch.ones(9, 3, dtype=torch.int64)),
        "tensor background of shape (9, 3) and float64 in 'model.safetensors', "
        "got shape (9, 3) and int64",
    ),
    (
        lambda t: t.update(input_shift=torch.ones(3, dtype=torch.int32)),
        "tensor input_shift of shape (3,) and float32 in 'model.safetensors', "
        "got shape (3,) and int32",
    ),
]


@pytest.mark.parametrize(("change", "text"), MISMATCHES)
def test_first_tensor_that_does_not_fit_is_named(path, change, text):
    rewritten(path, change)
    full = f"load: expected {text}. Save the model again."
    with pytest.raises(FileFormatError, match=f"^{re.escape(full)}$"):
        load(path)


def test_unit_edits_survive(path):
    model = trained()
    features = (dataclasses.replace(model.schema.features[0], unit="µm"),)
    schema = dataclasses.replace(model.schema, features=features + model.schema.features[1:])
    model.schema = schema
    save(model, path)
    assert load(path).schema == schema
