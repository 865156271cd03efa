"""Rows of results in a CSV file that is always whole, so that an interrupted run can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanlens.checks import message
from kanlens.errors import FileFormatError
from kanlens.files import write_frame

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
DIGITS = 5  # significant digits of measured numbers in the files


class Records:
    """Rows of one CSV file, in groups that are measured together.

    The file is rewritten, whole or not at all, whenever a group is stored.

    Parameters
    ----------
    path : Path
        The file; read when it exists.
    columns : sequence of str
        Names of the columns, in order.
    group : sequence of str
        The columns whose values name a group.
    text : sequence of str
        Columns that hold text even where it looks like a number, such as versions.
    fresh : bool
        Pass over what the file holds; it is replaced with the first group.

    Raises
    ------
    FileFormatError
        If the file has other columns.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.csv")
    >>> records = Records(path, ["cell", "ms"], group=["cell"])
    >>> records.store(("small",), [{"cell": "small", "ms": 1.23456789}])
    >>> Records(path, ["cell", "ms"], group=["cell"]).rows
    [{'cell': 'small', 'ms': 1.2346}]
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        *,
        group: Sequence[str],
        text: Sequence[str] = (),
        fresh: bool = False,
    ) -> None:
        self.path, self.columns, self.group = path, list(columns), list(group)
        self.text = frozenset(text)
        self.rows: list[dict[str, Any]] = [] if fresh or not path.exists() else self._read()

    def _read(self) -> list[dict[str, Any]]:
        import pandas as pd

        try:
            frame = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise self._foreign(f"{type(error).__name__} from {self.path.name!r}") from error
        if list(frame.columns) != self.columns:
            raise self._foreign(f"others in {self.path.name!r}")
        return [
            {str(name): self._value(str(name), cell) for name, cell in row.items()}
            for row in frame.to_dict("records")
        ]

    def _foreign(self, got: str) -> FileFormatError:
        expected = f"the columns {', '.join(self.columns)}"
        advice = "Pass --fresh to replace the file, or another folder with -o"
        return FileFormatError(message("benchmarks", expected, got, advice))

    def _value(self, name: str, cell: str) -> Any:
        """Return a cell as it was stored: text, a number, or None where it is empty."""
        if not cell or name in self.text:
            return cell or None
        for kind in (int, float):
            try:
                return kind(cell)
            except ValueError:
                continue
        return cell

    def of(self, key: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the rows of one group."""
        return [row for row in self.rows if [row[name] for name in self.group] == list(key)]

    def store(self, key: Sequence[Any], rows: Sequence[Row]) -> None:
        """Put rows in place of those of their group, and write the file."""
        kept = [row for row in self.rows if [row[name] for name in self.group] != list(key)]
        added = [{name: _short(row.get(name)) for name in self.columns} for row in rows]
        self.rows = kept + added
        write_frame(self.frame(), self.path, call="benchmarks")

    def frame(self) -> pd.DataFrame:
        """Return all rows as a DataFrame; what is missing is None."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns, dtype=object)


def _short(value: Any) -> Any:
    """Round a measured number; leave anything else; None for what is missing or NaN."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if value == value else None
    return None if value == "" else value
