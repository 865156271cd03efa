"""Formulas from tables: a search over structures around models solved by least squares."""
