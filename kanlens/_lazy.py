"""Packages, and modules of scipy, that are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["linalg", "optimize", "pa", "parquet", "pd", "scipy", "special", "stats", "sympy"]

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as parquet
    import scipy
    import sympy
    from scipy import linalg, optimize, special, stats
else:

    class _Module:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self._name), name)

    pa, parquet, pd = _Module("pyarrow"), _Module("pyarrow.parquet"), _Module("pandas")
    scipy, sympy = _Module("scipy"), _Module("sympy")
    linalg, optimize = _Module("scipy.linalg"), _Module("scipy.optimize")
    special, stats = _Module("scipy.special"), _Module("scipy.stats")
