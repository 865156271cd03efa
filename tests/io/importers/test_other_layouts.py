"""jaxKAN, files of Keras, convolutions, layers with names of their own; and what is refused."""

import re

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import kanlens
from kanlens.errors import FileFormatError, InvalidValueError, KanlensError, MissingDependencyError
from kanlens.io.importers import import_model
from tests.io.importers import other_doubles as doubles
from tests.io.importers import series_doubles as series
from tests.io.importers.doubles import equal
from tests.io.importers.test_efficient_kan import layer_state

ASKED = ("chebyshev", "legendre")


@pytest.mark.slow
@pytest.mark.parametrize("kind", doubles.JAX)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"external": False, "residual": False}])
def test_jax_kan(kind, options):
    if kind == "base":  # of which c_spl tells the widths
        options = options | {"external": True}
    widths = (3, 2) if kind == "base" else (3, 4, 2)
    double = doubles.jax_kan(widths, kind, **options)
    known = {"layer_type": kind} if kind in ASKED else {}
    equal(double, 3, doubles.pure(double), **known)
    equal(double, 3, doubles.live(double, kind))
    for key, tensor in double.state.items():
        changed = doubles.Double()
        changed.state = {**double.state, key: tensor * (1 + 1e-6)}
        with pytest.raises(AssertionError):
            equal(double, 3, doubles.pure(changed), **known)


def test_jax_kan_is_asked_and_compared():
    double = doubles.jax_kan(kind="legendre")
    with pytest.raises(
        InvalidValueError, match=r"expected layer_type \(one of chebyshev, legendre"
    ):
        import_model(doubles.pure(double))
    with pytest.raises(InvalidValueError, match="Give its layers a method to_kanlens"):
        import_model(doubles.live(double, "legendre", 0.1))
    arrays = doubles.pure(doubles.jax_kan())
    del arrays["layers"][1]["grid"]
    with pytest.raises(InvalidValueError, match=r"add layer\.grid\.item to the arrays, as grid"):
        import_model(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"norm": True}, {"bias": False, "base": "sigmoid"}])
def test_a_file_of_keras(tmp_path, options):
    double = doubles.keras(**options)
    equal(double, 3, doubles.keras_file(tmp_path / "m.keras", double))
    for key, tensor in double.state.items():
        changed = doubles.keras(**options)
        changed.state[key] = tensor * (1 + 1e-6)
        with pytest.raises(AssertionError):
            equal(double, 3, doubles.keras_file(tmp_path / "n.keras", changed))


KEY = "layers/kan_linear/vars/0"


def soft(file):
    del file[KEY]
    file[KEY] = h5py.SoftLink("/layers/dense/vars/0")


def outside(file):
    del file[KEY]
    file[KEY] = h5py.ExternalLink("/etc/hosts", "/")


def external(file):
    del file[KEY]
    file.create_dataset(KEY, (3, 4), "f8", external=[("/etc/hosts", 0, 96)])


def filtered(file):
    del file[KEY]
    file.create_dataset(KEY, (3, 4), "f8", chunks=(3, 4), compression="gzip")


def endless(file):
    del file[KEY]
    space, kept = h5py.h5s.create_simple((10**6, 10**6)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    h5py.h5d.create(file["layers/kan_linear/vars"].id, b"0", h5py.h5t.NATIVE_DOUBLE, space, kept)


def virtual(file):
    del file[KEY]
    layout = h5py.VirtualLayout((3, 4), "f8")
    layout[:] = h5py.VirtualSource("/etc/hosts", "x", (3, 4))
    file.create_virtual_dataset(KEY, layout)


def words(file):
    del file[KEY]
    file[KEY] = np.array([b"words"])


@pytest.mark.parametrize("trick", [soft, outside, external, filtered, endless, virtual, words])
def test_a_hostile_file_of_keras_is_refused(tmp_path, trick):
    path = doubles.keras_file(tmp_path / "m.keras", doubles.keras(), change=trick)
    with pytest.raises(
        FileFormatError, match=r"^import_model: .*, got m\.keras, which cannot be read \("
    ) as found:
        import_model(path)
    assert "\n" not in str(found.value)


def test_other_models_of_keras_are_refused_by_the_name_of_a_layer(tmp_path, monkeypatch):
    double = doubles.keras()
    layers = double.config["config"]["layers"]
    for layer in (
        {"class_name": "Conv2D", "config": {}},
        layers[-1] | {"config": {"activation": "elu"}},
    ):
        config = {"class_name": "Sequential", "config": {"layers": [*layers, layer]}}
        path = doubles.keras_file(tmp_path / "m.keras", double, config)
        text = f"Dense layers in 'm.keras', got {layer['class_name']}. Save the part"
        with pytest.raises(FileFormatError, match=re.escape(text)):
            import_model(path)
    for config in (
        {},
        [],
        {"class_name": 3, "config": 4},
        {"class_name": "Sequential", "config": {}},
    ):
        with pytest.raises(KanlensError, match=r"^import_model: "):
            import_model(doubles.keras_file(tmp_path / "m.keras", double, config or {"a": 1}))
    with pytest.raises(InvalidValueError, match="got 'gelu by tanh'"):
        approximate = doubles.keras()
        approximate.config["config"]["layers"][0]["config"]["base_activation"] = "gelu"
        import_model(doubles.keras_file(tmp_path / "m.keras", approximate))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kanlens\[keras\]'"):
        import_model(path)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("size", [1, 2])
def test_a_convolution_is_a_network_of_its_patch(size):
    double, known = doubles.convolution(size=size), {"spline_order": 3, "grid_range": (-1, 1)}
    equal(double, 3 * size**2, double.state, **known)
    state = {key: value for key, value in double.state.items() if "layer_norm" not in key}
    with pytest.raises(InvalidValueError, match="got a normalization of the whole image"):
        import_model(state, **known)


REFUSED = {
    "realweights complexweights": "edges of complex numbers",
    "inner_blocks.0.input_embedding.C outer_block.layer.c_basis": "networks of many layers",
    "layers.0.beta layers.0.Lambda layers.0.omega": "inputs scaled by a number",
    "layers.0.nodes.0.weight.0": "functions of its own",
    "base_conv.0.weight poly_weights beta_weights": "a normalization of the whole image",
    "poly_conv.0.weight arange": "a normalization of the whole image",
    "poly_weights.0 base_weights.0": "inputs that are scaled by the minimum and maximum",
    "layers.0.poly_weight layers.0.base_weight": "inputs that are scaled by the minimum",
    "base_conv.0.weight spline_conv.0.weight rbf.grid": "a normalization of the whole image",
}


@pytest.mark.parametrize("keys", REFUSED)
def test_what_is_no_network_of_single_inputs_is_refused_with_the_reason(keys):
    state = {key: torch.ones(2, 2, 3) for key in keys.split()}
    with pytest.raises(InvalidValueError, match=f"^import_model: .*, got {REFUSED[keys]}"):
        import_model(state)
    assert REFUSED[keys] in kanlens.list_kans(state)[0].reason


def test_what_no_network_needs_or_can_be_is_refused():
    state = series.network(series.sine).state
    text = "import_model: expected no wavelet with a network of SineKAN, got 'dog'. Leave it out."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(state, wavelet="dog")
    with pytest.raises(InvalidValueError, match=r"expected wavelet to be one of .*, got 'haar'\."):
        import_model(state, wavelet="haar")
    with pytest.raises(
        InvalidValueError, match=r"expected keyword to be one of .*mean 'wavelet'\?$"
    ):
        import_model(state, wavelets="dog")


class WavKANLayer(nn.Module):
    """torch-conv-kan's layer, which has the tensors of Wav-KAN's."""

    def __init__(self, double, start):
        super().__init__()
        self.wavelet_type, self.bn, self.forwards = "dog", nn.Module(), double.steps
        for key, tensor in double.state.items():
            if key.startswith(start):
                *path, name = key.removeprefix(start).split(".")
                (self.bn if path else self).register_buffer(name, tensor)


def test_a_pickled_module_tells_wav_kan_from_its_copy(tmp_path):
    double = series.network(series.wav_kan, kind="dog", base=True)
    module = nn.Sequential(*(WavKANLayer(double, f"layers.{i}.") for i in range(2)))
    for layer in module:
        del layer.forwards
    torch.save(module, tmp_path / "m.pt")
    for source in (module, tmp_path / "m.pt"):
        equal(double, 3, source)
    with pytest.raises(AssertionError):
        equal(double, 3, double.state, wavelet="dog")


def test_polynomials_of_degree_zero_are_constants():
    state = {"cheby_coeffs": torch.tensor([[[1.5]], [[0.25]]])}
    torch.testing.assert_close(import_model(state)(torch.rand(3, 2)), torch.full((3, 1), 1.75))


def test_layers_of_torch_between_polynomials():
    d = doubles.Double()
    first = series.polynomial(d, "0.", 3, 4)
    line, bias = d.draw("1.weight", 2, 4), d.draw("1.bias", 2)
    d.steps += [first, lambda x: x @ line.T + bias]
    equal(d, 3, d.state)


# --- layers with names of their own ------------------------------------------------------------


class Named(nn.Module):
    """The example of ChebyKAN: layers in attributes, with normalizations between."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        for i, (n_in, n_out) in enumerate([(3, 4), (4, 2)], 1):
            layer = nn.Module()
            layer.cheby_coeffs = nn.Parameter(torch.randn(n_in, n_out, 4, generator=draw).double())
            self.add_module(f"chebykan{i}", layer)
            if i == 1:
                self.ln1 = nn.LayerNorm(4, dtype=torch.float64)

    def forward(self, x):
        for layer in (self.chebykan1, self.ln1, self.chebykan2):
            if layer is self.ln1:
                x = layer(x)
                continue
            t = torch.tanh(x)
            basis = torch.stack([torch.cos(n * torch.acos(t)) for n in range(4)], -1)
            x = torch.einsum("bid,iod->bo", basis, layer.cheby_coeffs)
        return x


def test_layers_with_names_of_their_own():
    module, x = Named(), torch.linspace(-2, 2, 30).double().reshape(10, 3)
    expected = module(x)
    order = "chebykan1,ln1,chebykan2"
    for source, known in ((module, {}), (module.state_dict(), {"layers": order})):
        torch.testing.assert_close(import_model(source, **known)(x), expected, rtol=0, atol=1e-12)
        found = kanlens.list_kans(source)[0]
        assert (found.name, found.library, found.widths[0], found.widths[-1]) == (
            "",
            "ChebyKAN",
            3,
            2,
        )
        assert len(kanlens.list_kans(source)) == 1
    text = f"Pass layers='{order}' if that is their order, with nothing between."
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        import_model(module.state_dict())
    module.forward = lambda x: Named.forward(module, x) + 0.1
    with pytest.raises(InvalidValueError, match="Give its layers a method to_kanlens"):
        import_model(module)


def test_a_base_of_another_library_is_not_taken_for_that_of_torch():
    class Sigmoid(nn.Module):
        pass

    with pytest.raises(
        InvalidValueError, match=r"expected base_activation to be one of .*, got Sigmoid\."
    ):
        import_model(layer_state(3, 4), base_activation=Sigmoid)
