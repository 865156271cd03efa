"""CSV, Parquet and DataFrames as tables: tensors with names, units and kinds.

A column is numeric, binary (truth values, 0 and 1, or two texts) or categorical (more texts,
one feature each). Cells are data only; nothing in them is evaluated.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from kanlens.checks import check_choice, check_generator, check_positive, check_rows
from kanlens.data.cell_parsing import Column, Place, row_text
from kanlens.data.columns import ColumnRoles, Impute, as_names, read_targets, refuse_unknown
from kanlens.data.groups import row_groups, split_groups
from kanlens.data.schema import Schema, Task
from kanlens.errors import DataError, DTypeError, InvalidValueError, ShapeError, message
from kanlens.files import GROUP, line_number, read_frame
from kanlens.outputs import Shown

if TYPE_CHECKING:
    import pandas as pd

Label: TypeAlias = str | float | datetime  # what a column can be called by


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Table(Shown):
    """Rows of numbers that a model can be trained on or asked about.

    Attributes
    ----------
    x : Tensor, shape (rows, in)
        Features, float64, in the units of the data.
    y : Tensor or None
        Targets: float64 of shape (rows, outputs) for regression, int64 class codes of shape
        (rows,) for classification, None when the table has no target.
    schema : Schema
        Names, units and kinds of the columns, and the task.
    source : str
        Where it came from: the file name, or ``"DataFrame"``.
    frame : DataFrame
        The cells as they were read, all columns; its index holds the row numbers of the source.
    groups : str or None
        The column of `frame` whose equal cells mark rows that are held out together.

    Raises
    ------
    ShapeError
        If `x`, `y`, `schema` and `frame` do not have the same rows and columns.
    """

    x: Tensor
    y: Tensor | None = None
    schema: Schema
    source: str = "DataFrame"
    frame: pd.DataFrame
    groups: str | None = None

    def _line(self) -> str:
        target, task = self.schema.target, self.schema.task
        what = "no target" if self.y is None else f"target {target!r} ({task})"
        count = len(self.schema.features)
        return f"{self.rows:,} rows of {count} features from {self.source}, {what}"

    def __post_init__(self) -> None:
        shape = (len(self.frame), len(self.schema.features))
        if tuple(self.x.shape) != shape:
            got = str(tuple(self.x.shape))
            advice = "Use read_table, which keeps these together"
            raise ShapeError(message("Table", f"x of shape {shape}", got, advice))
        if self.y is not None and self.y.shape[:1] != self.x.shape[:1]:
            expected = f"y with {shape[0]} rows"
            got = str(tuple(self.y.shape))
            raise ShapeError(message("Table", expected, got, "Give one target for each row"))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `x`."""
        return self.schema.feature_names

    def batches(self, rows: int = GROUP) -> Iterator[Table]:
        """Yield the rows in order, so many at once, as a source does."""
        for start in range(0, self.rows, rows):
            yield self.take(range(start, min(start + rows, self.rows)))

    def take(self, indices: Tensor | Sequence[int]) -> Table:
        """Return the rows at `indices`, in that order.

        Parameters
        ----------
        indices : Tensor or sequence of int, shape (n,)
            Row positions; negative ones count from the end, truth values mark rows.

        Returns
        -------
        Table

        Raises
        ------
        InvalidValueError
            If a position is outside the table.
        """
        rows = torch.as_tensor(indices)
        if rows.dtype == torch.bool:
            if rows.shape != (self.rows,):
                got = str(tuple(rows.shape))
                text = message("Table.take", f"a mask of shape ({self.rows},)", got, "Change it")
                raise InvalidValueError(text)
            rows = rows.nonzero()[:, 0]
        rows = rows.to(dtype=torch.int64, device="cpu").reshape(-1)
        outside = (rows >= self.rows) | (rows < -self.rows)
        if bool(outside.any()):
            first = int(rows[outside][0])
            expected = f"row positions below {self.rows}"
            raise InvalidValueError(message("Table.take", expected, str(first), "Change it"))
        return dataclasses.replace(
            self,
            x=self.x[rows],
            y=None if self.y is None else self.y[rows],
            frame=self.frame.iloc[rows.numpy()],
        )

    def keep(self, names: Label | Sequence[Label]) -> Table:
        """Return the table with only some of its features, in the order they are named.

        Parameters
        ----------
        names : label or sequence of labels
            Feature names, for example those of a pruned model.

        Returns
        -------
        Table

        Raises
        ------
        InvalidValueError
            If a feature is unknown.

        Examples
        --------
        >>> import pandas as pd
        >>> table = read_table(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.5]}))
        >>> table.keep(["b"]).x
        tensor([[3.0000],
                [4.5000]], dtype=torch.float64)
        """
        wanted = as_names(names)
        for name in wanted:
            check_choice("Table.keep", "feature", name, self.feature_names)
        picks = [self.feature_names.index(name) for name in wanted]
        return dataclasses.replace(self, x=self.x[:, picks], schema=self.schema.select(picks))

    def split(
        self,
        fraction: float,
        generator: torch.Generator | None = None,
        *,
        groups: Any = None,
        last: bool = False,
    ) -> tuple[Table, Table]:
        """Split the rows into two tables, at random or in time; each keeps their order.

        Copies of a row, within 1e-6 of the range of every column, go to one table.

        Parameters
        ----------
        fraction : float
            Share of the rows to hold out, between 0 and 1; at least one row goes to each.
        generator : torch.Generator, optional
            Source of the draw; torch's default generator when None.
        groups : array-like, shape (rows,), or str, optional
            Label of each row, or the column that has them; rows of one label go to one table.
            Default: the column `groups` of the table.
        last : bool
            Hold out the last rows, of a table in the order of time, whatever their groups.

        Returns
        -------
        (Table, Table)
            The rows to train on, and those held out.

        Raises
        ------
        InvalidValueError
            If `fraction` is not between 0 and 1, or all rows are of one group.
        ShapeError
            If there are fewer than two rows, or not one label for each.

        Examples
        --------
        >>> import pandas as pd
        >>> table = read_table(pd.DataFrame({"a": range(10), "y": range(10)}), target="y")
        >>> train, held_out = table.split(0.2, torch.Generator().manual_seed(0))
        >>> train.rows, held_out.rows
        (8, 2)
        """
        check_generator("Table.split", generator)
        check_positive("Table.split", "fraction", fraction)
        if fraction >= 1:
            text = message("Table.split", "fraction below 1", repr(fraction), "Change it")
            raise InvalidValueError(text)
        check_rows("Table.split", self.x, least=2)
        held_out = min(max(round(fraction * self.rows), 1), self.rows - 1)
        if last:
            cut = self.rows - held_out
            return self.take(range(cut)), self.take(range(cut, self.rows))
        groups = self.groups if groups is None else groups
        if isinstance(groups, str):
            check_choice("Table.split", "groups", groups, self.frame.columns)
            groups = self.frame[groups]
        together = row_groups(self.x, self.y, groups, call="Table.split")
        device = generator.device if generator is not None else torch.device("cpu")
        order = torch.randperm(self.rows, generator=generator, device=device).cpu()
        test, training = split_groups(order, together, [held_out])
        return self.take(training.sort().values), self.take(test.sort().values)


def read_table(  # noqa: PLR0913 - one keyword per choice
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    target: Label | Sequence[Label] | None = None,
    task: Task | None = None,
    features: Label | Sequence[Label] | None = None,
    drop: Label | Sequence[Label] = (),
    categorical: Label | Sequence[Label] = (),
    impute: Impute | None = None,
    units: Mapping[Any, str] | None = None,
    groups: Label | None = None,
) -> Table:
    """Read a table to train on, and find out what its columns are.

    Truth values, 0 and 1, and columns of two texts become one binary feature; for texts the
    second in sorted order is 1. Columns of more texts become one feature per text, and
    ``schema.groups`` says which belong together. Cells that are empty, blank or (in text
    files) one of pandas' words for missing are missing. Columns are called by their label, and a
    label that is no text (a number, a date) by its text as well, which becomes the name.

    Parameters
    ----------
    source : str, path or DataFrame
        A ``.csv``, ``.tsv``, ``.txt`` (each also ``.gz``) or ``.parquet`` file, or a frame.
    target : label or sequence of labels, optional
        Column to predict; several columns make a regression with as many outputs.
    task : {"regression", "classification"}, optional
        By default classification when the target is text, truth values, of pandas' category
        type, or has two distinct whole numbers. Classes that are coded as numbers, and more than
        two, must be asked for with ``task="classification"``.
    features : label or sequence of labels, optional
        Columns to use, in this order; by default all but the target and `drop`.
    drop : label or sequence of labels
        Columns to leave out.
    categorical : label or sequence of labels
        Columns whose numbers are codes of categories.
    impute : {"median", "mean", "most_frequent"}, optional
        Replaces missing feature cells: numbers by this statistic of their column, binary and
        categorical cells by the most frequent one. Missing cells are refused when None.
        The values are kept in the schema, for frames read later.
    units : mapping, optional
        Unit of each column that has one.
    groups : label, optional
        Column whose equal cells mark rows that belong together, such as those of one person: it is
        not a feature, and such rows are held out together.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        For a missing column, a missing, unreadable or infinite cell (with its row), text that
        identifies rows, dates, a table without rows.
    MissingFileError, FileFormatError
        If the file is missing, empty, truncated or of another kind.
    InvalidValueError
        If `task` or `impute` is none of the choices.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1.5, 2, 3, 5], "kind": list("abca"), "y": [1, 3, 5, 7]})
    >>> table = read_table(frame, target="y", units={"size": "mm"})
    >>> table.feature_names
    ('size', 'kind=a', 'kind=b', 'kind=c')
    >>> table.x.shape, table.y.shape, table.schema.task
    (torch.Size([4, 4]), torch.Size([4, 1]), 'regression')
    """
    frame, name, place = _open(source, "read_table")
    group = as_names(groups)
    refuse_unknown("groups", group, list(frame.columns), call="read_table")
    if set(group) & {*as_names(target), *as_names(features)}:
        expected = "groups to be another column than target and features"
        raise DataError(message("read_table", expected, repr(group[0]), "Name it once"))

    def column(label: str, *, coded: bool, target: bool) -> Column:
        about: dict[str, Any] = {"call": "read_table", "place": place}
        return Column(name=label, cells=frame[label], coded=coded, target=target, **about)

    roles = ColumnRoles(
        target=target,
        task=task,
        features=features,
        drop=[*as_names(drop), *group],
        categorical=categorical,
        impute=impute,
        units=units,
    )
    schema = roles.find_schema(column, list(frame.columns))
    table = encode_table(frame, name, schema, "read_table", place)
    return dataclasses.replace(table, groups=group[0] if group else None)


def read_features(
    source: str | os.PathLike[str] | pd.DataFrame,
    schema: Schema,
    *,
    call: str,
    target: Sequence[str] | None = None,
) -> Table:
    """Read a table for a model that is trained, by the names in its schema.

    Columns may be in any order, and those the model does not know are ignored; the schema's
    imputation values replace missing cells. Targets are the columns given, by default those the
    model was trained on or, if it knows none, those named like its outputs; there is a `y` when
    they are there and none of their cells is missing.
    """
    frame, name, place = _open(source, call)
    return encode_table(frame, name, schema, call, place, target)


def _open(source: object, call: str) -> tuple[pd.DataFrame, str, Place]:
    """Return the frame, the name of its source, and what words its row numbers."""
    import pandas as pd

    place: Place = row_text
    if isinstance(source, pd.DataFrame):
        frame, name = source.copy(), "DataFrame"
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        frame, name, place = read_frame(path, call=call), path.name, partial(row_in_file, path)
    else:
        got = type(source).__name__
        raise DTypeError(message(call, "a path or a DataFrame", got, "Pass one of these"))
    if not len(frame):
        got = f"a table without rows, {name!r}"
        raise DataError(message(call, "at least one row", got, "Add the data"))
    check_levels(frame, call)
    frame.columns = [str(label) for label in frame.columns.get_level_values(0)]
    return frame.reset_index(drop=True), name, place


def check_levels(frame: pd.DataFrame, call: str) -> None:
    """Refuse columns with names of several levels."""
    if frame.columns.nlevels > 1:
        got = f"{frame.columns.nlevels} levels of them"
        raise DataError(message(call, "column names", got, "Join the levels to one name each"))


def row_in_file(path: Path, row: int) -> str:
    """Word the number of a row of a file, and in text its line."""
    line = line_number(path, row)
    return row_text(row) if line is None else f"{row_text(row)} (line {line})"


def encode_table(
    frame: pd.DataFrame,
    name: str,
    schema: Schema,
    call: str,
    place: Place,
    target: Sequence[str] | None = None,
) -> Table:
    """Encode the cells of a frame as the schema says."""
    x = torch.from_numpy(schema.encode(frame, call=call, place=place))
    found = read_targets(frame, schema, target, call=call, place=place)
    y = None if found is None else torch.from_numpy(found)
    return Table(x=x, y=y, schema=schema, source=name, frame=frame)
