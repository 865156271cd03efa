"""Objects of a pickle whose classes were never imported, and modules, live or of that kind."""

from __future__ import annotations

from typing import Any


class Inert:
    """What a pickle names, of full name `path`: it holds what is said of it and does nothing."""

    path = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, str):
            self.__dict__[key] = value

    def append(self, value: Any) -> None:
        """Take an item of a list that is none."""

    def __repr__(self) -> str:
        return type(self).path


def path_of(given: Any) -> str:
    """Return the full name of what a pickle or YAML names; empty for what does not come of one."""
    if isinstance(given, str):
        return given
    kind = given if isinstance(given, type) else type(given)
    return kind.path if issubclass(kind, Inert) else ""


def class_of(module: Any) -> str:
    """Return the name of a module's class, or of a class or function."""
    given = path_of(module) or getattr(module, "__name__", type(module).__name__)
    return str(given).rpartition(".")[2]


def children(module: Any, name: str) -> dict[Any, Any]:
    """Return the `_modules`, `_parameters` or `_buffers` of a module."""
    found = vars(module).get(name) if hasattr(module, "__dict__") else None
    return found if isinstance(found, dict) else {}


def attribute(module: Any, name: str) -> Any:
    """Return an attribute or submodule of a module; None if there is none."""
    found = getattr(module, name, None)
    return children(module, "_modules").get(name) if found is None else found
