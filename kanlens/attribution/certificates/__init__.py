"""Statements about a model that hold at every point of a box, with proof."""
