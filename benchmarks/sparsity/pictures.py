"""Figures of the stored tables; which experiments made them, figures/data/README.md says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drawing import (
    GAP,
    Frames,
    Picture,
    draw_intervals,
    legend_above,
    look_of,
    means_of,
    page,
    plain_ticks,
)
from benchmarks.statistics import interval, over_seeds
from kanlens.plotting._style import STYLE


def _draw_penalties(frames: Frames) -> Figure:
    """Draw F1 of edges by problem, and the test error over the edges kept."""
    with page(2, 1, 5.2) as (figure, axes):
        top, bottom = axes[:, 0]
        known = frames["sparsity-penalties"].dropna(subset=["edge_f1"])
        found, problems = means_of(known, "penalty", "edge_f1")
        draw_intervals(top, found, problems)
        top.set(ylabel="F1 of true edges", ylim=(0, 1.05))
        top.grid(axis="y", color=STYLE.faint, linewidth=0.5)
        top.legend(ncols=3, loc="lower left")
        _draw_curves(bottom, frames["sparsity-curves"], list(found))
    return figure


def _draw_curves(ax: Axes, curves: pd.DataFrame, penalties: list[str]) -> None:
    """Draw the geometric mean over problems of the error, relative to the whole network's."""
    tuned = curves[curves["tuned"] == "yes"].copy()
    whole = tuned.groupby(["problem", "penalty", "seed"])["size"].transform("max")
    least = tuned.groupby(["problem", "seed"])["test"].transform("min")
    tuned["log"] = np.log10(tuned["test"].astype(float) / least)
    shown = tuned[tuned["size"] < whole]
    for index, penalty in enumerate(penalties):
        part = shown[shown["penalty"] == penalty]
        problems = part.groupby("size")["problem"].nunique()
        sizes = problems.index[problems == part["problem"].nunique()]  # comparable points
        found = [over_seeds(part[part["size"] == size], "log") for size in sizes]
        ax.plot(sizes, [10**mean for mean, _ in found], label=penalty, **look_of(index))
        low, high = ([10 ** (mean + sign * half) for mean, half in found] for sign in (-1, 1))
        ax.fill_between(sizes, low, high, color=look_of(index)["color"], alpha=0.15, linewidth=0)
    ax.set(yscale="log", xlabel="edges kept", ylabel="test error / least of the problem")
    plain_ticks(ax.yaxis, [1, 1.5, 2, 2.5, 3, 4, 5])


def _draw_costs(frames: Frames) -> Figure:
    """Draw time and memory of a step under each penalty, relative to one without."""
    frame = frames["sparsity-costs"].copy()
    pairs = zip(frame["rows"], frame["width"], strict=True)
    frame["shape"] = [f"{rows} rows,\nwidth {width}" for rows, width in pairs]
    shapes, penalties = (list(dict.fromkeys(frame[name])) for name in ("shape", "penalty"))
    panels = {"passes": "time / plain pass", "mib": "peak extra memory (MiB)"}
    with page(1, 2, 2.8) as (figure, axes):
        for ax, (column, label) in zip(axes[0], panels.items(), strict=True):
            for index, penalty in enumerate(penalties):
                values = frame[frame["penalty"] == penalty].set_index("shape")[column]
                shift = GAP * (index - (len(penalties) - 1) / 2)
                places = [shapes.index(shape) + shift for shape in values.index]
                ax.plot(places, values, linestyle="", label=penalty, **look_of(index))
            ax.set(yscale="log", ylabel=label)
            plain_ticks(ax.yaxis, [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500])
            ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
            ax.set_xticks(range(len(shapes)), shapes)
            ax.tick_params(axis="x", labelsize=6)
        legend_above(figure, axes[0][0], 3)
    return figure


def _draw_scaler(frames: Frames) -> Figure:
    """Draw test error, conditioning, steps and time with the scale over those without."""
    titles = {
        "test": ("test error", [0.5, 0.7, 1, 1.4, 2]),
        "condition_end": ("condition at the end", [0.1, 1, 10, 100, 1000]),
        "steps": ("steps to a common loss", [0.5, 1, 2, 4]),
        "ms": ("time of a pass", [0.8, 1, 1.25]),
    }
    frame, keys = frames["sparsity-scaler"], ["problem", "optimizer", "seed"]
    on, off = (frame[frame["scale"] == way].set_index(keys)[[*titles]] for way in ("on", "off"))
    ratios = (on / off).astype(float).apply(np.log).reset_index()
    problems = list(dict.fromkeys(ratios["problem"]))
    with page(1, len(titles), 3.2) as (figure, axes):
        for ax, (column, (title, ticks)) in zip(axes[0], titles.items(), strict=True):
            for index, (optimizer, part) in enumerate(ratios.groupby("optimizer", sort=False)):
                of = {name: rows[column].tolist() for name, rows in part.groupby("problem")}
                mean, half = np.array([interval(of[name]) for name in problems]).T
                ends = [np.exp(mean) - np.exp(mean - half), np.exp(mean + half) - np.exp(mean)]
                look = {"linestyle": "", "elinewidth": 0.8, "capsize": 1.5, **look_of(index)}
                look |= {"markersize": 3, "label": str(optimizer)}
                places = [place + 0.3 * index - 0.15 for place in range(len(problems))]
                ax.errorbar(np.exp(mean), places, xerr=ends, **look)
            ax.axvline(1, color=STYLE.muted, linewidth=0.8)
            ax.set(xscale="log", xlabel=title, ylim=(len(problems) - 0.5, -0.5))
            plain_ticks(ax.xaxis, ticks)
            ax.set_yticks(range(len(problems)), problems if ax is axes[0][0] else [])
        axes[0][0].legend(loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2, borderpad=0)
        figure.supxlabel("with the scale / without (right of 1: more with the scale)", fontsize=8)
    return figure


def _draw_starts(frames: Frames) -> Figure:
    """Draw the accuracy on images after some passes, and the R2 on tables at the end."""
    starts = frames["sparsity-starts"]
    with page(1, 2, 2.9) as (figure, axes):
        left, right = axes[0]
        images = starts[starts["metric"] == "accuracy"]
        for index, (name, part) in enumerate(images.groupby("start", sort=False)):
            _passes(left, part, {"label": str(name), **look_of(index)})
        left.set(xlabel="passes over the images", ylabel="test accuracy", ylim=(0, 1.02))
        tables = starts[starts["metric"] == "R2"]
        found, problems = means_of(tables, "start", "score")
        draw_intervals(right, found, problems)
        right.set_xticks(range(len(problems)), [each.replace("_", "\n") for each in problems])
        right.tick_params(axis="x", labelsize=7)
        lowest = min(-0.1, float(tables["score"].clip(lower=-0.5).min()))
        right.set(ylabel="test R2 at the end", ylim=(lowest, 1.02))
        legend_above(figure, left, 3)
    return figure


def _passes(ax: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw the accuracy after one pass, three and the last, with intervals over seeds."""
    last = int(part["epochs"].max())
    places = {n: name for n, name in {1: "first", 3: "third", last: "score"}.items() if n <= last}
    found = [interval(part[column].tolist()) for column in places.values()]
    below = [mean - max(0.0, mean - half) for mean, half in found]
    above = [min(1.0, mean + half) - mean for mean, half in found]
    means = [mean for mean, _ in found]
    ax.errorbar(list(places), means, yerr=[below, above], capsize=2, elinewidth=0.8, **look)
    ax.set_xticks([1, 3, 10])


def _draw_digits(frames: Frames) -> Figure:
    """Draw the accuracy of every recipe, each seed and the interval of the mean."""
    groups = list(frames["sparsity-digits"].groupby("recipe", sort=False))[::-1]
    with page(1, 1, 0.8 + 0.28 * len(groups)) as (figure, axes):
        ax = axes[0][0]
        for place, (_, part) in enumerate(groups):
            values = (100 * part["accuracy"]).tolist()
            ax.plot(values, [place] * len(values), linestyle="", marker="|", color=STYLE.muted)
            mean, half = interval(values)
            ax.errorbar(mean, place, xerr=half, capsize=2, **look_of(0))
        ax.set_yticks(range(len(groups)), [name for name, _ in groups])
        ax.set_xlabel("test accuracy on MNIST (%), [784, 64, 10], the same parameters")
        ax.axvline(97.5, color=STYLE.muted, linewidth=0.8, linestyle="--")
    return figure


def _draw_grids(frames: Frames) -> Figure:
    """Draw error over grid size, error over time, and time of a pass over grid size."""
    frame = frames["sparsity-grids"]
    with page(1, 3, 2.8) as (figure, axes):
        for index, order in enumerate(sorted(set(frame["order"]))):
            for way, line in {"refined": "-", "anew": ":"}.items():
                part = frame[(frame["order"] == order) & (frame["way"] == way)]
                label = f"order {order}" if way == "refined" else f"order {order}, anew"
                look = {**look_of(index), "linestyle": line, "label": label}
                if len(part):
                    _grid_curves(axes[0], part, look)
        error = "test error / deviation of the target"
        axes[0][0].set(xlabel="grid size", ylabel=error, xscale="log", yscale="log")
        axes[0][1].set(xlabel="training time (s)", ylabel=error, yscale="log")
        axes[0][2].set(xlabel="grid size", ylabel="forward + backward (ms)", xscale="log")
        for ax in (axes[0][0], axes[0][2]):
            plain_ticks(ax.xaxis, sorted(set(frame["grid"])))
        axes[0][1].set_xlim(left=0)
        axes[0][2].set_ylim(bottom=0)
        legend_above(figure, axes[0][0], len(axes[0][0].get_legend_handles_labels()[1]))
    return figure


def _grid_curves(axes: Any, part: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw medians over seeds, and in the first panel every seed."""
    medians = part.groupby("grid")[["test", "seconds", "ms"]].median()
    faint = {"color": look["color"], "marker": look["marker"], "markersize": 2, "alpha": 0.35}
    axes[0].plot(part["grid"], part["test"], linestyle="", **faint)
    axes[0].plot(medians.index, medians["test"], **look)
    axes[1].plot(medians["seconds"], medians["test"], **look)
    axes[2].plot(medians.index, medians["ms"], **look)


def _draw_budgets(frames: Frames) -> Figure:
    """Draw edges left and test error over the budget, one column of panels per table."""
    frame = frames["sparsity-budgets"].sort_values("budget", kind="stable")
    frame["ratio"] = frame["test"].astype(float) / frame["test_before"].astype(float)
    problems = list(dict.fromkeys(frames["sparsity-budgets"]["problem"]))
    with page(2, len(problems), 5.0) as (figure, axes):
        for column, problem in enumerate(problems):
            part = frame[frame["problem"] == problem]
            for ax, value in zip(axes[:, column], ("edges", "ratio"), strict=True):
                found, budgets = means_of(part, "arm", value, "budget")
                shares = [f"{100 * budget:g}" for budget in budgets]
                draw_intervals(ax, found, shares, most=float("inf"))
                ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
            axes[0][column].set_title(f"{problem}, {int(part['edges_before'].max())} edges")
            axes[0][column].set_ylim(bottom=0)
            axes[1][column].axhline(1, color=STYLE.muted, linewidth=0.8)
            axes[1][column].set_xlabel("allowed rise of the held-out loss (%)")
        axes[0][0].set_ylabel("edges left")
        axes[1][0].set_ylabel("test loss / before pruning")
        legend_above(figure, axes[0][0], 5)
    return figure


PICTURES: dict[str, Picture] = {
    "sparsity-penalties": Picture(
        ("sparsity-penalties", "sparsity-curves"),
        _draw_penalties,
        "True edges found under each penalty, and the error of those kept; 95 % intervals.",
    ),
    "sparsity-costs": Picture(
        ("sparsity-costs",), _draw_costs, "Time and memory of a training step under each penalty."
    ),
    "sparsity-scaler": Picture(
        ("sparsity-scaler",),
        _draw_scaler,
        "What the standalone spline scale changes, with 95 % intervals over seeds.",
    ),
    "sparsity-starts": Picture(
        ("sparsity-starts",),
        _draw_starts,
        "Constant and uniform initial weights: MNIST by passes, tables; 95 % intervals.",
    ),
    "sparsity-digits": Picture(
        ("sparsity-digits",), _draw_digits, "What improves a network of the same size on MNIST."
    ),
    "sparsity-grids": Picture(
        ("sparsity-grids",),
        _draw_grids,
        "Error and time as the grid grows, by order; medians, and every seed.",
    ),
    "sparsity-budgets": Picture(
        ("sparsity-budgets",),
        _draw_budgets,
        "Edges left within a budget and their test loss, by score; 95 % intervals.",
    ),
}
