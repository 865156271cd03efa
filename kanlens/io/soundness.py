"""Whether the numbers of a model that was read can be those of a network at all."""

from __future__ import annotations

import torch

from kanlens.checks import message
from kanlens.errors import KanlensError
from kanlens.model.network import KAN

_DIVERGED = "The training diverged; train it again"
_REGRID = "Update the grid on data without repeated values and save again"
_RESCALE = "Divide by what the data spreads over, or by 1"
_REMASK = "Use 0 for an edge that is gone and 1 for one that is there"


def check_sound(call: str, model: KAN, error: type[KanlensError], *, place: str = "") -> None:
    """Refuse weights that are not finite, knots that do not rise, scales of 0, other masks.

    Parameters
    ----------
    call : str
        The public call, for error messages.
    model : KAN
        Built and filled; edges that are masked count too, as masks can be undone.
    error : type
        What is raised.
    place : str
        Where the tensors are from, in words that follow their name.

    Raises
    ------
    KanlensError
        Of type `error`, for the first tensor that no network can have.

    Examples
    --------
    >>> from kanlens.errors import FileFormatError
    >>> check_sound("load", KAN([2, 1]), FileFormatError)
    """
    for name, tensor in model.state_dict().items():
        fault = _fault(f"{name}{place}", name.rpartition(".")[2], tensor)
        if fault is not None:
            raise error(message(call, *fault))
    for name, low, high in zip(
        model.feature_names, model.input_low.tolist(), model.input_high.tolist(), strict=True
    ):
        if low > high:
            expected, got = f"a range of {name!r} that rises{place}", f"{low:g} to {high:g}"
            raise error(message(call, expected, got, "Swap its ends in the file"))


def _fault(shown: str, kind: str, tensor: torch.Tensor) -> tuple[str, str, str] | None:
    """Word what is wrong with a tensor: expected, got, and what to do."""
    ends = kind in ("input_low", "input_high")  # infinite for a feature without a range
    bad = int((torch.isnan(tensor) if ends else ~torch.isfinite(tensor)).sum())
    if bad:
        got = f"{bad} of {tensor.numel()} that are NaN or infinite"
        return f"finite numbers in {shown}", got, _DIVERGED
    if kind == "grid" and not bool((tensor.diff(dim=1) > 0).all()):
        return f"{shown} to rise along each row", "equal or falling knots", _REGRID
    if kind in ("input_scale", "output_scale") and not bool((tensor != 0).all()):
        return f"{shown} without zeros", f"{int((tensor == 0).sum())} of them", _RESCALE
    if kind == "mask" and not bool(((tensor == 0) | (tensor == 1)).all()):
        other = float(tensor[(tensor != 0) & (tensor != 1)][0])
        return f"{shown} of zeros and ones", f"{other:g}", _REMASK
    return None
