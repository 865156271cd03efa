"""Rows of results in a CSV file that is always whole, so that an interrupted run can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.machine import STAMP, WORDS
from kanlens._files import write_frames
from kanlens.errors import FileFormatError

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.harness import Units

Key: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[dict[str, Any]]
DIGITS = 5  # significant digits of measured numbers in the files


class Records:
    """Rows of one CSV file, in groups that are measured together.

    The file is rewritten, whole or not at all, whenever a group is stored. `columns` are its names
    in order, of which it may lack those of the stamp; `group` names a group; `text` holds text even
    where it looks like a number. A `fresh` file is replaced with the first group.

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
        self.text = {*text, *WORDS}
        self.rows: Rows = [] if fresh or not path.exists() else self._read()

    def _read(self) -> Rows:
        import pandas as pd

        try:
            frame = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise self._foreign(f"{type(error).__name__} from {self.path.name!r}") from error
        there, wanted = set(frame.columns), set(self.columns)
        if not wanted - set(STAMP) <= there <= wanted:
            raise self._foreign(f"others in {self.path.name!r}")
        return [
            {name: self._value(name, row.get(name, "")) for name in self.columns}
            for row in frame.to_dict("records")
        ]

    def _foreign(self, got: str) -> FileFormatError:
        expected = f"the columns {', '.join(self.columns)}"
        advice = "Pass --fresh to replace the file, or another folder with -o"
        return FileFormatError("benchmarks", expected, got, advice)

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

    def _key(self, row: Mapping[str, Any]) -> Key:
        return tuple(row[name] for name in self.group)

    def of(self, key: Key) -> Rows:
        """Return the rows of one group."""
        return [row for row in self.rows if self._key(row) == key]

    def store(self, key: Key, rows: Rows) -> None:
        """Put rows in place of those of their group, and write the file."""
        kept = [row for row in self.rows if self._key(row) != key]
        self.rows = kept + [{n: _short(row.get(n)) for n in self.columns} for row in rows]
        write_frames([self._objects(self.rows)], self.path, call="benchmarks")

    def _objects(self, rows: Rows) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(rows, columns=self.columns, dtype=object)

    def frame(self, plan: Units | None = None) -> pd.DataFrame:
        """Return all rows, those of a plan in its order and alone unless it is whole.

        Columns are numbers, or objects with None for what is missing.
        """
        rows = self.rows
        if plan is not None:
            places = {key: place for place, key in enumerate(plan.keys)}
            rows = [row for row in rows if plan.whole or self._key(row) in places]
            rows = sorted(rows, key=lambda row: places.get(self._key(row), len(places)))
        frame = self._objects(rows)
        numbers = frame.infer_objects().select_dtypes("number")
        return frame.assign(**{str(name): numbers[name] for name in numbers})


def _short(value: Any) -> Any:
    """Round a measured number; leave anything else; None for what is missing or NaN."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if value == value else None
    return None if value == "" else value
