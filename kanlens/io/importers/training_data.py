"""What a foreign model does not say of itself, taken from the data that it was trained on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from kanlens.checks import check_choice, message, reworded
from kanlens.data.schema import Task
from kanlens.data.tables import Table, read_table
from kanlens.data.targets import TASKS
from kanlens.encoding import adopt_data
from kanlens.errors import InvalidValueError, KanlensError
from kanlens.files import read_frame
from kanlens.io.importers.source import CALL
from kanlens.model.network import KAN

if TYPE_CHECKING:
    import pandas as pd

    TrainingData: TypeAlias = Table | tuple[Any, Any] | str | os.PathLike[str] | pd.DataFrame


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """The data a model was trained on, and how to read them.

    Attributes
    ----------
    data : Table, (x, y), path or DataFrame, or None
        The rows; None when there are none.
    target : str or sequence of str or None
        Target columns of a path or frame; by default those named like the outputs.
    task : {"regression", "classification"} or None
        What the target holds; found out when None.
    features : sequence of str or None
        Feature columns of a path or frame, in the order of the inputs.
    """

    data: TrainingData | None = None
    target: str | Sequence[str] | None = None
    task: Task | None = None
    features: Sequence[str] | None = None

    @property
    def tabular(self) -> bool:
        """Whether the columns are still to be told apart."""
        return isinstance(self.data, str | os.PathLike) or hasattr(self.data, "iloc")

    def check(self) -> None:
        """Refuse options that the data leave no room for.

        Raises
        ------
        InvalidValueError
        """
        if self.task is not None:
            check_choice(CALL, "task", self.task, TASKS)
        if self.target is not None and not self.tabular:
            got = type(self.data).__name__ if self.data is not None else "none"
            expected, advice = "a path or DataFrame beside target", "Give data with that column"
            raise InvalidValueError(message(CALL, expected, got, advice))
        if self.task is not None and self.data is None:
            expected, advice = "data beside task", "Give the data it was trained on"
            raise InvalidValueError(message(CALL, expected, "none", advice))
        if isinstance(self.data, Table) and self.task not in (None, self.data.schema.task):
            got = f"a Table for {self.data.schema.task}"
            advice = f"Read it with task={self.task!r}"
            raise InvalidValueError(message(CALL, f"data for {self.task}", got, advice))

    def tell(self, model: KAN) -> None:
        """Give a model what `kanlens.fit` on these data would have given it.

        Raises
        ------
        DataError, ShapeError
            If the data cannot be read, or do not fit the model.
        """
        try:
            adopt_data(model, self._read(model))
        except KanlensError as error:
            raise reworded(CALL, error) from error

    def _read(self, model: KAN) -> Any:
        source: Any = self.data
        if not self.tabular:
            pair = isinstance(source, tuple | list) and len(source) == 2
            return (source[0], self._typed(source[1])) if pair else source
        target = self.target
        if target is None:
            frame = source if hasattr(source, "iloc") else read_frame(source, call=CALL)
            found = model.schema.targets_among([str(name) for name in frame.columns])
            target = found if len(found) > 1 else next(iter(found), None)
        table = read_table(source, target=target, task=self.task, features=self.features)
        if self.features is not None and len(table.feature_names) == model.widths[0]:
            model.schema = dataclasses.replace(model.schema, features=table.schema.features)
        return table

    def _typed(self, y: Any) -> Any:
        """Return targets in the kind that the task asks for."""
        if self.task is None:
            return y
        values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
        if self.task == "regression":
            return values.astype(np.float64)
        import pandas as pd

        return pd.Series(values.ravel()).astype("category")
