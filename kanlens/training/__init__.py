"""Training: `fit`, `sparsity_path`, and what they return."""

from kanlens.training.loop import fit
from kanlens.training.path_result import PathStep, SparsityPath
from kanlens.training.paths import sparsity_path
from kanlens.training.result import FitResult

__all__ = ["FitResult", "PathStep", "SparsityPath", "fit", "sparsity_path"]
