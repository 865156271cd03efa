"""B-splines and piecewise polynomials: evaluation, roots, bounds."""
