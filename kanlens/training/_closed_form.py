"""Networks of curves fitted in closed form, and their conversion to a KAN.

Outputs of a regression are fitted one by one; logits in turn, each given the others [1]_.

References
----------
.. [1] N. Breslow and D. Clayton, Approximate inference in generalized linear mixed models, 1993.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from kanlens.data._cell_parsing import Array
from kanlens.model._held_out import keep_held_out
from kanlens.model._kan_linear import KANLinear
from kanlens.model._losses import Loss
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model._trace import store_statistics
from kanlens.splines import _spline as spline
from kanlens.training._constraints import check_proven, fixed_places, is_bent, settle_ends, shaped
from kanlens.training._curve_design import ColumnCurves, CurveBasis, CurveDesign, make_curve
from kanlens.training._link import DEGREE, INTERVALS, Link
from kanlens.training._objective import score, task_loss
from kanlens.training._result import FitResult, mean_and_error
from kanlens.training._small_network import SmallNetwork
from kanlens.training._training_loop import settle_range, settle_scaling

CLOSED_FORM = "fitted in closed form"
CYCLES = 10  # most cycles over the classes
CHANGE = 1e-2  # relative change of the outputs that ends the cycles
ROUGH_FOLDS = 2  # folds to select rough parts, whose fits take longest
MAX_CURVES = 3000  # most features with a curve: those that vary most


@torch.no_grad()
def fit_additive(
    model: KAN, x: Tensor, y: Tensor, weights: Tensor | None, folds: Tensor, copies: Tensor
) -> FitResult:
    """Fit a network without a hidden layer to rows x (batch, in).

    Targets are those of `prepare_target`; `weights` (batch,) have mean 1. The scaling of `model` is
    set. The metric is cross-validated over `folds` (batch,). Rows with the same number in `copies`
    (batch,) count as one in the error variance.
    """
    started = time.perf_counter()
    settle_range(model, x, beyond=True)
    settle_ends(model, x)
    settle_scaling(model, x, y, None)
    targets, held = scaled_targets(model, y), held_rows(folds.numpy())
    own = distinct_weights(len(x), weights, copies)
    columns, pooled = choose_curves(model, x, targets, own, held)
    networks, *others = cross_fit(columns, targets, own, model.loss, held, fine=True, pooled=pooled)
    fitted, outputs = to_kan(model, networks), np.empty_like(targets)
    for rows, parts in zip(held, others, strict=True):
        outputs[rows] = np.stack([network.outputs()[rows] for network in parts], 1)
    held_out = model.scale_outputs(torch.from_numpy(outputs).to(x))
    store_statistics(fitted, x)
    check_proven(fitted)
    keep_held_out(fitted, x, held_out, y)
    validation_loss = float(task_loss(fitted, held_out, y, weights))
    record = {"validation_loss": validation_loss, "metric": score(fitted, held_out, y, weights)}
    loss = float(task_loss(fitted, fitted(x), y, weights))
    return closed_form_result(fitted, loss, [record], 0, folds, started)


def closed_form_result(
    model: KAN,
    loss: float,
    records: Sequence[dict[str, float]],
    best: int,
    folds: Tensor,
    started: float,
) -> FitResult:
    """Return the result of a model with training loss `loss` and scores ``records[best]``."""
    history = [
        {"step": step, "loss": math.nan, "penalty": 0.0, **record}
        for step, record in enumerate(records, 1)
    ]
    history[best]["loss"] = loss
    return FitResult(
        model=model,
        history=tuple(history),
        stopped_because=CLOSED_FORM,
        best_step=best + 1,
        loss=loss,
        validation_loss=history[best]["validation_loss"],
        metric_name=model.loss.metric,
        metric=history[best]["metric"],
        held_out=torch.arange(len(folds)),
        seconds=time.perf_counter() - started,
        folds=folds,
    )


def column_names(model: KAN) -> list[str]:
    """Return the name of each feature; those of a categorical column share its name."""
    return [f.column if f.kind == "categorical" else f.name for f in model.schema.features]


def count_edges(model: KAN) -> int:
    """Return the number of edges; those of the levels of a categorical column count as one."""
    names = column_names(model)
    first, *others = (layer.mask.nonzero().tolist() for layer in model.layers)
    return len({(out, names[in_]) for out, in_ in first}) + sum(map(len, others))


def joint_edges(networks: Sequence[SmallNetwork]) -> int:
    """Return the number of edges of the KAN that joins small networks, one for each output."""
    products = any(network.products for network in networks)
    links = any(network.link is not None for network in networks)
    passing = sum((products and not n.products) + (links and n.link is None) for n in networks)
    return passing + sum(network.curves() for network in networks)


def make_columns(model: KAN, x: Array, *, rough: bool = True) -> list[ColumnCurves]:
    """Return the curves of columns that vary over scaled rows x (batch, in)."""
    names = column_names(model)
    varies = np.flatnonzero((x != x[0]).any(0))
    if len(varies) > MAX_CURVES:
        varies = np.sort(varies[np.argsort(-x[:, varies].var(0), kind="stable")[:MAX_CURVES]])
    count, groups = max(len(varies), 1), dict[int, list[CurveBasis]]()
    shapes, zeros = [model.constraints.get(name, "") for name in names], dict[int, float]()
    for index in varies.tolist() or [0]:
        group = names.index(names[index])
        even, places = is_bent(shapes[group]), fixed_places(model, shapes[group], index)
        fine = (rough or even) and model.holds_inputs
        curve = make_curve(index, x[:, index], group, count, fine, even=even, places=places)
        groups.setdefault(group, []).append(curve)
        zeros[group] = float(places[1]) if len(places) else 0.0
    return [
        ColumnCurves(group, CurveDesign(curves, x), shapes[group], zeros[group])
        for group, curves in groups.items()
    ]


def distinct_weights(rows: int, weights: Tensor | None, copies: Tensor) -> Array:
    """Return weights (batch,) that sum to the number of distinct rows.

    Copies carry no information about the error variance.
    """
    own = np.ones(rows) if weights is None else weights.double().cpu().numpy()
    count = len(np.unique(copies.numpy()[own > 0]))
    return np.asarray(own * (count / own.sum()))


def scaled_targets(model: KAN, y: Tensor) -> Array:
    """Return scaled targets (batch, out), or class indicators."""
    if model.task == "regression":
        own = model.loss.scaled(y, (model.output_shift, model.output_scale))
        return np.asarray(own.double().cpu())
    count = len(model.output_names)
    return np.asarray(np.eye(max(count, 2))[y.cpu().numpy()][:, -count:])


def fit_outputs(
    columns: Sequence[ColumnCurves], targets: Array, weights: Array, loss: Loss, **how: bool
) -> list[SmallNetwork]:
    """Fit one network of curves, without products, to each output."""
    networks = [
        SmallNetwork(columns, part, weights, loss.of_output(place), **how)
        for place, part in enumerate(targets.T)
    ]
    for _ in range(CYCLES if loss.classes and len(networks) > 1 else 0):
        before = np.stack([network.outputs() for network in networks], 1)
        for place, network in enumerate(networks):
            network.offsets = offsets(networks, place)
            network.fit()
        after = np.stack([network.outputs() for network in networks], 1)
        if ((after - before).std(0) <= CHANGE * after.std(0)).all():
            break
    return networks


def held_rows(folds: Array) -> list[Array]:
    """Return the rows of each fold."""
    return [np.flatnonzero(folds == fold) for fold in range(int(folds.max()) + 1)]


def choose_curves(
    model: KAN,
    x: Tensor,
    targets: Array,
    weights: Array,
    held: Sequence[Array],
    rows: Array | None = None,
) -> tuple[list[ColumnCurves], bool]:
    """Return the curves of columns of x (batch, in), and whether they share variances.

    They share variances if that predicts held-out rows better, and have rough parts if the gain is
    more than a standard error. With `rows`, targets, weights and `held` are of these rows of x.
    """
    scaled = model.scale_inputs(x).double().cpu().numpy()
    columns = make_columns(model, scaled)
    sample = columns if rows is None else [column.take(rows) for column in columns]

    def losses(held: Sequence[Array], **how: bool) -> Array:
        _, *fits = cross_fit(sample, targets, weights, model.loss, held, **how)
        pairs = zip(held, fits, strict=True)
        parts = [
            np.sum([(weights * n.losses(n.sums()))[places] for n in own], 0)
            for places, own in pairs
        ]
        return np.concatenate(parts)

    own, common = losses(held), losses(held, pooled=True)
    pooled = bool(common.sum() < own.sum())
    few = held[:ROUGH_FOLDS]
    fine = losses(few, fine=True, pooled=pooled)
    gain, error = mean_and_error(torch.from_numpy((common if pooled else own)[: len(fine)] - fine))
    if gain <= error * np.sqrt(len(weights) / weights.sum()):  # copies carry no information
        columns = make_columns(model, scaled, rough=False)
    return columns, pooled


def cross_fit(
    columns: Sequence[ColumnCurves],
    targets: Array,
    weights: Array,
    loss: Loss,
    held: Sequence[Array],
    **how: bool,
) -> list[list[SmallNetwork]]:
    """Return the networks of all outputs, fitted to all rows and then without each fold."""
    fits = [fit_outputs(columns, targets, weights, loss, **how)]
    for rows in held:
        own, rest = _without(weights, rows), [column.clipped(rows) for column in columns]
        fits.append(fit_outputs(rest, targets, own, loss, **how))
    return fits


def _without(weights: Array, rows: Array) -> Array:
    """Return weights with 0 for some rows; if the rest are all 0, they become equal."""
    rest = np.ones(len(weights))
    rest[rows] = 0.0
    own = weights * rest
    return own if own.any() else rest


def offsets(networks: Sequence[SmallNetwork], place: int) -> Array | None:
    """Return the offsets (batch,) of a class's logit due to the other classes."""
    own = networks[place]
    if not own.loss.classes or len(networks) == 1:
        return None
    others = [network.outputs() for network in networks if network is not own]
    return -np.asarray(logsumexp(others, 0))


def to_kan(model: KAN, networks: Sequence[SmallNetwork], *, flat: bool = False) -> KAN:
    """Return the KAN that joins small networks, one for each output, scaled as `model`.

    Zero edges are masked; with `flat`, those that are curves of the networks are not.
    """
    count, products = len(networks), [len(network.products) for network in networks]
    layers, nodes = [_curve_layer(model, networks, flat)], [Grouping(count)]
    if any(products):
        owners = np.concatenate([np.arange(count), np.repeat(np.arange(count), products)])
        nodes = [Grouping(count, (2,) * sum(products)), Grouping(count)]
        layers.append(_sum_layer(owners, count))
    if any(network.link is not None for network in networks):
        layers.append(_link_layer(networks))
        nodes.append(Grouping(count))
    network = KAN.from_layers(
        [layer.to(model.dtype) for layer in layers],
        model.schema,
        nodes=[Nodes(grouping) for grouping in nodes],
    )
    for name in ("input_shift", "input_scale", "input_low", "input_high"):
        getattr(network, name).copy_(getattr(model, name))
    network.output_shift.copy_(model.output_shift)
    network.output_scale.copy_(model.output_scale)
    network.scaled, network.holds_inputs = model.scaled, model.holds_inputs
    network.constraints = model.constraints
    return network


def _curve_layer(model: KAN, networks: Sequence[SmallNetwork], flat: bool) -> KANLinear:
    """Return a layer with the curves of columns, and of factors, as edges."""
    factors = [
        (network, *own)
        for network in networks
        for product in network.products
        for own in zip(product.factors, product.levels, strict=True)
    ]
    columns = [column for network in networks for column in network.columns]
    old, curves = model.layers[0], [curve for c in columns for curve in c.design.curves]
    layer = _empty_layer(
        old.in_features,
        len(networks) + len(factors),
        grid_size=max(len(curve.breakpoints) for curve in curves) - 1,
        spline_order=1,
        base_activation="zero",
        extrapolation=old.extrapolation,
    )
    for row, network in enumerate(networks):
        layer.bias[row] = network.level
        for place, own in enumerate(network.main_coefficients()):
            whole = flat and place in network.curved
            _set_curves(layer, row, network.columns[place], own, flat=whole)
    for row, (network, factor, level) in enumerate(factors, len(networks)):
        layer.bias[row] = level
        for edge in factor:
            column = network.columns[edge.column]
            own = np.zeros(len(column.design.owners))
            own[column.factor] = edge.coefficients
            _set_curves(layer, row, column, own, flat=flat)
    return layer


def _set_curves(
    layer: KANLinear, row: int, column: ColumnCurves, coefficients: Array, *, flat: bool
) -> None:
    """Set the edges of a column's curves; zero ones are masked, unless `flat` and all are zero."""
    heights = column.design.heights(coefficients)
    flat = flat and not any(np.ptp(height) > 0 for height in heights)
    for curve, height in zip(column.design.curves, heights, strict=True):
        knots = _padded(curve.breakpoints, layer.grid_size)
        values = np.interp(knots, curve.breakpoints, height)
        if column.shape:
            values = shaped(knots, values, column.shape, column.zero)
        layer.grid[curve.feature] = spline.extend(torch.from_numpy(knots)[None], 1)[0]
        layer.spline_weight[row, curve.feature] = torch.from_numpy(values)
        layer.mask[row, curve.feature] = float(flat or np.ptp(values) > 0)


def _padded(knots: Array, size: int) -> Array:
    """Return breakpoints of `size` intervals, by repeatedly halving the widest."""
    while len(knots) <= size:
        gaps = np.diff(knots)
        widest = np.argsort(-gaps)[: size + 1 - len(knots)]
        knots = np.sort(np.append(knots, knots[widest] + gaps[widest] / 2))
    return knots


def _sum_layer(owners: Array, count: int) -> KANLinear:
    """Return the layer that sums nodes; `owners` are the outputs they belong to."""
    layer = _empty_layer(len(owners), count, grid_size=3, base_activation="identity")
    places = torch.from_numpy(owners), torch.arange(len(owners))
    layer.mask[places] = layer.base_weight[places] = 1.0
    return layer


def _link_layer(networks: Sequence[SmallNetwork]) -> KANLinear:
    """Return the layer of links, with a line for outputs that have none."""
    layer = _empty_layer(
        len(networks), len(networks), grid_size=INTERVALS, spline_order=DEGREE,
        base_activation="zero",
    )  # fmt: skip
    for place, network in enumerate(networks):
        link = network.link or Link.line(network.sums())
        layer.grid[place] = torch.from_numpy(link.knots)
        layer.spline_weight[place, place] = torch.from_numpy(link.weights)
        layer.mask[place, place] = 1.0
    return layer


def _empty_layer(in_features: int, out_features: int, **options: object) -> KANLinear:
    """Return a layer without edges, in double precision."""
    generator = torch.Generator()  # keeps torch's random state unchanged
    layer = KANLinear(
        in_features,
        out_features,
        enable_standalone_scale_spline=False,
        generator=generator,
        **cast("dict[str, int]", options),  # type: ignore[arg-type]
    ).double()
    for parameter in (layer.mask, layer.base_weight, layer.spline_weight, layer.bias):
        parameter.zero_()
    return layer
