"""One exception class per cause; each is also the builtin a caller would expect."""


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
