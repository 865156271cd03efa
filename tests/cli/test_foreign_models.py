"""A model trained elsewhere is given what ours are: every command, the same numbers and words."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.cli import main
from tests.io.importers import series_doubles

THEIRS = ("base_weight", "spline_weight", "spline_scaler", "grid")


def state_of(model):
    """Return the tensors of a model as efficient-kan names them."""
    return {k: v for k, v in model.state_dict().items() if k.rpartition(".")[2] in THEIRS}


def trained(widths, table, steps):
    """Return a model of ours as `fit` leaves it, of a function that efficient-kan can have too."""
    generator = torch.Generator().manual_seed(0)
    model = kanlens.KAN(widths, generator=generator, extrapolation="zero").double()
    for layer in model.layers:
        layer.bias.requires_grad_(False)
    options = {"scale": False, "validation": 0, "grid_updates": 0, "generator": generator}
    kanlens.fit(model, table, steps=steps, progress=False, **options)
    return model


def run(capsys, *words):
    """Run a command; return what it printed as JSON without what the clock says, and its words."""
    assert main([*map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(re.sub(r'"seconds\w*": [-0-9.e]+', '"seconds": 0', out)), err


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Return a folder with a table of exp(sin(pi x1) + x2^2) + 0.3 x3 and their model of it."""
    folder = tmp_path_factory.mktemp("story")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (300, 3)), columns=["x1", "x2", "x3"])
    bulk = np.exp(np.sin(np.pi * frame["x1"]) + frame["x2"] ** 2)
    frame["y"] = bulk + 0.3 * frame["x3"]
    frame.to_csv(folder / "d.csv", index=False)
    frame.drop(columns="y").to_csv(folder / "x.csv", index=False)
    table = kanlens.read_table(folder / "d.csv", target="y")
    torch.save(state_of(trained([3, 4, 1], table, 8)), folder / "ek.pt")
    assert main(["import", f"{folder}/ek.pt", "-o", f"{folder}/m.safetensors", "--quiet"]) == 0
    return folder


UNJUDGED = [  # commands for which no target is needed
    ["plot", "m.safetensors", "d.csv", "--edge", "0:0:1", "-o", "edge.svg"],
    ["attribute", "m.safetensors", "d.csv", "--max-rows", "5", "-o", "a.csv"],
    ["importance", "m.safetensors", "d.csv", "--max-rows", "5", "-o", "i.csv"],
    ["compare", "m.safetensors", "d.csv", "--methods", "shapley,secant", "--max-rows", "3"],
    ["certify", "m.safetensors", "--max-boxes", "5", "-o", "c.json"],
]
DRAWN = "ignore:import_model. expected outputs nearer"  # than a constant: weights are not trained
REPORT = ["report", "m.safetensors", "d.csv", "--max-rows", "4", "--no-formula", "--methods"]
REPORT.append("shapley,secant")


def test_a_foreign_model_is_given_what_ours_is(tmp_path, monkeypatch, capsys):
    """The file is that of a model trained here, and so is what every command makes of it."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(draw.uniform(-1, 1, (60, 2)), columns=["width", "height"])
    frame["area"] = np.sin(3 * frame["width"]) + frame["height"] ** 2
    frame.to_csv("d.csv", index=False)
    table = kanlens.read_table("d.csv", target="area")
    ours = trained([2, 1, 1], table, 3)
    torch.save(state_of(ours), "ek.pt")
    words = ["import", "ek.pt", "--data", "d.csv", "--target", "area"]
    facts, err = run(capsys, *words, "-o", "m.safetensors")
    assert err.startswith("target: column 'area' of d.csv\nwrote m.safetensors (")
    spread = frame["area"].var(ddof=0)
    error = np.mean((table.y - ours(table.x)).detach().numpy() ** 2)
    assert facts["R2"] == pytest.approx(1 - error / spread, abs=1e-12)
    theirs = kanlens.load("m.safetensors")
    assert theirs.provenance.startswith("efficient-kan, imported from 'ek.pt'; ")
    theirs.provenance = ours.provenance
    files = kanlens.save(theirs, "theirs.safetensors"), kanlens.save(ours, "ours.safetensors")
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("walked", UNJUDGED, ids=lambda words: words[0])
def test_a_foreign_model_without_its_data_is_explained_too(story, capsys, walked):
    model, data, out = story / "m.safetensors", story / "d.csv", story / "out"
    rows = "no background: the model stores no rows; 100 rows of d.csv are used (--background)\n"
    ranges = ["--domain", "x1=-1:1,x2=-1:1,x3=0:1"] * (walked[0] == "certify")
    named = {"m.safetensors": model, "d.csv": data}
    words = [named.get(word, word) for word in [*walked, *ranges]]
    if "-o" in words:
        words[words.index("-o") + 1] = out / words[words.index("-o") + 1]
    _, err = run(capsys, *words)
    assert err.startswith("target: column 'y' of d.csv\n" if data in words else "wrote")
    assert (rows in err) == (walked[0] in ("attribute", "importance", "compare"))


@pytest.mark.slow  # runs commands
def test_a_background_of_rows_of_the_table_is_the_one_that_training_would_keep(story, capsys):
    words = ["attribute", "MODEL", story / "d.csv", "--max-rows", "4", "-o", story / "a.csv"]
    without, _ = run(capsys, *[story / "m.safetensors" if w == "MODEL" else w for w in words])
    path = story / "known.safetensors"
    run(capsys, "import", story / "ek.pt", "--data", story / "d.csv", "-o", path)
    known, _ = run(capsys, *[path if word == "MODEL" else word for word in words])
    assert without == known


# --- the target -------------------------------------------------------------------------------


def test_a_budget_is_on_the_loss_against_the_column_named_like_the_output(story, capsys):
    words = ["prune", story / "m.safetensors", story / "d.csv", "--budget", "0.05"]
    facts, err = run(capsys, *words, "-o", story / "small.safetensors")
    assert err.startswith("target: column 'y' of d.csv\n")
    frame = pd.read_csv(story / "d.csv")
    with torch.no_grad():
        output = kanlens.load(story / "m.safetensors")(frame)[:, 0].numpy()
    loss = np.mean((frame["y"] - output) ** 2)
    assert facts["loss_against"] == "targets"
    assert facts["loss_before"] == pytest.approx(loss, rel=1e-12)
    assert facts["loss_after"] <= 1.05 * loss
    assert facts["dropped_features"] == []


def test_without_a_target_the_words_say_what_the_budget_means(story, capsys):
    words = ["prune", story / "m.safetensors", story / "x.csv", "--budget", "0.05"]
    facts, err = run(capsys, *words, "-o", story / "small.safetensors")
    assert err.startswith(
        "no target: x.csv has no column 'y' (see --target); loss and budget are the change of the "
        "outputs, as a share of their variance\n"
    )
    assert (facts["loss_against"], facts["loss_before"]) == ("outputs", 0.0)
    assert facts["dropped_features"] == ["x3"]  # which a budget against y keeps


def test_the_target_may_have_any_name(story, tmp_path, capsys):
    frame = pd.read_csv(story / "d.csv").rename(columns={"y": "price"})
    frame.to_csv(tmp_path / "d.csv", index=False)
    words = ["predict", story / "m.safetensors", tmp_path / "d.csv", "-o", tmp_path / "p.csv"]
    facts, err = run(capsys, *words)
    assert "R2" not in facts
    assert err.startswith(
        "no target: d.csv has no column 'y' (see --target); predictions have no score\n"
    )
    named, err = run(capsys, *words, "--target", "price")
    assert err.startswith("target: column 'price' of d.csv\n")
    same, _ = run(capsys, *words[:2], story / "d.csv", "-o", tmp_path / "p.csv")
    assert named["R2"] == same["R2"]


def test_a_target_with_missing_cells_is_none_unless_it_is_asked_for(story, tmp_path, capsys):
    frame = pd.read_csv(story / "d.csv")
    frame.loc[7, "y"] = np.nan
    frame.to_csv(tmp_path / "d.csv", index=False)
    words = ["predict", story / "m.safetensors", tmp_path / "d.csv", "-o", tmp_path / "p.csv"]
    _, err = run(capsys, *words)
    assert err.startswith("no target: d.csv has missing cells or text in column 'y' (see --target)")
    refused(
        capsys,
        [*words, "--target", "y"],
        "predict: expected no missing cells, got 1 in column 'y' (first in row 7 (line 9)). "
        "Drop such rows.",
    )


def refused(capsys, words, text):
    assert main([*map(str, words)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", f"kanlens: {text}")


NO_TARGETS = {
    "x1": "a target column, got 'x1', which the model reads as a feature. Name another column.",
    "z,y": "target among the columns 'x1', 'x2', 'x3', 'y', got 'z'. Name a column of the table.",
    "y,x1": "1 different target column, got 'y', 'x1'. Name one for each target of the model.",
}
READING = ("predict", "prune", "symbolize", "attribute", "importance", "compare", "report", "plot")


@pytest.mark.parametrize(
    ("command", "target"),
    [*((command, "x1") for command in READING), ("predict", "z,y"), ("predict", "y,x1")],
)
def test_every_command_refuses_what_is_no_target(story, capsys, command, target):
    words = [command, story / "m.safetensors", story / "d.csv", "--target", target]
    refused(capsys, words, f"{command}: expected {NO_TARGETS[target]}")


def test_a_table_to_judge_on_without_the_target_is_refused_before_the_work(story, capsys):
    words = ["prune", story / "m.safetensors", story / "d.csv", "--budget", "0.1", "--test"]
    refused(
        capsys,
        [*words, story / "x.csv", "-o", story / "none.safetensors"],
        "prune: test: expected column 'y', all cells known, got none in 'x.csv'. "
        "Name the target with --target.",
    )
    assert not (story / "none.safetensors").exists()


# --- classifiers ------------------------------------------------------------------------------


@pytest.mark.slow  # runs commands
@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings(DRAWN)
@pytest.mark.parametrize(("labels", "outputs"), [("abc", 3), ("ab", 2), ("ab", 1)])
def test_a_foreign_classifier_knows_its_classes(tmp_path, monkeypatch, capsys, labels, outputs):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(2)
    frame = pd.DataFrame(draw.uniform(-1, 1, (60, 2)), columns=["u", "v"])
    codes = np.digitize(frame["u"] + frame["v"], [-0.3, 0.3][: len(labels) - 1])
    frame["kind"] = [labels[code] for code in codes]
    frame.to_csv("d.csv", index=False)
    frame.assign(kind=codes).to_csv("coded.csv", index=False)
    model = kanlens.KAN([2, outputs], generator=torch.Generator().manual_seed(0)).double()
    torch.save(state_of(model), "ek.pt")
    words = ["import", "ek.pt", "--target", "kind", "--task", "classification", "--data"]
    facts, _ = run(capsys, *words, "d.csv", "-o", "m.safetensors")
    with torch.no_grad():
        logits = kanlens.import_model("ek.pt")(frame[["u", "v"]].to_numpy()).numpy()
    wanted = logits.argmax(1) if outputs > 1 else (logits[:, 0] > 0).astype(int)
    assert facts["accuracy"] == np.mean(wanted == codes)
    facts, _ = run(capsys, "predict", "m.safetensors", "d.csv", "-o", "p.csv")
    predicted = pd.read_csv("p.csv")
    assert predicted["kind"].tolist() == [labels[code] for code in wanted]
    assert facts["accuracy"] == np.mean(wanted == codes)
    name = f"kind={labels[-1]}"
    words = ["attribute", "m.safetensors", "d.csv", "--max-rows", "3", "-o", "a.csv"]
    facts, _ = run(capsys, *words, "--output-name", name)
    assert facts["target"] == f"{name} (log-odds)"
    if (labels, outputs) == ("ab", 2):  # which no training here would have made
        run(capsys, *REPORT[:-1], "secant", "--output-name", name)
        page = json.loads((tmp_path / "report.json").read_text())
        assert page["performance"]["accuracy"] == np.mean(wanted == codes)
        assert [one["label"] for one in page["performance"]["classes"]] == list(labels)
    words = ["import", "ek.pt", "--target", "kind", "--task", "classification", "--data"]
    facts, _ = run(capsys, *words, "coded.csv", "-o", "coded.safetensors")
    assert kanlens.load("coded.safetensors").class_labels == tuple("012"[: len(labels)])
    assert facts["accuracy"] == np.mean(wanted == codes)


@pytest.mark.filterwarnings(DRAWN)
def test_output_names_say_in_which_order_the_classes_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"u": [0.1, 0.5, -0.5], "kind": ["b", "a", "c"]})
    frame.to_csv("d.csv", index=False)
    torch.save(state_of(kanlens.KAN([1, 3]).double()), "ek.pt")
    words = ["import", "ek.pt", "--data", "d.csv", "--target", "kind", "--task", "classification"]
    run(capsys, *words, "--output-names", "c,a,b", "-o", "m.safetensors")
    model = kanlens.load("m.safetensors")
    assert model.class_labels == ("c", "a", "b")
    assert model.output_names == ("kind=c", "kind=a", "kind=b")


# --- what is no model -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "csv"])
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([1]),
        pickle.dumps({"a": 1}, 2),
        b"\x80",
        b"",
        b"hello",
        b"\0" * 8 + b"{",
        b"\x05" + b"\0" * 7 + b'{"a":',
        b"PK\x03\x04 and so on",
        b"\xff" * 40,
        None,
    ],
    ids=[
        *("pickle", "old-pickle", "one-byte", "empty", "text", "brace", "json", "zip", "noise"),
        "folder",
    ],
)
def test_no_command_shows_a_traceback_of_what_is_no_model(tmp_path, capsys, content, suffix):
    path = tmp_path / f"model.{suffix}"
    path.mkdir() if content is None else path.write_bytes(content)
    names = ["predict", "prune", "symbolize", "attribute", "importance", "compare", "report"]
    commands = [["import"], ["info"], ["plot"], ["certify"], *([n, "DATA"] for n in names)]
    for command, *data in commands if suffix == "safetensors" else commands[::4]:
        assert main([command, str(path), *data, *(["--budget", "1"] * (command == "prune"))]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(r"kanlens: (load|import_model): [^\n]+\.\n", err)


# --- what a file does not say -----------------------------------------------------------------


@pytest.fixture
def wavelets(tmp_path):
    double = series_doubles.network(series_doubles.wav_kan, kind="dog")
    torch.save({f"head.{key}": one for key, one in double.state.items()}, tmp_path / "w.pt")
    return double, tmp_path


def test_what_a_file_does_not_say_is_set(wavelets, capsys):
    double, folder = wavelets
    words = ["import", folder / "w.pt", "-o", folder / "m.safetensors"]
    refused(
        capsys,
        words,
        "import_model: expected wavelet (one of mexican_hat, morlet, dog, meyer, shannon), which "
        "the tensors of Wav-KAN do not determine, got none. "
        "Pass --set wavelet=mexican_hat, its default, or the value that was used.",
    )
    run(capsys, *words, "--set", "wavelet=dog", "--submodule", "head")
    x = torch.rand(5, 3, dtype=torch.float64)
    with torch.no_grad():
        found = kanlens.load(folder / "m.safetensors")(x)
    torch.testing.assert_close(found, double(x), rtol=1e-12, atol=1e-12)


def test_what_is_set_is_checked(wavelets, capsys):
    words = ["import", wavelets[1] / "w.pt", "-o", wavelets[1] / "m.safetensors", "--set"]
    refused(
        capsys,
        [*words, "wavelt=dog"],
        "import: expected --set name=value with an import option, got 'wavelt=dog'. "
        "Choose one of: base_activation, extrapolation, spline_order, grid_range, spline_width, "
        "mult_arity, layer_norm, denominator, wavelet, polynomials, a, b, alpha, beta, layers, "
        "classes, layer_type.",
    )
    refused(
        capsys,
        [*words, "grid_range=1,-1"],
        "import_model: expected --set grid_range to be two rising numbers, got (1, -1). "
        "Pass two rising numbers.",
    )
