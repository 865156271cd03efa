"""Sums of few blocks: monomials times functions of combinations.

The functions are splines, so a sum is fitted by least squares: blocks are added to the best
sums one by one, as in orthogonal matching pursuit of groups [1]_. Splines of single columns may be
added.

References
----------
.. [1] A. C. Lozano, G. Swirszcz, N. Abe, Group orthogonal matching pursuit for variable selection
   and prediction, NeurIPS 2009.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens._runtime import check_time
from kanlens.discovery import _regression as regression
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import CURVE, Ansatz, linear
from kanlens.discovery._curve_fitting import written
from kanlens.discovery._monomials import allowed, evaluate, monomial, simplest
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import Array, Basis
from kanlens.discovery._search_problem import SearchProblem, transformed
from kanlens.discovery._smoothness import logarithmic
from kanlens.symbolic._composition import Expr

_UNKNOWN = sympy.Function("_unknown")


@dataclass(frozen=True, eq=False)
class Argument:
    """A combination of columns as the argument of a function."""

    values: Array  # (row,)
    name: Expr
    used: Array  # bool (feature,)
    cost: float

    @property
    def scaled(self) -> Array:
        """The values, or their logarithm if they are positive and of a wide range."""
        return np.log(self.values) if logarithmic(self.values) else self.values


def arguments(problem: SearchProblem) -> list[Argument]:
    """Return arguments: the simplest products of powers, and sums of two of them."""
    exponents, costs = simplest(problem.width)
    good = allowed(problem, exponents) & exponents.any(axis=1)
    exponents, costs = exponents[good], costs[good]
    first = exponents[np.arange(len(exponents)), (exponents != 0).argmax(axis=1)]
    _, unlike = np.unique(exponents / first[:, None], axis=0, return_index=True)
    used = (exponents != 0).sum(axis=1)
    few = sorted(k for k in unlike if used[k] <= tuned.ARGUMENT_COLUMNS)[: tuned.ARGUMENTS]
    singles = [(float(costs[k]) if used[k] > 1 else 0.0, exponents[[k]], 0) for k in few]
    pairs = [
        (float(costs[i] + costs[j]) + tuned.PAIR_COST, exponents[[i, j]], sign)
        for i, j in itertools.combinations(range(min(len(exponents), tuned.ARGUMENTS)), 2)
        if not (exponents[i] * exponents[j]).any()
        for sign in (-1, 1)
    ]
    combinations = []
    for cost, powers, sign in singles + sorted(pairs, key=lambda pair: pair[0])[: tuned.ARGUMENTS]:
        columns = evaluate(problem.columns, powers)
        names = [monomial(problem.names, p) for p in powers]
        values, name = columns[:, 0] + sign * columns[:, -1], names[0] + sign * names[-1]
        if regression.varies(values):
            used = np.asarray(powers.any(axis=0))
            combinations.append(Argument(values, name, used, cost))
    return combinations


@dataclass(frozen=True, eq=False)
class Block:
    """A monomial, times an unknown function of a combination of other columns or a constant."""

    argument: Argument | None
    powers: Array  # (feature,)

    def name(self, problem: SearchProblem) -> Expr:
        """Return the block as an expression, with an unknown function."""
        inside = self.argument.name if self.argument else sympy.Integer(1)
        return monomial(problem.names, self.powers) * _UNKNOWN(inside)

    def matrix(self, problem: SearchProblem, pieces: int) -> tuple[Array, Basis | None]:
        """Return the splines times the monomial, (row, spline), and the basis, if any."""
        factor = evaluate(problem.columns, self.powers[None])
        if self.argument is None:
            return factor, None
        basis = Basis(self.argument.scaled, pieces)
        return basis.at(self.argument.scaled) * factor, basis

    def curve(self, basis: Basis | None, coefficients: Array) -> tuple[Array, Array]:
        """Return a uniform grid between quantiles of the argument, and the function there."""
        if basis is None or self.argument is None:
            return coefficients, coefficients
        values = self.argument.values
        low, high = np.quantile(values, tuned.CURVE_ENDS)
        grid = np.linspace(float(low), float(high), tuned.GRID_POINTS)
        return grid, basis.at(np.log(grid) if logarithmic(values) else grid) @ coefficients


@dataclass(frozen=True, eq=False)
class BlockSum:
    """A sum of blocks, fitted together: their orthonormal basis and the residual."""

    chosen: tuple[int, ...]
    basis: Array  # (row, direction)
    residual: Array  # (row,), of a target of size 1

    @property
    def error(self) -> float:
        """Unexplained share of the variance."""
        return float(self.residual @ self.residual)

    @property
    def promise(self) -> float:
        """Error with a factor for every block."""
        return max(self.error, tuned.EXACT_BLOCKS) * tuned.BLOCK_PRICE ** len(self.chosen)

    def plus(self, k: int, columns: Array) -> BlockSum:
        """Add a block of columns, (column, row)."""
        new = directions(columns.T - self.basis @ (self.basis.T @ columns.T))
        new = directions(new - self.basis @ (self.basis.T @ new))
        left = self.residual - new @ (new.T @ self.residual)
        return BlockSum((*self.chosen, k), np.column_stack((self.basis, new)), left)


def _simplest_pairs(options: list[Argument], exponents: Array, costs: Array) -> tuple[Array, Array]:
    """Return the cheapest pairs of a combination and a monomial of other columns, as indices."""
    triples = []
    for n, option in enumerate(options):
        used = option.used if len(option.used) > 2 or not option.used.all() else [True, False]
        apart = np.flatnonzero(~exponents[:, used].any(axis=1))
        triples.append(np.stack((costs[apart] + option.cost, np.full(len(apart), n), apart)))
    cost, places, factors = np.concatenate(triples, axis=1)
    order = np.argsort(cost, kind="stable")[: tuned.BLOCKS]
    return places[order].astype(int), factors[order].astype(int)


def directions(columns: Array) -> Array:
    """Return an orthonormal basis of the span of columns."""
    u, s, _ = np.linalg.svd(columns.astype(float), full_matrices=False)
    return np.asarray(u[:, s > tuned.BLOCK_ROUNDING])


class BlockGroup:
    """Centered and normalized blocks (block, spline, row), orthogonalized to some directions."""

    def __init__(self, matrix: Array, spanned: Array) -> None:
        matrix = matrix - matrix.mean(axis=2, keepdims=True)
        size = np.sqrt(np.square(matrix).sum(axis=2, keepdims=True))
        matrix = matrix / np.where(size > 0, size, 1.0)
        self.matrix = matrix - (matrix @ spanned) @ spanned.T
        ridge = np.eye(matrix.shape[1], dtype=np.float32) * np.float32(tuned.BLOCK_RIDGE)
        self.gram = self.matrix @ self.matrix.transpose(0, 2, 1) + ridge

    def gains(self, used: Array) -> Array:
        """Return each block's reduction of the squared residual; `used` has the residual last."""
        overlaps = (self.matrix.reshape(-1, len(used)) @ used).reshape(*self.gram.shape[:2], -1)
        across, right = overlaps[..., :-1], overlaps[..., -1:]
        solved = np.linalg.solve(self.gram - across @ across.transpose(0, 2, 1), right)
        return np.asarray((right * solved).sum(axis=(1, 2)), dtype=float)


class BlockLibrary:
    """The simplest blocks for a problem, and splines of all columns."""

    def __init__(self, problem: SearchProblem, pieces: int, exponents: Array | None = None) -> None:
        fitted = np.flatnonzero(problem.fitted)
        self.rows = fitted[regression.spread_rows(len(fitted), tuned.BLOCK_ROWS)]
        if exponents is None:
            exponents, costs = simplest(problem.width)
        else:
            costs = np.zeros(len(exponents))
        good = np.flatnonzero(allowed(problem, exponents))[: tuned.BARE_BLOCKS]
        exponents, costs, options = exponents[good], costs[good], arguments(problem)
        bases = [Basis(a.scaled, pieces).at(a.scaled)[self.rows].T for a in options]
        most = max(map(len, bases))  # columns of few values have fewer splines
        padded = [np.pad(b, ((0, most - len(b)), (0, 0))) for b in bases]
        values = np.stack(padded).astype(np.float32)
        single = [n for n, option in enumerate(options) if option.used.sum() == 1]
        self.splines = [Block(options[n], exponents[0]) for n in single]
        centered = values[single] - values[single].mean(axis=2, keepdims=True)
        self.spanned = directions(np.concatenate(centered).T).astype(np.float32)  # (row, direction)
        if self.spanned.shape[1] > len(self.rows) // 4:
            self.splines, self.spanned = [], self.spanned[:, :0]
        places, factors = _simplest_pairs(options, exponents, costs)
        products = evaluate(problem.columns[self.rows], exponents).T[:, None]
        products = (products / np.abs(products).max(axis=2, keepdims=True)).astype(np.float32)
        # with functions, and without
        both = values[places] * products[factors], products[1:]
        self.groups = tuple(BlockGroup(part, self.spanned) for part in both)
        pairs = zip(places, factors, strict=True)
        self.blocks = [Block(options[n], exponents[k]) for n, k in pairs]
        self.blocks += [Block(None, powers) for powers in exponents[1:]]

    def columns(self, k: int) -> Array:
        """Return the normalized splines of a block times its monomial, (spline, row)."""
        bent, bare = self.groups
        count = len(bent.matrix)
        return np.asarray(bent.matrix[k] if k < count else bare.matrix[k - count])

    def gains(self, total: BlockSum) -> Array:
        """Return the reduction of the squared residual by each block."""
        check_time()
        used = np.column_stack((total.basis, total.residual)).astype(np.float32)
        return np.concatenate([group.gains(used) for group in self.groups if len(group.matrix)])

    def begun(self, target: Array) -> BlockSum:
        """Return the sum without blocks."""
        y = target[self.rows] - target[self.rows].mean()
        y = y / (np.sqrt(y @ y) or 1.0)
        return BlockSum((), np.zeros((len(y), 0)), y - self.spanned @ (self.spanned.T @ y))

    def grown(self, target: Array, most: int, beam: int) -> list[BlockSum]:
        """Return the best sums of 1, 2, ... `most` blocks by a beam search."""
        sums, best_sums = [self.begun(target)], []
        for _ in range(most):
            trials: dict[frozenset[int], tuple[float, int, BlockSum]] = {}
            for total in sums:
                gains = self.gains(total)
                for k in map(int, np.argsort(-gains)[:beam]):
                    key = frozenset((*total.chosen, k))
                    trials.setdefault(key, (total.error - float(gains[k]), k, total))
            best = sorted(trials.values(), key=lambda t: t[0])[:beam]
            sums = [total.plus(k, self.columns(k)) for _, k, total in best]
            sums.sort(key=lambda s: s.error)
            best_sums += sums[: tuned.BLOCK_SUMS.tried]
            if not tuned.EXACT_BLOCKS < sums[0].error < tuned.FAR_BLOCKS:
                break
        return sorted(best_sums, key=lambda s: s.promise)

    def refined(self, problem: SearchProblem) -> Iterator[tuple[BlockLibrary, list[BlockSum]]]:
        """Yield this library and its best sums, then a library of finer splines and its sums."""
        sums = self.grown(problem.target, *tuned.GROWN)[: tuned.BLOCK_SUMS.tried]
        yield self, sums
        within = (tuple(self.blocks[k].powers) for total in sums for k in total.chosen)
        powers = np.array(list(dict.fromkeys(((0.0,) * problem.width, *within))))
        finer = BlockLibrary(problem, tuned.BLOCK_SUMS.pieces[2], powers)
        yield finer, finer.grown(problem.target, *tuned.FEW_GROWN)[: tuned.BLOCK_SUMS.tried]


@dataclass(frozen=True, eq=False)
class BlockModel:
    """A sum of few blocks with fitted splines, and its held-out error."""

    problem: SearchProblem
    blocks: list[Block]
    constant: float
    curves: list[tuple[Array, Array]]  # grid and values there; for a bare monomial, its coefficient
    error: float

    @classmethod
    def of(cls, problem: SearchProblem, blocks: list[Block]) -> BlockModel:
        """Fit with finer and finer splines; keep the best."""
        rows, best = problem.fitted, cls(problem, blocks, 0.0, [], np.inf)
        for pieces in tuned.BLOCK_SUMS.pieces:
            parts, bases = zip(*(block.matrix(problem, pieces) for block in blocks), strict=True)
            matrix = np.column_stack((np.ones(len(rows)), *parts))
            if matrix.shape[1] > rows.sum() // 3 and best.error < np.inf:
                break
            error = regression.quick_error(matrix, problem.target, problem.held_out)
            if error < best.error:
                sizes = regression.solve(matrix[rows], problem.target[rows])
                cuts = np.cumsum([part.shape[1] for part in parts])[:-1]
                fits = zip(blocks, bases, np.split(sizes[1:], cuts), strict=True)
                curves = [block.curve(basis, own) for block, basis, own in fits]
                best = cls(problem, blocks, float(sizes[0]), curves, error)
        return best

    @property
    def cost(self) -> float:
        """Error with a factor for every block."""
        return max(self.error, tuned.EXACT_BLOCKS) * tuned.BLOCK_PRICE ** len(self.blocks)

    @property
    def key(self) -> frozenset[Expr]:
        """Key of the blocks."""
        return frozenset(block.name(self.problem) for block in self.blocks)

    def formulas(self, front: Front) -> Iterator[Expr]:
        """Yield formulas with elementary functions; a single block's curve is searched further."""
        problem = self.problem
        names = [monomial(problem.names, block.powers) for block in self.blocks]
        parts = list(zip(self.blocks, names, self.curves, strict=True))
        bare = [(curve[1][0], name) for block, name, curve in parts if block.argument is None]
        rest = linear((self.constant, *(size for size, _ in bare)), (1, *(n for _, n in bare)))
        bent = [(block.argument, name, *curve) for block, name, curve in parts if block.argument]
        if not bent:
            yield problem.rebuild(rest)
            return
        for functions in written(
            np.stack([grid for _, _, grid, _ in bent]),
            [values for *_, values in bent],
            [argument.name for argument, *_ in bent],
            most=tuned.BLOCK_SUMS.written,
            outer=("id", "invsq", "inv", "sq"),
            inner=("id", "sq", "inv"),
            epsilon=float(np.clip(self.error, 1e-9, 1e-2)),
        ):
            pairs = zip(functions, bent, strict=True)
            terms = (function * name for function, (_, name, *_) in pairs)
            yield problem.rebuild(sympy.Add(rest, *terms))
        factor = evaluate(problem.columns, self.blocks[0].powers[None])[:, 0]
        if len(self.blocks) == 1 and regression.away(factor, tuned.POWER):
            argument = bent[0][0]
            less = problem.over(factor, names[0]).onto(argument.values, argument.name)
            yield from CURVE.formulas(less, front)


class SumOfBlocks(Ansatz):
    """A sum of few monomials times functions of combinations of other columns."""

    limits = tuned.BLOCK_SUMS

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Yield nearly exact models at once, and the best others in the end."""
        library = BlockLibrary(problem, self.limits.pieces[0])
        models: dict[tuple[str, frozenset[Expr]], BlockModel] = {}
        views = transformed(problem, self.limits.targets)
        rough = [library.grown(view.target, *tuned.FEW_GROWN)[0].promise for _, view in views]
        for k in np.argsort(rough)[: tuned.BLOCK_TARGETS]:
            name, view = views[k]
            for finer, sums in library.refined(view):
                fits = (fit for total in sums for fit in _short_models(view, finer, total))
                new = {(name, fit.key): fit for fit in fits}
                near = {key: m for key, m in new.items() if m.error < tuned.NEAR_BLOCKS}
                models |= {key: m for key, m in new.items() if key not in near}
                yield from self._written(near.values(), front)
                if near or front.done:
                    break
        yield from self._written(models.values(), front)

    def _written(self, models: Iterable[BlockModel], front: Front) -> Iterator[Expr]:
        for model in sorted(models, key=lambda model: model.cost)[: self.limits.tried]:
            if model.error < self.limits.error:
                yield from model.formulas(front)


def _short_models(
    problem: SearchProblem, library: BlockLibrary, total: BlockSum
) -> list[BlockModel]:
    """Drop blocks one by one, and fit few ones with finer splines."""
    blocks = [*library.splines, *(library.blocks[k] for k in total.chosen)]
    parts = [block.matrix(problem, tuned.BLOCK_SUMS.pieces[0])[0] for block in blocks]
    groups = np.repeat(np.arange(len(parts) + 1), [1, *(part.shape[1] for part in parts)])
    matrix, rows = np.concatenate([np.ones((len(parts[0]), 1)), *parts], axis=1), problem.fitted
    path = regression.eliminate(
        matrix[rows], problem.target[rows], groups, ridge=tuned.BLOCK_ELIMINATION
    )
    subsets = ([blocks[g - 1] for g in active if g] for _, active in path)
    return [BlockModel.of(problem, s) for s in subsets if 0 < len(s) <= tuned.FEW_BLOCKS]
