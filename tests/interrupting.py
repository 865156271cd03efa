"""Ctrl-C at a chosen call of a function."""

from __future__ import annotations

from typing import Any


def after(count: int, function: Any, calls: list[None] | None = None) -> Any:
    """Have Ctrl-C come when a function is called once more than that."""
    calls = [] if calls is None else calls

    def cut(*given: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) > count:
            raise KeyboardInterrupt
        return function(*given, **options)

    return cut


def once(function: Any, count: int = 0) -> Any:
    """Have Ctrl-C come when a function is called once more than that, and then no more."""
    calls: list[None] = []

    def cut(*given: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == count + 1:
            raise KeyboardInterrupt
        return function(*given, **options)

    return cut
