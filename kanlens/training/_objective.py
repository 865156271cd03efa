"""The objective of training, predictions, and the metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import pd
from kanlens._model_inputs import encode_labelled
from kanlens.model._analysis import Model, check_model
from kanlens.model._held_out import conformal_widths, prediction_columns, probabilities, survival
from kanlens.model._network import KAN
from kanlens.model._spline_forward import Average
from kanlens.model._statistics import deviations, empty_pairs
from kanlens.model._survival import concordance
from kanlens.sparsity import PENALTIES, penalty_value

if TYPE_CHECKING:
    from kanlens.data._tables import Table
    from kanlens.model._network import Rows

NAMED = 5  # features outside the training data that are named
PART = 256  # rows whose pairs are looked up at once
OUTSIDE = "outside the data"  # column of `predict`


@dataclass(kw_only=True)
class Objective:
    """The loss of a model in scaled units of its output, and a penalty.

    The penalty maps keys into ``kanlens.sparsity.PENALTIES`` to their weights. Node weights, (out,)
    for each layer, are factors of the norms of all edges into an output.
    """

    model: KAN
    penalty: Mapping[str, float] = field(default_factory=dict)
    strength: float = 0.0
    entropy_weight: float = 2.0
    node_weights: list[Tensor] | None = None

    @property
    def of_weights(self) -> bool:
        """True unless there is a penalty that depends on inputs."""
        needs_inputs = any(PENALTIES[name].needs_inputs for name in self.penalty)
        return self.strength == 0.0 or not needs_inputs

    def total(
        self, x: Tensor, y: Tensor, weights: Tensor | None = None, average: Average | None = None
    ) -> Tensor:
        """Return loss plus penalty on x, or, with `average`, on the rows of all processes."""
        output, penalty = self.evaluated(x, average)
        loss = task_loss(self.model, output, y, weights)
        return (loss if average is None else average(loss)) + penalty

    def evaluated(self, x: Tensor, average: Average | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs for x (batch, in), and the penalty on these rows."""
        (*inputs, last), _ = self.model.levels(self.model.scale_inputs(x))
        return self.model.scale_outputs(last), self.penalty_term(inputs, average)

    def penalty_term(self, inputs: list[Tensor], average: Average | None = None) -> Tensor:
        """Return `strength` times the penalty, given the inputs of layers."""
        if not self.penalty or self.strength == 0.0:
            return self.model.input_shift.new_zeros(())
        value = penalty_value(
            tuple(self.model.layers),
            self.penalty,
            entropy_weight=self.entropy_weight,
            inputs=inputs if any(PENALTIES[name].needs_inputs for name in self.penalty) else None,
            node_weights=self.node_weights,
            average=average,
        )
        return self.strength * value


def task_loss(model: KAN, output: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean loss over rows; weights of rows have mean 1."""
    losses = row_losses(model, output, y, weights)
    return losses.mean() if weights is None else (losses * weights).mean()


def row_losses(model: KAN, output: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the loss of every row; `task_loss` is their mean."""
    own = slice(output.shape[1])  # the scaling of members of an ensemble is the same
    scaling = model.output_shift[own], model.output_scale[own]
    return model.loss.rows(output, y, scaling, weights).mean(1)


@torch.no_grad()
def constant_loss(model: KAN, y: Tensor, judged: Tensor) -> float:
    """Return the loss on targets `judged` of the best constant for `y`."""
    if not model.loss.classes:
        return float(task_loss(model, best_constant(model, y).expand_as(judged), judged))
    count = max(2, len(model.output_names))
    share = (torch.bincount(y, minlength=count).double() + 1e-9) / (len(y) + count * 1e-9)
    logits = share.log() if len(model.output_names) > 1 else (share[1:] / share[:1]).log()
    return float(task_loss(model, logits.expand(len(judged), -1), judged))


def best_constant(model: KAN, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the best constant output (out,) for targets (batch, out)."""
    if model.loss.linear:
        return y.mean(0)
    parts = [None if part is None else part.double().cpu().numpy() for part in (y, weights)]
    return torch.from_numpy(model.loss.best(*parts)).to(y)  # type: ignore[arg-type]


@torch.no_grad()
def score(model: KAN, output: Tensor, y: Tensor, weights: Tensor | None = None) -> float:
    """Return R2 (mean over targets that vary), accuracy, D2 of the loss, or the concordance.

    D2 is a mean over outputs; only D2 uses `weights` (batch,).
    """
    loss = model.loss
    if loss.classes:
        return float((classes(output) == y).double().mean())
    if not loss.separable:
        return concordance(*(part[:, 0].double().cpu().numpy() for part in (output, y)))
    if not loss.linear:
        shares = explained(model, output.double(), y.double(), weights)
        return float(shares[shares.isfinite()].mean())
    varies = deviations(y.to(output)) > 0
    y, size = y.double(), y.double().abs().amax(0)
    size = torch.where(size > 0, size, 1.0).log2().floor().exp2()  # squares must not underflow
    error = ((output.double() - y) / size).square().mean(0)
    spread = (y / size).var(0, correction=0)
    return float((1 - error / spread)[varies].mean())


def explained(model: KAN, output: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the D2 (out,): the share of the loss of the best constant that the model avoids."""
    constant, own = best_constant(model, y, weights), slice(y.shape[1])  # as in `row_losses`
    scaling = model.output_shift[own], model.output_scale[own]
    rows = [model.loss.rows(part.expand_as(y), y, scaling) for part in (output, constant)]
    left, whole = (part.mean(0) if weights is None else weights.to(part) @ part for part in rows)
    return 1 - left / whole


def classes(output: Tensor) -> Tensor:  # (batch, out) -> (batch,)
    """Return the class code of the largest logit, or of a single logit's sign."""
    return (output[:, 0] > 0).long() if output.shape[1] == 1 else output.argmax(1)


@torch.no_grad()
def predict(
    model: Model,
    x: Rows,
    *,
    interval: float | None = None,
    by: str | None = None,
    support: bool = False,
    times: float | Sequence[float] | None = None,
) -> pd.DataFrame:
    """Predict every row, with intervals or sets that hold a share of new rows.

    Parameters
    ----------
    model : KAN or fitted estimator
    x : Tensor, ndarray, DataFrame, Table or Source, shape (batch, in)
    interval : float, optional
        Share of new rows, like those of training, that the interval of each output covers, or the
        set of classes [1]_ [2]_. It is calibrated on rows held out of training.
    by : str, optional
        Categorical column: the share holds in each category with enough rows held out.
    support : bool
        Whether to add a column, ``outside the data``. It names the features of each row outside the
        bulk of the training data, and pairs of other features to which none of the 100 rows stored
        with the model is near, although six would be if the two were independent.
    times : float or sequence of float, optional
        For the loss "cox": times of the columns ``survival <time>``, the probabilities that there
        is no event until then. The baseline hazard is that of the rows held out of training.

    Returns
    -------
    DataFrame
        For regression, one column per output, in the units of the data, then ``<output> low`` and
        ``<output> high``, or for several quantiles ``low`` and ``high`` of one interval [3]_; with
        "cox", hazards over their baseline. For classification, the most probable label in a
        column named as the target, one column ``probability <label>`` per class, and ``in set
        <label>``, true for the labels of the set; where no label is probable enough, the set is
        empty.

    Raises
    ------
    InvalidValueError
        If `interval` is not between 0 and 1, `by` is not a categorical column, or a time is
        negative.
    MethodError
        If the model has no rows held out, or too few, or has changed since training.
    DTypeError, ShapeError, DataError
        If `x` does not fit the model.

    References
    ----------
    .. [1] R. Barber et al., Predictive inference with the jackknife+, 2021.
    .. [2] M. Sadinle et al., Least ambiguous set-valued classifiers, 2019.
    .. [3] Y. Romano et al., Conformalized quantile regression, 2019.

    Examples
    --------
    >>> from kanlens import fit_default
    >>> x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    >>> model = fit_default((x, x**2), hidden=(), progress=False).model
    >>> predict(model, x[:5], interval=0.9).columns.tolist()
    ['y', 'y low', 'y high']
    """
    network = check_model("predict", model)
    rows = network.prepare(x, call="predict")
    output, widths = network(rows), None
    if interval is not None:
        widths = conformal_widths(network, rows, interval, by, call="predict")
    frame = _predictions(network, output, widths, interval)
    if times is not None and np.size(times):
        shares = survival(network, output, times, call="predict").cpu().numpy()
        frame[[f"survival {time:.15g}" for time in np.ravel(times)]] = shares
    return frame.assign(**{OUTSIDE: unsupported(network, rows)}) if support else frame


def _predictions(
    model: KAN, output: Tensor, widths: Tensor | None, level: float | None
) -> pd.DataFrame:
    """Return the columns of `predict`; `widths` are those of `conformal_widths`."""
    if model.task == "regression":
        values, floor = model.loss.response(output), 0.0 if model.loss.log else -torch.inf
        names, outputs, owners, signs = prediction_columns(model, level)
        cells = values[:, outputs]
        if widths is not None:
            cells = cells + cells.new_tensor(signs) * widths[:, owners]
        return pd.DataFrame(cells.clamp_min(floor).cpu().numpy(), columns=list(names))
    chances = probabilities(output)
    labels = [model.class_labels[code] for code in classes(output).tolist()]
    frame = pd.DataFrame({model.schema.target or "class": labels})
    frame[[f"probability {label}" for label in model.class_labels]] = chances.cpu().numpy()
    if widths is not None:
        own = (chances >= 1 - widths).cpu().numpy()
        frame[[f"in set {label}" for label in model.class_labels]] = own
    return frame


def unsupported(model: KAN, x: Tensor) -> list[str]:
    """Return for each row of x (batch, in) a text with features and pairs outside the data."""
    columns, words = model.schema.places, list[str]()
    names, places = list(columns), list(columns.values())
    for rows in x.split(PART):
        outside = model.outside(rows) | _unknown(model, rows)
        alone = torch.stack([outside[:, place].any(1) for place in places], 1).cpu()
        background = rows[:0] if model.background is None else model.background
        pairs = empty_pairs(places, rows.cpu(), background.cpu())
        pairs &= ~(alone[:, :, None] | alone[:, None])
        for own, empty in zip(alone, pairs.triu(1), strict=True):
            single = [names[place] for place in own.nonzero()[:, 0].tolist()]
            both = [f"{names[a]} x {names[b]}" for a, b in empty.nonzero().tolist()]
            parts = {f"{len(single)} of {len(names)} features": single}
            parts |= {f"{len(both)} pair{'s' * (len(both) != 1)}": both}
            named = (f"{text} ({', '.join(each[:NAMED])})" for text, each in parts.items() if each)
            words.append(" and ".join(named))
    return words


def _unknown(model: KAN, x: Tensor) -> Tensor:
    """Return the mask (batch, in) of features whose column has an unknown category in x."""
    features, unknown = model.schema.features, torch.zeros_like(x, dtype=torch.bool)
    for own in model.schema.places.values():
        levels = [i for i in own if features[i].kind == "categorical"]
        if levels and len(levels) == len(features[levels[0]].categories):  # all are features
            unknown[:, own] = (x[:, own] == 0).all(1, keepdim=True)
    return unknown


@torch.no_grad()
def outside_words(model: KAN, x: Tensor) -> str:
    """Return a sentence on rows of x outside the range of training, or ""."""
    outside = model.outside(x.to(model.input_shift))
    if not bool(outside.any()):
        return ""
    counts = zip(outside.sum(0).tolist(), model.feature_names, strict=True)
    order = sorted(counts, key=lambda pair: -pair[0])
    named = [f"{name}: {count}" for count, name in order if count]
    more = f", and {len(named) - NAMED} more features" if len(named) > NAMED else ""
    place, becomes = "the grid", "functions are extrapolated"
    if model.input_low.isfinite().any():
        place = "the bulk of the training data"
        becomes = "each value is held at the nearest end of its range"
    rows = f"{int(outside.any(1).sum())} of {len(x)} rows outside {place}"
    return f"{rows} ({', '.join(named[:NAMED])}{more}), where {becomes}"


class ScoreSums:
    """The metric over batches; R2 by sums (Chan et al., Updating formulae, 1979)."""

    def __init__(self, model: KAN) -> None:
        self.model, self.rows = model, 0
        zeros = model.output_scale.double() * 0
        self.mean = self.squares = self.errors = self.largest = zeros
        self.right, self.parts = 0, list[tuple[Tensor, Tensor]]()

    @torch.no_grad()
    def add(self, table: Table) -> None:
        """Add rows of a table with targets."""
        x, y = encode_labelled(self.model, table, call="judge")
        output, before, self.rows = self.model(x), self.rows, self.rows + len(x)
        if self.model.task == "classification":
            self.right += int((classes(output) == y).sum())
            return
        if not self.model.loss.linear:
            self.parts.append((output, y))
            return
        scale = self.model.output_scale.double()  # squares must not underflow
        y, output = y.double() / scale, output.double() / scale
        shift = y.mean(0) - self.mean
        self.mean = self.mean + shift * len(y) / self.rows
        self.squares = self.squares + (y - y.mean(0)).square().sum(0)
        self.squares = self.squares + shift.square() * before * len(y) / self.rows
        self.errors = self.errors + (output - y).square().sum(0)
        self.largest = torch.maximum(self.largest, y.abs().amax(0))

    def score(self) -> dict[str, float]:
        """Return the metric."""
        if self.model.task == "classification":
            return {self.model.loss.metric: self.right / self.rows}
        if self.parts:
            output, y = map(torch.cat, zip(*self.parts, strict=True))
            return {self.model.loss.metric: score(self.model, output, y)}
        rounding = torch.finfo(self.model.dtype).eps * self.largest
        varies = (self.squares / self.rows).sqrt() > rounding
        return {self.model.loss.metric: float((1 - self.errors / self.squares)[varies].mean())}


def judge(model: KAN, table: Table) -> dict[str, float]:
    """Return the metric of a model on a table with targets, as {name: value}.

    A pruned model finds its features in the table by name.
    """
    sums = ScoreSums(model)
    for part in table.batches():
        sums.add(part)
    return sums.score()
