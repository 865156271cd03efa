"""Exact Shapley values and interactions of a KAN: an output is a sum of smaller games."""
