"""Reports: everything known about a model on one page, and the same numbers as JSON."""

from kanlens.reporting.writing import Report, report

__all__ = ["Report", "report"]
