"""What networks come in: pickled modules, checkpoints of Lightning, pykan's files, submodules."""

import argparse
import re

import pytest
import torch
from torch import nn

import kanlens
from kanlens.errors import InvalidValueError
from kanlens.io.importers import import_model
from kanlens.io.importers._rows import probes
from tests.io.importers import doubles
from tests.io.importers.doubles import equal
from tests.io.importers.test_efficient_kan import (
    EfficientKAN,
    network_state,
    points,
    reference_layer,
    reference_network,
)
from tests.io.importers.test_pykan import NAMES


class KANLayer(nn.Module):
    """A layer of KANditioned, whose width is only an attribute."""

    def __init__(self, double, width=3.0):
        super().__init__()
        self.spline_width, self.activation, self.tied = width, nn.SiLU(), {1, 2}
        self.kan_weight = nn.Parameter(double.state["0.kan_weight"])
        self.kan_weight.note = "an attribute of a parameter"
        self.register_buffer("local_bias", double.state["0.local_bias"].clone())
        self.local_bias.note = "an attribute of a tensor"
        self.register_buffer("scratch", torch.ones(3), persistent=False)


def test_a_pickled_module_says_what_its_tensors_do_not(tmp_path):
    double = doubles.kanditioned()
    path = tmp_path / "whole.pt"
    torch.save(nn.Sequential(KANLayer(double), nn.Dropout()), path)
    equal(double, 3, path)
    torch.save({"epoch": 3, "net": nn.Sequential(KANLayer(double))}, path)
    equal(double, 3, path)
    with pytest.raises(InvalidValueError, match="expected spline_width"):
        import_model(double.state)


@pytest.mark.parametrize("known", [{"spline_width": 3.0}, argparse.Namespace(spline_width=3.0)])
def test_hyper_parameters_of_lightning(tmp_path, known):
    double = doubles.kanditioned()
    state = {f"net.{key}": tensor for key, tensor in double.state.items()}
    content = {"state_dict": state, "hyper_parameters": known, "callbacks": {}, "epoch": 3}
    torch.save(content, tmp_path / "last.ckpt")
    equal(double, 3, tmp_path / "last.ckpt")


# --- parts of a larger model -------------------------------------------------------------------


def larger():
    state = {f"body.conv.{name}": torch.ones(2, 2, 3, 3) for name in ("weight", "other")}
    for name, widths in (("head", (3, 4, 2)), ("aside.kan", (2, 1))):
        state |= network_state(widths, f"{name}.")[0]
    return state | {f"last.{key}": tensor for key, tensor in doubles.lkan().state.items()}


def test_a_part_is_imported_by_name():
    state, layers = larger(), network_state()[1]
    x = points(layers[0])
    expected = reference_network(x, layers, 3)
    for name in ("head", "head.layers"):
        model = import_model(state, submodule=name)
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    text = (
        "import_model: expected submodule to be the prefix of tensor names "
        "(body, head, aside, last), got 'tail'. list_kans lists the names of networks."
    )
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(state, submodule="tail")


def test_the_networks_in_a_model_are_listed(tmp_path):
    torch.save({"model": larger()}, tmp_path / "all.pt")
    for source in (larger(), tmp_path / "all.pt"):
        found = {one.name: (one.library, one.widths) for one in kanlens.list_kans(source)}
        assert found == {
            "last": ("LKAN", (3, 4, 2)),
            "head": ("efficient-kan", (3, 4, 2)),
            "aside.kan": ("efficient-kan", (2, 1)),
        }
    (found,) = kanlens.list_kans(doubles.kanditioned().state)
    assert (found.library, found.widths) == ("KANditioned", ())
    assert found.reason.startswith("import_model: expected spline_width (a positive number)")


# --- pykan's files -----------------------------------------------------------------------------

CONFIG = """\
base_fun_name: !!python/object:torch.nn.modules.activation.SiLU
  _modules: !!python/object/apply:collections.OrderedDict
  - []
  training: true
grid: !!python/object/apply:numpy.core.multiarray.scalar
- !!python/object/apply:numpy.dtype
  args: [i8, false, true]
  state: !!python/tuple [3, <, null, null, null, -1, -1, 0]
- !!binary |
  BAAAAAAAAAA=
"""


def three_files(folder, double, config=""):
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    facts = {key: one for key, one in double.facts.items() if f"{key}:" not in config}
    torch.save(double.state, folder / "model_state")
    torch.save(torch.ones(4, 3), folder / "model_cache_data")
    (folder / "model_config.yml").write_text(config + yaml.safe_dump(facts))
    return folder / "model"


@pytest.mark.parametrize("config", ["", CONFIG], ids=["plain", "objects"])
@pytest.mark.parametrize("end", ["", "_state", "_config.yml", "_cache_data"])
def test_the_three_files_of_pykan(tmp_path, config, end):
    double = doubles.pykan(names=NAMES)
    stem = three_files(tmp_path, double, config)
    model = equal(double, 3, f"{stem}{end}")
    assert model.shape == (3, (1, [2, 3]), 2)


def test_a_callable_of_ones_own_is_refused_by_name(tmp_path):
    config = "base_fun_name: !!python/name:mine.act ''\n"
    stem = three_files(tmp_path, doubles.pykan(names=NAMES), config)
    with pytest.raises(
        InvalidValueError, match=r"base_activation to be one of .*, got 'mine\.act'\."
    ):
        import_model(stem)
    assert import_model(stem, base_activation="silu").widths == (3, 3, 2)


# --- live modules ------------------------------------------------------------------------------


class Efficient(EfficientKAN):
    """A live module; `wrong` is added to its outputs."""

    def __init__(self, layers, wrong=0.0):
        super().__init__(layers)
        self.wrong, self.drop = wrong, nn.Dropout()

    def forward(self, x):
        for layer in self.layers:
            tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
            x = reference_layer(x, tensors, 3)
        return self.drop(x) + self.wrong


def test_a_live_module_must_compute_what_its_tensors_say():
    _, layers = network_state()
    module = Efficient(layers).train()
    assert import_model(module).widths == (3, 4, 2)
    assert module.training
    assert module.drop.training
    text = (
        "import_model: expected Efficient to compute what its library does with these tensors, got "
        "outputs 0.1 apart, of size "
    )
    advice = "Give its layers a method to_kanlens, or pass layers='0,tanh,2' if tanh is missing"
    advice = rf"\. {advice}\.$"
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}.*{advice}"):
        import_model(Efficient(layers, 0.1))
    assert import_model(Efficient(layers, 0.1).state_dict()).widths == (3, 4, 2)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 0.06)]
)
def test_a_live_module_may_be_off_by_its_rounding(dtype, bound):
    layers = [{k: v.to(dtype) for k, v in layer.items()} for layer in network_state()[1]]
    module = Efficient(layers).eval()
    size = float(module(probes(import_model(module))).detach().abs().max())
    assert import_model(Efficient(layers, 0.5 * bound * size)).dtype == dtype
    with pytest.raises(InvalidValueError, match="a method to_kanlens"):
        import_model(Efficient(layers, 2 * bound * size))


def test_the_difference_is_seen_beyond_the_grid_too():
    _, layers = network_state()

    class Held(Efficient):
        def forward(self, x):
            return super().forward(x.clamp(-1, 1))

    with pytest.raises(InvalidValueError, match="expected Held to compute"):
        import_model(Held(layers))


@pytest.mark.parametrize("library", ["inkan", "KANditioned.kan_layer"])
def test_libraries_themselves(library):
    live = pytest.importorskip(library, reason=f"{library} is not installed")
    with torch.random.fork_rng(), torch.no_grad():
        x = torch.rand(20, 3) - 0.5
        if library == "inkan":
            model = live.KANNetwork([3, 4, 2], compile_basis=False)
        else:
            first = live.KANLayer(3, 4, "random_normal", impl="embedding")
            model = nn.Sequential(first, live.KANLayer(4, 2, "random_normal"))
            model[1].impl = "embedding"
        expected, actual = model(x), import_model(model)(x)
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_tensor_that_was_expanded_is_read(tmp_path):
    state, _ = network_state((3, 2))
    grid = state["layers.0.grid"]
    state["layers.0.grid"] = grid[:1].clone().expand(len(grid), -1)
    torch.save({"net": state, "module": nn.Linear(1, 1)}, tmp_path / "net.pt")
    expected = import_model(state)
    x = torch.zeros(1, 3, dtype=torch.float64)
    assert torch.equal(import_model(tmp_path / "net.pt")(x), expected(x))
