"""What every method promises on every layer kind, and proof that each check has teeth."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from kanlens.attribution import METHODS, Attribution, Importance, attribute
from kanlens.errors import MethodError
from kanlens.model.layers import LAYER_KINDS, KANLinear
from kanlens.model.network import KAN
from tests.attribution import oracles
from tests.attribution.conftest import MADE_OF
from tests.attribution.leftovers import changed, state

ALL = sorted(METHODS)
LOCAL = [name for name in ALL if METHODS[name].scope == "local"]
GAPS = {"captum_integrated_gradients": 1e-3, "captum_kernel_shap": 1e-4}  # of |output - reference|
GAPS |= {"captum_layer_integrated_gradients": 1e-3, "captum_layer_conductance": 1e-2}
FEW = {name: {"n_samples": 20} for name in ALL if "n_samples" in METHODS[name].options}
STEPPED = [name for name in ALL if "n_steps" in METHODS[name].options]
FEW |= {name: {**FEW.get(name, {}), "n_steps": 5} for name in STEPPED}
TOGETHER = {"captum_gradient_shap", "captum_noise_tunnel"}  # draws are those of the whole batch


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(name: str, model: KAN, x: Tensor, rows: Tensor, **more: int) -> Attribution | Importance:
    options = {**FEW.get(name, {}), **more}
    return attribute(
        model, x, method=name, background=rows, target=1, generator=generator(), **options
    )


def columns(name: str, model: KAN) -> tuple[str, ...]:
    """Names of what the method gives numbers to."""
    if not METHODS[name].of_nodes:
        return model.feature_names
    return tuple(model.node_name(1, index) for index in range(model.widths[1]))


def check_shape(name: str, model: KAN, x: Tensor, rows: Tensor) -> Tensor:
    """Return the numbers in float64."""
    values = []
    for dtype in (torch.float64, torch.float32):
        found = run(name, model.to(dtype), x.to(dtype), rows.to(dtype))
        names = columns(name, model)
        shape = (len(x), len(names)) if isinstance(found, Attribution) else (len(names),)
        assert found.values.shape == shape
        assert found.values.dtype == dtype
        assert bool(torch.isfinite(found.values).all())
        assert (found.method, found.target) == (name, "y2")
        assert found.features == names
        values.append(found.values)
    model.double()
    return values[0]


def check_rows_apart(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    if name == "captum_feature_permutation":
        with pytest.raises(MethodError, match="expected at least 2 rows of x"):
            run(name, model, x[:1], rows)
        return
    found = run(name, model, x, rows)
    together = found.values
    if name in TOGETHER:
        alone = run(name, model, x[1:2], rows)
        error = (alone.standard_error[0].square() + found.standard_error[1].square()).sqrt()
        assert bool(((alone.values[0] - together[1]).abs() <= 8 * error + 1e-9).all())
        return
    for i in range(len(x)):
        alone = run(name, model, x[i : i + 1], rows).values[0]
        torch.testing.assert_close(alone, together[i], rtol=1e-10, atol=1e-12)


def check_repeats(
    name: str, model: KAN, x: Tensor, rows: Tensor, first: Tensor | None = None
) -> None:
    if first is None:
        first = run(name, model, x, rows).values
    torch.rand(3)  # whatever happens elsewhere
    torch.testing.assert_close(run(name, model, x, rows).values, first, rtol=0, atol=0)


def check_leaves_alone(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    model.train()
    model.layers[0].eval()
    model.layers[0].register_forward_hook(lambda *_: None)
    model.layers[0].base_weight.requires_grad_(False)
    model(x).sum().backward()
    before, x_before = state(model), x.clone()
    run(name, model, x, rows)
    assert changed(before, state(model)) == []
    assert torch.equal(x, x_before)
    assert not x.requires_grad


def check_leaves_alone_after_error(
    name: str, model: KAN, x: Tensor, rows: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    calls, limit = 0, math.inf
    kind = type(model.layers[0])
    forward = kind.forward

    def stop(*_: object, **__: object) -> Tensor:
        raise RuntimeError("stopped")

    def late_stop(layer: KANLinear, u: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return stop() if calls > limit else forward(layer, u)

    before, known = state(model), set(SUPPORTED_NON_LINEAR)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", late_stop)
        with contextlib.suppress(RuntimeError):
            run(name, model, x, rows)  # only counted
        calls, limit = 0, max(1, calls // 2)
        for part in ("edge_values", "edge_derivatives", "weight_l1"):
            patch.setattr(kind, part, stop)
        with pytest.raises(RuntimeError, match="stopped"):
            run(name, model, x, rows)
    assert changed(before, state(model)) == []
    assert set(SUPPORTED_NON_LINEAR) == known


def check_dead_node(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    dead = 0  # in front of the outputs of a single layer, the output that is not asked for
    if len(model.layers) > 1:
        dead = 1
        with torch.no_grad():
            model.layers[1].mask[:, 1] = 0
    values = run(name, model, x, rows).values
    assert float(values[:, dead].abs().max()) == 0
    assert float(values[:, 1 - dead].abs().max()) > 1e-3


def check_dummy(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    if METHODS[name].of_nodes:
        check_dead_node(name, model, x, rows)
        return
    first = model.layers[0]
    with torch.no_grad():
        first.spline_weight[:, 1] = 0
        first.base_weight[:, 1] = 0
        if first.series:
            first.series_weight[:, 1] = 0
        if first.edge_terms():
            first.affine[:, 1, 2] = 0  # what stays is a constant
        first.mask[:, 2] = 0
    values = run(name, model, x, rows).values
    fitted = name == "captum_kernel_shap"
    fitted |= name == "captum_lime" and first.edge_terms()  # asked about constants
    least = 1e-5 if fitted else 1e-12  # captum fits in float32
    assert float(values[..., 1:3].abs().max()) <= least
    assert float(values[..., 0].abs().max()) > 1e-3


def check_complete(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    found = run(name, model, x, rows, **({"n_steps": 200} if name in STEPPED else {}))
    assert isinstance(found, Attribution)
    torch.testing.assert_close(found.output, model(x)[:, 1].detach())
    change = (found.output - found.reference).abs().sum()
    gap = float(found.completeness_gap.abs().sum() / change)
    assert gap < GAPS.get(name, 1e-12), f"completeness gap {gap:.1e}"


def check_exact(name: str, model: KAN, x: Tensor, rows: Tensor) -> None:
    with torch.no_grad():
        expected = oracles.ORACLES[name](model, x, rows, 1)
    torch.testing.assert_close(run(name, model, x, rows).values, expected, rtol=1e-9, atol=1e-11)


def check_output_alone(
    name: str, model: KAN, x: Tensor, rows: Tensor, before: Tensor | None = None
) -> None:
    if before is None:
        before = run(name, model, x, rows).values
    with torch.no_grad():
        model.layers[-1].spline_weight[0] *= 3  # the other output
    torch.testing.assert_close(run(name, model, x, rows).values, before, rtol=0, atol=0)


def widths(name: str) -> list[int]:
    """A small network that the method fits."""
    return [3, 2] if name == "additive" else [3, 2, 2]


@pytest.fixture
def model(network, kind, request):
    return kind(network(widths(request.node.callspec.params["name"])))


@pytest.fixture
def plain(network):
    """Of one layer kind: enough to show that a check has teeth."""
    return network([3, 2, 2])


@pytest.fixture
def x(draw):
    return draw(3, 3)


@pytest.fixture
def rows(draw):
    return draw(3, 3, seed=2)


@pytest.mark.parametrize("name", ALL)
def test_shape_and_dtype_the_generator_and_the_other_output(name, model, x, rows):
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    values = check_shape(name, model, x, rows)
    model.load_state_dict(plain)  # as it was before it was in float32
    check_repeats(name, model, x, rows, values)
    check_output_alone(name, model, x, rows, values)


@pytest.mark.parametrize("name", [name for name in LOCAL if name != "captum_kernel_shap"])
def test_a_row_of_a_batch_is_the_row_alone(name, model, x, rows):
    check_rows_apart(name, model, x, rows)


@pytest.mark.parametrize("name", ALL)
def test_everything_is_left_as_it_was(name, model, x, rows):
    check_leaves_alone(name, model, x, rows)


@pytest.mark.parametrize("name", ALL)
def test_everything_is_left_as_it_was_after_an_error(name, model, x, rows, monkeypatch):
    check_leaves_alone_after_error(name, model, x, rows, monkeypatch)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("of", "extrapolation"),
    [("spline", "linear"), ("spline", "zero"), ("function", "zero"), ("series", "linear")],
)
def test_a_dead_feature_gets_nothing(name, of, extrapolation, network, x, rows):
    check_dummy(name, MADE_OF[of](network(widths(name), extrapolation=extrapolation)), x, rows)


@pytest.mark.parametrize("name", [name for name in LOCAL if METHODS[name].complete])
def test_complete_methods_are_complete(name, model, x, rows):
    check_complete(name, model, x, rows)


@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].exact])
def test_exact_methods_are_their_definition(name, model, x, rows):
    check_exact(name, model, x, rows)


@pytest.mark.parametrize(
    "name", [name for name in ALL if METHODS[name].exact and name != "additive"]
)
def test_exact_methods_are_their_definition_on_three_layers(name, network, x, rows):
    check_exact(name, network([3, 2, 2, 2], extrapolation="zero"), x, rows)


# Teeth: each check must reject a method broken on purpose.


@pytest.fixture
def broken(monkeypatch):
    """Put a broken version of a method in the table; `change` works on its answer."""

    def put(name, change):
        function = METHODS[name].function
        method = dataclasses.replace(
            METHODS[name], function=lambda problem: change(problem, function(problem))
        )
        monkeypatch.setitem(METHODS, name, method)

    return put


def scaled(problem, parts):
    return dataclasses.replace(parts, values=parts.values * 1.01)


def last_feature_dropped(problem, parts):
    return dataclasses.replace(parts, values=parts.values[:, :-1])


def batch_dependent(problem, parts):
    return dataclasses.replace(parts, values=parts.values / len(parts.values))


def noisy(problem, parts):
    return dataclasses.replace(parts, values=parts.values + torch.rand(1))


def test_teeth_scaled_values_are_neither_complete_nor_exact(broken, plain, x, rows):
    broken("secant", scaled)
    with pytest.raises(AssertionError, match="completeness gap"):
        check_complete("secant", plain, x, rows)
    with pytest.raises(AssertionError):
        check_exact("secant", plain, x, rows)


def test_teeth_a_dropped_feature_is_noticed(broken, plain, x, rows):
    broken("secant", last_feature_dropped)
    with pytest.raises(AssertionError):
        check_shape("secant", plain, x, rows)


def test_teeth_rows_that_depend_on_the_batch_are_noticed(broken, plain, x, rows):
    broken("secant", batch_dependent)
    with pytest.raises(AssertionError):
        check_rows_apart("secant", plain, x, rows)


def test_teeth_numbers_of_the_global_state_are_noticed(broken, plain, x, rows):
    broken("secant", noisy)
    with pytest.raises(AssertionError):
        check_repeats("secant", plain, x, rows)
    with pytest.raises(AssertionError):
        check_leaves_alone("secant", plain, x, rows)
    with pytest.raises(AssertionError):
        check_dummy("secant", plain, x, rows)


def test_teeth_a_reseeded_torch_is_noticed(broken, plain, x, rows):
    def reseeds(problem, parts):
        torch.manual_seed(0)
        return parts

    broken("secant", reseeds)
    with pytest.raises(AssertionError):
        check_leaves_alone("secant", plain, x, rows)


@pytest.mark.parametrize(
    "harm",
    [
        lambda model: model.layers[1].register_forward_hook(lambda *_: None),
        lambda model: model.eval(),
        lambda model: model.layers[1].bias.data.add_(1e-9),
        lambda model: model.requires_grad_(False),
        lambda model: model.zero_grad(),
        lambda model: random.random(),
        lambda model: np.random.random(),  # noqa: NPY002
    ],
    ids=["hook", "mode", "parameter", "requires_grad", "grad", "random", "numpy"],
)
def test_teeth_whatever_is_left_behind_is_noticed(harm, broken, plain, x, rows):
    def leaves(problem, parts):
        harm(plain)
        return parts

    broken("secant", leaves)
    with pytest.raises(AssertionError):
        check_leaves_alone("secant", plain, x, rows)


def test_teeth_a_method_that_reads_the_other_output_is_noticed(broken, plain, x, rows):
    def sums(problem, parts):
        return dataclasses.replace(parts, values=parts.values + problem.model(problem.x).sum())

    broken("secant", sums)
    with pytest.raises(AssertionError):
        check_output_alone("secant", plain, x, rows)


def test_teeth_state_left_after_an_error_is_noticed(broken, plain, x, rows, monkeypatch):
    def draws_and_fails(problem):
        torch.rand(1)
        raise RuntimeError("stopped")

    monkeypatch.setitem(
        METHODS, "secant", dataclasses.replace(METHODS["secant"], function=draws_and_fails)
    )
    with pytest.raises(AssertionError):
        check_leaves_alone_after_error("secant", plain, x, rows, monkeypatch)


def test_every_layer_kind_is_tried():
    assert set(MADE_OF) == set(LAYER_KINDS)


def test_every_exact_method_has_a_slow_version():
    assert set(oracles.ORACLES) == {name for name in ALL if METHODS[name].exact}
