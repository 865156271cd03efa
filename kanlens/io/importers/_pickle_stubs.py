"""Stubs for objects of a pickle, and attributes of modules and stubs."""

from __future__ import annotations

from typing import Any


class Inert:
    """A stub for the class with full name `path`: attributes without methods."""

    path = ""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str):
            self.__dict__[key] = value

    def append(self, value: object) -> None:
        """Ignore an item appended while unpickling a list subclass."""

    def __repr__(self) -> str:
        return type(self).path


def path_of(value: object) -> str:
    """Return the full name of an object of a pickle or YAML, or ""."""
    if isinstance(value, str):
        return value
    kind = value if isinstance(value, type) else type(value)
    return kind.path if issubclass(kind, Inert) else ""


def class_of(module: object) -> str:
    """Return the name of a module's class, or of a class or function."""
    path = path_of(module) or getattr(module, "__name__", type(module).__name__)
    return str(path).rpartition(".")[2]


def children(module: object, name: str) -> dict[Any, Any]:
    """Return the `_modules`, `_parameters` or `_buffers` of a module."""
    parts = vars(module).get(name) if hasattr(module, "__dict__") else None
    return parts if isinstance(parts, dict) else {}


def attribute(module: object, name: str) -> Any:
    """Return an attribute or submodule of a module, or None."""
    value = getattr(module, name, None)
    return children(module, "_modules").get(name) if value is None else value
