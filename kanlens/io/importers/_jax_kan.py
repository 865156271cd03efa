"""jaxKAN: layers of every type, in memory or as dicts of arrays with grids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.io.importers._intermediate import Edges, Stage
from kanlens.io.importers._layout import Group, Layout
from kanlens.io.importers._order import join
from kanlens.io.importers._pickle_stubs import class_of
from kanlens.io.importers._polynomials import in_chebyshev
from kanlens.io.importers._pykan import on_shared_knots
from kanlens.io.importers._series import bumps, series_edges, waves
from kanlens.io.importers._settings import refuse
from kanlens.io.importers._splines import spline_edges

_BESIDE = {"base": "c_res", "bias": "bias"}


def _layer(group: Group) -> list[Stage]:
    flat = group.source.state[join(group.name, "c_basis")].dim() == 2
    basis = group.get("c_basis", *[None] * (2 if flat else 3))
    scale = group.find("c_ext", *basis.shape[:2])
    basis = basis if scale is None else basis * scale[..., None]
    if "omega" in group:
        return [_sine(group, basis)]
    kind = class_of(group.source.owner(group.name)).lower().removesuffix("layer")
    if flat or kind == "rbf" or "grid" in group or "c_spl" in group:
        return [_on_grid(group, basis)]
    kind = group.setting("layer_type", kind if kind in ("chebyshev", "legendre") else None)
    if "bias" in group:  # which stands for the constant
        basis = torch.nn.functional.pad(basis, (1, 0))
    return [in_chebyshev(group, "cheby" if kind == "chebyshev" else kind, basis, **_BESIDE)]


def _on_grid(group: Group, basis: Tensor) -> Edges:
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


def _sine(group: Group, basis: Tensor) -> Edges:
    """Return sines with mean 0 and variance 1 on a normal distribution."""
    n = basis.shape[2]
    w, p = (group.get(name, n, 1)[:, 0] for name in ("omega", "phase"))
    mean = torch.exp(-0.5 * w**2) * torch.sin(p)
    spread = (0.5 * (1 - torch.exp(-2 * w**2) * torch.cos(2 * p)) - mean**2).sqrt() + 1e-8
    edges = series_edges(group, ("sin",) * n, basis / spread, w, p, **_BESIDE)
    return edges.shifted(-(basis * mean / spread).sum((1, 2)))


def _fourier(group: Group) -> list[Stage]:
    both = torch.stack([group.get(name, None, None, None) for name in ("c_cos", "c_sin")])
    return [waves(group, both, bias="bias")]


LAYOUTS = (
    Layout("jaxKAN", _layer, "c_basis", tolerance=1e-6),
    Layout("jaxKAN Fourier", _fourier, "c_cos c_sin", tolerance=1e-6),
)
