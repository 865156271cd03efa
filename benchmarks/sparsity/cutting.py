"""Networks cut to a number of edges by scores of these, and which of them a user would keep."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.sparsity.paths import Effort, Stage
from benchmarks.sparsity.problems import Data
from benchmarks.sparsity.structure import live
from kanlens.model.network import KAN
from kanlens.pruning.compaction import compact, kept_inputs
from kanlens.training import fit

__all__ = ["Candidate", "Cut", "Cutter", "Shape", "best", "choose", "cut", "nested"]

PATIENCE = 3  # steps without improvement after which tuning ends


def nested(scores: Sequence[Tensor], sizes: Sequence[int]) -> dict[int, list[Tensor]]:
    """Remove edges one by one, smallest score first, and keep the graphs of some sizes.

    Scores count relative to the largest of their layer. Edges that no longer lie on a path go with
    the one that cut them off; some path always stays.

    Parameters
    ----------
    scores : sequence of Tensor, each of shape (out, in)
        One matrix per layer.
    sizes : sequence of int
        Numbers of edges asked for.

    Returns
    -------
    dict of int to list of Tensor
        For each size the largest graph met that has no more edges; none where that is not one.

    Examples
    --------
    >>> nested([torch.tensor([[3.0, 1.0, 2.0]])], [2])
    {2: [tensor([[ True, False,  True]])]}
    """
    masks = [torch.ones_like(score, dtype=torch.bool) for score in scores]
    found: dict[int, list[Tensor]] = {}
    _note(found, masks, sizes)
    for layer, edge in _ascending(scores):
        if not bool(masks[layer].flatten()[edge]):
            continue
        tried = [mask.clone() for mask in masks]
        tried[layer].view(-1)[edge] = False
        tried = live(tried)
        if bool(tried[0].any()):
            masks = tried
            _note(found, masks, sizes)
    return found


def _ascending(scores: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return (layer, flat index) of every edge, smallest relative score first."""
    ranked = []
    for layer, score in enumerate(scores):
        largest = float(score.max()) or 1.0
        ranked += [(value / largest, layer, i) for i, value in enumerate(score.flatten().tolist())]
    return [(layer, i) for _, layer, i in sorted(ranked)]


def _note(found: dict[int, list[Tensor]], masks: list[Tensor], sizes: Sequence[int]) -> None:
    count = sum(int(mask.sum()) for mask in masks)
    for size in sizes:
        if count <= size and size not in found:
            found[size] = masks


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """What is left of a model.

    Attributes
    ----------
    model : KAN
        Without the nodes and inputs that no edge leaves.
    columns : tuple of int
        The inputs it still takes.
    """

    model: KAN
    columns: tuple[int, ...]

    @torch.no_grad()
    def misses(self, x: Tensor, y: Tensor) -> Tensor:  # (rows,)
        """Return the squared errors in variances of y (rows, 1), for x with all columns."""
        output: Tensor = self.model(x[:, list(self.columns)])
        return (output - y)[:, 0].square() / y.var(correction=0)

    def error(self, x: Tensor, y: Tensor) -> float:
        """Return the root mean square error in deviations of y."""
        return float(self.misses(x, y).mean().sqrt())

    @torch.no_grad()
    def rescaled(self, x: Tensor, y: Tensor) -> Cut:
        """Return it with the output scaled and shifted to fit y best.

        A penalty shrinks what a network says; this takes back what a straight line can.
        """
        model = copy.deepcopy(self.model)
        output = model(x[:, list(self.columns)])
        middle, target = output.mean(0), y.mean(0)
        spread = (output - middle).square().sum(0)
        slope = ((output - middle) * (y - target)).sum(0) / spread.clamp_min(1e-300)
        model.output_scale.mul_(slope)
        model.output_shift.copy_(slope * (model.output_shift - middle) + target)
        return Cut(model=model, columns=self.columns)

    def tuned(self, x: Tensor, y: Tensor, *, steps: int) -> Cut:
        """Return it trained further, without a penalty and without holding rows out."""
        model = copy.deepcopy(self.model)
        fit(
            model,
            (x[:, list(self.columns)], y),
            steps=steps,
            validation=0.0,
            grid_updates=1,
            patience=PATIENCE,
            progress=False,
            generator=torch.Generator(),  # nothing is drawn
        )
        return Cut(model=model, columns=self.columns)


@torch.no_grad()
def cut(model: KAN, masks: Sequence[Tensor], x: Tensor) -> Cut:
    """Return a copy that keeps only some edges; the others leave their means in the biases.

    Parameters
    ----------
    model : KAN
        Left as it is.
    masks : sequence of Tensor, each of shape (out, in)
        The edges to keep, in every layer at least one.
    x : Tensor, shape (batch, in)
        Rows over which the means are taken.

    Returns
    -------
    Cut

    Examples
    --------
    >>> cut(KAN([2, 1]), [torch.tensor([[False, True]])], torch.rand(9, 2)).columns
    (1,)
    """
    small = copy.deepcopy(model)
    hidden = small.scale_inputs(x)
    for layer, mask in zip(small.layers, masks, strict=True):
        means = layer.edge_values(hidden).mean(0)  # (out, in)
        layer.bias.add_((means * ~mask).sum(1))
        layer.mask.mul_(mask)
        hidden = layer(hidden)
    return Cut(model=compact(small), columns=tuple(kept_inputs(small)[0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """What was kept of which network.

    Attributes
    ----------
    share : float
        The strength it was trained with, as `Effort.shares`.
    size : int
        Edges asked for.
    masks : list of Tensor
        The edges there are, in the shape of the whole network.
    """

    share: float
    size: int
    masks: list[Tensor]

    @property
    def kept(self) -> int:
        """Number of edges there are."""
        return sum(int(mask.sum()) for mask in self.masks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A network cut to a number of edges.

    Attributes
    ----------
    shape : Shape
        What was kept.
    cut : Cut
        The network that is left.
    validation, spread : float
        Mean squared error on the rows to choose by, in variances of y, and its standard error.
    """

    shape: Shape
    cut: Cut
    validation: float
    spread: float

    @property
    def size(self) -> int:
        """Edges asked for."""
        return self.shape.size


class Cutter:
    """Cuts networks to sizes, and tunes what is left; each graph of a network only once.

    Parameters
    ----------
    data : Data
        To take means over, to tune on and to choose by.
    effort : Effort
        How many networks of a size are tuned, and how long what is left is tuned.
    """

    def __init__(self, data: Data, effort: Effort) -> None:
        self.data, self.effort = data, effort
        self._known: dict[tuple[int, bytes], tuple[Cut, Cut]] = {}
        self._tuned: dict[int, Cut] = {}

    def candidates(
        self, stage: Stage, scores: list[Tensor], sizes: Sequence[int]
    ) -> list[tuple[Candidate, Candidate]]:
        """Cut a network to some sizes by the scores of its edges: as it is, and rescaled."""
        found = []
        for size, masks in nested(scores, sizes).items():
            shape = Shape(share=stage.share, size=size, masks=masks)
            pair = [self._candidate(shape, left) for left in self._cut(stage, masks)]
            found.append((pair[0], pair[1]))
        return found

    def tuned(self, found: Sequence[Candidate]) -> list[Candidate]:
        """Tune the best of every size, and return them."""
        result = []
        for size in sorted({each.size for each in found}):
            ranked = sorted(
                (each for each in found if each.size == size), key=lambda each: each.validation
            )
            for each in ranked[: self.effort.finalists]:
                key = id(each.cut)  # kept alive by the candidate
                if key not in self._tuned:
                    self._tuned[key] = each.cut.tuned(*self.data.train, steps=self.effort.tuning)
                result.append(self._candidate(each.shape, self._tuned[key]))
        return result

    def _cut(self, stage: Stage, masks: list[Tensor]) -> tuple[Cut, Cut]:
        key = stage.index, b"".join(mask.numpy().tobytes() for mask in masks)
        if key not in self._known:
            left = cut(stage.model, masks, self.data.train[0])
            self._known[key] = left, left.rescaled(*self.data.train)
        return self._known[key]

    def _candidate(self, shape: Shape, left: Cut) -> Candidate:
        misses = left.misses(*self.data.validation)
        spread = float(misses.std(correction=0) / math.sqrt(len(misses)))
        return Candidate(shape=shape, cut=left, validation=float(misses.mean()), spread=spread)


def best(found: Sequence[Candidate]) -> dict[int, Candidate]:
    """Return for every size the candidate with the least validation error, smallest size first.

    Examples
    --------
    >>> best([])
    {}
    """
    least: dict[int, Candidate] = {}
    for each in found:
        if each.size not in least or each.validation < least[each.size].validation:
            least[each.size] = each
    return dict(sorted(least.items()))


def choose(found: Sequence[Candidate]) -> Candidate:
    """Return the smallest size whose error is within one standard error of the least.

    References
    ----------
    .. [1] L. Breiman et al., Classification and Regression Trees, 1984, section 3.4.3.
    """
    each_size = best(found).values()
    least = min(each_size, key=lambda each: each.validation)
    limit = least.validation + least.spread
    return next(each for each in each_size if each.validation <= limit)
