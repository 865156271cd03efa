"""A model as sums of atoms, in float64: what every writer walks.

A sum of a layer is its bias, plus the rises of piecewise polynomials over the pieces to the left of
its inputs, plus weights times elementary functions of a straight line in one input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kanlens.functions.elementary import Array, ElementaryFunction
from kanlens.model.function_edge import FunctionEdge
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.products import Nodes
from kanlens.splines.pieces import Index


@dataclass(frozen=True, kw_only=True, eq=False)
class Splines:
    """The piecewise polynomials of a layer; those of one input share their breaks.

    Pieces are polynomials in the distance from where they start, the first in that from its end;
    first and last are straight. They are continuous, so the value at u is that at the first break
    plus what each piece rises by between its ends or up to u: no number is compared with another,
    and rounding cannot put one next to a break into a piece that it is not in.

    Attributes
    ----------
    breaks : ndarray, shape (in, break)
        Increasing.
    powers : ndarray, shape (in, break + 1, degree + 1, out)
        Coefficients of every piece, constant first.
    """

    breaks: Array
    powers: Array

    @property
    def degree(self) -> int:
        """Degree of the pieces."""
        return int(self.powers.shape[2]) - 1

    @property
    def matrix(self) -> Array:
        """What multiplies the columns of an input, shape (in, column, out).

        They are: how far it is below the first break (negative) and above the last, then, for each
        power from 1, how far it is beyond the start of every inner piece, to at most its width.
        """
        inner = self.powers[:, 1:-1, 1:].swapaxes(1, 2)  # (in, power, piece, out)
        tails = self.powers[:, [0, -1], 1]
        return np.concatenate([tails, inner.reshape(len(tails), -1, tails.shape[-1])], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """Columns ``g(a * u[input] + b)`` of one function g, and their weights (column, out)."""

    g: ElementaryFunction
    inputs: Index  # (column,)
    a: Array
    b: Array
    weights: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer: its atoms, and what its sums become.

    The bias holds the constants of all edges and the values of splines at their first break;
    `members` lists the sums that each node is the product of.
    """

    width: int  # number of inputs
    bias: Array  # (out,)
    splines: Splines | None
    terms: tuple[Terms, ...]
    members: list[list[int]]
    scale: Array  # (node,)
    shift: Array

    @property
    def plain(self) -> bool:
        """Whether nodes are neither scaled nor shifted."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A network without torch.

    `scaling` is where features are held (low, high), their shift and scale, and those of outputs.
    """

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    scaling: tuple[Array, ...]
    layers: tuple[Layer, ...]

    @cached_property
    def functions(self) -> Mapping[str, ElementaryFunction]:
        """Every elementary function in use, by name."""
        return {terms.g.name: terms.g for layer in self.layers for terms in layer.terms}


@torch.no_grad()
def describe(model: KAN) -> Description:
    """Describe a float64 network.

    Examples
    --------
    >>> description = describe(KAN([2, 3, 1]).double())
    >>> [layer.bias.shape for layer in description.layers], list(description.functions)
    ([(3,), (1,)], ['silu'])
    """
    inputs = (model.input_low, model.input_high, model.input_shift, model.input_scale)
    scaling = (*inputs, model.output_shift, model.output_scale)
    return Description(
        features=model.feature_names,
        outputs=model.output_names,
        scaling=tuple(buffer.numpy() for buffer in scaling),
        layers=tuple(map(_layer, model.layers, model.nodes)),
    )


def _layer(layer: KANLinear, nodes: Nodes) -> Layer:
    bias, size = layer.bias.numpy().copy(), nodes.grouping.nodes
    columns: dict[ElementaryFunction, dict[tuple[int, float, float], Array]] = {}
    splines: list[tuple[int, int, Any]] = []

    def add(g: ElementaryFunction, place: tuple[int, float, float], weights: Any) -> None:
        if g.line != 0.0:
            row = columns.setdefault(g, {}).setdefault(place, np.zeros(len(bias)))
            row += weights

    for term in layer.terms():
        for in_ in (term.weight != 0).any(0).nonzero()[:, 0].tolist():
            place = in_, float(term.a[in_]), float(term.b[in_])
            add(term.g, place, term.weight[:, in_].numpy())
    for out, in_ in layer.mask.nonzero().tolist():
        edge = layer.edge(out, in_)
        if isinstance(edge, FunctionEdge):
            bias[out] += edge.d
            add(edge.g, (in_, edge.a, edge.b), edge.c * (np.arange(len(bias)) == out))
        else:
            splines.append((out, in_, edge.to_scipy().spline))
    return Layer(
        width=layer.in_features,
        splines=_splines(splines, layer.in_features, bias),
        bias=bias,
        terms=tuple(_terms(g, rows) for g, rows in columns.items()),
        members=[list(nodes.grouping.members(node)) for node in range(size)],
        scale=nodes.scale.numpy() if nodes.scaled else np.ones(size),
        shift=nodes.shift.numpy() if nodes.scaled else np.zeros(size),
    )


def _splines(found: list[tuple[int, int, Any]], n_in: int, bias: Array) -> Splines | None:
    """Put splines (out, in, SciPy's) into arrays; add their values at the first break to `bias`."""
    if not any(spline.c.any() for _, _, spline in found):
        return None
    n_powers, n_pieces = found[0][2].c.shape
    breaks = np.tile(np.arange(n_pieces - 1.0), (n_in, 1))  # of inputs that no spline reads
    powers = np.zeros((n_in, n_pieces, n_powers, len(bias)))
    for out, in_, spline in found:
        breaks[in_] = spline.x[1:-1]
        powers[in_, :, :, out] = spline.c[::-1].T
        powers[in_, 0, 0, out] += powers[in_, 0, 1, out]  # SciPy's starts one unit before its end
        bias[out] += powers[in_, 0, 0, out]
    return Splines(breaks=breaks, powers=powers)


def _terms(g: ElementaryFunction, rows: dict[tuple[int, float, float], Array]) -> Terms:
    places = np.array(list(rows))  # (column, 3)
    inputs = places[:, 0].astype(np.int64)
    return Terms(
        g=g, inputs=inputs, a=places[:, 1], b=places[:, 2], weights=np.stack(list(rows.values()))
    )
