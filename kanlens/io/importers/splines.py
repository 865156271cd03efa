"""Libraries whose edges are B-splines with a base function, each with names and axes of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.io.importers.layouts import Group, Layout, Tensors
from kanlens.io.importers.settings import CALL
from kanlens.io.importers.stages import Edges, Norm, Stage, leaky, uniform
from kanlens.splines.spline import extend


def spline_edges(
    group: Group, base: Tensor, spline: Tensor, knots: Tensor, **others: Tensor | None
) -> Edges:
    """Return edges of splines with a base function, as the module or the caller says, or SiLU."""
    return Edges(
        name=group.name,
        base=base,
        activation=group.base(),
        spline=spline,
        knots=knots,
        extrapolation=group.options.extrapolation or "zero",
        **others,  # type: ignore[arg-type]
    )


def _lkan(group: Group) -> list[Stage]:
    spline = group.get("coeff", None, None, None)
    n_out, n_in, _ = spline.shape
    base = group.get("scale_base", n_out, n_in)
    shape = (1,) if group.tensors["scale_spline"].dim() == 1 else (n_out, n_in)
    scaler = group.get("scale_spline", *shape).expand(n_out, n_in)
    bias, knots = group.find("bias", n_out), group.get("grid", n_in, None)
    return [spline_edges(group, base, spline, knots, scaler=scaler, bias=bias)]


def _kanlib(group: Group) -> list[Stage]:
    spline = group.get("coefficients", None, None, None)
    n_out, n_in, _ = spline.shape
    base = group.find("weight_residual", n_out, n_in)
    base = spline.new_zeros(n_out, n_in) if base is None else base
    scaler, bias = group.find("weight_spline", n_out, n_in), group.find("bias_output", n_out)
    knots = group.get("basis.grid", n_in, None)
    return [spline_edges(group, base, spline, knots, scaler=scaler, bias=bias)]


def _kanx(group: Group) -> list[Stage]:
    base = group.get("base_weight", None, None)
    n_in, n_out = base.shape
    spline, cuts = group.get("spline_weight", n_in, n_out, None), group.get("grid", n_in, None)
    knots = extend(cuts, spline.shape[2] - cuts.shape[1] + 1)
    return [spline_edges(group, base.T, spline.transpose(0, 1), knots)]


def _cubic(group: Group, base: Tensor, spline: Tensor) -> list[Stage]:
    """Return edges of cubic B-splines that start at even places."""
    starts = group.get("grid_starts", spline.shape[2])
    low, count = starts[0].double(), len(starts) + 4
    step = (starts[-1].double() - low) / (len(starts) - 1)
    knots = low + step * torch.arange(count, dtype=torch.float64, device=starts.device)
    return [spline_edges(group, base, spline, knots.to(starts).expand(spline.shape[1], -1))]


def _flashkan(group: Group) -> list[Stage]:
    spline = group.get("spline_weight", None, None, None)
    return _cubic(group, group.get("base_weight", *spline.shape[:2]), spline)


def _inkan(group: Group) -> list[Stage]:
    weight, count = group.get("weight", None, None), len(group.get("grid_starts", None))
    n_in, rest = divmod(weight.shape[1], count + 1)
    if rest:
        expected = f"edges of one input each in layer {group.name!r} of inkan"
        got = f"weights of shape {tuple(weight.shape)} for {count} functions: surfaces (dim=2)"
        raise InvalidValueError(message(CALL, expected, got, "Train it with dim=1"))
    spline = weight[:, : n_in * count].reshape(len(weight), n_in, count)
    return _cubic(group, weight[:, n_in * count :], spline)


def _kanditioned(group: Group) -> list[Stage]:
    """Return hat functions on even points, which the end pieces continue straight."""
    values = group.get("kan_weight", None, None, None)
    n_in, count, n_out = values.shape
    half = group.setting("spline_width") / 2
    edges = Edges(
        name=group.name,
        base=values.new_zeros(n_out, n_in),
        activation="zero",
        spline=values.permute(2, 0, 1),
        knots=uniform(-half, half, count - 1, 1, values, n_in),
        extrapolation=group.options.extrapolation or "linear",
    )
    return [edges]


def _grouped(tensors: Tensors) -> bool:
    return tensors["spline_weight"].dim() == 4


def _convkan(group: Group) -> list[Stage]:
    """Return the KAN on a patch, in the order of ``F.unfold``; groups see their own channels."""
    spline = group.get("spline_weight", None, None, None, None)
    groups, n_out, n_in, count = spline.shape
    base, knots = group.get("base_weight", *spline.shape[:3]), group.get("grid", groups, n_in, None)
    scaler = group.find("spline_scaler", *spline.shape[:3])
    full = spline.new_zeros(groups, n_out, groups, n_in, count)
    each = torch.arange(groups)
    full[each, :, each] = spline
    full = full.reshape(groups * n_out, groups * n_in, count)
    mask = torch.block_diag(*torch.ones_like(base))
    scales = None if scaler is None else torch.block_diag(*scaler)
    base = torch.block_diag(*base)
    return [spline_edges(group, base, full, knots.flatten(0, 1), scaler=scales, mask=mask)]


def _torch_conv_kan(group: Group) -> list[Stage]:
    spline = group.get("spline_weight", None, None, None)
    n_out, n_in, count = spline.shape
    order = group.setting("spline_order")
    low, high = group.setting("grid_range")
    knots = uniform(low, high, count - order, order, spline, n_in)
    edges = spline_edges(group, group.get("base_weight", n_out, n_in), spline, knots)
    return [edges, *_normed(group, n_out, "layer_norm", "prelu")]


def _torchkan(group: Group) -> list[Stage]:
    spline = group.get("spline_weights", None, None, None)
    base, knots = (
        group.get("base_weights", *spline.shape[:2]),
        group.get("grid", spline.shape[1], None),
    )
    scaler = group.find("spline_scalers", *spline.shape[:2])
    edges = spline_edges(group, base, spline, knots, scaler=scaler)
    return [edges, *_normed(group, len(spline), "layer_norms", "prelus")]


def _normed(group: Group, width: int, norm: str, prelu: str) -> list[Stage]:
    """Return the normalization of the sums and the function of these, if there are any."""
    weight, bias = (group.find(f"{norm}.{name}", width) for name in ("weight", "bias"))
    if weight is None or bias is None:
        return []
    slope = group.get(f"{prelu}.weight", 1)
    return [Norm(weight=weight, bias=bias), leaky(f"{group.name}.{prelu}", slope, width)]


def _transposed(tensors: Tensors) -> bool:
    """Tell whether weights are (in, out) and knots those between the ends of the grid."""
    base, spline, grid = (tensors[name] for name in ("base_weight", "spline_weight", "grid"))
    if (base.dim(), spline.dim(), grid.dim()) != (2, 3, 2):
        return False
    return len(base) == len(grid) == len(spline) and grid.shape[1] <= spline.shape[2]


_PAIR = "base_weight spline_weight"
_SINGLE = 1e-6  # where a float64 module has places that were made in float32
LAYOUTS = (
    Layout(
        "torchkan",
        _torchkan,
        "spline_weights base_weights grid",
        "spline_scalers layer_norms.weight layer_norms.bias prelus.weight",
        base="gelu",
    ),
    Layout("convkan, imodelsX KANGAM", _convkan, f"{_PAIR} grid", "spline_scaler", _grouped),
    Layout("kanx", _kanx, f"{_PAIR} grid", "", _transposed),
    Layout(
        "torch-conv-kan",
        _torch_conv_kan,
        f"{_PAIR} layer_norm.weight prelu.weight",
        "layer_norm.bias",
        base="gelu",
        tolerance=_SINGLE,
    ),
    Layout("inkan", _inkan, "weight grid_starts", tolerance=_SINGLE),
    Layout("flashkan", _flashkan, f"{_PAIR} grid_starts", tolerance=math.inf),
    Layout("LKAN", _lkan, "coeff scale_base scale_spline grid", "bias"),
    Layout(
        "KANLib", _kanlib, "coefficients basis.grid", "weight_spline weight_residual bias_output"
    ),
    Layout("KANditioned", _kanditioned, "kan_weight", "local_bias feature_offset"),
)
