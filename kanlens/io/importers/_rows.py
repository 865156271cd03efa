"""Comparison of an imported model with its module in memory and with training rows."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kanlens._checks import check_choice
from kanlens._files import read_frame
from kanlens._lazy import optimize, pd
from kanlens._model_inputs import adopt_data, encode_labelled, prepare_target
from kanlens.data._columns import TASKS
from kanlens.data._schema import Task
from kanlens.data._table_reader import read_table
from kanlens.data._tables import Table
from kanlens.errors import KanlensError, KanlensWarning
from kanlens.functions._catalog import BASES
from kanlens.io.importers._settings import CALL, SUMS, ImportOptions, class_of, refuse
from kanlens.model import kernels
from kanlens.model._network import KAN
from kanlens.splines._spline import breakpoints

Remake = Callable[[ImportOptions], KAN]
_ROWS = 1000  # largest number of rows on which candidates are compared
_CLEAR = 3.0  # standard errors by which the loss of the best candidate must be lower
_GAIN = 0.01  # share of another candidate's loss by which it must be lower
_POWERS = np.arange(-6, 7) / 2  # of two, by which an assumed width is multiplied
_PROBES = 24  # rows of each kind: on breakpoints, inside the grid, in a wider range
_SINGLE = 1e-4  # tolerance in dtypes other than float64, as a share of the largest output
_STEPS = 8  # tolerance in machine epsilons, for dtypes such as float16
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


def probes(model: KAN) -> Tensor:  # (row, in)
    """Return rows inside the grid, on its breakpoints, and beyond it."""
    first = model.layers[0]
    low, high = first.domain()
    cuts = breakpoints(first.grid, first.spline_order).mT[:_PROBES]
    draw = torch.Generator().manual_seed(0)
    shares = torch.rand(2 * _PROBES, len(low), generator=draw).to(low)
    shares[_PROBES:] = 3 * shares[_PROBES:] - 1
    return torch.cat([low + (high - low) * shares, cuts])


@torch.no_grad()
def check_live(module: Any, model: KAN, tolerance: float, options: ImportOptions) -> bool:
    """Return whether a module in memory could be run; refuse outputs other than the model's."""
    x = full = probes(model)
    columns = getattr(module, "input_id", None)  # of pykan
    if isinstance(columns, Tensor) and columns.numel() == x.shape[1]:
        full = x.new_zeros(len(x), int(columns.max()) + 1)
        full[:, columns.long()] = x
    modules = list(module.modules()) if isinstance(module, nn.Module) else []
    modes, random = [part.training for part in modules], torch.get_rng_state()
    try:
        if isinstance(module, nn.Module):
            theirs = module.eval()(full)
        else:  # of JAX
            theirs = torch.from_numpy(np.array(module(full.numpy())))
    except _FAILURES:  # it takes other inputs than rows, such as images
        return False
    finally:
        for part, mode in zip(modules, modes, strict=True):
            part.training = mode
        torch.set_rng_state(random)
    ours = model(x)
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape or math.isinf(tolerance):
        return False
    heads = {"": ours, "softmax": ours.softmax(-1), "logsoftmax": ours.log_softmax(-1)}
    size, *gaps = (
        float(values.abs().nan_to_num(0.0, 0.0, 0.0).max())
        for values in (theirs, *(theirs - head for head in heads.values()))
    )
    apart = dict(zip(heads, gaps, strict=True))
    step = _STEPS * torch.finfo(ours.dtype).eps
    bound = size * (tolerance if ours.dtype == torch.float64 else max(tolerance, _SINGLE, step))
    if all(off > bound for off in apart.values()):
        expected = f"{class_of(module)} to compute what its library does with these tensors"
        got = f"outputs {apart['']:.3g} apart, of size {size:.3g}"
        advice = "Give its layers a method to_kanlens", "pass {layers} if tanh is missing"
        refuse(expected, got, *advice, layers="0,tanh,2")
    head = min(apart, key=lambda name: apart[name] > bound)  # the first within the bound
    if head:
        options.notes[f"its {head} left out: outputs are logits"] = None
    return True


def adopted(model: KAN, rows: Any, options: ImportOptions, remake: Remake | None) -> KAN:
    """Return the model with the best options and the statistics of rows."""
    adopt_data(model, rows)
    if isinstance(rows, Table):
        if rows.y is None:
            return model
        x, y = encode_labelled(model, rows, call=CALL)
    else:
        x = model.prepare(rows[0], call=CALL)
        y = prepare_target(model, rows[1], len(x), call=CALL)
    if not bool((y != y[:1]).any()):
        return model
    if remake is not None and (chosen := _chosen(model, x, y, options, remake)):
        schema, model = model.schema, remake(options.trial(**chosen))
        model.schema = schema
        adopt_data(model, rows)
        for name, value in chosen.items():
            options.assumed.pop(name)
            options.notes[f"{name}={value!r} as it fits the rows"] = None
    name, score, worse = _score(model, x, y)
    options.notes[f"{name} {score:.4g} on {len(x)} rows"] = None
    if worse:
        constant = "their mean" if model.task == "regression" else "the largest class"
        expected = f"outputs nearer to the targets than {constant}"
        advice = "Scale the rows as for its training, or pass base_activation or its other settings"
        got = f"{name} {score:.4g} on {len(x)} rows"
        warnings.warn(KanlensWarning(CALL, expected, got, advice), stacklevel=3)
    return model


@torch.no_grad()
def _losses(model: KAN, x: Tensor, y: Tensor) -> Tensor:  # (batch,)
    """Return the squared errors over the variance, or the cross-entropies."""
    output = model(x)
    if model.task == "regression":
        varies, spread = (y != y[:1]).any(0), y.var(0, correction=0)
        errors = ((output - y).square() / spread)[:, varies].mean(1)
    elif output.shape[1] == 1:
        target = y.to(output.dtype)
        errors = functional.binary_cross_entropy_with_logits(output[:, 0], target, reduction="none")
    else:
        errors = functional.cross_entropy(output, y, reduction="none")
    losses: Tensor = errors.double().nan_to_num(math.inf, math.inf)
    return losses


@torch.no_grad()
def _score(model: KAN, x: Tensor, y: Tensor) -> tuple[str, float, bool]:
    """Return the metric, its value, and whether a constant scores better."""
    if model.task == "regression":
        score = 1 - float(_losses(model, x, y).mean())
        return "R2", score, score < 0
    output = model(x)
    codes = (output[:, 0] > 0).long() if output.shape[1] == 1 else output.argmax(1)
    score = float((codes == y).double().mean())
    return "accuracy", score, score < float(y.bincount().max()) / len(y)


def _chosen(
    model: KAN, x: Tensor, y: Tensor, options: ImportOptions, remake: Remake
) -> dict[str, Any]:
    """Return assumed options for which another value fits clearly better."""
    picks = torch.linspace(0, len(x) - 1, min(_ROWS, len(x))).long()
    trials = _Trials(model, x[picks], y[picks], options, remake)
    with kernels.use("torch"):  # other kernels would have to be compiled
        trials.settle("denominator")
        trials.settle("base_activation")
        if "base_activation" in trials.chosen:
            trials.settle("denominator")
    return trials.chosen


class _Trials:
    """Losses of models with other options, row by row."""

    def __init__(
        self, model: KAN, x: Tensor, y: Tensor, options: ImportOptions, remake: Remake
    ) -> None:
        self.model, self.x, self.y, self.options, self.remake = model, x, y, options, remake
        self.chosen: dict[str, Any] = {}
        self.constant = 1.0  # loss of a constant: the mean, or the class frequencies
        if model.task == "classification":
            shares = y.bincount().double() / len(y)
            self.constant = float(torch.special.entr(shares).sum())

    def losses(self, **values: Any) -> Tensor:
        """Return the losses (batch,) with options, infinite if invalid."""
        try:
            model = self.remake(self.options.trial(**{**self.chosen, **values}))
        except KanlensError:
            return self.y.new_full((len(self.x),), math.inf, dtype=torch.float64)
        model.schema = self.model.schema
        return _losses(model, self.x, self.y)

    def settle(self, name: str) -> None:
        """Replace an assumed option by a clearly better value, if there is one."""
        assumed = self.chosen.get(name, self.options.assumed.get(name))
        if assumed is None:
            return
        values = self._widths(assumed) if name == "denominator" else [*BASES, *SUMS]
        losses = {value: self.losses(**{name: value}) for value in values}
        order = sorted(losses, key=lambda value: float(losses[value].mean()))
        first, least = order[0], losses[order[0]]
        if first == assumed or float(least.mean()) >= self.constant:
            return
        alike = [value for value in order if not _is_clear(least, losses[value])]
        if assumed in alike:
            return
        self.chosen[name] = first
        if len(alike) > 1:
            shown = ", ".join(repr(value) for value in alike[1:5])
            self.options.notes[f"as good on these rows: {name} {shown}"] = None

    def _widths(self, assumed: float) -> list[float]:
        """Return the assumed width of Gaussians, and the rounded result of a line search."""

        def loss(width: float) -> float:
            return float(self.losses(denominator=width).mean())

        widths = (assumed * 2.0**_POWERS).tolist()
        near = min(widths, key=loss)
        bounds = (near / 2**0.5, near * 2**0.5)
        best = optimize.minimize_scalar(
            loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}
        )
        rounded = (float(f"{best.x:.{digits}g}") for digits in range(1, 6))  # as users choose them
        close = (width for width in rounded if loss(width) <= (1 + _GAIN) * best.fun)
        return [assumed, next(close, float(best.x))]


def _is_clear(best: Tensor, other: Tensor) -> bool:
    """Return whether losses are lower than others by more than chance."""
    if bool(other.isinf().any()):
        return bool(best.isfinite().all())
    gain = other - best
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return float(gain.mean()) > max(_CLEAR * error, _GAIN * float(other.mean()))


def is_tabular(data: object) -> bool:
    """Return whether data have named columns: a path or a frame."""
    return isinstance(data, str | os.PathLike) or hasattr(data, "iloc")


def check_data(data: object, target: object, task: Task | None) -> None:
    """Refuse options that contradict the data."""
    if task is not None:
        check_choice(CALL, "task", task, TASKS)
    if target is not None and not is_tabular(data):
        got = type(data).__name__ if data is not None else "none"
        fault = ("a path or DataFrame with target", got, "Give data with that column")
    elif task is not None and data is None:
        fault = ("data with task", "none", "Give the data it was trained on")
    elif isinstance(data, Table) and task not in (None, data.schema.task):
        got = f"a Table for {data.schema.task}"
        fault = (f"data for {task}", got, "Read it with {task}")
    else:
        return
    refuse(*fault, task=task)


def training_data(model: KAN, data: Any, target: Any, task: Task | None, features: Any) -> Any:
    """Return rows and targets for `adopt_data`; the task is inferred for None."""
    if not is_tabular(data):
        if task is None or not (isinstance(data, tuple | list) and len(data) == 2):
            return data
        x, y = data
        values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
        if task == "regression":
            return x, values.astype(np.float64)

        return x, pd.Series(values.ravel()).astype("category")
    if target is None:
        frame = data if hasattr(data, "iloc") else read_frame(data, call=CALL)
        names = model.schema.targets_among([str(name) for name in frame.columns])
        target = names if len(names) > 1 else next(iter(names), None)
    table = read_table(data, target=target, task=task, features=features)
    if features is not None and len(table.feature_names) == model.widths[0]:
        model.schema = dataclasses.replace(model.schema, features=table.schema.features)
    return table
