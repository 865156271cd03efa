"""Exact Shapley values and interactions of small games by enumeration of coalitions.

The value of a coalition S is v(S) = mean over background rows b of F(x_S, b_rest); its first-layer
sums are those of b plus one step for each player in S.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution._problem import pairs
from kanlens.attribution.shapley._games import Game, Solution
from kanlens.functions._elementary import Array
from kanlens.model import kernels
from kanlens.model._analysis import BUDGET, widest
from kanlens.model._kan_linear import KANLinear
from kanlens.model._nodes import Nodes
from kanlens.model.kernels import _pool as pool
from kanlens.splines._local_basis import LocalBasis

STEP = 2**28  # functions evaluated between two moves of the bar
TRIAL = 2**21  # functions evaluated to estimate the time of all
WORK = 3.0  # nanoseconds of one function at one point
TORCH = 200  # time of torch over that of the kernel
COMPILE = "from kanlens.attribution.shapley._enumeration import compile_worths; compile_worths({})"
MAX_BINS = 1024  # per node; a grid more uneven than that is searched in more steps
SLACK = 1e-9  # of a bin: rounding may put a point into the next bin


def enumerated(
    game: Game, *, interactions: bool = False, advance: Callable[[int], None] | None = None
) -> Solution:
    """Return exact Shapley values, and on request Grabisch and Roubens' index (1999) of pairs."""
    n = game.size
    weights = value_weights(n).to(game.x)
    both = pair_weights(n).to(game.x) if interactions else None
    values, shared = [], []
    at_once = max(1, min(BUDGET >> n, STEP // (functions(game) * len(game.rows))))
    for part in torch.arange(len(game.x)).split(at_once):
        worths = _worths(game, part)
        worths -= worths[:, :1].clone()  # the empty coalition's value; weights sum to 0
        values.append(worths @ weights)
        if both is not None:
            shared.append((worths @ both).unflatten(1, (n, n)))
        if advance is not None:
            advance(len(part))
    return Solution(
        values=torch.cat(values),
        pairs=torch.cat(shared) if shared else None,
        evaluations=float(2**n * len(game.rows)),
    )


def seconds(game: Game) -> float:
    """Estimate the seconds a game takes, from a few samples and background rows."""
    rows = min(len(game.rows), max(1, TRIAL // functions(game)))
    samples = min(len(game.x), max(1, TRIAL // (functions(game) * rows)))
    few = dataclasses.replace(game, x=game.x[:samples], rows=game.rows[:rows])
    spent = []
    for _ in range(2):  # the first may load kernels
        start = time.monotonic()
        enumerated(few)
        spent.append(time.monotonic() - start)
    return min(spent) * (len(game.x) / samples) * (len(game.rows) / rows)


def functions(game: Game) -> int:
    """Return the number of function evaluations per sample and background row."""
    after = sum(layer.in_features * layer.out_features for layer in game.model.layers[1:])
    return max(1, after) << game.size


def _bits(n: int) -> Tensor:  # (coalition, player)
    """Return the members of each coalition as flags: bit p of its index is player p."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1


def value_weights(n: int) -> Tensor:
    """Return the weight of each coalition's value in each player's Shapley value: (2 ** n, n)."""
    share = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
    joined = torch.tensor([0.0, *share], dtype=torch.float64)  # for members of S, by its size
    left = torch.tensor([*share, 0.0], dtype=torch.float64)
    bits = _bits(n)
    size = bits.sum(1)
    return torch.where(bits == 1, joined[size][:, None], -left[size][:, None])


def pair_weights(n: int) -> Tensor:
    """Return the weight of each coalition's value in each pair's interaction: (2 ** n, n * n).

    It is ``s! (n - s - 2)! / (n - 1)!`` for the s others in the coalition, negative where just one
    of the two is in it, and zero for a player with itself.
    """
    bits = _bits(n)
    share = [1 / ((n - 1) * math.comb(n - 2, size)) for size in range(n - 1)]
    weight = torch.tensor([*share, 0.0, 0.0], dtype=torch.float64)
    inside = bits[:, :, None] + bits[:, None]  # (coalition, player, player)
    weights = weight[bits.sum(1)[:, None, None] - inside] * (1 - 2 * (inside == 1).double())
    return (weights * (1 - torch.eye(n, dtype=torch.float64))).flatten(1)


def _worths(game: Game, part: Tensor) -> Tensor:
    """Return v(S) of some samples up to a constant, shape (batch, coalition)."""
    ours, model = game.shares(game.x[part]), game.model
    if len(model.layers) == 2 and model.nodes[1].additive and not model.nodes[0].normalized:
        sides = ours, game.row_shares, game.row_sums
        worths = coalition_worths(*sides, model.nodes[0], model.layers[1])
        if worths is not None:
            scale = model.nodes[1].scale if model.nodes[1].scaled else 1.0
            return worths * scale * model.output_scale
    return _in_torch(game, ours)


def _in_torch(game: Game, ours: Tensor) -> Tensor:
    """Return v(S) by running the layers after the first one, for any network."""
    n, theirs = game.size, game.row_shares
    at_once = max(1, BUDGET // (16 * widest(game.model)))  # 16: bases of one input
    low = min(n, at_once.bit_length() - 1)  # players taken together
    worth = ours.new_zeros(len(ours), 2 ** (n - low), 2**low)
    for here, there in pairs(len(ours), len(theirs), at_once >> low):
        steps = ours[here, None] - theirs[there]  # (batch, rows, sub, player)
        for block, others in enumerate(_bits(n - low).to(ours)):
            sums = (game.row_sums[there] + steps[..., low:] @ others).unsqueeze(-2)
            for step in steps[..., :low].unbind(-1):  # (batch, rows, set, sub)
                sums = torch.cat([sums, sums + step.unsqueeze(-2)], dim=-2)
            worth[here, block] += game.outputs(sums).sum(1) / len(theirs)
    return worth.flatten(1)


# --- kernel for two layers, the second of splines -------------------------------------------------


def coalition_worths(
    ours: Tensor, theirs: Tensor, start: Tensor, nodes: Nodes, layer: KANLinear
) -> Tensor | None:
    """Return the values of all coalitions (batch, 2 ** player), None where no kernel can run.

    Players contribute `ours` (batch, sub, player) to the sums of samples, and `theirs` (rows, sub,
    player) to the sums `start` (rows, sub) of background rows; bit p of an index is player p.
    """
    able = layer.splines_alone and kernels.can_run_double(ours)
    able = able and (layer.base_name in ("silu", "zero") or not layer.base_weights().any())
    layers = layer, ours, layer.grid, layer.weights()
    basis = kernels.local_basis_of(*layers) if able else None
    if basis is None:
        return None
    from kanlens.attribution.shapley._game_loops import add_worths
    from kanlens.model.kernels._compiling import flat, is_ready

    batch, sums, players = ours.shape
    totals = ours.new_zeros(batch, 2**players)
    silu = layer.base_name == "silu"
    base = layer.base_weights()[0] if silu else ours.new_zeros(layer.in_features)
    sources = tuple(flat(side.contiguous()) for side in (ours, theirs, start))
    sizes, window = (len(theirs), sums, players), (0,) * (layer.spline_order + 1)
    ends = np.cumsum([1] * nodes.grouping.sums + list(nodes.grouping.arities))  # of nodes' sums
    units = np.ones(len(ends)), np.zeros(len(ends))
    if nodes.scaled:
        units = nodes.scale.numpy(), nodes.shift.numpy()
    curves = _curves(layer, basis), flat(base.contiguous()), sizes, window
    work = WORK * totals.numel() * len(theirs) * sums
    arguments = (*sources, flat(totals), (ends, *units), *curves)
    code = COMPILE.format(layer.spline_order)
    if not is_ready(add_worths, arguments, TORCH * work / 1e9, code):
        return None
    pool.share(add_worths, arguments, batch, work)
    return totals / len(theirs)


def compile_worths(degree: int) -> None:
    """Compile the kernel of coalitions for splines of a degree into numba's cache."""
    from kanlens.model._network import KAN

    model = KAN([1, 1, 1], spline_order=degree).double()
    steps = torch.zeros(1, 1, 1, dtype=torch.float64)
    with torch.no_grad(), kernels.use("sparse"):
        coalition_worths(steps, steps, steps[0], model.nodes[0], model.layers[1])


def _curves(layer: KANLinear, basis: LocalBasis) -> tuple[Any, ...]:
    """Return a layer's functions as flat polynomials, and bins that find their pieces.

    In this order: for every node and piece, the origin and scale of u and the coefficients of its
    powers; the end of each piece; the first piece of each bin, the start of the bins, bins per
    unit; the numbers of pieces and bins, and the most knots in a bin.
    """
    nodes, degree, pieces = layer.in_features, layer.spline_order, basis.pieces
    rows = 1 if basis.stride == 0 else nodes

    def shaped(values: Array, *shape: int) -> Array:
        values = values[: rows * math.prod(shape)].reshape(rows, *shape)
        return np.broadcast_to(values, (nodes, *shape))

    powers = shaped(basis.powers, pieces, degree + 1, degree + 1)  # (node, piece, p, k)
    coef = layer.coefficients()[0].detach().numpy()  # (node, basis)
    local = coef[:, basis.first[:, None] + np.arange(degree + 1)]  # (node, piece, k)
    units = [shaped(part, pieces)[..., None] for part in (basis.origins, basis.scales)]
    numbers = np.concatenate([*units, np.einsum("npqk,npk->npq", powers, local)], axis=2)
    cuts = shaped(basis.starts, pieces)[:, 1:]  # (node, knot)
    after = np.concatenate([cuts, np.full((nodes, 1), np.inf)], axis=1)
    bins, density, hops = _bins(cuts)
    flat, sizes = np.ascontiguousarray(numbers).ravel(), (pieces, bins.shape[1], hops)
    return flat, after.ravel(), bins.ravel(), cuts[:, 0].copy(), density, *sizes


def _bins(cuts: Array) -> tuple[Array, Array, int]:
    """Return the number of knots before each equal bin, bins per unit, and most knots in a bin."""
    length = cuts[:, -1] - cuts[:, 0]
    finest = (np.diff(cuts).min(1) / length).min()
    count = int(min(MAX_BINS, np.ceil(1 / finest) + 1))
    density = count / length
    places = (cuts - cuts[:, :1]) * density[:, None]  # (node, knot)
    edges = np.arange(count + 1)
    before = (places[:, None, :] < edges[:-1, None] - SLACK).sum(2)
    until = (places[:, None, :] <= edges[1:, None] + SLACK).sum(2)
    return before, density, int((until - before).max())
