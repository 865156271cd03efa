"""Scores of a training run that a model keeps, and hashes of the rows held out of it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kanlens.data.cell_parsing import Array
from kanlens.data.schema import Feature, Schema

SCORED = ("network", "mean", "linear", "boosting")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits as of a random number


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Scores of a network and of simple models on the same rows, which none of them had seen."""

    metric: str  # "R2" or "accuracy"
    scores: dict[str, float | None]  # of those in `SCORED`; the mean is the most frequent class
    rows: int  # that judged them
    folds: int  # that were held out in turn
    features: tuple[Feature, ...]  # of the rows that hashes are of
    held_out: str  # hashes of the rows that training never saw, in base64
    given_away: dict[str, float]  # scores of columns that predict the target on their own
    weights: str  # fingerprint of the network

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrainingRecord:
        """Rebuild a record from its JSON; a ValueError or TypeError describes a fault."""
        features = Schema.from_dict({"features": data["features"], "outputs": []}).features
        found = cls(**{**data, "features": features})
        numbers = [*found.scores.values(), *found.given_away.values(), found.rows, found.folds]
        fine = found.metric in ("R2", "accuracy") and set(found.scores) <= set(SCORED)
        if not fine or not all(one is None or np.isfinite(one) for one in numbers):
            raise ValueError(f"a record of training has {found.metric!r} of {found.scores}")
        found.count_held_out(np.empty(0, dtype=np.uint64))
        return found

    def count_held_out(self, hashes: Array) -> int:
        """Return how often rows, given by their hashes (row,), are among those held out."""
        known = np.frombuffer(base64.b64decode(self.held_out, validate=True), dtype="<u8")
        known, times = np.unique(known, return_counts=True)
        own, counts = np.unique(hashes, return_counts=True)
        _, left, right = np.intersect1d(own, known, assume_unique=True, return_indices=True)
        return int(np.minimum(counts[left], times[right]).sum())

    def facts(self) -> dict[str, float | None]:
        """Return the scores of simple models by name and metric."""
        shown = {"mean": "majority"} if self.metric == "accuracy" else {}
        known = (name for name in SCORED[1:] if name in self.scores)
        return {f"{shown.get(name, name)}_{self.metric}": self.scores[name] for name in known}


def row_hashes(x: Tensor, y: Tensor) -> Array:
    """Return 64-bit hashes (row,) of rows x (row, in) with targets y, as float32 has them."""
    with np.errstate(over="ignore"):
        values = np.column_stack((x.cpu().numpy(), y.cpu().numpy())).astype(np.float32) + 0.0
    found = np.zeros(len(values), dtype="<u8")
    for column in np.ascontiguousarray(values.T).view(np.uint32):
        found = (found ^ column.astype(np.uint64)) * FACTOR
        found ^= found >> np.uint64(29)
    return found


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return the beginning of a hash over the bytes of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        found.update(f"{array.dtype}{tuple(array.shape)}".encode())
        found.update(array.numpy().tobytes())
    return found.hexdigest()[:16]
