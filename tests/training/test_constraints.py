"""Shapes of curves as inequalities, and the nearest fit that keeps them."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import isotonic_regression, minimize

import kanlens
from kanlens.cli import _options
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.training._constraints import SHAPES, inequalities, nearest_feasible, shaped
from kanlens.training._curve_design import ColumnCurves, CurveDesign, make_curve
from kanlens.training._small_network import SmallNetwork

KNOTS = np.array([0.0, 0.5, 0.7, 2.0, 2.1, 5.0])
CURVES = {
    "increasing": np.sqrt,
    "decreasing": lambda x: -(x**3),
    "convex": lambda x: (x - 1) ** 2,
    "concave": np.log1p,
}


def test_the_command_has_an_option_for_each_shape():
    assert tuple(SHAPES) == _options.SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_inequalities_hold_for_a_curve_of_the_shape_alone(shape):
    for other, curve in CURVES.items():
        holds = (inequalities(KNOTS, shape) @ curve(KNOTS) >= -1e-12).all()
        pairs = {("increasing", "concave"), ("concave", "increasing"), ("decreasing", "concave")}
        assert holds == (shape == other or (other, shape) in pairs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_point_is_that_of_a_general_solver(shape, seed):
    draw = np.random.default_rng(seed)
    factor, point = draw.normal(size=(6, 6)), draw.normal(size=6)
    gram, cone = factor @ factor.T + 0.1 * np.eye(6), inequalities(KNOTS, shape)
    found = nearest_feasible(point, np.linalg.inv(gram), cone)
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
    found = nearest_feasible(heights, np.diag(1 / weights), cone)
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
    order, sign = SHAPES[shape]
    if order == 1:
        assert (sign * np.diff(clean) >= 0).all()


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
    model = train(rows(300), shapes, max_edges="few")
    assert any(nodes.grouping.arities for nodes in model.nodes)  # of c and d
    model = kanlens.load(kanlens.save(model, tmp_path / "m.safetensors"))
    assert model.constraints == shapes
    box = {feature.name: (0.0, 1.0) for feature in model.schema.features}
    verdicts = kanlens.certify(model, box, max_boxes=10).to_frame().set_index("feature")["verdict"]
    assert verdicts["a"] == "increasing"
    assert verdicts["b"] == "decreasing"
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(20000, model.widths[0], generator=draw, dtype=torch.float64) * 4 - 1.5
    for place, sign in ((0, 1), (1, -1)):
        moved = x.clone()
        moved[:, place] += torch.rand(20000, generator=draw, dtype=torch.float64)
        assert (sign * (model(moved) - model(x)) >= -1e-12).all()


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_classes_have_shapes(classes):
    frame = rows(200)
    frame["y"] = pd.qcut(frame["y"], classes, labels=list("lmh"[:classes])).astype(str)
    model = train(frame, {"d": "increasing"}, hidden=())
    for out in range(len(model.output_names)):
        assert (np.diff(heights(model, "d", out)[1]) >= 0).all()


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
        ({"a": "increasing"}, {"hidden": (5,)}, "without a hidden layer"),
    ],
)
def test_what_cannot_be_kept_is_refused(constraints, how, message):
    with pytest.raises((InvalidValueError, DTypeError), match=message):
        train(rows(60), constraints, **how)
