"""Doubles of KAT, FR-KAN, jaxKAN, Keras files and convolutions: tensors, and what they compute."""

import io
import itertools
import json
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import torch
from torch.nn import functional as F

from tests.io.importers.doubles import Double, splines
from tests.io.importers.series_doubles import waves


def power_sum(c, u):
    return sum(c[..., k] * u**k for k in range(c.shape[-1]))


def kat(widths=(3, 6, 2), groups=3, names=("act{}", "fc{}", 1)):
    d, (act, fc, first) = Double(), names
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        place = 2 * i if act == fc else i + first
        top = d.draw(f"{act.format(place)}.weight_numerator", 1, 6)
        bottom = d.draw(f"{act.format(place)}.weight_denominator", groups, 4)
        start = fc.format(place + (act == fc))
        weight, bias = d.draw(f"{start}.weight", n_out, n_in), d.draw(f"{start}.bias", n_out)

        def layer(x, top=top, bottom=bottom, weight=weight, bias=bias):
            parts = []
            for g, u in enumerate(x.chunk(groups, 1)):
                below = 1 + sum(bottom[g, j].abs() * u.abs() ** (j + 1) for j in range(4))
                parts.append(power_sum(top[0], u) / below)
            return torch.cat(parts, 1) @ weight.T + bias

        d.steps.append(layer)
    return d


def fr_kan(d, start, n_in, n_out, groups=2):
    top, bottom = d.draw(f"{start}w_a", 5, groups), d.draw(f"{start}w_b", 4, groups)
    weight, own = d.draw(f"{start}ln_weight", n_in, n_out), torch.arange(n_in) % groups
    return lambda x: (
        (power_sum(top.T[own], x) / (1 + power_sum(bottom.T[own], x).abs()) + F.silu(x)) @ weight
    )


# --- jaxKAN ------------------------------------------------------------------------------------


JAX = ("base", "spline", "chebyshev", "legendre", "rbf", "sine", "fourier")


def chebyshev(n, t):
    return torch.cos(n * torch.acos(t))


def legendre(n, t):
    return torch.from_numpy(np.polynomial.legendre.legval(t.numpy(), [0.0] * n + [1.0]))


def jax_layer(d, i, n_in, n_out, kind, *, bias=True, external=True, residual=True):
    """One layer: draws its arrays, and returns what it computes."""
    start, n = f"layers.{i}.", 5
    line = d.draw(f"{start}c_res", n_out, n_in) if residual and kind != "fourier" else None
    shift = d.draw(f"{start}bias", n_out) if bias else torch.zeros(n_out).double()
    rest = lambda x: shift + (0 if line is None else F.silu(x) @ line.T)  # noqa: E731
    if kind == "fourier":
        cos, sin = (d.draw(start + name, n_out, n_in, n) for name in ("c_cos", "c_sin"))
        return lambda x: waves(x, cos, sin) + rest(x)
    if kind == "base":
        scale = d.draw(f"{start}c_spl", n_out, n_in)
        weight = d.draw(f"{start}c_basis", n_out * n_in, 7)
        grid = d.grid(f"{start}grid", n_out * n_in)

        def base(x):
            flat = x.repeat(1, n_out)
            each = splines_one_by_one(flat, grid, weight).reshape(-1, n_out, n_in)
            return (each * scale).sum(2) + rest(x)

        return base
    if kind == "spline":
        grid, weight = d.grid(f"{start}grid", n_in), d.draw(f"{start}c_basis", n_out, n_in, 7)
        scale = d.draw(f"{start}c_spl", n_out, n_in)[..., None] if external else 1
        return lambda x: splines(x, grid, weight * scale) + rest(x)
    if kind == "rbf":
        grid = d.draw(f"{start}grid", n_in, n)
        basis = lambda x: torch.exp(-0.5 * (x[..., None] - grid) ** 2)  # noqa: E731
    elif kind == "sine":
        w, p = (d.draw(start + name, n, 1)[:, 0] for name in ("omega", "phase"))
        mean = torch.exp(-(w**2) / 2) * p.sin()
        spread = (0.5 * (1 - torch.exp(-2 * w**2) * (2 * p).cos()) - mean**2).sqrt() + 1e-8
        basis = lambda x: (torch.sin(w * x[..., None] + p) - mean) / spread  # noqa: E731
    else:
        value, first = {"chebyshev": chebyshev, "legendre": legendre}[kind], int(bias)
        basis = lambda x: torch.stack(  # noqa: E731
            [value(k, torch.tanh(x)) for k in range(first, first + n)], -1
        )
    weight = d.draw(f"{start}c_basis", n_out, n_in, n)
    scale = d.draw(f"{start}c_ext", n_out, n_in)[..., None] if external else 1
    return lambda x: torch.einsum("bik,oik->bo", basis(x), weight * scale) + rest(x)


def splines_one_by_one(x, grid, weight):
    edges = zip(x.split(1, 1), grid.split(1), weight[:, None, None], strict=True)
    return torch.cat([splines(*edge) for edge in edges], 1)


def jax_kan(widths=(3, 4, 2), kind="spline", **options):
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        d.steps.append(jax_layer(d, i, n_in, n_out, kind, **options))
    return d


def pure(double):
    """The arrays as flax gives them: dicts in dicts, lists by number."""
    found = {}
    for key, value in double.state.items():
        _, index, name = key.split(".")
        found.setdefault(int(index), {})[name] = value.numpy()
    return {"layers": found}


def live(double, kind, wrong=0.0):
    """A model as flax has it: layers with arrays, a grid, a residual."""

    def silu(x):
        return x

    silu.__module__ = "jax._src.nn.functions"
    layers = []
    for parts in pure(double)["layers"].values():
        layer = type(f"{kind.title()}Layer", (), {})()
        vars(layer).update(parts, residual=silu, grid=SimpleNamespace(item=parts.get("grid")))
        layers.append(layer)

    class Model:
        def __call__(self, x):
            return double(torch.from_numpy(x)).numpy() + wrong

    model = Model()
    model.layers = layers
    return model


# --- Keras -------------------------------------------------------------------------------------


def keras(widths=(3, 4, 2), *, norm=False, bias=True, base="relu"):
    """Layers of keras-efficient-kan and a Dense layer."""
    d = Double()
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        place = "layers/kan_linear" + (f"_{i}" if i else "")
        names = ["kernel", *["bias"] * bias, "spline", "knots"]
        keys = {name: f"{place}/vars/{k}" for k, name in enumerate(names)}
        knots = d.grid(keys["knots"], n_in)
        d.keep(keys["knots"], knots[None])
        weight, flat = d.draw(keys["kernel"], n_in, n_out), d.draw(keys["spline"], n_in * 7, n_out)
        shift = d.draw(keys["bias"], n_out) if bias else 0
        gamma, beta = (
            (d.draw(f"{place}/layer_norm/vars/{k}", n_in) for k in (0, 1)) if norm else (None, None)
        )

        def layer(x, knots=knots, weight=weight, flat=flat, shift=shift, gamma=gamma, beta=beta):
            x = x if gamma is None else F.layer_norm(x, x.shape[1:], gamma, beta, 1e-3)
            coef = flat.reshape(x.shape[1], 7, -1).permute(2, 0, 1)
            return getattr(torch, base)(x) @ weight + shift + splines(x, knots, coef)

        d.steps.append(layer)
    line, shift = d.draw("layers/dense/vars/0", widths[-1], 2), d.draw("layers/dense/vars/1", 2)
    d.steps.append(lambda x: x @ line + shift)
    options = {"base_activation": base, "use_bias": bias, "use_layernorm": norm}
    kans = [{"class_name": "KANLinear", "config": options}] * (len(widths) - 1)
    other = [{"class_name": "Dropout", "config": {}}]
    dense = [{"class_name": "Dense", "config": {"activation": "linear", "use_bias": True}}]
    d.config = {"class_name": "Sequential", "config": {"layers": kans + other + dense}}
    return d


def keras_file(path, double, config=None, change=None):
    """Write what Keras writes: a zip file of the configuration and HDF5."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, value in double.state.items():
            file[key] = value.numpy()
        if change is not None:
            change(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config or double.config))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


# --- convolutions ------------------------------------------------------------------------------


def convolution(channels=3, n_out=2, size=1):
    """torch-conv-kan's KANConv with batch normalization, on one patch."""
    d = Double()
    shape = (size, size)
    base = d.draw("base_conv.0.weight", n_out, channels, *shape)
    weight = d.draw("spline_conv.0.weight", n_out, channels * 8, *shape)
    slope = d.draw("prelus.0.weight", 1)
    mean, gamma, beta = (
        d.draw(f"layer_norm.0.{n}", n_out) for n in ("running_mean", "weight", "bias")
    )
    var = d.keep("layer_norm.0.running_var", torch.rand(n_out, generator=d.generator).double() + 1)
    knots = torch.linspace(-2.2, 2.2, 12, dtype=torch.float64).expand(channels * size**2, -1)

    def patch(x):
        image = x.reshape(-1, channels, *shape)
        coef = torch.eye(8, dtype=x.dtype)[:, None].expand(8, channels * size**2, 8)
        each = torch.stack(
            [splines_one_by_one(x, knots, coef[q]) for q in range(8)], 1
        )  # (batch, q, in)
        each = each.reshape(len(x), 8, channels, *shape).transpose(1, 2).flatten(1, 2)
        y = F.conv2d(F.gelu(image), base) + F.conv2d(each, weight)
        y = F.batch_norm(y, mean, var, gamma, beta)
        return F.prelu(y, slope).flatten(1)

    d.steps.append(patch)
    return d
