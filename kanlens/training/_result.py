"""Results of training, and masks of edges on paths through a model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens.errors import InvalidValueError
from kanlens.model._network import KAN
from kanlens.sparsity import weight_l1


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitResult(Displayed):
    """A trained model and the history of its training.

    Attributes
    ----------
    model : KAN
        The model that was trained, in its best state.
    history : tuple of dict
        One record per step: step, loss (of the scaled target, without penalty), penalty,
        validation_loss, metric (on the held-out rows, else the training rows), grid_error (largest
        change of a layer's output by a grid update).
    stopped_because : str
        Reason why training ended.
    best_step : int
        The step whose weights the model has.
    loss, validation_loss, metric : float
        Values at `best_step`; NaN where not defined (no held-out rows, R2 of a constant target).
    metric_name : str
        "R2", "accuracy", "D2" or "concordance".
    held_out : Tensor, shape (n,)
        Indices of the rows held out of training.
    seconds : float
        Time taken.
    folds : Tensor, shape (batch,), or None
        Fold of each row, if the network is an ensemble whose members were each trained without one
        fold.
    members : tuple of KAN
        The members of that ensemble. `model` is their mean, and the effects of features of `model`
        are the means of theirs, which `kanlens.attribution.effect` and `kanlens.plot.effect` take.
    interrupted : bool
        Whether an interrupt ended training.
    """

    model: KAN
    history: tuple[dict[str, float], ...]
    stopped_because: str
    best_step: int
    loss: float
    validation_loss: float
    metric_name: str
    metric: float
    held_out: Tensor
    seconds: float
    folds: Tensor | None = None
    members: tuple[KAN, ...] = ()
    interrupted: bool = False

    def _line(self) -> str:
        count = len(self.held_out)
        rows = f"{count:,} held-out rows" if count else "the training rows"
        steps = f"step {self.best_step} of {len(self.history)}"
        return f"{self.metric_name} {self.metric:.4g} on {rows}, {steps}; {self.stopped_because}"

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row per step."""
        return pd.DataFrame(list(self.history))

    def to_json(self) -> str:
        """Return all but networks as JSON; NaN and infinity become null."""
        networks = "model", "members"
        fields = {name: value for name, value in vars(self).items() if name not in networks}
        return json.dumps(to_plain(fields))


@dataclass(frozen=True, kw_only=True, eq=False)
class PathStep:
    """A model trained with one strength of the penalty, from the previous model.

    Attributes
    ----------
    model : KAN
        The trained model, a separate one for each step.
    strength, penalty : float
        Factor of the penalty, and the sum of norms without it.
    loss : float
        On the training rows, without penalty, in the scaled units of the target.
    held_out_loss, standard_error, metric : float
        Mean loss over the held-out rows (else the training rows), its standard error, and the
        metric.
    edges_alive, edges_above : int
        Numbers of nonzero edges, and of edges in `alive`.
    alive : tuple of Tensor, each of shape (out, in)
        For each layer, the edges at or above the threshold that lie on a path of such edges from a
        feature to an output.
    features : tuple of str
        Features with an edge in `alive`.
    stopped_because : str
        Reason why training ended.
    seconds : float
        Time taken.
    """

    model: KAN
    strength: float
    loss: float
    held_out_loss: float
    standard_error: float
    penalty: float
    metric: float
    edges_alive: int
    edges_above: int
    alive: tuple[Tensor, ...]
    features: tuple[str, ...]
    stopped_because: str
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SparsityPath(Displayed):
    """Models of increasing sparsity, each trained from the one before it.

    Attributes
    ----------
    steps : tuple of PathStep
        In the order of their strengths.
    penalty : dict of str to float
        The norms and their weights.
    threshold : float
        Share of a layer's largest norm below which an edge counts as zero.
    metric_name : str
        "R2", "accuracy", "D2" or "concordance".
    constant_loss : float
        Held-out loss of the best constant.
    tolerance : float
        Share of the lowest loss's improvement on `constant_loss` that `best` may give up.
    held_out : Tensor, shape (n,)
        Indices of the rows held out of training, the same for all steps.
    stopped_because : str
        Reason why the path ended.
    seconds : float
        Time taken.
    """

    steps: tuple[PathStep, ...]
    penalty: dict[str, float]
    threshold: float
    metric_name: str
    constant_loss: float
    tolerance: float
    held_out: Tensor
    stopped_because: str
    seconds: float

    def _line(self) -> str:
        best = self.steps[self.best]
        edges = f"{best.edges_above} edges, {self.metric_name} {best.metric:.4g}"
        count, state = len(self.steps), self.stopped_because
        return f"{count} strengths; best {best.strength:.3g} with {edges}; {state}"

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths, increasing."""
        return tuple(step.strength for step in self.steps)

    @property
    def best(self) -> int:
        """Index of the sparsest model that predicts about as well as any.

        Candidates are models whose held-out loss exceeds the lowest one by at most one standard
        error [1]_, or by at most `tolerance` times the difference of `constant_loss` and the
        lowest. Of these, the one with the fewest edges above the threshold is chosen.

        References
        ----------
        .. [1] L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
        """
        finite = [i for i, step in enumerate(self.steps) if math.isfinite(step.held_out_loss)]
        lowest = min((self.steps[i] for i in finite), key=lambda step: step.held_out_loss)
        explained = max(0.0, self.constant_loss - lowest.held_out_loss)
        room = max(lowest.standard_error, self.tolerance * explained)
        good = [i for i in finite if self.steps[i].held_out_loss <= lowest.held_out_loss + room]
        return min(good, key=lambda i: (self.steps[i].edges_above, self.steps[i].held_out_loss))

    def model_at(self, index: int | None = None) -> KAN:
        """Return the model trained with one strength of the penalty, by default the best.

        Raises
        ------
        InvalidValueError
            If there is no such step.
        """
        index, count = self.best if index is None else index, len(self.steps)
        if not -count <= index < count:
            expected, advice = f"an index from {-count} to {count - 1}", "Count the steps from 0"
            raise InvalidValueError("SparsityPath.model_at", expected, repr(index), advice)
        return self.steps[index].model

    def to_frame(self) -> pd.DataFrame:
        """Return one row per strength; the column `best` is True for the best one."""
        best = self.best
        rows = [
            {**_numbers(step), "features": ", ".join(step.features), "best": i == best}
            for i, step in enumerate(self.steps)
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> str:
        """Return all but the models as JSON; NaN and infinity become null."""
        steps = [
            {**_numbers(step), "alive": step.alive, "stopped_because": step.stopped_because}
            for step in self.steps
        ]
        return json.dumps(to_plain({**vars(self), "steps": steps, "best": self.best}))


def _numbers(step: PathStep) -> dict[str, Any]:
    others = ("model", "alive", "stopped_because")
    return {name: value for name, value in vars(step).items() if name not in others}


@torch.no_grad()
def mean_and_error(losses: Tensor) -> tuple[float, float]:
    """Return the mean of losses of rows, and its standard error."""
    values = losses.double()
    spread = float(values.std()) if len(values) > 1 else 0.0
    return float(values.mean()), spread / math.sqrt(len(values))


@torch.no_grad()
def weighty_edges(model: KAN, inputs: Sequence[Tensor], threshold: float) -> list[Tensor]:
    """Return masks of edges with an L1 norm of at least a share of the layer's largest."""
    masks = []
    for layer, x in zip(model.layers, inputs, strict=True):
        norms = weight_l1(layer, x) * (layer.mask != 0)
        masks.append((norms > 0) & (norms >= threshold * norms.max()))
    return masks


def active_edges(model: KAN, masks: Sequence[Tensor]) -> list[Tensor]:
    """Return masks of the edges on a path from a feature to an output."""
    on_path = [mask.clone() for mask in masks]
    links = [nodes.linked for nodes in model.nodes]
    reached = torch.ones(model.widths[0], dtype=torch.bool, device=masks[0].device)
    for mask, linked in zip(on_path, links, strict=True):
        mask.logical_and_(reached)
        reached = (linked & mask.any(1)).any(1)
    read = torch.ones_like(reached)
    for mask, linked in zip(reversed(on_path), reversed(links), strict=True):
        mask.logical_and_(linked[read].any(0).unsqueeze(1))
        read = mask.any(0)
    return on_path


def active_features(model: KAN, masks: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the names of the features with an edge."""
    used = masks[0].any(0).tolist()
    return tuple(name for name, use in zip(model.feature_names, used, strict=True) if use)
