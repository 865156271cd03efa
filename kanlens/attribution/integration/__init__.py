"""Integrated gradients, divided where the pieces of a network's functions meet."""
