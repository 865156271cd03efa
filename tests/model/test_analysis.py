"""What analyses share: copies, live edges and features, rows at once; layers that bound nothing."""

import torch
from torch.testing import assert_close

from kanlens.model._analysis import float64_copy, live_features, reaching, rows_at_once, widest
from kanlens.model._kan_linear import KANLinear
from kanlens.model._layer_enclosures import NoEnclosure, encloses
from kanlens.model._network import KAN


def test_a_private_copy_is_frozen_float64_and_without_hooks():
    model = KAN([2, 1])
    model.register_forward_hook(lambda *_: None)
    copy = float64_copy(model)
    assert copy.dtype == torch.float64
    assert not copy._forward_hooks
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert model.dtype == torch.float32


def test_rows_at_once_follow_from_the_widest_layer():
    assert widest(KAN([2, 3, 1])) == 3
    assert rows_at_once(KAN([784, 64, 10])) == 83


def test_what_reaches_an_output():
    model = KAN([2, 3, 2])
    assert reaching(model, 1)[-1].tolist() == [False, True]
    assert live_features(model, 1).tolist() == [True, True]
    with torch.no_grad():
        model.layers[0].mask[:, 0] = 0.0
        model.layers[1].mask[1, :2] = 0.0
    assert live_features(model, 1).tolist() == [False, True]
    assert reaching(model, 1)[0].tolist() == [False, False, True]
    with torch.no_grad():
        model.layers[0].base_weight[2] = 0.0
        model.layers[0].spline_weight[2] = 0.0
    assert not bool(model.layers[0].nonzero_edges()[2].any())


def test_only_masked_edges_of_an_unknown_layer_are_bounded():
    class Own(KANLinear):
        def edge_values(self, x):
            return 2 * super().edge_values(x)

    assert encloses(KANLinear(2, 1))
    assert not encloses(Own(2, 1))  # whose bounds would be those of its parent
    box = torch.zeros(1, 2), torch.ones(1, 2)
    lower, upper = NoEnclosure(torch.tensor([[1.0, 0.0]])).values(*box).bounds()
    assert_close(upper, torch.tensor([[[torch.inf, 0.0]]]))
    assert_close(lower, -upper)
