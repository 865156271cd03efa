"""What the target columns of a table ask of a model: the task, its outputs, its classes."""

from __future__ import annotations

from collections.abc import Mapping

from kanlens.checks import check_choice, message
from kanlens.core.cells import missing_text
from kanlens.core.kinds import Column, check_quantities, class_labels, is_classes
from kanlens.core.schema import Output, Schema, Task
from kanlens.errors import DataError, InvalidValueError

TASKS = ("classification", "regression")


def target_schema(targets: list[Column], task: Task | None, units: Mapping[str, str]) -> Schema:
    """Return a schema without features for the target columns.

    Raises
    ------
    DataError
        If a target cell is missing, or cannot be what the task asks for.
    InvalidValueError
        If `task` is none of the choices, or classes are asked of several columns.
    """
    if task is not None:
        check_choice("read_table", "task", task, TASKS)
    for column in targets:
        missing = ~column.present
        if missing.any():
            text = missing_text(column.name, missing, column.call, column.place, imputable=False)
            raise DataError(text)
    if len(targets) == 1 and (task == "classification" or (not task and is_classes(targets[0]))):
        return _classifying(targets[0], asked=task is not None)
    if task == "classification":
        got = f"{len(targets)} columns"
        advice = "Train one model for each target"
        raise InvalidValueError(message("read_table", "one target with classes", got, advice))
    for column in targets:
        check_quantities(column)
    outputs = tuple(Output(name=c.name, unit=units.get(c.name, "")) for c in targets)
    target = ", ".join(column.name for column in targets) or None
    return Schema(features=(), outputs=outputs, target=target)


def _classifying(column: Column, *, asked: bool) -> Schema:
    """Return a schema without features for a target with classes: one logit, or one each."""
    labels = class_labels(column, asked=asked)
    names = labels[1:] if len(labels) == 2 else labels
    return Schema(
        features=(),
        outputs=tuple(Output(name=f"{column.name}={label}") for label in names),
        target=column.name,
        task="classification",
        class_labels=labels,
    )
