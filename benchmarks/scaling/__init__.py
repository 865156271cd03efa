"""Seconds and memory against rows, features, width, grid, ranks and workers."""
