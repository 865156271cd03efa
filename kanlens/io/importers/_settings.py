"""Settings of a network that its file may lack, and names of modules and base functions.

Objects of a pickle are stubs (`Inert`); stubs of modules are read like modules.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

import torch
from torch import nn

from kanlens._checks import check_choice
from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import BASES, USUAL, base_name
from kanlens.functions._families import rational_name

CALL = "import_model"


def refuse(expected: str, got: str, *advice: str, argument: str = "", **settings: Any) -> NoReturn:
    """Raise InvalidValueError about an argument or a file."""
    raise InvalidValueError(CALL, expected, got, *advice, argument=argument, **settings)


class Inert:
    """A stub for the class with full name `path`: attributes without methods."""

    path = ""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)

    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(key, str):
            self.__dict__[key] = value

    def append(self, value: object) -> None:
        """Ignore an item appended while unpickling a list subclass."""

    def __repr__(self) -> str:
        return type(self).path


def path_of(value: object) -> str:
    """Return the full name of an object of a pickle or YAML, or ""."""
    if isinstance(value, str):
        return value
    kind = value if isinstance(value, type) else type(value)
    return kind.path if issubclass(kind, Inert) else ""


def class_of(module: object) -> str:
    """Return the name of a module's class, or of a class or function."""
    path = path_of(module) or getattr(module, "__name__", type(module).__name__)
    return str(path).rpartition(".")[2]


def children(module: object, name: str) -> dict[Any, Any]:
    """Return the `_modules`, `_parameters` or `_buffers` of a module."""
    parts = vars(module).get(name) if hasattr(module, "__dict__") else None
    return parts if isinstance(parts, dict) else {}


def attribute(module: object, name: str) -> Any:
    """Return an attribute or submodule of a module, or None."""
    value = getattr(module, name, None)
    return children(module, "_modules").get(name) if value is None else value


@dataclass(frozen=True)
class Setting:
    """A setting: description and test of valid values, and the usual value."""

    words: str
    holds: Callable[[Any], bool]
    usual: Any


def _real(value: Any, least: float = 0.0) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and bool(least < value < math.inf)


def _rising(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(_real(end, -math.inf) for end in value) and value[0] < value[1]


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _one_of(*names: str) -> Setting:
    return Setting(f"one of {', '.join(names)}", lambda value: value in names, names[0])


def _names(value: object) -> bool:
    return bool(value) and all(isinstance(name, str) for name in listed_names(value))


def listed_names(value: object) -> list[Any]:
    """Return the names in a list, or in a comma-separated text."""
    names = value.split(",") if isinstance(value, str) else value
    return list(names) if isinstance(names, list | tuple) else [None]


SETTINGS = {
    "spline_order": Setting("a degree from 1 to 5", _whole(1, 5), 3),
    "grid_range": Setting("two rising numbers", _rising, (-1, 1)),
    "spline_width": Setting("a positive number", _real, 4.0),
    "mult_arity": Setting("the number of factors of every product", _whole(2, 64), 2),
    "layer_norm": _one_of("keep", "exact"),
    "denominator": Setting("the width of a Gaussian, positive", _real, None),
    "wavelet": _one_of("mexican_hat", "morlet", "dog", "meyer", "shannon"),
    "polynomials": _one_of("JacobiKAN", "OrthogPolyKANs"),
    **{
        name: Setting("a number above -1", lambda value: _real(value, -1.0), usual)
        for name, usual in (("a", 1.0), ("b", 1.0), ("alpha", 3.0), ("beta", 3.0))
    },
    "layers": Setting("the names of the layers in order", _names, None),
    "classes": Setting("names of classes that compute what the library's do", _names, None),
    "layer_type": _one_of("chebyshev", "legendre"),
}
"""Keywords of `import_model` for settings that a file does not hold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportOptions:
    """Options from the caller, and records of their use."""

    base_activation: str | type[nn.Module] | Callable[..., Any] | None = None
    extrapolation: str | None = None
    feature_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    assumed: dict[str, Any] = field(default_factory=dict)  # unconfirmed defaults
    notes: dict[str, None] = field(default_factory=dict)  # sentences about the result, in order
    strangers: dict[str, str] = field(default_factory=dict)  # unknown classes by module path

    def check(self) -> None:
        """Refuse unknown settings and invalid values."""
        for name, value in self.settings.items():
            check_choice(CALL, "keyword", name, SETTINGS)
            if not SETTINGS[name].holds(value):
                words = SETTINGS[name].words
                refuse(f"to be {words}", repr(value), f"Pass {words}", argument=name)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that are set."""
        named = (name for name in vars(self) if name not in ("settings", *_RECORDS))
        return (*(name for name in named if getattr(self, name) is not None), *self.settings)

    def trial(self, **values: Any) -> ImportOptions:
        """Return options with other values and empty records."""
        base = values.pop("base_activation", self.base_activation)
        records: dict[str, Any] = {name: type(getattr(self, name))() for name in _RECORDS}
        return replace(self, base_activation=base, settings={**self.settings, **values}, **records)

    def assume(self, name: str, value: object) -> Any:
        """Record and return an unconfirmed default."""
        return self.assumed.setdefault(name, value)

    def setting(self, name: str, library: str, default: object) -> Any:
        """Return the value from the caller or the default; raise if both are missing."""
        self.used.add(name)
        setting, value = SETTINGS[name], self.settings.get(name, default)
        if not setting.holds(value):
            expected = f"{name} ({setting.words}), which the tensors of {library} do not determine"
            advice = f"Pass {{{name}}}, its default, or the value that was used"
            refuse(expected, "none", advice, **{name: setting.usual})
        return value

    def refuse_unused(self, library: str) -> None:
        """Refuse settings that a network of this library does not use."""
        for name in sorted(set(self.settings) - self.used):
            expected, got = f"no {name} with a network of {library}", repr(self.settings[name])
            refuse(expected, got, "Leave it out")

    def base(self, default: object) -> str:
        """Return the name of the caller's base function, else of the default."""
        return activation_name(default if self.base_activation is None else self.base_activation)


_RECORDS = ("used", "assumed", "notes", "strangers")
_FAMILIES = {"elu": "alpha", "leaky_relu": "negative_slope", "softplus": "beta"}
_FAMILY = re.compile(rf"({'|'.join(_FAMILIES)})\([0-9]+(\.[0-9]+)?\)")  # as "elu(0.5)"


def activation_name(source: object) -> str:
    """Return the name of a base function: a key in `BASES`, or one that `sum_of` reads."""
    source = source[:80] if isinstance(source, str) else source
    if isinstance(source, str) and _FAMILY.fullmatch(source):
        return source
    path = path_of(source) or f"{getattr(source, '__module__', '')}.{class_of(source)}"
    owner, _, name = path.lower().rpartition(".")
    name = "leaky_relu" if name == "leakyrelu" else name
    of_torch = owner.partition(".")[0] == "torch" or getattr(torch, name, None) is source
    of_jax = owner.startswith("jax.") and name != "gelu"  # which is approximated there
    parameter: Any = getattr(source, _FAMILIES.get(name, ""), None)
    plain = getattr(source, "approximate", "none") == "none"
    plain = plain and getattr(source, "threshold", USUAL["threshold"]) == USUAL["threshold"]
    changed = _real(parameter, -math.inf) and parameter != USUAL[_FAMILIES[name]]
    if of_torch and plain and changed:
        return f"{name}({float(parameter)!r})"
    if name in BASES and plain:
        named = path_of(source) or not BASES[name].torch_forms  # registered
        if of_jax or (named and (of_torch or (path_of(source) and not owner))):
            return name
    if name in SUMS and (of_jax or of_torch or not owner):
        return name
    return base_name(source, call=CALL, others=SUMS)


Terms: TypeAlias = tuple[tuple[tuple[str, float, float, float], ...], float]
SUMS: dict[str, Terms] = {
    "relu6": ((("relu", 1.0, 0.0, 1.0), ("relu", 1.0, -6.0, -1.0)), 0.0),
    "sigmoid": ((("tanh", 0.5, 0.0, 0.5),), 0.5),
    "cos": ((("sin", 1.0, math.pi / 2, 1.0),), 0.0),
    "hardsigmoid": ((("relu", 1 / 6, 0.5, 1.0), ("relu", 1 / 6, -0.5, -1.0)), 0.0),
    "logsigmoid": ((("softplus", -1.0, 0.0, -1.0),), 0.0),
    "softsign": (((rational_name([0, 1], [0, 1], even=True), 1.0, 0.0, 1.0),), 0.0),
}
"""Sums of elementary functions c g(a x + b), as (g, a, b, c), and of a constant."""


def sum_of(name: str) -> Terms | None:
    """Return the terms of a sum in `SUMS` or of a family like "elu(0.5)"."""
    family, _, number = name.rstrip(")").partition("(")
    if family not in _FAMILIES or not number:
        return SUMS.get(name)
    value = float(number)
    if family == "softplus":
        return (("softplus", value, 0.0, 1 / value),), 0.0
    left = ("x" if family == "leaky_relu" else "elu", 1.0, 0.0, value)
    return (left, ("relu", 1.0, 0.0, 1 - value)), 0.0
