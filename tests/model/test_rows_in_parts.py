"""Results do not depend on how many rows are taken at once."""

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.model import _analysis as analysis
from kanlens.model import _kan_linear as kan_linear
from kanlens.model._trace import store_statistics
from kanlens.pruning import _propagation as propagation


@pytest.fixture(params=[[3, 4, 2], [3, (1, [2]), 2]], ids=["sums", "products"])
def model(request):
    generator = torch.Generator().manual_seed(0)
    return kanlens.KAN(request.param, generator=generator).double()


def results(model, x):
    record = kanlens.trace(model, x)
    store_statistics(model, x)
    found = [record.output, *record.inputs, *record.pre_activations, *record.outside]
    found += [one for part in model.statistics for one in (part.edge_mean, part.edge_std)]
    scores = kanlens.edge_scores(model, x).select_dtypes("float")
    small = kanlens.prune(model, x, budget=0.5, progress=False)
    with torch.no_grad():
        return [*found, torch.tensor(scores.to_numpy()), small.model(x[:, : small.model.widths[0]])]


@pytest.mark.slow  # takes a while
def test_few_rows_at_once_give_what_all_give(model, monkeypatch):
    x = 1.4 * torch.rand(90, 3, generator=torch.Generator().manual_seed(1)).double() - 0.7
    whole = results(model, x)
    monkeypatch.setattr(analysis, "BUDGET", 7 * 16 * 4)
    monkeypatch.setattr(propagation, "BUDGET", 500)
    monkeypatch.setattr(propagation, "MAX_CACHED_VALUES", 0)
    assert_close(results(model, x), whole, rtol=1e-11, atol=1e-13)


def test_a_layer_in_torch_holds_no_more_bases_than_a_chunk(model, monkeypatch):
    rows, seen = torch.rand(90, 3).double(), []
    layer = model.layers[0]
    whole = layer.forward_torch(rows)
    monkeypatch.setattr(kan_linear, "CHUNK", 10 * 16 * 3)
    edge_sum = kan_linear.edge_sum
    monkeypatch.setattr(
        kan_linear, "edge_sum", lambda x, *rest: seen.append(len(x)) or edge_sum(x, *rest)
    )
    with torch.no_grad():
        assert_close(layer.forward_torch(rows), whole, rtol=1e-13, atol=1e-15)
    assert max(seen) == 10 and sum(seen) == 90
    layer.forward_torch(rows)  # gradients need all bases
    assert seen[-1] == 90
