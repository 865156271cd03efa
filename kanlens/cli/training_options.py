"""What commands that train take beside a table, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import typer

from kanlens.checks import message
from kanlens.cli.options import split_names
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    import torch

    from kanlens.data.column_types import Impute
    from kanlens.data.schema import Task
    from kanlens.data.tables import Table
    from kanlens.model.network import KAN

TaskName: TypeAlias = Annotated[str | None, typer.Option(help="regression or classification.")]
Features: TypeAlias = Annotated[str | None, typer.Option(help="Columns to use, with commas.")]
Drop: TypeAlias = Annotated[str | None, typer.Option(help="Columns to leave out, with commas.")]
Categorical: TypeAlias = Annotated[
    str | None, typer.Option(help="Columns whose numbers are codes, with commas.")
]
Imputation: TypeAlias = Annotated[
    str | None, typer.Option(help="Fill missing cells: median, mean or most_frequent.")
]
Hidden: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Nodes of each hidden layer, with commas; 3:2 for three sums and two products; 0 for "
        "none."
    ),
]
Penalty: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Norm that makes edges small: activation_l1, activation_l2, curvature, raw_l1 or "
        "weight_l1; several as activation_l1=1,curvature=0.001."
    ),
]
Extrapolation: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Beyond the training data: constant holds a feature at the end of its range, linear "
        "goes on straight, zero lets the splines run out."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are for, as lists of names with commas."""

    target: str | None
    features: str | None
    drop: str | None
    categorical: str | None

    def read(
        self, data: Path, task: str | None, impute: str | None, targets: list[str] | None = None
    ) -> Table:
        """Read the table; `targets` stand in for those of the command."""
        from kanlens.data.tables import read_table

        targets = split_names(self.target) if targets is None else targets
        return read_table(
            data,
            target=targets[0] if len(targets) == 1 else targets or None,
            task=cast("Task | None", task),  # read_table checks it
            features=split_names(self.features) or None,
            drop=split_names(self.drop),
            categorical=split_names(self.categorical),
            impute=cast("Impute | None", impute),
        )


def new_model(
    table: Table,
    hidden: str,
    grid_size: int,
    spline_order: int,
    extrapolation: str,
    generator: torch.Generator,
) -> KAN:
    """Return an untrained network for a table, in double precision."""
    import kanlens

    return kanlens.KAN(
        [len(table.schema.features), *hidden_nodes(hidden), len(table.schema.outputs)],
        grid_size=grid_size,
        spline_order=spline_order,
        extrapolation=extrapolation,
        generator=generator,
    ).double()


def factor(penalty: str | None, strength: float | None) -> float:
    """Return the factor of a penalty; refuse a penalty that was given none.

    Examples
    --------
    >>> factor("weight_l1", 0.1), factor(None, None)
    (0.1, 0.0)
    """
    if penalty is not None and strength is None:
        advice = "Add --strength, for example 0.01"
        raise InvalidValueError(message("train", "a strength for the penalty", "none", advice))
    return strength or 0.0


def norms(text: str | None) -> str | dict[str, float] | None:
    """Return a norm, or several with their weights.

    Examples
    --------
    >>> norms("weight_l1"), norms("activation_l1=1,curvature=0.001")
    ('weight_l1', {'activation_l1': 1.0, 'curvature': 0.001})
    """
    if text is None or "=" not in text:
        return text
    pairs = [part.partition("=") for part in split_names(text)]
    try:
        return {name.strip(): float(weight) for name, _, weight in pairs}
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list like activation_l1=1,curvature=0.001", param_hint="--penalty"
        ) from None


def hidden_nodes(text: str) -> list[int | tuple[int, int]]:
    """Return the nodes of the hidden layers, as `kanlens.KAN` takes them.

    Examples
    --------
    >>> hidden_nodes("5,3:2"), hidden_nodes("0")
    ([5, (3, 2)], [])
    """
    nodes: list[int | tuple[int, int]] = []
    try:
        for part in split_names(text):
            sums, colon, products = part.partition(":")
            nodes.append((int(sums), int(products)) if colon else int(sums))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of whole numbers like 5,3:2", param_hint="--hidden"
        ) from None
    return [] if nodes == [0] else nodes
