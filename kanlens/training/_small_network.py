"""Small networks: an increasing link function H of a sum of curves and products of sums of curves.

    y = H(sum_i f_i(x_i) + sum_k u_k v_k),  u_k and v_k sums of curves of different columns

One factor of every product is fitted at a time, so that each step is a linear mixed model. Curves
are smooth while a network grows; the last fit can add rough parts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kanlens.data._cell_parsing import Array
from kanlens.model._losses import Loss
from kanlens.training._constraints import inequalities, nearest_feasible
from kanlens.training._curve_design import ColumnCurves, CurveDesign, DenseDesign
from kanlens.training._link import Link, fit_link
from kanlens.training._variance_components import (
    MAX_STEPS,
    MIN_NOISE,
    MIN_VARIANCE,
    MixedFit,
    restricted_fit,
)

SQUARED = Loss()
RESOLVED = 1e-2  # least information on a direction, relative to its prior
RETURNING = 1e-2  # least variance of a column's line, so that its effect can return
SMALL = 1e-6  # least variance at the start of a step
PASSES, SCORING_STEPS = 6, 2  # most passes, and scoring steps in each
CHANGE = 1e-2  # relative change of the sums that ends the passes
MIN_SLOPE = 0.1  # of a link in working responses
SHARES = (1.0, 0.5, 0.25, 0.125, 0.0)  # of a step, tried until the loss does not rise
PRIOR = 0.25, 1.0  # of the exponent: maximum; factor of variances per row, set on pure noise
FAR = 0.1  # rise of the criterion per row that keeps a link
NOISE = 0.3  # initial error variance over the variance of the targets
GROWING = ("level", "noise", "freedom", "side", "owners", "coefficients", "variances", "bases")


@dataclass(frozen=True, eq=False)
class FactorCurve:
    """A curve in a factor: index of its column, coefficients, and variances of its parts."""

    column: int
    coefficients: Array
    variances: Array

    def scaled(self, factor: float) -> FactorCurve:
        """Return the curve multiplied by a number."""
        return FactorCurve(self.column, self.coefficients * factor, self.variances * factor**2)


@dataclass(eq=False)
class Product:
    """A product of two sums of curves, each with a constant."""

    factors: tuple[list[FactorCurve], list[FactorCurve]]
    levels: tuple[float, float] = (0.0, 0.0)

    def copy(self) -> Product:
        """Return a copy with its own lists of the same curves."""
        first, second = self.factors
        return Product((list(first), list(second)), self.levels)

    def scale(self, side: int, factor: float) -> None:
        """Multiply a factor of the product by a number."""
        self.factors[side][:] = [edge.scaled(factor) for edge in self.factors[side]]


class SmallNetwork:
    """The state of a small network of one output; rows of weight 0 are held out.

    Weights sum to the number of distinct rows; `offsets` (batch,) are added to the logits of a
    class. If `pooled`, curves of all columns share the variance of each part; for few rows or
    separable classes, separate ones are uncertain. If `fine`, curves have rough parts.
    """

    def __init__(
        self,
        columns: Sequence[ColumnCurves],
        targets: Array,
        weights: Array,
        loss: Loss = SQUARED,
        *,
        fine: bool = False,
        pooled: bool = False,
    ) -> None:
        self.columns, self.targets, self.weights = list(columns), targets, weights
        self.loss, self.products = loss, list[Product]()
        self.offsets: Array | None = None
        self.side, self.fine, self.curved = 0, fine, list(range(len(columns)))
        self.pooled = pooled
        self.link: Link | None = None
        self.level = loss.constant(targets, weights)
        own, errors = loss.working(np.full(len(targets), self.level), targets, weights)
        variance = float(own @ errors**2 / weights.sum())
        self.noise = 1.0 if loss.known else max(NOISE * variance, MIN_NOISE[1])
        self.bases = [np.eye(len(column.smooth)) for column in columns]
        owners = [c.design.owners if fine else c.design.owners[c.smooth] for c in columns]
        self._set_mains(owners, np.zeros(sum(map(len, owners))))
        self.fit(first=True)
        if not fine:
            self._compress()

    def _set_mains(self, owners: Sequence[Array], coefficients: Array) -> None:
        """Set the coefficients of columns, their blocks, and initial variances."""
        self.coefficients = coefficients
        if not owners:
            self.owners, self.variances = np.zeros(0, dtype=np.intp), coefficients
            return
        designs = [self.columns[place].design for place in self.curved]
        sizes = [int(own.max()) + 1 for own in owners]
        firsts = np.cumsum([0, *sizes])
        blocks = np.concatenate([own + i for own, i in zip(owners, firsts, strict=False)])
        starts = [design.start[:size] for design, size in zip(designs, sizes, strict=True)]
        kinds = np.arange(firsts[-1])
        if self.pooled:
            pairs = zip(sizes, designs, strict=True)
            kinds = np.concatenate([np.arange(n) - (len(own.curves) > 1) for n, own in pairs])
        _, places, kinds = np.unique(kinds, return_index=True, return_inverse=True)
        self.owners = kinds[blocks]
        self.variances = np.concatenate(starts)[places] / len(sizes)

    def _compress(self) -> None:
        """Reduce each column's basis to directions that the data determine, with one variance."""
        coefficients = []
        for place, (start, stop) in enumerate(self._places()):
            column, total = self.columns[place], self.weights.sum()
            variances = self.variances[self.owners[start:stop]].copy()
            variances[0] = max(variances[0], RETURNING)
            part = column.smooth_values - self.weights @ column.smooth_values / total
            scaled = part * np.sqrt(variances)
            values, vectors = np.linalg.eigh((scaled * self.weights[:, None]).T @ scaled)
            resolved = values > RESOLVED * self.noise
            resolved[-1] = True
            self.bases[place] = np.sqrt(variances)[:, None] * vectors[:, resolved]
            own = self.coefficients[start:stop]
            coefficients.append(np.linalg.lstsq(self.bases[place], own, rcond=None)[0])
        self.coefficients = np.concatenate(coefficients)
        own = np.arange(1 if self.pooled else len(coefficients))
        self.owners = np.resize(own, len(coefficients)).repeat([len(c) for c in coefficients])
        self.variances = np.ones(len(own))
        self.__dict__.pop("mains", None)

    def _places(self) -> list[tuple[int, int]]:
        """Return the slice (start, stop) of the coefficients of each column with a curve."""
        if self.fine:
            ends = np.cumsum([0, *(len(self.columns[i].design.owners) for i in self.curved)])
        else:
            ends = np.cumsum([0, *(basis.shape[1] for basis in self.bases)])
        return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))

    @cached_property
    def mains(self) -> Array:
        """Design matrix (batch, p) of the columns' curves while a network grows."""
        pairs = zip(self.columns, self.bases, strict=True)
        return np.concatenate([column.smooth_values @ basis for column, basis in pairs], 1)

    def column_values(self) -> list[Array]:
        """Return the values (batch,) of the curve of each column."""
        values = []
        for place, (start, stop) in zip(self.curved, self._places(), strict=True):
            own, design = self.coefficients[start:stop], self.columns[place].design
            values.append(design.values(own) if self.fine else self.mains[:, start:stop] @ own)
        return values

    def main_coefficients(self) -> list[Array]:
        """Return the coefficients of each column's curve in the basis of its design."""
        parts = [np.zeros(len(column.design.owners)) for column in self.columns]
        for place, (start, stop) in zip(self.curved, self._places(), strict=True):
            own, smooth = self.coefficients[start:stop], self.columns[place].smooth
            if self.fine:
                parts[place] = own.copy()
            else:
                parts[place][smooth] = self.bases[place] @ own
        return parts

    def factor_sums(self, product: Product) -> tuple[Array, Array]:
        """Return the values (batch,) of both factors of a product."""
        first, second = (
            level + sum(self.columns[e.column].factor_values @ e.coefficients for e in factor)
            for factor, level in zip(product.factors, product.levels, strict=True)
        )
        return np.asarray(first), np.asarray(second)

    def sums(self) -> Array:
        """Return the argument of the link, (batch,)."""
        total = np.full(len(self.targets), self.level) + np.sum(self.column_values(), 0)
        for product in self.products:
            total = total + np.prod(self.factor_sums(product), 0)
        return np.asarray(total)

    def outputs(self) -> Array:
        """Return the outputs (batch,)."""
        sums = self.sums()
        return sums if self.link is None else self.link(sums)

    def curves(self) -> int:
        """Return the number of edges; those of the levels of a categorical column count as one."""
        mains = sum(bool(own.any()) for own in self.main_coefficients())
        products = sum(1 + sum(map(len, product.factors)) for product in self.products)
        return mains + products + bool(self.products) + (self.link is not None)

    def losses(self, sums: Array) -> Array:
        """Return the losses (batch,)."""
        outputs = sums if self.link is None else self.link(sums)
        outputs = outputs if self.offsets is None else outputs + self.offsets
        return self.loss.losses(outputs, self.targets, self.weights)

    def working(self, sums: Array) -> tuple[Array, Array]:
        """Return working weights and errors (batch,) of a Newton step in the sum."""
        if self.link is None:
            outputs = sums if self.offsets is None else sums + self.offsets
            return self.loss.working(outputs, self.targets, self.weights)
        slope = np.maximum(self.link.slope(sums), MIN_SLOPE)
        return self.weights * slope**2, (self.targets - self.link(sums)) / slope

    def moving(self) -> list[tuple[FactorCurve, Array]]:
        """Return the curves of the factors being fitted, each with the other factor's values."""
        sides, other = self.side, 1 - self.side
        return [
            (edge, self.factor_sums(product)[other])
            for product in self.products
            for edge in product.factors[sides]
        ]

    def linear(self) -> tuple[DenseDesign | CurveDesign, Array, Array, Array]:
        """Return the linear model of a step: design, blocks (`owners`), coefficients, variances."""
        owners, coefficients = [self.owners], [self.coefficients]
        variances, moving = [self.variances], self.moving()
        for edge, _ in moving:
            column = self.columns[edge.column]
            owners.append(column.design.owners[column.factor] + sum(map(len, variances)))
            coefficients.append(edge.coefficients)
            variances.append(edge.variances)
        own, all_coefficients = np.concatenate(owners), np.concatenate(coefficients)
        return self._design(own, moving), own, all_coefficients, np.concatenate(variances)

    def _design(
        self, owners: Array, moving: list[tuple[FactorCurve, Array]]
    ) -> DenseDesign | CurveDesign:
        if not len(owners):
            return DenseDesign(np.zeros((len(self.targets), 0)), owners)
        columns = [(self.columns[edge.column], rest) for edge, rest in moving]
        if not self.fine:
            parts = [column.factor_values * rest[:, None] for column, rest in columns]
            return DenseDesign(np.concatenate([self.mains, *parts], 1), owners)
        designs = [self.columns[place].design for place in self.curved]
        mains = [(design, None, np.arange(len(design.owners))) for design in designs]
        factors = [(column.design, rest, column.factor) for column, rest in columns]
        return CurveDesign.joined([*mains, *factors], owners)

    def _put(self, coefficients: Array, variances: Array) -> None:
        """Set the coefficients and variances that a step fits."""
        stop, last = len(self.coefficients), len(self.variances)
        self.coefficients, self.variances = coefficients[:stop], variances[:last]
        for product in self.products:
            for place, edge in enumerate(product.factors[self.side]):
                start, first = stop, last
                stop, last = start + len(edge.coefficients), first + len(edge.variances)
                own = coefficients[start:stop], variances[first:last]
                product.factors[self.side][place] = FactorCurve(edge.column, *own)

    def fit(self, passes: int = PASSES, *, first: bool = False) -> None:
        """Fit the factors in turn until the sums stop changing."""
        linear = not self.products and self.link is None and self.loss.linear
        for index in range(2 * passes if first else passes):
            self.side = index % 2
            before, after = self.step(SCORING_STEPS if index or not first else MAX_STEPS)
            change = np.sqrt(self.weights @ (after - before) ** 2 / self.weights.sum())
            if (linear and first) or (index and change < CHANGE * after.std()):
                break

    def step(self, steps: int) -> tuple[Array, Array]:
        """Fit the curves and one factor of each product; return the sums before and after."""
        self._balance()
        if self.link is not None:
            self.relink()
        sums = self.sums()
        weights, errors = self.working(sums)
        design, owners, old, variances = self.linear()
        fit, mean = self.solve(design, weights, errors + sums, variances, steps)
        fit = self._constrained(fit)
        values, own = design.values(fit.coefficients), np.maximum(fit.variances, MIN_VARIANCE)
        if not self.loss.separable:  # only differences of outputs matter
            weights, mean = self.weights, 0.0
        level = mean - float(weights @ values / weights.sum())
        bound: float = math.inf
        for share in (0.0, *SHARES):
            moved = sums + share * (level + values - sums)
            coefficients = old + share * (fit.coefficients - old)
            loss = self.weights @ self.losses(moved) / fit.noise
            loss += (coefficients**2 / own[owners]).sum()
            bound = float(loss) * (1 + 1e-9) if bound == math.inf else bound
            if share and loss <= bound:
                break
        self.freedom = float(fit.freedom.sum())
        self.noise, self.level = fit.noise, self.level + share * (level - self.level)
        self._put(coefficients, fit.variances)
        return sums, moved

    def _constrained(self, fit: MixedFit) -> MixedFit:
        """Return the nearest fit under which curves have their shapes."""
        cones = []
        for place, (start, stop) in zip(self.curved, self._places(), strict=True):
            column = self.columns[place]
            if column.shape:
                modes, (curve,) = column.design.modes[0], column.design.curves
                own = modes if self.fine else modes[:, column.smooth] @ self.bases[place]
                rows = inequalities(curve.breakpoints, column.shape, column.zero) @ own
                cone = np.zeros((len(rows), len(fit.coefficients)))
                cone[:, start:stop] = rows
                cones.append(cone[:, fit.live])
        if not cones or not len(fit.live):
            return fit
        coefficients = fit.coefficients.copy()
        point = coefficients[fit.live]
        root = np.linalg.cholesky(fit.covariance)
        coefficients[fit.live] = nearest_feasible(point, root, np.concatenate(cones))
        return replace(fit, coefficients=coefficients)

    def solve(
        self,
        design: DenseDesign | CurveDesign,
        weights: Array,
        response: Array,
        variances: Array,
        steps: int,
    ) -> tuple[MixedFit, float]:
        """Return the fit of a design to a response (batch,), and the response's mean.

        Most coefficients cannot be determined at the initial variances. They are left out, and
        included again where the variances have risen.
        """
        variances, noise = np.maximum(variances, SMALL), self.noise
        total = float(self.weights.sum())
        places = design.informed(variances, noise, total)
        while True:
            equations, mean = design.equations(weights, response, places)
            rows = max(total - 1, 1.0)
            prior = min(PRIOR[0], PRIOR[1] * equations.blocks / rows)
            fit = restricted_fit(
                replace(equations, rows=rows),
                variances,
                noise,
                known=self.loss.known,
                steps=steps,
                prior=prior,
            )
            more = np.union1d(places, design.informed(fit.variances, fit.noise, total))
            if len(more) == len(places) or self.loss.known:
                return fit.spread(places, len(design.owners)), mean
            places, variances, noise = more, np.maximum(fit.variances, SMALL), fit.noise

    def _balance(self) -> None:
        """Scale the factors held fixed to standard deviation 1."""
        for product in self.products:
            spread = max(float(self.factor_sums(product)[1 - self.side].std()), 1e-12)
            product.scale(self.side, spread)
            product.scale(1 - self.side, 1 / spread)

    def relink(self) -> None:
        """Refit the link; scale its argument so that the fitted line has slope 1."""
        sums = self.sums()
        if np.ptp(sums) < SMALL:
            return
        link, slope = fit_link(sums, self.targets, self.weights)
        if slope <= 0:
            return
        self.link = link.stretched(slope)
        self.level *= slope
        self.coefficients, self.variances = self.coefficients * slope, self.variances * slope**2
        for product in self.products:
            product.scale(self.side, slope)

    def criterion(self) -> float:
        """Return Akaike's information criterion of a regression."""
        rows = self.weights.sum()
        error = max(float(self.weights @ self.losses(self.sums())), 1e-300) / rows
        return float(rows * np.log(error) + 2 * self.freedom)

    def without_link(self) -> SmallNetwork:
        """Return a refit without the link, or this network if its criterion is lower."""
        other = self.copy()
        other.link = None
        other.fit(2)
        if other.criterion() <= self.criterion() + FAR * self.weights.sum():
            other.fit()
        return other if other.criterion() <= self.criterion() else self

    def strongest(self, count: int) -> SmallNetwork:
        """Return a network of the `count` columns whose curves vary most."""
        spreads = [float(values.std()) for values in self.column_values()]
        places = sorted(np.argsort(spreads)[::-1][:count].tolist())
        columns = [self.columns[place] for place in places]
        other = SmallNetwork(columns, self.targets, self.weights, self.loss, pooled=self.pooled)
        other.offsets = self.offsets
        return other

    def copy(self) -> SmallNetwork:
        """Return a copy that shares its columns."""
        other = copy.copy(self)
        other.products = [product.copy() for product in self.products]
        other.bases = list(self.bases)
        return other

    def state(self) -> dict[str, Any]:
        """Return all that changes while a network grows, as arrays and plain types."""
        state = {name: getattr(self, name) for name in GROWING}
        factors = [[list(map(vars, own)) for own in product.factors] for product in self.products]
        state["products"] = list(zip(factors, (p.levels for p in self.products), strict=True))
        return state | {"link": None if self.link is None else vars(self.link)}

    def at(self, state: dict[str, Any]) -> SmallNetwork:
        """Return the network in a state of its growth."""
        other = self.copy()
        if not all(map(np.array_equal, self.bases, state["bases"])):  # computed by other libraries
            other.__dict__.pop("mains", None)
        for name in GROWING:
            setattr(other, name, state[name])
        other.products = [
            Product(
                ([FactorCurve(**own) for own in first], [FactorCurve(**own) for own in second]),
                (levels[0], levels[1]),
            )
            for (first, second), levels in state["products"]
        ]
        other.link = None if state["link"] is None else Link(**state["link"])
        return other

    def refined(
        self, columns: Sequence[ColumnCurves], targets: Array, weights: Array
    ) -> SmallNetwork:
        """Return the network refitted to other rows, with rough parts of its curves."""
        other, full = self.copy(), self.main_coefficients()
        own = {column.index: column for column in columns}
        other.columns = [own[column.index] for column in self.columns]
        other.targets, other.weights, other.offsets = targets, weights, None
        other.fine = True
        other.curved = [place for place, own in enumerate(full) if own.any()]
        owners = [other.columns[place].design.owners for place in other.curved]
        start = np.concatenate([full[0][:0], *(full[place] for place in other.curved)])
        if not self.products and self.link is None:  # fitted as a network of curves alone
            start, other.level = start * 0.0, self.loss.constant(targets, weights)
        other._set_mains(owners, start)
        other.fit(first=True)
        other._center()
        return other

    def _center(self) -> None:
        """Move the part of a product that depends on single columns to their curves.

        A factor of mean m is (factor - m) + m, and m times the other factor is a sum of curves. A
        column without a curve of its own gets none.
        """
        parts, total = self.main_coefficients(), self.weights.sum()
        for product in self.products:
            for side in (0, 1):
                others = product.factors[1 - side]
                if not all(parts[edge.column].any() for edge in others):
                    continue
                mean = float(self.weights @ self.factor_sums(product)[side] / total)
                for edge in others:
                    places = self.columns[edge.column].factor
                    parts[edge.column][places] += mean * edge.coefficients
                self.level += mean * product.levels[1 - side]
                levels = list(product.levels)
                levels[side] -= mean
                product.levels = levels[0], levels[1]
        own = (parts[place] for place in self.curved)
        self.coefficients = np.concatenate([self.coefficients[:0], *own])
