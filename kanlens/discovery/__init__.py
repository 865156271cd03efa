"""Formulas from tables: a search around least-squares models."""
