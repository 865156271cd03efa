"""The difference that edits make: by row, feature and group, with the loss before and after.

The change of an output is divided exactly among the edited edges. The share of an edge is its
change at the inputs before the edits, times the secant slopes from its sum to the output between
the network before and after (DeepLIFT's Rescale rule [1]_, here between two networks).

References
----------
.. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
   Activation Differences, 2017.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_rows
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._model_inputs import prepare_target
from kanlens._plain_json import to_plain
from kanlens.data._cell_parsing import Array
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError, ShapeError
from kanlens.model._analysis import BUDGET, float64_copy, over_rows
from kanlens.model._network import KAN, PerRow, Rows, Targets
from kanlens.training._objective import row_losses, score

Place: TypeAlias = tuple[int, int, int]  # layer, out, in

SAME = 1e-12  # relative distance of two inputs up to which the derivative is their slope
BINS, DISTINCT = 4, 10  # groups of numbers, by quantiles where there are more distinct ones


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EditDiff(Displayed):
    """Differences that edits make on some rows, in float64; of a classifier, in its logits.

    Attributes
    ----------
    before, after : ndarray, shape (row, out)
        Outputs before all edits, and after.
    values : ndarray, shape (row, feature, out)
        Share of each of `features` in the change; their sum is the change. For an additive model,
        the changes of its curves, including means that were moved to a bias.
    features : tuple of str
        Columns of the data and, where deeper edges changed, the nodes that these read.
    losses : dict of str to float
        With y, the mean training loss and R2 or accuracy, before and after.
    moved : DataFrame
        Of each feature and output: root mean square, mean and largest change, and the row of the
        largest; sorted by root mean square.
    rows : DataFrame
        Of each row and output: before, after, change, the feature that changed it most and, with y,
        losses; the largest change first.
    groups : DataFrame or None
        Of each group and output: number of rows, mean and largest change and, with y, losses.
    """

    before: Array
    after: Array
    values: Array
    features: tuple[str, ...]
    losses: dict[str, float]
    moved: pd.DataFrame
    rows: pd.DataFrame
    groups: pd.DataFrame | None

    def to_frame(self) -> pd.DataFrame:
        """Return `rows`."""
        return self.rows

    def to_json(self) -> str:
        """Return the losses and all tables as JSON."""
        frames = {name: getattr(self, name) for name in ("moved", "rows", "groups")}
        tables = {k: v if v is None else v.to_dict("records") for k, v in frames.items()}
        return json.dumps(to_plain({**self.losses, **tables}))

    def _line(self) -> str:
        change = np.abs(self.after - self.before)
        count, largest = (change > 0).any(1).sum(), change.max(initial=0.0)
        losses = "".join(f", {name} {value:.4g}" for name, value in self.losses.items())
        return f"{count:,} of {len(change):,} rows moved, by {largest:.4g} at most{losses}"


@torch.no_grad()
def compare_outputs(
    models: Sequence[KAN],
    folds: Mapping[Place, float],
    x: Rows,
    y: Targets | None,
    by: str | PerRow,
) -> EditDiff:
    """Return the differences of two models on rows; for `folds` see `edit_shares`."""
    frame, model = x.frame if isinstance(x, Table) else x, models[1]
    inputs, names = model.prepare(x, call="edit.diff").double(), model.output_names
    check_rows("edit.diff", inputs)
    index = frame.index if isinstance(frame, pd.DataFrame) else np.arange(len(inputs))
    first, last = map(float64_copy, models)
    features, shares = edit_shares(first, last, inputs, folds)
    outputs = {"before": first(inputs), "after": last(inputs)}
    columns, losses = {key: output.numpy() for key, output in outputs.items()}, dict[str, float]()
    values, columns["change"] = shares.numpy(), columns["after"] - columns["before"]
    most = np.array(features)[np.abs(values).argmax(1)]
    columns["feature"] = np.where(values.any(1), most, "")
    for end, output in outputs.items() if y is not None else ():
        target = prepare_target(model, cast("Targets", y), len(inputs), call="edit.diff")
        loss = row_losses(model, output, target).numpy()
        columns[f"loss_{end}"] = np.repeat(loss[:, None], len(names), 1)
        losses[f"loss_{end}"] = float(loss.mean())
        losses[f"{model.loss.metric}_{end}"] = score(model, output, target)
    rows = pd.DataFrame({"row": np.tile(index, len(names)), "output": np.repeat(names, len(index))})
    rows = rows.assign(**{name: column.T.ravel() for name, column in columns.items()})
    return EditDiff(
        before=columns["before"],
        after=columns["after"],
        values=values,
        features=features,
        losses=losses,
        moved=_moved(values, features, names, np.asarray(index)),
        rows=rows.sort_values("change", key=np.abs, ascending=False, ignore_index=True),
        groups=None if by is None else _groups(rows, *_labels(by, frame, inputs, model)),
    )


def _moved(
    values: Array, features: Sequence[str], outputs: Sequence[str], index: Array
) -> pd.DataFrame:
    place = np.abs(values).argmax(0, keepdims=True)
    columns = {
        "rms": np.sqrt(np.square(values).mean(0)),
        "mean": values.mean(0),
        "largest": np.take_along_axis(values, place, 0)[0],
        "row": index[place[0]],
    }
    names = pd.MultiIndex.from_product([features, outputs], names=["feature", "output"])
    frame = pd.DataFrame({key: column.ravel() for key, column in columns.items()}, names)
    frame = frame[frame["largest"] != 0].sort_values("rms", ascending=False, kind="stable")
    return frame.reset_index()


def _groups(rows: pd.DataFrame, codes: Array, names: list[str]) -> pd.DataFrame:
    """Return mean and largest change, and losses, for each group of rows."""
    grouped = rows.assign(group=np.resize(codes, len(rows))).groupby(["group", "output"])
    frame = grouped[[name for name in map(str, rows) if name == "change" or "loss" in name]].mean()
    frame.insert(0, "rows", grouped.size())
    largest = grouped["change"].agg(lambda part: part.iloc[np.abs(part.to_numpy()).argmax()])
    frame.insert(2, "largest", largest)
    frame = frame.rename(columns={"change": "mean"}).reset_index()
    return frame.assign(group=np.array(names)[frame["group"]])


def _labels(by: str | PerRow, frame: object, rows: Tensor, model: KAN) -> tuple[Array, list[str]]:
    """Return the group of each row, and names: values of a column, or intervals of numbers."""
    if isinstance(by, str):
        own = isinstance(frame, pd.DataFrame) and by in list(frame)
        if not own and by not in model.feature_names:
            advice = "Pass its values, one for each row"
            raise InvalidValueError("edit.diff", "by as a column of x", repr(by), advice)
        column = cast("pd.DataFrame", frame)[by] if own else rows[:, model.feature_names.index(by)]
        by = np.asarray(column)
    cells = pd.Series(np.asarray(by).ravel())
    if len(cells) != len(rows):
        expected, got = f"by of {len(rows)} rows", str(len(cells))
        raise ShapeError("edit.diff", expected, got, "Pass one group for each row")
    if pd.api.types.is_numeric_dtype(cells) and cells.nunique() > DISTINCT:
        cells = pd.qcut(cells, BINS, duplicates="drop")
    groups = pd.Categorical(cells)
    return groups.codes, [*map(str, groups.categories), "missing"]  # code -1 is the last


def edit_shares(
    first: KAN, last: KAN, x: Tensor, folds: Mapping[Place, float]
) -> tuple[tuple[str, ...], Tensor]:
    """Return names of features, and their shares (row, feature, out) in the change of outputs.

    `folds` are the means that edits moved from edges to biases; other changes of a bias are shared
    evenly.
    """
    sizes = [layer.mask.numel() for layer in last.layers]
    at_once = max(1, BUDGET // (sum(sizes) + max(sizes) * len(last.output_names)))
    levels = [torch.zeros_like(layer.mask) for layer in last.layers]
    for (layer, out, in_), fold in folds.items():
        levels[layer][out, in_] += fold
    changed = [level != 0 for level in levels]
    for part in x.split(at_once):
        moves = _moves(first, last, part)
        changed = [one | (move != 0).any(0) for one, move in zip(changed, moves, strict=True)]
    for k, (before, after) in enumerate(zip(first.layers, last.layers, strict=True)):
        edges = torch.where(changed[k].any(1, keepdim=True), changed[k], after.mask != 0)
        rest = (after.bias - before.bias - levels[k].sum(1)) / edges.sum(1).clamp_min(1)
        levels[k] += edges * rest[:, None]
    columns = list(dict.fromkeys(feature.column for feature in last.schema.features))
    owners = [torch.tensor([columns.index(one.column) for one in last.schema.features])]
    for level in range(1, len(last.layers)):
        read = changed[level].any(0) | (levels[level] != 0).any(0)
        owners.append(torch.where(read, len(columns) - 1 + read.cumsum(0), 0))
        columns += [last.node_name(level, node) for node in read.nonzero()[:, 0].tolist()]

    def run(part: Tensor) -> list[Tensor]:
        total = part.new_zeros(len(part), len(columns), len(last.output_names))
        for flow, owner in zip(_flows(first, last, part, levels), owners, strict=True):
            total.index_add_(1, owner, flow)
        return [total]

    return tuple(columns), over_rows(run, x, at_once)[0]


def _moves(first: KAN, last: KAN, x: Tensor) -> list[Tensor]:
    """Return the change (row, out, in) of every edge at its input before the edits."""
    layers = zip(first.layers, last.layers, first.levels(first.scale_inputs(x))[0], strict=False)
    return [new.edge_values(inputs) - old.edge_values(inputs) for old, new, inputs in layers]


def _flows(first: KAN, last: KAN, x: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
    """Return the shares (row, in, out) of the edges that leave each input of each layer."""
    (theirs, their_sums), (ours, sums) = (m.levels(m.scale_inputs(x)) for m in (first, last))
    moves, flows = _moves(first, last, x), list[Tensor]()
    slopes = last.output_scale.diag().expand(len(x), -1, -1)  # (row, output, node)
    for index in reversed(range(len(last.layers))):
        ends = (part[index][:, None] for part in (sums, their_sums))
        slopes = last.nodes[index].pull(slopes, *ends)
        flows.append(torch.einsum("byo,boi->biy", slopes, moves[index] + levels[index]))
        if index:
            layer, step = last.layers[index], (ours[index] - theirs[index])[:, None]
            same = step.abs() <= SAME * (1 + ours[index].abs()[:, None])
            rise = layer.edge_values(ours[index]) - layer.edge_values(theirs[index])
            steep = rise / torch.where(same, 1.0, step)
            steep = torch.where(same, layer.edge_derivatives(ours[index]), steep)
            slopes = torch.einsum("byo,boi->byi", slopes, steep)
    return flows[::-1]
