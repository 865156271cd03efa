"""Beyond the range of the training data: features are held at its ends, and it is said."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.certificates._bound_propagation import BoundPropagation
from kanlens.cli import main
from kanlens.errors import RangeWarning
from kanlens.model._network import describe
from kanlens.training._objective import outside_words
from kanlens.training._training_loop import settle_range

pytestmark = pytest.mark.usefixtures("few_folds")

N = 160


def rows(seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(N, 2, generator=draw, dtype=torch.float64) * 2 - 1
    return x, torch.exp(torch.sin(3 * x[:, 0]) + x[:, 1] ** 2)


def trained(x, y, steps=12, **options):
    draw = torch.Generator().manual_seed(1)
    model = kanlens.KAN([x.shape[1], 3, 1], generator=draw, **options).double()  # type: ignore[arg-type]
    kanlens.fit(model, (x, y), steps=steps, validation=0.0, generator=draw, progress=False)
    return model


@pytest.fixture(scope="module")
def model():
    return trained(*rows())


FAR = torch.tensor([[1e6, 0.1], [0.2, -4.0], [-3.0, 2.0], [0.3, 0.3]], dtype=torch.float64)


def test_the_range_is_that_of_the_training_data_and_values_are_held_at_its_ends(model):
    x, _ = rows()
    assert_close(model.input_low, x.amin(0), rtol=0, atol=0)
    assert_close(model.input_high, x.amax(0), rtol=0, atol=0)
    held = FAR.clamp(x.amin(0), x.amax(0))
    assert_close(model(FAR), model(held), rtol=0, atol=0)
    assert not torch.equal(held, FAR)
    assert model.feature_range is not None
    assert_close(torch.stack(model.feature_range), torch.stack(x.aminmax(dim=0)), rtol=0, atol=0)


def test_a_model_is_described_by_the_range_of_the_data_not_by_where_it_is_held():
    x, y = rows()
    x[:, 0] = (torch.arange(N) == 7).double()  # a rare mark
    model = kanlens.KAN([2, 1]).double()
    settle_range(model, x, beyond=True)
    assert model.input_high[0] > 1
    kanlens.fit(model, (x, y), steps=1, validation=0.0, progress=False)
    (mark, other) = describe(model)["features"]
    assert (mark["low"], mark["high"]) == (0.0, 1.0)
    ends = [float(end) for end in x[:, 1].aminmax()]
    assert [other["low"], other["high"]] == pytest.approx(ends, rel=1e-12)


def test_other_ways_beyond_the_range_hold_nothing():
    straight = trained(*rows(), steps=2, extrapolation="linear")
    assert straight.input_low.isinf().all()
    assert straight.feature_range is not None
    assert straight.statistics is not None
    ends = straight.statistics[0].input_low, straight.statistics[0].input_high
    for one, other in zip(straight.feature_range, ends, strict=True):
        assert_close(straight.scale_inputs(one), other)
    assert kanlens.KAN([2, 1]).feature_range is None
    far = torch.tensor([[10.0, 0.0], [20.0, 0.0], [30.0, 0.0]], dtype=torch.float64)
    ends = straight(far).detach()
    assert abs(float(ends[2] - ends[1])) > 0.1  # it goes on


@pytest.mark.slow  # trains networks
def test_a_bad_cell_moves_no_prediction_and_hardly_the_training():
    x, y = rows()
    spoiled = x.clone()
    spoiled[7, 0] = 1e6
    test_x, test_y = rows(5)

    def missed(model):
        return float((model(test_x)[:, 0] - test_y).detach().var() / test_y.var())

    assert missed(trained(spoiled, y)) < 0.05
    assert missed(trained(spoiled, y, extrapolation="linear")) > 0.2  # the check can fail


def test_a_feature_that_is_mostly_zero_keeps_what_varies():
    x, y = rows()
    x[:, 1] = torch.where(torch.arange(N) % 50 == 0, 1.0 + x[:, 1].abs(), 0.0)
    model = trained(x, y, steps=1)
    assert_close(model.input_high[1], x[:, 1].max())


def test_later_data_widen_the_range():
    x, y = rows()
    model = trained(x, y, steps=1)
    kanlens.fit(model, (2 * x, y), steps=1, validation=0.0, progress=False)
    assert_close(model.input_high, 2 * x.amax(0))
    kanlens.fit(model, (0.1 * x, y), steps=1, validation=0.0, progress=False)
    assert_close(model.input_high, 2 * x.amax(0))


@pytest.mark.slow  # trains networks
def test_files_and_pruned_networks_keep_the_range_and_formulas_have_none(model, tmp_path):
    again = kanlens.load(kanlens.save(model, tmp_path / "model.safetensors"))
    assert again.holds_inputs
    assert_close(again(FAR), model(FAR), rtol=0, atol=0)
    imported = kanlens.import_model(model.state_dict())
    assert_close(imported(FAR), model(FAR), rtol=0, atol=0)
    x, y = rows()
    pruned = kanlens.prune(model, x, y, threshold=0.01, progress=False).model
    assert_close(pruned(FAR), pruned(FAR.clamp(x.amin(0), x.amax(0))), rtol=0, atol=0)
    assert (
        kanlens.symbolize(model, x, progress=False, functions=["x"]).model.input_low.isinf().all()
    )


def test_attributions_add_up_beyond_the_range(model):
    background = rows()[0][:3]
    for name in ("shapley", "secant", "integrated_gradients", "captum_deep_lift"):
        found = kanlens.attribute(model, FAR, method=name, background=background, progress=False)
        assert float(found.completeness_gap.abs().max()) < 1e-11, name


def test_gradients_are_those_of_what_is_computed(model):
    x = FAR.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(model(x).sum(), x)
    found = kanlens.attribute(model, FAR, method="gradient", progress=False).values
    assert_close(found, wanted)
    assert float(found[0, 0]) == 0.0  # held: it moves nothing


def test_integrated_gradients_follow_the_line_until_a_feature_is_held(model):
    start, end = rows()[0][:1], FAR[1:2]
    found = kanlens.attribute(
        model, end, method="integrated_gradients", background=start, progress=False
    )
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    x = (start + t[:, None] * (end - start)).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert_close(found.values, (gradient * (end - start)).mean(0, keepdim=True), rtol=0, atol=2e-3)
    ends = model.input_low, model.input_high
    inside = kanlens.attribute(
        model, end.clamp(*ends), method="integrated_gradients", background=start, progress=False
    )
    assert float((found.values - inside.values).abs().max()) > 0.05  # another line: it can fail


def test_proven_ranges_beyond_the_range_are_those_within_it(model):
    ends = (model.input_low, model.input_high)
    exact = copy.deepcopy(model).requires_grad_(False)
    whole = torch.tensor([[-5.0, 5.0], [-0.5, 0.5]], dtype=torch.float64)
    inner = whole.clamp(ends[0][:, None], ends[1][:, None])
    wide, narrow = (
        BoundPropagation(exact, 0, box).values(box[None, :, 0], box[None, :, 1])
        for box in (whole, inner)
    )
    assert_close(torch.stack(wide), torch.stack(narrow), rtol=1e-9, atol=1e-9)


def test_slopes_on_a_box_that_reaches_out_include_zero():
    x, _ = rows()
    model = trained(x, 3 * x[:, 0] + x[:, 1], steps=5)
    box = torch.tensor([[0.5, 9.0], [0.0, 0.5]], dtype=torch.float64)
    low, high = BoundPropagation(model.requires_grad_(False), 0, box).slopes(
        box[None, :, 0], box[None, :, 1]
    )
    assert float(low[0, 0]) <= 0.0 < 2.5 < float(high[0, 0])
    assert float(low[0, 1]) > 0.0  # of the feature that stays within


def test_it_is_said_how_many_rows_and_which_features(model):
    assert outside_words(model, rows()[0]) == ""
    assert outside_words(model, FAR) == (
        "3 of 4 rows outside the bulk of the training data (x1: 2, x2: 2), where each value is "
        "held at the nearest end of its range"
    )
    wide = kanlens.KAN([9, 1])
    assert outside_words(wide, torch.full((1, 9), 7.0)) == (
        "1 of 1 rows outside the grid (x1: 1, x2: 1, x3: 1, x4: 1, x5: 1, and 4 more features), "
        "where functions are extrapolated"
    )


def test_traces_say_what_was_held(model):
    assert kanlens.trace(model, FAR).outside[0].tolist() == [0.5, 0.5]


def test_estimators_warn():
    x, y = rows()
    found = kanlens.KANRegressor(hidden=(), steps=1, random_state=0).fit(x.numpy(), y.numpy())
    with pytest.warns(
        RangeWarning, match=r"^KANRegressor: 1 of 2 rows outside the bulk of the training data"
    ):
        far = found.predict(np.array([[9.0, 0.0], [0.0, 0.0]]))
    end = float(found.model_.input_high[0])
    assert_close(far[0], found.predict(np.array([[end, 0.0]]))[0])


@pytest.mark.slow  # trains networks
def test_estimators_and_commands_take_the_other_ways(tmp_path):
    x, y = rows()
    straight = kanlens.KANRegressor(hidden=(), steps=1, extrapolation="linear", random_state=0)
    assert not straight.fit(x.numpy(), y.numpy()).model_.holds_inputs
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y}).to_csv(tmp_path / "d.csv", index=False)
    words = ["train", f"{tmp_path}/d.csv", "--target", "y", "--steps", "1", "--quiet"]
    for way, held in (("linear", False), ("constant", True)):
        out = tmp_path / f"{way}.safetensors"
        assert main([*words, "--extrapolation", way, "-o", str(out)]) == 0
        assert kanlens.load(out).holds_inputs is held


def test_a_range_goes_beyond_by_the_span_of_its_outermost_values():
    x = torch.arange(60.0).double()[:, None].repeat(1, 3)
    x[-1, 0] = 90.0  # a long tail
    x[:, 1] = (x[:, 1] > 30).double()
    x[-1, 2] = 1e6  # beyond the fence, which holds
    model = kanlens.KAN([3, 1], extrapolation="constant").double()
    settle_range(model, x, beyond=True)
    assert model.input_low.tolist() == [-2.0, 0.0, -2.0]  # one value of thirty: two
    assert model.input_high[:2].tolist() == [90 + (90 - 57), 1.0]
    assert 59 < float(model.input_high[2]) < 1000
    plain = kanlens.KAN([3, 1], extrapolation="constant").double()
    settle_range(plain, x)
    assert plain.input_low.tolist() == [0.0, 0.0, 0.0]
    assert plain.input_high[:2].tolist() == [90.0, 1.0]


@pytest.mark.slow  # takes a while
def test_a_formula_is_that_of_the_range():
    """A wrong cell that the network clips would be infinite in an exponential."""
    x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None].repeat(1, 2)
    x[::2, 1] *= -1
    y = torch.exp(2 * x[:, :1]) + x[:, 1:]
    model = kanlens.fit(kanlens.KAN([2, 1]).double(), (x, y), progress=False).model
    wrong = x.clone()
    wrong[7, 0] = 1e6
    options = {"functions": ["x", "exp"], "progress": False}
    said = r"got 1 of 200 rows with 'x1' or another feature outside it\. These rows are left out"
    with pytest.warns(UserWarning, match=said):
        result = kanlens.symbolize(model, wrong, **options)
    rest = torch.cat([x[:7], x[8:]])
    assert result.text() == kanlens.symbolize(model, rest, **options).text()
    many = x.clone()
    many[:50, 0] += 1e6
    receipt = kanlens.symbolize(model, many, **options).receipt
    assert receipt.outside_share > 0


def test_a_line_does_not_run_to_a_wrong_cell():
    x, _ = rows()
    x, y = x[:60], 2 * x[:60, 0]
    x[7, 0] = 1e9
    result = kanlens.fit_default((x, y), hidden=(), progress=False)
    assert result.metric > 0.5  # of all rows, with the wrong one held at the end
