"""Export of a model, and comparison of the file with the model."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanlens._atomic_files import atomic_write, ending_of
from kanlens._checks import check_choice
from kanlens.errors import DTypeError, InvalidValueError, OutputError
from kanlens.exporters._dialects import refuse
from kanlens.exporters._exported_model import Export, Format, chances, predicted
from kanlens.exporters._onnx_file import ONNX
from kanlens.exporters._text_files import C_HEADER, LATEX, NUMPY_MODULE, SYMPY
from kanlens.exporters._unrolled_files import SQL_QUERY, WORKBOOK
from kanlens.functions._elementary import Array
from kanlens.model import kernels
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN


class _Filled(torch.nn.Module):
    """A model that replaces NaN by the values `fillers` (in,)."""

    fillers: torch.Tensor

    def __init__(self, model: KAN, fillers: Array) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.register_buffer("fillers", torch.from_numpy(fillers).to(model.input_shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (batch, out)."""
        y: torch.Tensor = self.model(torch.where(x.isnan(), self.fillers, x))
        return y


def _write_program(subject: Export, path: Path) -> None:
    """Write a torch program with the weights, for any number of rows."""
    model, batch = _Filled(subject.model, subject.fillers), torch.export.Dim("batch")
    rows = torch.from_numpy(subject.rows).to(subject.model.input_shift)
    with kernels.use("torch"):
        program = torch.export.export(model, (rows,), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, path)


def _run_program(subject: Export, path: Path) -> list[Array]:
    """Run a program on an empty batch, then on rows with missing numbers."""
    program, x = torch.export.load(path).module(), subject.rows.copy()
    x[0, ~np.isnan(subject.fillers)] = np.nan
    rows = torch.from_numpy(x).to(subject.model.input_shift)
    return [torch.cat([program(rows[:0]), program(rows)]).cpu().numpy()]


TORCH = Format("torch", ".pt2", _write_program, _run_program, single=True, predicts=False)
_ALL = (ONNX, TORCH, NUMPY_MODULE, C_HEADER, SQL_QUERY, LATEX, SYMPY, WORKBOOK)
FORMATS: dict[str, Format] = {form.name: form for form in _ALL}
"""Formats of files by name."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
EXPLAINED = 1e-6  # least tolerance of attributions


@dataclass(frozen=True, kw_only=True, eq=False)
class Exported:
    """Result of `kanlens.export`: a file that was run and compared.

    Attributes
    ----------
    path : Path
    format : str
        Key into ``kanlens.exporters.FORMATS``.
    rows : int
        Number of rows compared: at random, at knots, at and beyond the ends of ranges.
    error : float
        Largest difference between the file and the model: of an output, relative to the largest
        output, or of a probability. A file that computes in float64 is compared with the model in
        float64.
    explained_error : float or None
        The same for the attributions in the file, compared with `kanlens.attribute` and
        ``method="secant"``; None without `explain`.
    """

    path: Path
    format: str
    rows: int
    error: float
    explained_error: float | None = None


def export(
    model: Model,
    path: str | os.PathLike[str],
    *,
    to: str | None = None,
    explain: bool = False,
    table: str = "data",
    keep: Sequence[str] = (),
    interval: float | None = None,
) -> Exported:
    """Write a model for another program and compare its outputs there.

    The file is run on rows drawn over the ranges of the features, on knots of the first layer, and
    at the ends of each range and beyond. If an output differs by more than 1e-10 of the largest
    output (1e-5 in float32), no file is left behind.

    Parameters
    ----------
    model : KAN or fitted estimator
    path : path-like
        File to write.
    to : {"onnx", "torch", "numpy", "c", "sql", "latex", "sympy", "excel"}, optional
        Kind of file. Default: by the ending of `path`.
    explain : bool
        Add the attributions of the features (method "secant") to the outputs of the file.
    table : str
        Name of the table that SQL reads.
    keep : sequence of str
        Columns of `table` that SQL returns together with the outputs. Default: the features.
    interval : float, optional
        For regression: the outputs of the file are the columns of `kanlens.predict` with this
        `interval`, in the units of the data.

    Raises
    ------
    InvalidValueError
        If the format is unknown, or does not support `explain` or `interval`.
    DTypeError
        If the model is neither in float64 nor in float32.
    MethodError
        If the format cannot represent the model.
    MissingDependencyError
        If the program that runs the file is not installed.
    OutputError
        If the file cannot be written, or disagrees with the model.

    Examples
    --------
    >>> import tempfile
    >>> from kanlens.model._network import KAN
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = export(KAN([2, 3, 1]), Path(folder) / "model.py")
    >>> result.format, result.error < 1e-10
    ('numpy', True)
    """
    kan = check_model("export", model)
    if kan.dtype not in TOLERANCE:
        expected, advice = "a model in float64 or float32", "Convert it with model.double()"
        raise DTypeError("export", expected, str(kan.dtype), advice)
    endings = {form.ending: name for name, form in FORMATS.items()}
    name = endings.get(ending_of(path), ending_of(path)) if to is None else to
    check_choice("export", "format", name, FORMATS)
    chosen = FORMATS[name]
    if explain and not chosen.explains:
        names = [form.name for form in FORMATS.values() if form.explains]
        expected = f"a format that explains ({', '.join(names)})"
        raise InvalidValueError("export", expected, repr(name), "Leave out {explain}", explain=True)
    if interval is not None and (kan.task == "classification" or not chosen.predicts):
        kinds = ", ".join(form.name for form in FORMATS.values() if form.predicts)
        expected = f"a regression model and one of the formats {kinds} for intervals"
        got = f"a {kan.task} model and {name!r}"
        raise InvalidValueError("export", expected, got, "Leave out {interval}", interval=None)
    options: dict[str, Any] = {"table": table, "keep": tuple(keep), "interval": interval}
    subject = Export(model=kan, path=Path(path), explain=explain, **options)
    with atomic_write(path, call="export", ending=chosen.ending) as temporary:
        chosen.write(subject, temporary)
        return _checked(subject, chosen, temporary)


def _checked(subject: Export, chosen: Format, temporary: Path) -> Exported:
    """Run a file and compare it with the model; raise if they disagree."""
    model = subject.model if chosen.single else subject.exact
    wanted, most = predicted(model, subject.rows), TOLERANCE[model.dtype]
    real = np.isfinite(wanted).all(1)
    if not real.mean() > 0.5:
        refuse("finite outputs on most rows", f"{real.mean():.0%} of rows", "Train it again")
    wanted = subject.predictions.of(wanted[real]) if chosen.predicts else wanted[real]
    if subject.classes and chosen.predicts:
        wanted = chances(wanted)
    errors: dict[int, float] = {}
    for values in chosen.run(subject, temporary):
        actual, right, limit, noun = values[real], wanted, most, "outputs"
        if values.ndim == 1:  # compared by the probability of the label
            picks = actual[:, None] == np.array(subject.classes, dtype=object)
            actual, right, noun = (picks * wanted).sum(1), wanted.max(1), "labels"
        elif values.ndim == 3:
            right, limit, noun = subject.scores(subject.rows[real]), max(EXPLAINED, most), "scores"
        error = _difference(actual, right)
        if not error <= limit:
            expected = f"a file for {chosen.name} within {limit:g} of the model's {noun}"
            advice = "Nothing was written; choose another format, or convert it with model.double()"
            raise OutputError("export", expected, f"{error:.2g}", advice)
        errors[values.ndim] = max(errors.get(values.ndim, 0.0), error)
    return Exported(
        path=subject.path,
        format=chosen.name,
        rows=int(real.sum()),
        error=errors[2],
        explained_error=errors.get(3),
    )


def _difference(actual: Array, wanted: Array) -> float:
    """Return the largest difference relative to the largest number, or NaN."""
    if actual.shape != wanted.shape:
        return float("nan")
    gap = np.abs(actual.astype(np.float64) - wanted).max()
    return float(gap / (np.abs(wanted).max() or 1.0))
