"""Experiments on sparsity, initial weights and grids, each with an answer in plain words."""
