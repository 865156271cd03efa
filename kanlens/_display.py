"""Display of results: one line of text, and HTML in a notebook."""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing is not imported
if TYPE_CHECKING:
    from collections.abc import Callable

LINE = 200  # characters of a repr
# Control characters, marks of direction, halves of surrogate pairs; not the joiners of emoji.
_CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
renderer: Callable[[Displayed], str] | None = None  # into HTML; the package sets it


def escaped(text: str) -> str:
    """Return text with escaped control characters except tab and newline."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Displayed:
    """A result: its repr is one line, and a notebook shows it as HTML."""

    def _line(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        words = escaped(" ".join(f"{type(self).__name__}: {self._line()}".split()))
        return words if len(words) <= LINE else f"{words[: LINE - 1]}…"

    def _repr_html_(self) -> str | None:
        return None if renderer is None else renderer(self)
