"""Statements about a model that hold at every point of a box, with proof."""

from kanlens.certificates.certification import certify
from kanlens.certificates.statements import Certificate

__all__ = ["Certificate", "certify"]
