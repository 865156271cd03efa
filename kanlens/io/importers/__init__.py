"""Models of other libraries: recognized by their tensors, rebuilt as a KAN.

One file per library, each with layouts, listed in `IMPORTERS`.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from kanlens.checks import check_choice
from kanlens.data.schema import Task
from kanlens.errors import FileFormatError, InvalidValueError, KanlensError, ShapeError, rewording
from kanlens.io.checkpoint import FORMAT, load
from kanlens.io.importers import jax_kan, polynomials, pykan, series, splines
from kanlens.io.importers.containers import located
from kanlens.io.importers.layouts import Layout
from kanlens.io.importers.live import check_live
from kanlens.io.importers.order import INDEXED, join, names_below, stem_of
from kanlens.io.importers.rows import Remake, adopted, check_data, is_tabular, training_data
from kanlens.io.importers.settings import CALL, ImportOptions, listed_names, refuse
from kanlens.io.importers.source import Origin, sources
from kanlens.io.tensor_files import check_file, first_bytes, printable, read_metadata
from kanlens.model.analysis import HasNetwork, held_network
from kanlens.model.network import KAN
from kanlens.model.soundness import check_sound

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.data.tables import Table

    TrainingData: TypeAlias = Table | tuple[Any, Any] | str | os.PathLike[str] | pd.DataFrame

IMPORTERS = (
    *(*pykan.LAYOUTS, *series.LAYOUTS, *polynomials.LAYOUTS, *jax_kan.LAYOUTS, *splines.LAYOUTS),
)
"""Libraries that are recognized, the more special layouts first."""
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
    """Make a KAN of a trained model of another library; it is recognized by its tensors.

    Files are read as data: nothing in them is imported or run. A pickled module is read for its
    tensors and hyper-parameters; a live one is run once, and must compute what is made of it. With
    the data it was trained on, the model also knows what `fit` would have told it: names, units and
    kinds, task and classes, statistics of every layer, and background rows.

    Parameters
    ----------
    source : str or path, nn.Module, or mapping
        A file of ``torch.save``, be it of a state dict, of a module or of Lightning; a .safetensors
        file; a .keras file; one of pykan's three files, or what their names begin with; a trained
        module, or model of jaxKAN; a state dict, or arrays in dicts. Dicts around a state dict are
        looked through, and any prefix of its names is fine. A kanlens checkpoint is loaded; a KAN,
        or that of a fitted estimator, is copied. Layers of your own have a method `to_kanlens` that
        returns a layer of kanlens with their numbers.
    submodule : str, optional
        The part of a larger model to import, as `list_kans` names it.
    base_activation : str, type or callable, optional
        The function beside the splines, one of the catalog or of `register_function`. Default: the
        module's. A state dict does not tell: the library's default is assumed, `data` test it, and
        the attribute `provenance` of the result says so.
    extrapolation : {"linear", "zero"}, optional
        What splines do outside the grid; by default the library's way: "zero" for efficient-kan.
        In a state dict of kanlens' own layers, known by their masks, "linear".
    feature_names, output_names : sequence of str, optional
        Default x1, x2, ... and y, or y1, y2, ... Beside a path or DataFrame, `feature_names` are
        its feature columns, in the order of the inputs. The outputs of a classifier may be named by
        its classes; without, these are in sorted order.
    data : Table, (x, y), path or DataFrame, optional
        The rows it was trained on, or rows like them. With targets, each base activation is tried
        where none is known; the one that fits clearly best is taken.
    target : str or sequence of str, optional
        Target columns of a path or DataFrame. Default: those named like the outputs, if any.
    task : {"regression", "classification"}, optional
        What the target holds. Default: found out as `read_table` does.
    **settings
        What the tensors of some libraries do not say: `spline_order`, `grid_range`, `spline_width`,
        `mult_arity`, `layer_norm`, `denominator`, `wavelet`, `polynomials`, `a`, `b`, `alpha`,
        `beta`, `layers`, `layer_type`. What is needed and not given is asked for, with the
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
        If the source is none of these, its tensors are incomplete, do not fit together or can be of
        no network (NaN, knots that do not rise, a scale of 0, a mask neither 0 nor 1), or if the
        data do not fit the model.

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
        lines = [model.provenance, f"{facts} assumed, which no tensor tells" if facts else ""]
        model.provenance = "; ".join(line for line in (*lines, *options.notes) if line)
    return model


def _read(source: Any, options: ImportOptions, part: str | None) -> tuple[KAN, Remake | None]:
    """Return a copied, loaded or converted model, and a function that converts it again."""
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
    importer, found = _recognized(_parts(sources(source), part))

    def remake(options: ImportOptions) -> KAN:
        model = _converted(importer, found, options)
        check_sound(CALL, model, InvalidValueError)
        model.provenance = f"{importer.library}, imported from {found.name}"
        return model

    model = remake(options)
    _check_source(importer, found, model, options)
    options.refuse_unused(importer.library)
    return model, remake


_OTHERS = {  # classes of the libraries that compute something else with the same tensors
    "KAT_Group_Torch": "Its denominators have no absolute values; train it with KAT_Group",
}


def _check_source(importer: Layout, found: Origin, model: KAN, options: ImportOptions) -> None:
    """Refuse a live module with other outputs, and classes that nothing vouches for."""
    live = getattr(found.module, "__dict__", {}).get("live")  # what was given where it was changed
    if live is None and isinstance(found.module, nn.Module):
        live = found.module
    compared = False
    if live is not None:
        if options.extrapolation is not None:
            plain = dataclasses.replace(options.trial(), extrapolation=None)
            model = _converted(importer, found, plain)
        compared = check_live(live, model, importer.tolerance, options)
    options.used.add("classes")
    accepted = listed_names(options.settings.get("classes", ""))
    for place, path in options.strangers.items():
        kind = printable(path)[:80]
        name = kind.rpartition(".")[2]
        if compared or (name in accepted and name not in _OTHERS):
            continue
        got = f"{kind} as {place!r}" if place else f"the class {kind}"
        asked = "Pass {classes} if its forward is the library's, or submodule for a part"
        advice = _OTHERS.get(name, asked)
        refuse(f"classes of {importer.library} in {found.name}", got, advice, classes=name)
    if not compared:
        options.assume("forward", importer.library)


def _converted(importer: Layout, found: Origin, options: ImportOptions) -> KAN:
    """Make a KAN; what goes wrong is the tensors' fault."""
    try:
        return importer.convert(found, options)
    except KanlensError:
        raise
    except _UNFITTING as error:
        expected = f"tensors of {importer.library} that fit together in {found.name}"
        reason, advice = printable(str(error))[:120], "Save the model again"
        raise ShapeError(CALL, expected, reason, advice) from error


def _parts(found: list[Origin], part: str | None) -> list[Origin]:
    """Return the parts of that name, which there must be."""
    if part is None:
        return found
    below = [one.below(part) for one in found]
    if not any(one.state for one in below):
        known = {key.partition(".")[0]: None for one in found for key in one.state}
        expected = f"to be a name in front of tensors ({', '.join(list(known)[:8])})"
        advice = "list_kans tells the names of what can be imported"
        refuse(expected, repr(part), advice, argument="submodule")
    return below


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundKAN:
    """A network found in a file or module.

    Attributes
    ----------
    name : str
        Of the submodule that is one; empty for all that was given.
    library : str
        Whose layout its tensors have.
    widths : tuple of int
        Number of features, of nodes of each hidden layer, and of outputs; empty where it cannot be
        imported as it is, for `reason`.
    """

    name: str
    library: str
    widths: tuple[int, ...] = ()
    reason: str = ""


def list_kans(source: Any) -> list[FoundKAN]:
    """List the Kolmogorov-Arnold networks in a file, module or state dict.

    Parameters
    ----------
    source : str or path, nn.Module, or mapping
        As for `import_model`, whose `submodule` takes the names.

    Examples
    --------
    >>> import torch
    >>> parts = {"body": torch.nn.Linear(3, 3), "head": KAN([3, 2, 1])}
    >>> [(one.name, one.widths) for one in list_kans(torch.nn.ModuleDict(parts))]
    [('head', (3, 2, 1))]
    """
    found: dict[tuple[int, str], FoundKAN] = {}
    for index, one in enumerate(sources(held_network(CALL, source))):
        taken: set[str] = set()
        for known in IMPORTERS:
            for name, keys in _networks(known, one).items():
                if not keys & taken and (index, name) not in found:
                    parts = [_listed(known, one, name)]
                    if not parts[0].widths:  # as the kernels of a convolution
                        parts = _apart(known, one, name) or parts
                    found |= {(index, part.name): part for part in parts}
                taken |= keys
    return list(found.values())


def _networks(known: Layout, source: Origin) -> dict[str, set[str]]:
    """Return the names of networks of one library, and the tensors of their layers."""
    found: dict[str, set[str]] = {}
    groups = known.groups(source.state)
    heads = Counter(parent.rpartition(".")[0] for parent in groups if stem_of(parent) == parent)
    for parent, tensors in groups.items():
        name, head = stem_of(parent).removesuffix("layers").rstrip("."), parent.rpartition(".")[0]
        if stem_of(parent) == parent and heads[head] > 1 and _listed(known, source, head).widths:
            name = head
        found.setdefault(name, set()).update(join(parent, key) for key in tensors)
    return found


def _apart(known: Layout, source: Origin, name: str) -> list[FoundKAN]:
    """Return the networks of one layer each below a name, where all of them can be imported."""
    parts = (INDEXED.fullmatch(parent) for parent in known.groups(source.state))
    names = [join(part[1] or "", part[2]) for part in parts if part and part[1] == name]
    kans = [_listed(known, source, part) for part in dict.fromkeys(names)]
    return kans if len(kans) > 1 and all(kan.widths for kan in kans) else []


def _listed(known: Layout, source: Origin, name: str) -> FoundKAN:
    part = source.below(name) if name else source
    reason = ""
    for settings in ({}, {"layers": names_below(part, "")}):
        try:
            model = _converted(known, part, ImportOptions(settings=settings))
            return FoundKAN(name=name, library=known.library, widths=model.widths)
        except KanlensError as error:
            reason = reason or str(error)
    return FoundKAN(name=name, library=known.library, reason=reason)


def _refuse_options(options: ImportOptions) -> None:
    if options.given:
        expected = "no options beside a kanlens model"
        got, advice = ", ".join(options.given), "The model knows these; leave them out"
        refuse(expected, got, advice)


def _recognized(candidates: list[Origin]) -> tuple[Layout, Origin]:
    """Return the one state dict that an importer knows, with that importer."""
    known = ([one for one in IMPORTERS if one.groups(source.state)] for source in candidates)
    found = [(one[0], source) for one, source in zip(known, candidates, strict=True) if one]
    if len(found) == 1:
        return found[0]
    if found:
        got = ", ".join(source.name for _, source in found[:4])
        refuse("one model", f"{len(found)} ({got})", "Pass the one to be imported")
    libraries = ", ".join(one.library for one in IMPORTERS).split(", ")
    names = ", ".join(sorted({library.split()[0] for library in libraries}, key=str.lower))
    largest = max(candidates, key=lambda source: len(source.state), default=None)
    got = "no tensors"
    if largest is not None and largest.state:
        got = f"tensors {', '.join(map(repr, list(largest.state)[:4]))}"
        got += f", ... ({len(largest.state)} in all)" if len(largest.state) > 4 else ""
    raise FileFormatError(CALL, f"a model of {names}", got, "Pass the state dict of the KAN")
