"""Terms of small networks: curves of columns, products, and a link.

A product of two single columns is purified [1]_: the sum of functions of either column that is
nearest to it over rows becomes part of their curves.

References
----------
.. [1] B. Lengerich et al., Purifying interaction effects with the functional ANOVA, 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from kanlens._display import Displayed
from kanlens.attribution._effects import (
    MAX_DISCRETE_VALUES,
    Effect,
    Settings,
    columns_of,
    make_settings,
)
from kanlens.attribution._problem import check_outputs, data_rows, explained_output
from kanlens.attribution._sum_form import SumForm, read_form
from kanlens.functions._elementary import Array
from kanlens.model._analysis import Model, check_model, float64_copy, over_rows, rows_at_once
from kanlens.model._network import Rows

POINTS = 81  # of a column, in addition to breakpoints
KNOTS, ROWS_PER_KNOT = 12, 25  # most functions of a column in a projection, and least rows of each
RESOLVED = 1e-10  # singular value of the projection over the largest, to be kept

Key = TypeVar("Key")
Part: TypeAlias = tuple[Tensor, Tensor]  # values at rows, and at points


@dataclass(frozen=True, kw_only=True, eq=False)
class Summand:
    """One term of a sum.

    Attributes
    ----------
    name : str
        Names of its columns.
    factors : tuple of tuple of Effect
        A curve or a surface is one factor of one effect; a product of sums has two factors, each
        with the effects of its columns while the others are at their mean. The first factor has a
        standard deviation of 1.
    values : Tensor, shape (row,)
        Values at the rows, less their mean.
    """

    name: str
    factors: tuple[tuple[Effect, ...], ...]
    values: Tensor

    @property
    def importance(self) -> float:
        """Standard deviation of the values."""
        return float(self.values.square().mean().sqrt())

    @property
    def kind(self) -> str:
        """The word "curve", "surface" or "product"."""
        if len(self.factors) == 2:
            return "product"
        return "curve" if len(self.factors[0][0].settings) == 1 else "surface"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Terms(Displayed):
    """An output as a link of a sum of terms; in float64, on the CPU.

    Attributes
    ----------
    terms : tuple of Summand
        Sorted by importance; the mean of each over the rows is subtracted.
    level : float
        Constant; the sum of all terms and the level is the output, or the argument of the link.
    target, unit : str
        Name of the output, and unit of the sum: that of the output, log-odds, or none with a link.
    link : Effect or None
        The link at arguments, in units of the output.
    """

    terms: tuple[Summand, ...]
    level: float
    target: str
    unit: str
    link: Effect | None = None

    def _line(self) -> str:
        names = ", ".join(term.name for term in self.terms)
        return f"{len(self.terms)} of {self.target}{', then a link' * bool(self.link)}: {names}"


def terms(model: Model, x: Rows | None = None, *, target: int | str | None = None) -> Terms:
    """Return the terms of an output: curves, surfaces, products of sums, and a link.

    Terms are centered over the rows. The part of a product of two columns that is a function of one
    of them alone, by least squares over the rows, is in the curve of that column.

    Parameters
    ----------
    model : KAN or fitted estimator
        A model of one layer, or from `kanlens.frontier`. Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows in the units of the data. Default: the background rows stored in the model.
    target : int or str, optional
        The output, as for `kanlens.attribute`; log-odds for classification.

    Returns
    -------
    Terms

    Raises
    ------
    MethodError
        If the model has no such terms, or there are no rows.
    InvalidValueError, ShapeError, DTypeError, DataError
        If there is no such output, or `x` cannot be used.

    Examples
    --------
    >>> from kanlens.model._network import KAN
    >>> x = torch.rand(50, 2, dtype=torch.float64)
    >>> result = terms(KAN([2, 1]).double(), x)
    >>> sorted(term.name for term in result.terms)
    ['x1', 'x2']
    """
    model = check_model("terms", model)
    with torch.inference_mode(False), torch.no_grad():
        rows = data_rows(model, x, call="terms", what="x", needs="rows of x")
        index = explained_output(model, target, rows, call="terms")
        form = read_form(float64_copy(model).cpu(), index)
        return _TermSum(form, rows.detach().double().cpu(), index).centered()


class _TermSum:
    """The terms of a form, at rows and at points of the columns."""

    def __init__(self, form: SumForm, rows: Tensor, target: int) -> None:
        self.form, self.model, self.rows, self.target = form, form.model, rows, target
        output, classes = self.model.schema.outputs[target], self.model.task == "classification"
        self.output_unit = "log-odds" if classes else output.unit
        self.unit = "" if form.link else self.output_unit
        every = range(rows.shape[1])
        self.columns = list(dict.fromkeys(tuple(columns_of(self.model, k)) for k in every))
        self.place = {sub: place for place, sub in enumerate(form.subnodes)}
        self.layer = self.model.layers[0].select(form.subnodes, every).requires_grad_(False)
        self.bias = self.layer.bias
        edges = self.layer.nonzero_edges()
        self.live = [  # columns of each subnode
            [c for c, places in enumerate(self.columns) if edge[list(places)].any()]
            for edge in edges
        ]
        used = sorted({column for row in self.live for column in row})
        (self.values,) = over_rows(lambda x: [self._edges(x)], rows, rows_at_once(self.model))
        check_outputs("terms", self.values)
        self.settings = {column: self._settings(column) for column in used}
        self.curves = {column: self._curve(column) for column in used}  # (point, sub)

    def _edges(self, x: Tensor) -> Tensor:
        """Return the values of all columns (batch, sub, column) at rows (batch, in)."""
        edges = self.layer.edge_values(self.model.scale_inputs(x))
        return torch.stack([edges[:, :, list(own)].sum(2) for own in self.columns], 2)

    def _settings(self, column: int) -> Settings:
        """Return points of a column; with knots, unless it takes a few values only."""
        features = list(self.columns[column])
        own = make_settings(self.model, features, self.rows, "pdp", POINTS)
        if own.labels or len(own.x) <= MAX_DISCRETE_VALUES:
            return own
        shift, scale = self.model.input_shift[features], self.model.input_scale[features]
        breakpoints = shift + scale * self.layer.breakpoints()[features[0]]
        x = torch.cat([own.x, breakpoints, torch.from_numpy(_knots(own))])
        x = x[(x >= own.x[0]) & (x <= own.x[-1])].unique()
        return replace(own, x=x, codes=x[:, None])

    def _curve(self, column: int) -> Tensor:
        """Return the values of a column at its points, (point, sub)."""
        own = self.settings[column]
        x = self.rows[:1].repeat(len(own.x), 1)
        x[:, own.columns] = own.codes
        return self.layer.edge_values(self.model.scale_inputs(x))[:, :, own.columns].sum(2)

    def centered(self) -> Terms:
        """Return the terms, each less its mean over the rows."""
        mains, surfaces = dict[int, Part](), dict[tuple[int, ...], Part]()
        for sub, weight in self.form.sums:
            for column in self.live[place := self.place[sub]]:
                values, curve = self.values[:, place, column], self.curves[column][:, place]
                _add(mains, column, (weight * values, weight * curve))
        level, summands = self.form.level, list[Summand]()
        for first, second, weight in self.form.products:
            sides = self.place[first], self.place[second]
            own = [self.live[side] for side in sides]
            if len(own[0]) == len(own[1]) == 1 and own[0] != own[1]:
                _add(surfaces, *self._surface(sides, weight))
            else:
                summand, shift = self._product(sides, weight)
                summands.append(summand)
                level += shift
        for pair, (values, surface) in surfaces.items():
            parts, rest = self._purified(pair, values, surface)
            for column, part in zip(pair, parts, strict=True):
                _add(mains, column, part)
            summands.append(self._summand(pair, *rest))
        for column, (values, curve) in mains.items():
            mean = values.mean()
            level += float(mean)
            summands.append(self._summand((column,), values - mean, curve - mean))
        return self._ordered(summands, level)

    def _ordered(self, summands: list[Summand], level: float) -> Terms:
        link = None
        if self.form.link is not None:
            edge, factor, shift = self.form.link
            data = level + torch.stack([term.values for term in summands]).sum(0)
            x = torch.linspace(float(data.min()), float(data.max()), 2 * POINTS, dtype=data.dtype)
            values = torch.from_numpy(shift + factor * edge(x.numpy()))
            name, codes = "sum of terms", x[:, None]
            own = Settings(name=name, unit="", x=x, labels=(), data=data, columns=[], codes=codes)
            link = self._effect((own,), values, self.output_unit)
        return Terms(
            terms=tuple(sorted(summands, key=lambda term: -term.importance)),
            level=level,
            target=self.model.output_names[self.target],
            unit=self.unit,
            link=link,
        )

    def _effect(self, settings: tuple[Settings, ...], values: Tensor, unit: str = "") -> Effect:
        name = self.model.output_names[self.target]
        return Effect(
            settings=settings, target=name, unit=unit, kind="pdp", exact=True, values=values
        )

    def _summand(self, columns: tuple[int, ...], values: Tensor, points: Tensor) -> Summand:
        settings = tuple(self.settings[column] for column in columns)
        name = " * ".join(part.name for part in settings)
        effect = self._effect(settings, points, self.unit)
        return Summand(name=name, factors=((effect,),), values=values)

    def _sums(self, side: int) -> Tensor:
        """Return the values of a factor at the rows."""
        return self.bias[side] + self.values[:, side].sum(1)

    def _product(self, sides: tuple[int, int], weight: float) -> tuple[Summand, float]:
        """Return a product of two sums, the first of deviation 1, and its mean."""
        spread = float(self._sums(sides[0]).std(correction=0)) or 1.0
        factors, names = [], []
        for side, scale in zip(sides, (1 / spread, weight * spread), strict=True):
            mean, effects = self._sums(side).mean(), []
            for column in self.live[side]:
                values = self.curves[column][:, side] - self.values[:, side, column].mean() + mean
                effects.append(self._effect((self.settings[column],), scale * values))
            factors.append(tuple(effects))
            names.append(" + ".join(effect.settings[0].name for effect in effects))
        values = weight * self._sums(sides[0]) * self._sums(sides[1])
        name = " * ".join(f"({name})" if " + " in name else name for name in names)
        mean = values.mean()
        return Summand(name=name, factors=tuple(factors), values=values - mean), float(mean)

    def _surface(self, sides: tuple[int, int], weight: float) -> tuple[tuple[int, ...], Part]:
        """Return the columns of a product in order, and its values at rows and points."""
        first, second = (
            self.bias[side] + self.curves[self.live[side][0]][:, side] for side in sides
        )
        values = weight * self._sums(sides[0]) * self._sums(sides[1])
        pair, points = (self.live[sides[0]][0], self.live[sides[1]][0]), torch.outer(first, second)
        if pair[0] > pair[1]:
            pair, points = pair[::-1], points.T
        return pair, (values, weight * points)

    def _purified(
        self, pair: tuple[int, ...], values: Tensor, surface: Tensor
    ) -> tuple[list[Part], Part]:
        """Return the nearest functions of either column, and the rest of a surface."""
        settings = [self.settings[column] for column in pair]
        knots = [_knots(own) for own in settings]
        hats = [_hats(o.data.numpy(), k) for o, k in zip(settings, knots, strict=True)]
        design = np.concatenate(hats, 1)
        heights = np.linalg.lstsq(design, values.numpy(), rcond=RESOLVED)[0]
        split = np.split(heights, [len(knots[0])])
        parts = [
            (torch.from_numpy(hat @ h), torch.from_numpy(np.interp(own.x.numpy(), k, h)))
            for own, k, hat, h in zip(settings, knots, hats, split, strict=True)
        ]
        (first, left), (second, right) = parts
        return parts, (values - first - second, surface - left[:, None] - right)


def _add(table: dict[Key, Part], key: Key, part: Part) -> None:
    """Add values to those of a key."""
    rows, points = table.get(key, (0.0, 0.0))
    table[key] = rows + part[0], points + part[1]


def _knots(own: Settings) -> Array:
    """Return places where functions of a column bend in a projection: quantiles, or all values."""
    if own.labels or len(own.x) <= MAX_DISCRETE_VALUES:
        return own.x.numpy()
    count = min(max(len(own.data) // ROWS_PER_KNOT, 2), KNOTS)
    shares = (np.arange(count) + 0.5) / count
    return np.unique(np.quantile(own.data.numpy(), shares, method="inverted_cdf"))


def _hats(x: Array, knots: Array) -> Array:
    """Return hat functions (row, knot) at x (row,)."""
    return np.stack([np.interp(x, knots, hat) for hat in np.eye(len(knots))], 1)
