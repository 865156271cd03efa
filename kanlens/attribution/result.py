"""What an attribution method returns: per sample (Attribution) or per model (Importance)."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 1000  # bootstrap samples behind an interval
NORMAL_95 = 1.959964  # standard errors to either side of a mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """How much each input feature adds to one output, sample by sample.

    Attributes
    ----------
    values : Tensor, shape (batch, in)
        In the units of the output; positive raises it.
    output : Tensor, shape (batch,)
        The model's value at each sample.
    reference : Tensor, shape (batch,)
        The value that `values` is counted from.
    baseline : str
        What the reference is, e.g. "mean output over the background".
    method : str
        Key into ``METHODS``.
    features : tuple of str
        Names of the columns of `values`, in order.
    target : str
        Name of the output.
    unit : str
        Unit of the output, empty when it has none.
    x : Tensor, shape (batch, in), or None
        The samples, in the units of the data; None when columns of `values` are no features.
    groups : dict of str to tuple of int
        Table columns that became several features, with the indices of these.
    standard_error : Tensor, shape (batch, in), or None
        Of `values`, for methods that sample.
    """

    values: Tensor
    output: Tensor
    reference: Tensor
    baseline: str
    method: str
    features: tuple[str, ...]
    target: str
    unit: str = ""
    x: Tensor | None = None
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    standard_error: Tensor | None = None

    @property
    def completeness_gap(self) -> Tensor:
        """What `values` leave unexplained: output - reference - their sum, shape (batch,)."""
        return self.output - self.reference - self.values.sum(1)

    @property
    def relative_gap(self) -> Tensor:
        """Size of the gap next to the change it should explain, shape (batch,).

        It is |gap| / (|output - reference| + t), where t is a thousandth of the standard deviation
        of the output, so that samples near the reference do not dominate.
        """
        floor = 1e-3 * self.output.std(correction=0) + torch.finfo(self.output.dtype).tiny
        return self.completeness_gap.abs() / ((self.output - self.reference).abs() + floor)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per sample: each feature's value, output, reference, completeness_gap.

        A feature that is called like one of the last three keeps its name, and the added column
        gets a trailing underscore.
        """
        import pandas as pd

        columns = {
            name: _numbers(self.values[:, index]) for index, name in enumerate(self.features)
        }
        for name in ("output", "reference", "completeness_gap"):
            free = name
            while free in columns:
                free += "_"
            columns[free] = _numbers(getattr(self, name))
        return pd.DataFrame(columns)

    def to_json(self) -> str:
        """Return the numbers and what they mean as JSON."""
        error = self.standard_error
        return json.dumps(
            {
                "method": self.method,
                "target": self.target,
                "unit": self.unit,
                "baseline": self.baseline,
                "features": list(self.features),
                "values": _numbers(self.values),
                "output": _numbers(self.output),
                "reference": _numbers(self.reference),
                "completeness_gap": _numbers(self.completeness_gap),
                "standard_error": None if error is None else _numbers(error),
            }
        )

    def to_importance(self, *, generator: torch.Generator | None = None) -> Importance:
        """Average over the samples: the mean |value| of each feature, with a 95% interval.

        Parameters
        ----------
        generator : torch.Generator, optional
            Draws 1000 bootstrap samples, whose percentiles are the interval; without one, the
            interval is the mean plus and minus 1.96 standard errors, and nothing is drawn.

        Returns
        -------
        Importance
            Without an interval when there is a single sample.

        References
        ----------
        .. [1] B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
        """
        sizes = self.values.abs()
        mean, rows = sizes.mean(0), len(sizes)
        low: Tensor | None = None
        high: Tensor | None = None
        if rows > 1 and generator is not None:
            low, high = _bootstrap(sizes, generator)
        elif rows > 1:
            spread = NORMAL_95 * sizes.std(0) / math.sqrt(rows)
            low, high = (mean - spread).clamp_min(0), mean + spread
        return Importance(
            values=mean,
            low=low,
            high=high,
            meaning="mean |value|",
            method=self.method,
            features=self.features,
            target=self.target,
            unit=self.unit,
        )

    def grouped(self) -> Attribution:
        """Return the attribution to table columns: the one-hot features of each are summed.

        Sums keep completeness. Columns stand where their first feature stood; standard errors
        are dropped, since those of a sum are unknown.
        """
        if not self.groups:
            return self
        column_of = {i: name for name, indices in self.groups.items() for i in indices}
        owners = [column_of.get(i, name) for i, name in enumerate(self.features)]
        columns = tuple(dict.fromkeys(owners))
        places = torch.tensor([columns.index(name) for name in owners], device=self.values.device)
        values = self.values.new_zeros(len(self.values), len(columns))
        values.index_add_(1, places, self.values)
        return dataclasses.replace(
            self, values=values, features=columns, x=None, groups={}, standard_error=None
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Importance:
    """How much each input feature matters to one output over all samples.

    Attributes
    ----------
    values : Tensor, shape (in,)
        Never negative.
    low, high : Tensor, shape (in,), or None
        Ends of the 95% interval over samples; None where sampling has no part in the values.
    meaning : str
        What the values are, e.g. "mean |value|".
    method : str
        Key into ``METHODS``.
    features : tuple of str
        Names, in the order of `values`.
    target : str
        Name of the output.
    unit : str
        Unit of the values, empty when they have none.
    """

    values: Tensor
    low: Tensor | None = None
    high: Tensor | None = None
    meaning: str
    method: str
    features: tuple[str, ...]
    target: str
    unit: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per feature: feature, importance, low, high (NaN without interval)."""
        import pandas as pd

        unknown = [math.nan] * len(self.features)
        return pd.DataFrame(
            {
                "feature": list(self.features),
                "importance": _numbers(self.values),
                "low": unknown if self.low is None else _numbers(self.low),
                "high": unknown if self.high is None else _numbers(self.high),
            }
        )

    def to_json(self) -> str:
        """Return the numbers and what they mean as JSON."""
        return json.dumps(
            {
                "method": self.method,
                "target": self.target,
                "unit": self.unit,
                "meaning": self.meaning,
                "features": list(self.features),
                "values": _numbers(self.values),
                "low": None if self.low is None else _numbers(self.low),
                "high": None if self.high is None else _numbers(self.high),
            }
        )


def _numbers(values: Tensor) -> list[Any]:
    """Return a tensor as nested lists of Python floats."""
    numbers: list[Any] = values.detach().cpu().tolist()
    return numbers


def _bootstrap(sizes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the 2.5% and 97.5% percentiles of the mean over resampled rows of (batch, in)."""
    rows = len(sizes)
    means = sizes.new_empty(RESAMPLES, sizes.shape[1])
    for index in range(RESAMPLES):
        picks = torch.randint(rows, (rows,), generator=generator, device=generator.device)
        means[index] = sizes[picks.to(sizes.device)].mean(0)
    ends = means.quantile(means.new_tensor([0.025, 0.975]), dim=0)
    return ends[0], ends[1]
