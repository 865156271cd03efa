"""Finding the state dict in whatever is given, without running anything of it."""

import copy
import pickle
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kanlens.errors import DTypeError, FileFormatError, InvalidValueError
from kanlens.io import importers
from kanlens.io._checkpoint import load, save
from kanlens.io.importers import import_model
from kanlens.io.importers._intermediate import linear
from kanlens.io.importers._layout import Layout
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics

LIBRARIES = ", ".join(one.library for one in importers.IMPORTERS).split(", ")
KNOWN = ", ".join(sorted({one.split()[0] for one in LIBRARIES}, key=str.lower))
SAVE = "Save torch.save(model.state_dict(), path)."
FOREIGN = ("base_weight", "spline_weight", "spline_scaler", "grid")


@pytest.fixture
def state():
    model = KAN([3, 4, 1], generator=torch.Generator().manual_seed(0))
    return {k: v for k, v in model.state_dict().items() if k.rpartition(".")[2] in FOREIGN}


@pytest.fixture
def x():
    return torch.rand(6, 3, generator=torch.Generator().manual_seed(1)) * 4 - 2


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.kan = KAN([3, 4, 1])


def refused(error, text, source, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        import_model(source, **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch(tmp_path, state, x, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    expected = import_model(state)(x)
    torch.testing.assert_close(import_model(path)(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(import_model(str(path))(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_plain_safetensors(tmp_path, state, x, metadata):
    path = tmp_path / "a.safetensors"
    save_file(state, path, metadata)
    torch.testing.assert_close(import_model(path)(x), import_model(state)(x), rtol=0, atol=0)


def test_kanlens_checkpoint_is_loaded_and_a_kan_copied(tmp_path, x):
    model = KAN([3, 2, 1], feature_names=["a", "b", "c"])
    store_statistics(model, x)
    path = save(model, tmp_path / "renamed.bin")
    for found in (import_model(path), import_model(model)):
        assert found is not model
        assert found.config == model.config
        assert found.statistics is not None
        torch.testing.assert_close(found(x), model(x), rtol=0, atol=0)
    for source in (path, model):
        text = (
            "import_model: expected no options with a kanlens model, got base_activation, "
            "feature_names. The model contains these; leave them out."
        )
        options = {"feature_names": ["u", "v", "w"], "base_activation": "tanh"}
        refused(InvalidValueError, text, source, **options)


def test_damaged_checkpoint_names_the_call(tmp_path):
    path = save(KAN([3, 1]), tmp_path / "a.safetensors")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"format_version":"5"', b'"format_version":"7"'))
    text = "expected format version 5 or older, got 7 in 'a.safetensors'. Upgrade kanlens."
    refused(FileFormatError, f"import_model: {text}", path)
    with pytest.raises(FileFormatError, match=f"^load: {re.escape(text)}$"):
        load(path)
    path.write_bytes(content[:-1])
    with pytest.raises(FileFormatError, match=r"^import_model: expected a \.safetensors file, got"):
        import_model(path)


@pytest.mark.slow  # takes a while
def test_dicts_around_the_state_dict(tmp_path, state, x):
    optimizer = torch.optim.Adam(KAN([3, 1]).parameters()).state_dict()
    expected = import_model(state)(x)
    checkpoints = [
        {"model_state_dict": state, "optimizer_state_dict": optimizer, "epoch": 3},
        {"state_dict": {f"net.{k}": v for k, v in state.items()}, "loss": torch.tensor(0.1)},
        {"checkpoint": {"model": {"weights": state}}, "epoch": 1},
    ]
    for index, content in enumerate(checkpoints):
        path = tmp_path / f"{index}.pt"
        torch.save(content, path)
        torch.testing.assert_close(import_model(path)(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(import_model(content)(x), expected, rtol=0, atol=0)


def test_two_state_dicts(state):
    text = (
        "import_model: expected one model, got 2 (the state dict under 'model', "
        "the state dict under 'average'). Pass the one to be imported."
    )
    refused(InvalidValueError, text, {"model": state, "average": state})


# --- nothing is run ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle", "pickle5"])
def test_pickled_module(tmp_path, kind):
    path = tmp_path / "efficient.safetensors"
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(Network(), 5 if kind == "pickle5" else 2))
    else:
        torch.save(Network(), path, _use_new_zipfile_serialization=kind == "torch")
    what, advice = "a pickled module", SAVE
    if kind == "legacy":
        what += " without a zip file"
        advice = f"{SAVE[:-1]}, or save the module again: zip files are read."
    elif kind != "torch":
        what = "a pickle that torch.save did not write"
    text = f"import_model: expected a state dict, got {path.name}, which is {what}. {advice}"
    refused(FileFormatError, text, path)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_damaged_files_are_one_line(tmp_path, state, zipped):
    path = tmp_path / "a.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    spoiled = [content[:size] for size in range(0, len(content), 211)]
    for place in range(0, min(len(content), 1500), 61):
        spoiled.append(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
    refusals = 0
    for one in spoiled:
        path.write_bytes(one)
        try:
            import_model(path)  # a flipped bit of a weight is a weight
        except (FileFormatError, InvalidValueError, ValueError) as error:
            refusals += 1
            assert str(error).startswith("import_model: ")
            assert "\n" not in str(error)
    assert refusals > len(spoiled) // 2


# --- other refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [None, b"a.pt", SimpleNamespace(layers=3), SimpleNamespace(layers="ab")],
)
def test_other_types(source):
    text = (
        f"import_model: expected a path, a Module or a state dict, got {type(source).__name__}. "
        "Pass the trained model, or the name of its file."
    )
    refused(DTypeError, text, source)


@pytest.mark.parametrize("source", [{}, {"epoch": 3}, nn.Module(), {"state_dict": {}}])
def test_no_layers(source):
    text = (
        f"import_model: expected a model of {KNOWN}, got no tensors. "
        "Pass the state dict of the KAN."
    )
    refused(FileFormatError, text, source)


def test_unknown_state_dict_is_shown():
    text = (
        f"import_model: expected a model of {KNOWN}, got tensors 'weight', 'bias'. "
        "Pass the state dict of the KAN."
    )
    refused(FileFormatError, text, nn.Linear(2, 1))
    text = text.replace("'weight', 'bias'", "'w0', 'w1', 'w2', 'w3', ... (9 in all)")
    refused(FileFormatError, text, {f"w{i}": torch.ones(1) for i in range(9)})


def test_extrapolation_is_checked(state):
    with pytest.raises(InvalidValueError, match=r"^import_model: expected extrapolation to be one"):
        import_model(state, extrapolation="cubic")


def test_another_library_is_one_entry(monkeypatch, state):
    other = Layout(
        "other", lambda group: [linear("", group.get("rbf.weight", 1, None), None)], "rbf.weight"
    )
    monkeypatch.setattr(importers, "IMPORTERS", (*importers.IMPORTERS, other))
    found = import_model({"rbf.weight": torch.ones(1, 1)}, feature_names=["a"])
    assert found.feature_names == ("a",)
    assert import_model(state).widths == (3, 4, 1)
    with pytest.raises(FileFormatError, match=r", other, .*, got tensors 'w'\."):
        import_model({"w": torch.ones(1)})


class _Own(nn.Module):
    """Edges that are sums of a sine and a spline, whose layer says so."""

    def __init__(self, wrong=0.0):
        super().__init__()
        self.inner = KANLinear(3, 3, series=["sin"]).double()
        self.wrong = wrong
        with torch.no_grad():
            self.inner.series_weight.normal_(generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        return self.inner(x)

    def to_kanlens(self):
        layer = copy.deepcopy(self.inner)
        layer.bias.data += self.wrong
        return layer


def test_layers_that_say_what_they_are():
    x = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one = _Own()
    row = nn.Sequential(one, nn.LayerNorm(3).double(), _Own(), KAN([3, 2]).layers[0].double())
    for module in (one, row, nn.ModuleDict({"head": row})):
        found = import_model(module)
        own = module["head"] if isinstance(module, nn.ModuleDict) else module
        torch.testing.assert_close(found(x), own(x), rtol=1e-13, atol=1e-13)
    assert import_model(one).layers[0].series == ("sin",)
    assert row[0] is one  # as it was
    assert "live" not in vars(one)


def test_a_layer_that_says_something_else_is_refused():
    for module in (_Own(wrong=1e-3), nn.Sequential(_Own(), _Own(wrong=1e-3))):
        with pytest.raises(InvalidValueError, match="to compute what its library does"):
            import_model(module)
    module = _Own()
    module.to_kanlens = lambda: nn.Linear(3, 3)
    with pytest.raises(DTypeError, match=r"^import_model: expected _Own.to_kanlens to return a"):
        import_model(module)
    with pytest.raises(InvalidValueError, match="Pass the module, or the file"):
        import_model(nn.Sequential(_Own().inner).state_dict())
