"""A program of torch, with weights and any number of rows."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from kanlens.exporters.subject import Format, Subject
from kanlens.functions.elementary import Array
from kanlens.model import kernels


def _write(subject: Subject, path: Path) -> None:
    model = copy.deepcopy(subject.model).requires_grad_(False).eval()
    rows = torch.from_numpy(subject.rows).to(model.input_shift)
    with kernels.use("torch"):
        program = torch.export.export(
            model, (rows,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}
        )
    torch.export.save(program, path)


def _run(subject: Subject, path: Path) -> list[Array]:
    program = torch.export.load(path).module()
    rows = torch.from_numpy(subject.rows).to(subject.model.input_shift)
    return [np.asarray(program(rows).cpu())]


TORCH = Format(name="torch", ending=".pt2", write=_write, run=_run, single=True)
