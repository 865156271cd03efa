"""Estimators of scikit-learn: networks and formulas."""

from kanlens.estimators.formulas import KANSymbolicRegressor
from kanlens.estimators.networks import KANClassifier, KANRegressor

__all__ = ["KANClassifier", "KANRegressor", "KANSymbolicRegressor"]
