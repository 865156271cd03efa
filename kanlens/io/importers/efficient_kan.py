"""efficient-kan: its tensors are kanlens' own, under any prefix, in one layer or a row of them.

From ``spline_weight`` (out, in, n) and ``grid`` (in, m), spline_order = m - n - 1 and
grid_size = n - spline_order. Not stored are the base activation and what happens outside the grid.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kanlens.checks import message, reworded
from kanlens.data.schema import default_schema
from kanlens.errors import DTypeError, InvalidValueError, KanlensError, ShapeError
from kanlens.functions.catalog import base_name
from kanlens.io.importers.source import CALL, Importer, ImportOptions, Source
from kanlens.model.config import LayerConfig
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN

REQUIRED = ("base_weight", "spline_weight", "grid")
OPTIONAL = ("spline_scaler", "bias", "mask")
SCALING = ("input_shift", "input_scale", "output_shift", "output_scale")
RANGE = ("input_low", "input_high")  # infinite where a feature has none
_INDEXED = re.compile(r"(?:(.*)\.)?([0-9]{1,6})")

Tensors = dict[str, Tensor]


def matches(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict holds layers of efficient-kan."""
    return bool(_layers(state))


def convert(source: Source, options: ImportOptions) -> KAN:
    """Make a KAN of the layers of efficient-kan; same outputs, also outside the grid."""
    groups = _layers(source.state)
    parents = _in_order(groups, source.name)
    scaling = _scaling(source.state, parents)
    _refuse_others(source, groups, scaling)
    configs = [_config(source, parent, groups[parent], options) for parent in parents]
    for (name, one), (following, two) in itertools.pairwise(zip(parents, configs, strict=True)):
        if one.out_features != two.in_features:
            expected = f"{following} to take the {one.out_features} outputs of {name}"
            advice = "The layers are not of one network; pass one at a time"
            raise ShapeError(message(CALL, expected, f"{two.in_features} inputs", advice))
    for key, tensor in scaling.items():
        width = configs[0].in_features if "input_" in key else configs[-1].out_features
        _check_tensor(key, tensor, (width,))
    return _assembled(source, parents, configs, options)


def _assembled(
    source: Source, parents: list[str], configs: list[LayerConfig], options: ImportOptions
) -> KAN:
    """Build the network and copy the tensors, which are known to fit, into it."""
    groups, scaling = _layers(source.state), _scaling(source.state, parents)
    found = [tensor for parent in parents for tensor in groups[parent].values()]
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in found))
    n_in, n_out = configs[0].in_features, configs[-1].out_features
    names = {"feature_names": options.feature_names, "output_names": options.output_names}
    try:
        schema = default_schema(n_in, n_out, **names)
    except KanlensError as error:
        raise reworded(CALL, error) from error
    layers = []
    for parent, config in zip(parents, configs, strict=True):
        layer = KANLinear.from_config(config).to(dtype=dtype, device=found[0].device)
        layer.load_state_dict({**layer.state_dict(), **groups[parent]})
        layers.append(layer)
    model = KAN.from_layers(layers, schema)
    model.scaled = True  # trained as it is: a later fit must not scale it anew
    for key, tensor in scaling.items():
        getattr(model, key.rpartition(".")[2]).copy_(tensor.detach())
    model.holds_inputs = bool(model.input_low.isfinite().any())
    return model


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _layers(state: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """Return the tensors of every layer by the layer's name in front of theirs."""
    groups: dict[str, Tensors] = {}
    for key, tensor in state.items():
        parent, _, name = key.rpartition(".")
        if name in REQUIRED + OPTIONAL:
            groups.setdefault(parent, {})[name] = tensor
    marks = ("base_weight", "spline_weight")
    return {key: group for key, group in groups.items() if all(name in group for name in marks)}


def _in_order(groups: dict[str, Tensors], name: str) -> list[str]:
    """Return the names of the layers from input to output: one layer, or numbered ones."""
    parts = {parent: _INDEXED.fullmatch(parent) for parent in groups}
    if len(parts) == 1 and None in parts.values():
        return list(parts)
    stems = {part[1] if part else parent for parent, part in parts.items()}
    if None in parts.values() or len(stems) > 1:
        shown = ", ".join(repr(parent) for parent in sorted(parts)[:4])
        got = f"layers {shown}{', ...' if len(parts) > 4 else ''}"
        advice = "Pass the part of the model that is one KAN"
        raise InvalidValueError(message(CALL, f"one KAN in {name}", got, advice))
    order = sorted((int(part[2]), parent) for parent, part in parts.items() if part)
    if [index for index, _ in order] != list(range(len(order))):
        got = ", ".join(str(index) for index, _ in order[:8])
        expected = f"layers in {name} to be numbered from 0 without gaps"
        raise InvalidValueError(message(CALL, expected, got, "Pass every layer of the KAN"))
    return [parent for _, parent in order]


def _scaling(state: Mapping[str, Tensor], parents: list[str]) -> Tensors:
    """Return scaling and range of the inputs of a kanlens network; empty for other networks."""
    stem = parents[0].rpartition(".")[0]  # "model.layers" of "model.layers.0"
    if stem.rpartition(".")[2] != "layers":
        return {}
    own = stem.rpartition(".")[0]
    if not all(_join(own, name) in state for name in SCALING):
        return {}
    names = [_join(own, name) for name in SCALING + RANGE]
    return {name: state[name] for name in names if name in state}


def _refuse_others(source: Source, groups: dict[str, Tensors], scaling: Tensors) -> None:
    known = {_join(parent, name) for parent, group in groups.items() for name in group}
    others = [key for key in source.state if key not in known and key not in scaling]
    if others:
        shown = ", ".join(repr(key) for key in others[:3])
        expected = f"only layers of a KAN in {source.name}"
        got = f"{len(others)} other tensor{'s' if len(others) > 1 else ''} ({shown})"
        if len(others) > 3:
            got = f"{got[:-1]}, ...)"
        advice = "Pass the part of the model that is the KAN"
        raise InvalidValueError(message(CALL, expected, got, advice))


def _config(source: Source, parent: str, tensors: Tensors, options: ImportOptions) -> LayerConfig:
    """Check the tensors of one layer and read its configuration off their shapes."""
    if "grid" not in tensors:
        advice = "Save the whole state dict, buffers included"
        expected = f"a tensor {_join(parent, 'grid')} in {source.name}"
        raise ShapeError(message(CALL, expected, "none", advice))
    _check_tensor(_join(parent, "spline_weight"), tensors["spline_weight"], (None, None, None))
    n_out, n_in, n_basis = tensors["spline_weight"].shape
    shapes: dict[str, tuple[int | None, ...]] = {"grid": (n_in, None), "bias": (n_out,)}
    for name, tensor in tensors.items():
        if name != "spline_weight":
            _check_tensor(_join(parent, name), tensor, shapes.get(name, (n_out, n_in)))
    order = tensors["grid"].shape[1] - n_basis - 1
    if min(n_out, n_in) < 1 or order not in range(1, 6) or n_basis - order < 1:
        expected = f"a layer {parent!r} with splines of degree 1 to 5" if parent else _DEGREES
        got = f"{n_out} x {n_in} splines of degree {order} on {n_basis - order} intervals"
        raise ShapeError(message(CALL, expected, got, "Train it with another spline_order"))
    own = _submodule(source, parent)
    return LayerConfig(
        kind=KANLinear.kind,
        in_features=n_in,
        out_features=n_out,
        grid_size=n_basis - order,
        spline_order=order,
        base_activation=_base_name(own, options),
        extrapolation=_extrapolation(own, tensors, options),
        grid_eps=_grid_eps(own),
        enable_standalone_scale_spline="spline_scaler" in tensors,
    )


_DEGREES = "splines of degree 1 to 5"


def _check_tensor(key: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """Refuse another shape (None: any length), integers, and tensors without data."""
    fits = tensor.dim() == len(shape) and all(
        want in (None, size) for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        words = ", ".join("any" if size is None else str(size) for size in shape)
        expected = f"{key} of shape ({words}{',' if len(shape) == 1 else ''})"
        advice = "The tensors are not those of one layer; save the model again"
        raise ShapeError(message(CALL, expected, str(tuple(tensor.shape)), advice))
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.is_floating_point():
        got = "no data" if tensor.is_meta else str(tensor.dtype)
        expected = f"{key} to be a dense tensor of floating dtype"
        raise DTypeError(message(CALL, expected, got, "Save the model in float32 or float64"))


def _submodule(source: Source, parent: str) -> Any:
    try:
        return source.module.get_submodule(parent) if source.module is not None else None
    except AttributeError:  # state-dict hooks may rename
        return None


def _base_name(own: Any, options: ImportOptions) -> str:
    given = options.base_activation
    if given is None:
        given = getattr(own, "base_name", None) or getattr(own, "base_activation", None)
    return base_name("silu" if given is None else given, call=CALL)


def _grid_eps(own: Any) -> float:
    given = getattr(own, "grid_eps", None)
    return float(given) if isinstance(given, int | float) else 0.02


def _extrapolation(own: Any, tensors: Tensors, options: ImportOptions) -> str:
    given = options.extrapolation or getattr(own, "extrapolation", None)
    if isinstance(given, str):
        return given
    return "linear" if "mask" in tensors else "zero"  # only kanlens has masks


EFFICIENT_KAN = Importer(
    library="efficient-kan",
    layout="layers.0.base_weight, layers.0.spline_weight, layers.0.grid",
    matches=matches,
    convert=convert,
)
