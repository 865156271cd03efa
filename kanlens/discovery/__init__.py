"""Formulas from tables, by a search over least-squares models."""
