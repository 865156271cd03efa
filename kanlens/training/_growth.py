"""Growth of small networks, edge by edge, by marginal likelihood.

A step adds an increasing link function (one edge), a column to a factor (one) or a product (three;
the first needs a fourth, which copies the sum of curves). Its gain is the rise of the log
likelihood by its coefficients at their best common variance, with all others integrated out [1]_:
a score test. Pairs are ranked as in FAST [2]_, but conditional on the current network.

References
----------
.. [1] M. Tipping and A. Faul, Fast marginal likelihood maximisation for sparse Bayesian models,
   2003.
.. [2] Y. Lou et al., Accurate intelligible models with pairwise interactions, 2013.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kanlens._checks import check_choice, check_count
from kanlens.data._cell_parsing import Array
from kanlens.errors import InvalidValueError
from kanlens.training._constraints import is_bent
from kanlens.training._link import bends
from kanlens.training._small_network import FactorCurve, Product, SmallNetwork

MIN_GAIN = 4.0  # least gain of a term, in log likelihood
MAX_PAIRS = 30  # pairs tried at later steps: the best of the step before
VARIANCES = 10.0 ** np.arange(-4, 1.6, 0.25)  # variances tried, relative to those of curves
RIDGE = 1e-3  # in the fit of a curve to values


@dataclass(frozen=True, kw_only=True, eq=False)
class Addition:
    """A term to add: its gain, number of edges, and columns with their initial values.

    With `place`, the column joins factor `side` of that product. Otherwise two columns are a new
    product, and no columns the link function.
    """

    gain: float
    edges: int
    columns: tuple[int, ...] = ()
    values: tuple[Array, ...] = field(default=())
    place: int | None = None
    side: int = 0

    def apply(self, network: SmallNetwork) -> None:
        """Add the term to a network."""
        new = [curve_from(network, *own) for own in zip(self.columns, self.values, strict=True)]
        if self.place is not None:
            network.products[self.place].factors[self.side].append(new[0])
        elif new:
            network.products.append(Product(([new[0]], [new[1]])))
        else:
            network.relink()

    def describe(self, network: SmallNetwork, names: Sequence[str]) -> str:
        """Return the name of the term; call before `apply`."""
        own = [names[network.columns[column].index] for column in self.columns]
        if self.place is None:
            return " * ".join(own) or "link"
        other = network.products[self.place].factors[1 - self.side]
        return f"{own[0]} * " + " + ".join(names[network.columns[e.column].index] for e in other)


class ScoreTest:
    """Score test for additional coefficients in the linear model of a network."""

    def __init__(self, network: SmallNetwork) -> None:
        weights, errors = network.working(network.sums())
        self.roots = np.sqrt(weights / network.noise)
        design, owners, coefficients, variances = network.linear()
        own = variances[owners]
        live = np.flatnonzero(own > 1e-6)
        matrix = np.asarray(design.matrix[:, live])
        self.matrix = self.centered(matrix * self.roots[:, None])
        information = self.matrix.T @ self.matrix
        information[np.diag_indices(len(live))] += 1 / own[live]
        self.covariance = np.linalg.inv(information)
        response = errors + matrix @ coefficients[live]
        self.response = self.centered(response * self.roots)
        self.fitted = self.covariance @ (self.matrix.T @ self.response)

    def centered(self, scaled: Array) -> Array:
        """Return values (batch, ...) minus their weighted mean; both are times root weights."""
        means = self.roots @ scaled / (self.roots @ self.roots)
        return np.asarray(scaled - np.multiply.outer(self.roots, means))

    def __call__(self, block: Array) -> tuple[float, Array]:
        """Return the gain of a block (batch, k), and its coefficients."""
        scaled = block * self.roots[:, None]
        cross, sums = self.matrix.T @ scaled, self.roots @ scaled
        information = scaled.T @ scaled - np.outer(sums, sums) / (self.roots @ self.roots)
        information -= cross.T @ self.covariance @ cross
        score = scaled.T @ self.response - cross.T @ self.fitted
        values, vectors = np.linalg.eigh((information + information.T) / 2)
        values, turned = np.maximum(values, 0.0), vectors.T @ score
        shrink = VARIANCES[:, None] / (1 + VARIANCES[:, None] * values)
        gains = (turned**2 * shrink - np.log1p(VARIANCES[:, None] * values)).sum(1) / 2
        best = int(gains.argmax())
        return float(gains[best]), np.asarray(vectors @ (turned * shrink[best]))


def curve_from(network: SmallNetwork, column: int, values: Array) -> FactorCurve:
    """Return the curve of a factor that is closest to values (batch,)."""
    own = network.columns[column]
    part = own.factor_values - own.factor_values.mean(0)
    gram = part.T @ part
    gram[np.diag_indices(len(gram))] += RIDGE * max(np.trace(gram) / len(gram), 1e-300)
    coefficients = np.linalg.solve(gram, part.T @ (values - values.mean()))
    return FactorCurve(column, coefficients, np.ones(len(own.design.start)))


def _pairs(
    network: SmallNetwork, test: ScoreTest, pairs: Collection[tuple[int, ...]]
) -> list[Addition]:
    """Return the products of pairs of columns that can be added, with rank-one initial values."""
    moves = []
    for pair in pairs:
        left, right = (network.columns[column].probe_values for column in pair)
        gain, start = test((left[:, :, None] * right[:, None, :]).reshape(len(left), -1))
        u, sizes, v = np.linalg.svd(start.reshape(left.shape[1], -1))
        root = np.sqrt(sizes[0])
        values = (left @ u[:, 0] * root, right @ v[0] * root)
        edges = 3 + (not network.products)
        moves.append(Addition(gain=gain, edges=edges, columns=pair, values=values))
    return sorted(moves, key=lambda move: -move.gain)


def _extensions(
    network: SmallNetwork, test: ScoreTest, interactions: Interactions
) -> list[Addition]:
    """Return the columns that can join a factor, as additions."""
    moves = []
    for place, product in enumerate(network.products):
        factors = network.factor_sums(product)
        used = {edge.column for factor in product.factors for edge in factor}
        for side, column in itertools.product((0, 1), range(len(network.columns))):
            others = [edge.column for edge in product.factors[1 - side]]
            allowed = (interactions.allows(network, column, other) for other in others)
            if column in used or not all(allowed):
                continue
            rest, probe = factors[1 - side], network.columns[column].probe_values
            spread = rest.std() + 1e-300
            gain, start = test(probe * (rest / spread)[:, None])
            own = {"columns": (column,), "values": (probe @ start / spread,)}
            moves.append(Addition(gain=gain, edges=1, place=place, side=side, **own))
    return moves


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Limits of the products of a network: their number, or the allowed pairs of columns."""

    most: int | None = None
    pairs: frozenset[frozenset[int]] | None = None

    @property
    def link(self) -> bool:
        """True if a link function is allowed; it makes all columns interact."""
        return self.most is None and self.pairs is None

    def allows(self, network: SmallNetwork, *places: int) -> bool:
        """Return whether two columns of a network may be in a product.

        A column with a shape constraint is in no product, so that its effect always has the shape.
        """
        if any(network.columns[place].shape for place in places):
            return False
        own = frozenset(network.columns[place].index for place in places)
        return self.pairs is None or own in self.pairs


def read_interactions(
    interactions: int | Sequence[tuple[str, str]] | None, names: Sequence[str]
) -> Interactions:
    """Return the limits on the products of a network."""
    if interactions is None:
        return Interactions()
    if isinstance(interactions, int):
        check_count("frontier", "interactions", interactions, least=0)
        return Interactions(most=interactions)
    pairs = set()
    for pair in interactions:
        if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
            expected, got = "interactions to be a number, or pairs of columns", repr(pair)
            advice = "For example [('age', 'dose')]"
            raise InvalidValueError("frontier", expected, got, advice)
        for name in pair:
            check_choice("frontier", "interactions", name, dict.fromkeys(names))
        pairs.add(frozenset(map(names.index, pair)))
    return Interactions(pairs=frozenset(pairs))


@dataclass(frozen=True, kw_only=True, eq=False)
class GrowthStep:
    """A network, its number of edges and terms, its last term, outputs and losses (batch,)."""

    edges: int
    terms: int
    network: SmallNetwork
    added: str
    outputs: Array
    losses: Array


class GrowthPath:
    """Networks of one output in the order of growth; `names` are those of all columns."""

    def __init__(
        self,
        network: SmallNetwork,
        max_edges: int,
        interactions: Interactions,
        names: Sequence[str],
    ) -> None:
        self.max_edges, self.interactions, self.names = max_edges, interactions, names
        self.steps, self.ended, self.links = list[GrowthStep](), False, interactions.link
        self.links = self.links and not any(is_bent(column.shape) for column in network.columns)
        if network.curves() > max_edges:
            network = network.strongest(max_edges)
        pairs = itertools.combinations(range(len(network.columns)), 2)
        self.pairs: list[tuple[int, ...]] = [
            pair for pair in pairs if interactions.allows(network, *pair)
        ]
        self.add(network, "curves alone")

    @property
    def edges(self) -> list[int]:
        """Number of edges of each step."""
        return [step.edges for step in self.steps]

    @property
    def terms(self) -> int:
        """Number of terms added."""
        return self.steps[-1].terms if self.steps else -1

    def at(self, terms: int) -> GrowthStep:
        """Return the last step with at most `terms` terms, or the first step."""
        return self.steps[max(bisect_right([step.terms for step in self.steps], terms) - 1, 0)]

    def add(self, network: SmallNetwork, words: str, terms: int | None = None) -> None:
        """Add a step; earlier steps with as many edges or more are removed."""
        terms = self.terms + 1 if terms is None else terms
        edges, losses = network.curves(), network.losses(network.sums())
        parts: dict[str, Array] = {"outputs": network.outputs(), "losses": losses}
        step = GrowthStep(edges=edges, terms=terms, network=network, added=words, **parts)
        self.steps[bisect_left(self.edges, edges) :] = [step]

    def grow(self) -> None:
        """Add the term with the largest gain per edge, if any gain exceeds `MIN_GAIN`."""
        network = self.steps[-1].network.copy()
        test, interactions = ScoreTest(network), self.interactions
        moves = []
        if self.links and network.loss.linear and network.link is None:
            moves.append(Addition(gain=test(bends(network.sums()))[0], edges=1))
        moves += _extensions(network, test, interactions)
        if interactions.most is None or len(network.products) < interactions.most:
            products = _pairs(network, test, self.pairs)
            self.pairs = [move.columns for move in products[:MAX_PAIRS]]
            moves += products
        room = self.max_edges - network.curves()
        moves = [move for move in moves if move.edges <= room and move.gain > MIN_GAIN]
        if not moves:
            self.ended = True
            return
        move = max(moves, key=lambda move: move.gain / move.edges)
        words = move.describe(network, self.names)
        move.apply(network)
        if not move.columns and network.link is None:  # no increasing link fits
            self.links = False
            self.grow()
            return
        network.fit()
        if network.link is not None and move.columns:
            network = network.without_link()
        if network.curves() > self.max_edges:  # columns may return
            self.ended = True
            return
        self.add(network, words)

    def state(self) -> dict[str, Any]:
        """Return the path as arrays and plain types."""
        steps = [(step.added, step.terms, step.network.state()) for step in self.steps]
        return {"steps": steps, "pairs": self.pairs, "ended": self.ended}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the path from a state."""
        self.pairs, self.ended = [tuple(pair) for pair in state["pairs"]], state["ended"]
        network = self.steps[0].network
        for words, terms, own in state["steps"]:
            network = network.at(own)
            self.add(network, words, terms)
