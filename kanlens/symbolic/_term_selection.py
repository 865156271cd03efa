"""Short formulas of networks whose edges no single function explains, by forward selection.

An edge of the first layer becomes a sum of functions; edges in products and in later layers become
one each. One function, on any edge, or a product is added at a time: the one that most lowers
the log loss of the network, linearized in later layers, per node of the formula [1]_.

References
----------
.. [1] Y. Pati et al., Orthogonal matching pursuit, 1993.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple, cast

import sympy
import torch
from torch import Tensor, nn

from kanlens.functions._catalog import FUNCTIONS
from kanlens.model._network import KAN
from kanlens.symbolic._assignment import Candidate, flat, rank_layer
from kanlens.symbolic._composition import Expr, affine, compose, feature_symbols
from kanlens.symbolic._edge_fitting import fit_edges, sample_edges
from kanlens.symbolic._joint_refit import live_functions, reaches
from kanlens.symbolic._library import Family, library
from kanlens.symbolic._pareto_front import READABLE
from kanlens.symbolic._simplification import complexity

_RESIDUALS = 2000  # rows times outputs that terms are selected on
_PRICE = 0.01  # of a node in a product, as a share of an edge's variance
_MIN_SLOPE = 0.5  # least slope of an output by a sum, over its mean absolute slope
_MIN_GAIN = 1e-5  # of the logarithm of the loss for each node
_MAX_NODES = 100  # of a formula
_PARALLEL = 1e-6  # squared share of a column orthogonal to others
_UNSHIFTED = frozenset(family.name for family in library() if family.moves in ("none", "scale"))


class _SelectedTerm(NamedTuple):
    """A function on an edge, or a product whose first factor is `out`."""

    out: int
    nodes: int
    column: Tensor  # (row * out,): contribution to the outputs
    edge: int | None = None
    family: Family | None = None
    inner: tuple[float, float] = (1.0, 0.0)  # a and b


@torch.no_grad()
def selected_terms(
    model: KAN, work: KAN, x: Tensor, families: Sequence[Family]
) -> Iterator[tuple[Expr, ...]]:
    """Yield formulas with more and more terms that approximate a model on rows x (batch, in).

    `work` is the model with functions on some edges. At 60 nodes per output, terms are exchanged
    before longer formulas follow.
    """
    network = _with_functions(model, work, x, families)
    selection, size = _TermSelection(model, network, x, families), 0
    for most in (READABLE, _MAX_NODES):
        while selection.add(most * len(model.output_names) - size):
            yield (formulas := compose(network, selection.sums))
            size = sum(map(complexity, formulas))
        if most == READABLE:
            selection = selection.exchanged()
            yield (formulas := compose(network, selection.sums))
            size = sum(map(complexity, formulas))


def _with_functions(model: KAN, work: KAN, x: Tensor, families: Sequence[Family]) -> KAN:
    """Return a network of functions; first-layer edges outside of products are unchanged."""
    network, hidden = copy.deepcopy(work), work.scale_inputs(x)
    cast("nn.ModuleList", network.layers)[0] = copy.deepcopy(model.layers[0])
    for index, layer in enumerate(network.layers):
        for choice in list(rank_layer(network, index, hidden, families)):
            factor = index == 0 and choice.out >= model.nodes[0].grouping.sums
            if index or factor:
                none = [flat(0.0)] if factor else []
                best = min([*choice.candidates, *none], key=partial(_cost, choice.importance))
                layer.assign(choice.out, choice.in_, best.function, best.parameters)
        hidden = network.through(index, hidden)
    return network


def _cost(importance: float, candidate: Candidate) -> float:
    """Return the unexplained share of a sum with a function on an edge, plus a cost of nodes."""
    if FUNCTIONS[candidate.function].domain != "real":  # sums of fewer terms may leave it
        return math.inf
    if candidate.function == "constant":
        return importance**2
    return importance**2 * (1 - candidate.r2) + _PRICE * _nodes(candidate.function)


@lru_cache(maxsize=256)
def _nodes(name: str) -> int:
    """Return the number of nodes that a function of a feature adds to a formula."""
    shift = 0.0 if name in _UNSHIFTED else 0.3
    return complexity(affine(name, (1.7, shift, 2.3, 0.0), sympy.Symbol("u", real=True)))


class _TermSelection:
    """Forward selection of terms for the sums of a network's first layer."""

    def __init__(self, model: KAN, network: KAN, x: Tensor, families: Sequence[Family]) -> None:
        pick = torch.linspace(0, len(x) - 1, min(len(x), _RESIDUALS // len(model.output_names)))
        rows, layer, self.families = x[pick.round().long()], network.layers[0], families
        self.network, self.inputs = network, network.scale_inputs(rows)
        output = model(rows)
        deviation = output.std(0, unbiased=False)
        unit = torch.where(deviation > 0, deviation, 1.0)
        *_, (_, _, reach) = reaches(network, self.inputs, unit)
        reach = reach.nan_to_num(0.0, 0.0, 0.0)  # NaN if a later function is undefined
        least = _MIN_SLOPE * reach.abs().mean(0)
        self.reach = torch.where(reach < 0, -1.0, 1.0) * torch.maximum(reach.abs(), least)
        grouping, values = network.nodes[0].grouping, layer(self.inputs)
        self.count = grouping.sums
        factors = [grouping.members(node) for node in range(self.count, grouping.nodes)]
        sums = [self._column(out, values[:, out]) for out in range(self.count)]
        products = [self._product(own, values) for own in factors]
        self.products, self.options = [term.out for term in products], {-1: products}
        rest = ((output - network(rows)) / unit).reshape(-1).nan_to_num(0.0, 0.0, 0.0)
        self.target = rest + torch.stack([*sums, *(term.column for term in products)]).sum(0)
        self.terms, ones = list[_SelectedTerm](), torch.ones(len(rows), dtype=x.dtype)
        self.columns = [self._column(out, ones) for out in range(self.count)]
        self._solve()
        self.edges = sample_edges(layer, network.scale_inputs(x))
        edges = (self.edges.out < self.count).nonzero()[:, 0].tolist()
        self.options |= {edge: self._functions(edge) for edge in edges}

    def _column(self, out: int, values: Tensor) -> Tensor:
        return (self.reach[:, :, out] * values[:, None]).reshape(-1)

    def _product(self, factors: range, values: Tensor) -> _SelectedTerm:
        """Return the product of some factors as a term."""
        functions = live_functions(self.network.layers[0])
        nodes = len(factors) + sum(_nodes(name) for o, _, name in functions if o in factors)
        return _SelectedTerm(factors[0], nodes, self._column(factors[0], values[:, factors[0]]))

    def _functions(self, edge: int) -> list[_SelectedTerm]:
        """Return the best fit of each family to the residual of an edge."""
        samples = self.edges.samples.pick(torch.tensor([edge]))
        left, (out, in_) = samples.y.clone(), (int(self.edges.out[edge]), int(self.edges.in_[edge]))
        for term, scale in zip(self.terms, self.numbers[self.count :], strict=True):
            if term.edge == edge and term.family:
                a, b = term.inner
                left -= scale * term.family.function.value(a * samples.x + b)
        fits, options = fit_edges(replace(samples, y=left), self.families), []
        for family, (a, b, _, _) in zip(self.families, fits.parameters[0].tolist(), strict=True):
            values = family.function.value(a * self.inputs[:, in_] + b)
            if not bool(fits.constant) and bool(torch.isfinite(values).all()):
                column, nodes = self._column(out, values), _nodes(family.name)
                options.append(_SelectedTerm(out, nodes, column, edge, family, (a, b)))
        return options

    def _solve(self) -> None:
        """Fit the constants of the sums and the scales of the terms by least squares."""
        matrix = torch.stack(self.columns, 1)
        size = matrix.norm(dim=0).clamp(min=1e-300)
        solution = torch.linalg.lstsq(matrix / size, self.target[:, None], driver="gelsd").solution
        self.numbers, self.basis = solution[:, 0] / size, torch.linalg.qr(matrix / size)[0]
        self.rest = self.target - matrix @ self.numbers

    def exchanged(self) -> _TermSelection:
        """Return a selection with terms replaced by better ones, one after another."""
        best = self
        for term in self.terms:
            trial = copy.copy(best)
            places = [place for place, own in enumerate(best.terms) if own is not term]
            trial.terms = [best.terms[place] for place in places]
            trial.columns = best.columns[: self.count]
            trial.columns += [best.columns[self.count + place] for place in places]
            trial.options = dict(best.options)
            trial._solve()
            if term.edge is not None:
                trial.options[term.edge] = trial._functions(term.edge)
            room = term.nodes
            while trial.add(room):
                room -= trial.terms[-1].nodes
            if trial.rest.square().sum() < best.rest.square().sum():
                best = trial
        return best

    def add(self, room: int) -> bool:
        """Add the term of at most `room` nodes with the largest gain per node, if any."""
        every = itertools.chain(*self.options.values())
        options = [option for option in every if option.nodes <= room]
        if not options:
            return False
        columns = torch.stack([option.column for option in options], 1)
        columns = columns / columns.norm(dim=0).clamp(min=1e-300)
        columns = columns - self.basis @ (self.basis.T @ columns)
        size, cross = columns.square().sum(0), (columns.T @ self.rest).square()
        shares = torch.where(size > _PARALLEL, cross / size, 0.0) / self.rest.square().sum()
        nodes = torch.tensor([float(option.nodes) for option in options])
        gains = -torch.log1p(-shares.clamp(max=1 - 1e-12)) / nodes
        best = options[int(gains.argmax())]
        if not float(gains.max()) > _MIN_GAIN:
            return False
        self.terms.append(best)
        self.columns.append(best.column)
        self._solve()
        if best.edge is not None:
            self.options[best.edge] = self._functions(best.edge)
        return True

    def sums(self, before: list[Expr]) -> list[Expr]:
        """Replace the first layer's sums `before` by sums of terms, and scaled or zero products."""
        symbols, numbers = feature_symbols(self.network), self.numbers.tolist()
        shifts, scales = self.network.input_shift.tolist(), self.network.input_scale.tolist()
        sums = [*map(sympy.Float, numbers[: self.count]), *before[self.count :]]
        for out in self.products:
            sums[out] = sympy.Integer(0)
        for term, scale in zip(self.terms, numbers[self.count :], strict=True):
            if term.edge is None or term.family is None:
                sums[term.out] = sympy.expand(sympy.Float(scale) * before[term.out], deep=False)
                continue
            i, (a, b) = int(self.edges.in_[term.edge]), term.inner
            inner = a / scales[i], b - a * shifts[i] / scales[i]
            sums[term.out] += affine(term.family.name, (*inner, scale, 0.0), symbols[i])
        return sums
