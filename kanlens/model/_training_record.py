"""Records that a model keeps: scores, growth, edits, and hashes of its rows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Feature, Schema

METRICS = ("R2", "accuracy", "D2", "concordance")
SCORED = ("network", "mean", "linear", "boosting")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits as of a random number


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Scores of a network and of baseline models on the same held-out rows."""

    metric: str  # of `METRICS`
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
        own, counts = np.unique(hashes, return_counts=True)
        stored, times = np.unique(stored, return_counts=True)
        _, left, right = np.intersect1d(own, stored, assume_unique=True, return_indices=True)
        return int(np.minimum(counts[left], times[right]).sum())

    def facts(self, rows: str = "") -> dict[str, float | None]:
        """Return the scores of baseline models by metric and name, prefixed by the kind of rows."""
        labels = {"mean": "majority"} if self.metric == "accuracy" else {}
        names = (name for name in SCORED[1:] if name in self.scores)
        return {f"{rows}{labels.get(k, k)}_{self.metric}": self.scores[k] for k in names}


@dataclass(frozen=True, kw_only=True)
class FrontierStep:
    """Scores of the small networks of one size.

    Attributes
    ----------
    edges : int
        Number of edges, where those of all categories of a column count as one.
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

    metric_name: str  # of `METRICS`
    rows: int  # number of rows judged
    steps: tuple[FrontierStep, ...]
    chosen: int
    references: tuple[tuple[str, float], ...]  # names and scores of other models on the same rows
    weights: str = ""  # fingerprint of the network

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GrowthRecord:
        """Rebuild a record from its JSON; a ValueError or TypeError describes a fault."""
        steps = tuple(FrontierStep(**step) for step in data["steps"])
        references = tuple((str(name), score) for name, score in data["references"])
        record = cls(**{**data, "steps": steps, "references": references})
        scores = *dict(references).values(), *(step.score for step in steps)
        if record.metric_name not in METRICS or not np.isfinite(scores).all():
            raise ValueError(f"growth has scores {record.metric_name!r} of {scores}")
        if record.chosen not in range(len(steps)):
            raise ValueError(
                f"growth has {len(steps)} networks, of which {record.chosen} is chosen"
            )
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
        Points, and values of a single edge before and after; empty for several.
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
