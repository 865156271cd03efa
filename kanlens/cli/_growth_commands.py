"""The commands frontier and imitate, which grow small networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._lazy import pd
from kanlens.cli._command import command
from kanlens.cli._console import Generator, Terminal
from kanlens.cli._options import Texts, small_network, split_names
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    from kanlens import Frontier, Table

BAR = 6  # characters of the bar of the largest loss


@command(
    example="kanlens frontier data.csv --target price -o small.safetensors",
    max_edges="Largest number of edges, or few for the default; levels of one column count once.  "
    "[default: 30, or 2 for each column if there are more than 15]",
    interactions="Largest number of products, or the pairs of columns that may be in one: "
    "age:water,age:cement; 0 for none.  [default: no limit]",
    references="Other models to score on the same folds, if time remains: default, "
    "boosting, ebm (which takes minutes), or none.",
    time_limit="Seconds after which no more terms are added.",
    edges="Choose from networks of at most this many edges.  [default: from all]",
    output="Model to write: the chosen network.  [default: none]",
    resume="Continue a run that was interrupted or reached its time limit; needs the same -o. "
    "--seed is ignored.",
)
def frontier(
    data: Path,
    *,
    target: str,
    output: Path | None = None,
    task: str | None = None,
    columns: Texts,
    groups: str | None = None,
    losses: Texts,
    max_edges: str | None = None,
    interactions: str | None = None,
    shapes: Texts,
    edges: int | None = None,
    references: str = "default,boosting",
    resume: bool = False,
    time_limit: float | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Grow small networks term by term; print the score of each size, and choose the simplest.

    That is the smallest within one standard error of the best.
    """
    from kanlens._checks import check_count
    from kanlens.cli._model_data import (
        LossOptions,
        check_learnable,
        held,
        open_columns,
        reading_notes,
    )

    if resume and output is None:
        advice = "Name the model of the run to continue"
        raise InvalidValueError(terminal.call, "-o with --resume", "none", advice)
    checkpoint = output and output.parent / f"{output.name}.checkpoint"
    terminal.check([data], model=output, checkpoint=checkpoint)
    limits = small_network(max_edges, interactions, shapes)
    if edges is not None:
        check_count(terminal.call, "edges", edges)
    way = LossOptions(losses)
    rows = open_columns(data, target, columns, groups, task=task or way.task)
    for note in reading_notes(rows.schema):
        terminal.say(note)
    table = held(rows, "kanlens")
    check_learnable(table, terminal.call)
    table = way.adjusted(table)
    if resume and checkpoint and not checkpoint.exists():
        terminal.say(f"no checkpoint at {checkpoint}; starting anew")
    front = kanlens.frontier(
        table,
        **limits,
        **way.loss,
        **way.weights,
        references=[] if references == "none" else split_names(references),
        time_limit=time_limit,
        checkpoint=checkpoint,
        resume=resume,
        progress=terminal.progress,
        generator=generator,
    )
    if checkpoint and not front.interrupted:
        checkpoint.unlink(missing_ok=True)
    _print_simplest(front, edges, None if way.weights else table, output, terminal)


@command(
    example="kanlens imitate forest.onnx data.csv --target price -o small.safetensors",
    model="The model to imitate, an .onnx file.",
    target="Column that the model predicts, which is not a feature.  [default: none]",
    class_labels="Classes, comma-separated, in the order of the model's probabilities.",
    max_edges="Largest number of edges; levels of a categorical column count once.",
    time_limit="Seconds after which no more terms are added.",
)
def imitate(
    model: Path,
    data: Path,
    *,
    target: str | None = None,
    output: Path = Path("model.safetensors"),
    columns: Texts,
    class_labels: str | None = None,
    max_edges: int = 30,
    time_limit: float | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Grow a small network that approximates another model; print its errors by region."""
    from kanlens.cli._model_data import held, open_columns

    terminal.check([model, data], model=output)
    imitation = kanlens.imitate(
        model,
        held(open_columns(data, target, columns), terminal.call),
        max_edges=max_edges,
        class_labels=split_names(class_labels) or None,
        time_limit=time_limit,
        progress=terminal.progress,
        generator=generator,
    )
    terminal.write(imitation.model, output)
    for line in imitation.receipt.summary().splitlines():
        terminal.text(line)
    terminal.frame("regions with the largest errors", imitation.worst)
    facts = {"model": str(terminal.place(output)), "teacher": imitation.teacher}
    names = ("edges", "fidelity", "beyond", "agreement", "interrupted")
    facts |= {name: getattr(imitation, name) for name in names}
    if imitation.receipt.worst_output is not None:
        facts["worst_output"] = imitation.receipt.worst_output
    worst = imitation.worst.to_dict("records")
    terminal.facts("imitation", facts, trustworthy=imitation.receipt.trustworthy, worst=worst)


def _print_simplest(
    front: Frontier, edges: int | None, table: Table | None, output: Path | None, terminal: Terminal
) -> None:
    """Print all sizes and the simplest network of at most `edges` edges; write it."""
    from kanlens.cli._model_data import print_poor_fit
    from kanlens.training._baselines import add_record
    from kanlens.training._frontier import simple_scores

    place = front.index(edges)
    terminal.frame("sizes", _sizes(front, place))
    facts: dict[str, Any] = {}
    if output is not None:
        result = front.result(edges)
        if table is not None and not front.interrupted:
            add_record(result, table, None)
        terminal.write(result.model, output)
        facts["model"] = str(terminal.place(output))
    step = front.steps[place]
    scores = {"network": step.score, **simple_scores(front, ["mean"])}
    print_poor_fit(front.metric_name, scores, terminal)
    facts |= {"edges": step.edges, f"held_out_{front.metric_name}": step.score}
    facts |= {"rows": front.rows, "folds": front.folds, "seconds": front.seconds}
    terminal.facts("simplest", facts, **{**json.loads(front.to_json()), **facts})


def _sizes(front: Frontier, place: int) -> pd.DataFrame:
    """Return rows of sizes and references, with a bar of the loss and a mark at the chosen size."""
    largest = max(step.loss for step in front.steps) or 1.0
    rows: list[dict[str, Any]] = [
        {
            "": ">>>>" if index == place else "",
            "edges": step.edges,
            front.metric_name: step.score,
            "loss": step.loss,
            "error": step.standard_error,
            "bar": "#" * round(BAR * step.loss / largest),
            "last term": step.added,
        }
        for index, step in enumerate(front.steps)
    ]
    for name, score in front.references.items():
        rows.append({front.metric_name: score, "last term": name.removeprefix("the ")})
    frame = pd.DataFrame(rows, dtype=object)
    return frame.where(frame.notna(), "")
