"""Functions for all analyses: checks and copies of models, ranges, batches that fit in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import find_place
from kanlens.errors import DTypeError, InvalidValueError, KanlensError, rewording
from kanlens.functions._elementary import Array
from kanlens.model._network import KAN

# Numbers in one chunk of an analysis; more do not fit the caches. At a time a few times as many are
# held, less than the least limit of memory that can be set (`kanlens._resources.MIN_LIMIT`).
BUDGET = 2**20
TAILS, FAR = 0.05, 100.0  # outliers: most at either end; least distance over the range of others
_DIVERGED = "The training diverged; train it again"
_REGRID = "Update the grid on data without repeated values and save again"
_RESCALE = "Use the spread of the data, or 1"
_REMASK = "Use 0 for a removed edge and 1 for any other"


class HasNetwork(Protocol):
    """A fitted estimator: `network_` is the KAN it predicts with."""

    @property
    def network_(self) -> KAN:
        """The network; refused before the estimator is fitted."""
        ...


Model: TypeAlias = KAN | HasNetwork


def held_network(call: str, model: Any) -> Any:
    """Return the network of a fitted estimator, or any other object unchanged."""
    if not hasattr(type(model), "network_"):
        return model
    with rewording(call):
        return model.network_


def check_model(call: str, model: object) -> KAN:
    """Return a KAN, or the one that a fitted estimator holds, with finite weights."""
    network = held_network(call, model)
    if not isinstance(network, KAN):
        got, advice = type(network).__name__, "Bring it in with {import_model} first"
        raise DTypeError(call, "a KAN", got, advice, import_model=None)
    check_weights(call, network)
    return network


def widest(model: KAN) -> int:
    """Return the largest number of inputs or sums of a layer."""
    return max(max(layer.in_features, layer.out_features) for layer in model.layers)


def rows_at_once(model: KAN) -> int:
    """Return the number of rows that a model can process at once within `BUDGET`."""
    return max(1, BUDGET // (16 * widest(model)))  # 16: basis functions of one input


def over_rows(
    function: Callable[[Tensor], Sequence[Tensor]], x: Tensor, at_once: int
) -> list[Tensor]:
    """Apply a function of rows (batch, ...) to chunks of rows; concatenate the results."""
    parts = x.split(at_once)
    first = function(parts[0])
    if len(parts) == 1:
        return list(first)
    results = [tensor.new_empty(len(x), *tensor.shape[1:]) for tensor in first]
    for start, part in zip(range(0, len(x), at_once), parts, strict=True):
        for result, tensor in zip(results, function(part) if start else first, strict=True):
            result[start : start + at_once] = tensor
    return results


@torch.no_grad()
def levels_of(model: KAN, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return `KAN.levels` of unscaled rows (batch, in), computed in chunks."""
    plain = [nodes.plain for nodes in model.nodes]

    def run(part: Tensor) -> list[Tensor]:
        levels, sums = model.levels(model.scale_inputs(part))
        return levels + [total for total, same in zip(sums, plain, strict=True) if not same]

    results = over_rows(run, x, rows_at_once(model))
    levels, others = results[: len(plain) + 1], iter(results[len(plain) + 1 :])
    ends = zip(levels[1:], plain, strict=True)
    return levels, [nodes if same else next(others) for nodes, same in ends]


def float64_copy(model: KAN) -> KAN:
    """Return a float64 copy with frozen parameters, without hooks, which may not be copyable."""
    parts = [part for module in model.modules() for part in vars(module).items()]
    memo: dict[int, Any] = {
        id(value): type(value)()  # copying them takes most of the time
        for name, value in parts
        if name.startswith("_") and "_hook" in name and isinstance(value, dict)
    }
    memo[id(model.schema)] = model.schema  # frozen
    clone: KAN = copy.deepcopy(model, memo)
    clone.requires_grad_(False)
    return clone.double().eval()


def reaching(model: KAN, target: int) -> list[Tensor]:
    """Return masks (out,) of the outputs of each layer that have a path to a target."""
    wanted = torch.arange(model.widths[-1], device=model.input_shift.device) == target
    masks: list[Tensor] = []
    for layer, nodes in zip(reversed(list(model.layers)), reversed(list(model.nodes)), strict=True):
        edges = layer.nonzero_edges()
        zero = (layer.bias == 0) & ~edges.any(1)  # (out,)
        read = wanted if nodes.additive else nodes.linked[wanted].any(0)  # (out,)
        if not nodes.normalized:  # not multiplied by a factor that is always zero
            read = read & (nodes.rates(1 - zero.to(layer.bias)) != 0)
        masks.append(read)
        wanted = (edges & read[:, None]).any(0)
    return masks[::-1]


def live_features(model: KAN, target: int) -> Tensor:
    """Return a mask (in,) of the features with a nonzero path to an output."""
    return (model.layers[0].nonzero_edges() & reaching(model, target)[0][:, None]).any(0)


def separates(model: KAN, target: int, features: Sequence[int]) -> bool:
    """Return whether an output is, by the structure, f(some features) + g(all others)."""
    reads = features_read(model, target)
    ours = reads.new_zeros(reads.shape[1])
    ours[list(features)] = True
    return not bool((reads[:, ours].any(1) & reads[:, ~ours].any(1)).any())


def features_read(model: KAN, target: int) -> Tensor:
    """Return masks (summand, in) of the features on which each summand of an output may depend."""
    reads = torch.eye(model.widths[0], dtype=torch.bool, device=model.input_shift.device)
    wanted = reaching(model, target)
    for layer, nodes, live in zip(model.layers, model.nodes, wanted[:-1], strict=False):
        sums = (layer.nonzero_edges() & live[:, None]).float() @ reads.float()  # (sub, in)
        reads = nodes.linked.float() @ sums > 0
    reads = reads[(model.layers[-1].nonzero_edges() & wanted[-1][:, None]).any(0)]
    return reads if target < model.nodes[-1].grouping.sums else reads.any(0, keepdim=True)


def find_node(model: KAN, layer: int, argument: str, node: int | str, *, call: str) -> int:
    """Return the index of one end of an edge: a node for `in_`, a node or factor for `out`."""
    if argument == "in_":
        names = [model.node_name(layer, unit) for unit in range(model.widths[layer])]
    else:
        count = model.layers[layer].out_features
        names = [model.subnode_name(layer, unit) for unit in range(count)]
    expected, advice = f"from 0 to {len(names) - 1} or a name", "Name a node of that layer"
    return find_place(call, expected, node, names, advice, argument=argument)


def check_layer(model: KAN, layer: Any, *, call: str) -> int:
    """Return the index of a layer; refuse one that the model does not have."""
    whole = isinstance(layer, int) and not isinstance(layer, bool)
    if whole and 0 <= layer < len(model.layers):
        return int(layer)
    expected, advice = f"from 0 to {len(model.layers) - 1}", "Layers are counted from 0"
    raise InvalidValueError(call, expected, repr(layer), advice, argument="layer")


def usual_range(values: Array) -> tuple[float, float]:
    """Return the range of some values without outliers."""
    away, ordered = int(TAILS * len(values)), np.sort(values)
    low, high = float(ordered[away]), float(ordered[-1 - away])
    room = FAR * (high - low) or np.inf
    usual = values[(values >= low - room) & (values <= high + room)]
    return float(usual.min()), float(usual.max())


def edge_units(model: KAN, layer: int, out: int, in_: int) -> tuple[float, float, float]:
    """Return shift and scale of an edge's input, and the factor of its value, in data units."""
    shift, scale, factor = 0.0, 1.0, 1.0
    nodes = model.nodes[layer]
    if layer == 0:
        shift, scale = float(model.input_shift[in_]), float(model.input_scale[in_])
    if layer == len(model.layers) - 1 and out < nodes.grouping.sums:
        factor = float(model.output_scale[out]) * (float(nodes.scale[out]) if nodes.scaled else 1.0)
    return shift, scale, factor


def check_weights(
    call: str, model: KAN, error: type[KanlensError] = InvalidValueError, *, place: str = ""
) -> None:
    """Refuse missing and non-finite weights; `place` is appended to names in the error."""
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
    """Refuse weights that are not finite, and invalid knots, scales, masks and ranges."""
    check_weights(call, model, error, place=place)
    for name, tensor in model.state_dict().items():
        fault = _fault(f"{name}{place}", name.rpartition(".")[2], tensor)
        if fault is not None:
            raise error(call, *fault)
    ends = model.input_low.tolist(), model.input_high.tolist()
    for name, low, high in zip(model.feature_names, *ends, strict=True):
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


@torch.no_grad()
def newton_steps(model: KAN, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return working errors (batch, out) in the units of the data, and weights of scaled ones."""
    scaling = model.output_shift, model.output_scale
    parts = (output - scaling[0]) / scaling[1], model.loss.scaled(y, scaling)
    sums, targets = (part.double().cpu().numpy() for part in parts)
    pairs = [
        model.loss.of_output(place).working(*own, np.ones(len(y)))
        for place, own in enumerate(zip(sums.T, targets.T, strict=True))
    ]
    weights, errors = torch.from_numpy(np.stack(pairs, 2)).to(output).unbind()
    return errors * scaling[1], weights
