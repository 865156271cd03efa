"""Edits of models: what they write, that they can be undone, and the difference they make."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.optimize import minimize
from torch import Tensor

import kanlens
from kanlens.editing._projection import EdgeProjection
from kanlens.errors import DataError, InvalidValueError, MethodError, ShapeError
from kanlens.model._config import KANConfig
from kanlens.model._kan_linear import KANLinear
from kanlens.model._nodes import Grouping, Nodes
from tests.made import draw, levels, made

NETWORKS: dict[str, Any] = {
    "additive": ([3, 1], {}),
    "classes": ([3, 3], {}),
    "deep": ([3, 4, 2], {}),
    "products": ([3, (2, [2, 3]), (1, 1), 2], {"scaled_nodes": True}),
    "functions": ([3, 3, 1], {"functions": True}),
    "series": ([3, 2, 1], {"series": ["sin", "gaussian"]}),
    "normalized": ([3, 4, 1], {"normalized": (2, 0)}),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(name: str) -> kanlens.KAN:
    widths, options = NETWORKS[name]
    return made(widths, **options)


def additive(degree: int = 1, base: str = "zero", columns: int = 2, **options: Any) -> kanlens.KAN:
    """Return a network of one layer of noisy curves on [-1, 1]."""
    options = {"base_activation": base, "spline_order": degree, "scale_noise": 3.0, **options}
    return kanlens.KAN([columns, 1], grid_size=8, generator=seeded(), **options).double()


def product() -> kanlens.KAN:
    """Return [3, (1, 1), 1]: curves of x1 and x3, and the product of x1 and x2."""
    layers = [
        KANLinear(3, 3, 6, 1, base_activation="zero", scale_noise=3.0, generator=seeded()),
        KANLinear(2, 1, 2, 1, base_activation="identity", generator=seeded(1)),
    ]
    schema = kanlens.KAN([3, 1]).schema
    nodes = [Nodes(Grouping(1, (2,))), Nodes(Grouping(1))]
    with torch.no_grad():
        layers[0].mask.copy_(torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 1, 0]]))
        layers[1].spline_weight.zero_()
        layers[1].base_weight.copy_(torch.tensor([[1.5, -0.5]]))
    return kanlens.KAN.from_layers(layers, schema, nodes=nodes).double()


def rows(count: int = 200, columns: int = 2, seed: int = 3) -> Tensor:
    return torch.rand(count, columns, dtype=torch.float64, generator=seeded(seed)) * 2 - 1


def contents(model: kanlens.KAN) -> tuple[Any, ...]:
    """Return the bytes of all tensors and statistics, and the configuration."""
    tensors = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
    statistics = [
        [part.numpy().tobytes() for part in vars(layer.statistics).values()]
        for layer in model.layers
        if layer.statistics is not None
    ]
    return tensors, statistics, model.config.to_json()


def random_edit(edit: kanlens.Edit, place: np.random.Generator) -> None:
    """Make one random edit, of any kind that a network takes."""
    model = edit.model
    index = int(place.integers(len(model.layers)))
    layer = model.layers[index]
    out, in_ = (int(place.integers(size)) for size in layer.mask.shape)
    edge = edit.edge(index, out, in_)
    low, high = layer.edge(out, in_).domain
    choices = [
        edge.monotone,
        lambda: edge.convex("auto"),
        lambda: edge.smooth(float(place.uniform(0.01, 1))),
        lambda: edge.scale(float(place.normal())),
        edge.zero,
        lambda: edge.set(np.tanh, keep_mean=bool(place.integers(2)), tolerance=0.1),
        lambda: edge.set([(low, 0.1), (high, float(place.normal()))], tolerance=0.1),
        lambda: edge.clamp(high=float(place.normal())),
        edge.flatten,
        lambda: edge.flatten(outside_support=False),
        lambda: edit.remove(f"x{place.integers(1, 4)}"),
    ]
    try:
        place.choice(choices)()
    except MethodError:  # the column is removed already
        edge.scale(0.5)


@pytest.mark.slow  # 210 edits, each against brute force
@pytest.mark.parametrize("name", NETWORKS)
def test_random_edits_have_exact_differences_and_are_undone(name: str) -> None:
    model, x, place = network(name), draw(40, 3, seed=9), np.random.default_rng(len(name))
    before, edit, states = contents(model), kanlens.edit(model, x), []
    for count in range(30):  # 210 in all
        states.append(contents(edit.model))
        random_edit(edit, place)
        if count % 3 == 0:
            diff, (_, _, ours) = edit.diff(x), levels(edit.model, x)
            theirs = levels(model, x)[2]
            size = float(ours.abs().max() + theirs.abs().max())
            assert abs(diff.after - ours.numpy()).max() <= 1e-12 * size
            assert abs(diff.before - theirs.numpy()).max() <= 1e-12 * size
            change = (ours - theirs).numpy()
            assert abs(diff.values.sum(1) - change).max() <= 1e-12 * size
            assert sorted(diff.rows["change"]) == pytest.approx(sorted(change.ravel()), abs=1e-11)
    assert len(edit.history) == 30
    while edit.history:
        edit.undo()
        assert contents(edit.model) == states.pop()
    assert contents(edit.model) == contents(model) == before


def test_one_edit_of_an_additive_model_moves_its_own_column_alone() -> None:
    model, x = additive(base="silu", degree=3, columns=3), rows(columns=3)
    edit = kanlens.edit(model, x)
    edit.term("x2").monotone("increasing")
    edit.remove("x3")
    edit.edge(0, 0, 0).set(lambda v: 5 + 0 * v)
    diff, layer = edit.diff(x), model.layers[0]
    values = layer.edge_values(x)[:, 0].detach().numpy()
    after = edit.model.layers[0].edge_values(x)[:, 0].detach().numpy()
    assert diff.features == ("x1", "x2", "x3")
    assert abs(diff.values[:, 0, 0] - (5 - values[:, 0])).max() < 1e-12
    assert abs(diff.values[:, 1, 0] - (after - values)[:, 1]).max() < 1e-12
    assert abs(diff.values[:, 2, 0] - (values[:, 2].mean() - values[:, 2])).max() < 1e-12


# --- projections --------------------------------------------------------------------------------


def fit_by_slsqp(
    layer: KANLinear, u: np.ndarray[Any, Any], constraint: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Return the coefficients nearest at `u` with ``constraint @ c >= 0``, by a general solver."""
    phi, degree = layer.edge(0, 0), layer.spline_order
    basis = np.stack(
        [
            BSpline(phi.knots, np.eye(len(phi.coefficients))[k], degree)(u)
            for k in range(len(phi.coefficients))
        ],
        1,
    )
    gram, right = basis.T @ basis / len(u), basis.T @ phi(u) / len(u)
    solved = minimize(
        lambda c: 0.5 * c @ gram @ c - right @ c,
        np.zeros(len(gram)),
        jac=lambda c: gram @ c - right,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda c: constraint @ c, "jac": lambda c: constraint},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return np.asarray(basis @ solved.x)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("shape", ["increasing", "decreasing", "convex", "concave"])
def test_a_projection_is_the_nearest_one(degree: int, shape: str) -> None:
    model, x = additive(degree, "silu"), rows(300)
    x[:20] = x[:1]  # rows that repeat
    layer = model.layers[0]
    knots = layer.edge(0, 0).knots
    greville = np.stack([knots[1:-1][k : k + degree] for k in range(len(knots) - degree - 1)])
    slopes = np.diff(np.eye(len(greville)), axis=0) / np.diff(greville.mean(1))[:, None]
    sign = 1.0 if shape in ("increasing", "convex") else -1.0
    bend = shape in ("convex", "concave")
    expected = fit_by_slsqp(
        layer, x[:, 0].numpy(), sign * (np.diff(slopes, axis=0) if bend else slopes)
    )
    edit = kanlens.edit(model, x)
    editor = edit.edge(0, 0, 0)
    (editor.convex if bend else editor.monotone)(shape)
    phi, own = editor.function, model.layers[0].edge(0, 0)
    u = x[:, 0].numpy()
    ours, theirs = (np.square(part - own(u)).mean() for part in (phi(u), expected))
    assert ours <= theirs * (1 + 1e-6) + 1e-9
    assert abs(phi(u) - expected).max() < 2e-4
    assert phi(u).mean() == pytest.approx(own(u).mean(), abs=1e-6)
    grid = np.linspace(-3, 3, 2001) if not bend else np.linspace(-1, 1, 801)
    order = 2 if bend else 1
    assert (sign * np.diff(phi(grid), order)).min() > -1e-12


def test_isotonic_regression_is_the_case_of_rows_at_the_knots() -> None:
    from sklearn.isotonic import IsotonicRegression

    model = additive(1)
    cuts = model.layers[0].edge(0, 0).breakpoints
    counts = np.arange(1, len(cuts) + 1)
    u = np.repeat(cuts, counts)
    x = torch.from_numpy(np.column_stack([u, u]))
    before = model.layers[0].edge(0, 0)(cuts)
    expected = IsotonicRegression().fit(cuts, before, counts).predict(cuts)
    phi = kanlens.edit(model, x).edge(0, 0, 0).monotone("increasing").function
    assert abs(phi(cuts) - expected).max() < 1e-7


@pytest.mark.slow  # takes a while
def test_a_certificate_proves_what_monotone_has_done() -> None:
    for degree in (1, 3):
        model, x = additive(degree, "silu"), rows()
        box = [[-1.0, 1.0]] * 2
        before = kanlens.certify(model, box, progress=False).to_frame()
        edit = kanlens.edit(model, x)
        edit.term("x1").monotone("increasing")
        after = kanlens.certify(edit.model, box, progress=False).to_frame()
        verdicts = [one.set_index("feature").loc["x1", "verdict"] for one in (before, after)]
        assert "increasing" in verdicts[1] and verdicts[0] != verdicts[1]


def test_a_monotone_edge_stays_to_the_byte() -> None:
    model, x = additive(3), rows()
    edit = kanlens.edit(model, x)
    edit.edge(0, 0, 0).monotone("increasing")
    state = contents(edit.model)[0]
    edit.edge(0, 0, 0).monotone("increasing").monotone("auto")
    assert contents(edit.model)[0] == state and edit.history[-1].largest == 0.0


def test_smoothing_ends_in_a_straight_line() -> None:
    model, x = additive(3, "silu"), rows()
    edge = kanlens.edit(model, x).edge(0, 0, 0).smooth(1e9)
    u = x[:, 0].numpy()
    own = model.layers[0].edge(0, 0)(u)
    line = np.polyval(np.polyfit(u, own, 1), u)
    assert abs(edge.function(u) - line).max() < 1e-6


# --- functions, limits and supports -------------------------------------------------------------


def test_points_and_limits_are_met_by_polylines() -> None:
    model, x = additive(1, "silu"), rows()
    edit = kanlens.edit(model, x)
    points = [(-0.77, 1.0), (0.1, -2.0), (0.63, 0.5)]
    others = model.layers[0].edge(0, 1)
    edge = edit.edge(0, "y", "x1").set(points)
    at = np.linspace(-1, 1, 301)
    assert abs(edge.function(at) - np.interp(at, *zip(*points, strict=True))).max() < 1e-12
    assert edit.history[-1].error < 1e-12
    edge.clamp(-1.25, 0.75)
    clipped = np.clip(np.interp(at, *zip(*points, strict=True)), -1.25, 0.75)
    assert abs(edge.function(at) - clipped).max() < 1e-12
    edge.flatten(-0.5, 0.5)
    flat = np.clip(np.interp(at.clip(-0.5, 0.5), *zip(*points, strict=True)), -1.25, 0.75)
    assert abs(edge.function(at) - flat).max() < 1e-12
    assert edge.function(np.array([-9.0, 9.0])).tolist() == pytest.approx([flat[0], flat[-1]])
    assert abs(edit.model.layers[0].edge(0, 1)(at) - others(at)).max() < 1e-12


@pytest.mark.parametrize("degree", [1, 3])
def test_a_function_is_met_within_its_tolerance(degree: int) -> None:
    edit = kanlens.edit(additive(degree), rows())
    edge = edit.edge(0, 0, 0).set(lambda v: np.sin(9 * v), tolerance=1e-3)
    at = np.linspace(-1, 1, 999)
    assert abs(edge.function(at) - np.sin(9 * at)).max() <= max(edit.history[-1].error, 1e-4) * 1.5
    assert edit.history[-1].error < 4e-3
    assert edge.clamp(high=0.5).function.bounds()[1] <= 0.5
    edge.flatten(-0.5, 0.25)
    assert np.ptp(edge.function(np.array([0.25, 0.6, 1.0, 5.0]))) < 1e-12
    assert np.ptp(edge.function(np.array([-7.0, -0.8, -0.5]))) < 1e-12


def test_units_of_edges_are_those_of_the_data() -> None:
    model, x = additive(1), rows()
    model.input_shift[:], model.input_scale[:] = torch.tensor([10.0, 0.0]), 20.0
    model.output_scale[:], model.output_shift[:] = 3.0, 7.0
    edit = kanlens.edit(model, x * 20)
    edit.edge(0, 0, 0).set([(-10, 2.0), (30, 8.0)], tolerance=1e-12)
    edit.edge(0, 0, 1).zero()
    x = torch.tensor([[-10.0, 5.0], [10.0, 5.0], [30.0, 5.0]], dtype=torch.float64)
    level = 7 + 3 * model.layers[0].bias.item()
    at = pytest.approx([level + 2, level + 5, level + 8], abs=1e-9)
    assert edit.model(x)[:, 0].tolist() == at
    edit.edge(0, 0, 0).clamp(high=6.0)
    at = pytest.approx([level + 2, level + 5, level + 6], abs=1e-9)
    assert edit.model(x)[:, 0].tolist() == at


def test_a_function_of_the_catalog_takes_the_place_of_an_edge() -> None:
    model, x = additive(3), rows()
    edit = kanlens.edit(model, x)
    edge = edit.edge(0, 0, 0).set(lambda v: 0.3 + 2 * np.sin(2 * v + 0.5), tolerance=1e-5)
    edge.symbolic("sin")
    assert edge.function.single is not None
    u = x[:, 0].numpy()
    assert abs(edge.function(u) - (0.3 + 2 * np.sin(2 * u + 0.5))).max() < 1e-3
    edge.scale(-2.0)
    assert abs(edge.function(u) + 2 * (0.3 + 2 * np.sin(2 * u + 0.5))).max() < 1e-3
    assert edge.monotone("decreasing").function.single is None
    with pytest.raises(MethodError, match=r"^edit.symbolic: expected an edge that 'log' fits, got"):
        edit.edge(0, 0, 1).zero().symbolic("log")


# --- terms --------------------------------------------------------------------------------------


def test_terms_keep_their_mean_and_edges_do_not() -> None:
    model, x = additive(3, "silu"), rows()
    mean = model(x).mean().item()
    edit = kanlens.edit(model, x)
    edit.term("x1").scale(3.0).set(np.exp).zero()
    edit.term("x2").flatten(outside_support=False)
    assert edit.model(x).mean().item() == pytest.approx(mean, abs=1e-12)
    assert edit.model(x).std().item() < 1e-12
    raw = kanlens.edit(model, x)
    raw.edge(0, 0, 0).scale(3.0)
    own = model.layers[0].edge(0, 0)(x[:, 0].numpy()).mean()
    assert raw.model(x).mean().item() == pytest.approx(mean + 2 * own, abs=1e-12)


def test_terms_of_a_small_network() -> None:
    model, x = product().requires_grad_(False), rows(columns=3)
    edit = kanlens.edit(model, x)
    x1, first = x[:, 0].numpy(), model.layers[0]
    curve = edit.term("x1")
    assert abs(curve.function(x1) - 1.5 * first.edge(0, 0)(x1)).max() < 1e-12
    before = edit.model(x)[:, 0]
    edit.term("x2", "x1").scale(2.0)
    sums = first(x)
    expected = -0.5 * sums[:, 1] * sums[:, 2]
    moved = edit.model(x)[:, 0] - before
    assert float((moved - (expected - expected.mean())).abs().max()) < 1e-12
    edit.term("x1", "x2").zero()
    assert edit.model.edges_alive == model.edges_alive - 1
    for names in (("x1", "x3"), ("x2",), (), ("x1", "x2", "x3")):
        with pytest.raises(MethodError, match=r"Name an edge: edit\.edge\(layer, out, in_\)\.$"):
            edit.term(*names)
    with pytest.raises(MethodError, match="a single curve, got 'x1 \\* x2'"):
        kanlens.edit(model, x).term("x1", "x2").monotone()


def test_deep_networks_have_no_terms() -> None:
    with pytest.raises(MethodError, match=r"^edit\.term: .* Name an edge: edit\.edge\(layer, out,"):
        kanlens.edit(made([3, 4, 1])).term("x1")
    edit = kanlens.edit(network("classes"))
    with pytest.raises(InvalidValueError, match=r"target to be one of the 3 outputs"):
        edit.term("x1")
    edit.term("x1", target="y2").scale(2.0)
    assert edit.history[0].line.startswith("x1: scale(2), moved by ")


def test_columns_of_categories_are_one_term() -> None:
    frame = pd.DataFrame({"town": ["a", "b", "c", "b"] * 30, "age": np.linspace(0, 1, 120)})
    frame["y"] = (frame["town"] == "b") + frame["age"]
    table = kanlens.read_table(frame, target="y")
    model = kanlens.KAN([len(table.schema.features), 1], generator=seeded()).double()
    kanlens.fit(model, table, steps=3, progress=False, generator=seeded())
    edit = kanlens.edit(model, frame)
    with pytest.raises(MethodError, match="a single curve, got 'town'"):
        edit.term("town").monotone()
    edit.term("town").scale(0.0)
    assert edit.history[0].edges == len(table.schema.features) - 1
    diff = edit.diff(frame, frame["y"], by="town")
    assert diff.features == ("town", "age") and list(diff.moved["feature"]) == ["town"]
    assert list(diff.groups["group"]) == ["a", "b", "c"] and diff.groups["rows"].sum() == 120
    assert diff.losses["R2_after"] < diff.losses["R2_before"]
    edit.remove("town")
    assert not edit.model.layers[0].mask[:, :-1].any()
    with pytest.raises(MethodError, match="Name a column that is not removed"):
        edit.remove("town")
    with pytest.raises(
        InvalidValueError, match=r"a column of the model, got 'twon'\. Did you mean"
    ):
        edit.remove("twon")


# --- refits -------------------------------------------------------------------------------------


def test_a_refit_is_the_least_squares_fit_with_edges_held() -> None:
    model, x = additive(1, columns=3), rows(400, 3)
    y = x[:, 0].sin() + x[:, 1] ** 2 + 0.1 * draw(400, seed=2)
    edit = kanlens.edit(model, x)
    edit.term("x2").monotone("increasing")
    held = edit.edge(0, 0, 1).function
    edit.remove("x3").refit(x, y)
    assert abs(edit.edge(0, 0, 1).function(x[:, 1].numpy()) - held(x[:, 1].numpy())).max() == 0
    layer = model.layers[0]
    basis = layer.basis(x)[:, 0].double()
    design = torch.cat([basis, torch.ones(400, 1)], 1).numpy()
    rest = y.numpy() - held(x[:, 1].numpy())
    learned = np.arange(400) % 5 != 4
    best = design @ np.linalg.lstsq(design[learned], rest[learned], rcond=None)[0]
    ours = edit.model(x)[:, 0].detach().numpy() - held(x[:, 1].numpy())
    assert abs(ours - best).max() < 1e-6
    diff = edit.diff(x, y)
    assert diff.losses["loss_after"] < diff.losses["loss_before"]
    assert abs(diff.values.sum(1) - (diff.after - diff.before)).max() < 1e-12


@pytest.mark.parametrize("name", ["classes", "deep", "functions"])
def test_refits_lower_the_loss(name: str) -> None:
    model, x = network(name).requires_grad_(False), draw(80, 3, seed=4)
    model.record = None
    if name == "classes":
        from kanlens.data._schema import class_schema

        schema = class_schema("kind", ["a", "b", "c"], logits=3)
        import dataclasses

        model.schema = dataclasses.replace(schema, features=model.schema.features)
        y: Any = torch.randint(3, (80,), generator=seeded())
    else:
        y = draw(80, len(model.output_names), seed=6)
    edit = kanlens.edit(model, x)
    state, functions = contents(edit.model), model.layers[-1].functions
    edit.refit(x, y, keep=["x1"] if name == "classes" else ())
    losses = edit.diff(x, y).losses
    assert losses["loss_after"] < losses["loss_before"] or name == "functions"
    assert edit.model.layers[-1].functions == functions
    if name == "classes":
        edges = [kan.layers[0].edge(1, 0) for kan in (model, edit.model)]
        assert np.array_equal(edges[0](x[:, 0].numpy()), edges[1](x[:, 0].numpy()))
    if edit.history:
        edit.undo()
    assert contents(edit.model) == state


def test_a_factor_next_to_a_constant_of_zero_is_not_refitted() -> None:
    model, x = product().requires_grad_(False), rows(300, 3)
    edit = kanlens.edit(model, x).remove("x2")
    edit.model.layers[0].bias[2] = 1e-17
    edit.refit(x, draw(300, seed=7), keep=())
    assert float(edit.model.layers[0].bias.abs().max()) < 100


# --- files, results, errors ---------------------------------------------------------------------


def test_the_file_keeps_the_history(tmp_path) -> None:
    edit = kanlens.edit(additive(), rows())
    edit.edge(0, 0, 0).monotone().scale(0.5)
    edit.remove("x2")
    kanlens.save(edit.model, tmp_path / "edited.safetensors")
    model = kanlens.load(tmp_path / "edited.safetensors")
    assert model.edits == edit.model.edits and len(model.edits) == 3
    assert KANConfig.from_json(model.config.to_json()) == model.config
    again = kanlens.edit(model)
    again.edge(0, 0, 0).zero()
    assert [step.action for step in again.history] == ["zero()"]
    assert len(again.undo().model.edits) == 3
    with pytest.raises(MethodError, match="expected an edit to undo, got none"):
        again.undo()
    kanlens.fit(model, (rows(40), rows(40)[:, :1]), steps=1, progress=False, generator=seeded())
    assert model.edits == ()


def test_edits_leave_the_model_and_failed_ones_the_copy() -> None:
    model, x = additive(3, "silu"), rows()
    before = contents(model)
    edit = kanlens.edit(model, x)
    for words, call in {
        "a finite number from the function for each x": lambda: edit.edge(0, 0, 0).set(np.log),
        "a function, or at least two points": lambda: edit.edge(0, 0, 0).set(
            [(1, 2, 3), (4, 5, 6)]
        ),
        "two points \\(x, y\\) of different x": lambda: edit.edge(0, 0, 0).set([(1, 2), (1, 3)]),
        "low, high or both, with low < high": lambda: edit.edge(0, 0, 0).clamp(),
        "low below high on the grid": lambda: edit.edge(0, 0, 0).flatten(0.5, 0.4),
        "strength to be a positive number": lambda: edit.edge(0, 0, 0).smooth(-1),
        "direction to be one of": lambda: edit.edge(0, 0, 0).monotone("up"),
        "a finite factor": lambda: edit.edge(0, 0, 0).scale(math.nan),
        "out from 0 to 0 or a name": lambda: edit.edge(0, 1, 0),
        "layer from 0 to 0": lambda: edit.edge(1, 0, 0),
    }.items():
        with np.errstate(all="ignore"), pytest.raises(InvalidValueError, match=words):
            call()
        assert contents(edit.model) == before and not edit.history
    edit.edge(0, 0, 0).monotone()
    assert contents(model) == before
    blank = x.clone()
    blank[3, 0] = math.nan
    with pytest.raises(DataError, match="finite numbers, got nan at row 3"):
        kanlens.edit(model, blank)
    with pytest.raises(DataError, match="finite numbers, got nan at row 3"):
        edit.diff(blank)
    with pytest.raises(ShapeError, match="by of 200 rows, got 2"):
        edit.diff(x, by=[1, 2])
    with pytest.raises(InvalidValueError, match="by as a column of x, got 'age'"):
        edit.diff(x, by="age")


def test_without_rows_the_model_has_what_it_needs() -> None:
    model = additive(3, "silu")
    edge = kanlens.edit(model).edge(0, 0, 0).monotone("increasing")
    assert (np.diff(edge.function(np.linspace(-1, 1, 100))) >= 0).all()
    single = copy.deepcopy(model).float()
    edit = kanlens.edit(single, rows().float())
    edit.edge(0, 0, 0).monotone("increasing")
    assert edit.model.dtype == torch.float32
    assert (np.diff(edit.edge(0, 0, 0).function(np.linspace(-1, 1, 100))) >= -1e-7).all()


def test_results_are_tables_and_text() -> None:
    x = rows()
    edit = kanlens.edit(additive(), x)
    edit.edge(0, 0, 0).monotone()
    diff = edit.diff(x, x[:, :1], by=x[:, 1])
    assert "1 edits; x1 -> y: monotone('auto'), moved by" in repr(edit)
    assert repr(diff).startswith("EditDiff: ") and " rows moved, by " in repr(diff)
    assert list(edit.to_frame()["action"]) == ["monotone('auto')"]
    assert diff.to_frame() is diff.rows and '"groups"' in diff.to_json()
    assert diff.groups["rows"].tolist() == [50] * 4
    assert kanlens.edit(additive(), x).diff(x).moved.empty


def test_projections_do_not_depend_on_the_order_of_rows() -> None:
    layer, u = additive(3, "silu").layers[0], rows()[:, 0].numpy()
    fits = [EdgeProjection(layer, 0, part, layer.edge(0, 0)) for part in (u, u[::-1])]
    first, second = (fit.shaped("increasing") for fit in fits)
    assert abs(first - second).max() < 1e-9
