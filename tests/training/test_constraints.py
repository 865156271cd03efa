"""Shapes of curves as inequalities, and the nearest fit that keeps them."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import isotonic_regression, minimize

import kanlens
from kanlens.cli import _options
from kanlens.errors import DTypeError, InvalidValueError, KanlensWarning
from kanlens.training._constraints import (
    SHAPES,
    inequalities,
    nearest_feasible,
    proven_shapes,
    shaped,
)
from kanlens.training._curve_design import ColumnCurves, CurveDesign, make_curve
from kanlens.training._small_network import SmallNetwork

pytestmark = pytest.mark.usefixtures("few_folds")

KNOTS = np.array([0.0, 0.5, 0.7, 2.0, 2.1, 5.0])
CURVES = {
    "increasing": np.sqrt,
    "decreasing": lambda x: -(x**3),
    "convex": lambda x: (x - 1) ** 2,
    "concave": np.log1p,
    "positive": lambda x: 1 - np.cos(2 * x),
    "negative": lambda x: -np.abs(np.sin(x)),
    "periodic": lambda x: np.sin(2 * np.pi * x / 2.5) + np.sin(2 * np.pi * x / 5),
}
HOLDS = {  # by curve
    "increasing": {"increasing", "concave", "positive"},
    "decreasing": {"decreasing", "concave", "negative"},
    "convex": {"convex"},
    "concave": {"concave", "increasing", "positive"},
    "positive": {"positive"},
    "negative": {"negative"},
    "periodic": {"periodic"},
}


def test_the_command_has_an_option_for_each_shape():
    assert tuple(SHAPES) == _options.SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_inequalities_hold_for_a_curve_of_the_shape_alone(shape):
    for other, curve in CURVES.items():
        holds = (inequalities(KNOTS, shape) @ curve(KNOTS) >= -1e-12).all()
        assert holds == (shape in HOLDS[other])
    both = inequalities(KNOTS, f"increasing {shape}")
    assert len(both) == len(inequalities(KNOTS, shape)) + len(KNOTS) - 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_point_is_that_of_a_general_solver(shape, seed):
    draw = np.random.default_rng(seed)
    factor, point = draw.normal(size=(6, 6)), draw.normal(size=6)
    gram, cone = factor @ factor.T + 0.1 * np.eye(6), inequalities(KNOTS, shape)
    found = nearest_feasible(point, np.linalg.cholesky(np.linalg.inv(gram)), cone)
    assert (cone @ found).min() > -1e-9

    def distance(values):
        return (values - point) @ gram @ (values - point)

    rows = {"type": "ineq", "fun": lambda values: cone @ values}
    best = minimize(distance, np.zeros(6), constraints=rows, method="SLSQP", tol=1e-14)
    assert distance(found) <= best.fun * (1 + 1e-6)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_on_weighted_heights_it_is_isotonic_regression():
    draw = np.random.default_rng(0)
    knots, heights, weights = np.arange(60.0), draw.normal(size=60), draw.uniform(0.1, 3, 60)
    cone = inequalities(knots, "increasing")
    found = nearest_feasible(heights, np.diag(weights**-0.5), cone)
    expected = isotonic_regression(heights, weights=weights).x
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert nearest_feasible(expected, np.eye(60), cone) is expected


@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_is_removed_exactly(shape):
    draw = np.random.default_rng(1)
    heights = CURVES[shape](KNOTS)
    fuzzy = heights + 1e-13 * draw.normal(size=6)
    clean = shaped(KNOTS, fuzzy, shape)
    np.testing.assert_allclose(clean, heights, atol=1e-11)
    slack = inequalities(KNOTS, shape) @ clean
    assert slack.min() >= (-1e-14 if shape in ("convex", "concave") else 0.0)


def rows(count=300, seed=0):
    """Rows with a column that raises y, one that bends it, two in a product, and a category."""
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(draw.uniform(0, 1, (count, 4)), columns=list("abcd"))
    frame["kind"] = draw.choice(["u", "v", "w"], count)
    noise = 0.3 * draw.normal(size=count)
    frame["y"] = np.sqrt(frame["a"]) - frame["b"] ** 2 + 3 * frame["c"] * frame["d"] + noise
    return frame


def train(frame, constraints, **how):
    table = kanlens.read_table(frame, target="y")
    generator = torch.Generator().manual_seed(0)
    how |= {"progress": False, "generator": generator, "constraints": constraints}
    return kanlens.fit_default(table, **how).model


def heights(model, column, out=0):
    """Return breakpoints and heights of the edge of a column."""
    edge = model.layers[0].edge(out, model.feature_names.index(column))
    return edge.breakpoints, edge.coefficients


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("how", [{}, {"hidden": ()}])
def test_curves_have_their_shapes_where_noise_and_data_say_otherwise(how):
    shapes = {"a": "increasing", "b": "increasing", "c": "concave", "d": "convex"}
    model = train(rows(), shapes, **how)
    for column in "ab":
        assert (np.diff(heights(model, column)[1]) >= 0).all()
    for column, sign in (("c", -1), ("d", 1)):
        knots, own = heights(model, column)
        bends = np.diff(np.diff(own) / np.diff(knots))
        assert (sign * bends >= -1e-9 * np.ptp(own)).all()
    assert np.ptp(heights(model, "a")[1]) > 0.3
    assert np.ptp(heights(model, "b")[1]) < 1e-6  # it falls in the data
    assert model.constraints == shapes


@pytest.mark.slow  # trains networks
def test_a_network_with_a_product_keeps_a_shape_that_is_certified_and_attacked(tmp_path):
    shapes = {"a": "increasing", "b": "decreasing"}
    model = train(rows(200), shapes, max_edges="few")
    assert any(nodes.grouping.arities for nodes in model.nodes)  # of c and d
    model = kanlens.load(kanlens.save(model, tmp_path / "m.safetensors"))
    assert model.constraints == shapes
    box = {feature.name: (0.0, 1.0) for feature in model.schema.features}
    verdicts = kanlens.certify(model, box, max_boxes=10).to_frame().set_index("feature")["verdict"]
    assert verdicts["a"] == "increasing"
    assert verdicts["b"] == "decreasing"
    certificate = kanlens.certify(model, box, max_boxes=1, time_limit=1e-3)
    assert certificate.constraints == shapes
    assert str(certificate).startswith("Everywhere: increasing in a, decreasing in b, as trained")
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(20000, model.widths[0], generator=draw, dtype=torch.float64) * 4 - 1.5
    for place, sign in ((0, 1), (1, -1)):
        moved = x.clone()
        moved[:, place] += torch.rand(20000, generator=draw, dtype=torch.float64)
        assert (sign * (model(moved) - model(x)) >= -1e-12).all()


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_classes_have_shapes(classes):
    frame = rows(60)
    frame["y"] = pd.qcut(frame["y"], classes, labels=list("lmh"[:classes])).astype(str)
    model = train(frame, {"b": "increasing", "d": "increasing"}, hidden=())  # y falls in b
    for out, column in itertools.product(range(len(model.output_names)), "bd"):
        assert (np.diff(heights(model, column, out)[1]) >= 0).all()


def test_the_fit_is_the_best_of_the_shape():
    """For its variances, no other curve of the shape has a higher density."""
    frame = rows(80)[["b", "y"]].assign(c=0.0)
    table = kanlens.read_table(frame, target="y")
    x = table.x.double().numpy()
    column = ColumnCurves(0, CurveDesign([make_curve(0, x[:, 0], 0, 1)], x), "increasing")
    network = SmallNetwork([column], table.y[:, 0].numpy(), np.ones(80), fine=True)
    assert (np.diff(column.design.heights(network.coefficients)[0]) >= -1e-9).all()

    def density(coefficients):
        errors = table.y[:, 0].numpy() - column.design.values(coefficients)
        errors -= errors.mean()
        own = np.maximum(network.variances, 1e-7)[network.owners]
        return -(errors**2).sum() / network.noise - (coefficients**2 / own).sum()

    best, draw = density(network.coefficients), np.random.default_rng(0)
    for _ in range(200):
        other = network.coefficients + draw.normal(size=len(network.coefficients)) * 1e-2
        cone = inequalities(column.design.curves[0].breakpoints, "increasing")
        other = nearest_feasible(other, np.eye(len(other)), cone @ column.design.modes[0])
        assert density(other) <= best + 1e-6


def pairs(model, column, seed=1, count=20000):
    """Return outputs at rows, at rows with a column raised, halfway, and at 0, some far away."""
    draw = np.random.default_rng(seed)
    place, far = model.feature_names.index(column), 10.0 ** draw.uniform(-3, 3, count)
    rows = np.tile(draw.normal(0, 2, (count, model.widths[0])), (4, 1, 1))
    low, high = np.sort(draw.normal(size=(2, count)) * far, axis=0)
    rows[..., place] = low, high, (low + high) / 2, 0 * low
    with torch.no_grad():
        return model(torch.from_numpy(rows)).numpy()


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("how", [{"hidden": ()}, {"max_edges": "few"}])
def test_all_shapes_are_proven_and_hold_far_beyond_the_data(how):
    frame = rows(150).assign(a=lambda f: 8 * f["a"] - 4, b=lambda f: f["b"] - 0.4)
    frame.loc[0, "d"] = 60.0
    shapes = {"a": "increasing convex", "b": "positive", "c": "periodic", "d": "concave"}
    model = train(frame, shapes, **how)
    assert proven_shapes(model) == shapes
    low, high, middle, _ = pairs(model, "a")
    assert (high >= low - 1e-9).all() and ((low + high) / 2 >= middle - 1e-9 * abs(high)).all()
    low, high, _, zero = pairs(model, "b")
    assert (np.minimum(low, high) >= zero - 1e-12).all()
    low, high, middle, _ = pairs(model, "d")
    assert ((low + high) / 2 <= middle + 1e-9 * (abs(low) + abs(high))).all()
    ends = torch.zeros(2, model.widths[0], dtype=torch.float64)
    ends[0, 2], ends[1, 2] = -1e9, 1e9
    assert np.ptp(model(ends).detach().numpy()) < 1e-12
    for shape in shapes:  # what does not hold is not proven
        other = kanlens.edit(model, frame.drop(columns="y")).edge(0, 0, shape)
        spoiled = other.set([(-4.0, 0.0), (-1.0, 2.0), (0.3, -1.0), (0.9, 3.0)])._edit.model
        assert shape not in proven_shapes(spoiled)


def test_a_shape_that_the_range_does_not_hold_is_trained_with_a_warning():
    frame = rows(100)
    table = kanlens.read_table(frame, target="y")
    build = lambda hidden, size: kanlens.KAN(  # noqa: E731
        [table.x.shape[1], *hidden, 1], grid_size=size, extrapolation="linear"
    ).double()
    with pytest.warns(KanlensWarning, match="to be positive, got no proof for 'a'"):
        train(frame, {"a": "positive"}, hidden=(), build=build)


@pytest.mark.slow  # trains networks
def test_every_path_of_a_deep_network_is_monotone_after_training():
    table = kanlens.read_table(rows(300), target="y")
    names, generator = table.schema.feature_names, torch.Generator().manual_seed(0)
    model = kanlens.KAN([len(names), 3, 2, 1], generator=generator).double()
    shapes, options = {"a": "increasing", "c": "decreasing"}, {"optimizer": "adam", "steps": 20}
    result = kanlens.fit(model, table, constraints=shapes, progress=False, **options)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert proven_shapes(model) == model.constraints == shapes
    low, high, _, _ = pairs(model, "a")
    assert (high >= low - 1e-12).all() and np.ptp(high - low) > 0.01
    low, high, _, _ = pairs(model, "c")
    assert (high <= low + 1e-12).all()
    with torch.no_grad():
        model.layers[1].spline_weight[0, 0] *= -1  # a path that falls
    assert proven_shapes(model) == {}


@pytest.mark.slow  # trains networks
def test_training_by_gradients_keeps_no_shape():
    model = train(rows(100), {"a": "increasing"}, hidden=())
    kanlens.fit(model, kanlens.read_table(rows(100), target="y"), steps=1, progress=False)
    assert model.constraints == {}


@pytest.mark.parametrize(
    ("constraints", "how", "message"),
    [
        ({"a": "upward"}, {}, "constraints to be one of"),
        ({"e": "increasing"}, {}, "constraints to be one of"),
        ({"kind": "increasing"}, {}, "which has categories"),
        (["a"], {}, "constraints as a mapping"),
        ({"a": None}, {}, "the shapes of 'a' as text, got None.*or leave the column out"),
        ({"a": "increasing decreasing"}, {}, "make a curve constant, got 'increasing decreasing'"),
        ({"a": "negative positive"}, {}, "make a curve constant"),
        ({"a": "convex periodic"}, {}, "make a curve constant"),
        ({"a": "increasing"}, {"hidden": (5,)}, "without a hidden layer"),
        ({"a": "increasing"}, {"interactions": [("a", "b")]}, "of columns without constraints"),
    ],
)
def test_what_cannot_be_kept_is_refused(constraints, how, message):
    with pytest.raises((InvalidValueError, DTypeError), match=message):
        train(rows(60), constraints, **how)


@pytest.mark.parametrize(
    ("widths", "shape"), [([7, 2, 1], "convex"), ([7, (2, 1), 1], "increasing")]
)
def test_what_no_rule_keeps_in_a_deep_network_is_refused(widths, shape):
    table = kanlens.read_table(rows(60), target="y")
    how = {"optimizer": "adam", "progress": False, "constraints": {"a": shape}}
    with pytest.raises(InvalidValueError, match="Train by fit_default"):
        kanlens.fit(kanlens.KAN(widths), table, **how)
    with pytest.raises(
        InvalidValueError, match="a first-order optimizer for constraints, got 'lbfgs'"
    ):
        kanlens.fit(kanlens.KAN(widths), table, **how | {"optimizer": "lbfgs"})
