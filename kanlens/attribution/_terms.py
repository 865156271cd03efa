"""Terms of small networks: curves of columns, products, and a link function.

Products of two single columns are purified: their main effects are moved to the curves of the
columns.

Bands of curves are posterior bands of a mixed model, with products and the link fixed. They cover
95% on average over a curve [1]_.

References
----------
.. [1] D. Nychka, Bayesian confidence intervals for smoothing splines, 1988.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens._display import Displayed
from kanlens._model_inputs import prepare_target
from kanlens.attribution._edge_bands import NORMAL, quadratic_loss
from kanlens.attribution._effects import (
    MAX_DISCRETE_VALUES,
    Effect,
    Settings,
    columns_of,
    make_settings,
)
from kanlens.attribution._problem import check_outputs, data_rows, explained_output
from kanlens.attribution._purification import purify
from kanlens.attribution._sum_form import SumForm, read_form
from kanlens.errors import MethodError
from kanlens.functions._elementary import Array
from kanlens.model._analysis import (
    Model,
    check_model,
    float64_copy,
    over_rows,
    rows_at_once,
    usual_range,
)
from kanlens.model._network import KAN, Rows, Targets

if TYPE_CHECKING:
    from kanlens.training._curve_design import CurveDesign
    from kanlens.training._variance_components import MixedFit

POINTS = 81  # of a column, in addition to breakpoints
MIN_CURVATURE = 1e-5  # of a row's loss, relative to the largest

Values = TypeVar("Values", Array, Tensor)


@dataclass(frozen=True, kw_only=True, eq=False)
class Summand:
    """One term of a sum.

    Attributes
    ----------
    name : str
        Names of its columns.
    factors : tuple of tuple of Effect
        A curve or a surface is one factor of one effect; a product of sums has two factors, each
        with the effects of its columns, the others held at their mean. The first factor has a
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
    """An output as a sum of terms, or a link function of it; in float64, on the CPU.

    Attributes
    ----------
    terms : tuple of Summand
        Sorted by importance; the mean of each over the rows is subtracted.
    level : float
        Intercept; the sum of all terms and the level is the output, or the argument of the link.
    target, unit : str
        Name of the output, and unit of the sum: that of the output, log-odds, or none with a link.
    link : Effect or None
        The link function at points over the range of its argument, in units of the output.
    classes : int
        Number of classes that have terms of their own; 1 otherwise.
    """

    terms: tuple[Summand, ...]
    level: float
    target: str
    unit: str
    link: Effect | None = None
    classes: int = 1

    def _line(self) -> str:
        names = ", ".join(term.name for term in self.terms)
        return f"{len(self.terms)} of {self.name}{', then a link' * bool(self.link)}: {names}"

    def curve(self, feature: str) -> Effect:
        """Return the curve of a column, with its band, as an effect."""
        curves = {term.name: term.factors[0][0] for term in self.terms if term.kind == "curve"}
        check_choice("terms", "feature", feature, curves)
        return curves[feature]

    @property
    def name(self) -> str:
        """Name of the output, for a classifier with the number of classes."""
        return self.target + f", one of {self.classes} classes" * (self.classes > 1)


def terms(
    model: Model,
    x: Rows | None = None,
    y: Targets | None = None,
    *,
    target: int | str | None = None,
) -> Terms:
    """Decompose an output into additive terms and a link function.

    The link is an increasing function of the sum of all terms. Terms are centered over the rows.
    The main effects of a product of two columns, estimated by smoothing over the rows, are added to
    the curves of the columns.

    With `y`, curves and levels of categories have 95% Bayesian bands, from a mixed model fitted as
    in `kanlens.frontier` with products and the link fixed. Coverage is on average over a curve, not
    pointwise, and is lower for classification with fewer than 500 rows (91% at 250). Curves of
    networks trained otherwise may lie outside their bands.

    Parameters
    ----------
    model : KAN or fitted estimator
        A model of one layer, or from `kanlens.frontier`. Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows in the units of the data. Default: the background rows stored in the model.
    y : array-like, shape (batch,) or (batch, out), optional
        The targets of `x`, for bands.
    target : int or str, optional
        The output, as for `kanlens.attribute`; log-odds for classification.

    Returns
    -------
    Terms

    Raises
    ------
    MethodError
        If the model has no such terms, there are no rows, or `y` is passed without `x`.
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
    if y is not None and x is None:
        raise MethodError("terms", "x with y", "y alone", "Pass the rows of the targets")
    with torch.inference_mode(False), torch.no_grad():
        rows = data_rows(model, x, call="terms", what="x", needs="rows of x")
        index = explained_output(model, target, rows, call="terms")
        form = read_form(float64_copy(model).cpu(), index)
        y = None if y is None else prepare_target(form.model, y, len(rows), call="terms")
        return _TermSum(form, rows.detach().double().cpu(), index).terms(y)


class _TermSum:
    """The curves of a small network, evaluated at all rows and at the points of each column.

    ``x`` (row + point, in) are scaled inputs, ``values`` (row + point, subnode, column) the curves
    at x, ``sums`` (row, subnode) their sums. Columns with fewer points repeat their last one.
    """

    def __init__(self, form: SumForm, rows: Tensor, target: int) -> None:
        self.form, self.model, self.rows, self.target = form, form.model, len(rows), target
        layer = self.model.layers[0].select(form.subnodes, range(rows.shape[1]))
        edges = layer.requires_grad_(False).nonzero_edges()
        used = {tuple(columns_of(self.model, k)) for k in edges.any(0).nonzero()[:, 0].tolist()}
        breakpoints = layer.breakpoints()
        self.settings = [_settings(self.model, list(k), rows, breakpoints) for k in sorted(used)]
        self.live = [  # columns of each subnode
            [c for c, own in enumerate(self.settings) if edge[own.columns].any()] for edge in edges
        ]
        self.most = max(len(own.x) for own in self.settings)
        points = rows[:1].repeat(self.most, 1)
        for own in self.settings:
            points[:, own.columns] = self._repeated(own.codes)

        def functions(x: Tensor) -> list[Tensor]:
            values = layer.edge_values(x)
            return [torch.stack([values[:, :, own.columns].sum(2) for own in self.settings], 2)]

        self.inputs, self.x = rows, self.model.scale_inputs(torch.cat([rows, points]))
        (self.values,) = over_rows(functions, self.x, rows_at_once(self.model))
        check_outputs("terms", self.values[: self.rows])
        self.bias, self.sums = layer.bias, layer.bias + self.values[: self.rows].sum(2)
        place = {sub: place for place, sub in enumerate(form.subnodes)}
        self.added = [(place[sub], weight) for sub, weight in form.sums]
        self.products = [([place[a], place[b]], weight) for a, b, weight in form.products]
        self.output_unit = self.model.output_unit(target)
        self.unit = "" if form.link else self.output_unit

    def terms(self, y: Tensor | None) -> Terms:
        """Return the terms, centered over the rows; with targets, also confidence bands."""
        curves = torch.zeros_like(self.values[:, 0])  # (row + point, column)
        for side, weight in self.added:
            curves += weight * self.values[:, side]
        columns = {column for side, _ in self.added for column in self.live[side]}
        bands = {} if y is None else self._bands(curves.numpy(), columns, y)
        summands, surfaces = list[Summand](), defaultdict[tuple[int, ...], list[Tensor]](list)
        for sides, weight in self.products:
            pairs = sorted((column, side) for side in sides for column in self.live[side])
            pair = tuple(dict.fromkeys(column for column, _ in pairs))
            if len(pair) == len(pairs) == 2:
                factors = [self.bias[side] + self.values[:, side, k] for k, side in pairs]
                surfaces[pair].append(torch.stack([weight * factors[0], factors[1]], 1))
            else:
                summands.append(self._product(sides, weight))
        for pair, products in surfaces.items():
            summands.append(self._surface(pair, torch.stack(products, 2), curves))
        curves -= curves[: self.rows].mean(0)
        for column in columns.union(*surfaces):
            points = self._points(column, curves[:, column])
            summands.append(self._summand([column], curves[:, column], points, bands.get(column)))
        parts = [weight * (self.sums - self.bias)[:, side] for side, weight in self.added]
        parts += [weight * self.sums[:, sides].prod(1) for sides, weight in self.products]
        total = self.form.level + torch.stack(parts).sum(0)
        return Terms(
            terms=tuple(sorted(summands, key=lambda term: -term.importance)),
            level=float(total.mean()),
            target=self.model.output_names[self.target],
            unit=self.unit,
            link=self._link(total),
            classes=len(self.model.output_names) if self.model.task == "classification" else 1,
        )

    def _repeated(self, points: Tensor) -> Tensor:
        return points[torch.arange(self.most).clamp_max(len(points) - 1)]

    def _points(self, column: int, values: Values) -> Values:
        """Select those of `values` (row + point, ...) at the points of a column."""
        return values[self.rows :][: len(self.settings[column].x)]

    def _effect(self, settings: Sequence[Settings], values: Tensor, unit: str = "") -> Effect:
        facts: dict[str, Any] = {"target": self.model.output_names[self.target], "unit": unit}
        return Effect(settings=tuple(settings), values=values, kind="pdp", exact=True, **facts)

    def _summand(
        self, columns: Sequence[int], values: Tensor, points: Tensor, band: Tensor | None = None
    ) -> Summand:
        """Return a term that is a curve or surface; `band` (2, point) is relative to the curve."""
        settings = [self.settings[column] for column in columns]
        effect = self._effect(settings, points, self.unit)
        effect = effect if band is None else replace(effect, band=points + band)
        name = " * ".join(own.name for own in settings)
        return Summand(name=name, factors=((effect,),), values=values[: self.rows])

    def _bands(self, curves: Array, columns: set[int], y: Tensor) -> dict[int, Tensor]:
        """Return the bands (2, point) of columns, relative to `curves` (row + point, column)."""
        from kanlens.training._closed_form import make_columns
        from kanlens.training._small_network import SmallNetwork

        used = {feature for column in columns for feature in self.settings[column].columns}
        parts = [
            part
            for part in make_columns(self.model, self.x[: self.rows].numpy())
            if used.intersection(curve.feature for curve in part.design.curves)
        ]
        if not parts:
            return {}
        (sub, weight), *_ = self.form.sums
        _, curvature, slopes = quadratic_loss(self.model, 0, sub, self.inputs, y, call="terms")
        curvature = np.maximum(curvature, MIN_CURVATURE * curvature.max() or 1.0)
        response = curves[: self.rows].sum(1) + weight * slopes / curvature
        spread, weights = float(response.std()) or 1.0, curvature / curvature.mean()
        network = SmallNetwork(parts, response / spread, weights, fine=True)
        if self.model.task == "classification":  # whose errors have a known variance
            network.noise = weight**2 / (curvature.mean() * spread**2)
        design, _, _, variances = network.linear()
        fit, _ = network.solve(design, weights, response / spread, variances, 0)
        bands = {}
        for column in columns:
            ends = spread * self._ends(column, cast("CurveDesign", design), fit)
            own = curves[:, column] - curves[: self.rows, column].mean()
            if ends.any():  # the column has an effect
                bands[column] = torch.from_numpy(ends - self._points(column, own))
        return bands

    def _ends(self, column: int, design: CurveDesign, fit: MixedFit) -> Array:
        """Return the ends (2, point) of the posterior band of a column's centered curve."""
        own = self.settings[column]
        moves = np.zeros((len(own.x), len(design.owners)))
        for curve, modes, places in zip(design.curves, design.modes, design.slices, strict=True):
            if curve.feature in own.columns:
                values = curve.basis(self.x[:, curve.feature].numpy()) @ modes
                moves[:, places] = self._points(column, values) - values[: self.rows].mean(0)
        middle, moves = moves @ fit.coefficients, moves[:, fit.live]
        half = NORMAL * np.sqrt(((moves @ fit.covariance) * moves).sum(1))
        return np.stack([middle - half, middle + half])

    def _link(self, data: Tensor) -> Effect | None:
        """Return the link function over the range of its argument (row,)."""
        if self.form.link is None:
            return None
        edge, factor, shift = self.form.link
        x = torch.linspace(*usual_range(data.numpy()), 2 * POINTS, dtype=data.dtype)
        own: dict[str, Any] = {"x": x, "data": data, "codes": x[:, None], "columns": []}
        settings = Settings(name="sum of terms", unit="", labels=(), **own)
        values = torch.from_numpy(shift + factor * edge(x.numpy()))
        return self._effect([settings], values, self.output_unit)

    def _product(self, sides: list[int], weight: float) -> Summand:
        """Return a term that is a product of two sums; the first has standard deviation 1."""
        spread = float(self.sums[:, sides[0]].std(correction=0)) or 1.0
        factors, names = [], []
        for side, scale in zip(sides, (1 / spread, weight * spread), strict=True):
            values, sums = self.values[:, side], self.sums[:, side]
            curves = scale * (values - values[: self.rows].mean(0) + sums.mean())
            pairs = [(self.settings[c], self._points(c, curves[:, c])) for c in self.live[side]]
            factors.append(tuple(self._effect([own], points) for own, points in pairs))
            names.append(" + ".join(own.name for own, _ in pairs))
        values = weight * self.sums[:, sides].prod(1)
        name = " * ".join(f"({name})" if " + " in name else name for name in names)
        return Summand(name=name, factors=tuple(factors), values=values - values.mean())

    def _surface(self, pair: tuple[int, ...], factors: Tensor, curves: Tensor) -> Summand:
        """Return the sum of products of two columns; move its main effects to `curves`.

        `factors` (row + point, 2, product) are functions of the first and of the second column.
        """
        values = factors[: self.rows].prod(1).sum(1)
        ends = (self._points(column, factors[:, axis]) for axis, column in enumerate(pair))
        points = torch.einsum("ip,jp->ij", *ends)
        columns = [self.settings[column].columns for column in pair]
        mains = purify(factors.numpy(), self.x.numpy(), columns, self.rows)
        for axis, main in enumerate(mains):
            own, part = self.settings[pair[axis]], self._points(pair[axis], torch.from_numpy(main))
            places = torch.cat([own.data, self._repeated(own.x)])  # linear between points
            whole = torch.from_numpy(np.interp(places.numpy(), own.x.numpy(), part.numpy()))
            curves[:, pair[axis]] += whole
            values -= whole[: self.rows]
            points -= part.unsqueeze(1 - axis)
        return self._summand(pair, values - values.mean(), points - values.mean())


def _settings(model: KAN, columns: list[int], rows: Tensor, breakpoints: Tensor) -> Settings:
    """Return the points of a column, including breakpoints unless it has few values."""
    own = make_settings(model, columns, rows, "pdp", POINTS)
    if own.labels or len(own.x) <= MAX_DISCRETE_VALUES:
        return own
    bends = model.input_shift[columns] + model.input_scale[columns] * breakpoints[columns[0]]
    x = torch.cat([own.x, bends])
    x = x[(x >= own.x[0]) & (x <= own.x[-1])].unique()
    return replace(own, x=x, codes=x[:, None])
