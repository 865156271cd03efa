"""Integrated gradients that know where the pieces of a network's functions meet."""
