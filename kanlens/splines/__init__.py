"""Piecewise polynomials: basis, pieces, hulls."""
