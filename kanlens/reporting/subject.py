"""What a report is about: a model, rows, targets where they are known, and one output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.attribution.problem import PART, explained_output
from kanlens.checks import check_rows, reworded
from kanlens.data.schema import default_schema
from kanlens.data.tables import Table, read_features
from kanlens.encoding import prepare_target
from kanlens.errors import KanlensError
from kanlens.model.network import KAN

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model and the data it is looked at with.

    Attributes
    ----------
    model : KAN
        Left as it is.
    x : Tensor, shape (rows, in)
        In the units of the data, in the model's dtype.
    y : Tensor or None
        Targets: (rows, out) for regression, (rows,) class codes for classification.
    output : Tensor, shape (rows, out)
        What the model says; logits for classification.
    source : str
        Name of the file, or "DataFrame", "arrays".
    numbers : tuple of int
        What each row is called in the source.
    target : int
        Index of the output that is explained.
    """

    model: KAN
    x: Tensor
    y: Tensor | None
    output: Tensor
    source: str
    numbers: tuple[int, ...]
    target: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; their codes where the model knows no names; empty otherwise."""
        if self.model.task != "classification":
            return ()
        count = max(2, len(self.model.output_names))
        return self.model.class_labels or tuple(str(code) for code in range(count))

    @property
    def unit(self) -> str:
        """Unit of the output that is explained."""
        known = self.model.schema.outputs[self.target].unit
        return known or ("log-odds" if self.model.task == "classification" else "")


def read_subject(model: KAN, data: Any, target: int | str | None) -> Subject:
    """Bring whatever was passed as data into one form, and run the model on it.

    Parameters
    ----------
    model : KAN
        Left as it is.
    data : Table, (x, y), path, DataFrame, ndarray or Tensor
        Without targets, what needs them is left out of the report.
    target : int, str or None
        Index or name of the output to explain; as for `attribute` when None.

    Returns
    -------
    Subject

    Raises
    ------
    ShapeError, DTypeError, DataError
        If the data does not fit the model.
    InvalidValueError
        If there is no such output, or one must be named.
    """
    found, y, source = _rows_of(model, data)
    x = model.prepare(found, call="report")
    check_rows("report", x, least=2)
    index = explained_output(model, target, x, call="report")
    numbers: Sequence[Any] = range(len(x))
    frame = data.frame if isinstance(data, Table) else None
    if frame is not None and frame.index.dtype.kind in "iu":
        numbers = frame.index.tolist()
    targets = None if y is None else prepare_target(model, y, len(x), call="report")
    with torch.no_grad():
        output = torch.cat([model(part) for part in x.split(PART)])
    return Subject(
        model=model,
        x=x,
        y=targets,
        output=output,
        source=source,
        numbers=tuple(int(number) for number in numbers),
        target=index,
    )


def _rows_of(model: KAN, data: Any) -> tuple[Any, Any, str]:
    """Return x, y or None, and the name of their source."""
    if isinstance(data, Table):
        return _from_table(model, data)
    if isinstance(data, str | os.PathLike) or hasattr(data, "iloc"):
        table = read_features(data, model.schema, call="report")
        return table.x, table.y, table.source
    if isinstance(data, tuple) and len(data) == 2:
        return data[0], data[1], "DataFrame" if hasattr(data[0], "iloc") else "arrays"
    return data, None, "arrays"


def _from_table(model: KAN, table: Table) -> tuple[Tensor, Tensor | None, str]:
    """Return the rows of a table; by name where the model knows other features or classes."""
    known = table.feature_names == model.feature_names
    known = known and table.schema.class_labels == model.class_labels
    unnamed = model.schema == default_schema(model.widths[0], model.widths[-1])
    if not known and not unnamed:
        try:
            table_again = read_features(table.frame, model.schema, call="report")
        except KanlensError as error:
            raise reworded("report", error) from error
        return table_again.x, table_again.y, table.source
    return table.x, table.y, table.source


def spread(rows: int, most: int) -> Tensor:
    """Return at most `most` row positions, spread evenly over `rows`.

    Examples
    --------
    >>> spread(10, 3)
    tensor([0, 4, 9])
    >>> spread(2, 3)
    tensor([0, 1])
    """
    return torch.linspace(0, rows - 1, min(rows, most), dtype=torch.float64).round().long()
