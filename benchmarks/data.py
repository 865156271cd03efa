"""The data that benchmarks read: tables, and files of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kanlens.errors import MissingFileError

if TYPE_CHECKING:
    from kanlens.data._tables import Table

TABLES = {  # and the target of each
    "concrete": "concrete_compressive_strength",
    "california_housing": "median_house_value",
    "power_plant": "PE",
    "energy": "heating_load",
    "wine_quality_red": "quality",
}


def beside_checkout() -> Path | None:
    """Return the folder of the data when it lies beside a checkout of kanlens, else None."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def data_file(folder: Path | None, name: str) -> Path:
    """Return the path of a file of the data folder."""
    path = None if folder is None else folder / name
    if path is None or not path.exists():
        got = "no data folder" if folder is None else f"a folder without it, {str(folder)!r}"
        raise MissingFileError("benchmarks", f"the file {name}", got, "Pass the folder with --data")
    return path


def table_file(name: str, folder: Path | None) -> Path:
    """Return the path of one of ``TABLES``."""
    return data_file(folder, f"tabular/{name}.csv")


def table(name: str, folder: Path | None) -> Table:
    """Return one of ``TABLES``, float64, without repeated rows."""
    import pandas as pd

    from kanlens.data._table_reader import read_table

    frame = pd.read_csv(table_file(name, folder)).drop_duplicates()
    return read_table(frame, target=TABLES[name], impute="median")


def rows_of(name: str, folder: Path | None) -> tuple[Tensor, Tensor]:
    """Return x (rows, in) and y (rows, 1) of one of ``TABLES``."""
    found = table(name, folder)
    return found.x, torch.empty(0) if found.y is None else found.y


def there(names: Iterable[str], find: Callable[[str], Any]) -> tuple[list[str], dict[str, str]]:
    """Return the names whose data is found, and why the others' is not."""
    found, missing = [], {}
    for name in names:
        try:
            find(name)
        except MissingFileError as error:
            missing[name] = str(error)
        else:
            found.append(name)
    return found, missing
