"""Estimators of scikit-learn: networks and formulas."""

from kanlens.estimators._classifier import KANClassifier
from kanlens.estimators._formulas import KANSymbolicRegressor
from kanlens.estimators._networks import KANRegressor

__all__ = ["KANClassifier", "KANRegressor", "KANSymbolicRegressor"]
