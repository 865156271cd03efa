"""An Excel workbook: a row for each sample, a cell for each node, formulas that fill down."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from kanlens.checks import optional_module
from kanlens.exporters.dialects import EXCEL
from kanlens.exporters.subject import Format, Subject, refuse
from kanlens.exporters.unrolling import MOST, Unrolled
from kanlens.functions.elementary import Array

LONGEST, WIDEST = 8191, 16384  # characters of a formula beside its =, columns of a sheet
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_RELATION = (
    f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/{{}}" Target="{{}}"/></Relationships>'
)
_FILES = {  # beside the sheet
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
    f'PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/><Override '
    f'PartName="/xl/sheet.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": _RELATION.format("officeDocument", "xl/workbook.xml"),
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets><sheet name="model" '
    'sheetId="1" r:id="rId1"/></sheets><calcPr fullCalcOnLoad="1"/></workbook>',
    "xl/_rels/workbook.xml.rels": _RELATION.format("worksheet", "sheet.xml"),
}


def _write(subject: Subject, path: Path) -> None:
    description = subject.description
    names, formulas = list(description.features), [""] * len(description.features)

    def add(name: str, terms: Sequence[str]) -> str:
        """Add a column that is a sum; one that is too long goes on in another."""
        while len(text := " + ".join(terms)) > LONGEST:
            count = int((np.cumsum([len(term) + 3 for term in terms]) < LONGEST).sum())
            terms = [add(f"{name}, part", terms[:count]), *terms[count:]]
        names.append(name)
        formulas.append(text.upper())
        return f"{_letters(len(names) - 1)}#"

    def define(level: str, sums: list[list[str]]) -> list[str]:
        longest = max((len(term) for terms in sums for term in terms), default=0)
        if longest > LONGEST:
            refuse(f"terms of at most {LONGEST} characters", str(longest), "Symbolize it again")
        return [add(f"{level}{k}", terms) for k, terms in enumerate(sums)]

    places = [f"{_letters(k)}#" for k in range(len(names))]
    unrolled = Unrolled(dialect=EXCEL, define=define)
    for name, terms in zip(description.outputs, unrolled.outputs(description, places), strict=True):
        add(name, terms)
    if sum(map(len, formulas)) > MOST:
        got = str(sum(map(len, formulas)))
        refuse(f"formulas of at most {MOST} characters", got, "Prune the model first")
    if len(names) + len(description.outputs) > WIDEST:
        refuse(f"a model of at most {WIDEST} columns", str(len(names)), "Prune the model first")
    head = [*names, *(f"{name} (model)" for name in description.outputs)]
    rows = [[f"<is><t>{escape(name)}</t></is>" for name in head]]
    body = [f"<f>{escape(text)}</f>" for text in formulas if text]
    for x, y in zip(*subject.shown(), strict=True):
        given, wanted = ([f"<v>{v!r}</v>" for v in values.tolist()] for values in (x, y))
        rows.append([*given, *body, *wanted])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in {**_FILES, "xl/sheet.xml": _sheet(rows)}.items():
            book.writestr(zipfile.ZipInfo(name), f'<?xml version="1.0" encoding="UTF-8"?>\n{text}')


def _sheet(rows: Sequence[Sequence[str]]) -> str:
    """Return the sheet with these cells; # in a formula is the number of its row."""
    texts = []
    for row, cells in enumerate(rows, start=1):
        kind = ' t="inlineStr"' if row == 1 else ""
        inside = (f'<c r="{_letters(k)}{row}"{kind}>{cell}</c>' for k, cell in enumerate(cells))
        text = "".join(inside)
        texts.append(f'<row r="{row}">{text if row == 1 else text.replace("#", str(row))}</row>')
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(texts)}</sheetData></worksheet>'


def _letters(column: int) -> str:
    """Return what Excel calls a column, counted from 0."""
    before, last = divmod(column, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _run(subject: Subject, path: Path) -> list[Array]:
    """Evaluate the formulas of the first row at every row, cell by cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = optional_module("formulas", call="export", extra="export").Parser()
    with zipfile.ZipFile(path) as book:
        sheet = ElementTree.fromstring(book.read("xl/sheet.xml"))
    second = sheet.findall(f".//{{{_MAIN}}}row")[1]
    texts = {cell.get("r"): cell.findtext(f"{{{_MAIN}}}f") for cell in second}
    cells = dict(zip(texts, subject.rows.T[:, :, None], strict=False))
    for place, text in texts.items():
        if text:
            function = call = parser.ast(f"={text}")[1].compile()
            if "ERF" in text:  # which is not evaluated at arrays
                call = np.vectorize(function, otypes=[object])
            cells[place] = call(*(cells[name] for name in function.inputs))
    values = [_numbers(cells[place]) for place, text in texts.items() if text]
    return [np.stack(values[-len(subject.description.outputs) :], axis=1)]


def _numbers(column: Any) -> Array:
    """Return a column of cells with NaN for errors."""
    cells = np.asarray(column, dtype=object).ravel()
    return np.array([np.nan if isinstance(cell, str) else float(cell) for cell in cells])


WORKBOOK = Format(name="excel", ending=".xlsx", write=_write, run=_run)
