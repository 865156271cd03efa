"""Networks of bumps, waves, wavelets and polynomials of tanh: the same outputs, everywhere."""

import re

import pytest
import torch
from torch import nn

from kanlens.errors import InvalidValueError
from kanlens.io.checkpoint import load, save
from kanlens.io.importers import import_model
from tests.io.importers import other_doubles
from tests.io.importers import series_doubles as doubles
from tests.io.importers.doubles import Double, rows
from tests.io.importers.series_doubles import POLYNOMIALS, WAVELETS, network
from tests.io.importers.test_spline_layouts import equal

CASES = {
    "FastKAN": (network(doubles.fast_kan), {}),
    "FastKAN without a base": (network(doubles.fast_kan, base=False), {}),
    "FastKAN, other widths": (network(doubles.fast_kan, spacing=0.3), {"denominator": 0.3}),
    "FasterKAN": (network(doubles.faster_kan), {}),
    "RBF-KAN": (network(doubles.rbf_kan), {}),
    "KANLib GRBF": (network(doubles.kanlib_grbf), {}),
    "ReLU-KAN": (network(doubles.relu_kan), {}),
    "ReLU-KAN, trained phases": (network(doubles.relu_kan, trained=True), {"spline_order": 3}),
    "FourierKAN": (network(doubles.fourier), {}),
    "LKAN FFT": (network(doubles.lkan_fft), {}),
    "SineKAN": (network(doubles.sine), {}),
    "KAT": (other_doubles.kat(), {}),
    "KAT in a Sequential": (other_doubles.kat(names=("{}", "{}", 0)), {}),
    "FR-KAN": (network(other_doubles.fr_kan), {}),
    **{
        f"Wav-KAN {kind}": (network(doubles.wav_kan, kind=kind), {"wavelet": kind})
        for kind in WAVELETS
    },
    "Wav-KAN of torch-conv-kan": (
        network(doubles.wav_kan, base=True),
        {"wavelet": "mexican_hat", "base_activation": "silu"},
    ),
    **{
        kind: (network(doubles.polynomial, kind=kind), known)
        for kind, (_, known) in POLYNOMIALS.items()
    },
}
UNUSED = re.compile(r"weight1|inv_denominator|layers\.\d\.k|arange|num_batches|rbf\.grid")


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_formula(name, tmp_path):
    double, settings = CASES[name]
    model = equal(double, 3, double.state, **settings)
    equal(double, 3, {f"net.{key}": tensor for key, tensor in double.state.items()}, **settings)
    x = rows(double, 3)
    loaded = load(save(model, tmp_path / "m.safetensors"))
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_comparison_notices_a_change_of_any_tensor(name):
    double, settings = CASES[name]
    for key, tensor in double.state.items():
        if UNUSED.search(key) is None and not (name == "LKAN FFT" and key.endswith("bias")):
            with pytest.raises(AssertionError):
                equal(double, 3, {**double.state, key: tensor * (1 + 1e-6)}, **settings)


@pytest.mark.parametrize(
    ("name", "missing", "usual"),
    [
        ("Wav-KAN dog", "wavelet", "'mexican_hat'"),
        ("gegenbauer", "alpha", "3.0"),
        ("jacobi", "polynomials", "'JacobiKAN'"),
        ("jacobi", "b", "1.0"),
        ("ReLU-KAN, trained phases", "spline_order", "3"),
    ],
)
def test_what_tensors_do_not_say_is_asked_for(name, missing, usual):
    double, settings = CASES[name]
    rest = {key: value for key, value in settings.items() if key != missing}
    with pytest.raises(
        InvalidValueError,
        match=rf"^import_model: expected {missing} \(.*Pass {missing}={usual}, the",
    ):
        import_model(double.state, **rest)


def test_what_no_network_needs_or_can_be_is_refused():
    state = CASES["SineKAN"][0].state
    text = "import_model: expected no wavelet beside a network of SineKAN, got 'dog'. Leave it out."
    with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
        import_model(state, wavelet="dog")
    with pytest.raises(InvalidValueError, match=r"expected wavelet to be one of .*, got 'haar'\."):
        import_model(state, wavelet="haar")
    with pytest.raises(
        InvalidValueError, match=r"expected keyword to be one of .*mean 'wavelet'\?$"
    ):
        import_model(state, wavelets="dog")


@pytest.mark.parametrize("key", ["poly_weights.0", "layers.0.poly_weight"])
def test_networks_that_look_at_the_whole_batch_are_refused(key):
    state = {key: torch.ones(2, 6), key.replace("poly", "base"): torch.ones(2, 3)}
    with pytest.raises(InvalidValueError, match="by the minimum and maximum of the whole batch"):
        import_model(state)


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
    double = network(doubles.wav_kan, kind="dog", base=True)
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
    d = Double()
    first = doubles.polynomial(d, "0.", 3, 4)
    line, bias = d.draw("1.weight", 2, 4), d.draw("1.bias", 2)
    d.steps += [first, lambda x: x @ line.T + bias]
    equal(d, 3, d.state)
