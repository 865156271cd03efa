"""Training: `fit`, `fit_default`, `sparsity_path`, and results."""

from kanlens.training.loop import fit, fit_default
from kanlens.training.options import FitOptions
from kanlens.training.paths import sparsity_path
from kanlens.training.result import FitResult, PathStep, SparsityPath

__all__ = [
    "FitOptions",
    "FitResult",
    "PathStep",
    "SparsityPath",
    "fit",
    "fit_default",
    "sparsity_path",
]
