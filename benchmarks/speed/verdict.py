"""What kanlens promises about its speed, held against the rows that were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.speed.cells import CELLS, Cell, parse
from benchmarks.speed.peers import OWN, PEERS, RECURSION
from benchmarks.speed.reference import TOLERANCE
from benchmarks.speed.timing import BOTH, TIMED

if TYPE_CHECKING:
    import pandas as pd

NEAR_LINEAR = ("1024x256->256 G5", "4096x64->64 G5")
MEMORY_CELL, MEMORY_MIB = "2048x256->256 G5", 40.0
PASS, FAIL, UNKNOWN = "pass", "fail", "not measured"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One promise, and what was found.

    Attributes
    ----------
    promise : str
        In words.
    outcome : str
        "pass", "fail" or "not measured".
    figure : float or None
        The worst number found.
    bound : float
        What it has to keep to.
    where : str
        The cell of the worst number, and the peer.
    compared : int
        How many numbers there were.
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


def judge(speed: pd.DataFrame, memory: pd.DataFrame) -> list[Finding]:
    """Hold rows of timing and of memory against every promise.

    The promises are about ``CELLS`` on a CPU; rows of other cells and devices are passed over,
    except that kanlens's values have to be right in all of them. A promise nothing was measured
    for is neither kept nor broken.

    Parameters
    ----------
    speed, memory : DataFrame
        With the columns of `timing` and of `memory`.

    Returns
    -------
    list of Finding
    """
    timed = _timed(speed)
    steps = [row for row in timed if row["pass"] == BOTH]
    rivals = [name for name, peer in PEERS.items() if peer.rival]
    return [
        _right(speed),
        _at_least("faster than every B-spline peer", timed, rivals, 1.0, strict=True),
        *(
            _at_least(f"{words} every B-spline peer{where}", steps, rivals, bound, takes)
            for words, where, bound, takes in FASTER
        ),
        *(
            _at_least(
                f"at least {bound:g} times as fast as {RECURSION} at G{grid}",
                steps,
                [RECURSION],
                bound,
                _grid(grid),
            )
            for grid, bound in ((5, 3.0), (50, 20.0))
        ),
        _at_most(
            "at most 1.3 times the time of nn.Linear at " + " and ".join(NEAR_LINEAR),
            steps,
            1.3,
            lambda cell: cell.name in NEAR_LINEAR,
        ),
        *(
            _at_most(
                f"at most {bound:g} times the time of nn.Linear at {words} rows",
                timed,
                bound,
                takes,
            )
            for words, bound, takes in NEAR
        ),
        _at_most("below half the time of nn.Linear at G50", steps, 0.5, _grid(50), strict=True),
        _light(memory),
    ]


def _grid(size: int) -> Callable[[Cell], bool]:
    return lambda cell: cell.grid_size == size


FASTER: tuple[tuple[str, str, float, Callable[[Cell], bool]], ...] = (
    ("at least 1.1 times as fast as", " at G5", 1.1, _grid(5)),
    ("at least 4 times as fast as", " at G50", 4.0, _grid(50)),
    ("at least 5 times as fast as", " at G200", 5.0, _grid(200)),
)
NEAR: tuple[tuple[str, float, Callable[[Cell], bool]], ...] = (
    ("1024 and more", 1.5, lambda cell: cell.batch >= 1024 and cell.grid_size == 5),
    ("64", 2.0, lambda cell: cell.batch == 64),
)


def _timed(speed: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows that have a time, with their cells."""
    kept = speed[
        speed["device"].str.startswith("cpu")
        & speed["status"].isin(TIMED)
        & speed["cell"].isin([cell.name for cell in CELLS])
    ]
    return [{**row, "shape": parse(row["cell"])} for row in kept.to_dict("records")]


def _at_least(
    promise: str,
    rows: Sequence[dict[str, Any]],
    peers: Sequence[str],
    bound: float,
    takes: Callable[[Cell], bool] = lambda cell: True,
    *,
    strict: bool = False,
) -> Finding:
    found = [
        (float(row["vs_kanlens"]), f"{row['cell']} {row['pass']}, {row['peer']}")
        for row in rows
        if row["peer"] in peers and takes(row["shape"]) and row["vs_kanlens"] is not None
    ]
    return _finding(promise, found, bound, lowest=True, strict=strict)


def _at_most(
    promise: str,
    rows: Sequence[dict[str, Any]],
    bound: float,
    takes: Callable[[Cell], bool],
    *,
    strict: bool = False,
) -> Finding:
    found = [
        (float(row["vs_linear"]), f"{row['cell']} {row['pass']}")
        for row in rows
        if row["peer"] == OWN and takes(row["shape"]) and row["vs_linear"] is not None
    ]
    return _finding(promise, found, bound, lowest=False, strict=strict)


def _right(speed: pd.DataFrame) -> Finding:
    """Judge kanlens's own values: every cell within the tolerance, none failed."""
    own = speed[(speed["peer"] == OWN) & (speed["pass"] == BOTH)]
    found = [
        (_worst(row["value_error"], row["gradient_error"]), f"{row['device']} {row['cell']}")
        for row in own.to_dict("records")
    ]
    promise = f"values and gradients of {OWN} within {TOLERANCE:g} of the float64 reference"
    return _finding(promise, found, TOLERANCE, lowest=False)


def _worst(*values: Any) -> float:
    """Return the largest value, infinity when one is missing: a layer that failed is wrong."""
    return max(float("inf") if v is None or v != v else float(v) for v in values)


def _light(memory: pd.DataFrame) -> Finding:
    rows = memory[
        (memory["device"] == "cpu") & (memory["peer"] == OWN) & (memory["cell"] == MEMORY_CELL)
    ]
    found = [(_worst(row["extra_mib"]), MEMORY_CELL) for row in rows.to_dict("records")]
    promise = f"peak extra memory under {MEMORY_MIB:g} MiB at {MEMORY_CELL}"
    return _finding(promise, found, MEMORY_MIB, lowest=False, strict=True)


def _finding(
    promise: str,
    found: Sequence[tuple[float, str]],
    bound: float,
    *,
    lowest: bool,
    strict: bool = False,
) -> Finding:
    """Compare the worst of the numbers found with a bound; NaN keeps to none."""
    if not found:
        return Finding(promise=promise, outcome=UNKNOWN, figure=None, bound=bound)
    wrong = [item for item in found if item[0] != item[0]]
    figure, where = (wrong or [min(found) if lowest else max(found)])[0]
    kept = figure > bound if lowest else figure < bound
    kept = kept or (not strict and figure == bound)
    return Finding(
        promise=promise,
        outcome=PASS if kept else FAIL,
        figure=figure,
        bound=bound,
        where=where,
        compared=len(found),
    )


def broken(findings: Sequence[Finding]) -> list[Finding]:
    """Return the promises that are not kept.

    Examples
    --------
    >>> broken([_finding("fast", [(0.9, "here")], 1.0, lowest=True)])[0].where
    'here'
    """
    return [finding for finding in findings if finding.outcome == FAIL]
