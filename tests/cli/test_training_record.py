"""What train leaves of its rows: seeds, parts, groups, scores beside simple models, warnings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.cli import main
from kanlens.reporting._analysis import Request, analyze
from kanlens.reporting._page_data import build_content
from kanlens.reporting._report_data import read_subject
from tests.cli.test_commands import answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("records")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (90, 3)), columns=["a", "b", "c"])
    frame["y"] = frame["a"] + frame["b"] ** 2 + 0.1 * draw.normal(size=90)
    frame["who"] = [f"p{i // 5}" for i in range(90)]
    frame.to_csv(out / "data.csv", index=False)
    pd.concat([frame] * 3).to_csv(out / "copies.csv", index=False)
    return out


def content_of(model, data):
    """Return the numbers of a page, which is not drawn."""
    generator = torch.Generator().manual_seed(0)
    options = {"methods": ["secant"], "max_rows": 5, "generator": generator, "progress": False}
    analysis = analyze(read_subject(kanlens.load(model), str(data), None), Request(**options))
    return build_content(analysis, title="T", generator="seed 0")


def words_of(folder, name="data.csv"):
    words = ["train", f"{folder}/{name}", "--target", "y", "--drop", "who", "--hidden", "0"]
    return [*words, "--steps", "3"]


@pytest.mark.slow  # runs commands
def test_without_a_seed_every_run_is_the_same(folder, tmp_path, capsys):
    found = {}
    for name, seed in (("a", ()), ("b", ()), ("c", ("--seed", "0")), ("d", ("--seed", "5"))):
        words = [*words_of(folder), "--holdout", "0.2", *seed, "--json"]
        assert main([*words, "-o", f"{tmp_path}/{name}.safetensors"]) == 0
        out, err = capsys.readouterr()
        number = seed[-1] if seed else "0"
        assert f"; seed {number}\n" in err
        assert json.loads(out)["seed"] == int(number)
        found[name] = (tmp_path / f"{name}.test.csv").read_text()
    assert found["a"] == found["b"] == found["c"] != found["d"]


@pytest.mark.slow  # runs commands
def test_parts_keep_copies_and_groups_together(folder, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    for words, column in (
        (words_of(folder, "copies.csv"), "a"),
        (["--groups" if one == "--drop" else one for one in words_of(folder)], "who"),
    ):
        answer(capsys, *words, "--holdout", "0.3", "-o", model)
        parts = [pd.read_csv(tmp_path / f"m.{part}.csv") for part in ("train", "test")]
        assert not set(parts[0][column]) & set(parts[1][column])
        assert len(parts[1]) == pytest.approx(0.3 * sum(map(len, parts)), abs=3)
        assert kanlens.load(model).feature_names == ("a", "b", "c")


@pytest.mark.slow  # runs commands
def test_the_last_rows_can_be_held_out(folder, tmp_path, capsys):
    words = [*words_of(folder), "-o", str(tmp_path / "m.safetensors")]
    facts = answer(capsys, *words, "--holdout-last", "0.2")
    record = kanlens.load(tmp_path / "m.safetensors").record
    assert (record.rows, record.folds) == (18, 1)
    assert record.scores["network"] == pytest.approx(facts["test_R2"], rel=1e-9)
    assert [record.scores[name] for name in ("mean", "linear", "boosting")] == [
        facts[f"test_{name}_R2"] for name in ("mean", "linear", "boosting")
    ]
    content = content_of(tmp_path / "m.safetensors", tmp_path / "m.test.csv")
    assert "On the 18 rows held out of training, R² is" in content["findings"][0]
    whole, test = pd.read_csv(folder / "data.csv"), pd.read_csv(tmp_path / "m.test.csv")
    pd.testing.assert_frame_equal(test, whole[-18:].reset_index(drop=True))
    assert main([*words, "--holdout-last", "0.2", "--holdout", "0.2"]) == 1
    text = "train: expected one of --holdout and --holdout-last, got both. Leave one of them out.\n"
    assert capsys.readouterr().err.endswith(text)
    assert main([*words, "--holdout-last", "1.5"]) == 1


def test_groups_of_a_table_beyond_memory_are_refused(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kanlens.cli._model_data.is_large", lambda *_, **__: True)
    words = ["train", f"{folder}/data.csv", "--target", "y", "--groups", "who"]
    assert main([*words, "-o", f"{tmp_path}/m.safetensors"]) == 1
    text = "a table that fits in memory with --groups, got 'data.csv'. Allow more memory with"
    assert f"{text} --max-memory." in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow  # runs commands
def test_scores_of_simple_models_are_told_and_kept(folder, tmp_path, capsys):
    model = tmp_path / "m.safetensors"
    facts = answer(capsys, *words_of(folder), "--holdout", "0.2", "-o", model)
    record = kanlens.load(model).record
    assert record.scores["network"] == facts["validation_R2"]
    for name in ("mean", "linear", "boosting"):
        assert record.scores[name] == facts[f"{name}_R2"]
    assert (record.rows, record.folds) == (14, 1)
    test = pd.read_csv(tmp_path / "m.test.csv")
    test.assign(a=0.0).to_csv(tmp_path / "m.new.csv", index=False)
    for part, sentence in (
        (
            "test",
            "All of these rows were held out of training. On the 14 rows held out of training, "
            "R² is",
        ),
        (
            "train",
            "14 of these rows were held out of training. On the 14 rows held out of training",
        ),
        (
            "new",
            "If the model was trained on these rows, it predicts new rows less well. On the 14 "
            "rows held out of training, R² is",
        ),
    ):
        content = content_of(model, tmp_path / f"m.{part}.csv")
        assert sentence in content["findings"][0]
        models = {one["name"]: one["score"] for one in content["baselines"]["models"]}
        assert models["gradient boosting"] == record.scores["boosting"]
        assert not content["baselines"]["changed"]


@pytest.mark.slow  # runs commands
def test_a_pruned_model_knows_the_rows_held_out_and_that_it_was_changed(folder, tmp_path, capsys):
    model, small = tmp_path / "m.safetensors", tmp_path / "small.safetensors"
    answer(capsys, *words_of(folder), "--holdout", "0.2", "-o", model)
    words = ["prune", str(model), f"{tmp_path}/m.train.csv", "--threshold", "0.3"]
    assert main([*words, "-o", str(small), "--quiet"]) == 0
    assert kanlens.load(small).feature_names == ("a", "b")
    content = content_of(small, tmp_path / "m.test.csv")
    assert content["data"]["held_out_rows"] == 18
    assert content["baselines"]["changed"]
    assert " before the model was changed, compared with " in content["findings"][0]


@pytest.mark.slow  # runs commands
def test_a_model_no_better_than_the_mean_is_warned_of_and_explains_nothing(
    folder, tmp_path, capsys
):
    frame = pd.read_csv(folder / "data.csv")
    frame["y"] = np.where(np.arange(90) < 72, frame["a"], -frame["a"])  # the world has turned
    frame.to_csv(tmp_path / "turned.csv", index=False)
    words = words_of(tmp_path, "turned.csv")
    assert main([*words, "--holdout-last", "0.2", "-o", f"{tmp_path}/m.safetensors"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    text = "On rows that training had not seen, the mean predicts as well."
    assert f"WARNING: {text}" in said
    content = content_of(tmp_path / "m.safetensors", tmp_path / "m.train.csv")
    alert = next(one for one in content["alerts"] if one["code"] == "poor_fit")
    assert alert["text"].startswith(text)
    assert content["performance"]["r2"] > 0.9  # of the rows that trained it
    assert content["findings"][1].endswith(
        " This says nothing about y, because the model does not predict it."
    )
    assert main([*words, "-o", f"{tmp_path}/m.safetensors"]) == 0
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.slow  # runs commands
def test_a_column_that_gives_the_target_away_is_warned_of(folder, tmp_path, capsys):
    frame = pd.read_csv(folder / "data.csv")
    frame["the rest"] = 24 - frame["y"]
    frame.to_csv(tmp_path / "leak.csv", index=False)
    words = ["train", f"{tmp_path}/leak.csv", "--target", "y", "--drop", "who", "--hidden", "0"]
    words += ["--steps", "3", "-o", f"{tmp_path}/m.safetensors"]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().err.split())
    text = "WARNING: the rest alone predicts y; if unknown at prediction time, leave it out"
    assert f"{text} with --drop 'the rest'" in said
    facts = answer(capsys, *words)
    assert facts["given_away"] == ["the rest"]
    content = content_of(tmp_path / "m.safetensors", tmp_path / "leak.csv")
    codes = {one["code"]: one["level"] for one in content["alerts"]}
    assert codes["target_given_away"] == "warning"
