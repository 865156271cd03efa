"""What `fit` takes as data: tables, pairs, labels, names, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens._model_inputs import needed_widths, prepare_data, prepare_target
from kanlens.data._table_reader import read_table
from kanlens.errors import DataError, InvalidValueError, ShapeError
from kanlens.training._training_loop import settle_scaling

TEXTS = np.array(["low", "high"] * 6)


def model(widths, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return kanlens.KAN(widths, generator=generator, **options).double()


def rows(n=12, width=1):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, width, dtype=torch.float64, generator=generator)


def quick(net, data, **options):
    generator = torch.Generator().manual_seed(2)
    return kanlens.fit(net, data, steps=1, progress=False, generator=generator, **options)


@pytest.mark.parametrize(
    ("labels", "y"),
    [
        (("high", "low"), TEXTS),
        (("high", "low"), TEXTS.tolist()),
        (("high", "low"), pd.Series(TEXTS, dtype="string")),
        (("high", "low"), pd.Series(TEXTS, dtype="category")),
        (("high", "low"), pd.DataFrame({"y": TEXTS})),
        (("False", "True"), torch.tensor(TEXTS == "low")),
        (("False", "True"), pd.Series(TEXTS == "low", dtype="boolean")),
        (("False", "True"), [bool(text == "low") for text in TEXTS]),
    ],
)
def test_text_and_truth_values_make_a_classification(labels, y):
    net = model([1, 1])
    result = quick(net, (rows(), y))
    assert net.task == "classification"
    assert net.class_labels == labels
    assert result.metric_name == "accuracy"


CODES = np.arange(12) % 3


@pytest.mark.parametrize(
    ("first", "y"),
    [
        (0, torch.tensor(CODES)),
        (0, CODES.astype(np.uint8)),
        (5, pd.Series(CODES + 5)),
        (5, (CODES + 5).tolist()),
        (5, (CODES + 5).astype(str)),
    ],
)
def test_whole_numbers_are_classes_of_a_model_with_several_outputs(first, y):
    net = model([1, 3])
    quick(net, (rows(), y))
    assert net.class_labels == tuple(str(first + i) for i in range(3))


def test_codes_need_not_hold_every_class():
    net = model([1, 3])
    quick(net, (rows(), np.arange(12) % 2))
    assert net.class_labels == ("0", "1", "2")


@pytest.mark.parametrize(
    "y",
    [
        np.arange(12),
        pd.Series(np.linspace(0, 1, 12), dtype="Float64"),
        np.linspace(0, 1, 12).astype(object),
        np.linspace(0, 1, 12).astype(str),
        np.array([0.5, 1.5] * 6, dtype=object),
        pd.Series(np.linspace(0, 1, 12)),
        torch.linspace(0, 1, 12, requires_grad=True),
    ],
)
def test_numbers_stay_numbers_however_they_are_stored(y):
    net = model([1, 1])
    quick(net, (rows(), y))
    assert net.task == "regression"


def test_a_refit_keeps_the_classes_it_knows():
    net = model([1, 3])
    labels = np.array(["a", "b", "c"] * 4)
    quick(net, (rows(), labels))
    kept = labels != "b"
    quick(net, (rows()[kept], labels[kept]))
    assert net.class_labels == ("a", "b", "c")
    few = read_table(pd.DataFrame({"x1": rows()[kept, 0], "y": labels[kept]}), target="y")
    _, codes = prepare_data(net, few)
    assert codes.tolist() == [0, 2] * 4


def test_a_refit_refuses_other_classes():
    net = model([1, 1])
    quick(net, (rows(), TEXTS))
    table = read_table(pd.DataFrame({"x1": rows()[:, 0], "y": ["low", "top"] * 6}), target="y")
    text = (
        "fit: expected the model's classes 'high', 'low', got 'top'. "
        "Correct the target, or build another model."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        quick(net, table)
    numbers = read_table(pd.DataFrame({"x1": rows()[:, 0], "y": rows()[:, 0]}), target="y")
    with pytest.raises(DataError, match=re.escape(text.replace("'top'", "numbers"))):
        quick(net, numbers)


def test_labels_that_are_numbers_are_read_as_labels_and_as_codes():
    net = model([1, 3])
    labels = np.arange(12) % 3 + 1
    quick(net, (rows(), labels))
    codes = torch.arange(12) % 3
    assert prepare_target(net, labels, 12, call="prune").tolist() == codes.tolist()
    assert prepare_target(net, torch.tensor(labels), 12, call="prune").tolist() == codes.tolist()
    assert prepare_target(net, codes, 12, call="prune").tolist() == codes.tolist()
    some = torch.full((12,), 1)  # a code and a label: a tensor holds codes
    assert prepare_target(net, some, 12, call="prune").tolist() == [1] * 12
    assert prepare_target(net, some.numpy(), 12, call="prune").tolist() == [0] * 12


def test_a_table_gives_names_units_and_kinds():
    frame = pd.DataFrame({"size": np.linspace(0, 1, 12), "kind": list("abc") * 4})
    frame["cost"] = np.linspace(3, 5, 12)
    table = read_table(frame, target="cost", units={"size": "mm", "cost": "EUR"})
    net = model([4, 1])
    quick(net, table)
    assert net.feature_names == ("size", "kind=a", "kind=b", "kind=c")
    assert net.schema.features[0].unit == "mm"
    assert net.schema.outputs[0].unit == "EUR"
    assert net.schema.groups == {"kind": (1, 2, 3)}


def test_a_frame_gives_names_to_a_model_without_any():
    frame = pd.DataFrame({"b": rows()[:, 0], "a": rows()[:, 0] ** 2})
    net = model([2, 1])
    quick(net, (frame, rows()))
    assert net.feature_names == ("b", "a")
    swapped = frame[["a", "b"]].assign(extra=0.0)
    assert_close(prepare_data(net, (swapped, rows()))[0], torch.tensor(frame.to_numpy()))


def test_a_table_is_read_by_the_names_of_the_model():
    frame = pd.DataFrame({"b": rows()[:, 0], "a": rows()[:, 0] ** 2, "y": rows()[:, 0]})
    net = model([1, 1], feature_names=["a"])
    x, _ = prepare_data(net, read_table(frame, target="y"))
    assert_close(x[:, 0], rows()[:, 0] ** 2)
    assert net.feature_names == ("a",)


def test_missing_names_are_refused():
    frame = pd.DataFrame({"b": rows()[:, 0], "c": rows()[:, 0], "y": rows()[:, 0]})
    net = model([2, 1], feature_names=["a", "b"])
    with pytest.raises(DataError, match="the model's features 'a', 'b', got a table without 'a'"):
        quick(net, read_table(frame, target="y"))
    with pytest.raises(DataError, match="fit: expected a column 'a', got columns 'b', 'c'"):
        quick(net, (frame[["b", "c"]], rows()))


@pytest.mark.parametrize(
    ("y", "got"),
    [
        ([0, 1, 3] * 4, "3 in row 2"),
        ([0, 0.5, 1] * 4, "0.5 in row 1"),
        ([0, np.nan, 1] * 4, "nan in row 1"),
    ],
)
def test_wrong_class_codes_are_refused(y, got):
    net = model([1, 3])
    quick(net, (rows(), np.array(["a", "b", "c"] * 4)))
    with pytest.raises(DataError, match=re.escape(f"expected class codes from 0 to 2, got {got}")):
        quick(net, (rows(), np.array(y)))
    with pytest.raises(ShapeError, match="fit: expected 12 labels, got 2"):
        quick(net, (rows(), np.array(y[:2])))


@pytest.mark.parametrize(
    ("labels", "count"), [(["yes", "no", "Yes ", "yes"], 1), (["a", "b", "c", "C"], 4)]
)
@pytest.mark.filterwarnings("error")
def test_spellings_of_a_class_are_one_output(labels, count):
    assert needed_widths((np.zeros((4, 3)), labels)) == (3, count)


def spoiled(value, row, column):
    x = rows(12, 2).clone()
    x[row, column] = value
    return x


FRAME = pd.DataFrame({name: rows()[:, 0] for name in ("b", "c", "y")})
REFUSED = [  # widths of a model, data, and what is said of them
    ([1, 1], read_table(FRAME, target="y"), ShapeError, "the model has, got 2 ('b', 'c')"),
    ([1, 1], (FRAME[["b", "c"]], rows()), ShapeError, "1 feature, as the model has, got 2 ('b'"),
    ([1, 2], (rows(), TEXTS), ShapeError, "as the model has, got 1 for the classes 'high', 'low'"),
    ([1, 2], (rows(), rows()[:, 0]), ShapeError, "fit: expected y of shape (12, 2), got (12,)"),
    ([1, 1], (rows()[:0], rows()[:0]), ShapeError, "fit: expected at least 1 row, got 0"),
    ([1, 1], FRAME, DataError, "to be a Table or a pair (x, y), got DataFrame"),
    ([1, 1], rows(), DataError, "to be a Table or a pair (x, y), got Tensor"),
    ([1, 1], (1, 2, 3), DataError, "to be a Table or a pair (x, y), got tuple"),
    ([1, 1], None, DataError, "to be a Table or a pair (x, y), got NoneType"),
    ([1, 1], read_table(FRAME[["b"]]), DataError, "fit: expected a table with a target, got none"),
    (
        [2, 1],
        (spoiled(torch.nan, 7, 1), rows()),
        DataError,
        "got nan at row 7, column 'x2' (1 such",
    ),
    ([2, 2], (rows(12, 2), spoiled(torch.inf, 3, 0)), DataError, "got inf at row 3, column 'y1'"),
    ([1, 1], (rows(), [*range(11), "none of it"]), DataError, "got 'none of it' in row 11 of colu"),
    ([1, 1], (rows(), ["a", None, "b"] * 4), DataError, "row 1"),
]


@pytest.mark.parametrize(("widths", "data", "error", "text"), REFUSED)
def test_what_cannot_be_learned_is_refused(widths, data, error, text):
    with pytest.raises(error, match=re.escape(text)):
        quick(model(widths), data)


def test_a_refused_call_changes_nothing():
    frame = pd.DataFrame({"a": [0.0, np.nan, 1.0], "y": list("uvu")})
    net = model([1, 1])
    schema, state = net.schema, {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ShapeError):
        quick(net, (frame[["a"]], frame["y"]))
    with pytest.raises(InvalidValueError):
        quick(net, (rows(2), torch.arange(2.0)), validation=0.9)
    assert net.schema == schema
    assert not net.scaled
    assert_close(dict(net.state_dict()), state, rtol=0, atol=0)


def test_the_scaling_spans_the_grid():
    net = model([2, 1], grid_range=(-2, 3))
    x = torch.tensor([[10.0, 5.0], [20.0, 5.0]], dtype=torch.float64)
    settle_scaling(net, x, torch.tensor([[1.0], [3.0]], dtype=torch.float64), None)
    assert_close(net.scale_inputs(x)[:, 0], torch.tensor([-2.0, 3.0], dtype=torch.float64))
    assert_close(net.scale_inputs(x)[:, 1], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert net.output_shift.item() == 2.0
    assert net.output_scale.item() == 1.0
    assert net.scaled


def test_scaling_that_was_declined_stays_declined():
    net = model([1, 1])
    quick(net, (10 * rows(), rows()), scale=False)
    quick(net, (10 * rows(), rows()))
    assert net.input_scale.item() == 1.0
    assert net.input_shift.item() == 0.0
