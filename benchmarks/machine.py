"""On what a measurement was made: processor, threads, versions, date."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import date
from functools import lru_cache
from pathlib import Path

import kanlens
from benchmarks.packages import version_of

CORE = Path(kanlens.__file__).parent / "core"


def stamp() -> dict[str, str | int | float | None]:
    """Describe this machine and the software on it, as columns of a row.

    Returns
    -------
    dict
        `date`, `kanlens`, `core` (a digest of kanlens/core, so that rows measured with another
        state of the kernels are told apart), `python`, `torch`, `numba`, `cpu`, `gpu`, `threads`
        (of torch), `system`, and `load`, how many processes wanted a processor in the last
        minute (this one among them; None where the system does not say).

    Examples
    --------
    >>> sorted(stamp())[:4]
    ['core', 'cpu', 'date', 'gpu']
    """
    import torch

    return {
        "date": date.today().isoformat(),
        "kanlens": version_of("kanlens"),
        "core": core_digest(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": version_of("numba"),
        "cpu": processor(),
        "gpu": graphics_card(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


@lru_cache(maxsize=1)
def core_digest() -> str:
    """Return a letter and seven digits that change with any source file of kanlens/core.

    Examples
    --------
    >>> len(core_digest())
    8
    """
    digest = hashlib.sha256()
    for path in sorted(CORE.rglob("*.py")):
        digest.update(path.relative_to(CORE).as_posix().encode())
        digest.update(path.read_bytes())
    return f"k{digest.hexdigest()[:7]}"  # the letter keeps it from looking like a number


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the name of this machine's processor.

    Examples
    --------
    >>> bool(processor())
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def graphics_card() -> str:
    """Return the name of the CUDA device in use, empty without one.

    Examples
    --------
    >>> isinstance(graphics_card(), str)
    True
    """
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def available_memory() -> int:
    """Return the bytes of memory that are free to use; 4 GiB where the system does not say.

    Examples
    --------
    >>> available_memory() > 0
    True
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return int(found[0]) * 1024 if found else 4 << 30
