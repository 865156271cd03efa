"""Checks of a model's tensors: finite values, and properties of every network."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.errors import InvalidValueError, KanlensError
from kanlens.model._network import KAN

_DIVERGED = "The training diverged; train it again"
_REGRID = "Update the grid on data without repeated values and save again"
_RESCALE = "Divide by what the data spreads over, or by 1"
_REMASK = "Use 0 for an edge that is gone and 1 for one that is there"


def check_weights(
    call: str, model: KAN, error: type[KanlensError] = InvalidValueError, *, place: str = ""
) -> None:
    """Refuse tensors without values, on the meta device, and values that are not finite.

    The error is of the type given; `place` follows the names in it.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            expected, got = f"values in {name}{place}", "a tensor on the meta device"
            raise error(call, expected, got, "Load the weights into the model first")
        ends = name in ("input_low", "input_high")  # infinite for a feature without a range
        bad = torch.isnan(tensor) if ends else ~torch.isfinite(tensor)
        if bool(bad.any()):
            got = f"{int(bad.sum())} of {tensor.numel()} that are NaN or infinite"
            raise error(call, f"finite numbers in {name}{place}", got, _DIVERGED)


def check_sound(call: str, model: KAN, error: type[KanlensError], *, place: str = "") -> None:
    """Refuse the first invalid tensor, with an error of the type given.

    These are weights that are not finite, knots that do not increase, scales of 0 and masks of
    other numbers than 0 and 1; of masked edges too, as masks can be undone. `place` follows their
    names.
    """
    check_weights(call, model, error, place=place)
    for name, tensor in model.state_dict().items():
        fault = _fault(f"{name}{place}", name.rpartition(".")[2], tensor)
        if fault is not None:
            raise error(call, *fault)
    for name, low, high in zip(
        model.feature_names, model.input_low.tolist(), model.input_high.tolist(), strict=True
    ):
        if low > high:
            expected, got = f"a range of {name!r} that rises{place}", f"{low:g} to {high:g}"
            raise error(call, expected, got, "Swap its ends in the file")


def _fault(shown: str, kind: str, tensor: Tensor) -> tuple[str, str, str] | None:
    """Describe why a tensor is invalid: expected, got, and advice; None if it is valid."""
    if kind == "grid" and not bool((tensor.diff(dim=1) > 0).all()):
        return f"{shown} to rise along each row", "equal or falling knots", _REGRID
    if kind in ("input_scale", "output_scale") and not bool((tensor != 0).all()):
        return f"{shown} without zeros", f"{int((tensor == 0).sum())} of them", _RESCALE
    if kind == "mask" and not bool(((tensor == 0) | (tensor == 1)).all()):
        other = float(tensor[(tensor != 0) & (tensor != 1)][0])
        return f"{shown} of zeros and ones", f"{other:g}", _REMASK
    return None
