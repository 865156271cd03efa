"""Adapters for Captum, in float64, that work around its known failures on KANs."""
