"""The command frontier."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.cli import _options, main
from kanlens.training import _frontier, _growth
from kanlens.training._closed_form import count_edges
from tests.cli.test_commands import answer
from tests.cli.test_interrupts import Cut


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (200, 3)), columns=["age", "water", "cement content"])
    frame["kind"] = draw.choice(["a", "b", "c"], 200)
    frame["strength"] = np.sin(3 * frame["age"]) + 2 * frame["water"] * frame["cement content"]
    frame["strength"] += 0.2 * draw.normal(size=200)
    frame["strong"] = np.where(frame["strength"] > 0, "yes", "no")
    path = tmp_path_factory.mktemp("frontier") / "data.csv"
    frame.to_csv(path, index=False)
    return path


def words(table: Path, *options: object) -> list[str]:
    start = ["frontier", str(table), "--target", "strength", "--drop", "strong"]
    return [*start, "--references", "none", *map(str, options)]


@pytest.mark.slow  # runs commands
def test_the_simplest_network_is_marked_and_written(table, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    assert main(words(table, "-o", path)) == 0
    lines = capsys.readouterr().out.splitlines()
    (marked,) = (line for line in lines if ">>>>" in line)
    assert "water * cement content" in marked
    frame = pd.read_csv(table).drop(columns="strong")
    generator = torch.Generator().manual_seed(0)
    data = kanlens.read_table(frame, target="strength")
    found = kanlens.frontier(data, generator=generator, progress=False)
    assert marked.split()[1] == str(found.steps[found.index()].edges)
    expected = found.simplest
    assert_close(kanlens.load(path)(data.x), expected(data.x), rtol=0, atol=1e-7)


@pytest.mark.slow  # runs commands
def test_lines_fit_80_columns_and_hold_numbers_in_one_piece(table, monkeypatch, capsys):
    def scored(front, names, *_):
        known = {"default": "the default network of 240 edges", "boosting": "gradient boosting"}
        front.references.update({known[name]: 0.8125 for name in names})

    monkeypatch.setattr(_frontier, "_add_references", scored)
    monkeypatch.setenv("COLUMNS", "80")
    options = words(table, "-q", "--references", "default,boosting")  # the last one counts
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    first = next(line for line in shown.splitlines() if "curves alone" in line)
    assert first.split()[0] == "3" and "#" * 6 in first  # the category has no curve
    assert "gradient boosting" in shown and "default network of" in shown


@pytest.mark.slow  # runs commands
def test_the_written_model_keeps_scores_of_simple_models_and_of_all_sizes(table, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    found = answer(capsys, *words(table, "--max-edges", "8", "-o", path))
    model = kanlens.load(path)
    assert set(model.record.scores) == {"network", "mean", "linear", "boosting"}
    assert model.record.scores["network"] == found["held_out_R2"]
    assert [step.edges for step in model.growth.steps] == [s["edges"] for s in found["steps"]]
    assert list(tmp_path.iterdir()) == [path]  # without a checkpoint


@pytest.mark.slow  # runs commands
@pytest.mark.filterwarnings("always::kanlens.errors.KanlensWarning")
def test_a_run_whose_time_ended_goes_on(table, tmp_path, capsys):
    path, options = tmp_path / "small.safetensors", ["--max-edges", "8"]
    whole = answer(capsys, *words(table, *options))
    options += ["-o", str(path)]
    assert len(answer(capsys, *words(table, *options, "--time-limit", "0"))["steps"]) == 1
    assert (tmp_path / "small.safetensors.checkpoint").exists()
    assert kanlens.load(path).record is None
    again = answer(capsys, *words(table, *options, "--resume", "--seed", "5"))
    assert again["steps"] == whole["steps"]
    assert list(tmp_path.iterdir()) == [path]
    assert main(words(table, *options, "--resume")) == 0
    assert "no checkpoint at" in capsys.readouterr().err
    assert main(words(table, "--resume")) == 1
    assert "expected -o with --resume, got none" in capsys.readouterr().err


def test_other_models_have_lines_below_the_sizes(table, monkeypatch, capsys):
    def scored(front, *_):
        front.references["gradient boosting"] = 0.8125

    monkeypatch.setattr(_frontier, "_add_references", scored)
    assert main(words(table, "--max-edges", "6", "--references", "boosting")) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "boosting" in line)
    assert line.split() == ["0.8125", "gradient", "boosting"]


@pytest.mark.slow  # runs commands
def test_json_holds_all_sizes_and_the_chosen_one(table, capsys):
    found = answer(capsys, *words(table, "--seed", "0"))
    sizes = [step["edges"] for step in found["steps"]]
    assert sizes == sorted(set(sizes)) and found["edges"] in sizes
    assert "model" not in found and found["interrupted"] is False
    assert answer(capsys, *words(table, "--edges", found["edges"] - 1))["edges"] < found["edges"]


@pytest.mark.slow  # trains networks
def test_products_are_limited_by_their_number_and_by_pairs(table, capsys):
    def terms(*options: str) -> set[str]:
        return {step["added"] for step in answer(capsys, *words(table, *options))["steps"]}

    assert terms("--interactions", "0") == {"curves alone"}
    assert terms("--interactions", "age:water") <= {"curves alone", "age * water"}
    assert "water * cement content" in terms("--interactions", "age:water,water:cement content")
    assert terms("--max-edges", "4") == {"curves alone"}


@pytest.mark.slow  # trains networks
def test_classes_have_an_accuracy(table, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    options = ["--target", "strong", "--drop", "strength", "--references", "none", "-o", path]
    found = answer(capsys, "frontier", table, *options)
    assert found["metric_name"] == "accuracy" and 0.8 < found["held_out_accuracy"] < 1
    assert kanlens.load(path).class_labels == ("no", "yes")


@pytest.mark.slow  # runs commands
@pytest.mark.filterwarnings("always::kanlens.errors.KanlensWarning")
def test_the_end_of_the_time_leaves_curves_alone(table, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    assert main(words(table, "--time-limit", "0", "-o", path, "--json")) == 0
    shown = capsys.readouterr()
    found, line = json.loads(shown.out), "--time-limit 0.0, got unfinished growth. The sizes so"
    assert line in " ".join(shown.err.split())
    assert [step["added"] for step in found["steps"]] == ["curves alone"]
    assert found["interrupted"] is True and kanlens.load(path).shape == (6, 1)


@pytest.mark.slow  # runs commands
@pytest.mark.parametrize("calls", [1, 9])
def test_an_interrupt_keeps_the_sizes_so_far(table, tmp_path, monkeypatch, capsys, calls):
    path = tmp_path / "small.safetensors"
    monkeypatch.setattr(_growth, "ScoreTest", Cut(_growth.ScoreTest, calls))
    assert main(words(table, "-o", path, "--json")) == 130
    shown = capsys.readouterr()
    assert "frontier: interrupted. The sizes so far are returned" in " ".join(shown.err.split())
    assert len(json.loads(shown.out)["steps"]) == (1 if calls == 1 else 2)
    assert kanlens.load(path).edges_alive


@pytest.mark.slow  # runs commands
def test_an_interrupt_leaves_a_network_of_every_output(table, tmp_path, monkeypatch, capsys):
    path = tmp_path / "small.safetensors"
    monkeypatch.setattr(_growth, "ScoreTest", Cut(_growth.ScoreTest, 1))
    options = ["--target", "strength,age", "--drop", "strong", "-o", path, "--json"]
    assert main(["frontier", *map(str, [table, *options])]) == 130
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 1
    assert kanlens.load(path).output_names == ("strength", "age")


@pytest.mark.slow  # runs commands
def test_errors_name_options_in_one_line(table, tmp_path, capsys):
    for options, expected in {
        ("--max-edges", "0"): "expected --max-edges to be a whole number of at least 1, got 0",
        ("--interactions", "age:wine"): "expected --interactions to be one of age, cement content",
        ("--edges", "2"): "frontier: expected --edges to be at least 3, the smallest size, got 2.",
        ("--edges", "0"): "frontier: expected --edges to be a whole number of at least 1, got 0.",
        ("--interactions", "-1"): "expected --interactions to be a whole number of at least 0, got",
        ("--references", "boost"): "expected --references to be one of boosting, default, ebm, got",
    }.items():
        assert main(words(table, *options, "-o", tmp_path / "m.safetensors")) == 1
        (line,) = (part for part in capsys.readouterr().err.splitlines() if "expected" in part)
        assert expected in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # runs commands
def test_help_loads_no_torch():
    code = "import sys; from kanlens.cli import main; main(sys.argv[1:]); sys.exit('torch' in "
    code += "sys.modules)"
    command = [sys.executable, "-c", code, "frontier", "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_noise_is_no_better_than_its_mean(tmp_path, capsys):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(100, 3)), columns=["a", "b, c", "y, $"])
    frame.to_csv(tmp_path / "noise.csv", index=False)
    start = ["frontier", str(tmp_path / "noise.csv"), "--references", "none"]
    assert main([*start, "--target", "y, $", "--drop", "b, c", "--edges", "1"]) == 0
    words = "WARNING: On rows that training had not seen, the mean predicts as well."
    assert words in " ".join(capsys.readouterr().err.split())
    frame.assign(y=0.0, **{"$": 1.0}).to_csv(tmp_path / "noise.csv", index=False)
    assert main([*start, "--target", "y, $"]) == 1
    expected = "'y, $', which is both. Write '\"y, $\"' for the one column, 'y,$' for several."
    assert expected in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow  # runs commands
def test_train_grows_a_small_network(table, tmp_path, capsys):
    path = tmp_path / "small.safetensors"
    start = ["train", str(table), "--target", "strength", "--drop", "strong", "-o", str(path)]
    assert main([*start, "--max-edges", "few"]) == 0
    model = kanlens.load(path)
    (edges,) = (line for line in capsys.readouterr().out.splitlines() if "edges" in line)
    assert edges.split() == ["edges", str(count_edges(model))]
    assert main([*words(table), "--max-edges", "few", "-o", str(tmp_path / "f.safetensors")]) == 0
    same = kanlens.load(tmp_path / "f.safetensors")
    assert same.growth == model.growth and same.record.scores == model.record.scores
    assert model.nodes[0].grouping.arities == (2,)
    assert model.record.scores["network"] > 0.7
    assert main([*start, "--max-edges", "4", "--interactions", "0"]) == 0
    assert len(kanlens.load(path).layers) == 1
    capsys.readouterr()
    for wrong, expected in (
        (["--max-edges", "some"], "neither a whole number nor few"),
        (["--max-edges", "9", "--steps", "3"], "--max-edges"),
        (["--interactions", "age:foot"], "'foot'"),
    ):
        assert main([*start, *wrong]) != 0
        assert expected in capsys.readouterr().err


@pytest.mark.slow  # trains networks
def test_effects_have_the_shapes_of_the_options(table, tmp_path, capsys):
    path, options = tmp_path / "small.safetensors", ["--increasing", "water", "--concave", "age"]
    answer(capsys, *words(table, *options, "--max-edges", "6", "-o", path))
    model = kanlens.load(path)
    assert model.constraints == {"water": "increasing", "age": "concave"}
    options += ["--drop", "strong", "--target", "strength", "-o", str(path)]
    answer(capsys, "train", table, *options)
    assert kanlens.load(path).constraints == model.constraints
    assert main(["train", str(table), *options, "--hidden", "5"]) == 1
    assert "got {'water': 'increasing', 'age': 'concave'}" in capsys.readouterr().err
    options[2:4] = "--decreasing", "age", "--hidden", "5", "--steps", "3"
    answer(capsys, "train", table, *options)
    assert kanlens.load(path).constraints == {"water": "increasing", "age": "decreasing"}
    assert main(["train", str(table), *options, "--max-edges", "5"]) == 1
    assert "--increasing" in capsys.readouterr().err


def test_two_shapes_of_one_column_are_both_kept():
    limits = _options.small_network(None, None, {"increasing": "water,age", "concave": "age"})
    assert limits == {"constraints": {"water": "increasing", "age": "increasing concave"}}
