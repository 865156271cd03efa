"""An Excel workbook: a row for each sample, a cell for each node, formulas that fill down."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanlens.checks import optional_module
from kanlens.exporters.dialects import EXCEL, MOST, Unrolled
from kanlens.exporters.subject import Format, Subject, refuse
from kanlens.functions.elementary import Array

LONGEST, WIDEST = 8191, 16384  # characters of a formula beside its =, columns of a sheet


def _write(subject: Subject, path: Path) -> None:
    library = optional_module("openpyxl", call="export", extra="export")
    description, letters = subject.description, library.utils.get_column_letter
    names, formulas = list(description.features), [""] * len(description.features)

    def add(name: str, terms: Sequence[str]) -> str:
        """Add a column that is a sum; one that is too long goes on in another."""
        while len(text := " + ".join(terms)) > LONGEST:
            count = int((np.cumsum([len(term) + 3 for term in terms]) < LONGEST).sum())
            terms = [add(f"{name}, part", terms[:count]), *terms[count:]]
        names.append(name)
        formulas.append(text.upper())
        return f"{letters(len(names))}#"

    def define(level: str, sums: list[list[str]]) -> list[str]:
        longest = max((len(term) for terms in sums for term in terms), default=0)
        if longest > LONGEST:
            refuse(f"terms of at most {LONGEST} characters", str(longest), "Symbolize it again")
        return [add(f"{level}{k}", terms) for k, terms in enumerate(sums)]

    places = [f"{letters(k + 1)}#" for k in range(len(names))]
    unrolled = Unrolled(dialect=EXCEL, define=define)
    for name, terms in zip(description.outputs, unrolled.outputs(description, places), strict=True):
        add(name, terms)
    if sum(map(len, formulas)) > MOST:
        got = str(sum(map(len, formulas)))
        refuse(f"formulas of at most {MOST} characters", got, "Prune the model first")
    if len(names) + len(description.outputs) > WIDEST:
        refuse(f"a model of at most {WIDEST} columns", str(len(names)), "Prune the model first")
    book = library.Workbook()
    sheet = book.active
    sheet.title = "model"
    head = [*names, *(f"{name} (model)" for name in description.outputs)]
    sheet.append(["".join(filter(str.isprintable, name)) for name in head])
    for cell in sheet[1]:
        cell.data_type = "s"  # a name that begins with = is no formula
    for row, (x, y) in enumerate(zip(*subject.shown(), strict=True), start=2):
        body = [f"={text.replace('#', str(row))}" for text in formulas if text]
        sheet.append([*x.tolist(), *body, *y.tolist()])
    book.save(path)


def _run(subject: Subject, path: Path) -> list[Array]:
    """Evaluate the formulas of the first row at every row, cell by cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = optional_module("formulas", call="export", extra="export").Parser()
    library = optional_module("openpyxl", call="export", extra="export")
    second = library.load_workbook(path).active[2]
    texts = {cell.coordinate: cell.value for cell in second}
    cells = dict(zip(texts, subject.rows.T[:, :, None], strict=False))
    for place, text in texts.items():
        if isinstance(text, str):
            function = call = parser.ast(text)[1].compile()
            if "ERF" in text:  # which is not evaluated at arrays
                call = np.vectorize(function, otypes=[object])
            cells[place] = call(*(cells[name] for name in function.inputs))
    values = [_numbers(cells[place]) for place, text in texts.items() if isinstance(text, str)]
    return [np.stack(values[-len(subject.description.outputs) :], axis=1)]


def _numbers(column: Any) -> Array:
    """Return a column of cells with NaN for errors."""
    cells = np.asarray(column, dtype=object).ravel()
    return np.array([np.nan if isinstance(cell, str) else float(cell) for cell in cells])


WORKBOOK = Format(name="excel", ending=".xlsx", write=_write, run=_run)
