"""Imitation: small surrogate networks of any other model."""

from kanlens.imitation._imitate import Imitation, ImitationReceipt, imitate

__all__ = ["Imitation", "ImitationReceipt", "imitate"]
