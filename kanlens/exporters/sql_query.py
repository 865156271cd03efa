"""A query that predicts every row of a table, with its categories, missing cells and scaling."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from kanlens.data.schema import Feature
from kanlens.exporters.dialects import MOST, SQL, Unrolled
from kanlens.exporters.subject import Format, Subject, refuse
from kanlens.functions.elementary import Array
from kanlens.outputs import reason

_TRUTH = {"True": ("true", "1"), "False": ("false", "0")}  # as databases spell what they hold


def _write(subject: Subject, path: Path) -> None:
    columns = dict.fromkeys(one.column for one in subject.model.schema.features)
    kept = ", ".join(map(_quoted, subject.keep or columns))
    parts: list[str] = []

    def define(level: str, formulas: list[list[str]]) -> list[str]:
        names = [f"kan_{level}{k}" for k in range(len(formulas))]
        before = f"{kept}, " if not parts else "*, "
        source = _quoted(subject.table) if not parts else f"kan{len(parts) - 1}"
        select = f"SELECT {before}{_columns(formulas, names)}\n  FROM {source}"
        parts.append(f"kan{len(parts)} AS MATERIALIZED ({select})")
        return names

    features = [_feature(feature) for feature in subject.model.schema.features]
    outputs = Unrolled(dialect=SQL, define=define).outputs(subject.description, features)
    last = _columns(outputs, [_quoted(name) for name in subject.model.output_names])
    steps = ",\n".join(parts)
    text = f"-- {subject.title}\nWITH {steps}\nSELECT {kept}, {last}\nFROM kan{len(parts) - 1};\n"
    if len(text) > MOST:
        refuse(f"a query of at most {MOST} characters", str(len(text)), "Prune the model first")
    path.write_text(text, encoding="utf-8")


def _columns(formulas: list[list[str]], names: list[str]) -> str:
    pairs = zip(formulas, names, strict=True)
    return ", ".join(f"{' + '.join(terms)} AS {name}" for terms, name in pairs)


def _feature(feature: Feature) -> str:
    """Read a feature from its column: NULL for a missing cell, and for a category unknown."""
    column = _quoted(feature.column)
    if feature.category is None:
        text = f"CAST({column} AS DOUBLE)"
        filler = feature.imputation
        return text if filler is None else f"COALESCE({text}, {SQL.number(float(filler))})"
    cell = f"CAST({column} AS VARCHAR)"
    if feature.imputation is not None:
        cell = f"COALESCE({cell}, {_text(feature.imputation)})"
    truth = _TRUTH if _TRUTH.keys() >= set(feature.categories) else {}
    known = {one: [one, *truth.get(one, ())] for one in feature.categories}
    one = ", ".join(map(_text, known.pop(feature.category)))
    others = ", ".join(_text(text) for texts in known.values() for text in texts)
    none = f"WHEN {cell} IN ({others}) THEN 0e0 " if others else ""
    return f"CASE WHEN {cell} IN ({one}) THEN 1e0 {none}END"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: Any) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _run(subject: Subject, path: Path) -> list[Array]:
    """Run a query in SQLite, and in DuckDB where it is installed."""
    query, columns = path.read_text(encoding="utf-8"), list(subject.frame.columns)
    more = [name for name in subject.keep if name not in columns]
    frame = subject.frame.assign(**dict.fromkeys(more, 0.0)).astype(object)
    rows = frame.where(frame.notna(), None).to_numpy().tolist()
    texts = {one.column for one in subject.model.schema.features if one.category is not None}
    kinds = [f"{_quoted(name)} {'VARCHAR' if name in texts else 'DOUBLE'}" for name in frame]
    table, places, found = _quoted(subject.table), ", ".join("?" * len(kinds)), []
    names = ["sqlite3", *["duckdb"] * (importlib.util.find_spec("duckdb") is not None)]
    for engine in map(importlib.import_module, names):
        with contextlib.closing(engine.connect(":memory:")) as base:
            try:
                base.execute(f"CREATE TABLE {table} ({', '.join(kinds)})")
                base.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
                cells = np.array(base.execute(query).fetchall(), dtype=object)
            except engine.Error as error:
                expected = f"a query that {engine.__name__} runs"
                refuse(expected, reason(error), "Prune the model first")
        found.append(cells[:, -len(subject.model.output_names) :].astype(np.float64))
    return found


SQL_QUERY = Format(name="sql", ending=".sql", write=_write, run=_run)
