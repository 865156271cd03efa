"""Atomic writing of output files, and checks that they can be written."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from kanlens._runtime import unfinished
from kanlens.errors import KanlensError, OutputError

Pathlike = str | os.PathLike[str]


@contextlib.contextmanager
def atomic_write(path: Pathlike, *, call: str, ending: str | None = None) -> Iterator[Path]:
    """Yield a temporary file, which is renamed to `path` at the end.

    It is in the folder of `path` and has its ending, or the `ending` that a library needs. Parent
    folders are created, links followed. An existing file keeps its permissions and, if the block
    fails, its content.
    """
    try:
        target = Path(os.path.realpath(path))
        temporary = _reserve(target, str(path), call, ending)
    except (OSError, ValueError) as error:
        raise _unwritable(str(path), error, call) from error
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if isinstance(error, KanlensError) or error.filename not in (None, str(temporary)):
            raise
        raise _unwritable(str(path), error, call) from error
    finally:
        _discard(temporary)


def check_writable(path: Pathlike, *, call: str) -> None:
    """Refuse a path that cannot be written; leave an existing file unchanged."""
    try:
        target = Path(os.path.realpath(path))
        new = [folder for folder in target.parents if not folder.exists()]
        _discard(_reserve(target, str(path), call))
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
    except (OSError, ValueError) as error:
        raise _unwritable(str(path), error, call) from error


def ending_of(path: Pathlike) -> str:
    """Return the ending of a file name in lower case, such as .csv or .csv.gz."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def check_ending(
    path: Pathlike, endings: Sequence[str], *, call: str, shown: str | None = None
) -> None:
    """Refuse a file name with another ending; the error lists `shown`."""
    if ending_of(path) not in endings:
        expected = f"a file name that ends in {shown or ', '.join(endings)}"
        raise OutputError(call, expected, repr(str(path)), "Change the name")


def reason(error: Exception) -> str:
    """Return an operating-system error as one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(str(text).split())
    return repr(text if len(text) <= 120 else f"{text[:117]}...")


def _reserve(target: Path, shown: str, call: str, ending: str | None = None) -> Path:
    """Create the temporary file; refuse targets that are not files."""
    if target.exists():
        if not target.is_file():
            kind = "a folder" if target.is_dir() else "a device"
            raise OutputError(call, "a file to write", f"{kind}, {shown!r}", "Name a file")
        if not os.access(target, os.W_OK):
            raise PermissionError(13, "Permission denied")
    target.parent.mkdir(parents=True, exist_ok=True)
    ends = ending or "".join(target.suffixes[-2:])[-40:]
    temporary = target.parent / f".{uuid.uuid4().hex}{ends}"
    unfinished.add(temporary)
    try:
        temporary.touch(exist_ok=False)
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    except OSError:
        _discard(temporary)
        raise
    return temporary


def _discard(temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    unfinished.discard(temporary)


def _unwritable(shown: str, error: Exception, call: str) -> OutputError:
    if isinstance(error, OutputError):
        return error
    advice = "Name a file and a folder that you may write to"
    return OutputError(call, "a file to write", f"{reason(error)} at {shown!r}", advice)
