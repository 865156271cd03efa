"""On what a measurement was made: processor, threads, versions, date; and what is installed."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kanlens

CORE = tuple(Path(kanlens.__file__).parent / room for room in ("functions", "splines", "model"))
WORDS = ("date", "kanlens", "core", "python", "torch", "numba", "cpu", "isa", "gpu", "system")
STAMP = (*WORDS, "threads", "load")  # the columns that say when and on what a row was made
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}  # widest first


def stamp() -> dict[str, str | int | float | None]:
    """Return columns of a row that describe this machine and the software on it.

    `core` is a digest of the kernels, so that rows measured with another state are told apart;
    `load` is how many processes wanted a processor in the last minute, this one among them.
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
        "isa": instruction_set(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


@lru_cache(maxsize=1)
def core_digest() -> str:
    """Return a letter and seven digits that change with any source file of the three rooms."""
    return source_digest(*CORE)


def source_digest(*folders: Path) -> str:
    """Return a letter and seven digits that change with any source file of some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return f"k{digest.hexdigest()[:7]}"  # the letter keeps it from looking like a number


@lru_cache(maxsize=1)
def processor() -> str:
    """Return the name of this machine's processor."""
    return _said("cpuinfo", "model name") or platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def instruction_set() -> str:
    """Return the widest vectors in use: "AVX-512", "AVX2", "NEON" or as torch says.

    Torch may be told to use shorter ones than the processor has; kernels are told the same way.
    """
    import torch

    flags = f"{_said('cpuinfo', 'flags')} {_said('cpuinfo', 'Features')}".split()
    found = [name for flag, name in VECTORS.items() if flag in flags]
    if not found:
        return torch.backends.cpu.get_cpu_capability()
    told = os.environ.get("ATEN_CPU_CAPABILITY", "").upper()
    return f"{told} of {found[0]}" if told and told not in found[0] else found[0]


def _said(file: str, name: str) -> str:
    """Return what a file of the system says first under a name, empty where it does not."""
    try:
        lines = Path("/proc", file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


INSTALL = "pip install 'kanlens[bench]'"


def version_of(distribution: str) -> str:
    """Return the installed version of a distribution, empty when there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def missing(package: str) -> str:
    """Return what to do about a package that cannot be imported; empty when it can."""
    return "" if find_spec(package) is not None else f"not installed: {INSTALL}"


def load(module: str) -> Any:
    """Import a module of an optional package; it leaves the random states as they were."""
    with unseeded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@contextmanager
def unseeded() -> Iterator[None]:
    """Give the random states of Python, NumPy and torch back as they were before the block.

    Some packages reseed them when they are imported or when a layer is made.
    """
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002 - put back what others changed
        torch.set_rng_state(states[2])
