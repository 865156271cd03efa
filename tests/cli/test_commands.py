"""Every command: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import kanlens
from kanlens.cli import main

COMMAS = str.maketrans(",.", ".,")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """Run a command with --json and return what it printed."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("flags", "level"), [([], logging.NOTSET), (["--verbose"], logging.INFO)])
def test_the_log_is_printed_on_request(flags, level, monkeypatch):
    log = logging.getLogger("kanlens")
    monkeypatch.setattr(log, "level", logging.NOTSET)
    assert main([*flags, "methods", "--json"]) == 0
    assert log.level == level


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kanlens {kanlens.__version__}\n"


def test_no_command_shows_help(capsys):
    assert main([]) == 2
    assert "Usage" in capsys.readouterr().out


def test_help_says_what_is_done_without_an_option(capsys):
    assert main(["compare", "--help"]) == 0
    out = capsys.readouterr().out.replace("│", "")
    assert "Methods, comma-separated, or all. [default: the well-known ones]" in " ".join(
        out.split()
    )


@pytest.mark.parametrize("words", [["nonsense"], ["info"], ["train", "x.csv"]])
def test_usage_errors_exit_with_2(words, capsys):
    assert main(words) == 2
    capsys.readouterr()


def test_known_errors_are_one_line_on_stderr(tmp_path, capsys):
    path = tmp_path / "gone.safetensors"
    assert main(["info", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kanlens: load: expected ")
    assert err.count("\n") == 1


def test_square_brackets_in_an_error_survive(tmp_path, capsys):
    frame = pd.DataFrame({"[red]a": ["x", "1", "2", "3"], "y": [1.0, 2.0, 3.0, 4.5]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert main(["train", f"{tmp_path}/t.csv", "--target", "[blue]"]) == 1
    assert "[blue]" in capsys.readouterr().err


@pytest.mark.slow
def test_parts_of_a_table_with_decimal_commas_are_read_by_the_model(tmp_path, capsys):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=60), "k": list("uvw") * 20})
    frame["y"] = 2 * frame["a"] + 10
    frame.to_csv(tmp_path / "d.csv", sep=";", decimal=",", index=False)
    model = tmp_path / "m.safetensors"
    words = ["train", tmp_path / "d.csv", "--target", "y", "--holdout", "0.2", "-o", model]
    words += ["--hidden", "0", "--steps", "3"]
    score = answer(capsys, *words)["test_R2"]
    judged = answer(capsys, "predict", model, tmp_path / "m.test.csv", "-o", tmp_path / "p.csv")
    assert judged["R2"] == pytest.approx(score, rel=1e-9)


def test_train_says_what_it_did_and_writes_both_parts(workshop, tmp_path, capsys):
    words = ["train", workshop / "data.csv", "--target", "area", "--hidden", "0", "--steps", "3"]
    facts = answer(
        capsys, *words, "--holdout", "0.25", "--seed", "1", "-o", tmp_path / "m.safetensors"
    )
    assert facts["widths"] == [3, 1]
    assert facts["rows"] == 90
    assert len(pd.read_csv(tmp_path / "m.test.csv")) == 30
    assert len(pd.read_csv(tmp_path / "m.train.csv")) == 90
    assert 0.9 < facts["test_R2"] <= 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"m.safetensors", "m.test.csv", "m.train.csv"}


@pytest.mark.slow  # trains networks
def test_without_a_choice_the_rows_choose(workshop, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kanlens.training._default_ensemble.UPDATES", (60, 1000, 60))
    words = ["train", str(workshop / "data.csv"), "--target", "area", "--seed", "1"]
    found = {}
    choices = {
        "default": [],
        "given": ["--batch-size", "256"],
        "shape": ["--hidden", "3", "--grid-size", "4"],
        "none": ["--hidden", "0"],
    }
    for name, options in choices.items():
        assert main([*words, *options, "-o", f"{tmp_path}/{name}.safetensors"]) == 0
        found[name] = capsys.readouterr().err
    assert "120 rows, which choose the network" in found["default"]
    assert "3 features, KAN [3, 5, 1]" in found["given"]
    assert "3 features, KAN [3, 3, 1]; seed 1" in found["shape"]
    models = {name: kanlens.load(tmp_path / f"{name}.safetensors") for name in choices}
    assert models["default"].widths in ((3, 1), (3, 48, 1))
    assert models["shape"].widths == (3, 3, 1)
    assert models["shape"].layers[0].grid_size == 4
    assert models["none"].widths == (3, 1)
    assert models["none"].layers[0].spline_order == 1  # of the closed form


@pytest.mark.slow  # runs commands
def test_the_same_seed_gives_the_same_bytes(workshop, tmp_path):
    words = ["train", f"{workshop}/data.csv", "--target", "area", "--steps", "2", "--quiet"]
    for name in ("a", "b"):
        assert main([*words, "--seed", "3", "-o", f"{tmp_path}/{name}.safetensors"]) == 0
    assert main([*words, "--seed", "4", "-o", f"{tmp_path}/c.safetensors"]) == 0
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_predict_gives_the_models_outputs_and_judges_them(workshop, tmp_path, capsys):
    out = tmp_path / "p.csv"
    facts = answer(
        capsys, "predict", workshop / "model.safetensors", workshop / "data.csv", "-o", out
    )
    model = kanlens.load(workshop / "model.safetensors")
    frame = pd.read_csv(workshop / "data.csv")
    with torch.no_grad():
        expected = model(frame)[:, 0].numpy()
    np.testing.assert_allclose(pd.read_csv(out)["area"], expected, rtol=1e-12)
    spread = ((frame["area"] - frame["area"].mean()) ** 2).sum()
    r2 = 1 - ((frame["area"] - expected) ** 2).sum() / spread
    assert facts["R2"] == pytest.approx(r2, abs=1e-9)


def test_info_describes_the_model(workshop, capsys):
    facts = answer(capsys, "info", workshop / "model.safetensors")
    assert facts["widths"] == [3, 2, 1]
    assert facts["edges_alive"] == 8
    assert [feature["name"] for feature in facts["features"]] == ["width", "height", "noise"]
    assert main(["info", f"{workshop}/model.safetensors"]) == 0
    assert "width" in capsys.readouterr().out


def test_prune_lists_what_it_removed(workshop, tmp_path, capsys):
    words = ["prune", workshop / "model.safetensors", workshop / "data.csv", "--budget", "0.5"]
    words += ["--test", workshop / "data.csv", "--table", tmp_path / "removed.csv"]
    facts = answer(capsys, *words, "-o", tmp_path / "small.safetensors")
    small = kanlens.load(tmp_path / "small.safetensors")
    assert facts["edges_after"] == small.edges_alive == 8 - len(facts["removed"])
    assert len(pd.read_csv(tmp_path / "removed.csv")) == len(facts["removed"]) > 0
    assert facts["test_R2_after"] <= 1


@pytest.mark.slow  # runs commands
def test_prune_scores_makes_up_trains_and_draws(workshop, tmp_path, capsys):
    words = ["prune", workshop / "model.safetensors", workshop / "data.csv", "--budget", "0.5"]
    words += ["--score", "damage", "--refit", "--finetune", "2", "--seed", "1"]
    out, figure = tmp_path / "s.safetensors", tmp_path / "steps.png"
    facts = answer(capsys, *words, "-o", out, "--figure", figure)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert facts["edges_after"] == kanlens.load(out).edges_alive < facts["edges_before"]
    assert facts["loss_after"] <= 1.5 * facts["loss_before"]
    assert all(record["loss_after"] < record["loss_before"] for record in facts["tuned"])
    again = answer(capsys, *words, "-o", out)
    assert again["loss_after"] == facts["loss_after"]
    model, data = words[1:3]
    assert main(["prune", f"{model}", f"{data}", "--budget", "0.1", "--finetune", "-1"]) == 2


def test_prune_names_outputs_that_no_longer_vary(workshop, tmp_path, capsys):
    model = kanlens.KAN([3, 2], feature_names=["width", "height", "noise"]).double()
    with torch.no_grad():
        for weight in (model.layers[0].base_weight, model.layers[0].spline_weight):
            weight[1] *= 1e-6
    kanlens.save(model, tmp_path / "two.safetensors")
    words = ["prune", tmp_path / "two.safetensors", workshop / "data.csv", "--threshold", "0.01"]
    facts = answer(capsys, *words, "-o", tmp_path / "one.safetensors")
    assert facts["constant_outputs"] == ["y2"]
    assert facts["loss_allowed"] is None
    assert main([str(word) for word in (*words, "-o", tmp_path / "one.safetensors")]) == 0
    assert "None" not in capsys.readouterr().out


@pytest.mark.slow  # runs commands
def test_symbolize_writes_a_model_and_prints_the_formula(workshop, flat, tmp_path, capsys):
    out = tmp_path / "s.safetensors"
    words = ["symbolize", flat, workshop / "data.csv", "-o", out]
    assert main([*map(str, words), "--seed", "0"]) == 0
    printed = capsys.readouterr().out
    assert "area = " in printed
    assert printed.count(">>>>") == 1
    assert "differs from the model" in printed
    assert kanlens.load(out).widths == (3, 1)


@pytest.mark.slow  # runs commands
def test_symbolize_makes_the_receipt_on_other_rows(workshop, flat, tmp_path, capsys):
    data = pd.read_csv(workshop / "data.csv")
    data[:30].to_csv(tmp_path / "test.csv", index=False)
    words = ["symbolize", flat, workshop / "data.csv", "--test", tmp_path / "test.csv"]
    words += ["--functions", "x,x^2,sin"]  # the true ones: no shorter formula is better
    words += ["--model-selection", "accuracy", "-o", tmp_path / "s.safetensors"]
    facts = answer(capsys, *words)
    assert facts["receipt"]["held_out"]
    assert facts["receipt"]["rows"] == 30
    rows = facts["equations"]["area"]
    least = min(row["loss"] for row in rows if " edges" not in row["stage"])
    picked = next(row for row in rows if row["index"] == facts["picked"]["area"])
    assert picked["loss"] == least


def test_attribute_writes_one_row_per_row(workshop, tmp_path, capsys):
    out = tmp_path / "a.parquet"
    model, data = workshop / "model.safetensors", workshop / "data.csv"
    facts = answer(capsys, "attribute", model, data, "--method", "secant", "-o", out)
    frame = pd.read_parquet(out)
    assert len(frame) == facts["rows"] == 120
    assert facts["largest_completeness_gap"] < 1e-10
    sums = frame[["width", "height", "noise"]].sum(axis=1)
    np.testing.assert_allclose(sums, frame["output"] - frame["reference"], atol=1e-10)


def test_an_unknown_method_names_the_nearest(workshop, capsys):
    words = ["attribute", f"{workshop}/model.safetensors", f"{workshop}/data.csv"]
    assert main([*words, "--method", "shaply"]) == 1
    assert "Did you mean 'shapley'?" in capsys.readouterr().err


def test_methods_lists_the_registry(capsys):
    names = {row["name"] for row in answer(capsys, "methods")["methods"]}
    assert names == set(kanlens.METHODS)


EFFECT = ["--effect", "width", "--output-name", "0"]


@pytest.mark.parametrize("extra", [[], ["--edge", "0:1:2"], EFFECT])
@pytest.mark.slow  # takes a while
def test_plot_writes_a_picture(workshop, tmp_path, extra, capsys):
    out = tmp_path / "f.svg"
    facts = answer(capsys, "plot", workshop / "model.safetensors", *extra, "-o", out)
    assert facts["figure"] == str(out)
    assert "<svg" in out.read_text()


def test_a_malformed_edge_is_a_usage_error(workshop, capsys):
    assert main(["plot", f"{workshop}/model.safetensors", "--edge", "0-1-2"]) == 2
    assert "names no edge" in capsys.readouterr().err
    assert main(["plot", f"{workshop}/model.safetensors", "--edge", "0:0:0", *EFFECT]) == 2
    assert "one picture at a time" in capsys.readouterr().err


@pytest.mark.slow  # runs every attribution method of the page
def test_report_writes_the_page_and_its_twin(workshop, flat, tmp_path, capsys):
    words = ["report", flat, workshop / "data.csv", "--max-rows", "10"]
    words += ["--methods", "shapley,secant", "-o", tmp_path / "r.html"]
    facts = answer(capsys, *words)
    assert Path(facts["report"]).read_text().startswith("<!DOCTYPE html>")
    assert json.loads(Path(facts["json"]).read_text())["schema_version"]


@pytest.mark.usefixtures("undrawn")
def test_a_report_past_its_limits_ends_with_an_error(workshop, flat, tmp_path, capsys, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    page = tmp_path / "r.html"
    words = ["report", str(flat), f"{workshop}/data.csv", "--max-rows", "10", "-o", str(page)]
    words += ["--methods", "secant", "--no-formula", "--seed", "0"]
    assert main([*words, "--fail-on", "completeness>1e-6", "--open"]) == 0
    assert opened == [str(page)]
    capsys.readouterr()
    assert main([*words, "--fail-on", "completeness>1e-6, offgrid<2,formula>1"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "report: expected --fail-on completeness>1e-6, offgrid<2,formula>1 not to be met" in line
    assert "got offgrid 0 < 2; formula not known. See the page" in line
    page.unlink()
    assert main([*words, "--fail-on", "gap>1"]) == 1
    assert "--fail-on to list name>value or name<value for names in acc" in capsys.readouterr().err
    assert not page.exists()


def test_import_makes_a_model_of_a_state_dict(tmp_path, capsys):
    layer = kanlens.KANLinear(2, 1)
    names = ("base_weight", "spline_weight", "spline_scaler", "grid")
    state = {f"layers.0.{name}": layer.state_dict()[name] for name in names}
    torch.save(state, tmp_path / "foreign.pt")
    out = tmp_path / "m.safetensors"
    facts = answer(capsys, "import", tmp_path / "foreign.pt", "--feature-names", "a,b", "-o", out)
    assert facts["widths"] == [2, 1]
    assert kanlens.load(out).feature_names == ("a", "b")


def test_a_bug_shows_its_traceback_and_exits_with_3(tmp_path):
    broken = (
        "from kanlens.cli._signals import run\n"
        "def explode(*args, **options): raise ZeroDivisionError('broken on purpose')\n"
        "run(lambda: explode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken, "methods"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 3
    assert "ZeroDivisionError: broken on purpose" in done.stderr
    assert "this is a bug" in done.stderr


@pytest.mark.parametrize("command", [["info"], ["plot"]])
def test_seed_and_quiet_are_accepted_everywhere(workshop, tmp_path, command, capsys):
    words = [*command, f"{workshop}/model.safetensors", "--seed", "1", "--quiet"]
    if command == ["plot"]:
        words += ["-o", f"{tmp_path}/f.svg"]
    assert main(words) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "model.safetensors", "data.csv", "-o", "data.csv"],
        ["prune", "model.safetensors", "data.csv", "--budget", "0.1", "-o", "model.safetensors"],
        ["attribute", "model.safetensors", "data.csv", "-o", "./data.csv"],
        ["report", "model.safetensors", "data.csv", "-o", "data.csv"],
        ["train", "data.csv", "--target", "area", "-o", "data.csv"],
    ],
)
def test_no_command_writes_over_what_it_reads(workshop, monkeypatch, words, capsys):
    monkeypatch.chdir(workshop)
    before = {path: path.read_bytes() for path in workshop.iterdir()}
    assert main(words) == 1
    assert "expected an output file that is not an input file" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in workshop.iterdir()} == before


def test_importances_keep_all_their_digits(workshop, tmp_path, capsys):
    frame = pd.read_csv(workshop / "data.csv")
    frame["area"] *= 1e-13
    frame.to_csv(tmp_path / "small.csv", index=False)
    words = ["train", tmp_path / "small.csv", "--target", "area", "--hidden", "0", "--steps", "2"]
    answer(capsys, *words, "-o", tmp_path / "m.safetensors")
    words = ["attribute", tmp_path / "m.safetensors", tmp_path / "small.csv", "--method", "secant"]
    facts = answer(capsys, *words, "-o", tmp_path / "a.csv")
    assert max(row["importance"] for row in facts["importance"]) > 0


def test_resume_without_a_checkpoint_says_so(workshop, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    words = ["train", f"{workshop}/data.csv", "--target", "area", "--hidden", "0", "--steps", "1"]
    assert main([*words, "--resume", "-o", str(out)]) == 0
    assert f"no checkpoint at {out}.checkpoint; starting anew" in capsys.readouterr().err


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize(
    "extra",
    [
        ["--penalty", "activation_l1", "--entropy-weight", "1"],
        ["--penalty", "activation_l2", "--proximal"],
        ["--penalty", "activation_l1=1,curvature=0.001"],
    ],
)
def test_train_takes_every_kind_of_penalty(workshop, tmp_path, extra, capsys):
    words = ["train", workshop / "data.csv", "--target", "area", "--hidden", "0", "--steps", "2"]
    facts = answer(capsys, *words, "--strength", "0.01", *extra, "-o", tmp_path / "m.safetensors")
    assert facts["steps"] == 2


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--penalty", "weight_l1"], "train: expected a strength for the penalty, got none."),
        (["--features", ""], "kanlens: expected names separated by commas, got ''."),
        (
            ["--drop", "area"],
            "expected --drop to name columns other than target",
        ),
        (["--holdout", "1"], "expected --holdout below 1, got 1.0."),
        (["--grid-size", "1000000"], "of 3 x 5 edges on 1,000,000 intervals that takes at least"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(workshop, tmp_path, capsys, extra, text):
    words = ["train", f"{workshop}/data.csv", "--target", "area", "-o", f"{tmp_path}/m.safetensors"]
    assert main([*words, *extra]) == 1
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_judgment_without_held_out_rows_is_called_so(workshop, tmp_path, capsys):
    words = ["train", workshop / "data.csv", "--target", "area", "--hidden", "0", "--steps", "2"]
    facts = answer(capsys, *words, "--validation", "0", "-o", tmp_path / "m.safetensors")
    assert "training_R2" in facts
    assert "validation_R2" not in facts


def test_a_file_that_does_not_say_who_wrote_it_is_described(workshop, tmp_path, capsys):
    path = workshop / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if k != "kanlens_version"}
    save_file(load_file(path), tmp_path / "m.safetensors", metadata=metadata)
    facts = answer(capsys, "info", tmp_path / "m.safetensors")
    assert facts["written_by"] == "kanlens of an unknown version"


@pytest.mark.filterwarnings("always")
def test_a_table_as_people_have_it_is_trained_on_with_few_words(tmp_path, capsys):
    draw = np.random.default_rng(0)
    value = draw.normal(size=60)
    frame = pd.DataFrame(
        {
            "Nr": range(1, 61),
            "name": [f"person {k}" for k in range(60)],
            "since": pd.date_range("2020-01-01", periods=60).strftime("%d.%m.%Y"),
            "price": [f"{1000 + 100 * v:,.2f} €".translate(COMMAS) for v in value],
            "city": np.where(np.arange(60) % 7, draw.choice(["Bonn", "Ulm", "Jena"], 60), ""),
            "sales": np.where(np.arange(60) % 9, [f"{v:.3f}".replace(".", ",") for v in value], ""),
        }
    )
    path = tmp_path / "table.csv"
    frame.to_csv(path, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    model = tmp_path / "m.safetensors"
    words = ["train", path, "--target", "sales", "--hidden", "0", "--steps", "3", "-o", model]
    assert main([*map(str, words), "--holdout", "0.2"]) == 0
    lines = capsys.readouterr().err.splitlines()
    about = lines[: next(k for k, line in enumerate(lines) if line.startswith("training on"))]
    assert len(about) <= 6
    told = " ".join(about)
    for word in ("'Nr'", "'name'", "'since'", "'city'", "decimal comma", "'price' in €", "7 of 60"):
        assert word in told
    assert kanlens.load(model).feature_names[-1] == "city=missing"
    again = frame.assign(city="Rom").iloc[:3]
    again.to_csv(tmp_path / "new.csv", sep=";", index=False)
    assert (
        main(["predict", str(model), str(tmp_path / "new.csv"), "-o", str(tmp_path / "p.csv")]) == 0
    )
    assert "3 in 'city' ('Rom'), as none of the known categories" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_a_level_that_only_rows_to_test_on_have_is_not_known(tmp_path, capsys):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=40), "kind": ["u", "v"] * 18 + ["w"] * 4})
    frame["y"] = frame["a"] + draw.normal(size=40)
    frame.to_csv(tmp_path / "t.csv", index=False)
    model = tmp_path / "m.safetensors"
    words = ["train", tmp_path / "t.csv", "--target", "y", "--hidden", "0", "--steps", "3"]
    assert main([*map(str, words), "--holdout-last", "0.1", "-o", str(model)]) == 0
    assert kanlens.load(model).feature_names == ("a", "kind")
    assert "got 4 in 'kind' ('w'), as 'u'" in capsys.readouterr().err


@pytest.mark.slow  # runs commands
@pytest.mark.filterwarnings("always")
def test_rows_to_test_on_change_no_bit_of_the_model(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=60).round(3), "kind": draw.choice(list("uvw"), 60)})
    frame["y"] = (frame["a"] + draw.normal(size=60)).round(3)
    frame.loc[::7, "a"] = np.nan
    models = []
    for name in ("one", "other"):
        frame.to_csv(tmp_path / "t.csv", index=False)
        output = tmp_path / f"{name}.safetensors"
        words = ["train", tmp_path / "t.csv", "--target", "y", "--holdout", "0.2", "-o", output]
        words += ["--impute", "median", "--hidden", "2", "--steps", "3"]
        assert main([*map(str, words)]) == 0
        models.append(kanlens.load(output))
        held_out = frame.merge(pd.read_csv(tmp_path / f"{name}.test.csv"), "left", indicator=True)
        rows = (held_out["_merge"] == "both").to_numpy()
        assert rows.sum() == 12
        frame.loc[rows, ["a", "kind", "y"]] = [1e3, "new", -1e3]
        frame.loc[rows, "a"] += np.arange(12)
        frame.loc[rows, "y"] += np.arange(12)
    one, other = models
    assert one.schema == other.schema
    states = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in states)


@pytest.mark.parametrize("rows", [[3], [3, 3]])
def test_rows_that_have_no_r2_are_judged_by_their_error(rows, workshop, tmp_path, capsys):
    data = tmp_path / "few.csv"
    frame = pd.read_csv(workshop / "data.csv").iloc[rows].assign(area=2.5)
    frame.to_csv(data, index=False)
    words = ["predict", workshop / "model.safetensors", data, "-o", tmp_path / "p.csv"]
    facts = answer(capsys, *words)
    assert "R2" not in facts
    predicted = pd.read_csv(tmp_path / "p.csv")["area"]
    assert facts["rms_error"] == pytest.approx([abs(predicted[0] - 2.5)], rel=1e-9)
