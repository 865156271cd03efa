"""One exception class per cause, also the builtin a caller would expect, and their wording.

Every message reads ``<call>: expected X, got Y. <what to do>.``
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

# Signs that a terminal or a page obeys rather than shows: controls, directions of writing, halves
# of surrogate pairs. Spaces of all widths and the joiners of emoji are none of them.
_OBEYED = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class KanlensError(Exception):
    """Anything kanlens refuses on purpose; its text is one line that says what to do."""


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


class InterruptedWarning(UserWarning):
    """An interrupt (Ctrl-C) ended work early; the result is what was found until then."""


def escaped(text: str) -> str:
    """Return text with Python's escapes for control characters, but tab and newline."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def message(call: str, expected: str, got: str, advice: str) -> str:
    """Format an error of a public call on one line; names in it may hold any characters.

    The advice is a sentence without its stop, or a question.
    """
    text = f"{call}: expected {expected}, got {got}. {advice}{'' if advice.endswith('?') else '.'}"
    return escaped(text.replace("\t", "\\t").replace("\n", "\\n"))


def reworded(call: str, error: KanlensError) -> KanlensError:
    """Give an error raised by inner code the name of the outer call."""
    text = str(error)
    _, colon, rest = text.partition(": ")
    return type(error)(f"{call}: {rest if colon else text}")


@contextlib.contextmanager
def rewording(call: str) -> Iterator[None]:
    """Give errors of inner code in the block the name of the outer call."""
    try:
        yield
    except KanlensError as error:
        raise reworded(call, error) from error
