"""efficient-kan: its tensors are kanlens' own, under any prefix, in one layer or a row of them.

From ``spline_weight`` (out, in, n) and ``grid`` (in, m), spline_order = m - n - 1 and
grid_size = n - spline_order. Not stored are the base activation and what happens outside the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from kanlens.io.importers.layouts import (
    Group,
    Layout,
    Tensors,
    checked,
    importer,
    join,
    row,
    stem_of,
)
from kanlens.io.importers.settings import ImportOptions
from kanlens.io.importers.source import Source
from kanlens.io.importers.stages import Edges, Stage, network
from kanlens.model.network import KAN

SCALING = ("input_shift", "input_scale", "output_shift", "output_scale")
RANGE = ("input_low", "input_high")  # infinite where a feature has none


def convert(source: Source, options: ImportOptions) -> KAN:
    """Make a KAN of the layers of efficient-kan; same outputs, also outside the grid."""
    scaling = _scaling(source.state)
    model = network(row(source, options, LAYOUT, scaling), options)
    for key, tensor in scaling.items():
        name = key.rpartition(".")[2]
        width = model.widths[0] if name.startswith("input_") else model.widths[-1]
        getattr(model, name).copy_(checked(key, tensor, width))
    model.holds_inputs = bool(model.input_low.isfinite().any())
    return model


def read(group: Group) -> list[Stage]:
    """Return the edges of one layer."""
    spline = group.get("spline_weight", None, None, None)
    n_out, n_in, _ = spline.shape
    given = group.known("extrapolation")
    if not isinstance(given, str):
        given = "linear" if "mask" in group.tensors else "zero"  # only kanlens has masks
    eps = group.known("grid_eps")
    edges = Edges(
        name=group.name,
        base=group.get("base_weight", n_out, n_in),
        activation=group.base(),
        spline=spline,
        knots=group.get("grid", n_in, None),
        scaler=group.find("spline_scaler", n_out, n_in),
        bias=group.find("bias", n_out),
        mask=group.find("mask", n_out, n_in),
        extrapolation=group.options.extrapolation or given,
        grid_eps=float(eps) if isinstance(eps, int | float) else 0.02,
    )
    return [edges]


def _scaling(state: Mapping[str, Tensor]) -> Tensors:
    """Return scaling and range of the inputs of a kanlens network; empty for other networks."""
    stem = stem_of(next(iter(LAYOUT.groups(state))))  # "model.layers" of "model.layers.0"
    own, _, last = stem.rpartition(".")
    if last != "layers" or not all(join(own, name) in state for name in SCALING):
        return {}
    names = [join(own, name) for name in SCALING + RANGE]
    return {name: state[name] for name in names if name in state}


LAYOUT = Layout("efficient-kan", read, "base_weight spline_weight", "grid spline_scaler bias mask")
EFFICIENT_KAN = replace(importer(LAYOUT), convert=convert)
matches = EFFICIENT_KAN.matches
