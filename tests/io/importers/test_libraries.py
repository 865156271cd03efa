"""Networks of every library: the same outputs, everywhere; and the table of the documentation."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from kanlens.errors import InvalidValueError
from kanlens.io._checkpoint import load, save
from kanlens.io.importers import import_model
from tests.io.importers import (
    doubles,
    other_doubles,
    series_doubles,
    test_normalized_layouts,
)
from tests.io.importers.libraries import ANALYSES, LIBRARIES, known, loaded, measured, normed
from tests.io.importers.series_doubles import network, wav_kan

TABLE = Path(__file__).parents[3] / "figures" / "data" / "libraries.csv"
WHOLE = ["pykan 0.1 to 0.2.8, microkan", "FasterKAN", "Wav-KAN shannon"]  # the last has no bounds
relu_kan = partial(series_doubles.relu_kan, trained=True)
narrow = partial(series_doubles.fast_kan, spacing=0.3)
NARROW = test_normalized_layouts.CASES  # in the table with two nodes, which hardly vary
WIDE = {f"{name}, wide": partial(normed, name, (4, 5, 4)) for name in NARROW}
CASES = {
    **LIBRARIES,
    **WIDE,
    "LKAN, one scale": known(doubles.lkan, shared=True),
    "KANLib, bare": known(doubles.kanlib, bare=True),
    "imodelsX KANGAM of one feature": known(doubles.kangam, 1),
    "convkan in groups": known(doubles.convkan),
    "layers of torch between": known(doubles.normed_row),
    "FastKAN without a base": known(network, series_doubles.fast_kan, base=False),
    "FastKAN, other widths": lambda: (network(narrow), {"denominator": 0.3}),
    "ReLU-KAN, trained phases": lambda: (network(relu_kan), {"spline_order": 3}),
    "KAT in a Sequential": known(other_doubles.kat, names=("{}", "{}", 0)),
    "Wav-KAN of torch-conv-kan": lambda: (
        network(wav_kan, base=True),
        {"wavelet": "mexican_hat", "base_activation": "silu"},
    ),
}
UNUSED = re.compile(
    "inv_denominator|layers.[0-9].k|rbf.grid|kan_layer.grid|layers.0.beta_weights|symbolic"
)
IDLE = {  # in others, weight1
    "LKAN FFT": "bias",
    "Wav-KAN of torch-conv-kan": "none",
    "torch-conv-kan convolution, 1 x 1": "prelus.0.weight",  # its outputs are positive
}


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(TABLE).set_index("library")


def test_every_library_has_its_line(table):
    assert list(table.index) == list(LIBRARIES)
    assert len(table) >= 25
    assert set(table.columns) == {"difference", *(one.__name__ for one in ANALYSES)}
    assert table.difference.max() < 1e-13


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_formula_and_of_no_other(name, tmp_path):
    double, settings, *_ = CASES[name]()
    model, x, difference = loaded(CASES[name])
    assert difference < (1e-13 if name in LIBRARIES else 1e-11 if name in WIDE else 1e-12)
    again = load(save(model, tmp_path / "m.safetensors"))
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    if name in NARROW or name.startswith(("jax", "keras", "pykan 0.1")):  # in other containers
        return
    expected, start, roles = model(x), "net.module.", defaultdict(list)
    for key, tensor in double.state.items():
        idle = UNUSED.search(key) or key.endswith(IDLE.get(name, "weight1"))
        if tensor.is_floating_point() and not idle:
            roles[re.sub(r"\d+", "", key)].append(key)
    for place, keys in enumerate(roles.values()):
        key = keys[place % len(keys)]  # in one layer or another
        changed = {**double.state, key: double.state[key] * 1.00001}
        other = import_model({start + k: v for k, v in changed.items()}, **settings)(x)
        assert (other - expected).abs().max() > 1e-11 * expected.abs().max(), key


@pytest.mark.slow  # reads the files of every library
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_possible_is_what_the_table_says(name, table):
    line = measured(name)
    cells = [one.__name__ for one in ANALYSES]
    assert [line[cell] for cell in cells] == table.loc[name, cells].tolist()


@pytest.mark.parametrize(
    ("name", "missing", "usual"),
    [
        ("Wav-KAN dog", "wavelet", "'mexican_hat'"),
        ("OrthogPolyKANs gegenbauer", "alpha", "3.0"),
        ("JacobiKAN", "polynomials", "'JacobiKAN'"),
        ("JacobiKAN", "b", "1.0"),
        ("ReLU-KAN, trained phases", "spline_order", "3"),
    ],
)
def test_what_tensors_do_not_say_is_asked_for(name, missing, usual):
    double, settings = CASES[name]()
    rest = {key: value for key, value in settings.items() if key != missing}
    text = (
        rf"^import_model: expected {missing} \(.*Pass {missing}={usual}, its default, or the value"
    )
    with pytest.raises(InvalidValueError, match=text):
        import_model(double.state, **rest)
