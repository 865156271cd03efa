"""Effects of a feature on an output: partial dependence and accumulated local effects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice, check_count, find_place
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens._resources import threads_for
from kanlens.attribution._problem import Problem, check_outputs, data_rows, explained_output, pairs
from kanlens.data._schema import choices
from kanlens.errors import InvalidValueError
from kanlens.functions._elementary import Array
from kanlens.model._analysis import Model, check_model, float64_copy, separates, usual_range
from kanlens.model._network import KAN, Rows

Kind = Literal["pdp", "ale"]
ROWS = {"pdp": 500, "ale": 4000}  # most rows to evaluate
POINTS = {1: 65, 2: 25}  # of each feature, by the number of features
YEARS = 1e5  # most days from 1970 that are shown as dates: 273 years
MAX_DISCRETE_VALUES = 12  # of a feature with discrete values


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """Values of a feature or column at which its effect is computed; categories are 0, 1, ..."""

    name: str
    unit: str
    x: Tensor  # (point,), increasing
    labels: tuple[str, ...]  # of the points; empty for points of a range
    data: Tensor  # (row,): the feature in each row, coded as x
    columns: list[int]  # of the model's x that are set together
    codes: Tensor  # (point, column): values of these columns
    dates: bool = False  # whether x are days since 1970


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Effect(Displayed):
    """Effect of one feature, or of two together, on an output; in float64, on the CPU.

    Attributes
    ----------
    settings : tuple of Settings, one for each feature
        ``name``, ``unit``, points ``x``, and their ``labels`` if these are all values of the
        feature; ``data`` are its values in the rows.
    target, unit, kind : str
        Name of the output, its unit, and the kind of effect.
    exact : bool
        Whether the output is, by the structure of the network, a function of these features plus
        one of all others; `values` are then that function, for both kinds.
    values : Tensor, shape (point,) or (point, other point)
        Less their mean over the data.
    ice : Tensor, shape (line, point), or None
        Change of the output of single rows when the feature is set to each point.
    members : Tensor, shape (model, point) or (model, point, other point), or None
        Effects in each of several models, of which `values` is the mean.
    band : Tensor, shape (2, point), or None
        Ends of the 95% band of a term.
    missing : float or None
        Effect of a missing cell, for a single number or date whose column had missing cells; the
        other attributes are computed from the other rows.
    """

    settings: tuple[Settings, ...]
    target: str
    unit: str
    kind: str
    exact: bool
    values: Tensor
    ice: Tensor | None = None
    members: Tensor | None = None
    band: Tensor | None = None
    missing: float | None = None

    def _line(self) -> str:
        names = " and ".join(feature.name for feature in self.settings)
        ends = f"{float(self.values.min()):.3g} to {float(self.values.max()):.3g} {self.unit}"
        return f"{'exact ' * self.exact}{self.kind} of {names} on {self.target}, {ends}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point: each feature, and its ``effect`` (or ``effect_``).

        For outputs on a log scale, ``factor`` is what multiplies the rate, mean, hazard or odds.
        """
        points = product(*(feature.labels or feature.x.tolist() for feature in self.settings))
        frame = pd.DataFrame(list(points), columns=[feature.name for feature in self.settings])
        name = next(name for name in ("effect", "effect_", "effect__") if name not in frame)
        frame = frame.assign(**{name: self.values.flatten().tolist()})
        if self.missing is not None:
            frame.loc[len(frame)] = [np.nan, self.missing]
        return frame.assign(factor=np.exp(frame[name])) if self.unit.startswith("log") else frame

    def to_json(self) -> str:
        """Return the numbers and their meaning as JSON, without the data."""
        names = ("name", "unit", "x", "labels")
        settings = [{name: getattr(part, name) for name in names} for part in self.settings]
        return json.dumps(to_plain({**vars(self), "settings": settings}))


def effect(
    model: Model | Sequence[Model],
    feature: int | str,
    data: Rows | None = None,
    *,
    target: int | str | None = None,
    kind: Kind = "pdp",
    ice: int = 30,
    other: int | str | None = None,
    grid: int | None = None,
) -> Effect:
    """Return the effect of a feature on an output, minus its mean.

    "pdp" is partial dependence [1]_: the mean output over rows of the data with the feature set to
    each value, even if unlikely in that row. "ale" are accumulated local effects [2]_: the mean
    differences between neighboring quantiles, over the rows between them, summed up (for
    neighboring categories, over the rows of both). If the network is additive in the feature, both
    equal its term in the network, computed from one row.

    Parameters
    ----------
    model : KAN or fitted estimator, or a sequence of them
        Not changed. For several, such as restarts or fits to resampled rows, the mean effect.
    feature, other : int or str
        Index or name; `other` is a second feature, for "pdp" only. All features of a table column
        are set together.
    data : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Rows in the units of the data; 500 (4000 for "ale") evenly spread ones are evaluated.
        Default: the background rows stored in the (first) model.
    target : int or str, optional
        The output, as for `kanlens.attribute`; log-odds for classification.
    kind : {"pdp", "ale"}
        Kind of effect.
    ice : int
        Largest number of curves of single rows [3]_; none for "ale", two features, several
        models, or if all curves are equal.
    grid : int, optional
        Largest number of points of a numeric feature. Default: 65, or 25 each for two features.
        Half are evenly spaced and half (for "ale" all) are quantiles; up to 12 different values are
        all used.

    Returns
    -------
    Effect
        Points in the units of the feature, values in those of the output.

    Raises
    ------
    InvalidValueError
        If there is no such feature, output or kind, or several models differ in their features.
    MethodError, ShapeError, DTypeError, DataError
        If there are no data, or they cannot be used, or an output is not finite.

    References
    ----------
    .. [1] J. Friedman, Greedy function approximation: a gradient boosting machine, 2001.
    .. [2] D. Apley, J. Zhu, Visualizing the effects of predictor variables in black box supervised
       learning models, 2020.
    .. [3] A. Goldstein, A. Kapelner, J. Bleich, E. Pitkin, Peeking inside the black box, 2015.

    Examples
    --------
    >>> effect(KAN([2, 3, 1]), "x2", torch.rand(50, 2)).ice.shape
    torch.Size([30, 65])
    """
    if isinstance(model, (list, tuple)):
        options: Any = {"target": target, "kind": kind, "ice": 0, "other": other, "grid": grid}
        return _mean_effect(model, feature, data, options)
    model = check_model("effect", model)
    check_choice("effect", "kind", kind, ROWS)
    check_count("effect", "ice", ice, least=0)
    places = _places(model, [feature] if other is None else [feature, other], kind)
    most = POINTS[len(places)] if grid is None else grid
    check_count("effect", "grid", most, least=2)
    with torch.inference_mode(False), torch.no_grad():
        rows = data_rows(model, data, call="effect", what="data", needs="rows of data")
        rows = _known_rows(model, places, rows.detach())
        index = explained_output(model, target, rows, call="effect")
        settings = [make_settings(model, place, rows, kind, most) for place in places]
        picks = _spread(len(rows), ROWS[kind])
        x = rows[picks.to(rows.device)].double()
        problem = Problem(model=float64_copy(model), x=x, rows=x, target=index)
        exact = separates(problem.model, index, [column for place in places for column in place])
        with threads_for(problem.size):
            if kind == "ale" and not exact:
                values, lines = _accumulated(problem, settings[0], picks), None
            else:
                values, lines = _dependence(problem, settings, 1 if exact else len(x), ice)
            values = _centered(values.cpu(), settings, picks)
            missing = _missing_effect(problem, settings, values) if other is None else None
    return Effect(
        settings=tuple(settings),
        target=model.output_names[index],
        unit=model.output_unit(index),
        kind=kind,
        exact=exact,
        values=values,
        missing=missing,
        ice=None if lines is None else lines.cpu(),
    )


def _mean_effect(models: Sequence[Model], feature: int | str, data: Any, options: Any) -> Effect:
    """Return the mean of the effects in several models, and each of them."""
    if not models:
        raise InvalidValueError("effect", "models", "none", "Pass at least one")
    rows = check_model("effect", models[0]).background if data is None else data
    effects = [effect(model, feature, rows, **options) for model in models]
    points = [[part.target, *((s.name, s.x.tolist()) for s in part.settings)] for part in effects]
    if any(others != points[0] for others in points):
        expected = "effects of all models on the same output at the same points"
        advice = "Pass target, or leave out those that differ"
        raise InvalidValueError("effect", expected, "different ones", advice)
    members = torch.stack([part.values for part in effects])
    missing = [part.missing for part in effects if part.missing is not None]
    return replace(
        effects[0],
        values=members.mean(0),
        members=members,
        exact=all(part.exact for part in effects),
        missing=float(np.mean(missing)) if missing else None,
        ice=None,
    )


def _spread(count: int, most: int) -> Tensor:
    """Return the indices of at most `most` of `count` rows, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).round().long()


def _places(model: KAN, features: list[Any], kind: str) -> list[list[int]]:
    """Return the indices of the model inputs that encode each feature."""
    places = [columns_of(model, feature) for feature in features]
    if len(places) == 2 and (kind == "ale" or places[0] == places[1]):
        expected, got = "kind 'pdp' for two features that differ", repr((*features, kind))
        raise InvalidValueError("effect", expected, got, "Change other, or leave it out")
    return places


def columns_of(model: KAN, feature: int | str) -> list[int]:
    """Return the indices of the model inputs that encode the column of a feature."""
    features = model.schema.features
    names = [*model.feature_names, *(item.column for item in features)]
    expected = f"a feature from 0 to {len(features) - 1} or by name"
    choices = names if isinstance(feature, str) else names[: len(features)]
    advice = "Name a feature of the model"
    index = find_place("effect", expected, feature, choices, advice) % len(features)
    group = model.schema.groups.get(features[index].column, (index,))
    if features[group[0]].category is not None:
        return list(group)
    days = [k for k in group if features[k].part == "days"]
    return days if days and feature == features[index].column else [index]


def _mark(model: KAN, place: list[int]) -> int | None:
    """Return the index of the input that is 1 where a number or date is missing, or None."""
    features = model.schema.features
    first = features[place[0]]
    if first.category is not None or first.kind == "missing":
        return None
    marks = (k for k, f in enumerate(features) if f.kind == "missing" and f.column == first.column)
    return next(marks, None)


def _known_rows(model: KAN, places: list[list[int]], rows: Tensor) -> Tensor:
    """Return the rows where no number or date of these inputs is missing; if none, all rows."""
    marks = [mark for place in places if (mark := _mark(model, place)) is not None]
    present = (rows[:, marks] == 0).all(1)
    return rows[present] if bool(present.any()) else rows


def _missing_effect(problem: Problem, settings: list[Settings], values: Tensor) -> float | None:
    """Return the effect of a missing cell: of its imputed value and its indicator."""
    (number,), model = settings, problem.model
    mark = _mark(model, number.columns)
    if mark is None:
        return None
    fill, change = model.schema.features[number.columns[0]].filler or 0.0, torch.zeros(())
    for sign, missing in ((1, 1.0), (-1, 0.0)):
        x = problem.x.clone()
        x[:, [*number.columns, mark]] = x.new_tensor([fill, missing])
        change = change + sign * problem.output_in_parts(x).cpu()
    return float(np.interp(fill, number.x.numpy(), values.numpy()) + change.mean())


def make_settings(model: KAN, columns: list[int], rows: Tensor, kind: str, most: int) -> Settings:
    """Choose the points of a feature: its categories, or values over its range."""
    features = [model.schema.features[k] for k in columns]
    first = features[0]
    data = rows[:, columns].double().cpu()
    dates = first.part == "days" and float(data.abs().max()) < YEARS
    labels, indicators = choices(features)
    if first.category is None or len(labels) < 2:
        data = data[:, 0]
        x = _points(data.numpy(), kind, most)
        words = dict(enumerate(("known", "missing"))) if first.kind == "missing" else {}
        few, written = x.tolist() if len(x) <= 2 else [], _day if dates else "{:.6g}".format
        labels = tuple(words.get(value) or written(value) for value in few)
        codes = x[:, None]
    else:
        x, codes = torch.arange(len(labels)).double(), torch.tensor(indicators).double()
        data = torch.cdist(data, codes).argmin(1).double()
        if kind == "ale":  # only categories with rows
            x = data.unique()
            labels, codes = tuple(labels[int(k)] for k in x), codes[x.long()]
    name = first.name if first.category is None else first.column
    facts: dict[str, Any] = {"name": name, "unit": first.unit, "labels": labels, "data": data}
    return Settings(x=x, columns=columns, codes=codes, dates=dates, **facts)


def _day(value: float) -> str:
    """Return the date of a day since 1970, with the time unless it is midnight."""
    return str(np.datetime64(round(86400 * value), "s")).replace("T", " ").removesuffix(" 00:00:00")


def _points(values: Array, kind: str, most: int) -> Tensor:
    """Return the values if few, else quantiles and, for "pdp", also evenly spaced points."""
    shares = np.linspace(0, 1, most if kind == "ale" else most // 2 + 1)
    x = np.unique(values)
    if len(x) <= min(most, MAX_DISCRETE_VALUES):
        return torch.from_numpy(x)
    x = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    if kind == "pdp":
        x = np.union1d(x, np.linspace(*usual_range(values), most - most // 2 + 1)[1:-1])
    return torch.from_numpy(x)


def _dependence(
    problem: Problem, settings: list[Settings], count: int, ice: int
) -> tuple[Tensor, Tensor | None]:
    """Return the mean output over `count` rows at every point, and curves of single rows."""
    rows, shape = problem.x[:count], [len(feature.x) for feature in settings]
    columns = [column for feature in settings for column in feature.columns]
    codes = [torch.cat(parts) for parts in product(*(feature.codes for feature in settings))]
    outputs = _outputs(problem, rows, columns, torch.stack(codes).to(rows))  # (row, setting)
    picks = _spread(count, ice if len(settings) == 1 < count else 0).to(rows.device)
    lines = outputs[picks] - problem.output_in_parts(rows[picks])[:, None]
    return outputs.mean(0).view(shape), lines if len(lines) else None


def _outputs(problem: Problem, rows: Tensor, columns: list[int], codes: Tensor) -> Tensor:
    """Return the output of every row with some columns set to each of the codes: (row, point)."""
    model = problem.model

    def sums(values: Tensor | None) -> Tensor:  # of the rows, or of the first one with values
        x = rows if values is None else rows[:1].repeat(len(values), 1)
        if values is not None:
            x[:, columns] = values
        parts = model.scale_inputs(x).split(problem.rows_at_once)
        return torch.cat([model.layers[0](part) for part in parts])

    others, ours = sums(None) - sums(rows[:, columns]), sums(codes)
    outputs = rows.new_empty(len(rows), len(codes))
    for row, point in pairs(len(rows), len(codes), problem.rows_at_once):
        mixed = others[row, None] + ours[point]  # (row, point, sum)
        nodes = mixed if model.nodes[0].plain else model.nodes[0](mixed)
        outputs[row, point] = model.scale_outputs(model.run(nodes, start=1))[..., problem.target]
    check_outputs("effect", outputs)
    return outputs


def _accumulated(problem: Problem, settings: Settings, picks: Tensor) -> Tensor:
    """Return the accumulated local effects, 0 at the first point: (point,)."""
    step = torch.searchsorted(settings.x, settings.data[picks])  # index of the next point
    rows, last = torch.arange(len(step)), len(settings.x) - 1
    if settings.labels:  # for categories, rows of both neighbors
        rows, step = rows.repeat(2), torch.cat([step, step + 1])
        inside = (step > 0) & (step <= last)
        rows, step = rows[inside], step[inside]
    step = step.clamp_min(min(1, last))  # the smallest value belongs to the first interval
    change = problem.x.new_zeros(len(step))
    for sign, place in ((1, step), (-1, step - 1)):
        x = problem.x[rows.to(problem.x.device)]
        x[:, settings.columns] = settings.codes[place].to(x)
        change += sign * problem.output_in_parts(x)
    check_outputs("effect", change)
    means = torch.zeros(last + 1).double().index_add(0, step, change.cpu())
    return (means / step.bincount(minlength=last + 1).clamp_min(1)).cumsum(0)


def _centered(values: Tensor, settings: list[Settings], picks: Tensor) -> Tensor:
    """Subtract the mean over the rows `picks`, interpolated linearly between points."""
    rows = [(feature.data[picks].numpy(), feature.x.numpy()) for feature in settings]
    weights = [np.stack([np.interp(*own, hat) for hat in np.eye(len(own[1]))], 1) for own in rows]
    terms = "rp,p->" if len(weights) == 1 else "rp,rq,pq->"
    return values - float(np.einsum(terms, *weights, values.numpy()) / len(picks))
