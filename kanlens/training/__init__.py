"""Training: `fit` and what it returns."""

from kanlens.training.loop import fit
from kanlens.training.result import FitResult

__all__ = ["FitResult", "fit"]
