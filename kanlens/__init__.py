"""kanlens: plot, prune, symbolize and explain Kolmogorov-Arnold networks.

Importing the package loads no other library, not even torch; every public name below is loaded
when it is first used.
"""

from __future__ import annotations

import importlib

from kanlens import _display as display

TYPE_CHECKING = False  # importing typing would take longest
if TYPE_CHECKING:
    from typing import Any

    from kanlens import plotting as plot
    from kanlens import sparsity
    from kanlens.attribution import METHODS, Attribution, Importance, attribute, compare, importance
    from kanlens.certificates import Certificate, certify
    from kanlens.data._source import Source, scan_table
    from kanlens.data._table_reader import read_table
    from kanlens.data._tables import Table
    from kanlens.discovery._discover import discover
    from kanlens.editing import Edit, EditDiff, edit
    from kanlens.errors import KanlensError
    from kanlens.estimators import KANClassifier, KANRegressor, KANSymbolicRegressor
    from kanlens.exporters import Exported, export
    from kanlens.functions._registration import register_function
    from kanlens.imitation import Imitation, imitate
    from kanlens.io._checkpoint import load, save
    from kanlens.io.importers import import_model, list_kans
    from kanlens.model._config import KANConfig
    from kanlens.model._edge import Edge
    from kanlens.model._kan_linear import EdgeLayer, KANLinear
    from kanlens.model._network import KAN
    from kanlens.model._trace import Trace, trace
    from kanlens.pruning import PruneResult, edge_scores, prune
    from kanlens.reporting import report
    from kanlens.symbolic import SymbolicResult, suggest, symbolize
    from kanlens.training import (
        FitOptions,
        FitResult,
        Frontier,
        SparsityPath,
        calibrate,
        fit,
        fit_default,
        frontier,
        predict,
        sparsity_path,
    )

_HOMES = {  # the module of every public name
    name: module
    for module, names in {
        "kanlens.attribution": "Attribution Importance METHODS attribute compare importance",
        "kanlens.certificates": "Certificate certify",
        "kanlens.data._source": "Source scan_table",
        "kanlens.data._table_reader": "read_table",
        "kanlens.data._tables": "Table",
        "kanlens.discovery._discover": "discover",
        "kanlens.editing": "Edit EditDiff edit",
        "kanlens.errors": "KanlensError",
        "kanlens.estimators": "KANClassifier KANRegressor KANSymbolicRegressor",
        "kanlens.exporters": "Exported export",
        "kanlens.functions._registration": "register_function",
        "kanlens.imitation": "Imitation imitate",
        "kanlens.io._checkpoint": "load save",
        "kanlens.io.importers": "import_model list_kans",
        "kanlens.model._config": "KANConfig",
        "kanlens.model._conversion": "to_splines",
        "kanlens.model._kan_linear": "EdgeLayer KANLinear",
        "kanlens.model._network": "KAN",
        "kanlens.model._trace": "Trace trace",
        "kanlens.model._edge": "Edge",
        "kanlens.pruning": "PruneResult edge_scores prune",
        "kanlens.reporting": "report",
        "kanlens.symbolic": "SymbolicResult suggest symbolize",
        "kanlens.training": "FitOptions FitResult Frontier SparsityPath calibrate fit fit_default "
        "frontier predict sparsity_path",
    }.items()
    for name in names.split()
}
_MODULES = {
    "attribution": "kanlens.attribution",
    "distributed": "kanlens.distributed",
    "plot": "kanlens.plotting",
    "sparsity": "kanlens.sparsity",
}

__all__ = [
    "KAN",
    "METHODS",
    "Attribution",
    "Certificate",
    "Edge",
    "EdgeLayer",
    "Edit",
    "EditDiff",
    "Exported",
    "FitOptions",
    "FitResult",
    "Frontier",
    "Imitation",
    "Importance",
    "KANClassifier",
    "KANConfig",
    "KANLinear",
    "KANRegressor",
    "KANSymbolicRegressor",
    "KanlensError",
    "PruneResult",
    "Source",
    "SparsityPath",
    "SymbolicResult",
    "Table",
    "Trace",
    "__version__",
    "attribute",
    "calibrate",
    "certify",
    "compare",
    "discover",
    "edge_scores",
    "edit",
    "export",
    "fit",
    "fit_default",
    "frontier",
    "imitate",
    "import_model",
    "importance",
    "list_kans",
    "load",
    "plot",
    "predict",
    "prune",
    "read_table",
    "register_function",
    "report",
    "save",
    "scan_table",
    "sparsity",
    "sparsity_path",
    "suggest",
    "symbolize",
    "to_splines",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("kanlens")
    if name == "EdgeFunction":
        import warnings

        text = "kanlens.EdgeFunction is now kanlens.Edge; the old name will be removed in 0.4."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        name = "Edge"
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kanlens' has no attribute {name!r}")


def _to_html(result: display.Displayed) -> str:
    from kanlens.reporting._notebook import to_html

    return to_html(result)


display.renderer = _to_html


def __dir__() -> list[str]:
    return sorted(__all__)
