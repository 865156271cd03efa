"""What all coalitions of some players are worth, where a layer of splines adds up the nodes.

A coalition S has the players of S from a sample and all others from a background row; each player
moves each node by a step of its own. Worth is summed over nodes and over background rows in one
pass, so that nothing as long as coalitions times pairs is ever kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from kanlens.functions.elementary import Array
from kanlens.model import kernels
from kanlens.model.kernels import pool

if TYPE_CHECKING:
    from kanlens.model.kernels.local_basis import LocalBasis
    from kanlens.model.layers import KANLinear
    from kanlens.model.products import Nodes

WORK = 3.0  # nanoseconds of one function at one point
TORCH, COMPILING = 200, 2.0  # times as long takes torch; seconds of compiling, as measured
MOST_BINS = 1024  # per node; a grid more uneven than that is searched in more steps
SLACK = 1e-9  # of a bin: rounding may put a point into the bin beside its own


def coalition_worths(
    ours: Tensor, theirs: Tensor, start: Tensor, nodes: Nodes, layer: KANLinear
) -> Tensor | None:
    """Return the worth of all coalitions, or None where torch operations must find it.

    What each player adds to each sum is (batch, sub, player) in the samples and (rows, sub, player)
    in the background rows, whose sums are `start` (rows, sub). The worths (batch, 2 ** player) are
    means over rows, the bias of the layer, which has one output, left out; bit p of a coalition's
    place tells whether player p is in it.
    """
    able = layer.splines_alone and kernels.can_run_double(ours)  # and a base that it knows
    able = able and (layer.base_name in ("silu", "zero") or not layer.base_weights().any())
    layers = layer, ours, layer.grid, layer.weights()
    basis = kernels.local_basis_of(*layers) if able else None
    if basis is None:
        return None
    from kanlens.attribution.shapley.coalition_loops import add_worths
    from kanlens.model.kernels.compiling import flat, is_worth

    batch, sums, players = ours.shape
    totals = ours.new_zeros(batch, 2**players)
    silu = layer.base_name == "silu"
    base = layer.base_weights()[0] if silu else ours.new_zeros(layer.in_features)
    sources = tuple(flat(each.contiguous()) for each in (ours, theirs, start))
    sizes, window = (len(theirs), sums, players), (0,) * (layer.spline_order + 1)
    curves = tuple(_curves(layer, basis)), flat(base.contiguous()), sizes, window
    work = WORK * totals.numel() * len(theirs) * sums
    arguments = (*sources, flat(totals), _ends(nodes), *curves)
    if not is_worth(add_worths, arguments, TORCH * work, COMPILING):
        return None
    pool.share(add_worths, arguments, batch, work)
    return totals / len(theirs)


def _ends(nodes: Nodes) -> tuple[Array, Array, Array]:
    """Return where the sums of each node end, and its scale and shift, each of shape (node,)."""
    grouping = nodes.grouping
    ends = np.cumsum([1] * grouping.sums + list(grouping.arities))
    if nodes.scaled:
        return ends, nodes.scale.numpy(), nodes.shift.numpy()
    return ends, np.ones(len(ends)), np.zeros(len(ends))


class _Curves(NamedTuple):
    """The functions of a layer's first output as polynomials, piece by piece, as flat arrays.

    `numbers` (node, piece, degree + 3) are origin and scale of the coordinate u of each piece, then
    the coefficients of u's powers; `starts` (node, piece) is where the next piece begins, infinity
    for the last. The line is cut evenly into bins: ``(x - low) * density`` (node,) is that of x,
    `bins` (node, bin) the first piece that each touches, and `hops` the most knots in one.
    """

    numbers: Array
    starts: Array
    bins: Array
    low: Array
    density: Array
    pieces: int
    n_bins: int
    hops: int


def _curves(layer: KANLinear, basis: LocalBasis) -> _Curves:
    """Multiply a layer's coefficients into its basis, and sort the pieces into bins."""
    nodes, degree, pieces = layer.in_features, layer.spline_order, basis.pieces
    rows = 1 if basis.stride == 0 else nodes

    def shaped(values: Array, *shape: int) -> Array:
        return np.broadcast_to(
            values[: rows * int(np.prod(shape))].reshape(rows, *shape), (nodes, *shape)
        )

    powers = shaped(basis.powers, pieces, degree + 1, degree + 1)  # (node, piece, p, k)
    coef = layer.coefficients()[0].detach().numpy()  # (node, basis)
    alive = coef[:, basis.first[:, None] + np.arange(degree + 1)]  # (node, piece, k)
    numbers = np.concatenate(
        [
            shaped(basis.origins, pieces)[..., None],
            shaped(basis.scales, pieces)[..., None],
            np.einsum("npqk,npk->npq", powers, alive),
        ],
        axis=2,
    )
    cuts = shaped(basis.starts, pieces)[:, 1:]  # (node, knot)
    after = np.concatenate([cuts, np.full((nodes, 1), np.inf)], axis=1)
    bins, density, hops = _bins(cuts)
    return _Curves(
        numbers=np.ascontiguousarray(numbers).ravel(),
        starts=after.ravel(),
        bins=bins.ravel(),
        low=np.ascontiguousarray(cuts[:, 0]),
        density=density,
        pieces=pieces,
        n_bins=bins.shape[1],
        hops=hops,
    )


def _bins(cuts: Array) -> tuple[Array, Array, int]:
    """Cut the lines between the first and last knots (node, knot) evenly into bins.

    Returns how many knots lie before each (node, bin), bins per unit of each line, and the most
    knots in a bin.
    """
    length = cuts[:, -1] - cuts[:, 0]
    finest = (np.diff(cuts).min(1) / length).min()
    count = int(min(MOST_BINS, np.ceil(1 / finest) + 1))
    density = count / length
    places = (cuts - cuts[:, :1]) * density[:, None]  # (node, knot)
    edges = np.arange(count + 1)
    before = (places[:, None, :] < edges[:-1, None] - SLACK).sum(2)
    until = (places[:, None, :] <= edges[1:, None] + SLACK).sum(2)
    return before, density, int((until - before).max())
