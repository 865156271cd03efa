"""The additive function near an output: sums of the first layer's edges, feature by feature.

On what its inputs reach, everything after the first layer is nearly a weighted sum of the first
layer's edges; with weights of their own for every edge, such a sum is a function of each feature
added up. The weights are fitted where the model is evaluated; what remains is bounded elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.certificates.propagation import Propagation
from kanlens.attribution.certificates.sampling import spread_points
from kanlens.attribution.problem import live_edges
from kanlens.core.network import KAN

MOST_COLUMNS = 512  # of a fit with a weight for every edge; else one for every sum
ROUNDS = 12
FIT_POINTS = 16384  # the spread ones come first
NUMBERS = 2**20  # of edges at these points, in large layers
QUADS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class AdditiveFunction:
    """A sum of functions of single features.

    Attributes
    ----------
    model : KAN
        A private float64 copy.
    target : int
        Index of the output.
    weights : Tensor, shape (out, in), or None
        The functions are the edges of the first layer, added with these weights.
    centre : Tensor, shape (in,), or None
        Without weights: the functions are what the output is when the other features are these.
    constant : float
        What is added.

    Examples
    --------
    >>> sums = AdditiveFunction(model=KAN([2, 3, 1]), weights=torch.zeros(3, 2), constant=1.5)
    >>> sums(torch.zeros(4, 2))
    tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """

    model: KAN
    target: int = 0
    weights: Tensor | None = None
    centre: Tensor | None = None
    constant: float = 0.0

    @torch.no_grad()
    def terms(self, x: Tensor) -> Tensor:
        """Return the function of each feature at x (batch, in), shape (batch, in).

        Examples
        --------
        >>> sums = AdditiveFunction(model=KAN([2, 3, 1]), weights=torch.ones(3, 2))
        >>> sums.terms(torch.zeros(4, 2)).shape
        torch.Size([4, 2])
        """
        x = x.to(self.model.dtype)
        if self.weights is not None:
            edges = self.model.layers[0].edge_values(self.model.scale_inputs(x))
            return torch.where(self.weights == 0, 0.0, edges * self.weights).sum(1)
        if self.centre is None:
            raise RuntimeError("an additive function has weights or a centre")
        rows = self.centre.expand(x.shape[1], *x.shape).clone()  # (in, batch, in)
        index = torch.arange(x.shape[1], device=x.device)
        rows[index, :, index] = x.mT
        values: Tensor = self.model(rows)[..., self.target].mT
        constant: Tensor = self.model(self.centre)[self.target]
        return values - constant

    def __call__(self, x: Tensor) -> Tensor:
        """Return the sum at x (batch, in), shape (batch,)."""
        return self.terms(x).sum(1) + self.constant


def additive_part(
    propagation: Propagation, x: Tensor, value: Tensor, *, hurry: bool = False
) -> AdditiveFunction | None:
    """Find an additive function near the output, and let boxes be bounded against it.

    Parameters
    ----------
    propagation : Propagation
        Its `additive` is set.
    x : Tensor, shape (point, in)
    value : Tensor, shape (point,)
        The output there.
    hurry : bool
        Do with fewer points.

    Returns
    -------
    AdditiveFunction or None
        The output itself, when it is additive by its structure; None: that of the weights.
    """
    edges = propagation.additive.numel()
    count = 256 if hurry else min(FIT_POINTS, max(8 * edges, NUMBERS // edges))
    propagation.additive = fitted_weights(propagation, x[:count], value[:count])
    model, target = propagation.model, propagation.target
    free = propagation.domain[:, 1] > propagation.domain[:, 0]
    if not is_separable(model, target, free):
        return None
    centre = propagation.domain.mean(1)
    constant = float(model(centre)[target])
    return AdditiveFunction(model=model, target=target, centre=centre, constant=constant)


def is_separable(model: KAN, target: int, free: Tensor) -> bool:
    """Tell whether an output is additive by its structure in the features that are `free` (in,).

    It is when no edge that the output depends on, but for those of the first layer, starts at a
    node that depends on several features.

    Examples
    --------
    >>> both = torch.tensor([True, True])
    >>> is_separable(KAN([2, 1]), 0, both), is_separable(KAN([2, 3, 1]), 0, both)
    (True, False)
    """
    depends = torch.diag(free)  # (node, feature)
    for layer, nodes in zip(list(model.layers)[:-1], list(model.nodes)[:-1], strict=True):
        depends = _on(nodes.owner, _live(live_edges(layer), depends), nodes.grouping.nodes)
    members = list(model.nodes[-1].grouping.members(target))
    used = live_edges(model.layers[-1])[members].any(0)  # (node,)
    several = depends[used].sum(1) > 1
    if len(members) == 1:
        return not bool(several.any())
    return int(depends[used].any(0).sum()) <= 1


def _live(edges: Tensor, depends: Tensor) -> Tensor:  # (out, in), (in, feature)
    return (edges[:, :, None] & depends).any(1)


def _on(owner: Tensor, sums: Tensor, count: int) -> Tensor:
    """Let nodes depend on what the sums they are made of depend on."""
    found = torch.zeros(count, sums.shape[1], device=sums.device)
    return found.index_add(0, owner, sums.to(found)) > 0


def weighted(propagation: Propagation, x: Tensor) -> Tensor:
    """Return what `apart` is counted from at x (batch, in), shape (batch,).

    Examples
    --------
    >>> domain = torch.tensor([[0.0, 1.0]]).double()
    >>> from kanlens.attribution.problem import private_copy
    >>> own = Propagation(private_copy(KAN([1, 1])), 0, domain)
    >>> weighted(own, torch.zeros(2, 1).double())
    tensor([0., 0.], dtype=torch.float64)
    """
    sums = AdditiveFunction(model=propagation.model, weights=propagation.additive)
    return sums(x)


def fitted_weights(propagation: Propagation, x: Tensor, value: Tensor) -> Tensor:
    """Return the weights of the best of several additive functions, shape (out, in).

    Least squares, then reweighted where it is off most, which approaches the least largest
    distance [1]_, and the chords of the layers behind on the domain.

    References
    ----------
    .. [1] C. L. Lawson, Contributions to the Theory of Linear Least Maximum Approximations, 1961.
    """
    model = propagation.model
    edges = model.layers[0].edge_values(model.scale_inputs(x))
    good = torch.isfinite(value) & torch.isfinite(edges).flatten(1).all(1)
    edges, value = edges[good], value[good]
    candidates = [propagation.additive, _chords(propagation)]
    if len(value) > 1:
        candidates += _least_squares(edges, value)
    spans = []
    for weights in candidates:
        left = value - (edges * weights).sum((1, 2))
        finite = len(left) and bool(torch.isfinite(left).all())
        spans.append(float(left.amax() - left.amin()) if finite else float("inf"))
    return candidates[spans.index(min(spans))]


def _chords(propagation: Propagation) -> Tensor:
    """Return what linear relaxation on the whole domain makes of the first layer's edges."""
    found = propagation.first_weights()[:, None].expand_as(propagation.additive)
    return torch.where(torch.isfinite(found), found, 0.0)


def _least_squares(edges: Tensor, value: Tensor) -> list[Tensor]:
    """Return the weights of least squares, and those reweighted towards the largest residuals."""
    by_edge = edges[0].numel() <= MOST_COLUMNS
    columns = edges.flatten(1) if by_edge else edges.sum(2)
    columns = columns - columns.mean(0)
    sizes = columns.abs().amax(0)
    columns = columns / torch.where(sizes > 0, sizes, 1.0)
    ones = torch.ones_like(columns[:, :1])
    design = torch.cat([columns, ones], 1)
    importance = torch.full_like(value, 1 / len(value))
    eye = torch.eye(design.shape[1]).to(design)
    found = []
    for _ in range(ROUNDS):
        weighted = design * importance[:, None]
        matrix = design.mT @ weighted
        ridge = 1e-10 * matrix.diagonal().amax() * eye
        solution = torch.linalg.solve(matrix + ridge, weighted.mT @ value)
        left = (value - design @ solution).abs()
        scaled = (solution[:-1] / torch.where(sizes > 0, sizes, 1.0)) * (sizes > 0)
        shaped = scaled.reshape(edges.shape[1:]) if by_edge else scaled[:, None]
        found.append(shaped.expand(edges.shape[1:]).clone())
        importance = importance * left
        total = importance.sum()
        if not float(total) > 0:
            break
        importance = 0.99 * importance / total + 0.01 / len(value)
    return found


def least_distance(propagation: Propagation) -> float:
    """Return a distance from the output that no additive function can fall below on the domain.

    An additive function has no mixed differences; the output's, over rectangles that share all
    other features, are at most four times its distance from one.
    """
    domain, model = propagation.domain, propagation.model
    n_in = len(domain)
    free = ((domain[:, 1] - domain[:, 0]) > 0).nonzero()[:, 0]
    if len(free) < 2:
        return 0.0
    points = spread_points(torch.cat([domain, domain]), QUADS)
    low, high = domain[:, 0].repeat(2), domain[:, 1].repeat(2)
    ends = torch.where(points > 0.5 * (low + high), high, low)
    points = torch.cat([points, ends])[::2]  # the corners have the largest rectangles
    one, two = points[:, :n_in], points[:, n_in:]
    which = torch.arange(QUADS, device=domain.device)
    parts = 2 ** min(len(free), 10) - 2
    subset = torch.zeros(QUADS, n_in, dtype=torch.bool, device=domain.device)
    code = 1 + which % parts
    for position, feature in enumerate(free.tolist()):
        subset[:, feature] = (code >> (position % 10)) & 1 == 1
    left, right = torch.where(subset, one, two), torch.where(subset, two, one)
    first = model(one)[:, propagation.target] + model(two)[:, propagation.target]
    second = model(left)[:, propagation.target] + model(right)[:, propagation.target]
    gaps = (first - second).abs()
    gaps = gaps[torch.isfinite(gaps)]
    most = float(gaps.amax()) if len(gaps) else 0.0
    return max(0.0, most / 4 - propagation.noise) if propagation.noise < float("inf") else 0.0
