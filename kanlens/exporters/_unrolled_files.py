"""Formulas without loops: a query that predicts every row of a table, and an Excel workbook.

The workbook has a sheet with a row for each sample and a column for each node, and one of weights.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import openpyxl
import openpyxl.utils
import sympy
from openpyxl.worksheet.worksheet import Worksheet

from kanlens._atomic_files import reason
from kanlens._checks import optional_module
from kanlens.exporters._dialects import EXCEL, MAX_CHARACTERS, SQL, Layer, Unrolled, refuse
from kanlens.exporters._exported_model import Cell, Export, Format, blank_texts, date_part
from kanlens.functions._elementary import Array


class Query(Unrolled):
    """Builder of a query: a chain of common table expressions that add columns."""

    dialect = SQL

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.columns = self.before = ", ".join(map(_quoted, columns))
        self.table = _quoted(table)
        self.parts: list[str] = []

    def define(self, names: Sequence[str], formulas: Sequence[str]) -> list[str]:
        """Add a table expression with these columns."""
        names = [f"kan_{name}" for name in names]
        if formulas:
            self.parts.append(f"({self.select(names, formulas)})")
            self.before = "*"
        return names

    def select(self, names: Sequence[str], formulas: Sequence[str]) -> str:
        """Write a selection from the last table expression."""
        pairs = ", ".join(f"{text} AS {name}" for name, text in zip(names, formulas, strict=True))
        source = f"kan{len(self.parts) - 1}" if self.parts else self.table
        return f"SELECT {self.before}, {pairs}\nFROM {source}"

    def sums(self, index: int, layer: Layer, inputs: Sequence[str]) -> list[str]:
        """Add the sums of a layer; proportional curves of an input are written once."""
        sums: list[list[str]] = [[self.number(bias)] for bias in layer.bias]
        for weights, names in self._curves(index, layer, inputs):
            for out in np.flatnonzero(weights.any(0)):
                rows = zip(weights[:, out], names, strict=True)
                texts = [f"{self.number(weight)}*{name}" for weight, name in rows if weight]
                sums[out].append(f"({' + '.join(texts)})")  # SQLite has a limit for depth
        self.before = self.columns  # SQLite has a limit for columns, too
        return self.level(f"s{index}_", [" + ".join(texts) for texts in sums])

    def _curves(
        self, index: int, layer: Layer, inputs: Sequence[str]
    ) -> Iterator[tuple[Array, list[str]]]:
        """Add the curves of a layer; yield weights (curve, out) and names."""
        for k, terms in enumerate(layer.terms):
            texts = [f"({self.term(inputs, terms, column)})" for column in range(len(terms.inputs))]
            if np.count_nonzero(terms.weights) > len(texts):
                texts = self.level(f"g{index}_{k}_", texts)
            yield terms.weights, texts
        if layer.splines is None:
            return
        texts, pieces = self.rises(inputs, layer.splines)
        names = self.level(f"t{index}_", texts)
        curves, groups = [], []
        for in_ in sorted({in_ for in_, _ in pieces}):
            pairs = zip(names, pieces, strict=True)
            rows = [(name, powers) for name, (other, powers) in pairs if other == in_]
            picks, weights = layer.splines.combined(in_)
            curves += [self._curve(rows, out) for out in picks]
            groups.append(weights)
        shared = iter(self.level(f"c{index}_", curves))
        for weights in groups:
            yield weights, list(islice(shared, len(weights)))

    def _curve(self, pieces: Sequence[tuple[str, Array]], out: int) -> str:
        """Return the spline of an output as text, by Horner's rule."""
        texts = []
        for name, powers in pieces:
            text = "0e0"
            for power in map(self.number, np.trim_zeros(powers[:, out], "b")[::-1]):
                text = power if text == "0e0" else f"({power} + {name}*{text})"
            texts += [f"{name}*{text}"] * (text != "0e0")
        return " + ".join(texts)


def _write_query(subject: Export, path: Path) -> None:
    schema, classes = subject.model.schema, subject.classes
    query = Query(subject.table, subject.keep or list(subject.columns))
    blanks = blank_texts(schema)
    features = query.level("x", [_feature(rule, blanks) for rule in subject.rules])
    texts = query.outputs(subject.description, features)
    texts, names = subject.predictions.formulas(query, texts), subject.predictions.names
    if classes:
        logits = query.level("z", [*["0e0"] * (len(texts) == 1), *texts])
        labels = [
            f"WHEN {' AND '.join(f'{z} >= {other}' for other in logits[k:])} THEN {_text(label)}"
            for k, (z, label) in enumerate(zip(logits, classes, strict=True))
        ]
        sums = [" + ".join(f"exp({other} - {z})" for other in logits) for z in logits]
        texts = [f"CASE {' '.join(labels)} END", *(f"1e0/({text})" for text in sums)]
        names = ["label", *(f"probability {label}" for label in classes)]
    query.before = query.columns
    last = query.select(list(map(_quoted, names)), texts)
    steps = ",\n".join(f"kan{k} AS MATERIALIZED {part}" for k, part in enumerate(query.parts))
    text = f"-- {subject.title}\nWITH {steps}\n{last};\n"
    if len(text) > MAX_CHARACTERS:
        expected = f"a query of at most {MAX_CHARACTERS} characters"
        refuse(expected, str(len(text)), "Prune the model first")
    path.write_text(text, encoding="utf-8")


def _feature(rule: Cell, blanks: Sequence[str]) -> str:
    """Write a feature as a formula of the raw cell."""
    cell = f"CAST({_quoted(rule.column)} AS VARCHAR)"
    value = f"CAST({_quoted(rule.column)} AS DOUBLE)"
    if rule.kind == "number":  # SQLite reads other texts as 0, or by their first digits
        value = f"CASE WHEN TRIM({cell}, ' 0123456789.eE+-') = '' THEN {value} END"
    if rule.kind == "date":
        value = f"CASE WHEN {cell} LIKE '____-__%' THEN {_date(rule.content[0], cell)} END"
    elif rule.kind == "text":
        texts = ", ".join(map(_text, rule.content))
        value = f"CASE WHEN {cell} IN ({texts}) THEN 1e0 ELSE 0e0 END" if texts else "0e0"
    texts = ", ".join(map(_text, blanks))
    blank = "NULL" if math.isnan(rule.blank) else SQL.number(rule.blank)
    return f"CASE WHEN TRIM(COALESCE({cell}, '')) IN ({texts}) THEN {blank} ELSE {value} END"


def _date(part: str, cell: str) -> str:
    """Write a part of a date from ISO 8601 text, read to the second."""
    year, month, day, hour, minute, second = (
        sympy.Symbol(f"CAST('0' || substr({cell}, {start}, {4 if start == 1 else 2}) AS DOUBLE)")
        for start in (1, 6, 9, 12, 15, 18)
    )
    parts = {"year": year, "month": month, "hour": hour + minute / 60}
    if part in parts:
        return SQL.text(parts[part])
    floor, half = sympy.floor, sympy.Rational(1, 2)
    wraps = floor((14 - month + half) / 12)  # 1 in January and February: years begin in March
    of_year = floor((153 * (month + 12 * wraps - 3) + 2 + half) / 5) + day - 1
    year -= wraps
    leaps = sum(sign * floor((year + half) / n) for n, sign in ((4, 1), (100, -1), (400, 1)))
    days = 365 * year + leaps + of_year - 719468
    time = (3600 * hour + 60 * minute + second) / 86400
    return SQL.text(days + time if part == "days" else date_part(part, days))


def _quoted(value: str | int, mark: str = '"') -> str:
    """Write a name or a text in quotes; a number without."""
    return str(value) if isinstance(value, int) else mark + value.replace(mark, 2 * mark) + mark


_text = partial(_quoted, mark="'")


def _run_query(subject: Export, path: Path) -> list[Array]:
    """Run a query in SQLite, and in DuckDB where it is installed."""
    query, frame = path.read_text(encoding="utf-8"), subject.frame
    more = [name for name in subject.keep if name not in subject.columns]
    rows = frame.assign(**dict.fromkeys(more, 0.0)).to_numpy(dtype=object).tolist()
    kinds = {"text": "VARCHAR", "date": "TIMESTAMP", "number": "DOUBLE"}
    types = [kinds[kind] for kind in subject.columns.values()] + ["DOUBLE"] * len(more)
    columns = [f"{_quoted(name)} {kind}" for name, kind in zip([*frame, *more], types, strict=True)]
    table, places, results = _quoted(subject.table), ", ".join("?" * len(columns)), []
    count = len(subject.classes or subject.predictions.names)
    names = ["sqlite3", *["duckdb"] * (importlib.util.find_spec("duckdb") is not None)]
    for engine in map(importlib.import_module, names):
        with contextlib.closing(engine.connect(":memory:")) as base:
            try:
                base.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                base.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
                cells = np.array(base.execute(query).fetchall(), dtype=object)
            except engine.Error as error:
                expected = f"a query that {engine.__name__} runs"
                refuse(expected, reason(error), "Prune the model first")
        results.append(cells[:, -count:].astype(np.float64))
        results += [cells[:, -count - 1]] * bool(subject.classes)
    return results


SQL_QUERY = Format(name="sql", ending=".sql", write=_write_query, run=_run_query)


MAX_FORMULA_LENGTH = 8191  # characters without the equals sign
MAX_COLUMNS = 16384  # of a sheet
EPOCH = 25569  # number of the day 1970-01-01 in a sheet
DATES = {
    "year": "YEAR({})",
    "month": "MONTH({})",
    "weekday": "WEEKDAY({},3)",
    "hour": "HOUR({0}) + MINUTE({0})/60",
    "days": f"{{}} - {EPOCH}",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that XML does not allow
_ATOM = re.compile(r"[A-Z]+2(?![\d(])|(?<![A-Z\d.])\d+\.?\d*(?:E[-+]?\d+)?")  # cells, numbers
ROW = "\0"  # placeholder of the row number in formulas


class Sheet(Unrolled):
    """Builder of a workbook: columns of its first sheet, rows of its sheet of weights."""

    dialect = EXCEL

    def __init__(self, columns: Sequence[str], letters: Callable[[int], str]) -> None:
        self.letters = letters
        self.names = list(columns)
        self.formulas: list[str] = []
        self.weights: list[list[Any]] = []  # name, bias, weights in the columns of the terms

    def define(self, names: Sequence[str], formulas: Sequence[str]) -> list[str]:
        """Add a named column for each formula; return references to their cells."""
        longest = max(map(len, formulas), default=0)
        if longest > MAX_FORMULA_LENGTH:
            expected = f"terms of at most {MAX_FORMULA_LENGTH} characters"
            refuse(expected, str(longest), "Use another format")
        start = len(self.names)
        self.names += names
        self.formulas += formulas
        return [self.letters(start + k + 1) + ROW for k in range(len(names))]

    def sums(self, index: int, layer: Layer, inputs: Sequence[str]) -> list[str]:
        """Add the terms and the sums of a layer."""
        start, rows = len(self.names), [np.zeros((0, len(layer.bias)))]
        if layer.splines:
            texts, pieces = self.rises(inputs, layer.splines)
            names = power = self.level(f"t{index}_", texts)
            for k, weights in enumerate(np.stack([row for _, row in pieces], axis=1)):
                if k:
                    texts = [f"{a}*{b}" for a, b in zip(names, power, strict=True)]
                    power = self.level(f"t{index}^{k + 1}_", texts)
                rows.append(weights)
        for k, terms in enumerate(layer.terms):
            texts = [self.term(inputs, terms, column) for column in range(len(terms.inputs))]
            self.level(f"g{index}_{k}_", texts)
            rows.append(terms.weights)
        matrix = np.concatenate(rows)
        ends = [self.letters(k) for k in (start + 1, len(self.names))]
        texts = []
        for out, bias in enumerate(layer.bias.tolist()):
            empty = [None] * (start - 2)
            self.weights.append([f"s{index}_{out}", bias, *empty, *matrix[:, out].tolist()])
            row = len(self.weights) + 1
            block, weights = (":".join(f"{end}{at}" for end in ends) for at in (ROW, f"${row}"))
            product = f" + SUMPRODUCT({block},weights!{weights})" if len(matrix) else ""
            texts.append(f"weights!$B${row}{product}")
        return self.level(f"s{index}_", texts)

    def feature(self, rule: Cell, place: str, blanks: Sequence[str]) -> str:
        """Write a feature as a formula of the raw cell `place`."""
        value = " + ".join(["0", *(f"EXACT({place},{_quoted(text)})" for text in rule.content)])
        if rule.kind != "text":
            value = DATES.get(rule.content[0], "{0}*1").format(place)
        blank = "NA()" if math.isnan(rule.blank) else self.number(rule.blank)
        tests = " + ".join(f"(TRIM({place})={_quoted(text)})" for text in blanks)
        return f"IF({tests},{blank},{value})"

    def classify(self, labels: Sequence[str | int], logits: Sequence[str]) -> None:
        """Add columns of the predicted label and of the probability of each class."""
        if len(logits) == 1:
            logits = self.level("z", ["0", logits[0]])
        places = f"{logits[0]}:{logits[-1]}"
        largest = f"MAX({places})"
        label = f"INDEX({{{','.join(map(_quoted, labels))}}},MATCH({largest},{places},0))"
        chances = [f"EXP({z} - {largest})/SUMPRODUCT(EXP({places} - {largest}))" for z in logits]
        self.define(["label", *(f"probability {label}" for label in labels)], [label, *chances])


def _write_workbook(subject: Export, path: Path) -> None:
    sheet = Sheet(list(subject.columns), openpyxl.utils.get_column_letter)
    places = {name: sheet.letters(k + 1) + ROW for k, name in enumerate(subject.columns)}
    features = [f"{name} (feature)" for name in subject.description.features]
    blanks = blank_texts(subject.model.schema)
    texts = [sheet.feature(rule, places[rule.column], blanks) for rule in subject.rules]
    outputs = sheet.outputs(subject.description, sheet.define(features, texts))
    outputs = subject.predictions.formulas(sheet, outputs)
    logits = sheet.define(subject.predictions.names, outputs)
    if subject.classes:
        sheet.classify(subject.classes, logits)
    size, width = sum(map(len, sheet.formulas)), len(sheet.names) + len(outputs)
    if size > MAX_CHARACTERS:
        expected = f"formulas of at most {MAX_CHARACTERS} characters"
        refuse(expected, str(size), "Prune the model first")
    if width > MAX_COLUMNS:
        refuse(f"a model of at most {MAX_COLUMNS} columns", str(width), "Prune the model first")
    book = openpyxl.Workbook()
    page = cast(Worksheet, book.active)
    page.title = "model"
    _fill(page, subject, sheet)
    weights = book.create_sheet("weights")
    for row in [["node", "bias"], *sheet.weights]:
        weights.append(row)
    book.save(path)


def _fill(page: Worksheet, subject: Export, sheet: Sheet) -> None:
    """Write names, and a few rows with the outputs of the model."""
    outputs = [f"{name} (model)" for name in subject.predictions.names]
    samples = subject.frame.iloc[subject.shown].to_numpy().tolist()
    rows: list[list[Any]] = [[*sheet.names, *outputs]]
    for number, (cells, y) in enumerate(zip(samples, subject.examples()[1], strict=True), start=2):
        formulas = [f"={text.replace(ROW, str(number))}" for text in sheet.formulas]
        rows.append([*cells, *formulas, *y.tolist()])
    for number, row in enumerate(rows, start=1):
        page.append([_CONTROL.sub("", value) if isinstance(value, str) else value for value in row])
        for cell in page[number][: len(row) if number == 1 else len(subject.columns)]:
            if cell.data_type == "f":  # a text that begins with = is not a formula
                cell.data_type = "s"


class _Row:
    """The formulas of one row, evaluated at every row: columns (batch, 1)."""

    def __init__(self, weights: Worksheet, columns: list[Array]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.parser = optional_module("formulas", call="export", extra="export").Parser()
        self.tools = openpyxl.utils
        self.weights, self.columns = weights, columns
        self.compiled: dict[str, Any] = {}

    def add(self, text: str) -> None:
        """Evaluate a formula; those that differ only in cells and numbers are compiled once."""
        atoms: dict[str, str] = {}
        if not re.search(r'["!:]', text):
            name = self.tools.get_column_letter
            text = _ATOM.sub(
                lambda match: atoms.setdefault(match[0], f"{name(len(atoms) + 1)}1"), text
            )
        places = {place: atom for atom, place in atoms.items()}
        if text not in self.compiled:
            self.compiled[text] = self.parser.ast(text)[1].compile()
        function, count = self.compiled[text], len(self.columns[0])
        inputs = [self.block(places.get(place, place)) for place in function.inputs]
        if not re.search(r"ERF|YEAR|MONTH|HOUR|:", text):
            values = np.asarray(function(*inputs), dtype=object)
        else:  # functions of single cells
            rows = [[x[[k]] if len(x) > 1 else x for x in inputs] for k in range(count)]
            values = np.array([np.ravel(function(*row))[:1] for row in rows], dtype=object)
        self.columns.append(np.broadcast_to(values, (count, 1)))

    def block(self, place: str) -> Array:
        """Return a number, or the cells in the range `place`."""
        if place[0].isdigit():
            return np.array([[float(place)]])
        bounds: Any = self.tools.range_boundaries(place.split("!")[-1])
        left, top, right, bottom = bounds
        if "!" not in place:
            return np.concatenate(self.columns[left - 1 : right], axis=1)
        return np.array([*self.weights.iter_rows(top, bottom, left, right, values_only=True)])


def _run_workbook(subject: Export, path: Path) -> list[Array]:
    """Evaluate the formulas of the first row at every row, cell by cell."""
    book, columns = openpyxl.load_workbook(path), []
    for name, kind in subject.columns.items():
        shift = "" if kind == "text" else EPOCH if kind == "date" else 0.0
        cells = [["" if cell is None else cell + shift] for cell in subject.cells[name]]
        columns.append(np.array(cells, dtype=object))
    row = _Row(book["weights"], columns)
    for cell in book["model"][2][len(columns) :]:
        if cell.data_type == "f":
            row.add(str(cell.value))
    count = len(subject.classes or subject.predictions.names)
    values = np.concatenate(columns[-count:], axis=1)
    values = np.where(np.vectorize(isinstance)(values, str), np.nan, values).astype(np.float64)
    return [values, *([columns[-count - 1][:, 0]] if subject.classes else [])]


WORKBOOK = Format(name="excel", ending=".xlsx", write=_write_workbook, run=_run_workbook)
