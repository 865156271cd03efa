"""One exception class per cause, also the builtin a caller would expect, and their wording.

Every message reads ``<call>: expected X, got Y. <what to do>.``
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from kanlens.display import escaped


def in_python(name: str, value: Any) -> str:
    """Return an argument as a call sets it; of None the name alone, of ... any value."""
    return name if value is None else f"{name}={'...' if value is ... else repr(value)}"


class Message(Exception):
    """One line made of fields, which whoever shows it may write in its own words.

    The expectation and the advice name arguments as ``{name}``.

    Attributes
    ----------
    call : str
        Public call that was made.
    part : str
        Part of what it was given that is at fault, or "".
    expected, got : str
        What the call takes, and what it was given.
    advice : tuple of str
        Alternatives, sentences without their stop or questions.
    argument : str
        Argument that the expectation begins with, or "".
    settings : dict of str to Any
        Arguments and their values: None for the name alone, ... for any value.
    write : callable
        Writes an argument and its value. Advice with one that it has no words for (None) is left
        out, unless there is no other.
    """

    def __init__(
        self,
        call: str,
        expected: str,
        got: str,
        /,
        *advice: str,
        argument: str = "",
        **settings: Any,
    ) -> None:
        self.call, self.expected, self.got, self.advice = call, expected, got, advice
        self.argument, self.settings, self.part = argument, settings, ""
        self.write: Callable[[str, Any], str | None] = in_python
        super().__init__(str(self))

    def __str__(self) -> str:
        return _line(f"{self.call}: {self.part}{': ' if self.part else ''}{self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        build = functools.partial(type(self), argument=self.argument, **self.settings)
        return build, (self.call, self.expected, self.got, *self.advice), vars(self)

    @property
    def reason(self) -> str:
        """The line without its call."""
        words = {f"{{{name}}}": self.write(name, value) for name, value in self.settings.items()}
        lacking = [place for place, word in words.items() if word is None]
        offered = [one for one in self.advice if not any(place in one for place in lacking)]
        expected, advice = self.expected, ", or ".join(offered or self.advice)
        for place, value in zip(words, self.settings.items(), strict=True):
            word = words[place] or in_python(*value)
            expected, advice = expected.replace(place, word), advice.replace(place, word)
        if self.argument:
            expected = f"{self.write(self.argument, None) or self.argument} {expected}"
        end = "" if advice.endswith("?") else "."
        return _line(f"expected {expected}, got {self.got}. {advice[:1].upper()}{advice[1:]}{end}")


class KanlensError(Message):
    """Anything kanlens refuses on purpose; its text is one line that says what to do."""


class KanlensWarning(Message, UserWarning):
    """Anything that a result may be worse for; its text is one line that says what to do."""


class ShapeError(KanlensError, ValueError):
    """An array has the wrong number of axes, rows or columns."""


class DTypeError(KanlensError, TypeError):
    """An array or argument has the wrong type."""


class InvalidValueError(KanlensError, ValueError):
    """An argument has a value outside what it may be."""


class DataError(KanlensError, ValueError):
    """A table or its cells cannot be used as they are."""


class MethodError(KanlensError, ValueError):
    """A method does not fit the model or the data it was asked for."""


class FileFormatError(KanlensError, ValueError):
    """A file is truncated, foreign, or newer than this version reads."""


class MissingFileError(KanlensError, FileNotFoundError):
    """A file that should be read does not exist."""


class OutputError(KanlensError, OSError):
    """A file cannot be written where it was asked for."""


class TrainingError(KanlensError, ArithmeticError):
    """Training cannot start or go on."""


class LostProcessError(TrainingError):
    """Another process that trains the same model is gone, or this one is told to end."""


class MissingDependencyError(KanlensError, ImportError):
    """An optional package is needed and not installed."""


class RangeWarning(UserWarning):
    """Rows lie outside the data that a model was trained on."""


class InterruptedWarning(KanlensWarning):
    """An interrupt (Ctrl-C) ended work early; the result is what was found until then."""


def _line(text: str) -> str:
    """Return text on one line; names in it may hold any characters."""
    return escaped(text.replace("\t", "\\t").replace("\n", "\\n"))


def reworded(
    call: str, error: KanlensError, kind: type[KanlensError] | None = None, *, part: str = ""
) -> KanlensError:
    """Return an error of inner code as one of the outer call, perhaps of another kind."""
    outer = (kind or type(error))(call, error.expected, error.got, *error.advice)
    vars(outer).update({**vars(error), "call": call, "part": part or error.part})
    outer.args = (str(outer),)
    return outer


@contextlib.contextmanager
def rewording(call: str, *, part: str = "") -> Iterator[None]:
    """Give errors of inner code in the block the name of the outer call."""
    try:
        yield
    except KanlensError as error:
        raise reworded(call, error, part=part) from error
