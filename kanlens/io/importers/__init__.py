"""Import of models of other libraries, recognized by their layouts.

To add a library, add a `Layout` to the `LAYOUTS` of its family's file; `IMPORTERS` collects them.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from kanlens._checks import check_choice
from kanlens._lazy import pd
from kanlens.data._schema import Task
from kanlens.data._tables import Table
from kanlens.errors import FileFormatError, InvalidValueError, KanlensError, ShapeError, rewording
from kanlens.io._checkpoint import FORMAT, check_file, first_bytes, load, printable, read_metadata
from kanlens.io.importers import _polynomials as polynomials
from kanlens.io.importers import _pykan as pykan
from kanlens.io.importers import _series as series
from kanlens.io.importers import _splines as splines
from kanlens.io.importers._containers import located
from kanlens.io.importers._layout import Layout
from kanlens.io.importers._order import INDEXED, join, names_below, stem_of
from kanlens.io.importers._rows import (
    Remake,
    adopted,
    check_data,
    check_live,
    is_tabular,
    training_data,
)
from kanlens.io.importers._settings import CALL, ImportOptions, listed_names, refuse
from kanlens.io.importers._source import Origin, sources
from kanlens.model._analysis import HasNetwork, check_sound, held_network
from kanlens.model._network import KAN

TrainingData: TypeAlias = "Table | tuple[Any, Any] | str | os.PathLike[str] | pd.DataFrame"

IMPORTERS = (*(*pykan.LAYOUTS, *series.LAYOUTS, *polynomials.LAYOUTS, *splines.LAYOUTS),)
"""Layouts that are recognized, more specific ones first."""
_UNFITTING = (RuntimeError, ValueError, LookupError, ArithmeticError, TypeError, MemoryError)


def import_model(
    source: str | os.PathLike[str] | nn.Module | Mapping[str, Any] | HasNetwork,
    *,
    submodule: str | None = None,
    base_activation: str | type[nn.Module] | Callable[..., Any] | None = None,
    extrapolation: str | None = None,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    data: TrainingData | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    **settings: Any,
) -> KAN:
    """Convert a trained model of another library, detected by its tensors.

    Files are read as data: nothing in them is imported or run. A module in memory is run once, and
    refused if its outputs differ from those of the result. With training data, the model also gets
    the names, units, kinds, classes, statistics and background rows that `fit` would have set.

    Parameters
    ----------
    source : str or path, nn.Module, or mapping
        A file of torch.save (state dict, module, Lightning checkpoint), a .safetensors or .keras
        file, one of pykan's three files or their common prefix; a trained module or model of
        jaxKAN; a state dict, also within dicts and under any prefix; or arrays in dicts. A kanlens
        checkpoint is loaded, a KAN or that of a fitted estimator copied. Layers of your own need a
        method `to_kanlens` that returns an equivalent `KANLinear`.
    submodule : str, optional
        The part of a larger model to import, as `list_kans` names it.
    base_activation : str, type or callable, optional
        The base function, one of the catalog or of `register_function`. Default: the module's. For
        a state dict the library's default is assumed and tested with `data`; the attribute
        `provenance` of the result records it.
    extrapolation : {"linear", "zero"}, optional
        Continuation of splines outside the grid. Default: that of the library, such as "zero" for
        efficient-kan, and "linear" for a state dict of kanlens' layers.
    feature_names, output_names : sequence of str, optional
        Default x1, x2, ... and y, or y1, y2, ... With a path or DataFrame, `feature_names` are its
        feature columns in the order of the inputs. The outputs of a classifier may be named by its
        classes, which otherwise are in sorted order.
    data : Table, (x, y), path or DataFrame, optional
        The training rows, or rows like them. With targets, an unknown base activation is chosen by
        trying each; the default is replaced if another one fits clearly better.
    target : str or sequence of str, optional
        Target columns of a path or DataFrame. Default: those named like the outputs, if any.
    task : {"regression", "classification"}, optional
        Default: inferred as by `read_table`.
    **settings
        Options that the tensors of some libraries lack: `spline_order`, `grid_range`,
        `spline_width`, `mult_arity`, `layer_norm`, `denominator`, `wavelet`, `polynomials`, `a`,
        `b`, `alpha`, `beta`, `layers`, `layer_type`; an error names those that are needed, with the
        library's default. `layers` lists the layers in order and the functions between them, as
        ``"0,tanh,2"``; `classes` names classes of your own whose forward is the library's.

    Returns
    -------
    KAN
        A copy, in the dtype and on the device of the source (the CPU for a file).

    Raises
    ------
    MissingFileError
        If there is no such file.
    FileFormatError
        If the file is truncated, would run code, or the model is not recognized.
    DataError, DTypeError, ShapeError, InvalidValueError
        If the source is of another kind, its tensors are incomplete, inconsistent or invalid (NaN,
        knots that do not increase, a scale of 0, a mask neither 0 nor 1), or if the data do not fit
        the model.

    Examples
    --------
    >>> import torch
    >>> trained = torch.nn.ModuleDict({"kan": KAN([4, 5, 1])})
    >>> import_model(trained.state_dict()).widths
    (4, 5, 1)
    """
    if extrapolation is not None:
        check_choice(CALL, "extrapolation", extrapolation, ["linear", "zero"])
    check_data(data, target, task)
    options = ImportOptions(
        base_activation=base_activation,
        extrapolation=extrapolation,
        feature_names=None if is_tabular(data) else feature_names,
        output_names=output_names,
        settings=settings,
    )
    options.check()
    model, remake = _read(held_network(CALL, source), options, submodule)
    if data is not None:
        with rewording(CALL):
            rows = training_data(model, data, target, task, feature_names)
            model = adopted(model, rows, options, remake)
    if remake is not None:
        facts = ", ".join(f"{name}={value!r}" for name, value in options.assumed.items())
        lines = [model.provenance, f"{facts} assumed (not in the tensors)" if facts else ""]
        model.provenance = "; ".join(line for line in (*lines, *options.notes) if line)
    return model


def _read(source: object, options: ImportOptions, part: str | None) -> tuple[KAN, Remake | None]:
    """Return a model and a function that converts it with other options, None for kanlens' own."""
    if isinstance(source, KAN) and part is None:
        _refuse_options(options)
        check_sound(CALL, source, InvalidValueError)
        return copy.deepcopy(source), None
    if isinstance(source, str | os.PathLike):
        path = check_file(located(source), call=CALL)
        safe = first_bytes(path)[8:] == b"{"  # a .safetensors file
        if safe and read_metadata(path, call=CALL).get("format") == FORMAT:
            _refuse_options(options)
            with rewording(CALL):
                return load(source), None
    layout, origin = _recognized(_parts(sources(source), part))

    def remake(options: ImportOptions) -> KAN:
        model = _converted(layout, origin, options)
        check_sound(CALL, model, InvalidValueError)
        model.provenance = f"{layout.library}, imported from {origin.name}"
        return model

    model = remake(options)
    _check_source(layout, origin, model, options)
    options.refuse_unused(layout.library)
    return model, remake


_OTHERS = {  # classes of the libraries that compute something else with the same tensors
    "KAT_Group_Torch": "Its denominators have no absolute values; train it with KAT_Group"
}


def _check_source(layout: Layout, origin: Origin, model: KAN, options: ImportOptions) -> None:
    """Refuse a module in memory whose outputs differ from the model's, and unknown classes."""
    live = getattr(origin.module, "__dict__", {}).get("live")  # the module before translation
    if live is None and isinstance(origin.module, nn.Module):
        live = origin.module
    compared = False
    if live is not None:
        if options.extrapolation is not None:
            plain = dataclasses.replace(options.trial(), extrapolation=None)
            model = _converted(layout, origin, plain)
        compared = check_live(live, model, layout.tolerance, options)
    options.used.add("classes")
    accepted = listed_names(options.settings.get("classes", ""))
    for place, path in options.strangers.items():
        kind = printable(path)[:80]
        name = kind.rpartition(".")[2]
        if compared or (name in accepted and name not in _OTHERS):
            continue
        got = f"{kind} as {place!r}" if place else f"the class {kind}"
        usual = "Pass {classes} if its forward is the library's, or submodule for a part"
        advice = _OTHERS.get(name, usual)
        refuse(f"classes of {layout.library} in {origin.name}", got, advice, classes=name)
    if not compared:
        options.assume("forward", layout.library)


def _converted(layout: Layout, origin: Origin, options: ImportOptions) -> KAN:
    """Make a KAN; reword unexpected errors as errors about the tensors."""
    try:
        return layout.convert(origin, options)
    except KanlensError:
        raise
    except _UNFITTING as error:
        expected = f"tensors of {layout.library} that fit together in {origin.name}"
        reason, advice = printable(str(error))[:120], "Save the model again"
        raise ShapeError(CALL, expected, reason, advice) from error


def _parts(origins: list[Origin], part: str | None) -> list[Origin]:
    """Return the state dicts of a part of the source; refuse unknown names."""
    if part is None:
        return origins
    below = [origin.below(part) for origin in origins]
    if not any(origin.state for origin in below):
        names = dict.fromkeys(key.partition(".")[0] for origin in origins for key in origin.state)
        expected = f"to be the prefix of tensor names ({', '.join(list(names)[:8])})"
        advice = "list_kans lists the names of networks"
        refuse(expected, repr(part), advice, argument="submodule")
    return below


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundKAN:
    """A network found in a file or module.

    Attributes
    ----------
    name : str
        Name of the submodule; empty for the whole source.
    library : str
        Library of the layout of its tensors.
    widths : tuple of int
        Number of features, of nodes of each hidden layer, and of outputs; empty if the network
        cannot be imported unchanged.
    reason : str
        Reason why it cannot be imported unchanged; empty if it can.
    """

    name: str
    library: str
    widths: tuple[int, ...] = ()
    reason: str = ""


def list_kans(source: object) -> list[FoundKAN]:
    """List the Kolmogorov-Arnold networks in a file, module or state dict.

    Parameters
    ----------
    source : str or path, nn.Module, or mapping
        Any source `import_model` accepts; pass a returned `name` as its `submodule`.

    Examples
    --------
    >>> import torch
    >>> parts = {"body": torch.nn.Linear(3, 3), "head": KAN([3, 2, 1])}
    >>> [(kan.name, kan.widths) for kan in list_kans(torch.nn.ModuleDict(parts))]
    [('head', (3, 2, 1))]
    """
    kans: dict[tuple[int, str], FoundKAN] = {}
    for index, origin in enumerate(sources(held_network(CALL, source))):
        taken: set[str] = set()
        for layout in IMPORTERS:
            for name, keys in _networks(layout, origin).items():
                if not keys & taken and (index, name) not in kans:
                    parts = [_listed(layout, origin, name)]
                    if not parts[0].widths:  # such as the kernels of a convolution
                        parts = _apart(layout, origin, name) or parts
                    kans |= {(index, part.name): part for part in parts}
                taken |= keys
    return list(kans.values())


def _networks(layout: Layout, source: Origin) -> dict[str, set[str]]:
    """Return the names of the tensors of each network with this layout, by the network's name."""
    networks: dict[str, set[str]] = {}
    groups = layout.groups(source.state)
    heads = Counter(parent.rpartition(".")[0] for parent in groups if stem_of(parent) == parent)
    for parent, tensors in groups.items():
        name, head = stem_of(parent).removesuffix("layers").rstrip("."), parent.rpartition(".")[0]
        if stem_of(parent) == parent and heads[head] > 1 and _listed(layout, source, head).widths:
            name = head
        networks.setdefault(name, set()).update(join(parent, key) for key in tensors)
    return networks


def _apart(layout: Layout, source: Origin, name: str) -> list[FoundKAN]:
    """Return the layers below a name as separate networks, if all can be imported."""
    parts = (INDEXED.fullmatch(parent) for parent in layout.groups(source.state))
    names = [join(part[1] or "", part[2]) for part in parts if part and part[1] == name]
    kans = [_listed(layout, source, part) for part in dict.fromkeys(names)]
    return kans if len(kans) > 1 and all(kan.widths for kan in kans) else []


def _listed(layout: Layout, source: Origin, name: str) -> FoundKAN:
    part = source.below(name) if name else source
    reason = ""
    for settings in ({}, {"layers": names_below(part, "")}):
        try:
            model = _converted(layout, part, ImportOptions(settings=settings))
            return FoundKAN(name=name, library=layout.library, widths=model.widths)
        except KanlensError as error:
            reason = reason or str(error)
    return FoundKAN(name=name, library=layout.library, reason=reason)


def _refuse_options(options: ImportOptions) -> None:
    if options.given:
        expected = "no options with a kanlens model"
        got, advice = ", ".join(options.given), "The model contains these; leave them out"
        refuse(expected, got, advice)


def _recognized(candidates: list[Origin]) -> tuple[Layout, Origin]:
    """Return the only state dict with a known layout, and the layout."""
    firsts = [next((k for k in IMPORTERS if k.groups(c.state)), None) for c in candidates]
    pairs = [(layout, origin) for layout, origin in zip(firsts, candidates, strict=True) if layout]
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        got = ", ".join(origin.name for _, origin in pairs[:4])
        refuse("one model", f"{len(pairs)} ({got})", "Pass the one to be imported")
    libraries = ", ".join(layout.library for layout in IMPORTERS).split(", ")
    names = ", ".join(sorted({library.split()[0] for library in libraries}, key=str.lower))
    largest = max(candidates, key=lambda source: len(source.state), default=None)
    got = "no tensors"
    if largest is not None and largest.state:
        got = f"tensors {', '.join(map(repr, list(largest.state)[:4]))}"
        got += f", ... ({len(largest.state)} in all)" if len(largest.state) > 4 else ""
    raise FileFormatError(CALL, f"a model of {names}", got, "Pass the state dict of the KAN")
