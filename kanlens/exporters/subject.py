"""What is exported, and the rows that an export is compared with the model on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from kanlens.attribution import attribute
from kanlens.checks import message
from kanlens.errors import MethodError
from kanlens.exporters.description import Description, describe
from kanlens.functions.elementary import Array
from kanlens.model import kernels
from kanlens.model.analysis import float64_copy
from kanlens.model.network import KAN
from kanlens.model.normalization import expand_normalization

if TYPE_CHECKING:
    import pandas as pd

RANDOM = 64  # rows drawn evenly over the range of every feature, and a tenth beyond
SHOWN = 4  # rows that a file carries with what the model says of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model on its way into a file that will be called `path`; `export` has the options."""

    model: KAN
    path: Path
    explain: bool = False
    table: str = "data"
    keep: tuple[str, ...] = ()

    @cached_property
    def exact(self) -> KAN:
        """The model in float64."""
        return expand_normalization(float64_copy(self.model)).cpu()

    @cached_property
    def description(self) -> Description:
        """The model as sums of atoms."""
        return describe(self.exact)

    @property
    def name(self) -> str:
        """Name of the file as a word of a programming language."""
        word = re.sub(r"\W", "_", self.path.stem, flags=re.ASCII)
        return word if word[:1].isalpha() else f"model_{word}"

    @property
    def title(self) -> str:
        """What the file is, in one line of ASCII."""
        text = f"KAN {list(self.model.widths)}: {', '.join(self.model.output_names)}"
        shown = ascii(text)[1:-1].replace('"', "'")  # it ends no docstring
        return f"{shown}, exported by kanlens {version('kanlens')}"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Rows as a table has them: at random, at knots of every feature, at and beyond its ends.

        Categories take turns; a missing cell stands where the model fills those.
        """
        import pandas as pd

        numbers = _numbers(self.exact)
        columns: dict[str, Any] = {}
        for index, feature in enumerate(self.model.schema.features):
            cells: list[Any] = numbers[:, index].tolist()
            if feature.category is not None:
                kinds = feature.categories
                cells = [kinds[(k + index) % len(kinds)] for k in range(len(numbers))]
            if feature.imputation is not None:
                cells[0] = None
            columns.setdefault(feature.column, cells)
        return pd.DataFrame(columns)

    @cached_property
    def rows(self) -> Array:  # (batch, in)
        """The same rows as the model takes them."""
        return self.model.schema.encode(self.frame, call="export")

    @cached_property
    def reference(self) -> Array:  # (1, in)
        """The row that features are counted from: the mean of the background, else of the rows."""
        rows = self.exact.background
        known = self.rows if rows is None or not len(rows) else rows.numpy()
        return np.asarray(known.mean(0, keepdims=True))

    def scores(self, x: Array) -> Array:  # (batch, out, in)
        """Return what each feature did for each output, counted from the reference."""
        ask = partial(attribute, self.exact, x, method="secant", background=self.reference)
        outputs = range(len(self.description.outputs))
        found = [ask(target=one, progress=False).values.numpy() for one in outputs]
        return np.stack(found, axis=1)

    def shown(self) -> tuple[Array, Array]:
        """Return a few rows and what the float64 model says of them."""
        y = predicted(self.exact, self.rows)
        chosen = np.flatnonzero(np.isfinite(y).all(1))[:SHOWN]
        return self.rows[chosen], y[chosen]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file: how it is written, and what it says of the subject's rows when it is run.

    That is (batch, out) from everything that runs it, and with `explain` also (batch, out, in).
    It computes in float64, or if `single`, in the dtype of the model.
    """

    name: str
    ending: str
    write: Callable[[Subject, Path], None]
    run: Callable[[Subject, Path], Sequence[Array]]
    single: bool = False
    explains: bool = False


@torch.no_grad()
def predicted(model: KAN, x: Array) -> Array:
    """Return what a model says of rows, without kernels that would have to be compiled."""
    with kernels.use("torch"):
        return np.asarray(model(torch.from_numpy(x).to(model.input_shift)).cpu().numpy())


def refuse(expected: str, got: str, advice: str) -> NoReturn:
    """Refuse a model that a format cannot hold."""
    raise MethodError(message("export", expected, got, advice))


def _numbers(model: KAN) -> Array:  # (row, in)
    """Return rows of numbers for every feature, in the units of the data."""
    cuts = model.layers[0].breakpoints().mT * model.input_scale + model.input_shift
    low, high = model.feature_range or (cuts.amin(0), cuts.amax(0))
    room = 0.1 * (high - low)
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(RANDOM, len(low), generator=generator, dtype=torch.float64)
    beside = [torch.nextafter(cuts, torch.full_like(cuts, end)) for end in (-torch.inf, torch.inf)]
    mixed = [cuts.roll(k, 0) for k in (1, 2)]  # features at different knots
    drawn = low - room + (high - low + 2 * room) * places
    ends = torch.stack([low, high, low - room, high + room])
    return np.asarray(torch.cat([drawn, cuts, *beside, *mixed, ends]).numpy())
