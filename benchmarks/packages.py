"""Optional packages that benchmarks compare with: there or not, and in which version."""

from __future__ import annotations

import importlib
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

INSTALL = "pip install 'kanlens[bench]'"


def version_of(distribution: str) -> str:
    """Return the installed version of a distribution, empty when there is none.

    Examples
    --------
    >>> version_of("no-such-distribution")
    ''
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def missing(package: str) -> str:
    """Return what to do about a package that cannot be imported; empty when it can.

    Examples
    --------
    >>> missing("torch")
    ''
    >>> missing("no_such_package")
    "not installed: pip install 'kanlens[bench]'"
    """
    return "" if find_spec(package) is not None else f"not installed: {INSTALL}"


def load(module: str) -> Any:
    """Import a module of an optional package; it leaves the random states as they were.

    Examples
    --------
    >>> load("math").pi > 3
    True
    """
    with unseeded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@contextmanager
def unseeded() -> Iterator[None]:
    """Give the random states of Python, NumPy and torch back as they were before the block.

    Some packages reseed them when they are imported or when a layer is made.

    Examples
    --------
    >>> import torch
    >>> before = torch.get_rng_state()
    >>> with unseeded():
    ...     _ = torch.rand(3)
    >>> bool((torch.get_rng_state() == before).all())
    True
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
