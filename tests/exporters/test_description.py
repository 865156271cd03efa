"""A description is the model: its sums of atoms are those of the layers."""

import numpy as np
import torch
from torch.testing import assert_close

from kanlens.exporters._dialects import describe
from kanlens.exporters._exported_model import Export
from kanlens.model._network import KAN
from tests.exporters.conftest import build
from tests.made import made


def evaluated(layer, u):
    """Sums of a layer by the pieces' own polynomials, one edge after the other."""
    y = np.zeros((len(u), len(layer.bias)))
    for row, point in enumerate(u):
        for out in range(len(layer.bias)):
            total = layer.bias[out]
            for in_ in range(layer.width) if layer.splines else ():
                cuts, powers = layer.splines.breaks[in_], layer.splines.powers[in_, :, :, out]
                piece = np.searchsorted(cuts, point[in_], side="right")
                t = point[in_] - cuts[max(piece - 1, 0)]
                total += np.polynomial.polynomial.polyval(t, powers[piece]) - powers[0, 0]
            for terms in layer.terms:
                v = torch.tensor(terms.a * point[terms.inputs] + terms.b)
                total += float(terms.g.value(v).numpy() @ terms.weights[:, out])
            y[row, out] = total
    return y


def test_the_sums_of_a_described_layer_are_those_of_the_layer(model):
    for layer, described in zip(model.layers, describe(model).layers, strict=True):
        u = 1.5 * torch.randn(8, layer.in_features, dtype=torch.float64)
        assert_close(torch.tensor(evaluated(described, u.numpy())), layer(u).detach())


def test_the_rises_of_pieces_add_up_to_where_they_end():
    splines = describe(build("uneven")).layers[0].splines
    widths = np.diff(splines.breaks)[:, :, None] ** np.arange(splines.degree + 1)
    ends = np.einsum("ipk,ipko->ipo", widths, splines.powers[:, 1:-1])
    assert_close(torch.tensor(ends), torch.tensor(splines.powers[:, 2:, 0]))


def test_few_splines_combine_to_all(model):
    for layer in (layer for layer in describe(model).layers if layer.splines):
        for in_, powers in enumerate(layer.splines.powers[:, :, 1:]):
            picks, weights = layer.splines.combined(in_)
            assert_close(torch.tensor(powers[:, :, picks] @ weights), torch.tensor(powers))
            assert (np.linalg.matrix_rank(weights) if weights.size else 0) == len(picks)


def test_splines_on_one_grid_are_as_many_as_its_functions():
    layer = made([1, 40]).layers[0]
    layer.grid.copy_(torch.sinh(layer.grid))
    splines = describe(KAN.from_layers([layer], made([1, 40]).schema)).layers[0].splines
    picks, weights = splines.combined(0)
    assert len(picks) == layer.spline_weight.shape[2] - 1  # without the constant
    assert np.abs(weights).max() < 100


def test_edges_that_are_off_have_no_atom():
    layer = describe(build("products")).layers[0]
    assert not layer.splines.powers[1, :, :, 0].any()
    assert not layer.splines.powers[2].any()
    assert all(2 not in terms.inputs for terms in layer.terms)


def test_rows_hold_every_knot_and_both_ends():
    model = build("held")
    rows = Export(model=model, path=None).rows
    cuts = model.layers[0].breakpoints() * model.input_scale[:, None] + model.input_shift[:, None]
    for column, (low, high) in enumerate(zip(*model.feature_range, strict=True)):
        assert set(cuts[column].tolist()) <= set(rows[:, column].tolist())
        assert {float(low), float(high)} <= set(rows[:, column].tolist())
        assert (rows[:, column] < float(low)).any()
        assert (rows[:, column] > float(high)).any()
