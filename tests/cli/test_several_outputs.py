"""Commands about one output agree with the functions, and with each other, when none is named."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import kanlens
from kanlens.cli import main


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Return a folder with a classifier of three classes and a model of two numbers."""
    folder = tmp_path_factory.mktemp("outputs")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (90, 2)), columns=["a", "b"])
    frame["kind"] = np.select([frame["a"] < -0.6, frame["b"] < -0.4], ["low", "mid"], "top")
    frame["u"], frame["v"] = frame["a"] ** 2, frame["b"]
    frame.to_csv(folder / "data.csv", index=False)
    for target, drop in (("kind", "u,v"), ("u,v", "kind")):
        words = ["train", f"{folder}/data.csv", "--target", target, "--drop", drop]
        words += ["--hidden", "0", "--steps", "5", "--seed", "0", "--quiet"]
        assert main([*words, "-o", f"{folder}/{target}.safetensors"]) == 0
    return folder


def words_of(command, shop, model, tmp_path):
    extra = {
        "attribute": ["-o", f"{tmp_path}/a.csv", "--method", "secant"],
        "compare": ["--methods", "secant", "--metrics", "relative_gap"],
        "report": ["-o", f"{tmp_path}/r.html", "--methods", "secant", "--no-formula"],
    }
    return [command, f"{shop}/{model}.safetensors", f"{shop}/data.csv", *extra[command], "--json"]


@pytest.mark.slow  # runs commands
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["attribute", "compare", "report"])
def test_a_class_is_chosen_and_named(shop, tmp_path, capsys, command):
    assert main(words_of(command, shop, "kind", tmp_path)) == 0
    out, err = capsys.readouterr()
    text = "about kind=top, the class that is predicted for most rows; "
    assert text + "--output-name takes another of kind=low, kind=mid, kind=top\n" in err
    if command == "report":
        said = json.loads((tmp_path / "r.json").read_text())["meta"]["target"]
    else:
        said = json.loads(out)["target"]
    model, x = kanlens.load(shop / "kind.safetensors"), pd.read_csv(shop / "data.csv")
    assert said.split(" ")[0] == kanlens.attribute(model, x, method="secant").target == "kind=top"


@pytest.mark.parametrize("command", ["attribute", "compare"])
@pytest.mark.slow  # takes a while
def test_a_class_that_is_asked_for_is_taken(shop, tmp_path, capsys, command):
    assert main([*words_of(command, shop, "kind", tmp_path), "--output-name", "kind=low"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["target"].split(" ")[0] == "kind=low"
    assert "about kind" not in err


@pytest.mark.parametrize("command", ["attribute", "compare", "report"])
def test_of_several_numbers_one_must_be_named(shop, tmp_path, capsys, command):
    assert main(words_of(command, shop, "u,v", tmp_path)) == 1
    text = f"kanlens: {command}: expected --output-name to be one of the 2 outputs ('u', 'v'), "
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == text + "got None. Pass an index below 2 or a name."
    )
