"""Promises about the speed of kanlens, held against the rows that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from benchmarks.speed.cells import CELLS, Cell, parse
from benchmarks.speed.peers import OWN, PEERS, RECURSION
from benchmarks.speed.reference import TOLERANCE
from benchmarks.speed.timing import BOTH, PASSES, TIMED

if TYPE_CHECKING:
    import pandas as pd

NEAR_LINEAR = ("1024x256->256 G5", "4096x64->64 G5")
MEMORY_CELL, MEMORY_MIB = "2048x256->256 G5", 40.0
PASS, FAIL, UNKNOWN = "pass", "fail", "not measured"
RIVALS = tuple(name for name, peer in PEERS.items() if peer.rival)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A bound on a ratio of times, for some peers, cells and passes.

    `vs_kanlens` of the peers must not be lower, `vs_linear` of kanlens not higher than the bound;
    where it is `strict`, not equal either.
    """

    words: str
    bound: float
    takes: Callable[[Cell], bool] = lambda cell: True
    column: str = "vs_kanlens"
    peers: tuple[str, ...] = RIVALS
    passes: tuple[str, ...] = (BOTH,)
    strict: bool = False

    def judged(self, rows: Sequence[dict[str, Any]]) -> Finding:
        """Hold rows with times against the promise."""
        numbers = [
            (float(row[self.column]), f"{row['cell']} {row['pass']}, {row['peer']}")
            for row in rows
            if row["peer"] in self.peers and row["pass"] in self.passes
            if self.takes(row["shape"]) and row[self.column] is not None
        ]
        lowest = self.column == "vs_kanlens"
        return _finding(self.words, numbers, self.bound, lowest=lowest, strict=self.strict)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A promise, its outcome, and the worst of `compared` numbers.

    The outcome is "pass", "fail" or "not measured"; `where` names the cell of the worst number and
    the peer, `bound` what it has to keep to.
    """

    promise: str
    outcome: str
    figure: float | None
    bound: float
    where: str = ""
    compared: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a dictionary."""
        return asdict(self)


def _faster(bound: float, grid: int, peers: tuple[str, ...] = RIVALS) -> Promise:
    of = "every B-spline peer" if peers == RIVALS else peers[0]
    words = f"at least {bound:g} times as fast as {of} at G{grid}"
    return Promise(words=words, bound=bound, takes=lambda c: c.grid_size == grid, peers=peers)


def _near(bound: float, place: str, takes: Callable[[Cell], bool], **options: Any) -> Promise:
    words = f"at most {bound:g} times the time of nn.Linear at {place}"
    own: dict[str, Any] = {"column": "vs_linear", "peers": (OWN,), **options}
    return Promise(words=words, bound=bound, takes=takes, **own)


PROMISES = (
    Promise(words="faster than every B-spline peer", bound=1.0, passes=PASSES, strict=True),
    *(_faster(bound, grid) for bound, grid in ((1.1, 5), (4.0, 50), (5.0, 200))),
    *(_faster(bound, grid, (RECURSION,)) for bound, grid in ((3.0, 5), (20.0, 50))),
    _near(1.3, " and ".join(NEAR_LINEAR), lambda c: c.name in NEAR_LINEAR),
    _near(
        1.5,
        "1024 and more rows",
        lambda c: c.batch >= 1024 and c.grid_size == 5,
        passes=PASSES,
    ),
    _near(2.0, "64 rows", lambda c: c.batch == 64, passes=PASSES),
    Promise(
        words="below half the time of nn.Linear at G50",
        bound=0.5,
        takes=lambda c: c.grid_size == 50,
        column="vs_linear",
        peers=(OWN,),
        strict=True,
    ),
)


def judge(speed: pd.DataFrame, memory: pd.DataFrame) -> list[Finding]:
    """Hold rows of timing and of memory against every promise.

    The promises are about ``CELLS`` on a CPU; rows of other cells and devices are passed over,
    except that kanlens's values have to be right in all of them. A promise nothing was measured
    for is neither kept nor broken.
    """
    kept = speed[
        speed["device"].str.startswith("cpu")
        & speed["status"].isin(TIMED)
        & speed["cell"].isin([cell.name for cell in CELLS])
    ]
    records = cast(list[dict[str, Any]], kept.to_dict("records"))
    rows = [{**row, "shape": parse(row["cell"])} for row in records]
    return [_right(speed), *(promise.judged(rows) for promise in PROMISES), _light(memory)]


def _right(speed: pd.DataFrame) -> Finding:
    """Judge kanlens's own values: every cell within the tolerance, none failed."""
    own = speed[(speed["peer"] == OWN) & (speed["pass"] == BOTH)]
    numbers = [
        (_worst(row["value_error"], row["gradient_error"]), f"{row['device']} {row['cell']}")
        for row in own.to_dict("records")
    ]
    promise = f"values and gradients of {OWN} within {TOLERANCE:g} of the float64 reference"
    return _finding(promise, numbers, TOLERANCE, lowest=False)


def _worst(*values: Any) -> float:
    """Return the largest value, infinity when one is missing: a layer that failed is wrong."""
    return max(float("inf") if v is None or v != v else float(v) for v in values)


def _light(memory: pd.DataFrame) -> Finding:
    rows = memory[
        (memory["device"] == "cpu") & (memory["peer"] == OWN) & (memory["cell"] == MEMORY_CELL)
    ]
    numbers = [(_worst(row["extra_mib"]), MEMORY_CELL) for row in rows.to_dict("records")]
    promise = f"peak extra memory under {MEMORY_MIB:g} MiB at {MEMORY_CELL}"
    return _finding(promise, numbers, MEMORY_MIB, lowest=False, strict=True)


def _finding(
    promise: str,
    numbers: Sequence[tuple[float, str]],
    bound: float,
    *,
    lowest: bool,
    strict: bool = False,
) -> Finding:
    """Compare the worst of the numbers with a bound; NaN keeps to none."""
    if not numbers:
        return Finding(promise=promise, outcome=UNKNOWN, figure=None, bound=bound)
    wrong = [item for item in numbers if item[0] != item[0]]
    figure, where = (wrong or [min(numbers) if lowest else max(numbers)])[0]
    kept = figure > bound if lowest else figure < bound
    kept = kept or (not strict and figure == bound)
    return Finding(
        promise=promise,
        outcome=PASS if kept else FAIL,
        figure=figure,
        bound=bound,
        where=where,
        compared=len(numbers),
    )


def broken(findings: Sequence[Finding]) -> list[Finding]:
    """Return the promises that are not kept."""
    return [finding for finding in findings if finding.outcome == FAIL]
