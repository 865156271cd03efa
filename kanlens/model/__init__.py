"""Splines, layers, networks and the record of a run."""

from kanlens.model.function_layer import FunctionLinear as FunctionLinear  # registers its kind
