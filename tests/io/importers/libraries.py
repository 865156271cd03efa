"""What becomes of a network of every library: the table of the documentation.

``python -m tests.io.importers.libraries figures/data/libraries.csv`` writes it.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt

import kanlens
from kanlens.errors import MethodError
from kanlens.io.importers import import_model
from tests.io.importers import (
    doubles,
    other_doubles,
    series_doubles,
    test_normalized_layouts,
    test_pykan,
)
from tests.io.importers.doubles import rows
from tests.io.importers.series_doubles import POLYNOMIALS, network

FEW = (2, 2, 1)


def normed(name, widths=(2, 3, 2)):
    """A network of layers with layer normalization."""
    layer, settings = test_normalized_layouts.CASES[name]
    return network(layer, widths), settings


def pykan():
    """A live model with products, masks and symbolic edges."""
    double = doubles.pykan(names=test_pykan.NAMES)
    return double, {}, test_pykan.MultKAN(double)


def known(factory, *args, **options):
    return lambda: (factory(*args, **options), {})


def polynomial(kind):
    settings = POLYNOMIALS[kind][1]
    return lambda: (network(series_doubles.polynomial, FEW, kind=kind), settings)


def wavelet(kind):
    widths = (2, 1) if kind == "meyer" else FEW  # which is 0 nearly everywhere
    return lambda: (network(series_doubles.wav_kan, widths, kind=kind), {"wavelet": kind})


def jax_kan(kind):
    def model():
        double = other_doubles.jax_kan(FEW, kind)
        return double, {}, other_doubles.live(double, kind)

    return model


def keras(**options):
    def model():
        double = other_doubles.keras(FEW[:2], **options)
        folder = tempfile.mkdtemp()
        return double, {}, other_doubles.keras_file(Path(folder, "model.keras"), double)

    return model


CONVOLUTION = {"spline_order": 3, "grid_range": (-1, 1)}
LIBRARIES = {
    "efficient-kan and its copies": known(doubles.efficient_kan, FEW),
    "pykan 0.1 to 0.2.8, microkan": pykan,
    "pykan up to 0.0.5": known(doubles.old_pykan, FEW),
    "LKAN": known(doubles.lkan, FEW),
    "LKAN FFT": known(network, series_doubles.lkan_fft, FEW),
    "KANLib": known(doubles.kanlib, FEW),
    "KANLib GRBF": known(network, series_doubles.kanlib_grbf, FEW),
    "kanx": known(doubles.kanx, FEW),
    "inkan": known(doubles.cubic, FEW),
    "flashkan": known(doubles.cubic, FEW, packed=False),
    "TorchKAN": known(doubles.torchkan, FEW),
    "imodelsX KANGAM": known(doubles.kangam, 2),
    "convkan": known(doubles.convkan, 1, 2, 1),
    "KANditioned": lambda: (doubles.kanditioned(2, 1), {"spline_width": 3.0}),
    "FastKAN": lambda: normed("FastKAN"),
    "FastKAN without normalization": known(network, series_doubles.fast_kan, FEW),
    "FasterKAN": lambda: normed("FasterKAN"),
    "BSRBF_KAN": lambda: normed("BSRBF_KAN"),
    "RBF-KAN": known(network, series_doubles.rbf_kan, FEW),
    "torch-conv-kan KANLayer": lambda: normed("torch-conv-kan KANLayer"),
    "TorchKAN with normalization": lambda: normed("TorchKAN with normalization"),
    "torch-conv-kan KAGN": lambda: normed("torch-conv-kan KAGN"),
    "torch-conv-kan Jacobi": lambda: normed("torch-conv-kan Jacobi"),
    "ChebyKAN": polynomial("cheby"),
    "JacobiKAN": polynomial("jacobi"),
    "OrthogPolyKANs Jacobi": polynomial("jacobi, other"),
    **{f"OrthogPolyKANs {kind}": polynomial(kind) for kind in list(POLYNOMIALS)[1:9]},
    **{f"Wav-KAN {kind}": wavelet(kind) for kind in series_doubles.WAVELETS},
    "FourierKAN": known(network, series_doubles.fourier, FEW),
    "SineKAN": known(network, series_doubles.sine, FEW),
    "ReLU-KAN": known(network, series_doubles.relu_kan, FEW),
    "KAT": known(other_doubles.kat, FEW, 2),
    "FR-KAN": known(network, other_doubles.fr_kan, FEW),
    **{f"jaxKAN {kind}": jax_kan(kind) for kind in other_doubles.JAX},
    "keras-efficient-kan": keras(norm=False),
    "keras-efficient-kan with normalization": keras(norm=True),
    "torch-conv-kan convolution, 1 x 1": lambda: (other_doubles.convolution(2, 1), CONVOLUTION),
}


def plots(model, x):
    plt.close(kanlens.plot.network(model).figure)


def prunes(model, x):
    found = kanlens.prune(model, x, budget=0.01, progress=False)
    assert found.loss_after <= 0.011 * (1 + found.loss_before)


def symbolizes(model, x):
    found = kanlens.suggest(model, x, functions=["x", "sin"])
    assert len(found) or kanlens.symbolize(model, x, functions=["x"]).sympy()  # no edge is free


def attributes(model, x):
    found = kanlens.attribute(model, x[:2], background=x[2:4], target=0)
    assert found.completeness_gap.abs().max() < 1e-9 * (1 + model(x).abs().max())


def certifies(model, x):
    domain = torch.stack([x.amin(0), x.amax(0)], 1)
    how = {"target": 0, "max_boxes": 2, "progress": False}
    proven = kanlens.certify(model, domain, **how).outputs[0].range
    if not proven.high < float("inf"):
        raise MethodError("certify", "edges with bounds", "none", "Choose another")
    values = model(x)[:, 0]
    assert proven.low <= float(values.min())
    assert float(values.max()) <= proven.high


def exports(model, x):
    with tempfile.TemporaryDirectory() as folder:
        assert kanlens.export(model, Path(folder, "model.py")).error < 1e-10


ANALYSES = (plots, prunes, symbolizes, attributes, certifies, exports)


def loaded(make):
    """The network, rows for it, and how far its outputs are from the formulas'."""
    double, settings, *live = make()
    model = import_model(live[0] if live else double.state, **settings).requires_grad_(False)
    x = rows(double, model.widths[0])[:16]
    x = 0.3 * x if settings.get("wavelet") == "meyer" else x  # beyond, it is 0
    expected = double(x)
    return model, x, float((model(x) - expected).abs().max() / expected.abs().max())


def measured(name):
    """The line of a library in the table."""
    model, x, difference = loaded(LIBRARIES[name])
    line = {"library": name, "difference": difference}
    for analysis in ANALYSES:
        try:
            analysis(model, x)
            line[analysis.__name__] = "yes"
        except MethodError:
            line[analysis.__name__] = "no"
    return line


if __name__ == "__main__":
    table = pd.DataFrame([measured(name) for name in LIBRARIES])
    table.to_csv(sys.argv[1], index=False, float_format="%.1e")
