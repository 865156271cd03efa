"""Estimators of scikit-learn: networks and formulas."""

from kanlens.estimators._formulas import KANSymbolicRegressor
from kanlens.estimators._networks import KANClassifier, KANRegressor

__all__ = ["KANClassifier", "KANRegressor", "KANSymbolicRegressor"]
