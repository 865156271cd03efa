"""Redraw every picture of README, the pages and the tutorials from its numbers.

    python figures/make.py            compute the numbers into figures/data, then draw
    python figures/make.py --draw     draw from the numbers that are there
    python figures/make.py --only speed    one picture, by its name
    python figures/make.py --only symbolic    the pictures of one benchmark, by its name

Each picture is a pair: `compute` writes files to figures/data, `draw` only reads them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pages import PAGES

import kanlens
from benchmarks.data import beside_checkout
from benchmarks.harness import Benchmark
from benchmarks.machine import processor
from kanlens.plotting._style import context, save

HERE = Path(__file__).parent
DATA = HERE / "data"


@dataclass(frozen=True)
class Picture:
    """One figure: where its numbers come from, how it is drawn, what it shows."""

    compute: Callable[[], None] | None  # None where the numbers are another picture's
    draw: Callable[[], Figure]
    caption: str


SEEDS = 24


def compute_known_function() -> None:
    """Train, prune and read exp(sin(pi x) + y^2) from many seeds; keep the first's networks."""
    pd.DataFrame([recover(seed) for seed in range(SEEDS)]).to_csv(
        DATA / "known-function.csv", index=False
    )


def recover(seed: int) -> dict[str, object]:
    """Go from samples of the function to a formula, as one start of tutorial 01 does."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.rand(1000, 2, generator=generator, dtype=torch.float64) * 2 - 1
    truth = torch.exp(torch.sin(torch.pi * samples[:, 0]) + samples[:, 1] ** 2)
    frame = pd.DataFrame({"x": samples[:, 0], "y": samples[:, 1], "z": truth})
    table = kanlens.read_table(frame, target="z")
    started = time.perf_counter()
    model = kanlens.KAN([2, 5, 1], grid_size=3, generator=generator).double()
    kanlens.fit(model, table, steps=5, generator=generator)
    if seed == 0:
        kanlens.save(model, DATA / "known-function-trained.safetensors")
    sparse = {"penalty": "weight_l1", "strength": 0.02, "grid_updates": 2}
    for _ in range(6):
        kanlens.fit(model, table, steps=15, **sparse, generator=generator)
        model = kanlens.prune(model, table.x, table.y, budget=0.5).model
        if model.widths == (2, 1, 1):
            break
    model.refine(10)
    kanlens.fit(model, table, steps=20, generator=generator)
    symbolic = kanlens.symbolize(model, table.x, table.y)
    seconds = time.perf_counter() - started
    if seed == 0:
        kanlens.save(model, DATA / "known-function-pruned.safetensors")
    fresh = torch.rand(5000, 2, generator=generator, dtype=torch.float64) * 2 - 1
    values = np.exp(np.sin(np.pi * fresh[:, 0].numpy()) + fresh[:, 1].numpy() ** 2)
    error = symbolic.predict(fresh)[:, 0] - values
    return {
        "seed": seed,
        "formula": str(symbolic.sympy()),
        "latex": symbolic.latex(),
        "edges": model.edges_alive,
        "rmse_on_fresh_rows": float(np.sqrt(np.mean(error**2))),
        "seconds": round(seconds, 1),
        "date": date.today().isoformat(),
        "kanlens": kanlens.__version__,
        "torch": torch.__version__,
        "cpu": f"{processor()}, {torch.get_num_threads()} threads",
    }


def draw_known_function() -> Figure:
    """Draw the trained network beside the pruned one, and the formula under that."""
    numbers = pd.read_csv(DATA / "known-function.csv").iloc[0]
    with context():
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(8.0, 3.9), width_ratios=(1.75, 1), layout="constrained"
        )
        kanlens.plot.network(kanlens.load(DATA / "known-function-trained.safetensors"), ax=left)
        kanlens.plot.network(kanlens.load(DATA / "known-function-pruned.safetensors"), ax=right)
        left.set_title("trained: 15 edges")
        right.set_title(f"pruned: {numbers.edges} edges")
        latex = numbers.latex.replace(r"{\left(", "(").replace(r"\right)}", ")")
        figure.supxlabel(f"read:  $z = {latex}$", fontsize=13)
    return figure


def benchmark_pictures() -> dict[str, Picture]:
    """Return the figures of `python -m benchmarks`, each drawn from some of its experiments."""
    from benchmarks.attribution.experiments import ATTRIBUTION
    from benchmarks.readable.experiments import READABLE
    from benchmarks.scaling.experiments import SCALING
    from benchmarks.sparsity.experiments import SPARSITY
    from benchmarks.speed.experiments import SPEED
    from benchmarks.symbolic.experiments import SYMBOLIC

    return {
        name: benchmark_picture(benchmark, name)
        for benchmark in (SPEED, SCALING, SPARSITY, SYMBOLIC, ATTRIBUTION, READABLE)
        for name in benchmark.pictures
        if name != "speed-cuda"
    }


def benchmark_picture(benchmark: Benchmark, name: str) -> Picture:
    """Return one figure of a benchmark, whose times should be taken on an idle machine.

    Where no experiment makes its tables any more, it is drawn from the stored ones.
    """
    drawn = benchmark.pictures[name]
    needed = [e.name for e in benchmark.experiments if set(e.tables) & set(drawn.needs)]

    def compute() -> None:
        setup, parts = benchmark.setup(data=beside_checkout()), [*needed, *ALONG.get(name, ())]
        benchmark.run(setup, DATA, parts=parts, fresh=True, picture=False)

    def draw() -> Figure:
        return drawn.draw({table: pd.read_csv(DATA / f"{table}.csv") for table in drawn.needs})

    return Picture(compute=compute if needed else None, draw=draw, caption=drawn.caption)


ALONG = {  # experiments that are run with those of a figure
    "symbolic-recovery": ["known"],
    "symbolic-identification": ["speed"],
}
PICTURES = {
    "known-function": Picture(
        compute=compute_known_function,
        draw=draw_known_function,
        caption="A KAN trained on samples of exp(sin(pi x) + y^2), pruned, and read.",
    ),
    **benchmark_pictures(),
    **{name: Picture(*parts) for name, parts in PAGES.items()},
}
GROUPS = ("sparsity", "symbolic", "attribution", "concept", "guide")  # with several pictures


def main() -> None:
    """Compute and draw every picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw from the numbers there are")
    parser.add_argument("--only", choices=[*PICTURES, *GROUPS], help="some pictures")
    options = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        if options.only not in (None, name, name.partition("-")[0]):
            continue
        if picture.compute is not None and not options.draw:
            picture.compute()
        try:
            figure = picture.draw()
        except FileNotFoundError as error:  # an experiment nobody has run yet
            missing = Path(str(error.filename)).name
            print(f"figures/{name}.png: not drawn, data/{missing} has not been computed")
            continue
        save(figure, HERE / f"{name}.png")
        plt.close(figure)
        print(f"figures/{name}.png: {picture.caption}")


if __name__ == "__main__":
    main()
