"""Exact Shapley values and interactions of a KAN: an output is a sum of smaller games.

`_values` chooses an algorithm for each game: `_enumeration` of all coalitions for at most 14
players, `_fourier` for more players of two layers without products, `_permutation_sampling` for the
rest.
"""
