"""`importance`: which features matter, for every output or class at once."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from kanlens.attribution.dispatch import attribute
from kanlens.attribution.result import Attribution, Importance
from kanlens.checks import reworded
from kanlens.errors import KanlensError
from kanlens.interruption import Interruption, interrupts_pass
from kanlens.model.acceptance import Model, check_model

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.model.network import Rows


def importance(
    model: Model,
    x: Rows,
    *,
    method: str = "shapley",
    background: Rows | None = None,
    target: int | str | None = None,
    grouped: bool = True,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Say how much each feature matters over all samples, output by output.

    Local methods are averaged: the mean ``|value|``, with a 95% interval from its spread over the
    rows; `Attribution.to_importance` says how, and how often it covers. Global methods are taken as
    they are. A classifier has one output for each class (or a single one for the second of two),
    explained on the scale of its logits.

    An interrupt (Ctrl-C) ends the work; the outputs that are done are returned, with a warning.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in)
        Samples, in the units of the data.
    method, background, generator, progress, **options
        As for `attribute`.
    target : int or str, optional
        One output. Default: all of them, one after the other.
    grouped : bool
        Whether one-hot features of a table column count together; only for local methods.

    Returns
    -------
    DataFrame
        One row per output and feature: output, feature, importance, low, high, unit; of each
        output the most important feature first.

    Raises
    ------
    InvalidValueError, MethodError, ShapeError, DTypeError, DataError
        As `attribute`.

    Examples
    --------
    >>> from kanlens import KAN
    >>> x = torch.rand(6, 2)
    >>> importance(KAN([2, 3, 2]), x, background=x)["output"].tolist()
    ['y1', 'y1', 'y2', 'y2']
    """
    import pandas as pd

    model = check_model("importance", model)
    wanted = range(len(model.output_names)) if target is None else [target]
    given = {"method": method, "background": background, "generator": generator, **options}
    frames: list[pd.DataFrame] = []
    stop, whole = Interruption(), interrupts_pass if len(wanted) > 1 else nullcontext
    with stop.kept():
        for output in wanted:
            try:
                with whole():
                    found = attribute(model, x, target=output, progress=progress, **given)
            except KanlensError as error:
                raise reworded("importance", error) from error
            frames.append(_table(found, grouped=grouped))
    if not frames:
        raise KeyboardInterrupt
    stop.warn("importance", f"{len(frames)} of {len(wanted)} outputs are done, and returned")
    return pd.concat(frames, ignore_index=True)


def _table(found: Attribution | Importance, *, grouped: bool) -> pd.DataFrame:
    """Return the rows of one output, the most important feature first."""
    if isinstance(found, Attribution):
        whole = found.grouped() if grouped else found
        found = whole.to_importance()
    frame = found.to_frame().sort_values("importance", ascending=False, kind="stable")
    frame.insert(0, "output", found.target)
    frame["unit"] = found.unit
    return frame
