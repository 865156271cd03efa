"""Small surrogate networks of another model, with their fidelity.

A model may overfit the rows that it was trained on, which a small network cannot follow. So the
network is also fitted to predictions for rows that mix cells. A fifth of the rows is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_count, check_generator, check_positive, check_rows
from kanlens._display import Displayed
from kanlens._lazy import pd
from kanlens._model_inputs import prepare_data
from kanlens._resources import within_memory
from kanlens._runtime import Deadline, Interruption
from kanlens.data._cell_parsing import Array
from kanlens.data._columns import ColumnRoles
from kanlens.data._groups import deal_groups, row_groups
from kanlens.data._schema import Feature, Schema, class_schema, default_schema
from kanlens.data._table_reader import read_columns
from kanlens.data._tables import Table
from kanlens.errors import ShapeError, rewording
from kanlens.imitation._teachers import Teacher, read_teacher
from kanlens.model._network import KAN, Inputs
from kanlens.model._trace import store_statistics
from kanlens.symbolic._error_budget import deviations_from
from kanlens.symbolic._receipt import RMSE_LIMIT, Receipt
from kanlens.training._checkpointing import EVERY, Checkpoint
from kanlens.training._closed_form import count_edges
from kanlens.training._fit import warn_interrupted
from kanlens.training._fit_default import FOLDS
from kanlens.training._frontier_result import MIN_EDGES, Growth, trace_frontier
from kanlens.training._objective import classes, score

Form: TypeAlias = "Callable[[pd.DataFrame], object]"

MIN_ROWS, MAX_ROWS = 20, 10_000  # of the data; evenly spaced if there are more
BETWEEN = 6000  # rows drawn between those of the data
MIXED = 0.3  # share of their cells taken from other rows
BEYOND = 2000  # rows drawn beyond the data
DISTINCT = 20  # a column with at most as many values gets no new ones
REGIONS, REGION_ROWS = 6, (5, 0.05)  # most regions in `worst`; least rows of one


@dataclass(frozen=True, kw_only=True, eq=False)
class ImitationReceipt(Receipt):
    """Validation record of an imitation, whose `teacher` is the name of the imitated model.

    `furthest` describes the region where both differ most, if there are several regions.
    """

    teacher: str
    furthest: str = ""

    @property
    def _names(self) -> tuple[str, str]:
        return "imitation", self.teacher

    def _distrust(self) -> str:
        return (
            f"WARNING: the imitation shows what the {self.teacher} does, but do not use it in its "
            f"place: it is off by {self.relative_rmse:.0%} of the {self._spread}, and at most "
            f"{RMSE_LIMIT:.0%} would do.{self.furthest}"
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Imitation(Displayed):
    """A small surrogate network of another model, and its fidelity.

    Attributes
    ----------
    model : KAN
        The network; of a classifier, its outputs are logits.
    teacher : str
        Name of the model that it follows.
    edges : int
        Number of edges; those of the levels of a categorical column count as one.
    fidelity : float
        R2 between the outputs of the network and the teacher (log-odds for classifiers) on held-out
        rows; mean over outputs.
    beyond : float
        The same on synthetic rows whose columns are drawn independently: numbers uniformly over
        their range (integers if the column has only integers), other cells from their values.
    agreement : float or None
        Share of the rows held out that network and teacher put into the same class.
    receipt : ImitationReceipt
        Differences on the rows held out, and whether the network may stand for the teacher.
    held_out : DataFrame
        Outputs of teacher and network on these rows, with the index of the data.
    worst : DataFrame
        Regions of these rows, the leaves of a shallow tree, in columns region, rows, share_of_rows,
        share_of_error, relative_rmse (over the standard deviation of the teacher's outputs) and
        worst_row.
    interrupted : bool
        Whether growth ended by an interrupt or by the time limit.
    """

    model: KAN
    teacher: str
    edges: int
    fidelity: float
    beyond: float
    agreement: float | None
    receipt: ImitationReceipt
    held_out: pd.DataFrame
    worst: pd.DataFrame
    interrupted: bool

    def _line(self) -> str:
        same = "" if self.agreement is None else f"; the same class for {self.agreement:.1%}"
        return f"{self.edges} edges; {self.model.provenance}{same}"


@within_memory
def imitate(
    model: object,
    x: Inputs | Table,
    *,
    max_edges: int = MIN_EDGES,
    class_labels: Sequence[object] | None = None,
    time_limit: float | None = None,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
) -> Imitation:
    """Fit a small surrogate network to another model's predictions.

    The network is fitted to the model's predictions on four fifths of the rows and on 6000
    synthetic rows, made by replacing each cell with probability 0.3 by that of another row. For
    classifiers, the log-odds are fitted, with probabilities clipped at 0.001. If `x` has more than
    10,000 rows, 10,000 evenly spaced ones are used.

    Parameters
    ----------
    model : estimator, Module, callable, str or path
        The teacher: a fitted estimator (`predict_proba` is used if available, else `predict`), a
        torch module that takes a tensor of shape (batch, in), a callable that takes rows of the
        same type as `x`, or the path of an ``.onnx`` file.
    x : DataFrame, ndarray, Tensor or Table
        Rows of features, as the model takes them; the network has the names and units of a Table.
        To measure fidelity on new data, pass rows that the model was not trained on.
    max_edges : int
        Largest number of edges; the levels of a categorical column count as one edge.
    class_labels : sequence, optional
        Classes, if outputs of a function, module or file are their probabilities.
    time_limit : float, optional
        Seconds after which no more terms are added.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    generator : torch.Generator, optional
        Draws rows. Default: one seeded by torch's default generator.

    Returns
    -------
    Imitation

    Raises
    ------
    DTypeError, DataError, ShapeError
        If the model cannot predict, or its predictions are not finite.
    FileFormatError, MissingFileError
        If the file is missing, or not an ONNX model that runs.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    >>> options = {"progress": False, "generator": torch.Generator().manual_seed(0)}
    >>> imitation = imitate(lambda x: x[:, 0] * x[:, 1], x, **options)
    >>> imitation.fidelity > 0.99, imitation.edges < 10
    (True, True)
    """
    check_generator("imitate", generator)
    if time_limit is not None:
        check_positive("imitate", "time_limit", time_limit, zero=True)
    deadline = Deadline.after(time_limit)
    with rewording("imitate"):
        frame, form, schema = _read(x)
        check_rows("imitate", torch.empty(len(frame)), least=MIN_ROWS)
        picks = np.linspace(0, len(frame) - 1, min(len(frame), MAX_ROWS)).round().astype(int)
        frame = frame.iloc[picks]
        dates = {part.column: part.day_first for part in schema.features if part.part}
        teacher = read_teacher(model, frame.head(2), form, class_labels, dates)
        draw = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        copies = row_groups(torch.from_numpy(schema.encode(frame, call="imitate")), call="imitate")
        order = torch.from_numpy(draw.permutation(len(frame)))
        held = deal_groups(order, copies, FOLDS).numpy() == 0
        learned = frame[~held]
        table = _labelled(_with_rows_between(learned, draw), teacher, schema)
        check_count("imitate", "max_edges", max_edges, least=len(table.schema.outputs))
        network, cut = _grown(table, max_edges, time_limit, deadline, progress)
        store_statistics(network, table.x[: len(learned)])
        parts = (_labelled(rows, teacher, schema) for rows in (frame[held], _beyond(frame, draw)))
        return _compared(network, teacher, *parts, interrupted=cut)


def _read(x: Inputs | Table) -> tuple[pd.DataFrame, Form, Schema]:
    """Return rows as a frame, a function that converts them back, and the schema of features."""
    if isinstance(x, Table):
        columns = dict.fromkeys(feature.column for feature in x.schema.features)
        return x.frame[list(columns)], lambda rows: rows, x.schema
    if isinstance(x, pd.DataFrame):
        return x, lambda rows: rows, read_columns(x, ColumnRoles(), call="imitate").schema
    tensor = x if isinstance(x, Tensor) else None
    array = np.asarray(x) if tensor is None else tensor.detach().cpu().numpy()
    if array.ndim != 2:
        raise ShapeError("imitate", "x of shape (rows, in)", str(array.shape), "Reshape it")

    def form(rows: pd.DataFrame) -> object:
        cells = np.array(rows, dtype=array.dtype, order="C")
        return cells if tensor is None else torch.from_numpy(cells).to(tensor)

    frame = pd.DataFrame(array, columns=list(default_schema(array.shape[1], 1).feature_names))
    return frame, form, read_columns(frame, ColumnRoles(), call="imitate").schema


def _with_rows_between(frame: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Return the rows of a frame, and synthetic rows with cells of other rows."""
    rows = draw.integers(0, len(frame), (2, BETWEEN, frame.shape[1]))
    places = np.where(draw.random(rows.shape[1:]) < MIXED, rows[1], rows[0, :, :1])
    cells = (frame.iloc[rows, [column]] for column, rows in enumerate(places.T))
    drawn = pd.concat([part.reset_index(drop=True) for part in cells], axis=1)
    both: pd.DataFrame = pd.concat([frame, drawn])
    return both


def _beyond(frame: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Return synthetic rows whose columns are drawn independently over the range of a frame."""
    columns = []
    for _, column in frame.items():
        values = column.drop_duplicates()
        cells = values.iloc[draw.integers(0, len(values), BEYOND)]
        if values.dtype.kind in "iuf" and len(values) > DISTINCT:
            drawn = draw.uniform(values.min(), values.max(), BEYOND)
            whole = (values.dropna() % 1 == 0).all()
            cells = pd.Series(drawn.round() if whole else drawn, name=column.name)
            cells = cells.astype(values.dtype)
        columns.append(cells.reset_index(drop=True))
    return pd.concat(columns, axis=1)


def _labelled(frame: pd.DataFrame, teacher: Teacher, schema: Schema) -> Table:
    """Return rows with the outputs of a teacher as regression targets."""
    y = teacher(frame)
    outputs = schema.outputs
    if schema.task == "classification" or len(outputs) != y.shape[1]:
        outputs = default_schema(1, y.shape[1]).outputs
    schema = replace(schema, outputs=outputs, task="regression", class_labels=())
    x = torch.from_numpy(schema.encode(frame, call="imitate"))
    return Table(x=x, y=y, schema=schema, frame=frame)


def _grown(
    table: Table,
    max_edges: int,
    time_limit: float | None,
    deadline: Deadline,
    progress: bool | None,
) -> tuple[KAN, bool]:
    """Return the network that predicts held-out synthetic rows best, and whether growth was cut.

    One fold is enough, because there are many rows without noise.
    """
    stop, schema = Interruption(), table.schema
    model = KAN([len(schema.features), len(schema.outputs)]).double()
    x, y = prepare_data(model, table, constant=False)
    folds = torch.where(torch.arange(len(x)) < len(x) - BETWEEN // FOLDS, -1, 0)
    growth = Growth(model, x, y, None, torch.arange(len(x)), max_edges, None)
    saved = Checkpoint("imitate", None, EVERY, resume=False)
    way: dict[str, Any] = {"deadline": deadline, "stop": stop, "progress": progress}
    front = trace_frontier(growth, folds, saved, **way)
    cut: dict[str, Any] = {"time_limit": time_limit if front.interrupted else None}
    warn_interrupted(stop, saved, "The network has the terms so far", call="imitate", **cut)
    best = min(range(len(front.steps)), key=lambda place: front.steps[place].loss)
    return growth.finished(front._networks[best]), front.interrupted


@torch.no_grad()
def _compared(
    model: KAN, teacher: Teacher, held: Table, far: Table, *, interrupted: bool
) -> Imitation:
    """Return the imitation: a network with its differences from its teacher."""
    outputs, expected = model(held.x), cast("Tensor", held.y)
    fidelity = score(model, outputs, expected)
    beyond = score(model, model(far.x), cast("Tensor", far.y))
    agreement, schema = None, held.schema
    if teacher.labels:
        agreement = float((classes(outputs) == classes(expected)).double().mean())
        named = class_schema(schema.target or "class", teacher.labels, logits=outputs.shape[1])
        model.schema = replace(named, features=schema.features, format=schema.format)
    scores = f"{fidelity:.4f} on {held.rows:,} rows held out, {beyond:.4f} beyond the data"
    of = " of log-odds" * bool(teacher.labels)
    model.provenance = f"imitates {teacher.name}, R2{of} {scores}"
    values = {"teacher": expected.numpy(), "imitation": outputs.numpy()}
    facts = deviations_from(model, held.x, values["imitation"], values["teacher"])
    worst = _regions(held, *values.values())
    facts |= {"teacher": teacher.name, "furthest": _furthest(worst)}
    columns = pd.MultiIndex.from_product([list(values), model.output_names])
    return Imitation(
        model=model,
        teacher=teacher.name,
        edges=count_edges(model),
        fidelity=fidelity,
        beyond=beyond,
        agreement=agreement,
        receipt=ImitationReceipt(rows=held.rows, held_out=True, **facts),
        held_out=pd.DataFrame(np.hstack(list(values.values())), held.frame.index, columns),
        worst=worst,
        interrupted=interrupted,
    )


def _regions(held: Table, expected: Array, outputs: Array) -> pd.DataFrame:
    """Return regions of rows, sorted by their share of the squared difference."""
    from sklearn.tree import DecisionTreeRegressor

    x, spread = held.x.numpy(), np.where(np.ptp(expected, 0) > 0, expected.var(0), 1.0)
    errors = (np.square(outputs - expected) / spread).mean(1)
    least = max(REGION_ROWS[0], int(REGION_ROWS[1] * len(errors)))
    tree = DecisionTreeRegressor(max_leaf_nodes=REGIONS, min_samples_leaf=least, random_state=0)
    leaves, records = tree.fit(x, errors).apply(x), []
    for leaf in np.unique(leaves):
        rows = np.flatnonzero(leaves == leaf)
        used = tree.tree_.feature[tree.decision_path(x[rows[:1]]).indices]  # negative for a leaf
        words = [_interval(held.schema.features[i], x[rows, i]) for i in dict.fromkeys(used[:-1])]
        record = {
            "region": " and ".join(words) or "all rows",
            "rows": len(rows),
            "share_of_rows": len(rows) / len(errors),
            "share_of_error": errors[rows].sum() / max(errors.sum(), 1e-300),
            "relative_rmse": np.sqrt(errors[rows].mean()),
            "worst_row": held.frame.index[rows[errors[rows].argmax()]],
        }
        records.append(record)
    return pd.DataFrame(records).sort_values("share_of_error", ascending=False, ignore_index=True)


def _furthest(worst: pd.DataFrame) -> str:
    """Return a sentence on the region with the largest differences, if there are several."""
    if len(worst) < 2:
        return ""
    region = worst.iloc[int(worst.relative_rmse.to_numpy().argmax())]
    rows, rmse = f"{region.share_of_rows:.0%} of the rows", f"{region.relative_rmse:.0%}"
    return f" It is furthest off ({rmse}) where {region.region}, in {rows}."


def _interval(feature: Feature, values: Array) -> str:
    """Return the interval of a feature, or its category, in words."""
    low, high = values.min(), values.max()
    if feature.category is not None or feature.kind == "missing":
        no = "" if high else "not "
        return f"{feature.column} is {no}{feature.category or 'missing'}"
    return f"{feature.name} from {low:.4g} to {high:.4g}"
