"""Reports: a page on a model, and the same numbers as JSON."""

from kanlens.reporting.writing import Report, report

__all__ = ["Report", "report"]
