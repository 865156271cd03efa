"""Statements about a model that hold at every point of a box, with proof."""

from kanlens.certificates._certify import certify
from kanlens.certificates._statements import Certificate

__all__ = ["Certificate", "certify"]
