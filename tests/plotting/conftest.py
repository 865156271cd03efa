"""Models with names, units and known data; figures that pyplot does not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import matplotlib

matplotlib.use("Agg")

import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanlens.model._network import KAN
from kanlens.model._trace import store_statistics


def build(
    widths: Sequence[int],
    *,
    names: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    seed: int = 0,
    data: bool = True,
) -> KAN:
    """A float64 network with wavy edges that has seen 200 rows."""
    generator = torch.Generator().manual_seed(seed)
    model = KAN(
        widths, scale_noise=1.5, feature_names=names, output_names=outputs, generator=generator
    ).double()
    if data:
        rows = torch.rand(200, widths[0], generator=generator, dtype=torch.float64) * 1.6 - 0.8
        store_statistics(model, rows)
    return model


def with_units(model: KAN, inputs: Sequence[str], output: str) -> KAN:
    schema = model.schema
    features = tuple(
        dataclasses.replace(one, unit=unit)
        for one, unit in zip(schema.features, inputs, strict=True)
    )
    outputs = tuple(dataclasses.replace(one, unit=output) for one in schema.outputs)
    model.schema = dataclasses.replace(schema, features=features, outputs=outputs)
    return model


@pytest.fixture
def model() -> Callable[..., KAN]:
    return build


@pytest.fixture
def ax() -> Axes:
    return Figure(figsize=(7, 5)).subplots()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Settings are as before after every test; figures that a test made are closed."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot.close("all")


def labelled(ax: Axes, label: str) -> object:
    """The one artist of an axes with this label."""
    found = [artist for artist in ax.get_children() if artist.get_label() == label]
    assert len(found) == 1, f"{len(found)} artists are labelled {label!r}"
    return found[0]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]
