"""All cuts of all networks on a path, and which of them a user would keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from benchmarks.sparsity.cutting import Cut, cut, nested
from benchmarks.sparsity.paths import Effort, Stage
from benchmarks.sparsity.problems import Data

__all__ = ["Candidate", "Cutter", "Shape", "best", "choose"]


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
