"""The description of a model, and the rows that exports are compared on."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from kanlens.attribution import attribute
from kanlens.errors import MethodError
from kanlens.exporters._cells import Cell, blank_numbers, blank_texts, cell_rule, column_kinds
from kanlens.functions._elementary import Array, ElementaryFunction
from kanlens.model import kernels
from kanlens.model._analysis import float64_copy
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.model._normalization import expand_normalization
from kanlens.splines._pieces import Index

if TYPE_CHECKING:
    import pandas as pd

RANDOM = 64  # rows drawn evenly over the range of every feature, and a tenth beyond
SHOWN = 4  # rows that a file carries with what the model says of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Splines:
    """The piecewise polynomials of a layer, on shared breaks of an input.

    Pieces are polynomials in the distance from their start, the first from its end; the first and
    the last are straight. The value at u is the sum of the rises of all pieces up to u, so that
    rounding cannot put a number next to a break into the wrong piece.
    """

    breaks: Array  # (in, break), increasing
    powers: Array  # (in, break + 1, degree + 1, out): coefficients of every piece, constant first

    @property
    def degree(self) -> int:
        """Degree of the pieces."""
        return int(self.powers.shape[2]) - 1

    @property
    def matrix(self) -> Array:
        """Weights (in, column, out) of distances below, above and inside pieces."""
        inner = self.powers[:, 1:-1, 1:].swapaxes(1, 2)  # (in, power, piece, out)
        tails = self.powers[:, [0, -1], 1]
        return np.concatenate([tails, inner.reshape(len(tails), -1, tails.shape[-1])], axis=1)

    def combined(self, in_: int) -> tuple[Index, Array]:
        """Return outputs whose splines span those of all, and weights (rank, out)."""
        from scipy.linalg import qr, solve_triangular

        inner = np.diff(self.breaks[in_])
        widths = np.concatenate(([1.0], inner, [1.0]))[:, None] ** np.arange(1, self.degree + 1)
        sizes = self.powers[in_, :, 1:] * widths[:, :, None]
        r, order = qr(sizes.reshape(-1, sizes.shape[-1]), mode="r", pivoting=True)
        diagonal = np.abs(r.diagonal())
        rank = int((diagonal > len(widths) * np.finfo(float).eps * diagonal[0]).sum())
        weights = np.zeros((rank, len(order)))
        weights[:, order[:rank]] = np.eye(rank)
        weights[:, order[rank:]] = solve_triangular(r[:rank, :rank], r[:rank, rank:])
        return order[:rank], weights


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionTerms:
    """Columns ``g(a * u[input] + b)`` with their weights (column, out)."""

    g: ElementaryFunction
    inputs: Index  # (column,)
    a: Array
    b: Array
    weights: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer: its splines and functions, and the nodes made of its sums."""

    width: int  # number of inputs
    bias: Array  # (out,): constants of all edges, and values of splines at their first break
    splines: Splines | None
    terms: tuple[FunctionTerms, ...]
    members: list[list[int]]  # the sums that each node is the product of
    scale: Array  # (node,)
    shift: Array

    @property
    def plain(self) -> bool:
        """True if nodes are neither scaled nor shifted."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A network as arrays, independent of torch."""

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    scaling: tuple[Array, ...]  # low, high, shift, scale of features; shift, scale of outputs
    layers: tuple[Layer, ...]

    @cached_property
    def functions(self) -> Mapping[str, ElementaryFunction]:
        """Every elementary function in use, by name."""
        return {terms.g.name: terms.g for layer in self.layers for terms in layer.terms}


@torch.no_grad()
def describe(model: KAN) -> Description:
    """Describe a float64 network."""
    inputs = (model.input_low, model.input_high, model.input_shift, model.input_scale)
    scaling = (*inputs, model.output_shift, model.output_scale)
    return Description(
        features=model.feature_names,
        outputs=model.output_names,
        scaling=tuple(buffer.numpy() for buffer in scaling),
        layers=tuple(map(_layer, model.layers, model.nodes)),
    )


def _layer(layer: KANLinear, nodes: Nodes) -> Layer:
    bias, size = layer.bias.numpy().copy(), nodes.grouping.nodes
    columns: dict[ElementaryFunction, dict[tuple[int, float, float], Array]] = {}
    splines: list[tuple[int, int, Any]] = []

    def add(g: ElementaryFunction, place: tuple[int, float, float], weights: Array) -> None:
        if g.line != 0.0:
            row = columns.setdefault(g, {}).setdefault(place, np.zeros(len(bias)))
            row += weights

    for term in layer.terms():
        for in_ in (term.weight != 0).any(0).nonzero()[:, 0].tolist():
            place = in_, float(term.a[in_]), float(term.b[in_])
            add(term.g, place, term.weight[:, in_].numpy())
    for out, in_ in layer.mask.nonzero().tolist():
        edge = layer.edge(out, in_)
        if (single := edge.single) is None:
            splines.append((out, in_, edge.to_scipy().spline))
        else:
            bias[out] += single.d
            add(single.g, (in_, single.a, single.b), single.c * (np.arange(len(bias)) == out))
    return Layer(
        width=layer.in_features,
        splines=_splines(splines, layer.in_features, bias),
        bias=bias,
        terms=tuple(_terms(g, rows) for g, rows in columns.items()),
        members=[list(nodes.grouping.members(node)) for node in range(size)],
        scale=nodes.scale.numpy() if nodes.scaled else np.ones(size),
        shift=nodes.shift.numpy() if nodes.scaled else np.zeros(size),
    )


def _splines(edges: list[tuple[int, int, Any]], n_in: int, bias: Array) -> Splines | None:
    """Stack splines; add their values at the first break to `bias`."""
    if not any(spline.c.any() for _, _, spline in edges):
        return None
    n_powers, n_pieces = edges[0][2].c.shape
    breaks = np.tile(np.arange(n_pieces - 1.0), (n_in, 1))  # of inputs that no spline reads
    powers = np.zeros((n_in, n_pieces, n_powers, len(bias)))
    for out, in_, spline in edges:
        breaks[in_] = spline.x[1:-1]
        powers[in_, :, :, out] = spline.c[::-1].T
        powers[in_, 0, 0, out] += powers[in_, 0, 1, out]  # SciPy's starts one unit before its end
        bias[out] += powers[in_, 0, 0, out]
    return Splines(breaks=breaks, powers=powers)


def _terms(g: ElementaryFunction, rows: dict[tuple[int, float, float], Array]) -> FunctionTerms:
    places = np.array(list(rows))  # (column, 3)
    inputs = places[:, 0].astype(np.int64)
    return FunctionTerms(
        g=g, inputs=inputs, a=places[:, 1], b=places[:, 2], weights=np.stack(list(rows.values()))
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """A model with the options of `export`, for the file `path`."""

    model: KAN
    path: Path
    explain: bool = False
    table: str = "data"
    keep: tuple[str, ...] = ()

    @cached_property
    def exact(self) -> KAN:
        """The model in float64."""
        return expand_normalization(float64_copy(self.model)).cpu()

    @cached_property
    def description(self) -> Description:
        """The model as sums of splines and functions."""
        return describe(self.exact)

    @property
    def name(self) -> str:
        """Name of the file as an identifier."""
        word = re.sub(r"\W", "_", self.path.stem, flags=re.ASCII)
        return word if word[:1].isalpha() else f"model_{word}"

    @property
    def title(self) -> str:
        """Title of the file in one line of ASCII."""
        text = f"KAN {list(self.model.widths)}: {', '.join(self.model.output_names)}"
        text += f" ({self.model.loss.scale}; take exp)" * self.model.loss.log
        shown = ascii(text)[1:-1].replace('"', "'")  # it ends no docstring
        return f"{shown}, exported by kanlens {version('kanlens')}"

    @cached_property
    def rules(self) -> list[Cell]:
        """The rules of all features."""
        return [cell_rule(feature) for feature in self.model.schema.features]

    @cached_property
    def columns(self) -> dict[str, str]:
        """The kinds of raw columns by name."""
        return column_kinds(self.model.schema)

    @property
    def fillers(self) -> Array:  # (in,)
        """The numbers imputed for missing ones, NaN where these are refused."""
        return np.array([np.nan if rule.kind == "text" else rule.blank for rule in self.rules])

    @property
    def classes(self) -> tuple[str | int, ...]:
        """Labels of a classifier, as numbers if all are integers; else empty."""
        labels = self.model.class_labels
        whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", label) for label in labels)
        return tuple(map(int, labels)) if whole else labels

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Raw rows with random numbers, knots, ends, blanks and unseen texts."""
        import pandas as pd

        numbers, schema, columns = sample_rows(self.exact), self.model.schema, {}
        marks = {"text": blank_texts(schema)[-1], "number": next(iter(blank_numbers(schema)), None)}
        for place, (name, kind) in enumerate(self.columns.items(), start=1):
            picks = [k for k, rule in enumerate(self.rules) if rule.column == name]
            features = [schema.features[k] for k in picks]
            cells = list(numbers[:, picks[0]])
            if kind == "text":
                texts = features[0].categories or [str(feature.category) for feature in features]
                cells = [texts[(k + place) % len(texts)] for k in range(len(cells))]
                cells[(place + RANDOM // 2) % RANDOM] = f"{max(texts)}?"
            elif kind == "date":
                days = [numbers[:, k] for k in picks if schema.features[k].part == "days"]
                cells = _dates(days[0] if days else 211.217 * np.arange(len(cells)))
            if not math.isnan(self.rules[picks[0]].blank):
                cells[0], cells[place % RANDOM] = None, marks.get(kind)
            columns[name] = pd.Series(cells, dtype=object)
        return pd.DataFrame(columns)

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """The columns of the frame, with dates as days since 1970-01-01."""
        cells = {str(name): self.frame[name].tolist() for name in self.frame}
        for name in [name for name, kind in self.columns.items() if kind == "date"]:
            times = [text and np.datetime64(text, "s").astype(float) for text in cells[name]]
            cells[name] = [time if time is None else time / 86400 for time in times]
        return cells

    @cached_property
    def rows(self) -> Array:  # (batch, in)
        """The same rows as the model takes them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cells that are blank or unseen on purpose
            return self.model.schema.encode(self.frame, call="export")

    @cached_property
    def reference(self) -> Array:  # (1, in)
        """The reference row: the mean of the background, else of the rows."""
        background = self.exact.background
        rows = self.rows if background is None or not len(background) else background.numpy()
        return np.asarray(rows.mean(0, keepdims=True))

    def scores(self, x: Array) -> Array:  # (batch, out, in)
        """Return the secant attributions of every output to the reference."""
        options: dict[str, Any] = {"method": "secant", "background": self.reference}
        outputs = range(len(self.description.outputs))
        scores = (attribute(self.exact, x, target=k, progress=False, **options) for k in outputs)
        return np.stack([score.values.numpy() for score in scores], axis=1)

    @cached_property
    def shown(self) -> Index:
        """Indices of the rows that a file shows: a few after those with blanks."""
        finite = np.flatnonzero(np.isfinite(predicted(self.exact, self.rows)).all(1))
        full = finite[finite > len(self.columns)]
        return (full if len(full) else finite)[:SHOWN]

    def examples(self) -> tuple[Array, Array]:
        """Return these rows and the outputs of the float64 model."""
        return self.rows[self.shown], predicted(self.exact, self.rows[self.shown])


@dataclass(frozen=True)
class Format:
    """A kind of file, with functions that write and run it."""

    name: str
    ending: str
    write: Callable[[Export, Path], None]
    run: Callable[[Export, Path], Sequence[Array]]  # (batch, out) of every engine
    single: bool = False  # it computes in the dtype of the model, not in float64
    classifies: bool = True  # it returns probabilities (batch, class) and labels (batch,)
    explains: bool = False  # it can return scores (batch, out, in)


@torch.no_grad()
def predicted(model: KAN, x: Array) -> Array:
    """Return the outputs of a model for rows, without compiling kernels."""
    with kernels.use("torch"):
        return np.asarray(model(torch.from_numpy(x).to(model.input_shift)).cpu().numpy())


def chances(logits: Array) -> Array:  # (batch, out) -> (batch, class)
    """Return probabilities; a single output is the logit of the second class."""
    from scipy.special import softmax

    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return np.asarray(softmax(logits, axis=1))


def rendered(template: str, **words: object) -> str:
    """Fill a template of this package."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    files = FileSystemLoader(Path(__file__).parent / "templates")
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=files, undefined=StrictUndefined, **blocks)
    return environment.get_template(template).render(words) + "\n"


def refuse(expected: str, got: str, advice: str) -> NoReturn:
    """Refuse a model that a format cannot hold."""
    raise MethodError("export", expected, got, advice)


def _dates(days: Any) -> list[str]:
    """Write days since 1970-01-01 as dates, to the second."""
    import pandas as pd

    return list(pd.to_datetime(days.clip(-7e4, 7e4), unit="D").strftime("%Y-%m-%d %H:%M:%S"))


def sample_rows(model: KAN) -> Array:  # (row, in)
    """Return rows of numbers for every feature, in the units of the data."""
    cuts = model.layers[0].breakpoints().mT * model.input_scale + model.input_shift
    low, high = model.feature_range or (cuts.amin(0), cuts.amax(0))
    room = 0.1 * (high - low)
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(RANDOM, len(low), generator=generator, dtype=torch.float64)
    beside = [torch.nextafter(cuts, torch.full_like(cuts, end)) for end in (-torch.inf, torch.inf)]
    mixed = [cuts.roll(k, 0) for k in (1, 2)]  # features at different knots
    drawn = low - room + (high - low + 2 * room) * places
    ends = torch.stack([low, high, low - room, high + room])
    return np.asarray(torch.cat([drawn, cuts, *beside, *mixed, ends]).numpy())
