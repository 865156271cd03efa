"""The part ``certificates``: an adversary attacks what is proven of networks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.attribution.adversary import broken
from benchmarks.attribution.random_networks import random_model
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import version_of
from kanlens.certificates._certify import certify
from kanlens.certificates._statements import Certificate
from kanlens.model._network import KAN
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

WILD, POINTS = 60, 4000  # random networks, and points that every attack starts from
BOXES = 512  # for each output
FITTED = {"2-3-1": [2, 3, 1], "4-5-1": [4, 5, 1], "8-5-1": [8, 5, 1], "6-6-4-1": [6, 6, 4, 1]}


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=(("wild", "0"), ("fitted", "2-3-1")))
    wild = [("wild", str(seed)) for seed in range(WILD)]
    return Units(keys=(*wild, *(("fitted", name) for name in FITTED)))


def _run(setup: Setup, key: Key) -> Rows:
    """Certify one network, and attack every claim."""
    kind, name = key
    if kind == "wild":
        model, domain = random_model(int(name))
        boxes = BOXES
    else:
        model, domain = _fitted(FITTED[name], steps=3 if setup.smoke else 60)
        boxes = 16384
    started = time.perf_counter()
    proven = certify(model, domain, max_boxes=64 if setup.smoke else boxes, progress=False)
    seconds = time.perf_counter() - started
    points = 64 if setup.smoke else POINTS
    claims, attempts = broken(model, proven, torch.Generator().manual_seed(0), points)
    return [
        {
            "captum": version_of("captum"),
            "shape": repr(list(model.shape)),
            "attempts": attempts,
            "broken": len(claims),
            "claims": "; ".join(claims),
            **_tightness(proven),
            "seconds": seconds,
        }
    ]


def _fitted(widths: list[int], *, steps: int) -> tuple[KAN, Tensor]:
    """Return a network fitted to a smooth function, and the box of its data."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(600, widths[0], generator=generator, dtype=torch.float64) - 1
    y = torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2) + x.tanh().sum(1)
    model = KAN(widths, generator=generator).double()
    fit(model, (x, y[:, None]), steps=steps, generator=generator, progress=False)
    return model, torch.stack([x.amin(0), x.amax(0)], 1)


def _tightness(proven: Certificate) -> dict[str, float]:
    """Return the worst ratios of proven to seen, and the share of verdicts that are open."""
    verdicts = [one.verdict for output in proven.outputs for one in output.features]
    steep = [output.lipschitz["2"] for output in proven.outputs]
    return {
        "range_ratio": max(output.range.ratio for output in proven.outputs),
        "lipschitz_ratio": max(
            one.bound / one.seen if one.seen > 0 else float(one.bound > 0) for one in steep
        ),
        "unknown": verdicts.count("unknown") / len(verdicts),
        "boxes": float(sum(output.boxes for output in proven.outputs)),
    }


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return attempts and broken claims by kind, and the tightness of fitted networks."""
    groups = frame.groupby("kind", sort=False)
    totals = groups.agg(
        networks=("name", "size"), attempts=("attempts", "sum"), broken=("broken", "sum")
    )
    fitted = frame[frame["kind"] == "fitted"]
    columns = ["name", "range_ratio", "lipschitz_ratio", "unknown", "boxes", "seconds"]
    return {
        "certificates attacked": totals.reset_index(),
        "certificates of fitted networks": fitted[columns].reset_index(drop=True),
    }


CERTIFICATES = Experiment(
    name="certificates",
    question="Does any proven statement fail, and how tight are they?",
    tables={
        "attribution-certificates": (
            *("captum", "shape", "attempts", "broken", "claims"),
            *("range_ratio", "lipschitz_ratio", "unknown", "boxes", "seconds"),
        )
    },
    keys=("kind", "name"),
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("captum", "name"),
)
