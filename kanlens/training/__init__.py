"""Training: `fit`, `sparsity_path`, and what they return."""

from kanlens.training.loop import fit
from kanlens.training.paths import sparsity_path
from kanlens.training.result import FitResult, PathStep, SparsityPath

__all__ = ["FitResult", "PathStep", "SparsityPath", "fit", "sparsity_path"]
