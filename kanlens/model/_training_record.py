"""Records that a model keeps: statistics of the training data, scores, edits, hashes of rows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Feature, Schema
from kanlens.splines._spline import quantiles

LEVELS = 33  # quantiles kept per input, evenly spaced from 0 to 1


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStatistics:
    """Distribution of a layer's inputs and edge values over the training data, on the CPU."""

    quantiles: Tensor  # (in, 33): of each input at 0, 1/32, ..., 1
    edge_mean: Tensor  # (out, in)
    edge_std: Tensor  # (out, in)

    @property
    def input_low(self) -> Tensor:
        """Smallest value of each input, shape (in,)."""
        return self.quantiles[:, 0]

    @property
    def input_high(self) -> Tensor:
        """Largest value of each input, shape (in,)."""
        return self.quantiles[:, -1]

    def reached(self, x: Tensor) -> Tensor:
        """Return the mask of x (batch, in) in, or just outside, the range of training data."""
        low, high = self.input_low.to(x), self.input_high.to(x)
        room = 0.01 * (high - low)  # as `KANLinear.update_grid` leaves it
        return (x >= low - room) & (x <= high + room)

    def select(self, out: Tensor, in_: Tensor) -> LayerStatistics:
        """Return the statistics of a layer that keeps only outputs `out` and inputs `in_`."""
        return LayerStatistics(
            quantiles=self.quantiles[in_],
            edge_mean=self.edge_mean[out][:, in_],
            edge_std=self.edge_std[out][:, in_],
        )


def summarize(x: Tensor, mean: Tensor, std: Tensor) -> LayerStatistics:
    """Return the statistics of a layer from inputs (batch, in) and edge moments (out, in)."""
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    return LayerStatistics(
        quantiles=quantiles(x.detach().cpu(), levels).mT.contiguous(),
        edge_mean=mean.detach().cpu(),
        edge_std=std.detach().cpu(),
    )


def deviations(y: Tensor) -> Tensor:  # (batch, out) -> (out,)
    """Return the standard deviation of every column; 0 if within rounding."""
    info, size = torch.finfo(y.dtype), y.abs().amax(0)
    size = torch.where(size > 0, size, 1.0).log2().floor().exp2()  # squares must not underflow
    part = (y / size).std(0, correction=0)
    return torch.where(
        (part > info.eps * (y / size).abs().amax(0)) & (part * size > info.tiny), part * size, 0.0
    )


METRICS = ("R2", "accuracy")
SCORED = ("network", "mean", "linear", "boosting")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits as of a random number


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Scores of a network and of baseline models on the same held-out rows."""

    metric: str  # "R2" or "accuracy"
    scores: dict[str, float | None]  # of those in `SCORED`; the mean is the most frequent class
    rows: int  # number of rows scored
    folds: int  # number of folds held out in turn
    features: tuple[Feature, ...]  # of the hashed rows
    held_out: str  # hashes of the rows that training never saw, in base64
    given_away: dict[str, float]  # scores of columns that predict the target on their own
    weights: str  # fingerprint of the network

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainingRecord:
        """Rebuild a record from its JSON; a ValueError or TypeError describes a fault."""
        features = Schema.from_dict({"features": data["features"], "outputs": []}).features
        record = cls(**{**data, "features": features})
        numbers = [*record.scores.values(), *record.given_away.values(), record.rows, record.folds]
        valid = record.metric in METRICS and set(record.scores) <= set(SCORED)
        if not valid or not all(value is None or np.isfinite(value) for value in numbers):
            raise ValueError(f"a record of training has {record.metric!r} of {record.scores}")
        record.count_held_out(np.empty(0, dtype=np.uint64))
        return record

    def count_held_out(self, hashes: Array) -> int:
        """Return the number of rows, given by their hashes (row,), that were held out."""
        stored = np.frombuffer(base64.b64decode(self.held_out, validate=True), dtype="<u8")
        (own, counts), (stored, times) = (
            np.unique(h, return_counts=True) for h in (hashes, stored)
        )
        _, left, right = np.intersect1d(own, stored, assume_unique=True, return_indices=True)
        return int(np.minimum(counts[left], times[right]).sum())  # of equal rows, some may be

    def facts(self, rows: str = "") -> dict[str, float | None]:
        """Return the scores of baseline models by metric and name, prefixed by the kind of rows."""
        labels = {"mean": "majority"} if self.metric == "accuracy" else {}
        names = (name for name in SCORED[1:] if name in self.scores)
        return {
            f"{rows}{labels.get(name, name)}_{self.metric}": self.scores[name] for name in names
        }


@dataclass(frozen=True, kw_only=True)
class FrontierStep:
    """Networks of one size.

    Attributes
    ----------
    edges : int
        Number of edges, of which those of the levels of a category count as one.
    score : float
        R2 or accuracy on held-out rows.
    loss, standard_error : float
        Mean loss on held-out rows, in scaled units of the target, and its standard error.
    added : str
        The last term: "curves alone", columns of a product, or "link".
    """

    edges: int
    score: float
    loss: float
    standard_error: float
    added: str


@dataclass(frozen=True, kw_only=True)
class GrowthRecord:
    """Scores of networks of growing size; the model is the one with index `chosen`."""

    metric_name: str  # "R2" or "accuracy"
    rows: int  # number of rows judged
    steps: tuple[FrontierStep, ...]
    chosen: int
    references: tuple[tuple[str, float], ...]  # names and scores of others on the same rows
    weights: str = ""  # fingerprint of the network

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GrowthRecord:
        """Rebuild a record from its JSON; a ValueError or TypeError describes a fault."""
        steps = tuple(FrontierStep(**step) for step in data["steps"])
        references = tuple((str(name), score) for name, score in data["references"])
        record = cls(**{**data, "steps": steps, "references": references})
        scores = *dict(references).values(), *(step.score for step in steps)
        valid = record.metric_name in METRICS and record.chosen in range(len(record.steps))
        if not valid or not np.isfinite(scores).all():
            raise ValueError(f"a record of growth has {record.metric_name!r} of {scores}")
        return record


@dataclass(frozen=True, kw_only=True)
class EditStep:
    """One edit of a model by `kanlens.edit`, in the units in which its edges are edited.

    Attributes
    ----------
    name, action : str
        The edge, term, columns or layer, and the method with its arguments.
    edges : int
        Number of edges that changed.
    largest, rms : float
        Largest change of an edge at the rows, and the root mean square.
    error : float or None
        Largest difference from the requested function or limits.
    x, before, after : tuple of float
        The curve of a single edge; empty for several.
    """

    name: str
    action: str
    edges: int
    largest: float
    rms: float
    error: float | None = None
    x: tuple[float, ...] = ()
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EditStep:
        """Rebuild a step from its JSON; a ValueError or TypeError describes a fault."""
        curve = {name: tuple(map(float, data[name])) for name in ("x", "before", "after")}
        if len(set(map(len, curve.values()))) != 1:
            raise ValueError(f"an edit has a curve of {list(map(len, curve.values()))} points")
        return cls(**{**data, **curve})

    @property
    def line(self) -> str:
        """The edit in words."""
        return f"{self.name}: {self.action}, moved by {self.largest:.3g} at most"


def row_hashes(x: Tensor, y: Tensor) -> Array:
    """Return 64-bit hashes (row,) of rows x (row, in) with targets y, in float32."""
    with np.errstate(over="ignore"):
        values = np.column_stack((x.cpu().numpy(), y.cpu().numpy())).astype(np.float32) + 0.0
    hashes = np.zeros(len(values), dtype="<u8")
    for column in np.ascontiguousarray(values.T).view(np.uint32):
        hashes = (hashes ^ column.astype(np.uint64)) * FACTOR
        hashes ^= hashes >> np.uint64(29)
    return hashes


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return a short hash of the bytes of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.numpy().tobytes())
    return digest.hexdigest()[:16]
