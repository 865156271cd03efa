"""The order of layers, and of functions without tensors between them."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from torch import Tensor, nn

from kanlens.errors import InvalidValueError
from kanlens.io.importers._intermediate import Stage, elementwise
from kanlens.io.importers._settings import (
    ImportOptions,
    activation_name,
    children,
    class_of,
    listed_names,
    refuse,
)
from kanlens.io.importers._source import Origin

# a layer's name and None; or another name, and its module or the name of a function
Entry = tuple[str, Any]

INDEXED = re.compile(r"(?:(.*)\.)?([0-9]{1,6})((?:\.[A-Za-z_]\w*)*)")
HEADS = ("softmax", "logsoftmax", "log_softmax")  # left out: outputs are logits
_SILENT = ("dropout", "dropout1d", "alphadropout", "identity", "flatten")  # no effect in eval mode


def join(parent: str, name: str) -> str:
    """Join a parent's name and a name in a state dict by a dot."""
    return f"{parent}.{name}" if parent else name


def stem_of(parent: str) -> str:
    """Return "model.layers" of "model.layers.0"."""
    part = INDEXED.fullmatch(parent)
    return (part[1] or "") if part else parent


def names_below(source: Origin, head: str) -> list[str]:
    """Return the names of the children of `head` that have tensors, in order."""
    start = join(head, "")
    keys = (key.removeprefix(start) for key in source.state if key.startswith(start))
    return list(dict.fromkeys(key.partition(".")[0] for key in keys))


def in_order(
    layers: list[str], norms: list[str], source: Origin, options: ImportOptions
) -> list[Entry]:
    """Return layers, norms and functions in order: by numbers, by the module, or by a setting."""
    places: dict[str, int] = {}
    for place, key in enumerate(source.state):
        for length in range(key.count(".") + 1):
            places.setdefault(".".join(key.split(".")[:length]), place)
    parents = sorted((*layers, *norms), key=places.__getitem__)
    options.used.add("layers")
    if setting := options.settings.get("layers"):
        return _listed(listed_names(setting), layers, parents, source, options)
    parts = {parent: INDEXED.fullmatch(parent) for parent in parents}
    if len(parts) == 1 and None in parts.values():
        return [(parents[0], None)]
    heads = {part[1] if part else parent.rpartition(".")[0] for parent, part in parts.items()}
    if None in parts.values() or len(heads) > 1:
        return _named(parents, layers, norms, source, heads)
    head = heads.pop() or ""
    return _numbered(head, {p: int(part[2]) for p, part in parts.items() if part}, source)


def _numbered(head: str, numbers: dict[str, int], source: Origin) -> list[Entry]:
    """Return layers and numbered modules without tensors in the order of their numbers."""
    last, taken = max(numbers.values()), {*numbers.values()}
    entries, index = [(number, (parent, None)) for parent, number in numbers.items()], 0
    while index <= last or source.owner(join(head, str(index))) is not None:
        module = None if index in taken else source.owner(join(head, str(index)))
        if module is not None:
            entries.append((index, (join(head, str(index)), module)))
            taken.add(index)
        index += 1
    if len(taken) <= last:
        got = ", ".join(str(number) for number in sorted(taken)[:8])
        expected = f"layers in {source.name} to be numbered from 0 without gaps"
        order = ",".join(str(i) if i in taken else "tanh" for i in range(min(last + 1, 64)))
        advice = "Pass {layers} if tanh stands there, or dropout or another function"
        refuse(expected, got, advice, layers=order)
    return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]


def _listed(
    names: list[str], layers: list[str], parents: list[str], source: Origin, options: ImportOptions
) -> list[Entry]:
    """Return the entries of the setting `layers`."""
    above = [stem.rpartition(".")[0].replace(".", "/") for stem in layers]
    base = posixpath.commonpath(above).replace("/", ".")
    entries = list[Entry]()
    for name in names:
        full = join(base, name)
        members = [p for p in parents if p in (name, full) or p.startswith(f"{full}.")]
        module = source.owner(full)
        between = (full, name if module is None else module)
        entries += [(member, None) for member in members] or [between]
    listed = {name for name, _ in entries}
    if missing := [name for name in layers if name not in listed]:
        expected = f"to list every layer in {source.name}"
        refuse(expected, f"a list without {missing[0]!r}", "Add it", argument="layers")
    if left := [name for name in parents if name not in listed]:
        options.notes[f"{', '.join(left)} left out"] = None
    return entries


def _named(
    parents: list[str], layers: list[str], norms: list[str], source: Origin, heads: set[str]
) -> list[Entry]:
    """Return named layers in the order of a module in memory, or raise."""
    head = min(heads)
    siblings = len({stem_of(parent).rpartition(".")[0] for parent in parents}) == 1
    numbers = [parent.rpartition(".")[2] for parent in parents]
    names = names_below(source, head) if len(heads) == 1 else []
    if siblings and norms and len(heads) == 2 and all(map(str.isdecimal, numbers)):
        pairs = zip(numbers, parents, strict=True)  # a norm comes before its layer
        order = sorted(pairs, key=lambda pair: (int(pair[0]), pair[1] in layers))
        head, names = "", [parent for _, parent in order]
    live = isinstance(source.module, nn.Module)  # which is compared
    if live and len(heads) == 1:
        names = list(children(source.owner(head), "_modules"))
    full = [join(head, name) for name in names]
    if not (live and set(parents) <= set(full)):
        shown = ", ".join(repr(parent) for parent in sorted(parents)[:4])
        got = f"layers {shown}{', ...' if len(parents) > 4 else ''}"
        advice = "Pass the part that is one KAN, or its layers in order in an nn.Sequential"
        if names:
            advice = "Pass {layers} if that is their order, with nothing between"
        refuse(f"one KAN in {source.name}", got, advice, layers=",".join(names))
    return [(name, None if name in parents else source.owner(name)) for name in full]


def function_between(entry: Entry, like: Tensor, width: int, source: Origin) -> list[Stage]:
    """Return the stages for a module without tensors, or a function."""
    name, module = entry
    kind = module if isinstance(module, str) else class_of(module)
    try:
        silent = kind.lower() in _SILENT
        return [] if silent else [elementwise(name, activation_name(module), width, like)]
    except InvalidValueError:
        expected = f"only activations, Dropout, Identity or Flatten between layers of {source.name}"
        advice = "Name a registered function in its place in layers, or pass the part that is a KAN"
        refuse(expected, f"{kind[:40]} as {name[:40]}", advice)
