"""Why a search for formulas ended."""

from __future__ import annotations

from enum import Enum


class StopReason(str, Enum):
    """Reason why a search ended, in words."""

    EXACT = "an exact formula was found"
    NOISE = "only noise was left"
    EXHAUSTED = "every way was tried"
    TIME = "the time was over"
    INTERRUPTED = "interrupted"

    __str__ = str.__str__
    __repr__ = str.__repr__
