"""Text files: a Python module, a C99 header, and formulas for sympy and in LaTeX."""

from __future__ import annotations

import ctypes
import math
import re
import runpy
import shutil
import string
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy
from sympy import Function

from kanlens._runtime import temporary_folder
from kanlens.errors import MissingDependencyError, OutputError
from kanlens.exporters._dialects import C99, NUMPY, Layer, formula, refuse
from kanlens.exporters._exported_model import (
    Cell,
    Export,
    Format,
    blank_numbers,
    blank_texts,
    date_part,
    rendered,
)
from kanlens.functions._elementary import Array
from kanlens.splines._pieces import Index
from kanlens.symbolic._composition import Expr, compose, evaluator, feature_symbols, plain, rounded
from kanlens.symbolic._notation import formula_text, latex, latex_name, parse_formula, written

U = sympy.Symbol("u")


def _write_module(subject: Export, path: Path) -> None:
    description = subject.description
    x, y = subject.examples()
    parts = [rule.content[0] for rule in subject.rules if rule.kind == "date"]
    text = rendered(
        "module.py.j2",
        title=subject.title,
        features=list(description.features),
        outputs=subject.predictions.names,
        predictions=subject.predictions,
        picks=_literal(subject.predictions.picks),
        moves=_literal(subject.predictions.moves),
        classes=list(subject.classes),
        functions=_lambdas({name: formula(g, U) for name, g in description.functions.items()}),
        cells=_literal(subject.rules),
        blanks=blank_texts(subject.model.schema),
        dates=_lambdas({part: date_part(part, U) for part in parts}),
        fillers=_literal(subject.fillers),
        scaling=_literal(description.scaling),
        layers=_literal([_layer(layer) for layer in description.layers]),
        check_x=_literal(x),
        check_y=_literal(y),
    )
    path.write_text(text, encoding="utf-8")


def _lambdas(expressions: Mapping[str, Any]) -> str:
    """Return the source code of a dict of lambdas of u, with names as keys."""
    texts = {name: NUMPY.text(expression) for name, expression in expressions.items()}
    return f"{{{', '.join(f'{name!r}: lambda u: {text}' for name, text in texts.items())}}}"


def _layer(layer: Layer) -> list[Any]:
    """Return the arguments for the function _layer in the module."""
    pieces = layer.splines
    splines = pieces and (pieces.breaks, pieces.degree, np.concatenate(pieces.matrix))
    terms = [(t.g.name, t.inputs, t.a, t.b, t.weights) for t in layer.terms]
    return [layer.bias, splines, terms, layer.members, layer.scale, layer.shift]


def _literal(value: object) -> str:
    """Write nested arrays as Python reads them, to the last digit."""
    if isinstance(value, np.ndarray):
        return f"array({value.tolist()})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def load_module(path: Path) -> Any:
    """Return the names that a file of Python defines; no bytecode is written."""
    return SimpleNamespace(**runpy.run_path(str(path)))


def _run_module(subject: Export, path: Path) -> list[Array]:
    """Return predictions of a module for rows and raw columns, each after an empty batch."""
    module = load_module(path)
    calls = [module.predict_proba, module.predict_label] if subject.classes else [module.predict]
    inputs = subject.rows, subject.frame
    return [np.concatenate([call(x[:0]), call(x)]) for call in calls for x in inputs]


NUMPY_MODULE = Format(name="numpy", ending=".py", write=_write_module, run=_run_module)


STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def _write_c(subject: Export, path: Path) -> None:
    description, functions = subject.description, subject.description.functions
    parts = [rule.content[0] for rule in subject.rules if rule.kind == "date"]
    text = rendered(
        "header.h.j2",
        name=subject.name,
        guard=f"KANLENS_{subject.name.upper()}_H",
        title=_comment([subject.title]),
        features=_comment(description.features),
        outputs=_comment(subject.predictions.names),
        predictions=subject.predictions,
        columns=_comment([f"{name} ({kind})" for name, kind in subject.columns.items()]),
        labels=[_string(str(label)) for label in subject.classes],
        names=list(functions),
        functions={_comment([k]): C99.text(formula(g, U)) for k, g in functions.items()},
        dates={part: _date(part) for part in parts},
        layers=description.layers,
        encoded=[_feature(rule, subject) for rule in subject.rules],
        scaling=description.scaling,
        check=subject.examples(),
        array=_array,
        n_in=len(description.features),
        n_out=len(subject.predictions.names),
        n_end=len(description.outputs),
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


def _run_c(subject: Export, path: Path) -> list[Array]:
    """Compile a header without warnings, and call it."""
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        expected = "a C compiler (cc, gcc or clang)"
        raise MissingDependencyError("export", expected, "none", "Install one")
    classes, count = subject.classes, len(subject.frame)
    y = np.empty((count, len(classes or subject.predictions.names)))
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


C_HEADER = Format(name="c", ending=".h", write=_write_c, run=_run_c)


DIGITS = 15  # of the numbers in LaTeX
OPENING = r"""\documentclass{article}
\usepackage{amsmath}
\begin{document}
\allowdisplaybreaks
\begin{align*}"""
CLOSING = "\\end{align*}\n\\end{document}\n"


def _formulas(subject: Export) -> tuple[Expr, ...]:
    """Return the formula of every output; refuse splines."""
    formulas = tuple(map(plain, compose(subject.exact)))
    functions = {atom.func for formula in formulas for atom in formula.atoms(Function)}
    if count := sum(hasattr(function, "spline") for function in functions):
        edges = "1 spline" if count == 1 else f"{count} splines"
        refuse("a model without splines", edges, "Call symbolize and export its model")
    return formulas


def _held(subject: Export) -> list[str]:
    """Return the ranges that features are clipped to, as text."""
    names, (low, high) = subject.description.features, subject.description.scaling[:2]
    ends = zip(map(written, names), low.tolist(), high.tolist(), strict=True)
    return [f"{name} from {a!r} to {b!r}" for name, a, b in ends if b < np.inf or a > -np.inf]


def _write_sympy(subject: Export, path: Path) -> None:
    pairs = zip(map(written, subject.description.outputs), _formulas(subject), strict=True)
    lines = [f"{name} = {formula_text(formula, exact=True)}" for name, formula in pairs]
    head = [f"# {subject.title}", *(f"# within {text}" for text in _held(subject))]
    path.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


def _write_latex(subject: Export, path: Path) -> None:
    pairs = zip(subject.description.outputs, _formulas(subject), strict=True)
    lines = [f"{latex_name(name)} &= {latex(rounded(form, DIGITS))}" for name, form in pairs]
    head = [f"% {subject.title}", *(f"% within {text!a}" for text in _held(subject))]
    text = "\n".join([*head, OPENING, " \\\\\n".join(lines), CLOSING])
    path.write_text(text, encoding="utf-8")


def _evaluated(subject: Export, formulas: tuple[Expr, ...]) -> list[Array]:
    low, high = subject.description.scaling[:2]
    symbols = tuple(map(plain, feature_symbols(subject.exact)))
    return [evaluator(formulas, symbols)(np.clip(subject.rows, low, high))]


def _run_sympy(subject: Export, path: Path) -> list[Array]:
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [f"{written(name)} = " for name in subject.description.outputs]
    texts = map(str.removeprefix, lines[-len(heads) :], heads)
    return _evaluated(subject, tuple(map(parse_formula, texts)))


def _run_latex(subject: Export, path: Path) -> list[Array]:
    """Evaluate the formulas in sympy; the LaTeX itself is not parsed."""
    return _evaluated(subject, tuple(rounded(form, DIGITS) for form in _formulas(subject)))


SYMPY = Format(name="sympy", ending=".txt", write=_write_sympy, run=_run_sympy, predicts=False)
LATEX = Format(name="latex", ending=".tex", write=_write_latex, run=_run_latex, predicts=False)
