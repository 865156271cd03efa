"""scikit-learn's interface: networks for regression and classification, and formulas."""

from kanlens.estimators.formulas import KANSymbolicRegressor
from kanlens.estimators.networks import KANClassifier, KANRegressor

__all__ = ["KANClassifier", "KANRegressor", "KANSymbolicRegressor"]
