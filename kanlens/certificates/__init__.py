"""Proven statements about a model for every point of a box."""

from kanlens.certificates._certify import certify
from kanlens.certificates._statements import Certificate

__all__ = ["Certificate", "certify"]
