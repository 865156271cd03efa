"""`attribute` and `importance` of tables of any size, part by part."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from kanlens._atomic_files import Pathlike
from kanlens._checks import check_count, check_generator
from kanlens._lazy import pd
from kanlens._runtime import Interruption, interrupts_pass, progress_bar
from kanlens.attribution import _attribute as attribute_module
from kanlens.attribution._problem import explained_output
from kanlens.attribution._result import Attribution, Importance
from kanlens.data._source import Source, scan_features
from kanlens.distributed import _jobs as jobs
from kanlens.distributed._jobs import Job, Summary, Workers, completed, workers_for
from kanlens.errors import DataError, DTypeError, InvalidValueError, MethodError, rewording
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows

BLOCK = 4096  # rows of one generator, which are explained at once
PART = 16 * BLOCK  # rows of a task, and of a file
SAMPLE = 10_000  # rows on which the most frequent class is determined


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AttributionFolder:
    """Attributions in a folder of Parquet files, in the order of rows.

    Attributes
    ----------
    folder : Path
        Holds ``part-000000.parquet`` and so on, with the columns of `Attribution.to_frame`.
    rows, parts, kept : int
        Numbers of rows, of files, and of files that existed before.
    method, target, unit, baseline, remark : str
        As in `Attribution`.
    largest : dict of str to float
        The largest `completeness_gap`, `standard_error` and `bound` of any row, if any.
    importance : Importance
        As `Attribution.to_importance` returns it, over all rows.
    """

    folder: Path
    rows: int
    parts: int
    kept: int
    method: str
    target: str
    unit: str
    baseline: str
    remark: str
    largest: dict[str, float]
    importance: Importance

    def to_frame(self) -> pd.DataFrame:
        """Read all rows."""
        return pd.read_parquet(self.folder)


def attribute(
    model: Model,
    data: Pathlike,
    output: Pathlike,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    generator: torch.Generator | None = None,
    part_rows: int = PART,
    workers: Workers = None,
    progress: bool | None = None,
    **options: Any,
) -> AttributionFolder:
    """Attribute a table of any size; write a folder of Parquet files.

    The result has one row for each row of the table, in the same order. It does not depend on the
    workers or `part_rows`: random methods use a generator for each 4,096 rows. Complete parts of
    the same run in the folder are kept, so that the same call resumes an unfinished one.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    data : str or path
        A Parquet file or a folder of them, at the same path on all workers; without a scheduler
        also a text table.
    output : str or path
        The folder, empty or that of a run to resume; at the same path on all workers.
    method, background, target, progress, **options
        As for `kanlens.attribute`. The default class is the most frequent one on 10,000 rows.
    generator : torch.Generator, optional
        Draws the seed of the run. Default: the seed of the run to resume, else a random one.
    part_rows : int
        Rows of a task and of a file, a multiple of 4,096.
    workers : int, str or Client, optional
        Number of Dask processes to start on this machine for the call, the address of a
        scheduler, or a client of one. Default: no other process.

    Raises
    ------
    OutputError
        If the folder belongs to another run, or cannot be written.
    MethodError
        If the method has no value for each row, or no scheduler or worker answers.
    DataError, InvalidValueError, MissingFileError, FileFormatError, MissingDependencyError
        As `kanlens.attribute` and `kanlens.scan_table`.

    Examples
    --------
    >>> import pandas as pd
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> path = folder / "x.parquet"
    >>> pd.DataFrame({"x1": [0.1, 0.2, 0.4], "x2": [1.0, 0.5, 0.3]}).to_parquet(path)
    >>> from kanlens import KAN
    >>> found = attribute(KAN([2, 1]), path, folder / "out", method="gradient")
    >>> found.rows, list(found.to_frame())
    (3, ['x1', 'x2', 'output', 'reference', 'completeness_gap'])
    """
    call, folder = "attribute", Path(output)
    model, source = _open(call, model, data, workers, generator, part_rows)
    options |= {"method": method, "background": background}
    first, job = _plan(call, model, source, target, options, jobs.new_seed(generator), part_rows)
    job = dataclasses.replace(job, folder=str(folder.resolve()))
    job = jobs.begun(job, own=generator is not None)
    with workers_for(call, workers) as client:
        summaries, count = _all_parts(client, job, progress)
    moments, largest = jobs.merged(summaries)
    return AttributionFolder(
        folder=folder,
        rows=job.rows,
        parts=job.parts,
        kept=count,
        method=first.method,
        target=first.target,
        unit=first.unit,
        baseline=first.baseline,
        remark=first.remark,
        largest=largest,
        importance=Importance.of(moments, first),
    )


def importance(
    model: Model,
    data: Pathlike,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    grouped: bool = True,
    generator: torch.Generator | None = None,
    part_rows: int = PART,
    workers: Workers = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return the importance of features over a table of any size.

    Parameters
    ----------
    model, data, method, background, generator, part_rows, workers, progress, **options
        As for `attribute` in this module; the method must have a value for each row.
    target, grouped
        As for `kanlens.importance`.

    Returns
    -------
    DataFrame
        As from `kanlens.importance`, over all rows.

    Raises
    ------
    MethodError, DataError, InvalidValueError, MissingFileError, FileFormatError
        As `attribute`.

    Examples
    --------
    >>> import pandas as pd
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "x.parquet")
    >>> pd.DataFrame({"x1": [0.1, 0.2, 0.4], "x2": [1.0, 0.5, 0.3]}).to_parquet(path)
    >>> from kanlens import KAN
    >>> list(importance(KAN([2, 1]), path, method="gradient"))
    ['output', 'feature', 'importance', 'low', 'high', 'unit']
    """
    call, frames = "importance", []
    model, source = _open(call, model, data, workers, generator, part_rows)
    options |= {"method": method, "background": background}
    plans = [
        _plan(call, model, source, output, options, jobs.new_seed(generator), part_rows)
        for output in (range(len(model.output_names)) if target is None else [target])
    ]
    with workers_for(call, workers) as client:
        for first, job in plans:
            parts, _ = _all_parts(client, dataclasses.replace(job, grouped=grouped), progress)
            moments, _ = jobs.merged(parts)
            result = Importance.of(moments, first.grouped() if grouped else first)
            frames.append(attribute_module.importance_table(result))
    return pd.concat(frames, ignore_index=True)


def _open(
    call: str,
    model: Model,
    data: Pathlike,
    workers: Workers,
    generator: torch.Generator | None,
    part_rows: int,
) -> tuple[KAN, Source]:
    """Return the model and the table; refuse tables that workers cannot read."""
    kan = check_model(call, model)
    if not isinstance(data, str | os.PathLike):
        raise DTypeError(call, "a path", type(data).__name__, "Write the table to a Parquet file")
    source = scan_features(data, kan.schema, call=call)
    elsewhere = workers is not None and not isinstance(workers, int)
    if elsewhere and getattr(source.reader, "origin", None) is not None:
        expected = "a Parquet file or folder, for workers to read in parts"
        advice = "Convert the table to Parquet"
        raise DataError(call, expected, repr(source.reader.name), advice)
    check_generator(call, generator)
    check_count(call, "part_rows", part_rows)
    if part_rows % BLOCK:
        expected, advice = f"to be a multiple of {BLOCK:,}", f"For example {PART:,}"
        raise InvalidValueError(call, expected, f"{part_rows:,}", advice, argument="part_rows")
    return kan, source


def _plan(
    call: str,
    model: KAN,
    source: Source,
    target: int | str | None,
    how: dict[str, Any],
    seed: int,
    part_rows: int,
) -> tuple[Attribution, Job]:
    """Return the attribution of the first row, as a test, and the job."""
    classes = model.task == "classification" and len(model.output_names) > 1 and target is None
    rows = source.sample(SAMPLE).x if classes else source.read(0, 1).x
    with rewording(call):
        index = explained_output(model, target, rows, call=call)
        first = attribute_module.attribute(model, rows[:1], target=index, progress=False, **how)
    if not isinstance(first, Attribution):
        expected, got = "a method with values for each row", f"the global method {how['method']!r}"
        advice = "Take some of the rows, with kanlens.importance or --max-rows"
        raise MethodError(call, expected, got, advice)
    reader: Any = source.reader
    background = how["background"]
    return first, Job(
        call=call,
        model=jobs.encoded(model),
        path=str(Path(reader.path).resolve()),
        origin=None if reader.origin is None else str(reader.origin.resolve()),
        method=first.method,
        options={name: how[name] for name in how.keys() - {"method", "background"}},
        output=index,
        background=None if background is None else model.prepare(background, call=call),
        rows=source.rows,
        part_rows=part_rows,
        block_rows=BLOCK,
        seed=seed,
    )


def _all_parts(client: Any, job: Job, progress: bool | None) -> tuple[list[Summary], int]:
    """Compute the missing parts; return all summaries, and how many files existed before."""
    numbers = range(job.parts)
    done = {n: part for n in numbers if (part := jobs.read_summary(job, n)) is not None}
    count, left = len(done), [number for number in numbers if number not in done]
    try:
        with progress_bar(job.call, job.parts, shown=progress) as advance, interrupts_pass():
            advance(count)
            for number, summary in completed(client, job.call, jobs.attribute_part, job, left):
                done[number] = summary
                advance()
    except KeyboardInterrupt:
        if job.folder is not None:
            text = f"{len(done)} of {job.parts} parts are done; the same call continues"
            Interruption(happened=True).warn(job.call, text)
        raise
    finally:
        jobs.remove_unfinished(job)
    return [done[number] for number in numbers], count
