"""Exceptions by cause, each also a builtin exception, with a message of one line."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from kanlens._display import escaped


def in_python(name: str, value: object) -> str:
    """Return an argument with its value; for None, the name alone."""
    return name if value is None else f"{name}={'...' if value is ... else repr(value)}"


class Message(Exception):
    """A message made of fields, on one line; ``{name}`` stands for an argument.

    Attributes
    ----------
    call, part : str
        The public call, and the part of its input at fault, if not "".
    expected, got : str
        The input that the call takes, and the one it got; the latter names no arguments.
    advice : tuple of str
        Alternatives: sentences without their full stop, or questions.
    argument : str
        Argument at the start of the expectation, if not "".
    settings : dict of str to Any
        Arguments with their values: None for the name alone, ... for any value.
    write : callable
        Formats an argument and its value. Advice with an argument that it cannot format (None) is
        left out, unless there is no other.
    """

    def __init__(
        self, call: str, expected: str, got: str, /, *advice: str, argument: str = "", **values: Any
    ) -> None:
        self.call, self.expected, self.got, self.advice = call, expected, got, advice
        self.argument, self.settings, self.part = argument, values, ""
        self.write: Callable[[str, Any], str | None] = in_python
        super().__init__(str(self))

    def __str__(self) -> str:
        return _line(f"{self.call}: {self.part}{': ' if self.part else ''}{self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        build = functools.partial(type(self), argument=self.argument, **self.settings)
        return build, (self.call, self.expected, self.got, *self.advice), vars(self)

    @property
    def reason(self) -> str:
        """The message without call and part."""
        expected, advice = self.expected, list(self.advice)
        for name, value in self.settings.items():
            place, word = f"{{{name}}}", self.write(name, value)
            if word is None:
                advice = [text for text in advice if place not in text] or advice
                word = in_python(name, value)
            expected, *advice = (text.replace(place, word) for text in (expected, *advice))
        if self.argument:
            expected = f"{self.write(self.argument, None) or self.argument} {expected}"
        last = ", or ".join(advice)
        if len(advice) < len(self.advice):
            last = last[:1].upper() + last[1:]
        end = "" if last.endswith("?") else "."
        return _line(f"{self._problem(expected)}. {last}{end}")

    def _problem(self, expected: str) -> str:
        return f"expected {expected}, got {self.got}"


class KanlensError(Message):
    """Base class of the errors of kanlens; the message ends with advice."""


class KanlensWarning(Message, UserWarning):
    """A possible flaw of a result; the message is one line with advice."""


class ShapeError(KanlensError, ValueError):
    """An array has the wrong number of axes, rows or columns."""


class DTypeError(KanlensError, TypeError):
    """An array or argument has the wrong type."""


class InvalidValueError(KanlensError, ValueError):
    """An argument has a value that is not allowed."""


class DataError(KanlensError, ValueError):
    """A table or its cells cannot be used."""


class MethodError(KanlensError, ValueError):
    """A method does not fit the model or the data."""


class FileFormatError(KanlensError, ValueError):
    """A file is truncated, in another format, or newer than this version reads."""


class MissingFileError(KanlensError, FileNotFoundError):
    """A file to read does not exist."""


class OutputError(KanlensError, OSError):
    """A file cannot be written."""


class TrainingError(KanlensError, ArithmeticError):
    """Training cannot start or go on."""


class LostProcessError(TrainingError):
    """Another process that trains the same model has ended, or this one is told to end."""


class MissingDependencyError(KanlensError, ImportError):
    """An optional package is needed and not installed."""


class RangeWarning(UserWarning):
    """Rows lie outside the data that a model was trained on."""


class InterruptedWarning(KanlensWarning):
    """An interrupt (Ctrl-C) ended work early; the result is a partial one."""

    def _problem(self, expected: str) -> str:
        return "interrupted"


def _line(text: str) -> str:
    """Return text on one line without control characters."""
    return escaped(text.replace("\t", "\\t").replace("\n", "\\n"))


def reworded(
    call: str, error: KanlensError, kind: type[KanlensError] | None = None, *, part: str = ""
) -> KanlensError:
    """Return an error of inner code as one of the outer call."""
    outer = (kind or type(error))(call, error.expected, error.got, *error.advice)
    vars(outer).update({**vars(error), "call": call, "part": part or error.part})
    outer.args = (str(outer),)
    return outer


@contextlib.contextmanager
def rewording(call: str, *, part: str = "") -> Iterator[None]:
    """Raise errors of inner code in the block as errors of the outer call."""
    try:
        yield
    except KanlensError as error:
        raise reworded(call, error, part=part) from error
