"""Layouts of libraries with B-splines and a base function, and of all layer types of jaxKAN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kanlens.io.importers._intermediate import Edges, Stage, edges_of, leaky, uniform
from kanlens.io.importers._layout import Group, Layout, Tensors, batch_norm
from kanlens.io.importers._order import join
from kanlens.io.importers._polynomials import in_chebyshev
from kanlens.io.importers._pykan import on_shared_knots
from kanlens.io.importers._series import bumps, series_edges, waves
from kanlens.io.importers._settings import class_of, refuse
from kanlens.splines._spline import extend


def spline_edges(group: Group, spline: Tensor, knots: Tensor, **names: str) -> Edges:
    """Return edges of splines, with the other tensors of a group."""
    usual, eps = group.known("extrapolation"), group.known("grid_eps")
    if not isinstance(usual, str):
        usual = "linear" if "mask" in group else "zero"  # only kanlens has masks
    return Edges(
        name=group.name,
        spline=spline,
        knots=knots,
        extrapolation=group.options.extrapolation or usual,
        grid_eps=float(eps) if isinstance(eps, int | float) else 0.02,
        **group.beside(spline, **names),
    )


def _named(
    library: str,
    names: str,
    marks: str,
    after: str = "",
    knots_of: Callable[[Group, Tensor], Tensor] | None = None,
    **options: Any,
) -> Layout:
    """Return a layout; `names` are those of spline, knots, base, scaler, bias and mask."""
    spline, knots, *others = names.split()
    beside = dict(zip(("base", "scaler", "bias", "mask"), others, strict=False))

    def read(group: Group) -> list[Stage]:
        weight = group.get(spline, None, None, None)
        n_out, n_in, _ = weight.shape
        grid = knots_of(group, weight) if knots_of else group.get(knots, n_in, None)
        edges = spline_edges(group, weight, grid, **beside)
        if not after or not (norms := group.norm(f"{after.split()[0]}.", n_out)):
            return [edges]
        prelu = after.split()[1]
        slope = group.get(f"{prelu}.weight", 1)
        return [edges, *norms, leaky(f"{group.name}.{prelu}", slope, n_out)]

    return Layout(library, read, marks, **options)


def _kanx(group: Group) -> list[Stage]:
    base = group.get("base_weight", None, None)
    spline = group.get("spline_weight", *base.shape, None)
    cuts = group.get("grid", len(base), None)
    knots = extend(cuts, spline.shape[2] - cuts.shape[1] + 1)
    edges = spline_edges(group, spline.transpose(0, 1), knots)
    return [replace(edges, base=base.T, activation=group.base())]


def _cubic(group: Group, spline: Tensor) -> Tensor:
    """Return the evenly spaced knots of cubic B-splines that start at `grid_starts`."""
    starts = group.get("grid_starts", spline.shape[2])
    low, count = starts[0].double(), len(starts) + 4
    step = (starts[-1].double() - low) / (len(starts) - 1)
    knots = low + step * torch.arange(count, dtype=torch.float64, device=starts.device)
    return knots.to(starts).expand(spline.shape[1], -1)


def _inkan(group: Group) -> list[Stage]:
    weight, count = group.get("weight", None, None), len(group.get("grid_starts", None))
    n_in, rest = divmod(weight.shape[1], count + 1)
    if rest:
        expected = f"edges of one input each in layer {group.name!r} of inkan"
        got = f"weights of shape {tuple(weight.shape)} for {count} functions: surfaces (dim=2)"
        refuse(expected, got, "Train it with dim=1")
    spline = weight[:, : n_in * count].reshape(len(weight), n_in, count)
    edges = spline_edges(group, spline, _cubic(group, spline))
    return [replace(edges, base=weight[:, n_in * count :], activation=group.base())]


def _kanditioned(group: Group) -> list[Stage]:
    """Return hat functions on evenly spaced points, with linear extrapolation."""
    values = group.get("kan_weight", None, None, None)
    n_in, count, _ = values.shape
    half = group.setting("spline_width") / 2
    knots = uniform(-half, half, count - 1, 1, values, n_in)
    edges = spline_edges(group, values.permute(2, 0, 1), knots)
    return [replace(edges, extrapolation=group.options.extrapolation or "linear")]


def _convkan(group: Group) -> list[Stage]:
    """Return the KAN that is applied to each patch, with inputs in the order of ``F.unfold``."""
    spline = group.get("spline_weight", None, None, None, None)
    groups, n_out, n_in, count = spline.shape
    base, knots = group.get("base_weight", *spline.shape[:3]), group.get("grid", groups, n_in, None)
    scaler = group.find("spline_scaler", *spline.shape[:3])
    full, index = spline.new_zeros(groups, n_out, groups, n_in, count), torch.arange(groups)
    full[index, :, index] = spline
    full = full.reshape(groups * n_out, groups * n_in, count)
    edges = replace(
        spline_edges(group, full, knots.flatten(0, 1)),
        base=torch.block_diag(*base),
        activation=group.base(),
        scaler=None if scaler is None else torch.block_diag(*scaler),
        mask=torch.block_diag(*torch.ones_like(base)),
    )
    return [edges]


def _even(group: Group, spline: Tensor) -> Tensor:
    """Return the knots of torch-conv-kan for splines (out, in, n)."""
    order = group.setting("spline_order")
    low, high = group.setting("grid_range")
    return uniform(low, high, spline.shape[2] - order, order, spline, spline.shape[1])


def _convolution(group: Group) -> list[Stage]:
    """Return the KAN that torch-conv-kan's convolution applies to each patch."""
    names = "base_conv.0.weight", "spline_conv.0.weight"
    shape = group.source.state[join(group.name, names[0])].shape[1:]
    base, spline = (group.get(name, None, None, *shape[1:]).flatten(2) for name in names)
    n_out, channels, size = base.shape
    spline = spline.reshape(n_out, channels, -1, size).transpose(2, 3).flatten(1, 2)
    kind = class_of(group.source.owner(join(group.name, "layer_norm.0")))
    norm = "layer_norm.0.running_mean" in group
    if not norm and kind != "Identity":
        expected = f"a function of one patch in {group.name or group.source.name}"
        got = "a normalization of the whole image"
        refuse(expected, got, "Train it with BatchNorm, or pass its head as submodule")
    edges = spline_edges(group, spline, _even(group, spline))
    edges = replace(edges, base=base.flatten(1), activation=group.base())
    slope = leaky(f"{group.name}.prelus.0", group.get("prelus.0.weight", 1), n_out)
    return [edges, *(batch_norm(group, "layer_norm.0.") if norm else []), slope]


def _keras(group: Group) -> list[Stage]:
    """Return a layer of keras-efficient-kan; its base function takes normalized inputs too."""
    base, grid = group.get("kernel", None, None), group.get("knots", 1, None, None)
    n_in, n_out = base.shape
    spline = group.get("spline", None, n_out).T.reshape(n_out, n_in, -1)
    edges = spline_edges(group, spline, grid[0], bias="bias")
    name = str(group.source.facts[f"{group.name}.base_activation"])
    name = "gelu by tanh" if name == "gelu" else name  # which is approximated there
    edges = replace(edges, base=base.T, activation=group.options.base(name))
    return [*group.norm("layer_norm.", n_in, 1e-3), edges]


def _transposed(tensors: Tensors) -> bool:
    """Return whether weights are (in, out), and no knots lie beyond the grid."""
    base, spline, grid = (tensors[name] for name in ("base_weight", "spline_weight", "grid"))
    fits = (base.dim(), spline.dim(), grid.dim()) == (2, 3, 2)
    return fits and len(base) == len(grid) == len(spline) and grid.shape[1] <= spline.shape[2]


_PAIR = "base_weight spline_weight"
_EFFICIENT_KAN = _named(
    "efficient-kan", "spline_weight grid base_weight spline_scaler bias mask", _PAIR
)


def _own(group: Group) -> list[Stage]:
    """Return a layer of kanlens; without its module, only one of splines alone."""
    layer = group.source.owner(group.name)
    if hasattr(layer, "edge_kind"):
        edges = edges_of(group.name, layer)
        group.keys.update(join(group.name, name) for name in layer.state_dict())
        extrapolation = group.options.extrapolation or edges.extrapolation
        return [replace(edges, extrapolation=extrapolation)]
    if "series_weight" in group or "affine" in group:
        expected = f"functions added to splines in layer {group.name!r} to have names"
        refuse(expected, "tensors alone", "Pass the module, or the file that kanlens.save wrote")
    return _EFFICIENT_KAN.read(group)


_BESIDE = {"base": "c_res", "bias": "bias"}


def _jax_kan(group: Group) -> list[Stage]:
    flat = group.source.state[join(group.name, "c_basis")].dim() == 2
    basis = group.get("c_basis", *[None] * (2 if flat else 3))
    scale = group.find("c_ext", *basis.shape[:2])
    basis = basis if scale is None else basis * scale[..., None]
    if "omega" in group:
        return [_jax_sine(group, basis)]
    kind = class_of(group.source.owner(group.name)).lower().removesuffix("layer")
    if flat or kind == "rbf" or "grid" in group or "c_spl" in group:
        return [_jax_on_grid(group, basis)]
    kind = group.setting("layer_type", kind if kind in ("chebyshev", "legendre") else None)
    if "bias" in group:  # which stands for the constant
        basis = torch.nn.functional.pad(basis, (1, 0))
    return [in_chebyshev(group, "cheby" if kind == "chebyshev" else kind, basis, **_BESIDE)]


def _jax_on_grid(group: Group, basis: Tensor) -> Edges:
    """Return splines, on a grid for each input or edge, or Gaussians."""
    if "grid" not in group:
        advice = "Pass the model itself, or add layer.grid.item to the arrays, as grid"
        refuse(f"the grid of {group.name}, which the state of nnx leaves out", "none", advice)
    grid = group.get("grid", None, None)
    if basis.dim() == 2:  # of every edge, outputs first
        n_out, n_in = group.get("c_res" if "c_res" in group else "c_spl", None, None).shape
        basis = basis.reshape(n_out, n_in, -1)
        basis, grid = on_shared_knots(basis, grid.reshape(n_out, n_in, -1))
    if grid.shape[1] > basis.shape[2]:
        return spline_edges(group, basis, grid, scaler="c_spl", **_BESIDE)
    kernel = group.known("kernel")
    width = kernel.get("std", 1.0) if isinstance(kernel, dict) else 1.0
    return bumps(group, basis, grid, 1 / (width * math.sqrt(2)), **_BESIDE)


def _jax_sine(group: Group, basis: Tensor) -> Edges:
    """Return sines, normalized to mean 0 and variance 1 for standard normal inputs."""
    n = basis.shape[2]
    w, p = (group.get(name, n, 1)[:, 0] for name in ("omega", "phase"))
    mean = torch.exp(-0.5 * w**2) * torch.sin(p)
    spread = (0.5 * (1 - torch.exp(-2 * w**2) * torch.cos(2 * p)) - mean**2).sqrt() + 1e-8
    edges = series_edges(group, ("sin",) * n, basis / spread, w, p, **_BESIDE)
    return edges.shifted(-(basis * mean / spread).sum((1, 2)))


def _jax_fourier(group: Group) -> list[Stage]:
    both = torch.stack([group.get(name, None, None, None) for name in ("c_cos", "c_sin")])
    return [waves(group, both, bias="bias")]


_SINGLE = 1e-6  # for a float64 module with knots computed in float32
LAYOUTS = (
    Layout("jaxKAN", _jax_kan, "c_basis", tolerance=_SINGLE),
    Layout("jaxKAN Fourier", _jax_fourier, "c_cos c_sin", tolerance=_SINGLE),
    Layout(
        "torch-conv-kan convolution",
        _convolution,
        "base_conv.0.weight spline_conv.0.weight prelus.0.weight",
        "layer_norm.0.num_batches_tracked",
        usual="gelu",
        tolerance=_SINGLE,
    ),
    Layout("keras-efficient-kan", _keras, "kernel spline knots"),
    _named(
        "torchkan",
        "spline_weights grid base_weights spline_scalers",
        "spline_weights base_weights grid",
        "layer_norms prelus",
        usual="gelu",
    ),
    Layout(
        "convkan, imodelsX KANGAM",
        _convkan,
        f"{_PAIR} grid",
        fits=lambda tensors: tensors["spline_weight"].dim() == 4,
    ),
    Layout("kanx", _kanx, f"{_PAIR} grid", fits=_transposed),
    _named(
        "torch-conv-kan",
        "spline_weight grid base_weight",
        f"{_PAIR} layer_norm.weight prelu.weight",
        "layer_norm prelu",
        _even,
        usual="gelu",
        tolerance=_SINGLE,
    ),
    Layout("inkan", _inkan, "weight grid_starts", tolerance=_SINGLE),
    _named(
        "flashkan",
        "spline_weight grid base_weight",
        f"{_PAIR} grid_starts",
        knots_of=_cubic,
        tolerance=math.inf,
    ),
    _named("LKAN", "coeff grid scale_base scale_spline bias", "coeff scale_base scale_spline grid"),
    _named(
        "KANLib",
        "coefficients basis.grid weight_residual weight_spline bias_output",
        "coefficients basis.grid",
    ),
    Layout("KANditioned", _kanditioned, "kan_weight", "local_bias feature_offset"),
    replace(_EFFICIENT_KAN, read=_own),
)
