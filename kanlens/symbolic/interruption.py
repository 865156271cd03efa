"""Stop long work with Ctrl-C and keep what was found until then."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kanlens.checks import message


@dataclass
class Interruption:
    """Whether work was interrupted; the parts that follow then leave out what takes long.

    Attributes
    ----------
    happened : bool

    Examples
    --------
    >>> stop = Interruption()
    >>> with stop.kept():
    ...     raise KeyboardInterrupt
    >>> stop.happened
    True
    """

    happened: bool = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Leave the block at the first interrupt, and remember it; the next one goes through.

        Work in the block that an interrupt cuts short must leave behind nothing half done.
        """
        try:
            yield
        except KeyboardInterrupt:
            if self.happened:
                raise
            self.happened = True

    def warn(self, call: str) -> None:
        """Say in one line that a result is not what it could have been."""
        if self.happened:
            text = message(call, "to come to an end", "an interrupt", "What was found is returned")
            warnings.warn(text, stacklevel=3)
