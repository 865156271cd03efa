"""Splines, layers, networks and the record of a run."""
