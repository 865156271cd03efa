"""Export of models to files of other programs, compared with the model."""

from kanlens.exporters._export import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
