"""The experiments on pruning as figures, drawn from their tables and from nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.sparsity.drawing import Picture, draw_intervals, figure_of, look_of
from benchmarks.sparsity.statistics import Interval, interval, over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.sparsity.drawing import Frames

__all__ = ["PRUNING_PICTURES"]


def _draw_damage(frames: Frames) -> Figure:
    """Draw the rank correlation of every score with true damage: problems, and their mean."""
    from kanlens.plotting.style import STYLE, context

    frame = frames["sparsity-damage"]
    scores = list(dict.fromkeys(frame["score"]))
    with context():
        figure, axes = figure_of(1, 1, 0.8 + 0.28 * len(scores))
        ax = axes[0][0]
        for place, score in enumerate(scores[::-1]):
            part = frame[frame["score"] == score]
            problems = part.groupby("problem")["spearman"].mean().tolist()
            mean = over_seeds(part, "spearman")
            ax.plot(problems, [place] * len(problems), linestyle="", marker="|", color=STYLE.muted)
            ax.errorbar(
                mean.mean,
                place,
                xerr=[[mean.mean - mean.low], [mean.high - mean.mean]],
                capsize=2,
                **look_of(0),
            )
        ax.set_yticks(range(len(scores)), scores[::-1])
        ax.set_xlim(right=1.02)
        ax.set_xlabel("rank correlation of the score with the rise of the test error")
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


PRUNING_PICTURES: dict[str, Picture] = {
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
