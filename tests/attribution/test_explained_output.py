"""Which output a result is about when several could be and nobody names one."""

import dataclasses

import pytest
import torch

from kanlens.attribution import attribute, compare
from kanlens.attribution._problem import explained_output
from kanlens.errors import InvalidValueError
from kanlens.reporting import report


@pytest.fixture
def classifier(network):
    """A model of three classes, and rows of which most are predicted to be the last."""
    model = network([3, 2, 3]).requires_grad_(False)
    labels = ("a", "b", "c")
    model.schema = dataclasses.replace(model.schema, task="classification", class_labels=labels)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    model.output_scale.div_(model(x).std(0))
    model.output_shift.sub_(model(x).mean(0) - torch.tensor([0.0, 0.0, 0.4]))
    counts = model(x).argmax(1).bincount(minlength=3).tolist()
    assert counts[2] > max(counts[:2]) > 0
    return model, x


@pytest.mark.usefixtures("undrawn")
def test_of_several_classes_the_one_predicted_for_most_rows(classifier, tmp_path):
    model, x = classifier
    options = {"methods": ["secant"], "progress": False}
    said = {
        attribute(model, x, background=x).target,
        attribute(model, x, method="weight_l1").target,
        compare(model, x, background=x, methods=["secant"], metrics=[]).target,
        report(model, x, tmp_path / "r.html", **options).content["meta"]["target"],
    }
    assert said == {"y3"}
    expected = attribute(model, x, background=x, target="y3").values
    torch.testing.assert_close(attribute(model, x, background=x).values, expected)


def test_of_one_row_it_is_the_predicted_class(classifier):
    model, x = classifier
    found = [attribute(model, row[None], background=x, method="secant").target for row in x[:12]]
    expected = [model.output_names[place] for place in model(x[:12]).argmax(1).tolist()]
    assert found == expected
    assert len(set(found)) > 1


def test_of_equal_counts_the_first_class_is_taken(classifier):
    model, x = classifier
    predicted = model(x).argmax(1)
    pair = x[[int((predicted == place).nonzero()[0]) for place in (2, 0)]]
    assert explained_output(model, None, pair, call="attribute") == 0


def test_a_class_without_edges_is_the_reference_of_the_others(classifier):
    """Attributions of another class are those of its log-odds against the reference."""
    model, x = classifier
    assert model.reference_class is None and model.output_unit(0) == "log-odds"
    model.layers[-1].mask[2] = 0
    model.output_shift[2] += 1.0 - model(x)[0, 2]
    assert (model(x).argmax(1) == 2).sum() > 20  # for most rows
    assert model.reference_class == 2
    result = attribute(model, x, background=x)
    assert result.target != "y3"
    assert result.unit == "log-odds against class c"
    chances = model(x).softmax(1)
    odds = (chances[:, model.output_names.index(result.target)] / chances[:, 2]).log()
    torch.testing.assert_close(result.values.sum(1), odds - odds.mean())
    model.layers[-1].mask[1] = 0
    assert model.reference_class is None  # two are constant
    model.layers[-1].mask[1] = 1
    model.schema = dataclasses.replace(model.schema, task="regression", class_labels=())
    assert model.reference_class is None


@pytest.mark.parametrize("call", ["attribute", "compare", "report"])
def test_of_several_numbers_one_must_be_named(network, tmp_path, call):
    model, x = network([3, 2, 2]), torch.rand(5, 3, dtype=torch.float64)
    calls = {
        "attribute": lambda: attribute(model, x, background=x),
        "compare": lambda: compare(model, x, background=x),
        "report": lambda: report(model, x, tmp_path / "r.html"),
    }
    with pytest.raises(InvalidValueError, match=r"one of the 2 outputs \('y1', 'y2'\), got None"):
        calls[call]()
