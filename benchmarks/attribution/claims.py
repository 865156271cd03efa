"""What the package claims of its attributions, measured."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import version_of
from kanlens.attribution._attribute import attribute
from kanlens.attribution._result import Attribution
from kanlens.model._network import KAN

if TYPE_CHECKING:
    import pandas as pd

ORDERS = 200  # of the features that captum draws for every background row
ROUNDS = 5

Finding = tuple[str, float, str, float | None]  # what, figure, unit, limit


def network(widths: list[int], seed: int, *, roughness: float = 1.0) -> KAN:
    """Return a float64 network drawn from a seed, with SiLU and five intervals."""
    generator = torch.Generator().manual_seed(seed)
    return KAN(cast("Any", widths), scale_noise=roughness, generator=generator).double()


def rows(count: int, width: int, seed: int) -> Tensor:
    """Return uniform rows between -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, width, generator=generator, dtype=torch.float64) - 1


def _local(model: KAN, x: Tensor, method: str, background: Tensor, **options: Any) -> Attribution:
    found = attribute(
        model, x, method=method, background=background, target=0, progress=False, **options
    )
    if not isinstance(found, Attribution):
        raise RuntimeError("only local methods have gaps")
    return found


def _gap(found: Attribution) -> float:
    """Return the largest gap over the change it should explain, and 0.001 deviations."""
    return float(found.relative_gap.max())


def _completeness(small: bool) -> Iterator[Finding]:
    """Measure secants and integrated gradients on networks of two and three layers."""
    seeds, count = (range(2), 5) if small else (range(10), 100)
    shapes = {"8-5-1": [8, 5, 1], "5-4-3-1": [5, 4, 3, 1]}
    for name, widths in shapes.items():
        gaps, paths, counts = [], [], []
        for seed in seeds:
            model = network(widths, seed, roughness=0.1 if seed % 2 else 1.0)
            x, row = rows(count, widths[0], seed), rows(1, widths[0], 100 + seed)
            gaps.append(_gap(_local(model, x, "secant", row)))
            found = _local(model, x, "integrated_gradients", row)
            paths.append(_gap(found))
            alone = [_local(model, one, "integrated_gradients", row) for one in x.split(1)]
            counts += [one.evaluations or 0.0 for one in alone]
        limit = 1e-12 if len(widths) == 3 else 1e-10
        yield f"{name}: secant, largest gap", max(gaps), "of the change", 1e-12
        yield f"{name}: integrated gradients, largest gap", max(paths), "of the change", limit
        limits = (200.0, 400.0) if len(widths) == 3 else (None, None)
        mean, largest = statistics.mean(counts), max(counts)
        yield f"{name}: integrated gradients, mean", mean, "gradients a row", limits[0]
        yield f"{name}: integrated gradients, most", largest, "gradients a row", limits[1]


def _additive(small: bool) -> Iterator[Finding]:
    """Compare the closed form of a one-layer network with all coalitions."""
    from benchmarks.attribution.truths import shapley

    errors = []
    for seed in range(1 if small else 5):
        model = network([8, 1], seed)
        x, background = rows(10, 8, seed), rows(10, 8, 100 + seed)
        with torch.no_grad():
            exact = shapley(_output(model), x, background)
        found = _local(model, x, "additive", background).values
        errors.append(float((found - exact).abs().max() / exact.abs().max()))
    yield "8-1: additive, largest error", max(errors), "of the largest value", 1e-13


def _output(model: KAN) -> Callable[[Tensor], Tensor]:
    return lambda x: cast("Tensor", model(x)[:, 0])


def _cosines(small: bool) -> Iterator[Finding]:
    """Compare cosine series with all coalitions, pair by pair, and time them."""
    for players in (10,) if small else (10, 14):
        errors, seconds, bounds = [], [], []
        for seed in range(1 if small else 10):
            model = network([players, 8, 1], seed)
            x, row = rows(1, players, seed), rows(1, players, 100 + seed)
            exact = _local(model, x, "shapley", row, algorithm="enumeration").values
            started = time.perf_counter()
            found = _local(model, x, "shapley", row, algorithm="fourier")
            seconds.append(time.perf_counter() - started)
            errors.append(float((found.values - exact).abs().max()))
            bounds.append(float(cast("Tensor", found.bound).max()))
        name = f"{players}-8-1: cosine series"
        yield f"{name}, largest error", max(errors), "of the output's unit", 1e-6
        yield f"{name}, largest bound", max(bounds), "of the output's unit", None
        yield f"{name}, a pair", statistics.median(seconds), "s", 0.1


def _planted_games(small: bool) -> Iterator[Finding]:
    """Compare games of 30 players whose outer functions have closed forms with their bounds."""
    from kanlens.attribution.shapley._cosines import fit
    from kanlens.attribution.shapley._fourier import product_games
    from kanlens.model._edge import Edge

    players, games = 30, 5 if small else 100
    steps = 0.3 * rows(games, players, 3)
    offsets = rows(games, 1, 4)[:, 0]
    low = float((offsets + steps.clamp(max=0).sum(1)).min())
    high = float((offsets + steps.clamp(min=0).sum(1)).max())
    exact = {
        "cosine": _product_game(steps, offsets, 1j).real,
        "exponential": _product_game(steps, offsets, 1.0).real,
        "quadratic": steps * (2 * offsets + steps.sum(1))[:, None],
    }
    edges = {
        "cosine": Edge.of("sin", b=torch.pi / 2),
        "exponential": Edge.of("exp"),
        "quadratic": Edge.of("x^2"),
    }
    for name, edge in edges.items():
        series = fit(edge, low, high, tolerance=1e-7)
        found = product_games(steps, offsets, series)
        share = float((found - exact[name]).abs().max()) / (2 * series.error)
        yield f"{players} players, {name}: largest error", share, "of the bound", 1.0


def _product_game(steps: Tensor, offsets: Tensor, rate: complex) -> Tensor:
    """Return the Shapley values of v(S) = exp(rate * (offset + sum of S)), by Owen's formula."""
    import numpy as np

    turns = torch.exp(rate * steps.to(torch.complex128))  # (game, player)
    places, weights = np.polynomial.legendre.leggauss(steps.shape[1])
    total = torch.zeros_like(turns)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        mixed = (1 - place) + place * turns
        for i in range(steps.shape[1]):
            others = torch.cat([mixed[:, :i], mixed[:, i + 1 :]], 1).prod(1)
            total[:, i] += weight * (turns[:, i] - 1) * others
    return total * torch.exp(rate * offsets.to(torch.complex128))[:, None]


def _deep_lift(small: bool) -> Iterator[Finding]:
    """Run captum's DeepLift on models as they are and on their edge views."""
    from captum.attr import DeepLift

    stock, own = [], []
    for seed in range(1 if small else 5):
        model = network([5, 4, 1], seed, roughness=3.0)
        x, row = rows(32, 5, seed), rows(1, 5, 100 + seed)
        with torch.no_grad():
            change = (model(x) - model(row))[:, 0]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting forward, backward hooks")
            method = DeepLift(model)
            values = method.attribute(x.clone().requires_grad_(), row, target=0).detach()
        stock.append(float((values.sum(1) - change).abs().max() / change.abs().mean()))
        found = _local(model, x, "captum_deep_lift", row)
        own.append(float(found.completeness_gap.abs().max() / change.abs().mean()))
    yield "5-4-1 rough: captum's DeepLift, largest gap", max(stock), "mean changes", None
    yield "5-4-1 rough: the same on the edge view", max(own), "mean changes", 1e-12


def _speed(small: bool) -> Iterator[Finding]:
    """Time exact Shapley values against captum's sampling on every background row."""
    count, behind, orders = (20, 5, 10) if small else (1000, 100, ORDERS)
    model = network([8, 5, 1], 0, roughness=0.5)
    x, background = rows(count, 8, 0), rows(behind, 8, 1)
    _local(model, x[:2], "shapley", background)  # compiles
    own = [_seconds(lambda: _local(model, x, "shapley", background)) for _ in range(ROUNDS)]
    exact = _local(model, x, "shapley", background).values
    started = time.perf_counter()
    sampled = _captum_sampling(model, x, background, orders)
    theirs = time.perf_counter() - started
    error = float((sampled - exact).abs().sum() / exact.abs().sum())
    middle = statistics.median(own)
    what = f"8-5-1, {count} x {behind} rows"
    yield f"{what}: exact Shapley values", middle, "s", 30.0
    yield f"{what}: captum's sampling, {orders} orders a row", theirs, "s", None
    yield f"{what}: error of the sampling", error, "of the values", None
    yield f"{what}: times as fast", theirs / middle, "", None if small else -50.0


def _captum_sampling(model: KAN, x: Tensor, background: Tensor, orders: int) -> Tensor:
    """Return captum's sampled Shapley values, averaged over the background rows."""
    from captum.attr import ShapleyValueSampling

    total = torch.zeros_like(x)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        method = ShapleyValueSampling(_output(model))
        for row in background.split(1):
            total += method.attribute(x, row, n_samples=orders, perturbations_per_eval=x.shape[1])
    return total / len(background)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


_KINDS: dict[str, Callable[[bool], Iterator[Finding]]] = {
    "completeness": _completeness,
    "additive": _additive,
    "cosines": _cosines,
    "planted_games": _planted_games,
    "deep_lift": _deep_lift,
    "speed": _speed,
}


def _plan(setup: Setup) -> Units:
    return Units(keys=tuple((kind,) for kind in _KINDS))


def _run(setup: Setup, key: Key) -> Rows:
    (kind,) = key
    found = []
    for what, figure, unit, limit in _KINDS[kind](setup.smoke):
        kept = None if limit is None else figure <= limit if limit >= 0 else figure >= -limit
        row = {"captum": version_of("captum"), "what": what, "figure": figure, "unit": unit}
        promise = None if limit is None else abs(limit)
        found.append(row | {"promise": promise, "kept": kept})
    return found


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"claims": frame[["what", "figure", "unit", "promise", "kept"]].reset_index(drop=True)}


CLAIMS = Experiment(
    name="claims",
    question="Are attributions as exact and as fast as the package says?",
    tables={"attribution-claims": ("captum", "what", "figure", "unit", "promise", "kept")},
    keys=("kind",),
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("captum", "what", "unit"),
    alone=True,
)
