"""Edits of trained models, and their effects."""

from kanlens.editing._diff import EditDiff
from kanlens.editing._edges import EdgeEditor
from kanlens.editing._edit import Edit, edit

__all__ = ["EdgeEditor", "Edit", "EditDiff", "edit"]
