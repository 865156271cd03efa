"""One thread, as layers of such sizes want."""

from __future__ import annotations
