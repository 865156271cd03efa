"""Integrated gradients, by quadrature between the knots of the network's splines."""
