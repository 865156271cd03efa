"""Adapters for Captum that work around its known failure cases on KANs.

The model is one output of one number per row, in float64; baselines are given; random methods
borrow torch's and numpy's random states and give them back; warnings about what is handled here
are not shown.
"""
