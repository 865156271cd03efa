"""What every method promises on every layer kind, and proof that each check has teeth."""

import contextlib
import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from kanlens.attribution import METHODS, Attribution, attribute
from kanlens.errors import MethodError
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
KINDS = sorted(MADE_OF)
TOGETHER = {"captum_gradient_shap", "captum_noise_tunnel"}  # draws are those of the whole batch


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def run(name, model, x, rows, **more):
    options = {**FEW.get(name, {}), **more}
    return attribute(
        model, x, method=name, background=rows, target=1, generator=generator(), **options
    )


def columns(name, model):
    """Names of what the method gives numbers to."""
    if not METHODS[name].of_nodes:
        return model.feature_names
    return tuple(model.node_name(1, index) for index in range(model.widths[1]))


def check_shape(name, model, x, rows):
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


def check_rows_apart(name, model, x, rows):
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


def check_repeats(name, model, x, rows, first=None):
    if first is None:
        first = run(name, model, x, rows).values
    torch.rand(3)  # whatever happens elsewhere
    torch.testing.assert_close(run(name, model, x, rows).values, first, rtol=0, atol=0)


def check_leaves_alone(name, model, x, rows):
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


def check_leaves_alone_after_error(name, model, x, rows, monkeypatch):
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    calls, limit = 0, math.inf
    kind = type(model.layers[0])
    forward = kind.forward

    def stop(*_, **__):
        raise RuntimeError("stopped")

    def late_stop(layer, u):
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


def check_dead_node(name, model, x, rows):
    dead = 0  # in front of the outputs of a single layer, the output that is not asked for
    if len(model.layers) > 1:
        dead = 1
        with torch.no_grad():
            model.layers[1].mask[:, 1] = 0
    values = run(name, model, x, rows).values
    assert float(values[:, dead].abs().max()) == 0
    assert float(values[:, 1 - dead].abs().max()) > 1e-3


def check_dummy(name, model, x, rows):
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
    fitted |= name == "captum_lime" and bool(first.edge_terms())  # asked about constants
    least = 1e-5 if fitted else 1e-12  # captum fits in float32
    assert float(values[..., 1:3].abs().max()) <= least
    assert float(values[..., 0].abs().max()) > 1e-3


def check_complete(name, model, x, rows):
    found = run(name, model, x, rows, **({"n_steps": 200} if name in STEPPED else {}))
    assert isinstance(found, Attribution)
    torch.testing.assert_close(found.output, model(x)[:, 1].detach())
    change = (found.output - found.reference).abs().sum()
    gap = float(found.completeness_gap.abs().sum() / change)
    assert gap < GAPS.get(name, 1e-12), f"completeness gap {gap:.1e}"


def check_exact(name, model, x, rows):
    with torch.no_grad():
        expected = oracles.ORACLES[name](model, x, rows, 1)
    torch.testing.assert_close(run(name, model, x, rows).values, expected, rtol=1e-9, atol=1e-11)


def check_output_alone(name, model, x, rows, before=None):
    if before is None:
        before = run(name, model, x, rows).values
    with torch.no_grad():
        model.layers[-1].spline_weight[0] *= 3  # the other output
    torch.testing.assert_close(run(name, model, x, rows).values, before, rtol=0, atol=0)


def widths(name):
    """A small network that the method fits."""
    return [3, 2] if name == "additive" else [3, 2, 2]


def in_turn(names, kinds=KINDS, alone="captum_"):
    """Pairs of methods and layer kinds: all of ours, and each of captum's with the next kind.

    Where the kind does not matter, methods whose name starts with `alone` have one: "" for all.
    """
    return [
        (name, kind)
        for place, name in enumerate(names)
        for kind in ([kinds[place % len(kinds)]] if name.startswith(alone) else kinds)
    ]


@pytest.fixture
def model(network, name, of):
    return MADE_OF[of](network(widths(name)))


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), in_turn(ALL))
def test_shape_and_dtype_the_generator_and_the_other_output(name, model, x, rows):
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    values = check_shape(name, model, x, rows)
    model.load_state_dict(plain)  # as it was before it was in float32
    check_repeats(name, model, x, rows, values)
    check_output_alone(name, model, x, rows, values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "of"), in_turn([name for name in LOCAL if name != "captum_kernel_shap"], alone="")
)
def test_a_row_of_a_batch_is_the_row_alone(name, model, x, rows):
    check_rows_apart(name, model, x, rows)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), in_turn(ALL, alone=""))
def test_everything_is_left_as_it_was(name, model, x, rows):
    check_leaves_alone(name, model, x, rows)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), in_turn(ALL, alone=""))
def test_everything_is_left_as_it_was_after_an_error(name, model, x, rows, monkeypatch):
    check_leaves_alone_after_error(name, model, x, rows, monkeypatch)


BEYOND = (("spline", "linear"), ("spline", "zero"), ("function", "zero"), ("series", "linear"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "of"), in_turn(ALL, BEYOND))
def test_a_dead_feature_gets_nothing(name, of, network, x, rows):
    kind, extrapolation = of
    check_dummy(name, MADE_OF[kind](network(widths(name), extrapolation=extrapolation)), x, rows)


@pytest.mark.parametrize(
    ("name", "of"), in_turn([name for name in LOCAL if METHODS[name].complete])
)
@pytest.mark.slow  # many cases
def test_complete_methods_are_complete(name, model, x, rows):
    check_complete(name, model, x, rows)


@pytest.mark.slow
@pytest.mark.parametrize("of", MADE_OF)
@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].exact])
def test_exact_methods_are_their_definition(name, model, x, rows):
    check_exact(name, model, x, rows)


@pytest.mark.parametrize(
    "name", [name for name in ALL if METHODS[name].exact and name != "additive"]
)
@pytest.mark.slow  # many cases
def test_exact_methods_are_their_definition_on_three_layers(name, network, x, rows):
    check_exact(name, network([3, 2, 2, 2], extrapolation="zero"), x, rows)


# Teeth: each check must reject a method broken on purpose.

BROKEN = {  # how the values of a method change, given its problem, and which checks notice it
    "scaled": (lambda values, _: values * 1.01, [check_complete, check_exact]),
    "a feature dropped": (lambda values, _: values[:, :-1], [check_shape]),
    "of the batch": (lambda values, _: values / len(values), [check_rows_apart]),
    "drawn": (
        lambda values, _: values + torch.rand(1),
        [check_repeats, check_leaves_alone, check_dummy],
    ),
    "of all outputs": (
        lambda values, problem: values + problem.model(problem.x).sum(),
        [check_output_alone],
    ),
}
HARM = {  # what a method does to a model, or to the state of the process
    "seed": lambda _: torch.manual_seed(0),
    "hook": lambda model: model.layers[1].register_forward_hook(lambda *_: None),
    "mode": lambda model: model.eval(),
    "parameter": lambda model: model.layers[1].bias.data.add_(1e-9),
    "requires_grad": lambda model: model.requires_grad_(False),
    "grad": lambda model: model.zero_grad(),
    "random": lambda _: random.random(),
    "numpy": lambda _: np.random.random(),  # noqa: NPY002
}


@pytest.fixture
def secant(monkeypatch):
    """Put another function in the place of a method's."""

    def put(function):
        method = METHODS["secant"]
        changed = dataclasses.replace(method, function=lambda problem: function(method, problem))
        monkeypatch.setitem(METHODS, "secant", changed)

    return put


@pytest.mark.parametrize("name", BROKEN)
def test_teeth_wrong_values_are_noticed(name, secant, plain, x, rows):
    change, checks = BROKEN[name]

    def wrong(method, problem):
        parts = method.function(problem)
        return dataclasses.replace(parts, values=change(parts.values, problem))

    secant(wrong)
    for check in checks:
        with pytest.raises(AssertionError):
            check("secant", plain, x, rows)


@pytest.mark.parametrize("name", HARM)
def test_teeth_whatever_is_left_behind_is_noticed(name, secant, plain, x, rows):
    secant(lambda method, problem: (HARM[name](plain), method.function(problem))[1])
    with pytest.raises(AssertionError):
        check_leaves_alone("secant", plain, x, rows)


def test_teeth_state_left_after_an_error_is_noticed(secant, plain, x, rows, monkeypatch):
    def draws_and_fails(*_):
        torch.rand(1)
        raise RuntimeError("stopped")

    secant(draws_and_fails)
    with pytest.raises(AssertionError):
        check_leaves_alone_after_error("secant", plain, x, rows, monkeypatch)


def test_every_kind_of_edge_is_tried(network):
    made = {kind: make(network([3, 2])).layers[0].edge_kind for kind, make in MADE_OF.items()}
    assert made == {kind: kind for kind in ("spline", "function", "series")}


def test_every_exact_method_has_a_slow_version():
    assert set(oracles.ORACLES) == {name for name in ALL if METHODS[name].exact}
