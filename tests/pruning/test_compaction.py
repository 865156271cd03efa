"""A compacted network is the masked one, smaller, with everything in its place."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import kanlens
from kanlens.data._schema import Feature, Output, Schema
from kanlens.errors import MethodError
from kanlens.model._trace import store_statistics
from kanlens.pruning._propagation import compact, reached


def mask_some(model, seed, share=0.4):
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        cut = torch.rand(layer.mask.shape, generator=generator) < share
        cut[0, 0] = False
        layer.mask[cut] = 0


@pytest.mark.parametrize("widths", [(3, 1), (4, 3, 2), (3, 4, 3, 2)])
@pytest.mark.parametrize("seed", range(2))
def test_a_compacted_network_is_the_masked_one(network, draw, widths, seed):
    model = network(widths)
    mask_some(model, seed)
    x = draw(width=widths[0])
    small = compact(model)
    columns = [model.feature_names.index(name) for name in small.feature_names]
    assert_close(small(x[:, columns]), model(x), rtol=0, atol=1e-12)
    assert small.edges_alive <= model.edges_alive
    assert list(small.widths[:-1]) == [int(layer.mask.any(0).sum()) for layer in model.layers]


def test_function_edges_and_float32(with_functions, draw):
    model = with_functions()
    model.layers[0].mask[:, 1] = 0
    model.layers[1].mask[0, 1] = 0
    small = compact(model)
    assert small.widths == (2, 3, 1)
    assert small.layers[0].functions[1] == ("spline", "spline")
    assert small.layers[0].functions[2] == ("x^2", "spline")
    assert_close(small(draw()[:, [0, 2]]), model(draw()), rtol=0, atol=1e-12)
    half = compact(model.float())
    assert half.dtype == torch.float32
    assert_close(half(draw()[:, [0, 2]].float()), model(draw().float()), rtol=0, atol=1e-5)


def test_everything_stays_with_its_feature(network, draw):
    model = network((4, 3, 2))
    features = tuple(
        Feature(name=name, column=name, unit=unit)
        for name, unit in (("a", "m"), ("b", "s"), ("c", "kg"), ("d", "K"))
    )
    model.schema = Schema(features=features, outputs=(Output(name="u"), Output(name="v")))
    model.scaled = True
    x = draw(width=4)
    store_statistics(model, x)
    model.layers[0].mask[:, [0, 2]] = 0
    model.layers[1].mask[:, 1] = 0
    model.eval()
    small = compact(model)
    assert [(f.name, f.unit) for f in small.schema.features] == [("b", "s"), ("d", "K")]
    assert small.output_names == ("u", "v")
    assert small.scaled
    assert not small.training
    kept = [1, 3]
    assert torch.equal(small.input_shift, model.input_shift[kept])
    assert torch.equal(small.input_scale, model.input_scale[kept])
    assert torch.equal(small.output_shift, model.output_shift)
    assert torch.equal(small.output_scale, model.output_scale)
    assert torch.equal(small.background, model.background[:, kept])
    assert torch.equal(small.layers[0].grid, model.layers[0].grid[kept])
    for index, (out, in_) in enumerate([([0, 2], kept), ([0, 1], [0, 2])]):
        old, new = model.statistics[index], small.statistics[index]
        assert torch.equal(new.quantiles, old.quantiles[in_])
        assert torch.equal(new.edge_mean, old.edge_mean[out][:, in_])
        assert torch.equal(new.edge_std, old.edge_std[out][:, in_])
    frame = pd.DataFrame(x.numpy(), columns=list("abcd")).assign(other=0.0)
    assert_close(small(frame[["d", "other", "b"]]), model(x), rtol=0, atol=1e-12)


def test_the_model_is_left_alone(network):
    model = network()
    mask_some(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = compact(model)
    with torch.no_grad():
        for value in small.state_dict().values():
            value.zero_()
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_a_layer_without_edges_is_refused(network):
    model = network()
    model.layers[1].mask.zero_()
    with pytest.raises(MethodError, match="a nonzero edge in every layer, got none in layer 1"):
        compact(model)


@given(st.data())
def test_reached_follows_every_path(data):
    widths = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    masks = [
        torch.tensor(
            data.draw(
                st.lists(
                    st.lists(st.sampled_from([0.0, 1.0]), min_size=n_in, max_size=n_in),
                    min_size=n_out,
                    max_size=n_out,
                )
            )
        )
        for n_in, n_out in itertools.pairwise(widths)
    ]
    found = [False] * widths[-1]
    for path in itertools.product(*(range(width) for width in widths)):
        steps = zip(masks, itertools.pairwise(path), strict=True)
        if all(mask[out, in_] != 0 for mask, (in_, out) in steps):
            found[path[-1]] = True
    model = kanlens.KAN(widths)
    for layer, mask in zip(model.layers, masks, strict=True):
        layer.mask.copy_(mask)
    assert reached(model).tolist() == found
