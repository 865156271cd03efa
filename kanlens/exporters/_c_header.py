"""A C99 header that allocates nothing and needs the math library alone."""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import string
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sympy

from kanlens._runtime import temporary_folder
from kanlens.errors import MissingDependencyError, OutputError
from kanlens.exporters._cells import Cell, blank_numbers, blank_texts, date_part
from kanlens.exporters._dialects import C99, formula
from kanlens.exporters._exported_model import Export, Format, rendered
from kanlens.functions._elementary import Array
from kanlens.splines._pieces import Index

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def _write(subject: Export, path: Path) -> None:
    description, u = subject.description, sympy.Symbol("u")
    names = list(description.functions)
    parts = [rule.content[0] for rule in subject.rules if rule.kind == "date"]
    text = rendered(
        "header.h.j2",
        name=subject.name,
        guard=f"KANLENS_{subject.name.upper()}_H",
        title=_comment([subject.title]),
        features=_comment(description.features),
        outputs=_comment(description.outputs),
        columns=_comment([f"{name} ({kind})" for name, kind in subject.columns.items()]),
        labels=[_string(str(label)) for label in subject.classes],
        names=names,
        functions={_comment([k]): C99.text(formula(description.functions[k], u)) for k in names},
        dates={part: _date(part) for part in parts},
        layers=description.layers,
        encoded=[_feature(rule, subject) for rule in subject.rules],
        scaling=description.scaling,
        check=subject.examples(),
        array=_array,
        n_in=len(description.features),
        n_out=len(description.outputs),
    )
    path.write_text(text, encoding="ascii")


def _array(name: str, values: Array | Index) -> str:
    """Write a constant array."""
    kind = "double" if values.dtype.kind == "f" else "int"
    texts = [repr(value).replace("inf", "HUGE_VAL") for value in values.ravel().tolist()]
    lines = ",\n        ".join(", ".join(texts[k : k + 8]) for k in range(0, len(texts), 8))
    return f"static const {kind} {name}[{len(texts)}] = {{\n        {lines}}};"


def _date(part: str) -> tuple[list[tuple[str, str]], str]:
    """Write the code that computes a part of a date."""
    steps, (last,) = sympy.cse([date_part(part, sympy.Symbol("days"))])
    return [(str(symbol), C99.text(value)) for symbol, value in steps], C99.text(last)


def _feature(rule: Cell, subject: Export) -> str:
    """Write the code that computes a feature from raw cells."""
    cell = f"cells[{list(subject.columns).index(rule.column)}]"
    number, schema = f"{cell}.number", subject.model.schema
    marks = [f"isnan({number})", *(f"{number} == {mark}" for mark in blank_numbers(schema))]
    among = f"{subject.name}_in({cell}.text, (const char *const[]){{{{{{}}, 0}}}})".format
    blank, value = " || ".join(marks), number
    if subject.columns[rule.column] == "text":
        blank = among(", ".join(map(_string, blank_texts(schema))))
    if rule.kind == "text":
        value = among(", ".join(map(_string, rule.content))) if rule.content else "0"
    elif rule.kind == "date":
        value = f"{subject.name}_{rule.content[0]}({number})"
    return f"{blank} ? {'NAN' if math.isnan(rule.blank) else rule.blank} : {value}"


def _string(text: str) -> str:
    """Write a string of C in UTF-8."""
    plain = string.ascii_letters + string.digits + " _-.,:()"
    codes = ((chr(byte), f"\\{byte:03o}") for byte in text.encode())
    return f'"{"".join(char if char in plain else code for char, code in codes)}"'


def _comment(words: Sequence[str]) -> str:
    """Write names as ASCII text that does not end the comment."""
    text = ascii(", ".join(words))[1:-1]
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def _run(subject: Export, path: Path) -> list[Array]:
    """Compile a header without warnings, and call it."""
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        expected = "a C compiler (cc, gcc or clang)"
        raise MissingDependencyError("export", expected, "none", "Install one")
    classes, count = subject.classes, len(subject.frame)
    y = np.empty((count, len(classes or subject.description.outputs)))
    labels, cells = np.empty(count, dtype=np.intc), (_CellStruct * subject.frame.size)()
    for k, column in enumerate(subject.cells.values()):
        for row, value in enumerate(column):
            is_text = isinstance(value, str)
            number = math.nan if value is None or is_text else value
            place = row * len(subject.columns) + k
            cells[place] = _CellStruct(number, value.encode() if is_text else None)
    text = rendered(
        "rows.c.j2",
        name=subject.name,
        header=str(path.resolve()).replace("\\", "/"),
        classes=classes,
        n_in=len(subject.rules),
        n_cells=len(subject.columns),
        n_out=y.shape[1],
    )
    with temporary_folder() as folder:
        library, source = folder / "model.so", folder / "model.c"
        source.write_text(text, encoding="utf-8")
        flags = [*STRICT, "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
        done = subprocess.run([compiler, *flags], check=False, capture_output=True, text=True)
        if done.returncode:
            got = next(filter(re.compile("error").search, done.stderr.splitlines()), "none")
            raise OutputError("export", "a header that compiles", got, "Choose another format")
        places = (ctypes.c_void_p(array.ctypes.data) for array in (y, labels))
        ctypes.CDLL(str(library)).run(count, cells, *places)
    return [y, *([np.array(classes, dtype=object)[labels]] if classes else [])]


class _CellStruct(ctypes.Structure):
    """A raw cell."""

    _fields_ = (("number", ctypes.c_double), ("text", ctypes.c_char_p))


C_HEADER = Format(name="c", ending=".h", write=_write, run=_run)
