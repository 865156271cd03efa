"""Nodes that are normalized over a row, against the definition and against written-out products."""

import copy
import json
import pickle

import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.errors import FileFormatError, InvalidValueError
from kanlens.model._config import KANConfig
from kanlens.model._conversion import expand_normalization
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.pruning._propagation import Propagation, compact
from kanlens.symbolic._composition import compose, evaluator, feature_symbols
from tests.made import draw, levels, made

X, ROWS = draw(5, 3), draw(4, 3, seed=2)


def network() -> KAN:
    """A row of three sums, the last two normalized, then of two normalized sums."""
    return made([3, 3, 2, 2], scaled_nodes=True, normalized=[2, 2, 0])


def nodes() -> Nodes:
    found = Nodes(Grouping(5), scaled=True, normalized=3, eps=0.2).double()
    found.scale.copy_(torch.tensor([2.0, 0.5, 1.5, -1.0, 0.7]))
    found.shift.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    return found


def test_forward_is_the_definition_and_that_of_torch():
    x, found = draw(4, 5), nodes()
    block = torch.nn.functional.layer_norm(x[:, 2:], (3,), eps=0.2)
    expected = torch.cat([x[:, :2], block], 1) * found.scale + found.shift
    assert_close(found(x), expected, rtol=1e-14, atol=1e-14)
    model = network()
    assert_close(model(X), levels(model, X)[2], rtol=1e-12, atol=1e-12)


def test_pull_is_the_derivative():
    x, found, slopes = draw(4, 5).requires_grad_(), nodes(), draw(4, 5, seed=3)
    (expected,) = torch.autograd.grad((found(x) * slopes).sum(), x)
    assert_close(found.pull(slopes, x.detach()), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("apart", [1.0, 1e-7, 0.0])
def test_pull_between_two_points_shares_the_change_exactly(apart):
    found, ours, slopes = nodes(), draw(4, 5), draw(4, 5, seed=3)
    theirs = ours + apart * draw(4, 5, seed=4)
    shares = found.pull(slopes, ours, theirs) * (ours - theirs)
    change = (slopes * (found(ours) - found(theirs))).sum(1)
    assert_close(shares.sum(1), change, rtol=1e-8 if apart < 1 else 1e-12, atol=1e-14)


def test_errors_are_bounds():
    found, x = nodes(), draw(200, 5)
    error = 1e-6 * draw(200, 5, seed=3).abs()
    bound = found.errors(x, error)
    moved = (found(x + error * draw(200, 5, seed=4).sign()) - found(x)).abs()
    assert bool((moved <= bound * (1 + 1e-4) + 1e-14).all())
    assert bool((moved.amax(0) > 0.3 * bound.amax(0)).all())  # and no loose ones


def test_written_out_it_is_the_same_function_in_both_dtypes():
    model = network()
    written = expand_normalization(model)
    assert all(not one.normalized for one in written.nodes)
    assert_close(written(X), model(X), rtol=1e-13, atol=1e-13)
    assert written.feature_names == model.feature_names
    assert_close(written.background, model.background)
    single = network().float()
    assert_close(expand_normalization(single)(X.float()), single(X.float()), rtol=1e-5, atol=1e-5)
    plain = KAN([3, 2, 1])
    assert expand_normalization(plain) is plain


@pytest.mark.slow  # many layers
def test_every_method_of_a_kept_normalization_is_that_of_the_written_one():
    model = network()
    written = expand_normalization(model)
    for method in ("shapley", "integrated_gradients", "gradient", "secant", "captum_deep_lift"):
        found, expected = (
            kanlens.attribute(one, X, method=method, background=ROWS, target=0).values
            for one in (model, written)
        )
        assert_close(found, expected, rtol=1e-9, atol=1e-11, msg=method)


def test_a_node_without_edges_stays_among_those_normalized():
    model = network()
    with torch.no_grad():
        model.layers[1].mask[:, 2] = 0  # nothing reads a normalized node
        model.layers[1].mask[:, 0] = 0  # nor one beside them
    small = compact(model)
    assert small.widths == (3, 2, 2, 2)
    assert [one.normalized for one in small.nodes] == [2, 2, 0]
    assert_close(small(X), model(X), rtol=1e-12, atol=1e-12)


def test_an_edge_that_goes_moves_all_that_is_normalized_with_its_sum():
    model = network()
    state = Propagation(model, X)
    state.remove((0, 1, 2))
    assert_close(state.output, state.model(X), rtol=1e-10, atol=1e-10)
    changed = (state.model(X) - network()(X)).abs()
    assert changed.max() > 1e-3


def test_it_is_kept_in_files(tmp_path):
    model = network()
    kanlens.save(model, tmp_path / "model.safetensors")
    again = kanlens.load(tmp_path / "model.safetensors")
    assert again.config == model.config
    assert [(one.normalized, one.eps) for one in again.nodes] == [(2, 0.03), (2, 0.03), (0, 1e-5)]
    assert torch.equal(again(X), model(X))


@pytest.mark.parametrize(
    "change", [{"normalized": 4}, {"normalized": -1}, {"normalized": 1.0}, {"eps": "nan"}]
)
def test_a_configuration_that_cannot_be_is_refused(change):
    data = json.loads(network().config.to_json())
    data["nodes"][0] |= change
    with pytest.raises(FileFormatError, match="KAN"):
        KAN.from_config(KANConfig.from_json(json.dumps(data)))


def test_outputs_are_not_normalized():
    """An output is a sum or a product: every analysis explains it alone."""
    model = network()
    nodes = [*list(model.nodes)[:-1], Nodes(Grouping(2), normalized=2)]
    match = r"^KAN.from_layers: expected outputs that are not normalized, got normalized ones"
    with pytest.raises(InvalidValueError, match=match):
        KAN.from_layers(list(model.layers), model.schema, nodes=nodes)
    data = json.loads(model.config.to_json())
    data["nodes"][-1]["normalized"] = 2
    with pytest.raises(FileFormatError, match="outputs that are not normalized"):
        KAN.from_config(KANConfig.from_json(json.dumps(data)))


@pytest.mark.slow  # many layers of every kind
def test_the_formula_has_the_normalization_by_name():
    model = made([2, 2, 1], functions=True, normalized=[2, 0])
    x, (formula,) = draw(60, 2), compose(model)
    assert "layer_norm(" in str(formula)
    symbols = feature_symbols(model)
    expected = model(x).detach()
    found = torch.as_tensor(evaluator((formula,), symbols)(x))
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    again = copy.deepcopy(pickle.loads(pickle.dumps(formula)))  # noqa: S301
    values = torch.as_tensor(evaluator((again,), symbols)(x))
    assert_close(values, expected, rtol=1e-12, atol=1e-12)
    free = x.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(model(free).sum(), free)
    for index, symbol in enumerate(symbols):
        slope = torch.as_tensor(evaluator((formula.diff(symbol),), symbols)(x))
        assert_close(slope[:, 0], slopes[:, index], rtol=1e-9, atol=1e-11)
