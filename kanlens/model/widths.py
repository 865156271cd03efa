"""The widths users write: whole numbers, and pairs for layers that multiply."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from kanlens.checks import message
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.model.products import Grouping, Nodes

if TYPE_CHECKING:
    from kanlens.model.config import KANConfig

    Width: TypeAlias = int | tuple[int, int | Sequence[int]] | Sequence[int]


def read_widths(widths: Any) -> tuple[int, tuple[Grouping, ...]]:
    """Return the number of features, and the grouping of every layer's outputs.

    Parameters
    ----------
    widths : sequence of int or pair
        ``(3, 2)`` are 3 sums and 2 products of two, ``(3, [2, 3])`` gives the arities.

    Raises
    ------
    InvalidValueError
        If they are no such widths.

    Examples
    --------
    >>> read_widths([2, (3, 2), 1])
    (2, (Grouping(sums=3, arities=(2, 2)), Grouping(sums=1, arities=())))
    """
    entries = list(widths) if isinstance(widths, Iterable) else []
    groups = [_grouping(entry) for entry in entries]
    known = [group for group in groups if group is not None]
    if len(entries) < 2 or len(known) < len(groups) or not _is_count(entries[0]):
        expected = "widths of at least two whole numbers of at least 1"
        raise InvalidValueError(message("KAN", expected, repr(widths), "For example [4, 5, 1]"))
    return known[0].sums, tuple(known[1:])


def _grouping(entry: Any) -> Grouping | None:
    """Return the grouping of one layer; None when the entry is neither a number nor a pair."""
    if not isinstance(entry, (tuple, list)):
        return Grouping(int(entry)) if _is_count(entry) else None
    sums: Any
    products: Any
    sums, products = entry if len(entry) == 2 else (None, None)
    if _is_count(products, least=0):
        products = [2] * int(products)
    listed = isinstance(products, (tuple, list)) and all(_is_count(one, 0) for one in products)
    if not _is_count(sums, least=0) or not listed:
        expected = "a layer that multiplies as a pair of its sums and products"
        advice = "Write (3, 2) for 3 sums and 2 products of two, (3, [2, 3]) for other arities"
        raise InvalidValueError(message("KAN", expected, repr(entry), advice))
    if any(arity < 2 for arity in products):
        expected, advice = "products of at least two factors", "One factor alone is a sum"
        raise InvalidValueError(message("KAN", expected, repr(entry), advice))
    found = Grouping(int(sums), tuple(int(arity) for arity in products))
    if not found.nodes:
        advice = "Give the layer a sum or a product"
        raise InvalidValueError(message("KAN", "at least one node in a layer", repr(entry), advice))
    return found


def _is_count(value: Any, least: int = 1) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and value >= least


def check_config(config: KANConfig, kinds: Collection[str]) -> tuple[Grouping, ...]:
    """Return the grouping of every layer of a configuration.

    Raises
    ------
    FileFormatError
        If a layer is of none of the `kinds`, or its layers do not fit together.
    """
    unknown = [layer.kind for layer in config.layers if layer.kind not in kinds]
    if unknown or not config.layers:
        expected = f"layers of kind {', '.join(sorted(kinds))}"
        got = repr(unknown[0]) if unknown else "none"
        raise FileFormatError(message("KAN.from_config", expected, got, "Upgrade kanlens"))
    arities = [nodes.arities for nodes in config.nodes] or [()] * len(config.layers)
    if len(arities) != len(config.layers):
        got = f"{len(arities)} for {len(config.layers)} layers"
        raise _unfit("nodes of every layer", got)
    groups = []
    for layer, found in zip(config.layers, arities, strict=True):
        group = Grouping(layer.out_features - sum(found), tuple(found))
        if group.sums < 0 or not group.nodes or any(arity < 2 for arity in found):
            got = f"products of {list(found)} from {layer.out_features} outputs"
            raise _unfit("products of at least two of a layer's outputs", got)
        groups.append(group)
    inputs = [len(config.schema.features), *(group.nodes for group in groups)]
    outputs = [*(layer.in_features for layer in config.layers), len(config.schema.outputs)]
    if inputs != outputs:
        raise _unfit("layers that fit together", f"widths {outputs} after {inputs}")
    return tuple(groups)


def make_nodes(config: KANConfig, groups: Sequence[Grouping]) -> list[Nodes]:
    """Return nodes for every layer of a configuration; their scales are ones until loaded."""
    scaled = [one.scaled for one in config.nodes] or [False] * len(groups)
    return [Nodes(group, scaled=one) for group, one in zip(groups, scaled, strict=True)]


def check_nodes(
    layers: Sequence[Any], nodes: Sequence[Nodes] | None, n_outputs: int
) -> Sequence[Nodes]:
    """Return the nodes of layers, plain sums when there are none.

    Raises
    ------
    InvalidValueError
        If the numbers of their subnodes and nodes are not those of the layers.
    """
    if nodes is None:
        return [Nodes(Grouping(layer.out_features)) for layer in layers]
    inputs = [layer.in_features for layer in layers][1:]
    expected = list(zip((lay.out_features for lay in layers), [*inputs, n_outputs], strict=True))
    got = [(one.grouping.subnodes, one.grouping.nodes) for one in nodes]
    if got != expected:
        text = f"nodes of {_pairs(expected)} (subnodes, nodes)"
        advice = "Give one per layer, as its outputs and the next layer's inputs ask"
        raise InvalidValueError(message("KAN.from_layers", text, _pairs(got) or "none", advice))
    return nodes


def _pairs(numbers: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(pair) for pair in numbers)


def _unfit(expected: str, got: str) -> FileFormatError:
    return FileFormatError(message("KAN.from_config", expected, got, "Save the model again"))


def layer_sizes(n_in: int, groups: Sequence[Grouping]) -> list[tuple[int, int]]:
    """Return the number of inputs and outputs of every layer.

    Examples
    --------
    >>> layer_sizes(2, [Grouping(3, (2, 2)), Grouping(1)])
    [(2, 7), (5, 1)]
    """
    levels = [n_in, *(group.nodes for group in groups)]
    outs = [group.subnodes for group in groups]
    return [(in_, out) for (in_, _), out in zip(itertools.pairwise(levels), outs, strict=True)]
