"""Captum's methods, each run so that its known traps cannot spring.

The model is one output of one number per row, in float64; baselines are given; random methods
borrow torch's and numpy's random states and give them back; warnings about what is handled here
are not shown.
"""
