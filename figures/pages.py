"""Pictures of the pages in docs; `figures/make.py` computes and draws them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import kanlens
from kanlens.plotting._style import STYLE, context, tidy
from kanlens.sparsity import raw_l1, weight_l1

DATA = Path(__file__).parent / "data"
TRAINED = DATA / "known-function-trained.safetensors"
WIDE = (STYLE.page, 2.6)
WAYS = ("as drawn", "a factor of 4 moved\nto the scaler", "a constant moved\nto another edge")


def draw_edge() -> Figure:
    """Draw one edge of the trained network with its parts and its knots."""
    with context():
        figure, axes = plt.subplots(figsize=(5.0, 3.2), layout="constrained")
        kanlens.plot.edge(kanlens.load(TRAINED), 0, 2, 0, parts=True, ax=axes)
    return figure


def written_differently() -> dict[str, kanlens.KANLinear]:
    """Return one layer of three edges as it is, rescaled, and with a constant moved."""
    layers = {}
    for name in (
        "as drawn",
        "a factor of 4 moved\nto the scaler",
        "a constant moved\nto another edge",
    ):
        generator = torch.Generator().manual_seed(3)
        layers[name] = kanlens.KANLinear(3, 1, scale_noise=8.0, generator=generator).double()
    _, scaled, moved = layers.values()
    with torch.no_grad():
        scaled.spline_weight[:, 0] /= 4
        scaled.spline_scaler[:, 0] *= 4
        moved.spline_weight[0, 1] += 0.5 / moved.spline_scaler[0, 1]
        moved.spline_weight[0, 2] -= 0.5 / moved.spline_scaler[0, 2]
    return layers


def draw_weight_l1() -> Figure:
    """Draw both norms of three edges, in three ways to write the same layer."""
    layers = written_differently()
    with context():
        figure, both = plt.subplots(1, 2, figsize=WIDE, layout="constrained")
        for axes, norm in zip(both, (weight_l1, raw_l1), strict=True):
            tidy(axes)
            base = np.zeros(len(layers))
            for edge in range(3):
                sizes = np.array([norm(layer)[0, edge].item() for layer in layers.values()])
                axes.bar(range(len(layers)), sizes, 0.6, bottom=base, color=STYLE.series[edge])
                base += sizes
            axes.set_xticks(range(len(layers)), list(layers), fontsize=STYLE.small)
            axes.set_ylabel(f"{norm.__name__}, three edges", fontsize=STYLE.text)
    return figure


def compute_receipt() -> None:
    """Search a formula for a noisy table and keep the front."""
    draw = np.random.default_rng(0)
    x = np.column_stack(
        [draw.uniform(1, 5, 600), draw.uniform(0, 4, 600), draw.uniform(0.5, 2, 600)]
    )
    y = x[:, 0] * (1 - np.exp(-x[:, 1] / x[:, 2])) * (1 + 0.005 * draw.normal(size=600))
    found = kanlens.discover(x, y, ["U", "t", "tau"], progress=False)
    front = found.equations_[["complexity", "loss", "equation"]]
    chosen = str(found.sympy())
    front.assign(chosen=[str(e) == chosen for e in found.equations_.sympy_format]).to_csv(
        DATA / "concept-receipt.csv", index=False
    )


def draw_receipt() -> Figure:
    """Draw the loss of every formula on a front against its length."""
    front = pd.read_csv(DATA / "concept-receipt.csv")
    chosen = front[front.chosen].iloc[0]
    with context():
        figure, axes = plt.subplots(figsize=(5.0, 3.0), layout="constrained")
        axes.semilogy(front.complexity, front.loss, "o-", color=STYLE.muted, markersize=4)
        axes.plot(chosen.complexity, chosen.loss, "o", color=STYLE.accent, markersize=9)
        axes.annotate(
            chosen.equation,
            (chosen.complexity, chosen.loss),
            xytext=(8, 8),
            textcoords="offset points",
            color=STYLE.accent,
        )
        axes.set(xlabel="complexity of the formula", ylabel="loss / variance of the target")
        tidy(axes)
    return figure


def draw_completeness() -> Figure:
    """Draw the median relative gap of every method on trained networks."""
    frame = pd.read_csv(DATA / "attribution-trained.csv")
    frame = frame[frame.method != "random"]
    gaps = frame.groupby("method").relative_gap.median().sort_values()
    with context():
        figure, axes = plt.subplots(figsize=(STYLE.page, 3.2), layout="constrained")
        tidy(axes)
        colors = [STYLE.accent if gap < 1e-9 else STYLE.positive for gap in gaps]
        axes.hlines(range(len(gaps)), 1e-17, gaps, color=colors, linewidth=1.5)
        axes.scatter(gaps, range(len(gaps)), color=colors, zorder=3)
        axes.set_yticks(range(len(gaps)), gaps.index)
        axes.set(xscale="log", xlim=(1e-17, 30), xlabel="part of the change left unexplained")
        axes.axvline(1, color=STYLE.faint, zorder=0)
        axes.annotate("all of it", (1, -0.4), color=STYLE.muted, fontsize=STYLE.small, ha="right")
    return figure


def compute_certificate() -> None:
    """Prove the range of the trained network with more and more boxes."""
    model = kanlens.load(TRAINED)
    rows = []
    for boxes in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
        proven = kanlens.certify(model, [(-1, 1), (-1, 1)], max_boxes=boxes, progress=False)
        bounds = proven.outputs[0].range
        rows.append({"boxes": boxes, "low": bounds.low, "high": bounds.high})
        rows[-1] |= {"seen_low": bounds.seen_low, "seen_high": bounds.seen_high}
    pd.DataFrame(rows).to_csv(DATA / "concept-certificate.csv", index=False)


def draw_certificate() -> Figure:
    """Draw proven and observed ranges of an output against the number of boxes."""
    frame = pd.read_csv(DATA / "concept-certificate.csv")
    with context():
        figure, axes = plt.subplots(figsize=(5.0, 3.2), layout="constrained")
        axes.fill_between(frame.boxes, frame.low, frame.high, color=STYLE.faint, label="proven")
        for end in (frame.low, frame.high):
            axes.plot(frame.boxes, end, "o-", color=STYLE.accent, markersize=4)
        for end, label in ((frame.seen_low, "observed"), (frame.seen_high, None)):
            axes.plot(frame.boxes, end, "--", color=STYLE.ink, label=label)
        axes.set(xscale="log", xlabel="number of boxes", ylabel="output z")
        axes.legend(loc="upper right")
        tidy(axes)
    return figure


def compute_network() -> None:
    """Train the network of docs/guide/table.md and keep it."""
    draw = np.random.default_rng(0)
    ends = {"U": (1, 5), "t": (0, 4), "T": (280, 300)}
    frame = pd.DataFrame({name: draw.uniform(*pair, 500) for name, pair in ends.items()})
    frame["v"] = frame["U"] * (1 - np.exp(-frame["t"]))
    table = kanlens.read_table(frame, target="v")
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN([3, 3, 1], generator=generator).double()
    sparse = {"penalty": "weight_l1", "strength": 0.002}
    kanlens.fit(model, table, steps=30, **sparse, generator=generator, progress=False)
    kanlens.save(model, DATA / "guide-network.safetensors")


def draw_network() -> Figure:
    """Draw the network that the guide trains."""
    with context():
        figure, axes = plt.subplots(figsize=(6.0, 3.8), layout="constrained")
        kanlens.plot.network(kanlens.load(DATA / "guide-network.safetensors"), ax=axes)
    return figure


@cache
def grow_networks() -> tuple[kanlens.Frontier, kanlens.Table]:
    """Grow the networks of docs/guide/frontier.md on its table."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"dose": draw.uniform(0, 10, 800), "age": draw.normal(50, 12, 800)})
    frame["weight"] = draw.normal(70, 9, 800)
    towns = {"Aachen": 0, "Basel": 1, "Chartres": -1, "Delft": 0.5, "Essen": 2, "Faenza": -0.5}
    frame["town"] = draw.choice(list(towns), 800)
    effect = 2 * np.sin(frame["dose"]) + frame["town"].map(towns)
    effect += 0.03 * (frame["dose"] - 5) * (frame["age"] - 50)
    effect += 0.1 * (frame["weight"] - 70) * frame["town"].isin(["Basel", "Essen"])
    frame["response"] = 10 * np.exp(effect / 4) + draw.normal(0, 1, 800)
    table = kanlens.read_table(frame, target="response")
    generator = torch.Generator().manual_seed(0)
    options = {"references": ["default", "boosting"], "progress": False, "generator": generator}
    return kanlens.frontier(table, **options), table


def draw_frontier() -> Figure:
    """Draw the scores of the networks that the guide grows."""
    front, _ = grow_networks()
    with context():
        figure, axes = plt.subplots(figsize=(5.2, 3.0), layout="constrained")
        kanlens.plot.frontier(front, ax=axes)
    return figure


def draw_terms() -> Figure:
    """Draw the terms of the simplest network that the guide grows."""
    front, table = grow_networks()
    figure = kanlens.plot.terms(front.simplest, table.x).figure
    if not isinstance(figure, Figure):
        raise TypeError("terms of a figure's own")
    return figure


PAGES = {
    "guide-frontier": (None, draw_frontier, "Scores of growing networks, with their last terms."),
    "guide-terms": (None, draw_terms, "The terms of the simplest of these networks."),
    "guide-network": (compute_network, draw_network, "The network of the guide, with its edges."),
    "concept-edge": (None, draw_edge, "One edge: its function, its spline, its base, its knots."),
    "concept-weight-l1": (
        None,
        draw_weight_l1,
        "Two norms of the same three edges, written in three ways.",
    ),
    "concept-receipt": (
        compute_receipt,
        draw_receipt,
        "A Pareto front of formulas, and the chosen one.",
    ),
    "concept-completeness": (
        None,
        draw_completeness,
        "The part of a prediction that each method leaves unexplained.",
    ),
    "concept-certificate": (
        compute_certificate,
        draw_certificate,
        "Proven bounds of an output, approaching the observed range.",
    ),
}
