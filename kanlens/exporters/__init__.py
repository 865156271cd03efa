"""A model in files for other programs, each compared with the model before it is left."""

from kanlens.exporters.checking import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
