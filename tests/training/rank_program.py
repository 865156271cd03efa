"""What the processes of `test_ranks` do, in one process or in two."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from torch import Tensor, nn
from torch.distributed import fsdp

import kanlens
from kanlens.data import _source as sources
from kanlens.errors import InvalidValueError
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.sparsity import activation_l2
from kanlens.training import _default_ensemble as ensemble
from kanlens.training import _streaming as streaming
from kanlens.training import _training_loop as run_module
from kanlens.training._objective import Objective
from kanlens.training._process_group import joined
from kanlens.training._training_loop import TrainingRun

RANK, COUNT = (int(os.environ.get(name, given)) for name, given in (("RANK", 0), ("WORLD_SIZE", 1)))
STRATEGY = "ddp" if "WORLD_SIZE" in os.environ else None
ADAM = {"optimizer": "adam", "batch_size": 16, "learning_rate": 0.02}
L1 = {"penalty": "activation_l1", "strength": 0.01}  # with its entropy
L2 = {"penalty": "activation_l2", "strength": 0.01, "entropy_weight": 0.5}
PROXIMAL = {"penalty": "activation_l2", "strength": 0.01, "proximal": True}
WEIGHTS = {"penalty": "weight_l1", "strength": 0.01}
LBFGS = {"grid_updates": 0}  # where grids move, rounding grows to 1 in 20 steps, alone as well
CASES: dict[str, tuple[list[int], dict[str, Any]]] = {
    "adam-l1": ([2, 2, 1], ADAM | L1),
    "adam-l2": ([2, 2, 1], ADAM | L2),
    "adam-proximal": ([2, 2, 1], ADAM | PROXIMAL),
    "adamw-weights": ([2, 2, 1], ADAM | WEIGHTS | {"optimizer": "adamw", "weight_decay": 0.01}),
    "lbfgs-l1": ([2, 1], LBFGS | L1),
    "lbfgs-proximal": ([2, 1], LBFGS | PROXIMAL),
    "lbfgs-weights": ([2, 1], LBFGS | WEIGHTS),
}
WAYS = ("ddp", "fsdp") if hasattr(fsdp, "fully_shard") else ("ddp",)  # on the CPU since torch 2.6
WRONG = {"adam-l2": CASES["adam-l2"]}
FOLDER = Path()  # of files, set by what runs the cases


def waves(rows: int = 61) -> tuple[Tensor, Tensor]:
    """Return rows of which 49 are trained on: batches of 16 leave one over."""
    generator = torch.Generator().manual_seed(5)
    x = 3 + 4 * torch.rand(rows, 2, dtype=torch.float64, generator=generator)
    return x, x[:, :1].sin() + x[:, 1:] ** 2 / 10


def trained(widths: list[int], **options: Any) -> dict[str, Any]:
    """Return what training leads to; all draws but the first process's are others."""
    source = torch.Generator().manual_seed(RANK)
    net = kanlens.KAN(widths, grid_size=3, generator=source).double()
    weights = torch.linspace(0.5, 1.5, 61)
    given = {"steps": 3, "validation": 0.2, "sample_weight": weights, "strategy": STRATEGY}
    source = torch.Generator().manual_seed(3 + RANK)
    given |= {"data": waves(), **options}
    fit = kanlens.fit(net, generator=source, progress=False, **given)
    statistics = torch.cat([layer.statistics.edge_std.flatten() for layer in net.layers])
    history = torch.tensor([[*record.values()] for record in fit.history[:8]], dtype=torch.float64)
    found = {name: value.clone() for name, value in net.state_dict().items()}
    return {**found, "statistics": statistics, "history": history, "held out": fit.held_out}


def deep(**options: Any) -> dict[str, Any]:
    """Return what LBFGS makes of a hidden layer and moving grids, under torchrun if alone."""
    with mock.patch.dict(os.environ, {"WORLD_SIZE": str(COUNT)}):
        return trained([2, 3, 1], strategy="ddp", **options)


def streamed() -> dict[str, Any]:
    """Return what training on a table leads to of which memory holds 60 of 300 rows."""
    x, y = waves(300)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y[:, 0]})
    source = kanlens.scan_table(frame, target="y", progress=False)
    small = mock.patch.object(sources, "CELL", 2**26 / 2 / 60 / 5)
    with small, mock.patch.object(streaming, "NUMBERS", 100):
        given = {"steps": 2, "sample_weight": None, "max_memory": "64MiB", "data": source}
        return trained([2, 2, 1], **ADAM | L1 | given)


def by_default() -> dict[str, Any]:
    """Return the network that rows choose, in few steps."""
    source = torch.Generator().manual_seed(3 + RANK)
    data, run = waves(), {"progress": False, "strategy": STRATEGY, "generator": source}
    return dict(kanlens.fit_default(data, **run).model.state_dict())


def averaging_penalties() -> Callable[..., Tensor]:
    """Return the wrong way: each process works its penalty out, and the mean of them counts."""
    right = Objective.penalty_term

    def wrong(self: Objective, inputs: list[Tensor], average: Any = None) -> Tensor:
        own = right(self, inputs)
        return own if average is None else average(own)

    return wrong


def norms() -> dict[str, Tensor]:
    """Return norms of the rows of all processes, with gradients, on each of the ways to them."""
    found = {}
    x = torch.randn(8001, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 0.7  # constant: its edges have a norm of zero
    source = torch.Generator().manual_seed(1)
    spline = kanlens.KANLinear(3, 6, generator=source).double()
    series = KANLinear(3, 6, series=["gaussian"], generator=source).double()
    with joined(STRATEGY, torch.device("cpu")) as ranks:
        for name, layer, rows in (
            ("values", spline, x[:101]),
            ("moments", spline, x),
            ("chunks", series, x),
        ):
            place, share = ranks.share(len(rows))
            given = rows[place].clone().requires_grad_()
            norm = activation_l2(layer, given, average=ranks.average(share))
            layer.zero_grad()
            (norm.sum() + norm[0, 0] ** 3).backward()
            ranks.sum_gradients(layer.parameters())
            slopes = [one.grad for one in layer.parameters() if one.grad is not None]
            found |= {
                name: norm.detach(),
                f"{name} by weights": torch.cat([*map(torch.flatten, slopes)]),
            }
            found[f"{name} by x"] = ranks.gather(given.grad, len(rows))
    return found


def wrapped() -> dict[str, Tensor]:
    """Return what a loop of one's own makes of a layer, alone, in DDP and in FSDP."""
    x, y = waves(60)
    found = {}
    for way in WAYS:
        layers = [kanlens.KANLinear(2, 4), kanlens.KANLinear(4, 1)]
        net: nn.Module = nn.Sequential(*layers).double()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        if STRATEGY is not None:
            net = into(way, net)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        rows = torch.utils.data.TensorDataset((x - 5) / 2, y)
        for start in range(0, 60, 20):
            batch = torch.utils.data.Subset(rows, range(start + RANK, start + 20, COUNT))
            for a, b in torch.utils.data.DataLoader(batch, batch_size=20):
                optimizer.zero_grad()
                (net(a) - b).square().mean().backward()
                optimizer.step()
        for name, parameter in net.named_parameters():
            whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            found[f"{way} {name.removeprefix('module.')}"] = whole.detach().clone()
    return found


def into(way: str, net: nn.Module) -> nn.Module:
    if way == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (COUNT,))
    for layer in net:
        fsdp.fully_shard(layer, mesh=mesh)
    return fsdp.fully_shard(net, mesh=mesh)


def refused() -> str:
    """Return what is said where processes have different rows."""
    x, y = waves()
    try:
        kanlens.fit(kanlens.KAN([2, 1]).double(), (x + RANK, y), strategy="ddp", steps=1)
    except InvalidValueError as error:
        return str(error)
    return ""


def equal() -> dict[str, Any]:
    found: dict[str, Any] = {name: trained(w, **o) for name, (w, o) in CASES.items()}
    found |= {"default": by_default(), "norms": norms(), "streamed": streamed()}
    found |= {"deep": deep(steps=1), "deep-weights": deep(steps=1, **WEIGHTS)}
    with mock.patch.object(Objective, "penalty_term", averaging_penalties()):
        found["wrong"] = {name: trained(w, **o) for name, (w, o) in WRONG.items()}
    if STRATEGY is not None:
        found["refused"] = refused()
        torch.distributed.init_process_group("gloo")  # stays, for `whole`
    found["wrapped"] = wrapped()
    return found


KEPT = ADAM | L2 | {"steps": 6, "checkpoint_every": 0}


def killed() -> dict[str, Any]:
    """Train, and lose the second process in the third batch of the fourth epoch."""
    learn = TrainingRun._learn

    def last(self: TrainingRun, *given: Any) -> None:
        if RANK == 1 and self.step == 3 and self.batch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        learn(self, *given)

    TrainingRun._learn = last
    return trained([2, 2, 1], checkpoint=FOLDER / "run", **KEPT)


def resumed() -> dict[str, Any]:
    return trained([2, 2, 1], checkpoint=FOLDER / f"run{COUNT}", resume=True, **KEPT)


def whole() -> dict[str, Any]:
    return trained([2, 2, 1], checkpoint=FOLDER / f"whole{COUNT}", **KEPT)


def run(case: str) -> dict[str, Any]:
    few = mock.patch.multiple(ensemble, STEPS=3, UPDATES=(6, 9, 6))
    short = mock.patch.multiple(run_module, POLISH=4, BLOCKS=4)
    with kernels.use("torch"), few, short:
        return {"equal": equal, "killed": killed, "resumed": resumed, "whole": whole}[case]()
