"""`edit`: an editable copy of a model, whose steps are recorded and can be undone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from kanlens._checks import find_place
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._model_inputs import prepare_target
from kanlens.attribution._problem import data_rows
from kanlens.attribution._sum_form import SumForm, read_form
from kanlens.data._cell_parsing import Array, listed
from kanlens.editing._diff import EditDiff, Place, compare_outputs
from kanlens.editing._edges import EdgeEditor, Places
from kanlens.editing._refit import refit_layer
from kanlens.errors import MethodError
from kanlens.model._analysis import (
    Model,
    check_layer,
    check_model,
    edge_units,
    find_node,
    float64_copy,
    levels_of,
)
from kanlens.model._edge import Edge
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import PerRow, Rows, Targets
from kanlens.model._training_record import EditStep

POINTS = 65  # of a recorded curve, in addition to its breakpoints


class Snapshot(NamedTuple):
    """State before an edit: a layer, earlier edits, edges to change, means moved to biases."""

    level: int
    layer: KANLinear
    edits: tuple[EditStep, ...]
    places: Places
    folds: Mapping[Place, float]


def edit(model: Model, x: Rows | None = None) -> Edit:
    """Return an editable copy of a model.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows at which the change of an edited edge is minimized, and over which means are taken.
        Default: the background rows stored in the model, else the quantiles of the training data,
        else evenly spaced points of the grids.

    Returns
    -------
    Edit

    Raises
    ------
    DTypeError, ShapeError, DataError
        If `model` is not a KAN, or `x` cannot be used.

    Examples
    --------
    >>> from kanlens.model._network import KAN
    >>> x = torch.rand(50, 2, dtype=torch.float64)
    >>> changed = edit(KAN([2, 1]).double(), x)
    >>> changed.edge(0, 0, 1).monotone("increasing").function.extrema()
    array([], dtype=float64)
    >>> changed.undo().history
    ()
    """
    return Edit(model, x)


class Edit(Displayed):
    """An editable copy of a model, from `kanlens.edit`.

    Attributes
    ----------
    model : KAN
        The edited copy; its file and its report list the edits.
    original : KAN
        The model passed in.
    """

    def __init__(self, model: Model, x: Rows | None = None) -> None:
        self.original = check_model("edit", model)
        self.model, self._snapshots = copy.deepcopy(self.original), list[Snapshot]()
        self._rows = None
        if x is not None or self.original.background is not None:
            self._rows = data_rows(self.original, x, call="edit", what="x", needs="rows of x")

    @property
    def history(self) -> tuple[EditStep, ...]:
        """The edits that can be undone, the first one first."""
        return self.model.edits[len(self.original.edits) :]

    def edge(self, layer: int, out: int | str, in_: int | str) -> EdgeEditor:
        """Return the editor of an edge, whose ends are indices or names.

        Its units are those of `kanlens.plot.edge`: of the data for features and for outputs that
        are sums, else the scaled ones of its layer.
        """
        index = check_layer(self.model, layer, call="edit.edge")
        o = find_node(self.model, index, "out", out, call="edit.edge")
        i = find_node(self.model, index, "in_", in_, call="edit.edge")
        places = [((index, o, i), edge_units(self.model, index, o, i)[2])]
        return EdgeEditor(self, self.model.edge_name(index, o, i), places, of_term=False)

    def term(self, *columns: str, target: int | str | None = None) -> EdgeEditor:
        """Return the editor of the curve of one column, or of the product of two.

        These are the terms of `kanlens.plot.terms`, in the units of the sum and minus their mean;
        `set`, `scale` and `zero` preserve the mean. `target` is the output, as for
        `kanlens.attribute`.
        """
        index = self.model.output_index(target, call="edit.term")
        groups = [self._features(column, "edit.term") for column in columns]
        expected, got, places = f"a term {' * '.join(columns)!r} of its own", "none", Places()
        try:
            form = read_form(float64_copy(self.model), index)
            places = self._curve(form, *groups) if len(groups) == 1 else self._product(form, groups)
        except MethodError as error:
            expected, got = error.expected, error.got
        if not places:
            advice = "Name an edge: edit.edge(layer, out, in_)"
            raise MethodError("edit.term", expected, got, advice)
        return EdgeEditor(self, " * ".join(columns), places, of_term=True)

    def _curve(self, form: SumForm, features: set[int]) -> Places:
        """Return the first-layer edges of features if all enter one sum of terms; else none."""
        edges = self.model.layers[0].nonzero_edges()
        places = [
            [((0, sub, i), weight) for i in sorted(features) if edges[sub, i]]
            for sub, weight in form.sums
        ]
        places = [part for part in places if part]
        return places[0] if len(places) == 1 else []

    def _product(self, form: SumForm, groups: Sequence[set[int]]) -> Places:
        """Return the edges from products of two columns to the sum of terms."""
        first, places = self.model.layers[0].nonzero_edges(), Places()
        for *sides, _ in form.products if len(self.model.layers) > 1 else ():
            reads = [set(first[sub].nonzero()[:, 0].tolist()) for sub in sides]
            pairs = (zip(reads, order, strict=True) for order in (groups, groups[::-1]))
            if len(groups) == 2 and any(all(a and a <= b for a, b in pair) for pair in pairs):
                node = self.model.nodes[0].grouping.place(sides[0])[0]
                outs = self.model.layers[1].nonzero_edges()[:, node].nonzero()[:, 0].tolist()
                places += [((1, out, node), 1.0) for out in outs]
        return places

    def _features(self, column: str, call: str) -> set[int]:
        """Return the features of a table column, or the feature of that name."""
        features = self.model.schema.features
        places = {k for k, one in enumerate(features) if column in (one.column, one.name)}
        names = list(dict.fromkeys(feature.column for feature in features))
        advice = f"The columns are {listed(names)}"
        return places or {find_place(call, "a column of the model", str(column), names, advice)}

    def remove(self, *columns: str) -> Edit:
        """Remove all edges of columns; each mean becomes part of the sum that its edge entered.

        `refit` then fits the other edges to targets.
        """
        features = {i for column in columns for i in self._features(column, "edit.remove")}
        places = [
            ((0, out, in_), edge_units(self.model, 0, out, in_)[2])
            for out, in_ in (self.model.layers[0].mask != 0).nonzero().tolist()
            if in_ in features
        ]
        if not places:
            expected, got = "columns with edges", listed(columns) or "none"
            raise MethodError("edit.remove", expected, got, "Name a column that is not removed")
        EdgeEditor(self, ", ".join(columns), places, of_term=True).zero("remove()")
        return self

    def refit(self, x: Rows, y: Targets, *, keep: Sequence[str] | None = None) -> Edit:
        """Fit the splines of a layer to targets again, by least squares.

        An edge changes by a piecewise linear function with at most 12 breakpoints, fewer for few
        rows. The layer is the first of a sum of terms, else the last. For classes, and with a
        link, the fits are steps of Newton's method. A fifth of the rows is held out; steps that
        do not lower the loss on it are not taken. Edges of the columns (or hidden nodes)
        `keep`, by default the edited ones, are not changed.
        """
        rows = data_rows(self.model, x, call="edit.refit", what="x", needs="rows of x")
        target, index = prepare_target(self.model, y, len(rows), call="edit.refit"), 0
        try:
            read_form(float64_copy(self.model), 0)
        except MethodError:
            index = len(self.model.layers) - 1
        held = torch.zeros_like(self.model.layers[index].mask, dtype=torch.bool)
        for name in keep or ():
            own = set() if index else self._features(name, "edit.refit")
            node = own or {find_node(self.model, index, "in_", name, call="edit.refit")}
            held[:, list(node)] = True
        for snapshot in self._snapshots if keep is None else ():
            for (_, out, in_), _ in snapshot.places if snapshot.level == index else ():
                held[out, in_] = True
        new = refit_layer(self.model, index, rows, target, held)
        places = [
            ((index, out, in_), edge_units(self.model, index, out, in_)[2])
            for out, in_ in ((new.mask != 0) & ~held).nonzero().tolist()
        ]
        if places:
            words = "" if keep is None else f"keep={list(keep)!r}"
            self.record(f"layer {index}", f"refit({words})", places, lambda *_: None, {}, new)
        return self

    def diff(self, x: Rows, y: Targets | None = None, *, by: str | PerRow = None) -> EditDiff:
        """Return how all edits change the outputs of rows and, with targets y, the losses.

        `by` groups the rows: a column of x, or one value per row; many numbers become quartiles.
        """
        folds = dict[Place, float]()
        for snapshot in self._snapshots:
            for place, mean in snapshot.folds.items():
                folds[place] = folds.get(place, 0.0) + mean
        return compare_outputs((self.original, self.model), folds, x, y, by)

    def undo(self) -> Edit:
        """Undo the last edit; the layer that it changed is restored exactly."""
        if not self._snapshots:
            raise MethodError("edit.undo", "an edit to undo", "none", "`history` lists the edits")
        last = self._snapshots.pop()
        cast("nn.ModuleList", self.model.layers)[last.level] = last.layer
        self.model.edits = last.edits
        return self

    def to_frame(self) -> pd.DataFrame:
        """Return the history as one row per edit."""
        columns = ["name", "action", "edges", "largest", "rms", "error"]
        records = [[getattr(step, name) for name in columns] for step in self.history]
        return pd.DataFrame(records, columns=columns)

    def _line(self) -> str:
        return "; ".join([f"{len(self.history)} edits", *(step.line for step in self.history)])

    def edge_in_units(self, place: Place, factor: float, layer: KANLinear | None = None) -> Edge:
        """Return an edge in edit units, times `factor`; `layer` is another state of its layer."""
        phi = (self.model.layers[place[0]] if layer is None else layer).edge(*place[1:])
        shift, scale, _ = edge_units(self.model, *place)
        return phi.scaled(factor).in_units(shift, scale)

    def record(
        self,
        name: str,
        action: str,
        places: Places,
        change: Callable[[KANLinear, Array], float | None],
        folds: Mapping[Place, float],
        new: KANLinear | None = None,
    ) -> None:
        """Replace a layer by a changed copy, and record the step."""
        index = places[0][0][0]
        old = self.model.layers[index]
        x = old.places() if self._rows is None else levels_of(self.model, self._rows)[0][index]
        inputs, new = x.detach().double().cpu().numpy(), new or copy.deepcopy(old)
        with torch.no_grad():
            error = change(new, inputs)
        moves, facts = list[Array](), dict[str, Any]()
        for place, factor in places:
            shift, scale, _ = edge_units(self.model, *place)
            before, after = (self.edge_in_units(place, factor, layer) for layer in (old, new))
            u = shift + scale * inputs[:, place[2]]
            moves.append(after(u) - before(u))
            if len(places) == 1:
                even = np.linspace(*before.domain, POINTS)
                points = np.unique([*even, *before.breakpoints, *after.breakpoints])
                lines = {"x": points, "before": before(points), "after": after(points)}
                facts = {key: tuple(line.tolist()) for key, line in lines.items()}
        _renew_statistics(new, places, inputs)
        facts |= {"edges": len(places), "largest": float(np.abs(moves).max()), "error": error}
        facts["rms"] = float(np.sqrt(np.square(moves).mean()))
        step = EditStep(name=name, action=action, **facts)
        self._snapshots.append(Snapshot(index, old, self.model.edits, places, folds))
        cast("nn.ModuleList", self.model.layers)[index] = new
        self.model.edits = (*self.model.edits, step)


def _renew_statistics(layer: KANLinear, places: Places, inputs: Array) -> None:
    """Update the stored means and deviations of some edges."""
    if layer.statistics is None:
        return
    moments = {name: getattr(layer.statistics, name).clone() for name in ("edge_mean", "edge_std")}
    for (_, out, in_), _ in places:
        values = layer.edge(out, in_)(inputs[:, in_])
        moments["edge_mean"][out, in_] = float(values.mean())
        moments["edge_std"][out, in_] = float(values.std())
    layer.statistics = dataclasses.replace(layer.statistics, **moments)
