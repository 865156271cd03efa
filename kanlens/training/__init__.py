"""Training: `fit`, `fit_default`, `sparsity_path`, and results."""

from kanlens.training._fit import fit
from kanlens.training._fit_default import fit_default
from kanlens.training._options import FitOptions
from kanlens.training._result import FitResult, PathStep, SparsityPath
from kanlens.training._sparsity_path import sparsity_path

__all__ = [
    "FitOptions",
    "FitResult",
    "PathStep",
    "SparsityPath",
    "fit",
    "fit_default",
    "sparsity_path",
]
