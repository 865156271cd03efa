"""Tables: rows of numbers with their schema and original cells."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from kanlens._checks import check_choice, check_generator, check_positive, check_rows
from kanlens._display import Displayed
from kanlens._files import GROUP
from kanlens._lazy import pd
from kanlens.data._cell_parsing import row_text
from kanlens.data._columns import ColumnRoles, as_names
from kanlens.data._groups import row_groups, split_groups
from kanlens.data._schema import Schema
from kanlens.errors import InvalidValueError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Label: TypeAlias = str | float | datetime  # of a column


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Table(Displayed):
    """Rows of numbers to train a model on or to apply it to.

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
        Origin of the table: the file name, or ``"DataFrame"``.
    frame : DataFrame
        The cells as they were read, all columns; its index holds the row numbers of the source.
    roles : ColumnRoles or None
        The arguments of `read_table`, which `split` uses to read the training rows.
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
    roles: ColumnRoles | None = None
    groups: str | None = None

    def _line(self) -> str:
        schema, rows = self.schema, f"{self.rows:,} rows of {len(self.schema.features)} features"
        target = "no target" if self.y is None else f"target {schema.target!r} ({schema.task})"
        return f"{rows} from {self.source}, {target}"

    def __post_init__(self) -> None:
        shape = (len(self.frame), len(self.schema.features))
        if tuple(self.x.shape) != shape:
            got, advice = str(tuple(self.x.shape)), "Use read_table, which keeps these together"
            raise ShapeError("Table", f"x of shape {shape}", got, advice)
        if self.y is not None and self.y.shape[:1] != self.x.shape[:1]:
            expected, got = f"y of shape ({shape[0]}, ...)", str(tuple(self.y.shape))
            raise ShapeError("Table", expected, got, "Give one target for each row")

    def __len__(self) -> int:
        return self.rows

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `x`."""
        return self.schema.feature_names

    def batches(self, rows: int = GROUP) -> Iterator[Table]:
        """Yield the rows in order, in batches, as `Source.batches` does."""
        for start in range(0, self.rows, rows):
            yield self.take(range(start, min(start + rows, self.rows)))

    def take(self, indices: Tensor | Sequence[int]) -> Table:
        """Return the rows at `indices`, in that order.

        Parameters
        ----------
        indices : Tensor or sequence of int, shape (n,)
            Row positions; negative ones count from the end. Or a boolean mask of the rows.

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
                expected, got = f"a mask of shape ({self.rows},)", str(tuple(rows.shape))
                raise InvalidValueError("Table.take", expected, got, "Pass one value per row")
            rows = rows.nonzero()[:, 0]
        rows = rows.to(dtype=torch.int64, device="cpu").reshape(-1)
        outside = (rows >= self.rows) | (rows < -self.rows)
        if bool(outside.any()):
            first = int(rows[outside][0])
            expected = f"row positions below {self.rows}"
            raise InvalidValueError("Table.take", expected, str(first), "Count rows from 0")
        return dataclasses.replace(
            self,
            x=self.x[rows],
            y=None if self.y is None else self.y[rows],
            frame=self.frame.iloc[rows.numpy()],
        )

    def keep(self, names: Label | Sequence[Label]) -> Table:
        """Return the table with some of its features, in the order of names.

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
        >>> import kanlens, pandas as pd
        >>> table = kanlens.read_table(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.5]}))
        >>> table.keep(["b"]).x
        tensor([[3.0000],
                [4.5000]], dtype=torch.float64)
        """
        for name in as_names(names):
            check_choice("Table.keep", "feature", name, self.feature_names)
        picks = [self.feature_names.index(name) for name in as_names(names)]
        schema = self.schema.select(picks)
        return dataclasses.replace(self, x=self.x[:, picks], schema=schema, roles=None)

    def split(
        self,
        fraction: float,
        generator: torch.Generator | None = None,
        *,
        groups: ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Table, Table]:
        """Split the rows into two tables, at random or in time.

        Copies of a row, within 1e-6 of the range of every column, go to one table. Categories,
        imputed values and the like come from the training rows, which have all classes.

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
            Hold out the last rows, for a table sorted by time; groups are ignored.

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
        >>> import kanlens, pandas as pd
        >>> table = kanlens.read_table(pd.DataFrame({"a": range(10), "y": range(10)}), target="y")
        >>> train, held_out = table.split(0.2, torch.Generator().manual_seed(0))
        >>> train.rows, held_out.rows
        (8, 2)
        """
        check_generator("Table.split", generator)
        check_positive("Table.split", "fraction", fraction)
        if fraction >= 1:
            fields = "Table.split", "below 1", repr(fraction), "Pass a fraction such as 0.2"
            raise InvalidValueError(*fields, argument="fraction")
        check_rows("Table.split", self.x, least=2)
        held_out = min(max(round(fraction * self.rows), 1), self.rows - 1)
        if last:
            return self._parted(*torch.arange(self.rows).tensor_split([self.rows - held_out]))
        groups = self.groups if groups is None else groups
        if isinstance(groups, str):
            check_choice("Table.split", "groups", groups, self.frame.columns)
            groups = self.frame[groups]
        together = row_groups(self.x, self.y, groups, call="Table.split")
        device = generator.device if generator is not None else torch.device("cpu")
        order = torch.randperm(self.rows, generator=generator, device=device).cpu()
        test, train = split_groups(order, together, [held_out])
        if self.y is not None and self.schema.task == "classification":
            alone = ~torch.isin(self.y[test], self.y[train])
            moved = torch.isin(together[test], together[test][alone])
            if not moved.all():
                train, test = torch.cat([train, test[moved]]), test[~moved]
        return self._parted(train.sort().values, test.sort().values)

    def _parted(self, train: Tensor, test: Tensor) -> tuple[Table, Table]:
        """Return training and test rows, encoded by the schema of the former."""
        parts = self.take(train), self.take(test)
        if self.roles is None:
            return parts
        left_out = [*as_names(self.roles.drop), *self.schema.target_columns]
        roles = dataclasses.replace(self.roles, target=None, drop=left_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # already given when all rows were read
            features = roles.read_schema(parts[0].frame, row_text).features
        schema = dataclasses.replace(self.schema, features=features)
        return parts[0]._encode(schema), parts[1]._encode(schema)

    def _encode(self, schema: Schema) -> Table:
        """Return the table with the features of another schema."""
        numbers = self.frame.index.to_numpy()
        x = schema.encode(
            self.frame, call="Table.split", place=lambda row: row_text(int(numbers[row]))
        )
        return dataclasses.replace(self, x=torch.from_numpy(x), schema=schema)
