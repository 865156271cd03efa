"""Everything that takes a network, on networks that multiply, against slow and obvious versions.

The tables of the package are enumerated: a method, metric, penalty, public function or picture
that is added later is run here too, or refused by `test_nothing_is_left_out` until it is.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import json
import pickle
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.testing import assert_close

import kanlens
from kanlens.attribution import METHODS
from kanlens.attribution.metrics import METRICS
from kanlens.errors import MethodError
from kanlens.model._network import KAN, describe
from kanlens.model._nodes import Nodes, others
from kanlens.pruning._prune import SCORES
from kanlens.sparsity import PENALTIES
from kanlens.symbolic._composition import compose, evaluator, feature_symbols
from kanlens.training import sparsity_path
from tests.attribution import test_attribution_contract as attribution
from tests.made import draw, levels, made

NETWORKS: dict[str, tuple[list[Any], bool]] = {  # widths, and whether nodes have scales
    "hidden": ([3, (1, [2, 3]), 2], False),
    "outputs": ([3, 2, (1, [3])], True),
    "both": ([3, (0, [3, 2]), (1, 1)], True),
    "one layer": ([3, (1, [2, 3])], False),
}


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest) -> KAN:
    widths, scaled_nodes = NETWORKS[request.param]
    return made(widths, scaled_nodes=scaled_nodes)


def on(*names: str) -> pytest.MarkDecorator:
    """Run a check on some of the networks: what asks for the same code elsewhere has the others."""
    return pytest.mark.parametrize("model", names, indirect=True)


@pytest.fixture(params=NETWORKS)
def formula(request: pytest.FixtureRequest) -> KAN:
    """The same networks with elementary functions on all edges."""
    widths, scaled_nodes = NETWORKS[request.param]
    return made(widths, scaled_nodes=scaled_nodes, functions=True)


# all of them with splines, and functions where products are of inner sums and of outputs
EITHER = [*((name, "splines") for name in NETWORKS), ("both", "functions")]


@pytest.fixture(params=EITHER)
def either(request: pytest.FixtureRequest) -> KAN:
    name, kind = request.param
    widths, scaled_nodes = NETWORKS[name]
    return made(widths, scaled_nodes=scaled_nodes, functions=kind == "functions")


X, ROWS = draw(3, 3), draw(2, 3, seed=2)
MANY = draw(60, 3, seed=3)


def output(model: KAN, x: Tensor) -> Tensor:
    """The output, one edge function after the other."""
    return levels(model, x)[2]


# --- attributions -------------------------------------------------------------------------------

FITTING = [name for name in METHODS if name != "additive"]  # that one knows sums only
LOCAL = [name for name in FITTING if METHODS[name].scope == "local"]


def test_what_knows_sums_only_refuses_products(model: KAN) -> None:
    with pytest.raises(MethodError, match="a sum of functions of single features"):
        kanlens.attribute(model, X, method="additive", background=ROWS, target=1)


def test_the_network_is_the_loop(either: KAN) -> None:
    assert_close(either(MANY).detach(), output(either, MANY), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@on("both")
@pytest.mark.parametrize("name", FITTING)
def test_method_leaves_everything_and_repeats(name: str, model: KAN) -> None:
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    values = attribution.check_shape(name, model, X, ROWS)
    model.load_state_dict(plain)  # as it was before it was in float32
    attribution.check_repeats(name, model, X, ROWS, values)
    attribution.check_output_alone(name, model, X, ROWS, values)
    attribution.check_leaves_alone(name, model, X, ROWS)


@on("both")
@pytest.mark.parametrize("name", [name for name in FITTING if name.startswith("captum_")])
@pytest.mark.slow  # many cases
def test_method_with_hooks_undoes_everything_after_an_error(
    name: str, model: KAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribution.check_leaves_alone_after_error(name, model, draw(12, 3), ROWS, monkeypatch)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *((name, "both") for name in FITTING),
        *((name, "one layer") for name in FITTING if METHODS[name].of_nodes),
    ],
    indirect=["model"],
)
def test_method_gives_a_dead_feature_nothing(name: str, model: KAN) -> None:
    attribution.check_dummy(name, model, X, ROWS)


def in_turn(names: Iterable[str]) -> list[tuple[str, tuple[str, str]]]:
    """Pair methods with networks: ours with all, and each of captum's with the next two."""
    count = len(EITHER)
    return [
        (name, EITHER[place % count])
        for index, name in enumerate(names)
        for place in (range(index, index + 2) if name.startswith("captum_") else range(count))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "either"),
    in_turn(name for name in LOCAL if METHODS[name].complete and not METHODS[name].exact),
    indirect=["either"],
)
def test_complete_method_is_complete(name: str, either: KAN) -> None:
    attribution.check_complete(name, either, X, ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "either"),
    in_turn(name for name in FITTING if METHODS[name].exact),
    indirect=["either"],
)
def test_exact_method_is_its_definition(name: str, either: KAN) -> None:
    attribution.check_exact(name, either, X, ROWS)
    if METHODS[name].complete:
        attribution.check_complete(name, either, X, ROWS)


@pytest.mark.slow
@on("both")
@pytest.mark.parametrize("name", [name for name in LOCAL if name != "captum_kernel_shap"])
def test_a_row_of_a_batch_is_the_row_alone(name: str, model: KAN) -> None:
    attribution.check_rows_apart(name, model, X[:2], ROWS)


def test_captums_table_is_as_it_was_afterwards(model: KAN) -> None:
    from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR

    before = dict(SUPPORTED_NON_LINEAR)
    found = kanlens.attribute(model, X, method="captum_deep_lift", background=ROWS, target=1)
    assert before == SUPPORTED_NON_LINEAR
    ours = kanlens.attribute(model, X, method="secant", background=ROWS, target=1)
    assert_close(found.values, ours.values, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("widths", "scaled_nodes"), NETWORKS.values(), ids=NETWORKS)
def test_every_metric_is_a_number(widths: list[Any], scaled_nodes: bool) -> None:
    """Those that need no exact values are not given any."""
    model = made(widths, scaled_nodes=scaled_nodes)
    for exact in (False, True):
        metrics = [name for name, metric in METRICS.items() if metric.needs_exact == exact]
        methods = ["secant", "shapley"]
        frame = kanlens.compare(
            model, X, background=ROWS, target=1, methods=methods, metrics=metrics
        ).frame[:-1]  # the last is random
        assert len(frame) == 2
        assert np.isfinite(frame[metrics].to_numpy(dtype=float)).all()
        for gap in {"max_gap", "relative_gap"} & set(metrics):
            assert (frame[gap] < 1e-12).all()


@pytest.mark.slow
@on("both")
def test_compare_runs_every_method(model: KAN) -> None:
    generator = torch.Generator().manual_seed(0)
    found = kanlens.compare(
        model,
        X,
        background=ROWS,
        target=1,
        methods="all",
        metrics=["relative_gap"],
        generator=generator,
    )
    of_features = [name for name in LOCAL if not METHODS[name].of_nodes]
    assert sorted(found.attributions) == sorted([*of_features, "random"])
    assert list(found.skipped) == ["additive"]


# --- teeth: wrong rules are noticed -------------------------------------------------------------

HIDDEN = made(NETWORKS["hidden"][0])


def gradient_of_ours(ours: Tensor, theirs: Tensor) -> Tensor:
    return others(ours) + 0 * theirs


def even_shares(ours: Tensor, theirs: Tensor) -> Tensor:
    """Complete, but every factor gets the same part of the change: not Shapley's."""
    step = ours - theirs
    return (ours.prod(-1, keepdim=True) - theirs.prod(-1, keepdim=True)) / (step * step.shape[-1])


@pytest.mark.parametrize("name", ["secant", "captum_deep_lift"])
def test_teeth_a_gradient_is_no_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanlens.model._nodes.split", gradient_of_ours)
    with pytest.raises(AssertionError, match="completeness gap"):
        attribution.check_complete(name, HIDDEN, X, ROWS)
    with pytest.raises(AssertionError):
        attribution.check_exact(name, HIDDEN, X, ROWS)


@pytest.mark.parametrize("name", ["secant", "captum_deep_lift"])
def test_teeth_even_shares_are_complete_but_not_exact(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kanlens.model._nodes.split", even_shares)
    attribution.check_complete(name, made([3, (1, [3])]), X, ROWS)
    with pytest.raises(AssertionError):
        attribution.check_exact(name, made([3, (1, [3])]), X, ROWS)


def test_teeth_a_missing_rule_of_captum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kanlens.attribution.captum_methods._adapter.share_products",
        lambda module, inputs, outputs, grad_input, grad_output, eps=0.0: grad_input,
    )
    with pytest.raises(AssertionError, match="completeness gap"):
        attribution.check_complete("captum_deep_lift", HIDDEN, X, ROWS)


def test_teeth_another_product_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanlens.model._nodes.multiply", lambda factors: factors.sum(-1))
    with pytest.raises(AssertionError):
        test_the_network_is_the_loop(HIDDEN)
    with pytest.raises(AssertionError):
        check_trace(HIDDEN, Path())


# --- public functions ---------------------------------------------------------------------------


def check_trace(model: KAN, _: Path) -> None:
    record = kanlens.trace(model, MANY)
    inputs, sums, y = levels(model, MANY)
    assert_close(list(record.inputs), inputs, rtol=1e-12, atol=1e-12)
    assert_close(list(record.pre_activations), sums, rtol=1e-12, atol=1e-12)
    assert_close(record.output, y, rtol=1e-12, atol=1e-12)
    assert len(record.to_frame()) == sum(model.widths[:-1])
    assert_close(record.edge_values(0).sum(2) + model.layers[0].bias.detach(), sums[0])


def check_files(model: KAN, folder: Path) -> None:
    path = kanlens.save(model, folder / "model.safetensors")
    again = kanlens.load(path)
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301
    clones = [again, copy.deepcopy(model), copy.copy(model), pickled]
    for clone in clones:
        assert clone.config == model.config
        assert clone.shape == model.shape
        assert torch.equal(clone(MANY), model(MANY))
        assert set(clone.state_dict()) == set(model.state_dict())
    assert kanlens.save(again, folder / "again.safetensors").read_bytes() == path.read_bytes()
    assert KAN(list(model.shape)).widths == model.widths


def check_prune(model: KAN, _: Path) -> None:
    same = kanlens.prune(model, MANY, budget=0, progress=False)
    assert torch.equal(same.model(MANY), model(MANY))
    plain = remembering(model)
    for score in SCORES:
        for options in ({"threshold": 0.4}, {"budget": 0.2}):
            result = kanlens.prune(model, MANY, score=score, progress=False, **options)
            small = result.model
            columns = [model.feature_names.index(name) for name in small.feature_names]
            assert_close(
                output(small, MANY[:, columns]),
                removed(plain, result.removed),
                rtol=1e-9,
                atol=1e-9,
            )
            assert result.edges_after < result.edges_before


def check_predict(model: KAN, _: Path) -> None:
    frame = kanlens.predict(model, MANY)
    assert_close(torch.tensor(frame.to_numpy()), output(remembering(model), MANY))


def check_calibrate(model: KAN, _: Path) -> None:
    targets = output(remembering(model), MANY) + torch.arange(1.0, 61.0)[:, None]
    changed = kanlens.calibrate(copy.deepcopy(model), (MANY, targets))
    frame = kanlens.predict(changed, MANY, interval=0.5).to_numpy().reshape(60, -1, 3)
    widths = torch.from_numpy(frame[..., 2] - frame[..., 0])
    assert_close(widths, torch.full_like(widths, 31.0), rtol=1e-6, atol=1e-6)


def check_edge_scores(model: KAN, _: Path) -> None:
    frame = kanlens.edge_scores(model, MANY)
    assert len(frame) == model.edges_alive
    plain = remembering(model)
    whole = output(plain, MANY)
    for row in frame.to_dict("records"):
        record = {key: row[key] for key in ("layer", "out", "in")}
        change = (removed(plain, [record]) - whole).square().mean(0)
        assert_close(
            row["damage"],
            float((change / whole.var(0, correction=0)).mean()),
            rtol=1e-9,
            atol=1e-12,
        )
        assert row["name"] == model.edge_name(row["layer"], row["out"], row["in"])


def remembering(model: KAN) -> KAN:
    """A copy whose edge functions are asked once: a removal changes masks and biases alone."""
    plain = copy.deepcopy(model)

    def asked_once(edge: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        known: dict[bytes, np.ndarray] = {}

        def values(x: np.ndarray) -> np.ndarray:
            if x.tobytes() not in known:
                known[x.tobytes()] = edge(x)
            return known[x.tobytes()]

        return values

    for layer in plain.layers:
        of_layer = layer.edge
        layer.edge = functools.cache(lambda out, in_, ask=of_layer: asked_once(ask(out, in_)))
    return plain


def removed(model: KAN, records: Any) -> Tensor:
    """The output after edges were replaced by their means, one after the other."""
    work = copy.deepcopy(model)
    for record in records:
        layer, out, in_ = work.layers[record["layer"]], record["out"], record["in"]
        inputs, _, _ = levels(work, MANY)
        values = layer.edge(out, in_)(inputs[record["layer"]][:, in_].numpy())
        with torch.no_grad():
            layer.bias[out] += float(values.mean())
            layer.mask[out, in_] = 0
    return output(work, MANY)


def check_symbolize(model: KAN, _: Path) -> None:
    values = evaluator(compose(model), feature_symbols(model))(MANY.numpy())
    expected = output(model, MANY)
    size = float(expected.abs().max())
    assert_close(torch.from_numpy(values), expected, rtol=0, atol=1e-11 * size)
    few = ["x", "x^2", "sin", "tanh", "exp"]  # others are no other way
    result = kanlens.symbolize(model, MANY, functions=few, refine=False, snap=False)
    assert result.receipt.undefined_rows == 0
    predicted = torch.as_tensor(result.predict(MANY.numpy())).reshape(expected.shape)
    assert_close(predicted, output(result.model, MANY), rtol=0, atol=1e-9 * size)


def check_suggest(model: KAN, _: Path) -> None:
    table = kanlens.suggest(model, MANY, functions=["x", "sin"])
    best = table[table["rank"] == 1]
    assert len(best) == sum(
        layer.functions[out][in_] == "spline"
        for layer in model.layers
        for out, in_ in layer.mask.nonzero().tolist()
    )


def check_fit(model: KAN, _: Path) -> None:
    y = output(model, MANY).roll(1, 0)
    for penalty in [None, *PENALTIES]:
        work = copy.deepcopy(model)
        options: dict[str, Any] = {"steps": 1, "validation": 0.0, "progress": False}
        if penalty is not None:
            options |= {"penalty": penalty, "strength": 1e-4}
        if penalty == "curvature" and any(getattr(layer, "series", ()) for layer in model.layers):
            with pytest.raises(MethodError, match=r"^curvature: expected a layer of splines, got"):
                kanlens.fit(work, (MANY, y), **options)
            continue
        result = kanlens.fit(work, (MANY, y), **options)
        assert result.history[-1]["loss"] <= result.history[0]["loss"] * 1.5
        assert_close(work(MANY).detach(), output(work, MANY), rtol=1e-10, atol=1e-10)
        assert all(layer.statistics is not None for layer in work.layers)


def check_sparsity_path(model: KAN, _: Path) -> None:
    data = MANY, output(model, MANY)
    options: dict[str, Any] = {"strengths": [0.0, 10.0], "steps": 1, "validation": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "kanlens.training._training_loop.POLISH", 4
        )  # of fifty proximal steps at the end
        path = sparsity_path(model, data, threshold=0.0, progress=False, **options)
    for step in path.steps:
        assert step.model.shape == model.shape
        assert_close(step.model(MANY).detach(), output(step.model, MANY), rtol=1e-9, atol=1e-9)


def check_attribute(model: KAN, _: Path) -> None:
    for name in FITTING:
        options = attribution.FEW.get(name, {})
        generator = torch.Generator().manual_seed(0)
        found = kanlens.attribute(
            model, X, method=name, background=ROWS, target=1, generator=generator, **options
        )
        assert bool(torch.isfinite(found.values).all())


def check_compare(model: KAN, _: Path) -> None:
    methods = ["shapley", "secant"]
    table = kanlens.compare(model, X, background=ROWS, target=1, methods=methods).frame
    assert table["max_gap"][:-1].max() < 1e-10  # the last is random


def check_importance(model: KAN, _: Path) -> None:
    table = kanlens.importance(model, X, background=ROWS)
    assert table["output"].nunique() == model.widths[-1]
    for target, part in table.groupby("output"):
        found = kanlens.attribute(model, X, background=ROWS, target=target).values.abs().mean(0)
        sizes = part.set_index("feature").loc[list(model.feature_names), "importance"]
        assert_close(torch.tensor(sizes.to_numpy()), found)


def check_export(model: KAN, folder: Path) -> None:
    written = kanlens.export(model, folder / "model.py")
    found = runpy.run_path(str(written.path))["predict"](MANY.numpy())
    assert_close(torch.as_tensor(found), output(model, MANY), rtol=1e-9, atol=1e-9)


def check_to_splines(model: KAN, _: Path) -> None:
    found = kanlens.to_splines(model, MANY, tolerance=1e-2, spline_order=5)
    before = output(model, MANY)
    gap = (output(found.model, MANY) - before).abs() / (before.amax(0) - before.amin(0))
    assert float(gap.max()) == pytest.approx(found.error, abs=1e-9)
    assert found.error <= 1e-2


def check_certify(model: KAN, _: Path) -> None:
    domain = torch.stack([MANY.amin(0), MANY.amax(0)], 1)
    proven = kanlens.certify(model, domain, max_boxes=8, progress=False)
    values = output(model, MANY).detach()
    for index, one in enumerate(proven.outputs):
        assert one.range.low <= float(values[:, index].min())
        assert float(values[:, index].max()) <= one.range.high
        free = MANY.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(model(free)[:, index].sum(), free)
        for feature, column in zip(one.features, slopes.mT, strict=True):
            assert feature.slope.low <= float(column.min())
            assert float(column.max()) <= feature.slope.high


BLANK = b'<svg width="100pt" height="80pt"></svg>'


def check_report(model: KAN, folder: Path) -> None:
    page, twin = folder / "report.html", folder / "report.json"
    counts = [arity for nodes in model.nodes for arity in nodes.grouping.arities]
    with pytest.MonkeyPatch.context() as patch:  # pictures are rendered by `test_picture`
        patch.setattr("kanlens.plotting._style._rendered", lambda *_: BLANK)
        options = {"methods": ["shapley", "secant"], "max_features": 1}
        kanlens.report(model, MANY, page, target=1, **options)
    content = json.loads(twin.read_text())
    assert [one["factors"] for one in content["model"]["products"]] == counts
    names = {edge["destination"] for edge in content["edges"]}
    if counts:
        first = content["model"]["products"][0]["name"]
        assert {f"{first}.1", f"{first}.2"} <= names
        assert first not in names
        word = "node multiplies" if len(counts) == 1 else "nodes multiply"
        assert f"{word}: {first} (" in page.read_text()
    assert len(content["edges"]) == model.edges_alive


def check_edit(model: KAN, _: Path) -> None:
    edit = kanlens.edit(model, MANY)
    edit.edge(0, 0, 0).monotone()
    edit.remove("x2" if "x2" in model.feature_names else model.feature_names[1])
    change = output(edit.model, MANY) - output(model, MANY)
    size = float(output(model, MANY).abs().max())
    assert_close(torch.as_tensor(edit.diff(MANY).values.sum(1)), change, rtol=0, atol=1e-12 * size)


FUNCTIONS: dict[str, Callable[[KAN, Path], None]] = {
    "attribute": check_attribute,
    "calibrate": check_calibrate,
    "certify": check_certify,
    "compare": check_compare,
    "edit": check_edit,
    "edge_scores": check_edge_scores,
    "export": check_export,
    "fit": check_fit,
    "importance": check_importance,
    "load": check_files,
    "predict": check_predict,
    "prune": check_prune,
    "report": check_report,
    "save": check_files,
    "sparsity_path": check_sparsity_path,
    "suggest": check_suggest,
    "symbolize": check_symbolize,
    "to_splines": check_to_splines,
    "trace": check_trace,
}
NO_NETWORK = {
    "fit_default",
    "frontier",
    "imitate",  # asks any model for its outputs alone
    "import_model",
    "list_kans",
    "read_table",
    "register_function",
    "scan_table",
    "discover",
}  # functions that are given none


def slowly(names: Any) -> list[Any]:
    """Mark what takes seconds: a report draws a dozen pictures, a formula is refitted often."""
    return [pytest.param(n, marks=marks(n)) for n in sorted(names)]


def marks(name: str) -> Any:
    return pytest.mark.slow if name in ("report", "symbolize") else ()


FEW = {  # networks for what takes longest and calls what is tried on all of them by itself
    "attribute": ("outputs",),  # the checks of single methods have the others
    "certify": ("hidden", "outputs"),
    "compare": ("both", "one layer"),
    "fit": ("both", "one layer"),
    "prune": ("hidden",),  # functions have the other
    "report": ("both",),
    "sparsity_path": ("hidden", "outputs"),
    "symbolize": ("outputs",),
}


def places(*names: str) -> list[Any]:
    """Pair functions with the networks that they are tried on."""
    return [
        pytest.param(name, where, marks=marks(name))
        for name in sorted(names)
        for where in FEW.get(name, NETWORKS)
    ]


@pytest.mark.slow  # every public function once
@pytest.mark.parametrize(
    ("name", "model"),
    places(*FUNCTIONS.keys() - {"load"}),
    indirect=["model"],  # `save` loads
)
def test_public_function(name: str, model: KAN, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    FUNCTIONS[name](model, tmp_path)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "formula"),
    [pytest.param(name, "both") for name in ("symbolize", "suggest", "prune", "trace", "save")],
    indirect=["formula"],
)
def test_public_function_on_functions(name: str, formula: KAN, tmp_path: Path) -> None:
    FUNCTIONS[name](formula, tmp_path)


def test_grids_move_and_grow(model: KAN) -> None:
    inside = 0.5 * MANY
    model.update_grid(inside)
    record = kanlens.trace(model, inside)
    assert record.outside[0].max() == 0
    before = model(inside).detach()
    model.refine(9)
    assert_close(model(inside).detach(), before, rtol=1e-10, atol=1e-10)
    assert_close(before, output(model, inside), rtol=1e-9, atol=1e-9)


def test_description(model: KAN) -> None:
    facts = describe(model)
    assert facts["widths"] == list(model.widths)
    assert facts["products"] == sum(len(nodes.grouping.arities) for nodes in model.nodes)
    assert KAN(ast.literal_eval(facts["shape"])).config.nodes == plain_nodes(model)


def plain_nodes(model: KAN) -> tuple[Any, ...]:
    """The configuration of the nodes, their scales left out."""
    return tuple(dataclasses.replace(one, scaled=False) for one in model.config.nodes)


# --- pictures -----------------------------------------------------------------------------------


def draw_network(model: KAN, ax: Any) -> None:
    kanlens.plot.network(model, ax=ax, hidden_names=True)
    shown = {item.get_label() for item in ax.collections}
    for index, nodes in enumerate(model.nodes):
        assert (f"_products {index}" in shown) == bool(nodes.grouping.arities)


def draw_terms(model: KAN, ax: Any) -> None:
    if len(model.layers) > 1:
        with pytest.raises(MethodError, match="frontier"):
            kanlens.plot.terms(model, X, target=1, ax=ax)
        return
    kanlens.plot.terms(model, X, target=1, ax=ax)
    assert ax.figure.axes


def draw_edge(model: KAN, ax: Any) -> None:
    last = model.layers[0].out_features - 1
    kanlens.plot.edge(model, 0, model.subnode_name(0, last), "x2", ax=ax)
    assert model.subnode_name(0, last) in ax.get_ylabel()
    y = output(model, MANY) + draw(*output(model, MANY).shape, seed=4)
    kanlens.plot.edge(model, 0, last, "x2", data=MANY, y=y, band=True, ax=ax)


def draw_edges(model: KAN, ax: Any) -> None:
    for index, layer in enumerate(model.layers):
        panels = ax.inset_axes((0, index, 1, 1))
        kanlens.plot.edges(model, index, top=4, ax=panels)
        assert len(panels.child_axes) == min(4, int((layer.mask != 0).sum()))


def draw_attribution(model: KAN, ax: Any) -> None:
    found = kanlens.attribute(model, X, method="secant", background=ROWS, target=1)
    kanlens.plot.attribution(found, ax=ax)


def draw_effect(model: KAN, ax: Any) -> None:
    kanlens.plot.effect(model, "x2", MANY, target=1, ax=ax)
    (curve,) = (one for one in ax.lines if one.get_label() == "_curve")
    points, drawn = curve.get_data()
    rows = MANY.repeat(len(points), 1, 1)
    rows[:, :, 1] = torch.as_tensor(points)[:, None]
    mean = output(model, rows.flatten(0, 1))[:, 1].reshape(len(points), -1).mean(1).numpy()
    assert np.ptp(drawn - mean) <= 1e-12 * np.abs(mean).max()


PICTURES: dict[str, Callable[[KAN, Any], None]] = {
    "attribution": draw_attribution,
    "edge": draw_edge,
    "edges": draw_edges,
    "effect": draw_effect,
    "network": draw_network,
    "terms": draw_terms,
}
OF_RESULTS = {
    *("certificate", "comparison", "edits", "formula", "frontier", "history", "path", "predicted"),
    *("pruning", "save", "to_svg"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model"),
    [*((name, "both") for name in sorted(PICTURES)), ("terms", "one layer")],
    indirect=["model"],
)
def test_picture(name: str, model: KAN) -> None:
    figure = Figure(figsize=(4, 4))
    PICTURES[name](model, figure.subplots())
    assert kanlens.plot.to_svg(figure).startswith("<svg")


# --- nothing is left out ------------------------------------------------------------------------


def takes_a_network(function: Any) -> bool:
    names = list(inspect.signature(function).parameters)
    return bool({"model", "source"} & set(names))


def missing(functions: dict[str, Any], known: set[str]) -> list[str]:
    return sorted(name for name in functions if name not in known)


def test_nothing_is_left_out() -> None:
    functions = {
        name: getattr(kanlens, name)
        for name in kanlens.__all__
        if inspect.isfunction(getattr(kanlens, name))
    }
    assert missing(functions, FUNCTIONS.keys() | NO_NETWORK) == []
    pictures = {name: getattr(kanlens.plot, name) for name in kanlens.plot.__all__}
    assert missing(pictures, PICTURES.keys() | OF_RESULTS) == []
    assert not [name for name in OF_RESULTS if takes_a_network(pictures[name])]


def test_teeth_a_new_function_is_noticed() -> None:
    assert missing({"mend": lambda model: model}, FUNCTIONS.keys() | NO_NETWORK) == ["mend"]
    assert takes_a_network(lambda model, x: x)
    assert not takes_a_network(lambda result: result)


# --- training -----------------------------------------------------------------------------------


@pytest.mark.slow  # trains to the end, and reads a formula
def test_a_product_is_learned_and_read() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 4 - 2
    y = x[:, 0] * x[:, 1]
    model = KAN([2, (0, 1), 1], generator=generator).double()
    result = kanlens.fit(model, (x, y), steps=50, generator=generator, progress=False)
    assert result.metric > 0.9999
    found = kanlens.symbolize(model, x, y)
    assert str(found.sympy()) == "x1*x2"


def test_nodes_with_a_scale_train_too() -> None:
    model = made([3, (1, [2, 3]), 1], scaled_nodes=True)
    assert isinstance(model.nodes[0], Nodes)
    model(MANY).sum().backward()
    for layer in model.layers:
        assert bool((layer.base_weight.grad != 0).any())
