"""The experiments as figures, drawn from their tables and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.drawing import (
    GAP,
    Picture,
    draw_intervals,
    figure_of,
    look_of,
    means_of,
    plain_ticks,
)
from benchmarks.statistics import Interval, interval, over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.drawing import Frames

__all__ = ["PICTURES", "Picture"]


def _draw_penalties(frames: Frames) -> Figure:
    """Draw F1 of edges by problem, and the test error over the edges kept."""
    from kanlens.plotting.style import STYLE, context

    with context():
        figure, axes = figure_of(2, 1, 5.2)
        top, bottom = axes[:, 0]
        known = frames["sparsity-penalties"].dropna(subset=["edge_f1"])
        found, problems = means_of(known, "penalty", "edge_f1")
        draw_intervals(top, found, problems)
        top.set_ylabel("F1 of true edges")
        top.set_ylim(0, 1.05)
        top.grid(axis="y", color=STYLE.faint, linewidth=0.5)
        top.legend(ncols=3, loc="lower left")
        _draw_curves(bottom, frames["sparsity-curves"], list(found))
    return figure


def _draw_curves(ax: Axes, curves: pd.DataFrame, penalties: list[str]) -> None:
    """Draw the geometric mean over problems of the error, relative to the whole network's."""
    import numpy as np

    tuned = curves[curves["tuned"] == "yes"].copy()
    keys = ["problem", "penalty", "seed"]
    whole = tuned.groupby(keys)["size"].transform("max")
    least = tuned.groupby(["problem", "seed"])["test"].transform("min")
    tuned["log"] = np.log10(tuned["test"].astype(float) / least)
    shown = tuned[tuned["size"] < whole]
    for index, penalty in enumerate(penalties):
        part = shown[shown["penalty"] == penalty]
        sizes = sorted(size for size in set(part["size"]) if _complete(part, size))
        found = [over_seeds(part[part["size"] == size], "log") for size in sizes]
        ax.plot(sizes, [10**each.mean for each in found], label=penalty, **look_of(index))
        low, high = ([10 ** getattr(each, end) for each in found] for end in ("low", "high"))
        ax.fill_between(sizes, low, high, color=look_of(index)["color"], alpha=0.15, linewidth=0)
    ax.set_yscale("log")
    plain_ticks(ax.yaxis, [1, 1.5, 2, 2.5, 3, 4, 5])
    ax.set_xlabel("edges kept")
    ax.set_ylabel("test error / least of the problem")


def _complete(part: pd.DataFrame, size: int) -> bool:
    """Tell whether every problem has the size, so that points of a curve can be compared."""
    return bool(part[part["size"] == size]["problem"].nunique() == part["problem"].nunique())


def _draw_costs(frames: Frames) -> Figure:
    """Draw time and memory of a step under each penalty, relative to one without."""
    from kanlens.plotting.style import STYLE, context

    frame = frames["sparsity-costs"].copy()
    pairs = zip(frame["rows"], frame["width"], strict=True)
    frame["shape"] = [f"{rows} rows,\nwidth {width}" for rows, width in pairs]
    shapes, penalties = (list(dict.fromkeys(frame[name])) for name in ("shape", "penalty"))
    panels = {"passes": "time / plain pass", "mib": "peak extra memory (MiB)"}
    with context():
        figure, axes = figure_of(1, 2, 2.8)
        for ax, (column, label) in zip(axes[0], panels.items(), strict=True):
            for index, penalty in enumerate(penalties):
                values = frame[frame["penalty"] == penalty].set_index("shape")[column]
                shift = GAP * (index - (len(penalties) - 1) / 2)
                places = [shapes.index(shape) + shift for shape in values.index]
                ax.plot(places, values, linestyle="", label=penalty, **look_of(index))
            ax.set_yscale("log")
            plain_ticks(ax.yaxis, [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500])
            ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
            ax.set_xticks(range(len(shapes)), shapes)
            ax.tick_params(axis="x", labelsize=6)
            ax.set_ylabel(label)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def _draw_scaler(frames: Frames) -> Figure:
    """Draw test error, conditioning, steps and time with the scale over those without."""
    from kanlens.plotting.style import STYLE, context

    titles = {
        "test": ("test error", [0.5, 0.7, 1, 1.4, 2]),
        "condition_end": ("condition at the end", [0.1, 1, 10, 100, 1000]),
        "steps": ("steps to a common loss", [0.5, 1, 2, 4]),
        "ms": ("time of a pass", [0.8, 1, 1.25]),
    }
    ratios = _scale_ratios(frames["sparsity-scaler"], list(titles))
    problems = list(dict.fromkeys(ratios["problem"]))
    with context():
        figure, axes = figure_of(1, len(titles), 3.2)
        for ax, (column, (title, ticks)) in zip(axes[0], titles.items(), strict=True):
            for index, (optimizer, part) in enumerate(ratios.groupby("optimizer", sort=False)):
                of = {name: rows[column].tolist() for name, rows in part.groupby("problem")}
                found = [interval(of[name]) for name in problems]
                places = [place + 0.3 * index - 0.15 for place in range(len(problems))]
                _factors(ax, found, places, {"label": str(optimizer), **look_of(index)})
            ax.axvline(1, color=STYLE.muted, linewidth=0.8)
            ax.set_xlabel(title)
            plain_ticks(ax.xaxis, ticks)
            ax.set_ylim(len(problems) - 0.5, -0.5)
            ax.set_yticks(range(len(problems)), problems if ax is axes[0][0] else [])
        axes[0][0].legend(loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2, borderpad=0)
        figure.supxlabel("with the scale / without (right of 1: more with the scale)", fontsize=8)
    return figure


def _scale_ratios(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the logarithm of what is measured with the scale over what is without."""
    import numpy as np

    keys = ["problem", "optimizer", "seed"]
    on, off = (frame[frame["scale"] == scale].set_index(keys)[columns] for scale in ("on", "off"))
    ratios: pd.DataFrame = np.log((on / off).astype(float)).reset_index()
    return ratios


def _factors(ax: Axes, found: list[Interval], places: list[float], look: dict[str, Any]) -> None:
    """Draw intervals of logarithms as factors along a logarithmic axis."""
    import numpy as np

    middle, low, high = (
        np.exp([getattr(each, end) for each in found]) for end in ("mean", "low", "high")
    )
    style = {"linestyle": "", "elinewidth": 0.8, "capsize": 1.5, **look, "markersize": 3}
    ax.errorbar(middle, places, xerr=[middle - low, high - middle], **style)
    ax.set_xscale("log")


def _draw_starts(frames: Frames) -> Figure:
    """Draw the accuracy on images after some passes, and the R2 on tables at the end."""
    from kanlens.plotting.style import context

    starts = frames["sparsity-starts"]
    panels = {"accuracy": _draw_starts_on_images, "R2": _draw_starts_on_tables}
    parts = {metric: starts[starts["metric"] == metric] for metric in panels}
    shown = [metric for metric in panels if len(parts[metric])]
    with context():
        figure, axes = figure_of(1, len(shown), 2.9)
        for ax, metric in zip(axes[0], shown, strict=True):
            panels[metric](ax, parts[metric])
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def _draw_starts_on_tables(ax: Axes, tables: pd.DataFrame) -> None:
    found, problems = means_of(tables, "start", "score")
    draw_intervals(ax, found, problems)
    ax.set_xticks(range(len(problems)), [each.replace("_", "\n") for each in problems])
    ax.tick_params(axis="x", labelsize=7)
    ax.set_ylabel("test R2 at the end")
    ax.set_ylim(bottom=min(-0.1, float(tables["score"].clip(lower=-0.5).min())), top=1.02)


def _draw_starts_on_images(ax: Axes, images: pd.DataFrame) -> None:
    for index, (name, part) in enumerate(images.groupby("start", sort=False)):
        _passes(ax, part, {"label": str(name), **look_of(index)})
    ax.set_xlabel("passes over the images")
    ax.set_ylabel("test accuracy")
    ax.set_ylim(0, 1.02)


def _passes(ax: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw the accuracy after one pass, three and the last, with intervals over seeds."""
    last = int(part["epochs"].max())
    places = {n: name for n, name in {1: "first", 3: "third", last: "score"}.items() if n <= last}
    found = [interval(part[column].tolist()) for column in places.values()]
    mean = [each.mean for each in found]
    below = [each.mean - max(0.0, each.low) for each in found]
    above = [min(1.0, each.high) - each.mean for each in found]
    ax.errorbar(list(places), mean, yerr=[below, above], capsize=2, elinewidth=0.8, **look)
    ax.set_xticks([1, 3, 10])


def _draw_digits(frames: Frames) -> Figure:
    """Draw the accuracy of every recipe, each seed and the interval of the mean."""
    from kanlens.plotting.style import STYLE

    found = {}
    for recipe, part in frames["sparsity-digits"].groupby("recipe", sort=False):
        scores = (100 * part["accuracy"]).tolist()
        found[str(recipe)] = (scores, interval(scores))
    figure = _strip(found, "test accuracy on MNIST (%), [784, 64, 10], the same parameters")
    figure.axes[0].axvline(97.5, color=STYLE.muted, linewidth=0.8, linestyle="--")
    return figure


def _strip(found: Mapping[str, tuple[list[float], Interval]], label: str) -> Figure:
    """Draw a line of values and the interval of their mean for every name, first at the top."""
    from kanlens.plotting.style import STYLE, context

    names = list(found)[::-1]
    with context():
        figure, axes = figure_of(1, 1, 0.8 + 0.28 * len(names))
        ax = axes[0][0]
        for place, name in enumerate(names):
            values, mean = found[name]
            ax.plot(values, [place] * len(values), linestyle="", marker="|", color=STYLE.muted)
            sides = [[mean.mean - mean.low], [mean.high - mean.mean]]
            ax.errorbar(mean.mean, place, xerr=sides, capsize=2, **look_of(0))
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel(label)
    return figure


def _draw_grids(frames: Frames) -> Figure:
    """Draw error over grid size, error over time, and time of a pass over grid size."""
    from kanlens.plotting.style import context

    frame = frames["sparsity-grids"]
    with context():
        figure, axes = figure_of(1, 3, 2.8)
        for index, order in enumerate(sorted(set(frame["order"]))):
            for way, line in {"refined": "-", "anew": ":"}.items():
                part = frame[(frame["order"] == order) & (frame["way"] == way)]
                if len(part):
                    label = f"order {order}" if way == "refined" else f"order {order}, anew"
                    _grid_curves(
                        axes[0], part, {**look_of(index), "linestyle": line, "label": label}
                    )
        labels = (
            ("grid size", "test error / deviation of the target"),
            ("training time (s)", "test error / deviation of the target"),
            ("grid size", "forward + backward (ms)"),
        )
        for ax, (x, y) in zip(axes[0], labels, strict=True):
            ax.set_xlabel(x)
            ax.set_ylabel(y)
        for ax in (axes[0][0], axes[0][1]):
            ax.set_yscale("log")
        for ax in (axes[0][0], axes[0][2]):
            ax.set_xscale("log")
            plain_ticks(ax.xaxis, sorted(set(frame["grid"])))
        axes[0][1].set_xlim(left=0)
        axes[0][2].set_ylim(bottom=0)
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return figure


def _grid_curves(axes: Any, part: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw medians over seeds, and in the first panel every seed."""
    medians = part.groupby("grid")[["test", "seconds", "ms"]].median()
    faint = {"color": look["color"], "marker": look["marker"], "markersize": 2, "alpha": 0.35}
    axes[0].plot(part["grid"], part["test"], linestyle="", **faint)
    axes[0].plot(medians.index, medians["test"], **look)
    axes[1].plot(medians["seconds"], medians["test"], **look)
    axes[2].plot(medians.index, medians["ms"], **look)


def _draw_damage(frames: Frames) -> Figure:
    """Draw the rank correlation of every score with true damage: problems, and their mean."""
    found = {}
    for score, part in frames["sparsity-damage"].groupby("score", sort=False):
        problems = part.groupby("problem")["spearman"].mean().tolist()
        found[str(score)] = (problems, over_seeds(part, "spearman"))
    figure = _strip(found, "rank correlation of the score with the rise of the test error")
    figure.axes[0].set_xlim(right=1.02)
    return figure


def _draw_budgets(frames: Frames) -> Figure:
    """Draw edges left and test error over the budget, one column of panels per table."""
    from kanlens.plotting.style import STYLE, context

    frame = frames["sparsity-budgets"].copy()
    frame["ratio"] = frame["test"].astype(float) / frame["test_before"].astype(float)
    problems = list(dict.fromkeys(frame["problem"]))
    with context():
        figure, axes = figure_of(2, len(problems), 5.0)
        for column, problem in enumerate(problems):
            part = frame[frame["problem"] == problem]
            for ax, value in zip(axes[:, column], ("edges", "ratio"), strict=True):
                _panel(ax, part, value)
                ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
            axes[0][column].set_title(f"{problem}, {int(part['edges_before'].max())} edges")
            axes[0][column].set_ylim(bottom=0)
            axes[1][column].axhline(1, color=STYLE.muted, linewidth=0.8)
            axes[1][column].set_xlabel("allowed rise of the held-out loss (%)")
        axes[0][0].set_ylabel("edges left")
        axes[1][0].set_ylabel("test loss / before pruning")
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=5)
    return figure


def _panel(ax: Axes, part: pd.DataFrame, value: str) -> None:
    """Draw the interval over seeds of a value for every way of pruning at every budget."""
    budgets = sorted(set(part["budget"]))
    found: dict[str, list[Interval]] = {}
    for arm, rows in part.groupby("arm", sort=False):
        values = {budget: each[value].tolist() for budget, each in rows.groupby("budget")}
        found[str(arm)] = [interval(values.get(budget, [])) for budget in budgets]
    draw_intervals(ax, found, [f"{100 * budget:g}" for budget in budgets], most=float("inf"))


PICTURES: dict[str, Picture] = {
    "sparsity-penalties": Picture(
        needs=("sparsity-penalties", "sparsity-curves"),
        draw=_draw_penalties,
        caption="True edges found under each penalty, and the error of those kept; 95 % intervals.",
    ),
    "sparsity-costs": Picture(
        needs=("sparsity-costs",),
        draw=_draw_costs,
        caption="Time and memory of a training step under each penalty.",
    ),
    "sparsity-scaler": Picture(
        needs=("sparsity-scaler",),
        draw=_draw_scaler,
        caption="What the standalone spline scale changes, with 95 % intervals over seeds.",
    ),
    "sparsity-starts": Picture(
        needs=("sparsity-starts",),
        draw=_draw_starts,
        caption="Constant and uniform initial weights: MNIST by passes, tables; 95 % intervals.",
    ),
    "sparsity-digits": Picture(
        needs=("sparsity-digits",),
        draw=_draw_digits,
        caption="What improves a network of the same size on MNIST.",
    ),
    "sparsity-grids": Picture(
        needs=("sparsity-grids",),
        draw=_draw_grids,
        caption="Error and time as the grid grows, by order; medians, and every seed.",
    ),
    "sparsity-damage": Picture(
        needs=("sparsity-damage",),
        draw=_draw_damage,
        caption="How well scores rank edges by what they cost: problems, mean, 95 % interval.",
    ),
    "sparsity-budgets": Picture(
        needs=("sparsity-budgets",),
        draw=_draw_budgets,
        caption="Edges left within a budget and their test loss, by score; 95 % intervals.",
    ),
}
