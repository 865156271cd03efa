"""Adapters for Captum that work around its known failure cases on KANs, in float64.

The model returns one number per row; random methods use torch's and numpy's global random states
and restore them, and warnings about conditions that are handled here are suppressed.
"""
