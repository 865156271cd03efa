"""Training: `fit`, `fit_default`, `frontier`, `sparsity_path`; predictions and results."""

from kanlens.model._training_record import FrontierStep
from kanlens.training._calibration import calibrate
from kanlens.training._fit import fit
from kanlens.training._fit_default import fit_default
from kanlens.training._frontier import frontier
from kanlens.training._frontier_result import Frontier
from kanlens.training._objective import predict
from kanlens.training._options import FitOptions
from kanlens.training._result import FitResult, PathStep, SparsityPath
from kanlens.training._sparsity_path import sparsity_path

__all__ = [
    "FitOptions",
    "FitResult",
    "Frontier",
    "FrontierStep",
    "PathStep",
    "SparsityPath",
    "calibrate",
    "fit",
    "fit_default",
    "frontier",
    "predict",
    "sparsity_path",
]
