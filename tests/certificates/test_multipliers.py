"""Lines in place of the last layer's functions: bounds hold for any lines."""

import pytest
import torch

from kanlens.certificates.multipliers import best_lines, ends
from kanlens.certificates.propagation import Propagation
from kanlens.certificates.sampling import spread_points
from kanlens.core.analysis import private_copy
from tests.attribution.conftest import build


def propagation(widths):
    box = torch.tensor([[-1.0, 1.0]]).double().expand(widths[0], 2).contiguous()
    own = Propagation(private_copy(build(widths)), 0, box)
    own.additive = torch.randn(
        own.additive.shape, generator=torch.Generator().manual_seed(3)
    ).double()
    return own


def levels_of(own, boxes):
    return own.forward(*own.inwards(boxes[..., 0], boxes[..., 1]))


@pytest.mark.parametrize("widths", [[2, 3, 1], [3, (1, 2), 2], [2, 3, 2, 1]])
def test_every_line_gives_bounds_that_hold(widths):
    own = propagation(widths)
    x = spread_points(own.domain, 2000)
    y = own.model(x)[:, 0]
    edges = own.model.layers[0].edge_values(own.model.scale_inputs(x))
    apart = y - (edges * own.additive).sum((1, 2))
    generator = torch.Generator().manual_seed(0)
    best = best_lines(own)
    for lines in (best, torch.randn(best.shape, generator=generator).double(), 0 * best):
        low, high, least, most = ends(own, levels_of(own, own.domain[None]), lines)[0]
        assert low <= y.amin() <= y.amax() <= high
        assert least <= apart.amin() <= apart.amax() <= most


def test_the_best_lines_are_better_than_chords():
    own = propagation([4, 5, 1])
    chords = own.bounds(own.domain[None, :, 0], own.domain[None, :, 1])
    own.lines = best_lines(own)
    found = own.bounds(own.domain[None, :, 0], own.domain[None, :, 1])
    assert float(found.value[1] - found.value[0]) < float(chords.value[1] - chords.value[0])
    assert float(found.apart[1] - found.apart[0]) < float(chords.apart[1] - chords.apart[0])
    x = spread_points(own.domain, 4000)
    y = own.model(x)[:, 0]
    assert float(found.value[1] - found.value[0]) < 1.4 * float(y.amax() - y.amin())


def test_one_layer_needs_no_lines():
    assert best_lines(propagation([2, 1])) is None
