"""A model with the rows that exports are compared on, and rules that encode raw cells."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch

from kanlens._lazy import pd
from kanlens.attribution import attribute
from kanlens.data._schema import Feature, Schema
from kanlens.exporters._dialects import Description, Unrolled, describe
from kanlens.functions._elementary import Array
from kanlens.model import kernels
from kanlens.model._analysis import float64_copy
from kanlens.model._conversion import expand_normalization
from kanlens.model._held_out import conformal_widths, prediction_columns
from kanlens.model._network import KAN
from kanlens.splines._pieces import Index

RANDOM = 64  # rows drawn uniformly from the range of every feature and a tenth beyond
SHOWN = 4  # rows that a file contains with the model's outputs for them
_TRUTH = {"True": ("true", "TRUE", "1", "1.0"), "False": ("false", "FALSE", "0", "0.0")}


class Cell(NamedTuple):
    """The rule of a feature: a number, a part of a date, or an indicator."""

    column: str
    kind: str  # "number", "date" or "text"
    content: tuple[str, ...]  # texts, or the part of a date
    blank: float  # value of the feature for a blank cell; NaN if blanks are refused


def cell_rule(feature: Feature) -> Cell:
    """Return the rule that computes a feature from a cell."""
    if feature.kind == "missing":
        return Cell(feature.column, "text", (), 1.0)
    if feature.category is None:
        blank = math.nan if feature.filler is None else feature.filler
        return Cell(feature.column, "date" if feature.part else "number", (feature.part,), blank)
    texts = _spellings(feature.category, feature.categories)
    return Cell(feature.column, "text", texts, float(feature.imputation == feature.category))


def column_kinds(schema: Schema) -> dict[str, str]:
    """Return the kind of each column ("number", "date" or "text") by name."""
    kinds: dict[str, str] = {}
    for feature in schema.features:
        kind = "text" if feature.category or feature.categories else "number"
        if kinds.setdefault(feature.column, kind) == "number" and feature.part:
            kinds[feature.column] = "date"
    return kinds


def blank_texts(schema: Schema) -> tuple[str, ...]:
    """Return the texts of blank cells."""
    return ("", *(text for mark in schema.format.missing for text in _spellings(mark)))


def blank_numbers(schema: Schema) -> list[float]:
    """Return the numbers that mark missing cells."""
    return [float(mark) for mark in schema.format.missing if re.fullmatch(r"-?\d+(\.\d+)?", mark)]


def _spellings(text: str, texts: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the spellings of a category that tables, databases and sheets use."""
    if texts and set(texts) <= _TRUTH.keys():
        return text, *_TRUTH[text]
    if text.lstrip("-").isdigit():
        return text, f"{text}.0"
    alike = [other for other in texts if other.casefold() == text.casefold()]
    usual = [text.lower(), text.upper(), text.capitalize(), text.title()]
    return tuple(dict.fromkeys([text, *(usual if len(alike) == 1 else [])]))


def date_part(part: str, days: sympy.Expr) -> sympy.Expr:
    """Return a part of a date as an expression of the days since 1970-01-01."""
    floor, half = sympy.floor, sympy.Rational(1, 2)  # halves keep quotients off the steps of floor
    day = floor(days)
    if part in ("days", "hour"):
        return days if part == "days" else floor((days - day) * 1440 + sympy.Float(1e-6)) / 60
    if part == "weekday":
        return day + 3 - 7 * floor((day + 3 + half) / 7)
    era = floor((day + 719468 + half) / 146097)  # of 400 years, which begin in March
    of_era = day + 719468 - 146097 * era
    leaps = floor((of_era + half) / 1460) - floor((of_era + half) / 36524)
    year = floor((of_era - leaps - floor((of_era + half) / 146096) + half) / 365)
    of_year = of_era - 365 * year - floor((year + half) / 4) + floor((year + half) / 100)
    month = floor((5 * of_year + 2 + half) / 153)
    wraps = floor((month + half) / 10)  # 1 in January and February
    return month + 3 - 12 * wraps if part == "month" else year + 400 * era + wraps


class Predictions(NamedTuple):
    """The predicted columns of a file: outputs (quantiles sorted) and ends of intervals."""

    names: list[str]
    swaps: list[tuple[int, int]]  # pairs of outputs to sort, one pair after the other
    log: bool  # whether columns are exp of outputs, and never below 0
    picks: Index  # (column,): index of the output
    moves: Array  # (column,): number added to the output

    @property
    def plain(self) -> bool:
        """True if the columns are the (sorted) outputs themselves."""
        return not (self.log or self.moves.any())

    def of(self, outputs: Array) -> Array:
        """Return the columns (batch, column) for outputs (batch, out)."""
        outputs = np.sort(outputs, axis=1) if self.swaps else outputs
        values = (np.exp(outputs) if self.log else outputs)[:, self.picks] + self.moves
        return np.maximum(values, 0.0) if self.log else values

    def formulas(self, builder: Unrolled, outputs: Sequence[str]) -> list[str]:
        """Add the steps from outputs to columns; return the formulas of the columns."""
        if not self.swaps and self.plain:
            return [*outputs]
        names, forms = builder.level("y", outputs), builder.dialect.functions
        for step, (a, b) in enumerate(self.swaps):
            ends = [forms[word].format(names[a], names[b]) for word in ("Min", "Max")]
            names[a], names[b] = builder.level(f"y{step}_", ends)
        if self.log:
            rates = [sympy.exp(sympy.Symbol(name)) for name in names]
            names = builder.level("e", [*map(builder.dialect.text, rates)])
        moved = zip(self.picks, self.moves.tolist(), strict=True)
        texts = [f"{names[k]} + {builder.number(move)}" if move else names[k] for k, move in moved]
        floor = builder.number(0)
        return [forms["Max"].format(f"({text})", floor) if self.log else text for text in texts]


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """A model with the options of `export`, for the file `path`."""

    model: KAN
    path: Path
    explain: bool = False
    table: str = "data"
    keep: tuple[str, ...] = ()
    interval: float | None = None

    @cached_property
    def predictions(self) -> Predictions:
        """The columns of the file."""
        loss, level, row = self.model.loss, self.interval, self.model.input_shift[None]
        names, picks, owners, signs = map(np.array, prediction_columns(self.model, level))
        widths = np.zeros(len(names))
        if level is not None:
            widths = conformal_widths(self.model, row, level, None, call="export")[0].cpu().numpy()
        return Predictions(
            names=names.tolist(),
            swaps=[(k, k + 1) for last in range(len(loss.levels))[:0:-1] for k in range(last)],
            log=loss.log and level is not None,
            picks=picks,
            moves=signs * widths[owners].astype(float),
        )

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
        log = self.model.loss.log and self.interval is None
        text += f" ({self.model.loss.scale}; take exp)" * log
        shown = ascii(text)[1:-1].replace('"', "'")  # it ends no docstring
        return f"{shown}, exported by kanlens {version('kanlens')}"

    @cached_property
    def rules(self) -> list[Cell]:
        """The rules that encode raw cells as features."""
        return [cell_rule(feature) for feature in self.model.schema.features]

    @cached_property
    def columns(self) -> dict[str, str]:
        """The kinds of raw columns by name."""
        return column_kinds(self.model.schema)

    @property
    def fillers(self) -> Array:  # (in,)
        """The numbers that replace missing ones; NaN where they are not replaced."""
        return np.array([np.nan if rule.kind == "text" else rule.blank for rule in self.rules])

    @property
    def classes(self) -> tuple[str | int, ...]:
        """Class labels, as numbers if all are integers; empty for regression."""
        labels = self.model.class_labels
        whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", label) for label in labels)
        return tuple(map(int, labels)) if whole else labels

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Raw rows: random numbers, knots, ends of ranges, blanks and unseen categories."""
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
                since: Any = (days[0] if days else 211.217 * np.arange(len(cells))).clip(-7e4, 7e4)
                cells = [*pd.to_datetime(since, unit="D").strftime("%Y-%m-%d %H:%M:%S")]
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
        """The rows of `frame`, encoded for the model."""
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
        """Return attributions (method "secant") of every output, relative to `reference`."""
        options: dict[str, Any] = {"method": "secant", "background": self.reference}
        outputs = range(len(self.description.outputs))
        scores = (attribute(self.exact, x, target=k, progress=False, **options) for k in outputs)
        return np.stack([score.values.numpy() for score in scores], axis=1)

    @cached_property
    def shown(self) -> Index:
        """Indices of the rows shown in a file: a few after the rows with blanks."""
        finite = np.flatnonzero(np.isfinite(predicted(self.exact, self.rows)).all(1))
        full = finite[finite > len(self.columns)]
        return (full if len(full) else finite)[:SHOWN]

    def examples(self) -> tuple[Array, Array]:
        """Return the `shown` rows (row, in), and the float64 model's columns for them."""
        x = self.rows[self.shown]
        return x, self.predictions.of(predicted(self.exact, x))


@dataclass(frozen=True)
class Format:
    """A kind of file, with functions that write and run it."""

    name: str
    ending: str
    write: Callable[[Export, Path], None]
    run: Callable[[Export, Path], Sequence[Array]]  # (batch, column), labels, scores; by engine
    single: bool = False  # it computes in the dtype of the model, not in float64
    predicts: bool = True  # it returns `predictions`, or probabilities (batch, class) and labels
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
