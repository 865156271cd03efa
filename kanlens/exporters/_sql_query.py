"""A query that predicts every row of a table."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import sympy

from kanlens._atomic_files import reason
from kanlens.exporters._dialects import MAX_CHARACTERS, SQL, Layer, Unrolled, refuse
from kanlens.exporters._exported_model import Cell, Export, Format, blank_texts, date_part
from kanlens.functions._elementary import Array


class Query(Unrolled):
    """A chain of table expressions, each with columns added."""

    dialect = SQL

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        self.columns = self.before = ", ".join(map(_quoted, columns))
        self.table = _quoted(table)
        self.parts: list[str] = []

    def define(self, names: Sequence[str], formulas: Sequence[str]) -> list[str]:
        """Add a table expression."""
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
        """Write the spline of an output by Horner's rule."""
        texts = []
        for name, powers in pieces:
            text = "0e0"
            for power in map(self.number, np.trim_zeros(powers[:, out], "b")[::-1]):
                text = power if text == "0e0" else f"({power} + {name}*{text})"
            texts += [f"{name}*{text}"] * (text != "0e0")
        return " + ".join(texts)


def _write(subject: Export, path: Path) -> None:
    schema, classes = subject.model.schema, subject.classes
    query = Query(subject.table, subject.keep or list(subject.columns))
    blanks = blank_texts(schema)
    features = query.level("x", [_feature(rule, blanks) for rule in subject.rules])
    texts, names = query.outputs(subject.description, features), list(schema.output_names)
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
    """Read a feature from a raw cell."""
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
    """Write a part of a date, an ISO 8601 text, to the second."""
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
    leaps = sum(
        sign * floor((year - wraps + half) / n) for n, sign in ((4, 1), (100, -1), (400, 1))
    )
    days = 365 * (year - wraps) + leaps + of_year - 719468
    time = (3600 * hour + 60 * minute + second) / 86400
    return SQL.text(days + time if part == "days" else date_part(part, days))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _run(subject: Export, path: Path) -> list[Array]:
    """Run a query in SQLite, and in DuckDB where it is installed."""
    query, frame = path.read_text(encoding="utf-8"), subject.frame
    more = [name for name in subject.keep if name not in subject.columns]
    rows = frame.assign(**dict.fromkeys(more, 0.0)).to_numpy(dtype=object).tolist()
    kinds = {"text": "VARCHAR", "date": "TIMESTAMP", "number": "DOUBLE"}
    types = [kinds[kind] for kind in subject.columns.values()] + ["DOUBLE"] * len(more)
    columns = [f"{_quoted(name)} {kind}" for name, kind in zip([*frame, *more], types, strict=True)]
    table, places, results = _quoted(subject.table), ", ".join("?" * len(columns)), []
    count = len(subject.classes) or len(subject.description.outputs)
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


SQL_QUERY = Format(name="sql", ending=".sql", write=_write, run=_run)
