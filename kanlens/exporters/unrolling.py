"""Formulas without loops, for languages that have none: one text for every node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import sympy

from kanlens.exporters.description import Description, Layer, Splines, Terms
from kanlens.exporters.dialects import Dialect, formula
from kanlens.functions.elementary import Array

MOST = 1_000_000  # characters of all formulas: what SQLite reads where nobody has changed it


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """A description in a dialect.

    `define` is given the level of some formulas, each as the terms that it is the sum of, and
    returns the names that they can be read by from then on.
    """

    dialect: Dialect
    define: Callable[[str, list[list[str]]], list[str]]

    def outputs(self, description: Description, features: Sequence[str]) -> list[list[str]]:
        """Define all nodes, from the names of the features on; return the terms of the outputs."""
        names = self.define("u", self._scaled(features, *description.scaling[:4]))
        for index, layer in enumerate(description.layers):
            names = self.define(f"s{index}_", self._sums(names, index, layer))
            if any(len(one) > 1 for one in layer.members) or not layer.plain:
                names = self.define(f"h{index}_", self._nodes(names, layer))
        shift, scale = map(np.ndarray.tolist, description.scaling[4:])
        texts = zip(names, scale, shift, strict=True)
        return [[f"{name}*{self.number(a)}", self.number(b)] for name, a, b in texts]

    def number(self, value: float) -> str:
        """Write a number to the last digit."""
        return self.dialect.number(float(value))

    def _scaled(self, names: Sequence[str], *scaling: Array) -> list[list[str]]:
        found = []
        for name, low, high, shift, scale in zip(
            names, *map(np.ndarray.tolist, scaling), strict=True
        ):
            held = self._held(name, low, high)
            found.append([f"({held} - {self.number(shift)})/{self.number(scale)}"])
        return found

    def _held(self, text: str, low: float, high: float) -> str:
        """Hold what a text stands for between two ends, which may be infinite."""
        held = sympy.Symbol(text)
        held = sympy.Min(held, high) if high < np.inf else held
        held = sympy.Max(held, low, evaluate=False) if low > -np.inf else held
        return self.dialect.text(held)

    def _sums(self, names: Sequence[str], index: int, layer: Layer) -> list[list[str]]:
        rises = self._rises(names, index, layer.splines) if layer.splines else []
        found = []
        for out, bias in enumerate(layer.bias):
            parts = [self.number(bias)]
            for name, powers in rises:
                if powers[:, out].any():
                    parts.append(f"{name}*{self._polynomial(name, powers[:, out])}")
            parts += [text for terms in layer.terms for text in self._terms(names, terms, out)]
            found.append(parts)
        return found

    def _rises(self, names: Sequence[str], index: int, splines: Splines) -> list[tuple[str, Array]]:
        """Define how far inputs are within pieces; return names and coefficients (power, out)."""
        texts, found = [], []
        for in_, (name, breaks) in enumerate(zip(names, splines.breaks.tolist(), strict=True)):
            ends = [-np.inf, *breaks, np.inf]
            for piece, (start, end) in enumerate(pairwise(ends)):
                powers = splines.powers[in_, piece, 1:]
                if powers.any():
                    origin = start if piece else end
                    far, least = f"({name} - {self.number(origin)})", 0 if piece else -np.inf
                    texts.append([self._held(far, least, end - origin)])
                    found.append(powers)
        return list(zip(self.define(f"t{index}_", texts), found, strict=True))

    def _terms(self, names: Sequence[str], terms: Terms, out: int) -> list[str]:
        found = []
        for column in np.flatnonzero(terms.weights[:, out]):
            u, a, b = sympy.Symbol(names[terms.inputs[column]]), terms.a[column], terms.b[column]
            inner = u if (a, b) == (1, 0) else float(a) * u + float(b)
            text = self.dialect.text(formula(terms.g, inner))
            found.append(f"{self.number(terms.weights[column, out])}*({text})")
        return found

    def _polynomial(self, name: str, powers: Array) -> str:
        """Write a polynomial by Horner's rule, constant first."""
        text, *rest = map(self.number, np.trim_zeros(powers, "b")[::-1])
        for power in rest:
            text = f"({power} + {name}*{text})"
        return text

    def _nodes(self, names: Sequence[str], layer: Layer) -> list[list[str]]:
        nodes = zip(layer.members, layer.scale, layer.shift, strict=True)
        return [
            ["*".join([*(names[k] for k in members), self.number(scale)]), self.number(shift)]
            for members, scale, shift in nodes
        ]
