"""The editor of one edge, or of the edges of a term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch

from kanlens._checks import check_choice, check_positive
from kanlens.data._cell_parsing import Array
from kanlens.editing._diff import Place
from kanlens.editing._projection import EdgeProjection, write_spline
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import find_function
from kanlens.model._analysis import edge_units
from kanlens.model._edge import Edge, check_finite
from kanlens.model._kan_linear import KANLinear
from kanlens.model._terms import SPLINE

if TYPE_CHECKING:
    from kanlens.editing._edit import Edit

Places: TypeAlias = list[tuple[Place, float]]  # edges, with the factor to edit units
Change: TypeAlias = Callable[[KANLinear, int, int, Array], "float | None"]  # returns the error
Function: TypeAlias = Callable[[Array], "Array | float"]

MAX_INTERVALS = 128  # of a grid that is refined for a function
TAIL = 0.01  # share of the rows on either side where an edge has little support
ROUNDING = 1e-13  # of the size of coefficients


class EdgeEditor:
    """One edge, or the edges of a term, to be edited; every method returns the editor.

    A reshaped edge becomes the spline on its grid with the least mean square change at the rows of
    `kanlens.edit`. The spline includes the base function, which is then removed from the edge.
    """

    def __init__(self, edit: Edit, name: str, places: Places, *, of_term: bool) -> None:
        self._edit, self.name, self._places, self._of_term = edit, name, places, of_term

    def __repr__(self) -> str:
        return f"EdgeEditor: {self.name}"

    @property
    def function(self) -> Edge:
        """The edge, or the one edge of a term, as an `Edge` in the units that it is edited in."""
        return self._edit.edge_in_units(*self._only("function"))

    def monotone(self, direction: str = "auto") -> EdgeEditor:
        """Make the edge "increasing" or "decreasing" ("auto": the nearer); its mean stays.

        Control points are made monotone, which for degrees 1 and 2 allows all monotone splines. The
        edge is monotone beyond the grid too, unless the layer's extrapolation is "zero".
        """
        return self._bend("monotone", direction, ("increasing", "decreasing"))

    def convex(self, direction: str = "convex") -> EdgeEditor:
        """Make the edge "convex" or "concave" on its grid ("auto": the nearer); its mean stays.

        The slopes between control points are made monotone, which up to degree 3 allows all convex
        splines.
        """
        return self._bend("convex", direction, ("convex", "concave"))

    def smooth(self, strength: float = 0.1) -> EdgeEditor:
        """Make the edge smoother; its mean stays.

        `strength` is the weight of squared changes of the slope between control points (P-splines),
        against the mean square difference; a large one leaves a straight line.
        """
        check_positive("edit.smooth", "strength", strength)
        return self._reshape(f"smooth({strength:g})", lambda fit: fit.smooth(strength))

    def clamp(self, low: float | None = None, high: float | None = None) -> EdgeEditor:
        """Clip the values of the edge on its grid; limits of a term are relative to its mean.

        The grid gets breakpoints where the edge meets the limits.
        """
        ends = (-np.inf if low is None else low), (np.inf if high is None else high)
        if not ends[0] < ends[1] or low is high is None:
            expected, got = "low, high or both, with low < high", f"{low!r} and {high!r}"
            raise InvalidValueError("edit.clamp", expected, got, "For example clamp(high=2.0)")
        _, factor = self._only("clamp")

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> float:
            phi = layer.edge(out, in_)
            middle = float(phi(u).mean()) if self._of_term else 0.0
            least, most = limits = sorted(middle + end / factor for end in ends)
            roots = [phi.roots(level=limit) for limit in limits if np.isfinite(limit)]
            layer.insert(in_, np.concatenate(roots).tolist())
            inside = np.clip(u, *phi.domain)  # beyond, splines are straight
            fit = EdgeProjection(layer, in_, inside, lambda x: np.clip(phi(x), least, most))
            coefficients = np.clip(fit.nearest(), least, most)
            write_spline(layer, out, in_, coefficients)
            return abs(factor) * fit.error(coefficients)

        return self._change(f"clamp({low!r}, {high!r})", change)

    def flatten(
        self, low: float | None = None, high: float | None = None, *, outside_support: bool = True
    ) -> EdgeEditor:
        """Hold the edge constant for inputs below `low` and above `high`, within its grid.

        By default these are the 1 % and 99 % quantiles of the input over the rows. With
        ``outside_support=False`` the whole edge becomes its mean.
        """
        place, _ = self._only("flatten")
        shift, scale, _ = edge_units(self._edit.model, *place)
        ends = np.array([np.nan if end is None else end for end in (low, high)], dtype=np.float64)

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> None:
            phi, inner = layer.edge(out, in_), (ends - shift) / scale
            mean = phi(u).mean()
            inner = np.where(np.isnan(inner), np.quantile(u, (TAIL, 1 - TAIL)), inner)
            layer.insert(in_, inner.tolist())
            u = np.clip(u, *phi.domain)
            cuts = EdgeProjection(layer, in_, u, phi).cuts
            inner = cuts[np.abs(cuts[:, None] - inner).argmin(0)]
            if outside_support and not inner[0] < inner[1]:
                expected = "low below high on the grid (None: a quantile)"
                got, advice = f"{low!r} and {high!r}", "Pass two limits on the grid, low first"
                raise InvalidValueError("edit.flatten", expected, got, advice)
            fit = EdgeProjection(layer, in_, u, lambda x: phi(np.clip(x, inner[0], inner[1])))
            flat = np.full(len(fit.greville), mean)
            write_spline(layer, out, in_, fit.flat_outside(*inner) if outside_support else flat)

        words = f"{low!r}, {high!r}" if outside_support else "outside_support=False"
        return self._change(f"flatten({words})", change)

    def set(
        self,
        values: Function | Sequence[Sequence[float]],
        *,
        keep_mean: bool | None = None,
        tolerance: float = 1e-3,
    ) -> EdgeEditor:
        """Set the edge to a function of an array, or to straight lines between points (x, y).

        Points become breakpoints; beyond the outer ones the edge is constant. The grid of the input
        is refined, up to 128 intervals, until the error is at most `tolerance` of the range of the
        function; the history records the error. With `keep_mean`, by default for terms only, the
        sum that the edge enters keeps its mean. Other edges keep their functions.
        """
        check_positive("edit.set", "tolerance", tolerance)
        (place, factor), points = self._only("set"), np.empty((0, 2))
        shift, scale, _ = edge_units(self._edit.model, *place)
        name, function = getattr(values, "__name__", "function"), cast("Function", values)
        if not callable(values):
            points = read_points(values)
            function = partial(np.interp, xp=points[:, 0], fp=points[:, 1])
            name = f"{len(points)} points"

        def target(u: Array) -> Array:
            numbers = np.asarray(function(shift + scale * u), dtype=np.float64) / factor
            if numbers.shape not in ((), u.shape) or not np.isfinite(numbers).all():
                expected, advice = "a finite number from the function for each x", "Correct it"
                raise InvalidValueError("edit.set", expected, f"{numbers!r:.60}", advice)
            return np.broadcast_to(numbers, u.shape)

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> float:
            layer.mask[out, in_] = 1.0
            inside = np.clip(u, *layer.edge(out, in_).domain)
            places = (points[:, 0] - shift) / scale
            while True:
                layer.insert(in_, places.tolist())
                fit = EdgeProjection(layer, in_, inside, target, even=1.0)
                spline = fit.nearest()
                heights = target(fit.cuts)
                room = tolerance * (np.ptp(heights) or np.abs(heights).max())
                if fit.error(spline) <= room or 2 * layer.grid_size > MAX_INTERVALS:
                    write_spline(layer, out, in_, spline)
                    return abs(factor) * fit.error(spline)
                places = (fit.cuts[1:] + fit.cuts[:-1]) / 2

        recenter = self._of_term if keep_mean is None else keep_mean
        return self._change(f"set({name})", change, recenter=recenter)

    def symbolic(self, function: str) -> EdgeEditor:
        """Put ``c * g(a * x + b) + d`` in place of the edge, fitted to it at the rows.

        `function` is the name of g, such as "sin"; `kanlens.suggest` ranks such names.
        """
        from kanlens.symbolic._assignment import fit_function

        find_function(function, call="edit.symbolic")
        self._only("symbolic")

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> None:
            alone = layer.select([out], [in_]).double()
            best = fit_function(alone, torch.from_numpy(u)[:, None], function)
            if best is None:
                expected, advice = f"an edge that {function!r} fits", "Name another function"
                raise MethodError("edit.symbolic", expected, repr(self.name), advice)
            layer.assign(out, in_, best.function, best.parameters)

        return self._change(f"symbolic({function!r})", change)

    def scale(self, factor: float) -> EdgeEditor:
        """Multiply the edge by a factor; a term keeps its mean."""
        check_finite("edit.scale", "factor", factor)

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> None:
            tensors = [layer.base_weight[out, in_], layer.spline_weight[out, in_]]
            if layer.series:
                tensors.append(layer.series_weight[out, in_])
            if layer.functions[out][in_] != SPLINE and layer.affine is not None:
                tensors = [layer.affine[out, in_, 2:]]
            for tensor in tensors:
                tensor.mul_(factor)

        return self._change(f"scale({factor:g})", change, recenter=self._of_term)

    def zero(self, action: str = "zero()") -> EdgeEditor:
        """Remove the edge; the mean of a term becomes part of the sum that it entered."""

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> None:
            layer.mask[out, in_] = 0.0

        return self._change(action, change, recenter=self._of_term)

    def _only(self, method: str) -> tuple[Place, float]:
        """Return the edge if there is only one; refuse other terms, and products."""
        if len(self._places) == 1 and not (self._of_term and self._places[0][0][0]):
            return self._places[0]
        advice = "Name one of its edges: edit.edge(layer, out, in_)"
        raise MethodError(f"edit.{method}", "a single curve", repr(self.name), advice)

    def _bend(self, method: str, direction: str, shapes: tuple[str, str]) -> EdgeEditor:
        check_choice(f"edit.{method}", "direction", direction, [*shapes, "auto"])

        def solve(fit: EdgeProjection) -> Array:
            names = shapes if direction == "auto" else [direction]
            return min(map(fit.shaped, names), key=fit.distance)

        return self._reshape(f"{method}({direction!r})", solve)

    def _reshape(self, action: str, solve: Callable[[EdgeProjection], Array]) -> EdgeEditor:
        """Record the change to a spline; an edge that has the shape already is not changed."""
        self._only(action.partition("(")[0])

        def change(layer: KANLinear, out: int, in_: int, u: Array) -> None:
            phi = layer.edge(out, in_)
            spline, own = solve(EdgeProjection(layer, in_, u, phi)), phi.coefficients
            size = ROUNDING * np.abs(own).max()
            alone = phi.degree > 0 and not phi.functions.weights.any()
            if not alone or np.abs(spline - own).max() > size:
                write_spline(layer, out, in_, spline)

        return self._change(action, change)

    def _change(self, action: str, change: Change, *, recenter: bool = False) -> EdgeEditor:
        """Record a change of each edge; with `recenter`, biases take up the changes of means."""
        folds = dict[Place, float]()

        def run(layer: KANLinear, x: Array) -> float | None:
            errors = []
            for place, _ in self._places:
                (_, out, in_), u = place, x[:, place[2]]
                before = layer.edge(out, in_)
                errors.append(change(layer, out, in_, u))
                if recenter:
                    folds[place] = float((before(u) - layer.edge(out, in_)(u)).mean())
                    layer.bias[out] += folds[place]
            return errors[0]

        self._edit.record(self.name, action, self._places, run, folds)
        return self


def read_points(values: object) -> Array:
    """Return points (point, 2), by increasing x."""
    try:
        points = np.array(values, dtype=np.float64)
        points = points[points[:, 0].argsort()]
        valid = points.shape[1:] == (2,) and bool(np.isfinite(points).all())
    except (TypeError, ValueError, IndexError):
        valid = False
    if not valid or len(points) < 2 or not (np.diff(points[:, 0]) > 0).all():
        expected = "a function, or at least two points (x, y) of different x"
        advice = "For example [(0, 1.5), (10, 2)]"
        raise InvalidValueError("edit.set", expected, f"{values!r:.60}", advice)
    return points
