"""Adapters for Captum that work around its known failure cases on KANs, in float64.

The model is one output of one number per row; random methods borrow torch's and numpy's random
states and give them back, and warnings about what is handled here are not shown.
"""
