"""Networks whose effects have shapes: proofs of these, and attacks on them.

Fifty networks of drawn tables are proven by `certify`, and attacked by pairs of rows that differ in
one column.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

import kanlens
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.readable.models import training_digest
from kanlens._resources import one_thread
from kanlens.data._cell_parsing import Array
from kanlens.data._table_reader import read_features, read_table

if TYPE_CHECKING:
    import pandas as pd

    from kanlens import KAN, Table

Outputs: TypeAlias = "Callable[[pd.DataFrame, str, Any], Array]"  # with values in a column

ATTACKED, CASES, SMOKE_CASES, SMOKE_PAIRS = 1_000_000, 50, (35, 18), 2000
AT_ONCE = 50_000  # pairs
ROUNDING = 1e-12  # of the largest output, by which a pair may be off
FARTHEST = 6  # decades beyond the range of a column
SHAPES = (
    *("increasing", "decreasing", "convex", "concave", "positive", "negative", "periodic"),
    "increasing concave",
)
WORDS = {1: "increasing", -1: "decreasing"}


# --- attacks ------------------------------------------------------------------------------------


def values_of(draw: np.random.Generator, seen: Array, count: int) -> Array:
    """Draw pairs (2, count) of values, the lower first: seen, within, far beyond, neighbors."""
    low, high = seen.min(), seen.max()
    width = max(float(high - low), 1e-9)
    decades = 10 ** draw.uniform(-1, FARTHEST, (2, count))
    ways = [
        draw.choice(seen, (2, count)),
        draw.uniform(low, high, (2, count)),
        (low + high) / 2 + draw.choice([-1, 1], (2, count)) * decades * width,
        np.repeat(draw.choice(seen, (1, count)), 2, axis=0),
    ]
    ways[3][1] = np.nextafter(ways[3][0], np.inf)
    way = draw.integers(0, len(ways), count)
    return np.sort(np.stack(ways)[way, :, np.arange(count)].T, axis=0)


def excess(shape: str, outputs: Outputs, rows: pd.DataFrame, column: str, pair: Array) -> Array:
    """Return by how much a shape is broken at pairs of values (batch,), over the outputs' size."""
    seen = rows.attrs["seen"][column]

    def at(values: Any) -> Array:
        return outputs(rows, column, values)

    low, high = at(pair[0]), at(pair[1])
    worst = np.zeros(len(rows))
    for word in shape.split():
        sign = -1.0 if word in ("decreasing", "concave", "negative") else 1.0
        if word in WORDS.values():
            gap, size = sign * (low - high), np.maximum(abs(low), abs(high))
        elif word in ("convex", "concave"):
            middle = at(pair[0] + (pair[1] - pair[0]) / 2)
            gap = sign * (middle - (low + high) / 2)
            size = abs(low) + abs(high) + abs(middle)
        elif word == "periodic":
            ends = at(seen.min() - abs(pair[0])), at(seen.max() + abs(pair[1]))
            gap, size = abs(ends[0] - ends[1]), abs(ends[0])
        else:
            zero = at(0.0)
            gap, size = sign * (zero - np.minimum(sign * low, sign * high) * sign), abs(zero)
        worst = np.maximum(worst, (gap / (size + 1)).max(1))
    return worst


def attack(
    outputs: Outputs, shapes: Mapping[str, str], frame: pd.DataFrame, seed: int, count: int
) -> dict[str, Any]:
    """Return the pairs that were tried on a model, those that broke a shape, and the worst."""
    draw, worst = np.random.default_rng(seed), [np.zeros(1)]
    for column, shape in shapes.items():
        seen = {column: frame[column].to_numpy(dtype=float)}
        for start in range(0, -(-count // len(shapes)), AT_ONCE):
            size = min(AT_ONCE, -(-count // len(shapes)) - start)
            rows = frame.iloc[draw.integers(0, len(frame), size)].reset_index(drop=True)
            rows.attrs["seen"] = seen
            worst.append(excess(shape, outputs, rows, column, values_of(draw, seen[column], size)))
    gaps = np.concatenate(worst[1:] or worst)
    return {"pairs": len(gaps), "broken": int((gaps > ROUNDING).sum()), "worst": gaps.max()}


class NetworkOutputs:
    """The function of rows that a network is; rows are encoded once."""

    def __init__(self, kan: KAN) -> None:
        self.kan, self.x = kan, torch.zeros(0)
        self.rows: pd.DataFrame | None = None

    @torch.no_grad()
    def __call__(self, rows: pd.DataFrame, column: str = "", values: Any = None) -> Array:
        """Return the outputs (batch, out)."""
        if rows is not self.rows:
            self.rows, self.x = rows, read_features(rows, self.kan.schema, call="benchmarks").x
        x = self.x.clone()
        if column:
            x[:, self.kan.feature_names.index(column)] = torch.as_tensor(values)
        return np.asarray(self.kan(x))


# --- networks of drawn tables ------------------------------------------------------------------


def drawn(case: int) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """Draw a table, the kind of network for it, and shapes of some of its columns."""
    import pandas as pd

    draw = np.random.default_rng(case)
    rows, columns = int(draw.choice([60, 200, 600, 2000])), int(draw.integers(2, 9))
    kinds: list[Callable[[], Array]] = [
        lambda: draw.uniform(-3, 3, rows),
        lambda: draw.normal(20, 5, rows),
        lambda: draw.standard_t(2, rows),  # with outliers
        lambda: draw.integers(0, 12, rows).astype(float),
        lambda: draw.lognormal(0, 1.5, rows),
    ]
    frame = pd.DataFrame({f"x{k}": kinds[draw.integers(len(kinds))]() for k in range(columns)})
    curves: list[Callable[[Any], Any]] = [np.sin, np.tanh, np.square, lambda x: -x, np.exp]
    sums = np.zeros(rows)
    for name in frame:
        scaled = (frame[name] - frame[name].median()) / (frame[name].std() + 1e-9)
        sums += draw.normal() * curves[draw.integers(len(curves))](scaled.clip(-3, 3))
    if draw.random() < 0.5:
        frame["kind"] = draw.choice(list("uvw"), rows)
        sums += frame["kind"].map({"u": 0.0, "v": 0.5, "w": -1.0})
    sums += 0.3 * sums.std() * draw.normal(size=rows)
    network = ("additive", "small", "deep")[case % 3]
    classes = int(draw.choice([0, 0, 2, 3]))
    frame["y"] = (
        pd.qcut(sums, classes, labels=list("abc"[:classes])).astype(str) if classes else sums
    )
    shapes = SHAPES[:2] if network == "deep" else SHAPES
    picked = draw.choice(columns, min(columns, int(draw.integers(1, 4))), replace=False)
    return frame, network, {f"x{k}": str(draw.choice(shapes)) for k in sorted(picked)}


def constrained(table: Table, network: str, shapes: Mapping[str, str], seed: int) -> KAN:
    """Train a network of a kind."""
    generator, quiet = torch.Generator().manual_seed(seed), {"progress": False}
    options: dict[str, Any] = {"constraints": shapes, "generator": generator, **quiet}
    if network == "deep":
        widths = [len(table.schema.features), 4, 3, len(table.schema.outputs)]
        kan = kanlens.KAN(widths, generator=generator).double()
        return kanlens.fit(kan, table, optimizer="adam", steps=20, **options).model
    how: dict[str, Any] = {"hidden": ()} if network == "additive" else {"max_edges": "few"}
    return kanlens.fit_default(table, **how, **options).model


def proofs(kan: KAN, shapes: Mapping[str, str]) -> dict[str, int]:
    """Return the numbers of shapes, of those proven everywhere, and of verdicts that agree."""
    certificate = kanlens.certify(kan, max_boxes=1, progress=False)
    verdicts = certificate.to_frame().groupby("feature")["verdict"].agg(set)
    monotone = {column for column, shape in shapes.items() if shape in WORDS.values()}
    agreed = [column for column in monotone if verdicts[column] <= {shapes[column], "constant"}]
    counts = {"monotone": len(monotone), "verdicts": len(agreed)}
    return {"shapes": len(shapes), "proven": len(certificate.constraints), **counts}


def _drawn_units(setup: Setup) -> Units:
    return Units(keys=tuple((case,) for case in (SMOKE_CASES if setup.smoke else range(CASES))))


def _run_drawn(setup: Setup, key: Key) -> Rows:
    """Train a network with shapes, prove them, and attack them."""
    frame, network, shapes = drawn(case := int(key[0]))
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_table(frame, target="y")
        start = time.process_time()
        kan = constrained(table, network, shapes, case)
        seconds = time.process_time() - start
        count = SMOKE_PAIRS if setup.smoke else ATTACKED
        row = proofs(kan, shapes) | attack(NetworkOutputs(kan), shapes, frame, case, count)
    words = "; ".join(f"{column} {shape}" for column, shape in shapes.items())
    about = {"network": network, "task": kan.task, "rows": len(frame), "asked": words}
    return [{**about, **row, "seconds": seconds, "version": training_digest()}]


def _drawn_summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    sums = ["shapes", "proven", "monotone", "verdicts", "pairs", "broken"]
    groups = frame.groupby("network", sort=False)
    table = groups[sums].sum().assign(networks=groups.size(), worst=groups["worst"].max())
    return {"shapes of networks of drawn tables": table.reset_index()}


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    """Return whether a network was measured as it is now."""
    return bool(rows) and rows[0]["version"] == training_digest()


DRAWN_SHAPES = Experiment(
    name="shapes",
    question="Do the effects of networks have the shapes asked for, at all inputs?",
    keys=("case",),
    tables={
        "constraints-drawn": (
            *("network", "task", "rows", "asked", "shapes", "proven", "monotone", "verdicts"),
            *("pairs", "broken", "worst", "seconds", "version"),
        )
    },
    plan=_drawn_units,
    run=_run_drawn,
    summary=_drawn_summary,
    text=("asked", "version"),
    current=_current,
)
