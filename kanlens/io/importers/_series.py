"""Layouts of libraries with edges of Gaussians, sines, wavelets or rational functions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor

from kanlens.functions._families import rational_name
from kanlens.io.importers._intermediate import Edges, Stage, one_by_one
from kanlens.io.importers._layout import Group, Layout, batch_norm
from kanlens.io.importers._order import join
from kanlens.io.importers._settings import SETTINGS, attribute, class_of, refuse

Factor = Tensor | float  # one for all functions, or for each: (n,) or (in, n)


def series_edges(
    group: Group, names: tuple[str, ...], weight: Tensor, a: Factor, b: Factor, **beside: str
) -> Edges:
    """Return edges that are sums of weights (out, in, n) times g(a x + b)."""
    others = group.beside(weight, **beside)
    scaler = others.pop("scaler")
    weight = weight if scaler is None else weight * scaler[..., None]
    if names:  # empty for polynomials of degree 0
        ends = [torch.as_tensor(end, dtype=torch.float64).to(weight) for end in (a, b)]
        ends = [end.expand(weight.shape[1:]) for end in ends]
        others |= {"series_weight": weight, "series_affine": torch.stack(ends, -1)}
    return Edges(name=group.name, series=names, extrapolation="linear", **others)


def bumps(
    group: Group, weight: Tensor, centers: Tensor, a: Factor, name: str = "gaussian", **beside: str
) -> Edges:
    """Return edges with a Gaussian, or function `name`, at each of `centers` (n,) or (in, n)."""
    edges = series_edges(group, (name,) * weight.shape[2], weight, a, -centers * a, **beside)
    low, high = float(centers.min()), float(centers.max())
    return edges.on(low, high) if low < high else edges


def _spacing(group: Group, grid: Tensor, owner: str = "rbf") -> float:
    """Return the width of Gaussians, by default the mean distance of centers."""
    width = attribute(group.source.owner(join(group.name, owner)), "denominator")
    width = group.known("denominator") if width is None else width
    if not SETTINGS["denominator"].holds(width):
        width = float(grid.max() - grid.min()) / max(len(grid) - 1, 1)
        if owner == "rbf" and "denominator" not in group.options.settings:
            group.options.assume("denominator", float(f"{width:.7g}"))
    return float(group.setting("denominator", width))


def _normed(group: Group, edges: Edges, *, raw: bool = True) -> list[Stage]:
    """Return edges after normalization of their inputs; with `raw`, the base takes raw inputs."""
    n_in, names = edges.base.shape[1], ("norm.", "layernorm.")  # if it has both, it uses the first
    if "norm.running_mean" in group:
        return [*batch_norm(group, "norm."), edges]
    norm = [stage for name in names for stage in group.norm(name, n_in)][:1]
    weights, places = edges.series_weight, edges.series_affine
    if not (norm and raw) or not edges.base.any() or weights is None or places is None:
        return [*norm, edges]
    wide = replace(
        edges,
        base=torch.cat([edges.base, torch.zeros_like(edges.base)], 1),
        knots=None if edges.knots is None else edges.knots.repeat(2, 1),
        series_weight=torch.cat([torch.zeros_like(weights), weights], 1),
        series_affine=places.repeat(2, 1, 1),
    )
    return [replace(norm[0], beside=True), wide]


_LINE = {"base": "base_linear.weight", "bias": "base_linear.bias"}


def _fast_kan(group: Group) -> list[Stage]:
    grid = group.get("rbf.grid", None)
    weight = group.get("spline_linear.weight", None, None).unflatten(1, (-1, len(grid)))
    if "rbf.inv_denominator" in group:  # FasterKAN, which does not use it
        return _normed(group, bumps(group, weight, grid, 1.0, "sech^2"))
    return _normed(group, bumps(group, weight, grid, 1 / _spacing(group, grid), **_LINE))


def _bsrbf(group: Group) -> list[Stage]:
    """Return splines and Gaussians that share their weights, or Gaussians alone."""
    grid = group.get("rbf.grid", None)
    weight = group.get("spline_weight", None, None).unflatten(1, (-1, len(grid)))
    edges = bumps(group, weight, grid, 1 / _spacing(group, grid), base="base_weight")
    if "grid" not in group:
        return [edges]
    knots = group.get("grid", weight.shape[1], None)
    edges = replace(edges, spline=weight, knots=knots, extrapolation="zero")
    return _normed(group, edges, raw=False)


def _rbf_kan(group: Group) -> list[Stage]:
    grid = group.get("rbf_linear.grid", None)
    weight = group.get("rbf_linear.spline_weight", None, None).T.unflatten(1, (-1, len(grid)))
    return [bumps(group, weight, grid, 1 / _spacing(group, grid, "rbf_linear"), **_LINE)]


def _kanlib(group: Group) -> list[Stage]:
    weight = group.get("coefficients", None, None, None)
    a, grid = (group.get(f"basis.{name}", weight.shape[1], None) for name in ("epsilon", "grid"))
    names = {"base": "weight_residual", "scaler": "weight_spline", "bias": "bias_output"}
    return [bumps(group, weight, grid, a, **names)]


def _relu_kan(group: Group) -> list[Stage]:
    low = group.get("phase_low", None, None)
    n_in, n = low.shape
    high = group.get("phase_high" if "phase_high" in group else "phase_height", n_in, n)
    weight = group.get("equal_size_conv.weight", None, 1, n, n_in)
    weight = weight.reshape(len(weight), n_in, n)  # the library, too, reorders by reshape
    k = _overlap(group, low, high)
    middle, half = (low + high) / 2, (high - low) / 2
    factor = (4 * (n - k) ** 2 / (k + 1) ** 2) ** 2 * half.clamp_min(0) ** 4
    a = torch.where(half > 0, 1 / half, 1.0)
    group.get("equal_size_conv.bias", len(weight))
    edges = series_edges(
        group, ("relu(1-x^2)^2",) * n, weight * factor, a, -middle * a, bias="equal_size_conv.bias"
    )
    return [edges.on(float(low.min()), float(high.max()))]


def _overlap(group: Group, low: Tensor, high: Tensor) -> int:
    """Return the parameter k of ReLU-KAN from untrained phases, else as a setting."""
    step, width = low.diff(dim=1), high - low
    even = bool(len(step) and step.numel()) and float(step.min()) > 0
    k = round(float(width.mean() / step.mean())) - 1 if even else 0
    g = low.shape[1] - k
    if 0 < k < 9 and g > 0 and torch.allclose(step * g, torch.ones_like(step), atol=1e-4):
        return k
    k = group.setting("spline_order", group.known("k"))
    if not k < low.shape[1]:
        expected = f"below the {low.shape[1]} functions of {group.name}"
        refuse(expected, str(k), "Pass the value of the model", argument="spline_order")
    return int(k)


# --- waves -------------------------------------------------------------------------------------


def waves(group: Group, coefficients: Tensor, **beside: str) -> Edges:
    """Return edges of cosines and sines, from (2, out, in, n)."""
    n = coefficients.shape[3]
    weight, k = torch.cat([*coefficients], -1), torch.arange(1, n + 1).repeat(2)
    b = torch.tensor([math.pi / 2, 0.0], dtype=torch.float64).repeat_interleave(n)
    edges = series_edges(group, ("sin",) * (2 * n), weight, k, b, **beside)
    return edges.on(-math.pi, math.pi)


def _fourier(group: Group) -> list[Stage]:
    coefficients = group.get("fouriercoeffs", 2, None, None, None)
    bias = group.find("bias", 1, coefficients.shape[1])
    edges = replace(waves(group, coefficients), bias=None if bias is None else bias[0])
    return _normed(group, edges)


def _lkan(group: Group) -> list[Stage]:
    weight = group.get("coeff", 2, None, None, None)
    base = group.get("scale_base", *weight.shape[1:3])  # always of SiLU
    return [replace(waves(group, weight, scaler="scale_spline"), base=base, activation="silu")]


def _sine(group: Group) -> list[Stage]:
    weight = group.get("amplitudes", None, None, None)
    n_out, n_in, n = weight.shape
    a, b = group.get("freq", 1, 1, 1, n)[0, 0], group.get("phase", 1, 1, n_in, n)[0, 0]
    edges = series_edges(group, ("sin",) * n, weight, a, b)
    return [replace(edges, bias=group.get("bias", 1, n_out)[0])]


_MEXICAN = 2 / (math.sqrt(3) * math.pi**0.25)
_WAVELETS = {"mexican_hat": "mexican hat", "shannon": "sinc"}


def _wavelets(group: Group) -> list[Stage]:
    """Return normalized edges of a wavelet, with torch-conv-kan's SiLU."""
    weight = group.get("wavelet_weights", None, None)
    n_out, n_in = weight.shape
    scale, shift = (group.get(name, n_out, n_in) for name in ("scale", "translation"))
    kind = group.setting("wavelet", group.known("wavelet_type"))
    factor = torch.full_like(weight[0], _MEXICAN if kind == "mexican_hat" else 1.0)
    if kind == "shannon":
        factor = torch.hamming_window(n_in, periodic=False, dtype=weight.dtype).to(weight)
    affine = torch.stack([1 / scale, -shift / scale, weight * factor, 0 * weight], -1)
    name, base = _WAVELETS.get(kind, kind), torch.zeros_like(weight)
    edges = Edges(name=group.name, base=base, activation="zero", extrapolation="linear")
    own = class_of(group.source.owner(group.name)) == "WavKANLayer"
    if own or group.options.base_activation is not None:
        table = {(out, in_): name for out in range(n_out) for in_ in range(n_in)}
        base = group.get("weight1", n_out, n_in)
        edges = replace(edges, base=base, activation=group.base(), **one_by_one(table, affine))
    else:
        if group.source.module is None:
            group.options.assume("base_activation", "zero")
        edges = replace(edges, functions=((name,) * n_in,) * n_out, affine=affine)
    return [edges, *batch_norm(group, "bn.")]


# --- rational functions ------------------------------------------------------------------------


def _rationals(group: Group, names: list[str], weight: Tensor, own: Tensor) -> Edges:
    """Return edges ``weight_oi F_own(i)(x_i)``, with one function for each group of inputs."""
    chosen = torch.nn.functional.one_hot(own, len(names)).to(weight)
    return series_edges(group, tuple(names), weight[..., None] * chosen, 1.0, 0.0)


def _kat(group: Group) -> list[Stage]:
    """Return rational functions for groups of adjacent inputs, with a linear layer."""
    weight, bottom = group.get("weight", None, None), group.get("weight_denominator", None, None)
    top = group.get("weight_numerator", None, None).expand(len(bottom), -1)
    pairs = zip(top.tolist(), bottom.abs().tolist(), strict=True)
    names = [rational_name(p, [0.0, *q], even=True) for p, q in pairs]
    own = torch.arange(weight.shape[1], device=weight.device) // (weight.shape[1] // len(bottom))
    if group.source.module is None:  # KAT_Group_Torch has no absolute values of x
        group.options.assume("classes", "KAT_Group")
    bias = group.find("bias", len(weight))
    return [replace(_rationals(group, names, weight, own), bias=bias)]


def _fr_kan(group: Group) -> list[Stage]:
    """Return rational functions for interleaved groups of inputs, with SiLU added."""
    weight = group.get("ln_weight", None, None).T
    top, bottom = group.get("w_a", None, None).T, group.get("w_b", None, None).T
    names = [rational_name(p, q) for p, q in zip(top.tolist(), bottom.tolist(), strict=True)]
    own = torch.arange(weight.shape[1], device=weight.device) % len(names)
    edges = _rationals(group, names, weight, own)
    beside = group.known("need_relu", True)
    return [replace(edges, base=weight, activation=group.base())] if beside else [edges]


# --- what cannot be imported -------------------------------------------------------------------


def _refusing(reason: str, group: Group) -> NoReturn:
    expected = f"edge functions that kanlens can import in {group.name or group.source.name}"
    refuse(expected, reason, "list_kans lists the networks of a file")


_BATCH = "inputs that are scaled by the minimum and maximum of the whole batch"
_IMAGE = "a normalization of the whole image, or its inputs"
_REFUSED = (
    ("CVKAN", "realweights complexweights", "edges of complex numbers"),
    ("KKAN", "input_embedding.C", "networks of many layers as the functions of single inputs"),
    ("ActNet", "beta Lambda", "inputs scaled by a number (omega0) that is not in the tensors"),
    ("unikan", "nodes.0.weight.0", "functions of its own that are not in the tensors"),
    ("torch-conv-kan KACN convolution", "poly_conv.0.weight", _IMAGE),
    ("torch-conv-kan FastKAN convolution", "base_conv.0.weight rbf.grid", _IMAGE),
    ("torch-conv-kan KAGN convolution", "base_conv.0.weight poly_weights", _IMAGE),
    ("torch-conv-kan ReLU-KAN convolution", "base_conv.0.weight phase_low", _IMAGE),
    ("torchkan KAL", "poly_weights", _BATCH),
    ("torch-conv-kan KALN", "poly_weight", _BATCH),
)
_UNUSED = "layernorm.weight layernorm.bias"
LAYOUTS = (
    *(Layout(library, partial(_refusing, reason), marks) for library, marks, reason in _REFUSED),
    Layout("KAT", _kat, "weight_numerator weight_denominator weight"),
    Layout("FR-KAN", _fr_kan, "w_a w_b ln_weight"),
    Layout("BSRBF_KAN", _bsrbf, "base_weight spline_weight rbf.grid grid"),
    Layout("All-KAN RBF", _bsrbf, "base_weight spline_weight rbf.grid", _UNUSED),
    Layout(
        "FastKAN, FasterKAN",
        _fast_kan,
        "rbf.grid spline_linear.weight",
        "rbf.inv_denominator base_linear.weight base_linear.bias",
    ),
    Layout("RBF-KAN", _rbf_kan, "rbf_linear.grid rbf_linear.spline_weight"),
    Layout("KANLib GRBF", _kanlib, "coefficients basis.grid basis.epsilon"),
    Layout(
        "Wav-KAN",
        _wavelets,
        "wavelet_weights scale translation bn.running_mean bn.running_var",
        "weight1 bn.num_batches_tracked",
    ),
    Layout("FourierKAN", _fourier, "fouriercoeffs"),
    Layout("LKAN FFT", _lkan, "coeff scale_base scale_spline k", "bias"),
    Layout("SineKAN", _sine, "amplitudes freq phase bias"),
    Layout(
        "ReLU-KAN",
        _relu_kan,
        "phase_low equal_size_conv.weight equal_size_conv.bias",
        "phase_height phase_high",
    ),
)
