from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from kanlens import KAN
from kanlens.errors import DTypeError, InvalidValueError
from kanlens.plotting import frontier, to_svg
from kanlens.plotting._frontier import headline, standard_errors
from kanlens.training import Frontier, FrontierStep
from tests.plotting.conftest import labelled, texts

HOSTILE = r"$\frac{x}{$ <b>&\n% " + "name " * 20


def front(scores, *, metric="R2", variance=2.0, added=(), edges=None):
    """Return a frontier of scores, whose losses are in other units than variances."""
    words = [*added, *["a * b"] * len(scores)]
    steps = tuple(
        FrontierStep(
            edges=3 + 4 * place if edges is None else edges[place],
            score=score,
            loss=variance * (1 - score),
            standard_error=0.02,
            added=words[place],
        )
        for place, score in enumerate(scores)
    )
    rows = torch.linspace(0.9, 1.1, 50, dtype=torch.float64)
    losses = torch.stack([rows * step.loss for step in steps])
    facts = {"rows": 50, "folds": 5, "seconds": 1.0, "interrupted": False}
    return Frontier(steps=steps, metric_name=metric, _growth=None, _losses=losses, **facts)


@pytest.mark.slow  # draws pictures
def test_scores_have_errors_and_the_simplest_is_marked(ax):
    result = front([0.5, 0.8, 0.9, 0.85], added=["curves alone"])
    assert frontier(result, ax=ax) is ax
    (bars,) = ax.containers
    np.testing.assert_allclose(bars.lines[0].get_xydata()[:, 1], [0.5, 0.8, 0.9, 0.85])
    lengths = [np.diff(path[:, 1])[0] for path in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(lengths, 2 * 0.02 / 2.0)  # in variances of the target
    simplest = labelled(ax, "_simplest")
    assert (simplest.get_xdata()[0], simplest.get_ydata()[0]) == (11, 0.9)
    assert ax.get_title(loc="left") == "11 edges explain 0.90 of the variance"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("edges", "R2 on held-out rows")
    assert "curves alone" in texts(ax)


def test_the_error_of_an_accuracy_is_binomial(ax):
    result = front([0.8, 0.9], metric="accuracy")
    np.testing.assert_allclose(standard_errors(result.record()), np.sqrt([0.16 / 50, 0.09 / 50]))
    frontier(result, ax=ax)
    assert ax.get_title(loc="left") == "7 edges classify 0.90 of the rows correctly"


@pytest.mark.parametrize(
    ("score", "title"),
    [(-0.3, ""), (0.005, ""), (0.9996, "1 edge explains 0.9996 of the variance")],
)
def test_the_title_says_no_more_than_the_data(ax, score, title):
    frontier(front([score], edges=[1]), ax=ax)
    assert ax.get_title(loc="left") == title


def test_references_are_named_lines(ax):
    names = {"default network, 432 edges": 0.93, "boosting": 0.92}
    frontier(front([0.5, 0.8]), references=names, ax=ax)
    lines = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert sorted(line.get_ydata()[0] for line in lines) == [0.92, 0.93]
    assert set(names) <= set(texts(ax))
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert places["default network, 432 edges"] > places["boosting"]
    assert ax.get_ylim()[1] > 0.93


def test_texts_do_not_overlap(ax):
    scores = 1 - 0.5 / np.arange(1, 15)
    result = front(scores.tolist(), edges=[*range(8, 22)], added=["curves alone", "link"])
    frontier(result, ax=ax)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert 2 < len(boxes) < 15
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


@pytest.mark.slow  # takes a while
def test_names_are_written_as_they_are(ax):
    frontier(front([0.5, 0.8], added=[HOSTILE]), references={HOSTILE: 0.7}, ax=ax)
    assert not re.search("[\0-\x08]", to_svg(ax))
    assert to_svg(ax).count("frac") == 2


def test_other_results_and_references_are_refused():
    with pytest.raises(DTypeError, match="a Frontier, or a network that grew, got list"):
        frontier([])
    for value in (float("nan"), "0.9", None):
        with pytest.raises(InvalidValueError, match=r"finite scores, got .* for 'boosting'"):
            frontier(front([0.5]), references={"boosting": value})


def test_references_of_a_result_are_drawn_and_named_in_the_title(ax):
    lines = {"the default network of 432 edges": 0.93, "EBM": 0.9}
    result = dataclasses.replace(front([0.5, 0.8, 0.9]), references=lines)
    frontier(result, ax=ax)
    title = "11 edges explain 0.90 of the 0.93 that the default network of 432 edges does"
    assert ax.get_title(loc="left") == title
    assert set(lines) <= set(texts(ax))
    assert headline(dataclasses.replace(result, references={"EBM": 0.9012}).record()) == (
        "11 edges explain 0.900 of the 0.901 that EBM does"
    )
    assert headline(dataclasses.replace(result, references={"EBM": 0.85}).record()) == (
        "11 edges explain 0.90 of the variance; EBM 0.85"
    )
    classes = front([0.8, 0.9], metric="accuracy")
    assert headline(dataclasses.replace(classes, references={"EBM": 0.95}).record()) == (
        "7 edges classify 0.90 of the rows correctly; EBM 0.95"
    )


def test_a_network_that_grew_has_its_scores(ax):
    model = KAN([2, 1])
    model.growth = front([0.5, 0.8]).record()
    frontier(model, references={}, ax=ax)
    assert ax.get_title(loc="left") == "7 edges explain 0.80 of the variance"
    with pytest.raises(DTypeError, match="a network that grew, got KAN"):
        frontier(KAN([2, 1]))
