"""Reports: a page on a model, and the same numbers as JSON."""

from kanlens.reporting._report import Report, report

__all__ = ["Report", "report"]
