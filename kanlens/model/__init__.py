"""Splines, layers, networks and traces of their runs."""
