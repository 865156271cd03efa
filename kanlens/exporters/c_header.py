"""A C99 header that allocates nothing and calls the mathematical library alone."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import sympy

from kanlens.errors import MissingDependencyError, OutputError, message
from kanlens.exporters.dialects import C99, formula
from kanlens.exporters.subject import Format, Layer, Subject
from kanlens.functions.elementary import Array
from kanlens.long_work import temporary_folder
from kanlens.splines.pieces import Index

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")

_HEAD = """/* {title}.
 *
 * {name}_predict(x, y) reads the {n_in} features x, in the units of the data, one-hot features as 0
 * and 1, and writes the {n_out} outputs y, of a classifier logits:
 *   x: {features}
 *   y: {outputs}
 * {name}_check() returns the largest difference from what the model says of a few rows.
 * It allocates nothing; link with -lm.
 */
#ifndef {guard}
#define {guard}

#include <math.h>

static inline void {name}_add(double t, const double *weights, int n, double *y)
{{
    int k;
    for (k = 0; k < n; k++)
        y[k] += t * weights[k];
}}

/* Add what the pieces of one spline per output rise by, from their starts to their ends or to u. */
static inline void {name}_spline(double u, const double *breaks, int n_breaks, int degree,
                                 const double *matrix, int n, double *y)
{{
    int piece, power, last = n_breaks - 1;
    double t, p;
    if (u < breaks[0])
        {name}_add(u - breaks[0], matrix, n, y);
    if (u > breaks[last])
        {name}_add(u - breaks[last], matrix + n, n, y);
    for (piece = 0; piece < last && !(u <= breaks[piece]); piece++) {{
        t = (u > breaks[piece + 1] ? breaks[piece + 1] : u) - breaks[piece];
        for (power = 0, p = t; power < degree; power++, p *= t)
            {name}_add(p, matrix + (2 + power * last + piece) * n, n, y);
    }}
}}
"""
_FOOT = """
static inline double {name}_check(void)
{{
    double y[{n_out}], worst = 0.0;
    int row, k;
    for (row = 0; row < {n_rows}; row++) {{
        {name}_predict({name}_check_x + row * {n_in}, y);
        for (k = 0; k < {n_out}; k++)
            worst = fmax(worst, fabs(y[k] - {name}_check_y[row * {n_out} + k]));
    }}
    return worst;
}}

#endif
"""


class _Header:
    """The text of a header, and the arrays that its functions read."""

    def __init__(self, subject: Subject) -> None:
        self.name, self.description = subject.name, subject.description
        self.parts: list[str] = []

    def array(self, layer: int | str, label: str, values: Array | Index) -> str:
        """Add a constant array and return its name."""
        name = f"{self.name}_{label}{layer}"
        kind = "double" if values.dtype.kind == "f" else "int"
        texts = [repr(value).replace("inf", "HUGE_VAL") for value in values.ravel().tolist()]
        lines = ",\n    ".join(", ".join(texts[k : k + 8]) for k in range(0, len(texts), 8))
        self.parts.append(f"static const {kind} {name}[{len(texts)}] = {{\n    {lines}}};\n")
        return name

    def functions(self) -> None:
        """Add the elementary functions."""
        for k, g in enumerate(self.description.functions.values()):
            text = C99.text(formula(g, sympy.Symbol("u")))
            head = f"static inline double {self.name}_g{k}(double u) /* {_comment([g.name])} */"
            self.parts.append(f"{head}\n{{\n    return {text};\n}}\n")

    def function(self, name: str, writes: str, lines: Sequence[str]) -> None:
        """Add a function of two arrays."""
        body = "\n    ".join(["int k;", *lines])
        head = f"static inline void {self.name}_{name}(const double *{writes[0]}, double *y)"
        self.parts.append(f"{head}\n{{\n    {body}\n}}\n")

    def layer(self, index: int, layer: Layer) -> None:
        """Add one layer as a function of its inputs u that writes its nodes y."""
        n, splines = len(layer.bias), layer.splines
        array = partial(self.array, index)
        body = [f"double s[{n}];", *_loop(n, f"s[k] = {array('bias', layer.bias)}[k];")]
        if splines:
            count, stride = splines.breaks.shape[1], splines.matrix[0].size
            breaks, matrix = array("breaks", splines.breaks), array("matrix", splines.matrix)
            cuts = f"{breaks} + k * {count}, {count}, {splines.degree}"
            call = f"{self.name}_spline(u[k], {cuts}, {matrix} + k * {stride}, {n}, s);"
            body += _loop(layer.width, call)
        for k, terms in enumerate(layer.terms):
            g = list(self.description.functions).index(terms.g.name)
            a, b, weights = (array(f"{p}{k}_", getattr(terms, p)) for p in ("a", "b", "weights"))
            inner = f"{a}[k] * u[{array(f'inputs{k}_', terms.inputs)}[k]] + {b}[k]"
            call = f"{self.name}_add({self.name}_g{g}({inner}), {weights} + k * {n}, {n}, s);"
            body += _loop(len(terms.inputs), call)
        for k, members in enumerate(layer.members):
            product = " * ".join(f"s[{m}]" for m in members)
            body.append(f"y[{k}] = {product} * {float(layer.scale[k])} + {float(layer.shift[k])};")
        self.function(f"layer{index}", "u", body)

    def predict(self) -> None:
        """Add the function that scales features, calls the layers and scales outputs."""
        names = ("low", "high", "shift", "scale", "output_shift", "output_scale")
        layers, outputs = self.description.layers, len(self.description.outputs)
        low, high, shift, scale, end_shift, end_scale = (
            f"{self.array('', name, values)}[k]"
            for name, values in zip(names, self.description.scaling, strict=True)
        )
        held = f"x[k] < {low} ? {low} : x[k] > {high} ? {high} : x[k]"
        widths = [*(layer.width for layer in layers), outputs]
        body = [
            *(f"double u{k}[{width}];" for k, width in enumerate(widths)),
            *_loop(widths[0], f"u0[k] = (({held}) - {shift}) / {scale};"),
            *(f"{self.name}_layer{k}(u{k}, u{k + 1});" for k in range(len(layers))),
            *_loop(outputs, f"y[k] = u{len(layers)}[k] * {end_scale} + {end_shift};"),
        ]
        self.function("predict", "x", body)


def _loop(count: int, statement: str) -> list[str]:
    return [f"for (k = 0; k < {count}; k++)", f"    {statement}"]


def _write(subject: Subject, path: Path) -> None:
    header, description = _Header(subject), subject.description
    x, y = subject.shown()
    words = {"name": header.name, "n_in": x.shape[1], "n_out": y.shape[1], "n_rows": len(x)}
    names = {"features": _comment(description.features), "outputs": _comment(description.outputs)}
    guard, title = f"KANLENS_{header.name.upper()}_H", _comment([subject.title])
    header.parts.append(_HEAD.format(title=title, guard=guard, **words, **names))
    header.functions()
    for k, layer in enumerate(description.layers):
        header.layer(k, layer)
    header.predict()
    header.array("", "check_x", x)
    header.array("", "check_y", y)
    header.parts.append(_FOOT.format(**words))
    path.write_text("\n".join(header.parts), encoding="ascii")


def _comment(words: Sequence[str]) -> str:
    """Write names as ASCII that ends no comment and begins none."""
    text = ascii(", ".join(words))[1:-1]
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def _run(subject: Subject, path: Path) -> list[Array]:
    """Compile a header, every warning an error, and call it."""
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        text = message("export", "a C compiler (cc, gcc or clang)", "none", "Install one")
        raise MissingDependencyError(text)
    x = np.ascontiguousarray(subject.rows)
    y = np.empty((len(x), len(subject.description.outputs)))
    with temporary_folder() as folder:
        library, source = folder / "model.so", folder / "model.c"
        header = str(path.resolve()).replace("\\", "/")
        source.write_text(
            f'#include "{header}"\nvoid run(int n, const double *x, double *y);\n'
            f"void run(int n, const double *x, double *y)\n{{\n    int k;\n"
            f"    (void){subject.name}_check();\n    for (k = 0; k < n; k++)\n"
            f"        {subject.name}_predict(x + k * {x.shape[1]}, y + k * {y.shape[1]});\n}}\n"
        )
        flags = [*STRICT, "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
        done = subprocess.run([compiler, *flags], check=False, capture_output=True, text=True)
        if done.returncode:
            got = next(filter(re.compile("error").search, done.stderr.splitlines()), "none")
            expected, advice = "a header that compiles", "Choose another format"
            raise OutputError(message("export", expected, got, advice))
        ctypes.CDLL(str(library)).run(len(x), *(ctypes.c_void_p(one.ctypes.data) for one in (x, y)))
    return [y]


C_HEADER = Format(name="c", ending=".h", write=_write, run=_run)
