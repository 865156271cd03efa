"""Certificates as bars: proven bounds behind what was seen."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch

from kanlens.certificates import certify
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.model._network import KAN
from kanlens.plotting import certificate


@cache
def proven():
    model = KAN([3, 2], generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():  # the second output rises with x1 alone
        model.layers[0].spline_weight[1] = 0
        model.layers[0].base_weight[1] = torch.tensor([2.0, 0.0, 0.0])
    model.schema = KAN([3, 2], output_names=["cost", "$a_b"]).schema
    return certify(model, [(0.5, 1.0)] * 3, progress=False)


def test_bars_are_the_bounds_and_what_was_seen(ax):
    found = proven()["cost"]
    assert certificate(proven(), target="cost", ax=ax) is ax
    order = np.argsort([-one.effect.bound for one in found.features], kind="stable")
    kept = [found.features[i] for i in order]
    names = [label.get_text().split()[0] for label in ax.get_yticklabels()]
    assert names == [one.name for one in kept]
    rises, falls, seen_rises, seen_falls = ([bar.get_width() for bar in c] for c in ax.containers)
    np.testing.assert_allclose(rises, [one.rises.bound for one in kept])
    np.testing.assert_allclose(falls, [-one.falls.bound for one in kept])
    np.testing.assert_allclose(seen_rises, [one.rises.seen for one in kept])
    np.testing.assert_allclose(seen_falls, [-one.falls.seen for one in kept])
    assert ax.get_xlabel() == "most that one feature alone changes cost"


def test_a_proven_direction_has_a_sign(ax):
    certificate(proven(), target=1, top=2, ax=ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "x1 ▲"
    assert len(labels) == 2
    assert ax.get_xlabel().endswith(r"\$a_b")


def test_a_bound_that_is_not_finite_reaches_the_border(ax):
    output = proven()["cost"]
    first, *others = output.features
    first = dataclasses.replace(first, rises=dataclasses.replace(first.rises, bound=math.inf))
    outputs = (dataclasses.replace(output, features=(first, *others)),)
    certificate(dataclasses.replace(proven(), outputs=outputs), ax=ax)
    widths = [bar.get_width() for bar in ax.containers[0]]
    assert np.isfinite(widths).all()
    assert widths[0] == max(widths)
    ax.figure.canvas.draw()


def test_what_is_no_certificate_or_output_is_refused():
    with pytest.raises(DTypeError, match="a Certificate, got int"):
        certificate(3)  # type: ignore[arg-type]
    for target in ("price", 7):
        with pytest.raises(InvalidValueError, match="target to be one of 'cost', '\\$a_b'"):
            certificate(proven(), target=target)


def test_the_legend_covers_no_bar(ax):
    certificate(proven(), target="cost", ax=ax)
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    legend = ax.get_legend()
    assert legend.get_window_extent().y0 >= ax.get_window_extent().y1
